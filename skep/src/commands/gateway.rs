//! `skep apply` and `skep rollback`: the gateway's configuration, which all nodes of the cluster have.

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use skep_gate::Config;
use skep_http::{ClusterStatus, NodeState};
use skep_resp::Value;

use super::table::table;
use super::tell::order;
use super::{Failure, ask};
use crate::cli::{ApplyArgs, HttpAt, RollbackArgs, TellAt};
use crate::config::Problem;

/// As much text as the cluster takes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Nodes that answer are given this long to work by a new version; they need some milliseconds.
const IN_FORCE_PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at a node.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What stopped an `apply`.
pub enum ApplyFault {
    /// The file is wrong; each place.
    File(Vec<Problem>),
    Failure(Failure),
}

impl From<Failure> for ApplyFault {
    fn from(failure: Failure) -> ApplyFault {
        ApplyFault::Failure(failure)
    }
}

/// Puts a file's `[gateway]` in force on all nodes, or tells what the cluster has.
///
/// # Errors
/// The file is wrong, the cluster declines or does not answer: nothing was changed. Or a node that answers does not work by it.
pub fn apply(args: &ApplyArgs) -> Result<(), ApplyFault> {
    if args.list {
        return Ok(list(&args.at)?);
    }
    if let Some(version) = args.show {
        return Ok(show(&args.at, version)?);
    }
    let path = args.file.as_deref().expect("clap asks for it");
    let (text, config) = read(path).map_err(ApplyFault::File)?;
    let cluster = ask::cluster(&args.at.http)?;
    let known = newest(&cluster, &args.at)?;
    let name = path.file_name().map_or_else(|| "-".to_owned(), |name| name.to_string_lossy().into_owned());
    Ok(change(&cluster, &args.at, &known, &text, &config, &name, args.dry_run)?)
}

/// Makes an earlier version the newest again.
///
/// # Errors
/// There is no such version; else as [`apply`].
pub fn rollback(args: &RollbackArgs) -> Result<(), Failure> {
    let cluster = ask::cluster(&args.at.http)?;
    let known = newest(&cluster, &args.at)?;
    let wanted = match args.version {
        Some(version) => version,
        None => {
            let kept = versions(&cluster, &args.at)?;
            let before = kept.iter().rev().nth(1);
            before.map(|kept| kept.version).ok_or_else(|| {
                Failure(format!(
                    "there is no version before {}, so there is nothing to go back to",
                    known.version
                ))
            })?
        }
    };
    let earlier = get(&cluster, &args.at, Some(wanted))?;
    let config = skep_gateway::read(&earlier.text).map_err(|mistakes| {
        Failure(format!("version {wanted} cannot be read by this release of skep: {}", mistakes[0]))
    })?;
    let what = format!("rollback to {wanted}");
    change(&cluster, &args.at, &known, &earlier.text, &config, &what, args.dry_run)
}

/// A version as a node tells it. Without its text if it is one of a list.
#[derive(Debug, Default)]
struct Version {
    version: u64,
    at_ms: u64,
    by: String,
    what: String,
    bytes: u64,
    text: String,
}

fn change(
    cluster: &ClusterStatus,
    at: &TellAt,
    known: &Version,
    text: &str,
    config: &Config,
    what: &str,
    dry_run: bool,
) -> Result<(), Failure> {
    // What an earlier or a later release wrote, and this one does not read, is taken as empty; it is replaced whole.
    let before = Config::parse(&known.text).unwrap_or_default();
    let difference = before.difference(config);
    if difference.is_empty() && known.version > 0 {
        println!("version {} says the same already; nothing was changed", known.version);
        return match dry_run {
            true => Ok(()),
            false => Ok(wait_until_in_force(at, known.version)?),
        };
    }
    print!("{difference}");
    if dry_run {
        println!("nothing was changed (--dry-run)");
        return Ok(());
    }
    let version = set(cluster, at, known.version, what, text)?;
    match wait_until_in_force(at, version) {
        // All nodes or none: one that lacks a file or a port would go on with the version before.
        Err(NotInForce { why, is_refused: true }) if known.version > 0 => {
            eprintln!("{why}");
            let undone = set(cluster, at, version, &format!("version {version} is taken back"), &known.text)?;
            let before = known.version;
            match wait_until_in_force(at, undone) {
                Ok(()) => Err(Failure(format!(
                    "version {version} was taken back on all nodes, since one could not work by it; version {undone} \
                     says what {before} said"
                ))),
                Err(again) => Err(again.into()),
            }
        }
        other => Ok(other?),
    }
}

