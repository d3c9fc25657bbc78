//! The events of commands on a keyspace, for tests that compare them with redis-server's: requests on standard input, on
//! standard output `[reply, [event ...]]` for each, both as RESP. An event is `db:name:key`. Knows SELECT, HELLO, FLUSHALL, and the
//! keyspace's commands; a stand-in for a node's routing, and no more.

mod serve;

use std::collections::BTreeMap;

use skep_base::{Args, Millis, Refusal, Rng};
use skep_keyspace::events::{Class, Event};
use skep_keyspace::{Handler, Keyspace, WriteCx, handlers, parse_database};
use skep_resp::{Protocol, Reply};

fn main() {
    let mut store = Store::default();
    serve::serve(|args, output| store.run(args, output));
}

struct Store {
    handlers: BTreeMap<&'static str, Handler>,
    keyspace: Keyspace,
    protocol: Protocol,
    db: u8,
    entries: u64,
}

impl Default for Store {
    fn default() -> Store {
        let mut keyspace = Keyspace::default();
        keyspace.events.record(true);
        keyspace.events.want_misses(true);
        Store { handlers: handlers().collect(), keyspace, protocol: Protocol::Resp2, db: 0, entries: 0 }
    }
}

impl Store {
    fn run(&mut self, args: Args, out: &mut Vec<u8>) {
        let mut reply = Reply::new(out, self.protocol);
        reply.array(2);
        let mark = reply.mark();
        if let Err(refusal) = self.dispatch(args, &mut reply) {
            reply.rewind(mark);
            reply.refusal(&refusal);
        }
        self.keyspace.sweep(1_000); // as an entry ends
        let events: Vec<Vec<u8>> = self.keyspace.events.take().into_iter().filter_map(shown).collect();
        reply.array(events.len());
        events.iter().for_each(|event| reply.bulk(event));
    }

    fn dispatch(&mut self, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
        self.entries += 1;
        if args.is(0, "hello") {
            self.protocol = if args.is(1, "3") { Protocol::Resp3 } else { Protocol::Resp2 };
            reply.ok();
            return Ok(());
        }
        if args.is(0, "select") && args.len() == 2 {
            self.db = parse_database(&args[1])?;
            reply.ok();
            return Ok(());
        }
        let command = skep_command::resolve(args)?;
        let unknown = Refusal::text("ERR not a command of the keyspace");
        let handler = *self.handlers.get(command.name).ok_or(unknown)?;
        let now = self.keyspace.advance(Millis(1_700_000_000_000 + self.entries));
        let mut rng = Rng::new(self.entries);
        let mut cx = WriteCx { keyspace: &mut self.keyspace, db: self.db, now, rng: &mut rng };
        handler.write(&mut cx, args, reply);
        Ok(())
    }
}

/// What a subscriber to all notifications would hear of it.
fn shown(event: Event) -> Option<Vec<u8>> {
    let (db, name, key) = match event {
        Event::Key { class: Class::Silent, .. } | Event::Database { .. } | Event::Published { .. } => {
            return None;
        }
        Event::Key { db, name, key, .. } => (db, name, key),
        Event::Missed { db, key } => (db, "keymiss", key),
    };
    let mut text = format!("{db}:{name}:").into_bytes();
    text.extend_from_slice(&key);
    Some(text)
}
