//! What was denied on a node, for `ACL LOG`. Newest first; what repeats is counted in one entry.

use std::collections::VecDeque;

use skep_base::Millis;

/// A denial like one of the last few within this time is counted there. The figures are Redis's.
const JOINED_MS: u64 = 60_000;
const LOOKED_AT: usize = 10;
/// No more of a key or channel is kept.
const OBJECT_BYTES_MAX: usize = 1_024;

/// Why something was denied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    Command,
    Key,
    Channel,
    /// A wrong password, an unknown or a disabled user.
    Auth,
}

/// Where the command came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Context {
    TopLevel,
    Multi,
    Script,
}

/// One entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denial {
    pub id: u64,
    pub count: u64,
    pub reason: Reason,
    pub context: Context,
    /// The command, key or channel.
    pub object: Vec<u8>,
    pub user: Vec<u8>,
    /// The client as `CLIENT LIST` shows it, when it happened last.
    pub client: String,
    /// Wall clock.
    pub created: Millis,
    pub updated: Millis,
}

/// The newest denials.
#[derive(Default)]
pub struct DenialLog {
    entries: VecDeque<Denial>,
    next: u64,
}

impl DenialLog {
    /// Takes note of a denial at the wall clock's `now`; no more than `max` entries are kept.
    #[allow(clippy::too_many_arguments)]
    pub fn add(
        &mut self,
        reason: Reason,
        context: Context,
        object: &[u8],
        user: &[u8],
        client: String,
        now: Millis,
        max: usize,
    ) {
        let object = &object[..object.len().min(OBJECT_BYTES_MAX)];
        let like = |e: &Denial| {
            (e.reason, e.context, &e.object[..], &e.user[..]) == (reason, context, object, user)
                && now.0.abs_diff(e.updated.0) <= JOINED_MS
        };
        let denial =
            match self.entries.iter().take(LOOKED_AT).position(like).and_then(|at| self.entries.remove(at)) {
                Some(known) => Denial { count: known.count + 1, client, updated: now, ..known },
                None => {
                    self.next += 1;
                    let (object, user) = (object.to_vec(), user.to_vec());
                    Denial {
                        id: self.next - 1,
                        count: 1,
                        reason,
                        context,
                        object,
                        user,
                        client,
                        created: now,
                        updated: now,
                    }
                }
            };
        self.entries.push_front(denial);
        self.entries.truncate(max);
    }

    /// The newest first.
    pub fn iter(&self) -> impl Iterator<Item = &Denial> {
        self.entries.iter()
    }

    /// Forgets all entries.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

impl Reason {
    /// Redis's word.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Command => "command",
            Reason::Key => "key",
            Reason::Channel => "channel",
            Reason::Auth => "auth",
        }
    }
}

impl Context {
    /// Redis's word.
    pub fn name(self) -> &'static str {
        match self {
            Context::TopLevel => "toplevel",
            Context::Multi => "multi",
            Context::Script => "lua",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(log: &mut DenialLog, object: &str, now: u64, max: usize) {
        log.add(Reason::Key, Context::TopLevel, object.as_bytes(), b"u", String::new(), Millis(now), max);
    }

    fn shown(log: &DenialLog) -> Vec<(String, u64, u64)> {
        log.iter().map(|e| (String::from_utf8_lossy(&e.object).into_owned(), e.count, e.id)).collect()
    }

    #[test]
    fn what_repeats_within_a_minute_is_counted_and_comes_to_the_front() {
        let mut log = DenialLog::default();
        add(&mut log, "a", 1_000, 9);
        add(&mut log, "b", 2_000, 9);
        add(&mut log, "a", 61_000, 9);
        assert_eq!(shown(&log), [("a".into(), 2, 0), ("b".into(), 1, 1)]);
        add(&mut log, "a", 121_001, 9);
        assert_eq!(shown(&log), [("a".into(), 1, 2), ("a".into(), 2, 0), ("b".into(), 1, 1)]);
    }

    #[test]
    fn the_oldest_entries_go_and_none_is_kept_if_none_is_wanted() {
        let mut log = DenialLog::default();
        ["a", "b", "c"].into_iter().for_each(|object| add(&mut log, object, 0, 2));
        assert_eq!(shown(&log), [("c".into(), 1, 2), ("b".into(), 1, 1)]);
        add(&mut log, "d", 0, 0);
        assert_eq!(shown(&log), []);
        add(&mut log, &"x".repeat(5_000), 0, 2);
        assert_eq!(log.iter().next().unwrap().object.len(), OBJECT_BYTES_MAX);
        log.clear();
        assert_eq!(shown(&log), []);
    }
}
