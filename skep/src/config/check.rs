//! What must hold between settings, and what this release does not do yet.

use std::net::SocketAddr;

use super::{Config, Problem};

/// Everything that is wrong with settings that are each right for themselves.
pub(super) fn check(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let settings = &config.settings;
    if settings.requirepass().is_empty() && !settings.insecure() {
        problems.extend(reachable(config, "listen", settings.listen()));
        problems.extend(reachable(config, "http-listen", settings.http_listen()));
    }
    if !settings.join().is_empty() {
        problems.push(problem(
            config,
            "join",
            format!(
                "`join` is `{}`, but this release runs one node only; leave it out",
                settings.join().join(",")
            ),
        ));
    }
    if settings.shards() > 1 {
        problems.push(problem(
            config,
            "shards",
            format!(
                "`shards` is `{}`, but this release keeps one shard only; leave it out",
                settings.shards()
            ),
        ));
    }
    problems.extend(address_used_twice(config));
    problems
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
