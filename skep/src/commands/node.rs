//! `skep node list`, `drain` and `remove`: who belongs to the cluster.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use skep_http::{ClusterStatus, NodeEntry, NodeState};

use super::tell::order;
use super::{Failure, ask, status};
use crate::cli::{DrainArgs, ListArgs, RemoveArgs, TellAt};

/// Between two looks at a cluster that is at work.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// After so long without a change a drain says what may hold it up.
const STUCK: Duration = Duration::from_secs(30);
/// A node that died a moment ago is given this long to be missed.
const MISSED: Duration = Duration::from_secs(15);
/// What the cluster says of a node that it will remove, but not yet.
const HOLDS_COPIES: &str = "is not drained yet";
/// Looks at the cluster that may fail one after another: an election, or the node that is asked restarts.
const FAILED_LOOKS_MAX: u32 = 50;

/// The table of nodes, or its JSON.
///
/// # Errors
/// No node answers there.
pub fn list(args: &ListArgs) -> Result<String, Failure> {
    let cluster = ask::cluster(&args.at)?;
    match args.json {
        true => Ok(skep_http::nodes_to_json(&cluster.nodes) + "\n"),
        false => Ok(status::nodes(&cluster)),
    }
}

/// Moves everything off a node, telling how far it is, and returns when nothing is left there.
///
/// # Errors
/// There is no such node, no place for what it holds, or no answer; or it takes longer than was allowed.
pub fn drain(args: &DrainArgs) -> Result<(), Failure> {
    let cluster = ask::cluster(&args.at.http)?;
    let node = ask::find(&cluster, &args.node)?.clone();
    if args.undo {
        order(&cluster, &args.at, &["SKEP", "NODE", "UNDRAIN", &node.name])?;
        println!("{} takes copies and leads again", node.name);
        return Ok(());
    }
    if cluster.nodes.len() == 1 {
        return Err(Failure(format!(
            "{} is the only node, there is nowhere to move its copies to; add another node first",
            node.name
        )));
    }
    order(&cluster, &args.at, &["SKEP", "NODE", "DRAIN", &node.name])?;
    watch_drain(args, &node)
}

fn watch_drain(args: &DrainArgs, node: &NodeEntry) -> Result<(), Failure> {
    let begun = Instant::now();
    let (mut told, mut changed, mut warned, mut failed) = (None, begun, false, 0);
    loop {
        match ask::cluster(&args.at.http) {
            Ok(cluster) => {
                failed = 0;
                let burden = ask::burden(&cluster, node.id);
                if burden.1 == 0 {
                    println!(
                        "{}: nothing is left there; stop it, then `skep node remove {}`",
                        node.name, node.name
                    );
                    return Ok(());
                }
                if told != Some(burden) {
                    println!("{}: leads {}, holds {} copies", node.name, burden.0, burden.1);
                    (told, changed) = (Some(burden), Instant::now());
                }
            }
            Err(failure) if failed == FAILED_LOOKS_MAX => return Err(failure),
            Err(_) => failed += 1,
        }
        if changed.elapsed() > STUCK && !warned {
            warned = true;
            eprintln!(
                "nothing has moved for {} s: there may be too few other nodes for all copies (see `skep status`). Ctrl-C \
                 ends waiting, not draining; `skep node drain --undo {}` ends draining",
                STUCK.as_secs(),
                node.name
            );
        }
        if args.timeout.is_some_and(|seconds| begun.elapsed() > Duration::from_secs(seconds)) {
            return Err(Failure(format!(
                "{} still holds copies after {} s; it goes on being drained",
                node.name,
                begun.elapsed().as_secs()
            )));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Takes a node out of the cluster for good. What a dead one held is given to others first.
///
/// # Errors
/// There is no such node, it lives and holds copies, the cluster refuses, or it takes longer than was allowed.
pub fn remove(args: &RemoveArgs) -> Result<(), Failure> {
    let mut cluster = ask::cluster(&args.at.http)?;
    let node = ask::find(&cluster, &args.node)?.clone();
    if seems_in_use(&cluster, node.id) {
        let refusal = || {
            let (name, copies) = (&node.name, ask::burden(&cluster, node.id).1);
            Failure(format!(
                "{name} is up and holds {copies} copies; move them off it with `skep node drain {name}`, or stop it, then \
                 remove it"
            ))
        };
        if ask::is_alive(&node.http) {
            return Err(refusal());
        }
        cluster = wait_until_missed(&args.at, &node).ok_or_else(refusal)?;
    }
    if !args.yes && std::io::stdin().is_terminal() && !confirmed(&cluster, &node) {
        return Err(Failure("nothing was changed".to_owned()));
    }
    // So that nothing more is placed on it; the cluster removes no other.
    order(&cluster, &args.at, &["SKEP", "NODE", "DRAIN", &node.name])?;
    remove_when_nothing_is_held(args, &cluster, &node)?;
    println!("{} (id {}) is removed", node.name, node.id);
    Ok(())
}

fn remove_when_nothing_is_held(
    args: &RemoveArgs,
    cluster: &ClusterStatus,
    node: &NodeEntry,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut told = String::new();
    loop {
        let Err(failure) = order(cluster, &args.at, &["SKEP", "NODE", "REMOVE", &node.name]) else {
            return Ok(());
        };
        if !failure.0.contains(HOLDS_COPIES) || begun.elapsed() > Duration::from_secs(args.timeout) {
            return Err(failure);
        }
        if failure.0 != told {
            eprintln!("{}: others take over what it held", node.name);
            told = failure.0;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// True for a node that is thought to live and holds something.
fn seems_in_use(cluster: &ClusterStatus, id: u64) -> bool {
    let lives = |node: &NodeEntry| matches!(node.state, NodeState::Up | NodeState::Draining);
    cluster.nodes.iter().any(|node| node.id == id && lives(node)) && ask::burden(cluster, id).1 > 0
}

/// The cluster as soon as it misses a node that does not answer any more.
fn wait_until_missed(at: &TellAt, node: &NodeEntry) -> Option<ClusterStatus> {
    let begun = Instant::now();
    while begun.elapsed() < MISSED {
        std::thread::sleep(LOOK_AGAIN);
        if let Ok(cluster) = ask::cluster(&at.http)
            && !seems_in_use(&cluster, node.id)
        {
            return Some(cluster);
        }
    }
    None
}

fn confirmed(cluster: &ClusterStatus, node: &NodeEntry) -> bool {
    let (_, copies) = ask::burden(cluster, node.id);
    print!(
        "Remove {} (id {}, {}, {copies} copies) for good? Its data directory cannot join again. [y/N] ",
        node.name, node.id, node.state
    );
    let mut answer = String::new();
    let read = std::io::stdout().flush().and_then(|()| std::io::stdin().read_line(&mut answer));
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}
