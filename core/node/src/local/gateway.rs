//! `SKEP GATEWAY`: the gateway's configuration that the cluster has, told and changed.
//!
//! A text is read whole by `skep_gate` before it is proposed, so what all nodes get was understood by one. That costs the hub
//! the time of the reading: below 0.2 s for the longest text that is taken, 1 MiB with 10,500 routes.

use std::borrow::Cow;

use skep_base::{Args, Refusal, number};
use skep_gate::{Config, ConfigError};
use skep_placement::{
    GATEWAY_BYTES_MAX, GATEWAY_WORDS_BYTES_MAX, GatewaySecret, GatewayVersion, MetaCommand,
};
use skep_resp::Reply;

use super::{Call, Group, Parts};
use crate::cells::{Caller, Part};
use crate::cluster::AskReply;
use crate::run::not_ready;
use crate::{Node, Output};

/// Mistakes of a text that a refusal names.
const MISTAKES_TOLD_MAX: usize = 5;

pub const COMMANDS: Group = &[("skep|gateway", gateway)];

pub const PARTS: Parts = &[("skep|gateway", gateway_part)];

/// What is asked for.
enum Wanted {
    List,
    /// Without a number the one in force.
    Get(Option<u64>),
    Set,
}

impl Wanted {
    fn of(args: Args<'_>) -> Result<Wanted, Refusal> {
        match args.len() {
            3 if args.is(2, "list") => Ok(Wanted::List),
            3 if args.is(2, "get") => Ok(Wanted::Get(None)),
            4 if args.is(2, "get") => Ok(Wanted::Get(Some(version(&args[3])?))),
            6 if args.is(2, "set") => Ok(Wanted::Set),
            _ => Err(Refusal::Syntax),
        }
    }
}

/// `SET` answers with the new version when a majority has it, and this node too.
fn gateway(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    let wanted = Wanted::of(call.args)?;
    if !node.ready {
        // What it had when it stopped may be long gone.
        return Err(not_ready());
    }
    match wanted {
        Wanted::List => node.list_gateway(call.reply),
        Wanted::Get(version) => return node.show_gateway(version, call.reply),
        Wanted::Set if node.has_parts() => {
            for part in node.parts(&mut call)? {
                if let Part::Count(version) = part {
                    call.reply.int(version as i64);
                }
            }
        }
        Wanted::Set => {
            let user = node.client(call.conn).user.clone();
            let new = node.next_gateway(&words(&user), call.args)?;
            let (reply, heard) = (AskReply::Count(new.version as usize), *call.heard);
            return node.ask_meta_for(call.conn, MetaCommand::SetGateway(new), reply, heard);
        }
    }
    Ok(())
}

/// The hub asks for it; the others have nothing to do.
fn gateway_part(
    node: &mut Node,
    caller: Caller,
    args: Args<'_>,
    _: &mut Vec<Output>,
) -> Result<Part, Refusal> {
    if !node.cells.is_hub() || !matches!(Wanted::of(args), Ok(Wanted::Set)) {
        return Ok(Part::Done);
    }
    let by = words(node.asked_by());
    let new = node.next_gateway(&by, args)?;
    let version = new.version as usize;
    node.ask_meta_for_part(caller, MetaCommand::SetGateway(new), AskReply::Count(version))
}

impl Node {
    /// The version that `SET` asks for, read and found good.
    fn next_gateway(&mut self, by: &str, args: Args<'_>) -> Result<GatewayVersion, Refusal> {
        if !self.ready {
            return Err(not_ready());
        }
        let base = version(&args[3])?;
        let newest = self.meta.state.gateway_version();
        if base < newest {
            return Err(Refusal::format(format!(
                "ERR the gateway's configuration is at version {newest}, this change was made for version {base}"
            )));
        }
        let bytes = args[5].len();
        if bytes > GATEWAY_BYTES_MAX {
            return Err(Refusal::format(format!(
                "ERR the gateway's configuration is {bytes} bytes, limit is {GATEWAY_BYTES_MAX}"
            )));
        }
        let Ok(text) = std::str::from_utf8(&args[5]) else {
            return Err(Refusal::text("ERR the gateway's configuration is not UTF-8 text"));
        };
        let config = match Config::parse_alone(text) {
            Ok(config) => config,
            Err(mistakes) => return Err(refusal(&mistakes)),
        };
        // Cookies that stick are the first thing that gateways sign.
        let signs = config.pools.iter().any(|pool| pool.it.sticky.is_some());
        let has_secret = self.meta.state.gateway.last().is_some_and(|newest| newest.secret.0.is_some());
        let secret = GatewaySecret((signs && !has_secret).then(|| self.acl.generator.bytes()));
        let (at, what) = (self.now.wall, words(&args[4]));
        Ok(GatewayVersion { version: base + 1, at, by: by.to_owned(), what, text: text.into(), secret })
    }