/// Makes a version the newest, and gives its number.
fn set(cluster: &ClusterStatus, at: &TellAt, base: u64, what: &str, text: &str) -> Result<u64, Failure> {
    let reply = order(cluster, at, &["SKEP", "GATEWAY", "SET", &base.to_string(), what, text])?;
    let version = reply.as_int().and_then(|version| u64::try_from(version).ok());
    version.ok_or_else(|| Failure(format!("the node did not say which version it made, but {reply:?}")))
}

/// Some node does not work by a version.
struct NotInForce {
    why: String,
    /// A node said that it cannot, rather than nothing.
    is_refused: bool,
}

impl From<Failure> for NotInForce {
    fn from(Failure(why): Failure) -> NotInForce {
        NotInForce { why, is_refused: false }
    }
}

impl From<NotInForce> for Failure {
    fn from(not: NotInForce) -> Failure {
        Failure(not.why)
    }
}

/// Waits for all nodes that answer.
fn wait_until_in_force(at: &TellAt, version: u64) -> Result<(), NotInForce> {
    let begun = Instant::now();
    let cluster = ask::cluster(&at.http)?;
    let (mut in_force, mut failures, mut silent, mut is_refused) = (0, Vec::new(), Vec::new(), false);
    for node in &cluster.nodes {
        if node.state == NodeState::Down {
            silent.push(node.name.as_str());
            continue;
        }
        let at = HttpAt { http: node.http.clone() };
        loop {
            match ask::cluster(&at).map(|told| told.gateway) {
                Ok(gateway) if gateway.in_force >= version => break in_force += 1,
                Ok(gateway) if gateway.wanted >= version && !gateway.problem.is_empty() => {
                    is_refused = true;
                    break failures.push(format!("{}: {}", node.name, gateway.problem));
                }
                Ok(_) if begun.elapsed() > IN_FORCE_PATIENCE => {
                    break failures.push(format!("{} does not work by it yet", node.name));
                }
                Err(_) if begun.elapsed() > IN_FORCE_PATIENCE || node.state != NodeState::Up => {
                    break silent.push(&node.name);
                }
                Ok(_) | Err(_) => std::thread::sleep(LOOK_AGAIN),
            }
        }
    }
    let nodes = cluster.nodes.len();
    if in_force == nodes {
        println!("version {version} is in force on all {nodes} nodes");
    } else {
        println!("version {version} is in force on {in_force} of {nodes} nodes");
    }
    if !silent.is_empty() {
        println!("no answer from {}; it is in force there as soon as they are back", silent.join(", "));
    }
    match failures.is_empty() {
        true => Ok(()),
        false => Err(NotInForce { why: failures.join("; "), is_refused }),
    }
}

