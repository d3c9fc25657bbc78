//! A command to a node over the Redis protocol: what changes the cluster goes this way, since it needs the password.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use skep_http::ClusterStatus;
use skep_resp::{Value, write_command};

use super::Failure;
use crate::cli::TellAt;

/// To connect.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// For each reply: a change of the cluster is answered when a majority has it, and waits for an election if need be.
const REPLY_PATIENCE: Duration = Duration::from_secs(30);
/// The longest is a version of the gateway's configuration, of 1 MiB; others are a line.
const REPLY_BYTES_MAX: usize = 2 << 20;

/// Sends a command to the node that was asked, or to where the user says that clients are taken.
pub(super) fn order(cluster: &ClusterStatus, at: &TellAt, words: &[&str]) -> Result<Value, Failure> {
    let itself = cluster.nodes.iter().find(|node| node.id == cluster.node_id);
    let address = match (&at.client, itself) {
        (Some(address), _) => address,
        (None, Some(node)) => &node.client,
        (None, None) => {
            return Err(Failure(format!("the node at {} belongs to no cluster yet", at.http.http)));
        }
    };
    tell(address, &password(at.password_file.as_deref())?, words)
}

/// From the file, else from `SKEP_PASSWORD`, else from the variable that nodes read theirs from; or none.
fn password(file: Option<&Path>) -> Result<String, Failure> {
    let Some(path) = file else {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        return Ok(variable("SKEP_PASSWORD").or_else(|| variable("SKEP_REQUIREPASS")).unwrap_or_default());
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure(format!("--password-file {}: {error}", path.display())))?;
    match text.lines().next() {
        Some(password) if !password.is_empty() => Ok(password.to_owned()),
        _ => Err(Failure(format!(
            "--password-file {}: the first line is empty, it must be the password",
            path.display()
        ))),
    }
}

/// Sends `words` to the node at `address`, after the password if there is one, and gives the reply.
fn tell(address: &str, password: &str, words: &[&str]) -> Result<Value, Failure> {
    let mut stream = connect(address).map_err(|error| {
        Failure(format!(
            "{address} takes no clients: {error}; give another node's client address with --client"
        ))
    })?;
    if !password.is_empty() {
        let reply = exchange(&mut stream, &["AUTH", password]);
        if let Some(refusal) = reply.map_err(|fault| broken(address, &fault))?.as_error() {
            return Err(refused(address, refusal));
        }
    }
    let reply = exchange(&mut stream, words).map_err(|fault| broken(address, &fault))?;
    match reply.as_error() {
        Some(refusal) => Err(refused(address, refusal)),
        None => Ok(reply),
    }
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for one in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&one, CONNECT_PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(REPLY_PATIENCE))?;
                stream.set_write_timeout(Some(REPLY_PATIENCE))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn exchange(stream: &mut TcpStream, words: &[&str]) -> io::Result<Value> {
    let mut request = Vec::new();
    write_command(&mut request, words.iter().map(|word| word.as_bytes()));
    stream.write_all(&request)?;
    let mut reply = Vec::new();
    let mut piece = [0; 64 << 10];
    loop {
        let read = stream.read(&mut piece)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        reply.extend_from_slice(&piece[..read]);
        match Value::parse(&reply) {
            Ok(Some((value, _))) => return Ok(value),
            Ok(None) if reply.len() <= REPLY_BYTES_MAX => {}
            Ok(None) => return Err(nonsense("a reply without an end")),
            Err(error) => return Err(nonsense(error)),
        }
    }
}

fn nonsense(what: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("what answers is no skep: {what}"))
}

/// Whether the command was carried out is unknown then; those that go this way may be repeated.
fn broken(address: &str, error: &io::Error) -> Failure {
    let what = match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("no reply within {} s", REPLY_PATIENCE.as_secs())
        }
        io::ErrorKind::UnexpectedEof => "the connection was closed before the reply".to_owned(),
        _ => error.to_string(),
    };
    Failure(format!("{address}: {what}; it is safe to run the command again"))
}

fn refused(address: &str, refusal: &[u8]) -> Failure {
    let refusal = String::from_utf8_lossy(refusal);
    let what_to_do = match refusal.split(' ').next() {
        Some("NOAUTH" | "WRONGPASS") => {
            "; give the cluster's password with SKEP_PASSWORD or --password-file FILE"
        }
        Some("TRYAGAIN" | "UNCERTAIN") => "; run the command again",
        _ => "",
    };
    Failure(format!("{address}: {refusal}{what_to_do}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    /// A server for one connection that gives each reply after as many lines as the request has.
    fn server(replies: &'static [(usize, &'static str)]) -> (String, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let thread = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut seen = Vec::new();
            for (count, reply) in replies {
                seen.extend((0..*count).map(|_| lines.next().unwrap().unwrap()));
                (&stream).write_all(reply.as_bytes()).unwrap();
            }
            seen
        });
        (address, thread)
    }

    #[test]
    fn the_password_goes_first_and_the_reply_comes_back() {
        let (address, thread) = server(&[(5, "+OK\r\n"), (5, "+do"), (0, "ne\r\n")]);
        let reply = tell(&address, "secret", &["SKEP", "X"]).unwrap();
        assert_eq!(reply, Value::Simple(b"done".to_vec()));
        let seen = thread.join().unwrap().join(" ");
        assert_eq!(seen, "*2 $4 AUTH $6 secret *2 $4 SKEP $1 X");
    }

    #[test]
    fn refusals_and_nonsense_say_what_to_do() {
        for (reply, expected) in [
            ("-NOAUTH Authentication required.\r\n", "SKEP_PASSWORD"),
            ("-TRYAGAIN there is no leader\r\n", "run the command again"),
            ("-ERR no node is called n9\r\n", "no node is called n9"),
            ("HTTP/1.1 400 Bad Request\r\n\r\n", "is no skep"),
            ("", "closed before the reply"),
        ] {
            let replies: &'static [(usize, &'static str)] = Box::leak(Box::new([(3, reply)]));
            let (address, thread) = server(replies);
            let failure = tell(&address, "", &["SKEP"]).unwrap_err();
            assert!(failure.0.contains(expected) && failure.0.contains(&address), "{failure}");
            drop(thread.join().unwrap());
        }
    }
}
