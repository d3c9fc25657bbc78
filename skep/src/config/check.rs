//! What must hold between settings.

use std::net::{IpAddr, SocketAddr};

use super::{Config, Problem, advertised};

/// Everything that is wrong with settings that are each right for themselves.
pub(super) fn check(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let settings = &config.settings;
    if settings.requirepass().is_empty() && !settings.insecure() {
        problems.extend(reachable(config, "listen", settings.listen()));
        problems.extend(reachable(config, "peer-listen", settings.peer_listen()));
        problems.extend(reachable(config, "http-listen", settings.http_listen()));
    }
    problems.extend(unreachable(config));
    problems.extend(address_used_twice(config));
    problems
}

/// Other nodes must be told an address at which they reach this one.
fn unreachable(config: &Config) -> Option<Problem> {
    let settings = &config.settings;
    let (advertise, listen) = (settings.advertise(), settings.peer_listen());
    let advertised_ip: Option<IpAddr> = match advertise {
        "" => Some(listen.ip()),
        host => host.parse().ok(),
    };
    let ip = advertised_ip?.to_canonical();
    if ip.is_unspecified() && !advertise.is_empty() {
        let what = format!(
            "`advertise` is `{advertise}`, which stands for any address of a machine, and others need one; give this \
             machine's host name or IP address"
        );
        return Some(problem(config, "advertise", what));
    }
    if ip.is_unspecified() {
        let what = format!(
            "`peer-listen` is `{listen}`, any address of this machine, and other nodes must be told one; give its host \
             name or IP address with --advertise"
        );
        return Some(problem(config, "peer-listen", what));
    }
    let elsewhere = settings.join().iter().find(|peer| is_elsewhere(peer));
    if let (true, Some(peer)) = (ip.is_loopback(), elsewhere) {
        let told = advertised(settings, listen);
        let what = format!(
            "`join` names {peer}, on another machine, and the nodes there would be told that this one is at {told}, where \
             they cannot reach it; give an address of this machine with --peer-listen or --advertise"
        );
        return Some(problem(config, "join", what));
    }
    None
}

/// True for the IP address of another machine. What a name stands for is not known here.
fn is_elsewhere(peer: &str) -> bool {
    peer.parse().is_ok_and(|peer: SocketAddr| !peer.ip().to_canonical().is_loopback())
}

/// A place that anybody on the network reaches needs a password.
fn reachable(config: &Config, name: &'static str, addr: SocketAddr) -> Option<Problem> {
    if addr.ip().to_canonical().is_loopback() {
        return None;
    }
    let what = format!(
        "`{name}` is `{addr}`, which other machines can reach, and there is no password; set one (key `requirepass`, \
         variable `SKEP_REQUIREPASS`, or --requirepass-file FILE), or allow access without one with --insecure"
    );
    Some(problem(config, name, what))
}

fn address_used_twice(config: &Config) -> Option<Problem> {
    let settings = &config.settings;
    let listeners = [
        ("listen", settings.listen()),
        ("peer-listen", settings.peer_listen()),
        ("http-listen", settings.http_listen()),
    ];
    for (at, (name, addr)) in listeners.iter().enumerate() {
        let twin = listeners[..at].iter().find(|(_, other)| collide(*addr, *other));
        if let Some((other, _)) = twin {
            let what = format!("`{name}` is `{addr}`, and so is `{other}`; give each its own port");
            return Some(problem(config, name, what));
        }
    }
    None
}

/// Port 0 is any free port, so it never collides.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let (x, y) = (a.ip().to_canonical(), b.ip().to_canonical());
    a.port() != 0 && a.port() == b.port() && (x == y || x.is_unspecified() || y.is_unspecified())
}

fn problem(config: &Config, name: &str, what: String) -> Problem {
    let origin = config.origin(name);
    let place = if *origin == super::Origin::Default { String::new() } else { origin.to_string() };
    Problem { place, what }
}
