//! Runs command lines against a keyspace, for the tests of command groups.

use std::collections::BTreeMap;

use skep_base::args::OwnedArgs;
use skep_base::{Millis, Rng};
use skep_resp::{Protocol, Reply};

use crate::context::WriteCx;
use crate::dispatch::{Handler, handlers};
use crate::events::Event;
use crate::keyspace::Keyspace;

/// A keyspace with a clock of its own.
pub struct Bench {
    pub keyspace: Keyspace,
    pub db: u8,
    pub protocol: Protocol,
    seed: u64,
    handlers: BTreeMap<&'static str, Handler>,
}

impl Bench {
    /// Starts at 1,000,000 ms.
    pub fn new() -> Bench {
        let mut keyspace = Keyspace::default();
        keyspace.advance(Millis(1_000_000));
        Bench { keyspace, db: 0, protocol: Protocol::Resp2, seed: 1, handlers: handlers().collect() }
    }

    /// Lets `ms` pass.
    pub fn pass(&mut self, ms: u64) {
        self.keyspace.advance(self.keyspace.stamp().plus(ms));
    }

    /// Runs a line of words separated by blanks (`""` is an empty argument) and gives the raw reply, line ends as `|`.
    /// Checks the keyspace's invariants afterwards.
    pub fn run(&mut self, line: &str) -> String {
        let words = line.split_whitespace().map(|w| if w == "\"\"" { &b""[..] } else { w.as_bytes() });
        let reply = self.run_args(&OwnedArgs::collect(words));
        String::from_utf8_lossy(&reply).trim_end().replace("\r\n", "|")
    }

    /// Runs a line and gives the events it caused: `name key`, behind the database if it is not the first, with commas.
    /// The keyspace must record them.
    pub fn events_of(&mut self, line: &str) -> String {
        self.run(line);
        self.events()
    }

    /// The events since they were last taken, as [`Bench::events_of`] shows them.
    pub fn events(&mut self) -> String {
        let shown = |event: Event| match event {
            Event::Key { db: 0, name, key, .. } => format!("{name} {}", String::from_utf8_lossy(&key)),
            Event::Key { db, name, key, .. } => format!("{db}: {name} {}", String::from_utf8_lossy(&key)),
            Event::Missed { db: 0, key } => format!("keymiss {}", String::from_utf8_lossy(&key)),
            other => format!("{other:?}"),
        };
        self.keyspace.events.take().into_iter().map(shown).collect::<Vec<_>>().join(", ")
    }

    /// Runs a script of pairs of lines: `> command`, then its events; `+ ms` to let time pass, `# comment`. A command without
    /// a line behind it has no events; `sweep` stands for what an entry ends with.
    pub fn event_script(&mut self, script: &str) {
        let mut happened: Option<(String, String)> = None;
        let lines = script.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        for line in lines.chain(["> DBSIZE"]) {
            if let Some(command) = line.strip_prefix("> ") {
                if let Some((command, events)) = happened.take() {
                    assert_eq!(events, "", "events of {command}");
                }
                let events = if command == "sweep" {
                    self.keyspace.sweep(1_000);
                    self.events()
                } else {
                    self.events_of(command)
                };
                happened = Some((command.to_string(), events));
            } else if let Some(ms) = line.strip_prefix("+ ") {
                self.pass(ms.parse().unwrap());
            } else {
                let (command, events) = happened.take().expect("events follow a command");
                assert_eq!(events, line, "events of {command}");
            }
        }
    }

    /// True if the first word of `line` is a command.
    pub fn knows(&self, line: &str) -> bool {
        let name = line.split_whitespace().next().unwrap_or_default();
        self.handlers.contains_key(name.to_ascii_lowercase().as_str())
    }

    /// Runs any arguments and gives the raw reply.
    pub fn run_args(&mut self, args: &OwnedArgs) -> Vec<u8> {
        let args = args.args();
        let name = String::from_utf8_lossy(&args[0]).to_ascii_lowercase();
        let handler = match self.handlers.get(name.as_str()) {
            Some(handler) => *handler,
            None => {
                let sub = String::from_utf8_lossy(args.get(1).unwrap_or_default()).to_ascii_lowercase();
                *self.handlers.get(format!("{name}|{sub}").as_str()).expect("a known command")
            }
        };
        self.seed += 1;
        let mut rng = Rng::new(self.seed);
        let mut out = Vec::new();
        let now = self.keyspace.stamp();
        handler.write(
            &mut WriteCx { keyspace: &mut self.keyspace, db: self.db, now, rng: &mut rng },
            args,
            &mut Reply::new(&mut out, self.protocol),
        );
        self.keyspace.assert_invariants();
        out
    }

    /// Runs a script of lines: `> command` followed by the expected reply, `+ ms` to let time pass, `# comment`.
    pub fn script(&mut self, script: &str) {
        let mut command = None;
        for line in script.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            if let Some(rest) = line.strip_prefix("> ") {
                command = Some(rest.to_string());
            } else if let Some(ms) = line.strip_prefix("+ ") {
                self.pass(ms.parse().unwrap());
            } else {
                let command = command.take().expect("a reply follows a command");
                assert_eq!(self.run(&command), line, "reply to {command}");
            }
        }
        assert!(command.is_none(), "no expected reply for {command:?}");
    }
}

#[test]
fn scripts_check_replies() {
    Bench::new().script(
        "> SET a 1
         +OK
         > GET a
         $1|1
         > EXISTS a a b
         :2
         > DEL a b
         :1
         > GET a
         $-1
         > TYPE a
         +none",
    );
}
