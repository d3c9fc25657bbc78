//! Calls of scripts with any arguments, by a client of a node with one shard or several, where a script that one of them ran is called
//! by its name on another: each is answered by whole replies, one a command, the rules of the node hold, and its log leads a second
//! state of each shard to the same digest.
#![no_main]

mod scripts;

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use sim::Agreed;
use skep_base::{ConnId, Millis, NodeUuid};
use skep_keyspace::scripts::Sha;
use skep_log::{NodeIdentity, Record};
use skep_node::{Identity, Input, LinkLimits, Load, Node, NodeRecord, Now, Output, Recovered, RestPace};
use skep_resp::{Value, ValueError, write_command};
use skep_settings::Settings;

/// Commands of an input; so few that it ends soon though a script may take its 50 million steps.
const COMMANDS_MAX: usize = 12;

/// Turns in which a command is answered: a source that is brought from another shard takes four rounds.
const TURNS: usize = 16;

/// Words that follow the source, beside what is drawn as it is.
const WORDS: &[&[u8]] = &[
    b"0", b"1", b"2", b"-1", b"9223372036854775807", b"", b"k", b"l", b"{k}a", b"x", b"\0\xff", b"1.5", b"\xc1", b"[1]",
    b"get", b"set", b"del", b"incr", b"lrange", b"rpush", b"blpop", b"hgetall", b"spop", b"xadd", b"*", b"expire", b"watch", b"exec",
];

/// Keys of shards of their own, two of each: what one of them ran another may be asked for by its name.
const KEYS: [&[u8]; 6] = [b"k", b"l", b"{k}a", b"{l}a", b"m", b"{m}a"];