fn list(at: &TellAt) -> Result<(), Failure> {
    let cluster = ask::cluster(&at.http)?;
    let row = |of: &Version| {
        let time = i64::try_from(of.at_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let time = time.map_or_else(String::new, |time| format!("{time:.0}"));
        vec![of.version.to_string(), time, of.by.clone(), of.bytes.to_string(), of.what.clone()]
    };
    let rows: Vec<Vec<String>> = versions(&cluster, at)?.iter().map(row).collect();
    print!("{}", table(&["VERSION", "TIME", "BY", "BYTES", "WHAT"], &rows));
    Ok(())
}

fn show(at: &TellAt, version: u64) -> Result<(), Failure> {
    let cluster = ask::cluster(&at.http)?;
    let shown = get(&cluster, at, (version > 0).then_some(version))?;
    print!("{}", shown.text);
    Ok(())
}

/// The file's text as the cluster shall keep it, and what it says.
fn read(path: &Path) -> Result<(String, Config), Vec<Problem>> {
    let place = |line: usize| format!("{}:{line}", path.display());
    let unreadable = |what: String| vec![Problem { place: path.display().to_string(), what }];
    let text = read_text(path).map_err(unreadable)?;
    let config = skep_gateway::read(&text).map_err(|mistakes| {
        let problem = |mistake: &skep_gate::ConfigError| {
            let what = match mistake.key.as_str() {
                "" => mistake.what.clone(),
                key => format!("`{key}` {}", mistake.what),
            };
            Problem { place: place(mistake.line), what }
        };
        mistakes.iter().map(problem).collect::<Vec<_>>()
    })?;
    // A node's own settings stay in its file: the cluster keeps, and shows, what is of the gateway.
    let text = if Config::parse_alone(&text).is_ok() { text } else { config.text() };
    match text.len() as u64 > FILE_BYTES_MAX {
        true => Err(unreadable(format!(
            "the gateway's configuration is {} bytes, limit is {FILE_BYTES_MAX}",
            text.len()
        ))),
        false => Ok((text, config)),
    }
}

/// `-` is standard input.
fn read_text(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = match path.as_os_str() == "-" {
        true => std::io::stdin().take(FILE_BYTES_MAX + 1).read_to_string(&mut text),
        false => {
            std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
        }
    };
    read.map_err(|error| error.to_string())?;
    match text.len() as u64 > FILE_BYTES_MAX {
        true => Err(format!("the file is larger than {FILE_BYTES_MAX} bytes")),
        false => Ok(text),
    }
}

/// The newest version; one of number 0 and without text if there is none.
fn newest(cluster: &ClusterStatus, at: &TellAt) -> Result<Version, Failure> {
    match versions(cluster, at)?.is_empty() {
        true => Ok(Version::default()),
        false => get(cluster, at, None),
    }
}

fn versions(cluster: &ClusterStatus, at: &TellAt) -> Result<Vec<Version>, Failure> {
    let reply = order(cluster, at, &["SKEP", "GATEWAY", "LIST"])?;
    let list = reply.as_elements().map(|list| list.iter().map(version_of).collect::<Option<Vec<_>>>());
    list.flatten()
        .ok_or_else(|| Failure("the node's list of versions is of another release of skep".to_owned()))
}

fn get(cluster: &ClusterStatus, at: &TellAt, version: Option<u64>) -> Result<Version, Failure> {
    let number = version.map(|version| version.to_string());
    let words: Vec<&str> = ["SKEP", "GATEWAY", "GET"].into_iter().chain(number.as_deref()).collect();
    let reply = order(cluster, at, &words)?;
    version_of(&reply).ok_or_else(|| Failure("the node's answer is of another release of skep".to_owned()))
}

/// Names and values in turn, as RESP2 has them.
fn version_of(value: &Value) -> Option<Version> {
    let mut version = Version::default();
    for pair in value.as_elements()?.chunks_exact(2) {
        let text = || String::from_utf8_lossy(pair[1].as_bytes().unwrap_or_default()).into_owned();
        let number = || pair[1].as_int().and_then(|number| u64::try_from(number).ok());
        match pair[0].as_bytes()? {
            b"version" => version.version = number()?,
            b"at" => version.at_ms = number()?,
            b"by" => version.by = text(),
            b"what" => version.what = text(),
            b"bytes" => version.bytes = number()?,
            b"text" => version.text = text(),
            _ => {}
        }
    }
    Some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_kept_as_it_is_unless_it_has_other_settings_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("g.toml");
        let own = "# mine\n[gateway]\ntrusted-hops = 1\n";
        std::fs::write(&path, own).unwrap();
        assert_eq!(read(&path).unwrap().0, own);
        std::fs::write(&path, format!("requirepass = \"secret\"\n{own}")).unwrap();
        let (text, config) = read(&path).unwrap();
        assert!(!text.contains("secret"), "{text}");
        assert_eq!(Config::parse_alone(&text), Ok(config));
    }

    #[test]
    fn a_wrong_file_is_told_with_place_and_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("g.toml");
        std::fs::write(&path, "[gateway]\ntrusted-hop = 1\n").unwrap();
        let problems = read(&path).unwrap_err();
        let text = problems[0].to_string();
        assert!(text.contains("g.toml:2: `gateway.trusted-hop` is not known; did you mean"), "{text}");
        std::fs::write(&path, "#".repeat((1 << 20) + 1)).unwrap();
        assert!(read(&path).unwrap_err()[0].what.contains("larger than 1048576"));
        assert!(read(&dir.path().join("none")).is_err());
    }

    #[test]
    fn a_version_is_read_from_pairs() {
        let text = |text: &str| Value::Bulk(text.as_bytes().to_vec());
        let pairs =
            vec![text("version"), Value::Int(3), text("what"), text("a"), text("later"), Value::Int(1)];
        let version = version_of(&Value::Array(pairs)).unwrap();
        assert_eq!((version.version, version.what.as_str()), (3, "a"));
        assert!(version_of(&Value::Int(1)).is_none());
    }
}
