//! The line of an entry, as core/node/DESIGN.md tells it, in code of its own: who was tried in an entry and found nothing is tried
//! again where the entry says so.

use std::collections::VecDeque;

use skep_base::Args;
use skep_base::args::OwnedArgs;
use skep_keyspace::{Handler, Keyspace, Wait, WaitKind};

/// Those who found nothing, in the order in which they were tried.
#[derive(Default)]
pub struct InLine(Vec<Stands>);

struct Stands {
    db: u8,
    handler: Handler,
    args: OwnedArgs,
    kind: WaitKind,
    keys: Vec<Vec<u8>>,
    target: Option<Vec<u8>>,
}

impl InLine {
    /// A command found nothing.
    pub fn add(&mut self, db: u8, handler: Handler, args: Args<'_>) {
        let command = skep_command::resolve(args).expect("it was run");
        let Some(wait) = Wait::of(command, args) else { return };
        let found = command.keys(args).expect("it was run");
        let all: Vec<Vec<u8>> = found.iter().map(|key| args[key.index].to_vec()).collect();
        let moves = matches!(command.name, "blmove" | "brpoplpush");
        let target = moves.then(|| args[2].to_vec());
        let keys = if moves { all[..1].to_vec() } else { all };
        self.0.push(Stands { db, handler, args: OwnedArgs::copy(args), kind: wait.kind, keys, target });
    }

    /// Tries those who stand for a key, as long as it has something, and then those who wait for what that moves on; `run` tells
    /// whether one got something.
    pub fn serve(
        &mut self,
        keyspace: &mut Keyspace,
        (db, key): (u8, &[u8]),
        run: &mut dyn FnMut(&mut Keyspace, u8, Handler, Args<'_>) -> bool,
    ) {
        let mut keys = VecDeque::from([key.to_vec()]);
        while let Some(key) = keys.pop_front() {
            let mut at = 0;
            while at < self.0.len() {
                let one = &self.0[at];
                let stands = one.db == db && one.keys.contains(&key);
                let has = keyspace.supply(db, &key, keyspace.stamp()).map(|(kind, _)| kind);
                if stands && has == Some(one.kind) && run(keyspace, db, one.handler, one.args.args()) {
                    keys.extend(self.0.remove(at).target);
                } else {
                    at += 1;
                }
            }
        }
    }
}