/// A word that a command begins with.
enum Word {
    As(&'static [u8]),
    /// A script, of the input.
    Source,
    /// The name of one that was sent before, of the input: the last, or one of those before it.
    Name,
    /// One of [`KEYS`], of the input.
    Key,
}

use Word::{As, Key, Name, Source};

/// What a command begins with.
const CALLS: &[&[Word]] = &[
    &[As(b"EVAL"), Source],
    &[As(b"EVAL"), Source, As(b"1"), As(b"k")],
    &[As(b"EVAL"), Source, As(b"2"), As(b"k"), As(b"{k}a")],
    &[As(b"EVAL_RO"), Source, As(b"1"), As(b"k")],
    &[As(b"EVAL"), Source, As(b"1"), Key],
    &[As(b"EVALSHA"), Name, As(b"1"), Key],
    &[As(b"EVALSHA_RO"), Name, As(b"1"), Key],
    &[As(b"EVALSHA"), As(b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db"), As(b"0")],
    &[As(b"SCRIPT"), As(b"LOAD"), Source],
    &[As(b"SCRIPT"), As(b"EXISTS"), Name],
    &[As(b"SCRIPT"), As(b"FLUSH")],
    &[As(b"FUNCTION"), As(b"LOAD"), As(b"REPLACE"), Source],
    &[As(b"FUNCTION"), As(b"LOAD"), As(LIBRARY)],
    &[As(b"FCALL"), As(b"f"), As(b"1"), Key],
    &[As(b"FCALL_RO"), As(b"f")],
    &[As(b"MULTI")],
    &[As(b"EXEC")],
    &[As(b"WATCH"), Key],
    &[As(b"ONCE"), As(b"token"), As(b"EVAL"), Source, As(b"1"), As(b"k")],
    &[As(b"ONCE"), As(b"other"), As(b"EVALSHA"), Name, As(b"1"), Key],
    &[As(b"RPUSH"), Key],
    &[As(b"HSET"), Key],
];

const LIBRARY: &[u8] = b"#!lua name=lib\nredis.register_function('f', function(k, a) return redis.call(unpack(a)) end)";

struct Alone {
    node: Node,
    now: Now,
    persisted: u64,
    identity_given: bool,
    records: Vec<Record>,
    closed: bool,
}

impl Alone {
    fn start(shards: &str) -> Alone {
        let identity = Identity {
            saved: NodeIdentity { uuid: NodeUuid(1), ..NodeIdentity::default() },
            record: NodeRecord { name: "n1".into(), client: "c:1".into(), peer: "p:1".into(), ..NodeRecord::default() },
            new_cluster_id: "1".repeat(40),
            run_id: "f".repeat(40),
            process_id: 1,
            clients_fit: u64::MAX,
            descriptors_fit: u64::MAX,
            incarnation: 1,
            seed: 7,
            secret: [7; 32],
            replaces: None,
            link_limits: LinkLimits::default(),
            rest: RestPace::default(),
            may_damage: false,
        };
        let now = Now { mono: Millis(1_000_000), wall: Millis(1_700_000_000_123) };
        let mut out = Vec::new();
        let mut settings = Settings::default();
        settings.set("shards", shards).expect("a number of shards");
        let node = Node::start(identity, settings, Recovered::default(), now, &mut out);
        let mut alone = Alone { node, now, persisted: 0, identity_given: false, records: Vec::new(), closed: false };
        alone.take(out);
        alone.settle();
        assert!(alone.node.is_ready(), "a node alone is ready after its first outputs are durable");
        alone
    }

    fn take(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Persist { number, records } => {
                    self.persisted = number;
                    self.records.extend(records);
                }
                Output::SaveIdentity(_) => self.identity_given = true,
                Output::Close { .. } => self.closed = true,
                _ => {}
            }
        }
    }

    fn input(&mut self, input: Input<'_>) {
        let mut out = Vec::new();
        self.node.handle(self.now, input, &mut out);
        self.take(out);
    }

    fn settle(&mut self) {
        for _ in 0..TURNS {
            self.input(Input::Turn(Load::default()));
            self.input(Input::Persisted { through: self.persisted });
            if std::mem::take(&mut self.identity_given) {
                self.input(Input::IdentitySaved);
            }
        }
        self.now = Now { mono: self.now.mono.plus(1), wall: self.now.wall.plus(1) };
    }

    /// The replies to a command.
    fn ask(&mut self, conn: ConnId, words: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_command(&mut bytes, words.iter().map(Vec::as_slice).collect::<Vec<_>>());
        self.input(Input::Received { conn, bytes: &bytes });
        self.settle();
        let replies = self.node.unsent(conn).to_vec();
        assert!(!self.node.on_sent(conn, replies.len()) && !self.closed, "no command here ends its connection");
        replies
    }
}

/// Takes a command off the input; `None` at its end. `known` are the sources that were sent, by their names.
fn command(data: &mut &[u8], known: &mut Vec<String>) -> Option<Vec<Vec<u8>>> {
    let (first, rest) = data.split_first()?;
    let end = rest.iter().position(|byte| *byte == 0xff).unwrap_or(rest.len());
    let (body, after) = rest.split_at(end);
    *data = after.get(1..).unwrap_or_default();
    let mut parts = body.split(|byte| *byte == 0xfe).filter(|_| !body.is_empty());
    let call = CALLS[*first as usize % CALLS.len()];
    let mut words: Vec<Vec<u8>> = Vec::new();
    for word in call {
        let mut chosen = |of: usize| parts.next().and_then(|part| part.first()).map_or(0, |byte| *byte as usize % of.max(1));
        words.push(match word {
            As(word) => word.to_vec(),
            Key => KEYS[chosen(KEYS.len())].to_vec(),
            Name => {
                let back = chosen(known.len());
                known.iter().rev().nth(back).map_or(vec![b'0'; 40], |name| name.clone().into_bytes())
            }
            Source => {
                let source = scripts::source(parts.next().unwrap_or_default());
                known.push(Sha::of(&source).to_string());
                source
            }
        });
    }
    for part in parts.take(8) {
        match part {
            [chosen] => words.push(WORDS[*chosen as usize % WORDS.len()].to_vec()),
            whole => words.push(whole.to_vec()),
        }
    }
    Some(words)
}

thread_local! {
    /// With its client: a node that lives through many inputs, so that what scripts leave behind meets the next ones.
    static ALONE: RefCell<[Option<(Alone, ConnId, u32)>; 2]> = const { RefCell::new([None, None]) };
}

/// Inputs to a node, before a new one takes its place.
const INPUTS: u32 = 50;

fn check(alone: &Alone) {
    let mut agreed = Agreed::default();
    for (group, at, digest) in alone.node.digests() {
        for record in &alone.records {
            if let Record::Append { group: of, entries } = record
                && *of == group
            {
                entries.iter().for_each(|entry| agreed.on_applied(group, 0, entry).unwrap());
            }
        }
        assert_eq!(agreed.digest(group, at.index), Ok(Some(digest)), "the log leads to another state");
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((first, mut data)) = data.split_first() else { return };
    // One input of two is for a node with several shards.
    let which = usize::from(first % 2);
    let (mut alone, conn, inputs) = ALONE.with_borrow_mut(|all| all[which].take()).unwrap_or_else(|| {
        let mut alone = Alone::start(["1", "5"][which]);
        let (_, number) = alone.node.admit(0).expect("it has no other client");
        let conn = alone.node.welcome(number, "client:1".into(), "n1:1".into());
        alone.ask(conn, &[b"HELLO".to_vec(), b"3".to_vec()]);
        (alone, conn, 0)
    });
    let mut known = Vec::new();
    for _ in 0..COMMANDS_MAX {
        let Some(words) = command(&mut data, &mut known) else { break };
        let replies = alone.ask(conn, &words);
        match Value::parse(&replies) {
            Ok(Some((_, len))) => assert_eq!(len, replies.len(), "more than one reply to {words:?}"),
            Err(ValueError::TooDeep) => {}
            other => panic!("not a whole reply: {other:?} to {words:?}"),
        }
    }
    alone.ask(conn, &[b"RESET".to_vec()]);
    alone.ask(conn, &[b"HELLO".to_vec(), b"3".to_vec()]);
    alone.node.assert_invariants();
    if inputs % 10 == 9 {
        check(&alone);
    }
    if inputs < INPUTS {
        ALONE.with_borrow_mut(|all| all[which] = Some((alone, conn, inputs + 1)));
    }
});