    fn list_gateway(&self, reply: &mut Reply<'_>) {
        let kept = &self.meta.state.gateway;
        reply.array(kept.len());
        for version in kept.iter() {
            reply.map(5);
            head(version, reply);
            reply.bulk(b"bytes");
            reply.len(version.text.len());
        }
    }

    fn show_gateway(&self, wanted: Option<u64>, reply: &mut Reply<'_>) -> Result<(), Refusal> {
        let kept = &self.meta.state.gateway;
        let found = match wanted {
            Some(wanted) => kept.iter().find(|version| version.version == wanted),
            None => kept.last(),
        };
        let Some(version) = found else {
            let why = match (wanted, kept.first(), kept.last()) {
                (Some(wanted), Some(oldest), Some(newest)) => format!(
                    "ERR there is no version {wanted} of the gateway's configuration; there are {} to {}",
                    oldest.version, newest.version
                ),
                _ => "ERR the gateway has no configuration yet".to_owned(),
            };
            return Err(Refusal::format(why));
        };
        reply.map(5);
        head(version, reply);
        reply.bulk(b"text");
        reply.bulk(version.text.as_bytes());
        Ok(())
    }

    /// Tells the shell of the newest version, once it is not one of the past: a node that starts knows only what it had when it
    /// stopped, until it has met the others. If they are away for long, what it had is better than nothing.
    pub(crate) fn tell_gateway(&mut self, out: &mut Vec<Output>) {
        /// An election and a round of the log take less.
        const PATIENCE_MS: u64 = 2_000;
        if !self.cells.is_hub() || self.meta.gateway_told == self.meta.state.gateway_version() {
            return;
        }
        let is_of_now = self.meta.applied.index >= self.meta.recovered;
        if (is_of_now || self.now.mono.since(self.started.mono) >= PATIENCE_MS)
            && let Some(newest) = self.meta.state.gateway.last()
        {
            self.meta.gateway_told = newest.version;
            out.push(Output::Gateway(newest.clone()));
        }
    }
}

fn refusal(mistakes: &[ConfigError]) -> Refusal {
    let told = mistakes.iter().take(MISTAKES_TOLD_MAX).map(ToString::to_string);
    let more = mistakes.len().saturating_sub(MISTAKES_TOLD_MAX);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let told = told.collect::<Vec<_>>().join("; ");
    Refusal::format(format!("ERR the gateway's configuration: {told}{more}"))
}

fn head(version: &GatewayVersion, reply: &mut Reply<'_>) {
    reply.bulk(b"version");
    reply.len(version.version as usize);
    reply.bulk(b"at");
    reply.len(version.at.0 as usize);
    reply.bulk(b"by");
    reply.bulk(version.by.as_bytes());
    reply.bulk(b"what");
    reply.bulk(version.what.as_bytes());
}

fn version(text: &[u8]) -> Result<u64, Refusal> {
    let number = number::parse_i64(text).and_then(|number| u64::try_from(number).ok());
    number.ok_or_else(|| {
        let text = words(text);
        Refusal::format(format!("ERR '{text}' is no version of the gateway's configuration"))
    })
}

/// Some words, cut to what a version may hold.
fn words(bytes: &[u8]) -> String {
    let text: Cow<'_, str> = String::from_utf8_lossy(bytes);
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text[..text.floor_char_boundary(GATEWAY_WORDS_BYTES_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use crate::testing::{Cluster, World};

    const TEXT: &str = "gateway.listener.web.address=\"127.0.0.1:1\"";

    fn request(words: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        skep_resp::write_command(&mut bytes, words.iter().map(|word| word.as_bytes()));
        bytes
    }

    fn ask(world: &mut World, words: &[&str]) -> String {
        let conn = world.connect();
        world.receive(conn, request(words));
        world.settle();
        world.replies(conn)
    }

    #[test]
    fn a_text_becomes_a_version_that_is_shown_and_given_to_the_shell_once() {
        let mut world = World::new(&[]);
        let none = ask(&mut world, &["SKEP", "GATEWAY", "GET"]);
        assert_eq!(none, "-ERR the gateway has no configuration yet");
        assert_eq!(ask(&mut world, &["SKEP", "GATEWAY", "SET", "0", "a.toml", TEXT]), ":1");
        assert_eq!(world.gateway.len(), 1);
        assert_eq!((world.gateway[0].version, &*world.gateway[0].text), (1, TEXT));
        assert_eq!((&*world.gateway[0].by, &*world.gateway[0].what), ("default", "a.toml"));
        let shown = ask(&mut world, &["SKEP", "GATEWAY", "GET", "1"]);
        assert!(shown.contains(TEXT) && shown.contains("a.toml"), "{shown}");
        let list = ask(&mut world, &["skep", "gateway", "list"]);
        assert!(list.starts_with("*1 *10 $7 version :1") && !list.contains(TEXT), "{list}");
        let other = ask(&mut world, &["SKEP", "GATEWAY", "GET", "2"]);
        assert_eq!(other, "-ERR there is no version 2 of the gateway's configuration; there are 1 to 1");
    }

    #[test]
    fn the_first_pool_whose_sessions_stick_brings_the_secret_which_is_shown_to_nobody() {
        let mut world = World::new(&[]);
        let pool = "gateway.pool.p.upstreams=[\"127.0.0.1:1\"]\n";
        let sticky = format!("{pool}gateway.pool.p.sticky=true");
        for (base, text) in [("0", pool), ("1", &sticky), ("2", pool), ("3", &sticky)] {
            let reply = ask(&mut world, &["SKEP", "GATEWAY", "SET", base, "w", text]);
            assert!(reply.starts_with(':'), "{reply}");
        }
        let secrets: Vec<_> = world.gateway.iter().map(|version| version.secret).collect();
        assert!(secrets[0].0.is_none() && secrets[1].0.is_some_and(|secret| secret != [0; 32]));
        assert!(secrets[2] == secrets[1] && secrets[3] == secrets[1]);
        let digits: String = secrets[1].0.unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
        for command in [&["SKEP", "GATEWAY", "GET"][..], &["SKEP", "GATEWAY", "LIST"]] {
            let shown = ask(&mut world, command);
            assert!(!shown.contains("secret") && !shown.contains(&digits[..8]), "{shown}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused_with_line_and_key_and_changes_nothing() {
        let mut world = World::new(&[]);
        for (base, text, why) in [
            ("0", "[gateway.listener.web]\nadress=\"127.0.0.1:1\"", "line 2: `gateway.listener.web.adress`"),
            ("0", "[gateway]\n[other]", "line 2: `other` is no part of [gateway]"),
            ("0", "", "`gateway` is missing"),
            ("1", TEXT, "is at version 0, this change was made for version 1"),
            ("x", TEXT, "'x' is no version"),
            ("-1", TEXT, "'-1' is no version"),
        ] {
            let reply = ask(&mut world, &["SKEP", "GATEWAY", "SET", base, "w", text]);
            assert!(reply.starts_with("-ERR ") && reply.contains(why), "{reply}");
        }
        let long = format!("[gateway]\n#{}", "x".repeat(super::GATEWAY_BYTES_MAX));
        let reply = ask(&mut world, &["SKEP", "GATEWAY", "SET", "0", "w", &long]);
        assert!(reply.contains("is 1048587 bytes, limit is 1048576"), "{reply}");
        assert!(world.gateway.is_empty());
        assert!(ask(&mut world, &["SKEP", "GATEWAY", "SET", "0", "w"]).starts_with("-ERR "));
    }

    #[test]
    fn of_two_who_change_the_same_version_one_is_refused() {
        let mut world = World::new(&[]);
        assert_eq!(ask(&mut world, &["SKEP", "GATEWAY", "SET", "0", "a", TEXT]), ":1");
        let late = ask(&mut world, &["SKEP", "GATEWAY", "SET", "0", "b", "[gateway]"]);
        assert!(late.contains("is at version 1, this change was made for version 0"), "{late}");
        // Both were on their way at once: the log decides.
        let (one, two) = (world.connect(), world.connect());
        world.receive(one, request(&["SKEP", "GATEWAY", "SET", "1", "a", "[gateway]"]));
        world.receive(two, request(&["SKEP", "GATEWAY", "SET", "1", "b", TEXT]));
        world.settle();
        let replies = [world.replies(one), world.replies(two)];
        assert_eq!(replies.iter().filter(|reply| *reply == ":2").count(), 1, "{replies:?}");
        assert_eq!(
            replies.iter().filter(|reply| reply.contains("is at version 2")).count(),
            1,
            "{replies:?}"
        );
    }

    #[test]
    fn every_node_gets_what_one_was_asked_for_and_so_does_one_that_was_away() {
        let mut c = Cluster::of(3, &[]);
        c.run(2_000);
        let leader = c.leader().expect("there is one");
        let follower = leader % 3 + 1;
        let away = follower % 3 + 1;
        let cut = |a: usize, b: usize| (a.min(b), a.max(b));
        c.cut = [cut(away, leader), cut(away, follower)].into();
        let conn = c.node(follower).connect();
        let reply = c.ask(follower, conn, &format!("SKEP GATEWAY SET 0 a {TEXT}"));
        assert_eq!(reply, ":1");
        c.run(500);
        for node in [leader, follower] {
            assert_eq!(c.node(node).gateway.iter().map(|v| v.version).collect::<Vec<_>>(), [1]);
        }
        assert!(c.node(away).gateway.is_empty());
        c.cut.clear();
        c.run_until("the third has it", |c| c.nodes[away].as_ref().unwrap().gateway.len() == 1);
        assert_eq!(&*c.node(away).gateway[0].text, TEXT);
        // A node that starts again tells its shell again, once.
        c.node(away).gateway.clear();
        c.restart(away);
        c.run_until("it has started", |c| c.nodes[away].as_ref().unwrap().node.is_ready());
        assert_eq!(c.node(away).gateway.len(), 1);
    }
}
