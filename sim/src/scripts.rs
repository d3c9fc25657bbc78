//! Scripts and libraries, which all shards and nodes are to know once their loading was answered, and not to know once it was
//! answered that they are gone (INV-SIM-29). Whoever calls one is answered by one that may be known then: none that others have
//! surely taken the place of before.

use std::collections::BTreeMap;

use skep_base::Rng;
use skep_keyspace::scripts::Sha;

use crate::model::{Plain, Words, show};
use crate::planted::Planted;

/// Where they are called, in several slots.
const KEYS: [&str; 4] = ["ka", "kb", "kc", "kd"];
/// Scripts in use at a time; each is followed by another after so many commands, so that one of which something is uncertain does
/// not stay.
const SCRIPTS: u64 = 3;
const CALLS_MAX: u64 = 30;
const LIBRARIES: u64 = 2;

/// What is written and called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Name {
    Script(u64),
    AllScripts,
    Library(u64),
}

/// Something that makes a name known, with a version, or unknown.
struct Write {
    name: Name,
    version: Option<u64>,
    sent: u64,
    /// When it was over for certain; `u64::MAX` if it may still be carried out.
    ended: u64,
    /// It was carried out everywhere.
    is_sure: bool,
}

/// Everything known of them.
pub struct Scripts {
    writes: Vec<Write>,
    /// Of each place the script and how often it was used.
    places: Vec<(u64, u64)>,
    next: u64,
    /// Scripts by their names.
    shas: BTreeMap<Vec<u8>, u64>,
    /// Shards tell one another of scripts: a call may bring one with it. One that was refused may be done in a part.
    are_several: bool,
    /// For a planted bug: somebody makes all forget their scripts.
    forgets: bool,
}

/// True for commands about scripts.
pub fn is_of_scripts(words: &Words) -> bool {
    [&b"SCRIPT"[..], b"EVALSHA", b"FUNCTION", b"FCALL", b"FCALL_RO"].contains(&&words[0][..])
}

fn source(script: u64) -> String {
    format!("return 'x{script}'")
}

fn sha(script: u64) -> String {
    Sha::of(source(script).as_bytes()).to_string()
}

fn library(library: u64, version: u64) -> String {
    format!(
        "#!lua name=lib{library}\n\
         redis.register_function('w{library}', function() return 'x{version}' end) \
         redis.register_function{{function_name = 'r{library}', callback = function() return 'x{version}' end, \
         flags = {{'no-writes'}}}}"
    )
}

fn words(words: &[&str]) -> Words {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

impl Scripts {
    pub fn new(shards: u64, planted: Option<Planted>) -> Scripts {
        let places: Vec<(u64, u64)> = (0..SCRIPTS).map(|script| (script, 0)).collect();
        Scripts {
            writes: Vec::new(),
            shas: places.iter().map(|(script, _)| (sha(*script).into_bytes(), *script)).collect(),
            places,
            next: SCRIPTS,
            are_several: shards > 1,
            forgets: planted == Some(Planted::ScriptsForgotten),
        }
    }

    /// Something that a client does next.
    pub fn next(&mut self, rng: &mut Rng) -> Words {
        let key = KEYS[rng.below(KEYS.len() as u64) as usize];
        let lib = rng.below(LIBRARIES);
        let place = &mut self.places[rng.below(SCRIPTS) as usize];
        place.1 += 1;
        if place.1 > CALLS_MAX {
            *place = (self.next, 0);
            self.shas.insert(sha(self.next).into_bytes(), self.next);
        }
        // Versions of libraries and scripts alike.
        self.next += 1;
        let (script, version) = (place.0, self.next);
        let sha = sha(script);
        match rng.below(24) {
            0..4 => words(&["SCRIPT", "LOAD", &source(script)]),
            4..10 => words(&["EVALSHA", &sha, "1", key]),
            10..12 => words(&["SCRIPT", "EXISTS", &sha]),
            12 => words(&["SCRIPT", "FLUSH"]),
            13..16 => words(&["FUNCTION", "LOAD", "REPLACE", &library(lib, version)]),
            16 => words(&["FUNCTION", "DELETE", &format!("lib{lib}")]),
            17..21 => words(&["FCALL", &format!("w{lib}"), "1", key]),
            _ => words(&["FCALL_RO", &format!("r{lib}"), "1", key]),
        }
    }

    /// Calls of all that are in use, for the end.
    pub fn calls(&self, client: usize) -> Vec<Words> {
        let key = KEYS[client % KEYS.len()];
        let scripts = self.places.iter().map(|(script, _)| words(&["EVALSHA", &sha(*script), "1", key]));
        let functions = (0..LIBRARIES).map(|lib| words(&["FCALL_RO", &format!("r{lib}"), "1", key]));
        scripts.chain(functions).collect()
    }

    /// Takes note that a command leaves a client. Gives what [`Scripts::on_end`] is to be told.
    pub fn on_sent(&mut self, words: &Words, at: u64) -> usize {
        let (name, version) = match (&words[0][..], &words[1][..]) {
            (b"SCRIPT", b"FLUSH") if self.forgets => return 0,
            (b"SCRIPT", b"FLUSH") => (Name::AllScripts, None),
            (b"SCRIPT", b"LOAD") => {
                let script = version_in(&words[2]);
                (Name::Script(script), Some(script))
            }
            (b"EVALSHA", sha) if self.are_several => match self.shas.get(sha) {
                Some(script) => (Name::Script(*script), Some(*script)),
                None => return 0,
            },
            (b"FUNCTION", b"LOAD") => {
                let end = words[3].iter().position(|byte| *byte == b'\n').unwrap_or(0);
                (Name::Library(number_in(&words[3][..end])), Some(version_in(&words[3])))
            }
            (b"FUNCTION", b"DELETE") => (Name::Library(number_in(&words[2])), None),
            _ => return 0,
        };
        self.writes.push(Write { name, version, sent: at, ended: u64::MAX, is_sure: false });
        self.writes.len()
    }

    /// Checks the reply to a command that was sent at `since`; `write` is what [`Scripts::on_sent`] gave.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn on_reply(
        &mut self,
        words: &Words,
        (write, since): (usize, u64),
        reply: &Plain,
        at: u64,
    ) -> Result<(), String> {
        let wrong = |why: &str| Err(format!("INV-SIM-29: {why}: {} was answered {reply:?}", show(words)));
        let (name, called) = match (&words[0][..], &words[1][..]) {
            (b"SCRIPT", b"EXISTS") => (self.script(&words[2]), true),
            (b"EVALSHA", _) => (self.script(&words[1]), true),
            (b"FCALL" | b"FCALL_RO", _) => (Some(Name::Library(number_in(&words[1]))), true),
            _ => (None, false),
        };
        if !called {
            let is_done = match reply {
                Plain::Text(ok) if ok == b"OK" => true,
                Plain::Text(sha) if words[1] == b"LOAD" && words[0] == b"SCRIPT" => {
                    *sha == Sha::of(&words[2]).to_string().into_bytes()
                }
                Plain::Text(name) => words[1] == b"LOAD" && name.starts_with(b"lib"),
                // It is gone, which is what was wanted.
                Plain::Error(error) => words[1] == b"DELETE" && error.starts_with(b"ERR Library not found"),
                _ => false,
            };
            self.on_over(write, at, is_done);
            return if is_done { Ok(()) } else { wrong("an unexpected reply") };
        }
        let Some(name) = name else { return Ok(()) };
        let seen = match (reply, name) {
            (Plain::List(there), Name::Script(script)) => match there[..] {
                [Plain::Int(is_there @ (0 | 1))] => (is_there == 1).then_some(script),
                _ => return wrong("a strange answer"),
            },
            (Plain::Text(text), _) => Some(version_in(text)),
            (Plain::Error(error), Name::Script(_)) if error.starts_with(b"NOSCRIPT") => None,
            (Plain::Error(error), Name::Library(_)) if error.starts_with(b"ERR Function not found") => None,
            _ => return wrong("an unexpected reply"),
        };
        let may_be = self.may_be(name, seen, (since, at), write);
        match seen {
            Some(_) => self.on_over(write, at, false),
            // It brought nothing with it.
            None => self.on_nothing(write),
        }
        if may_be { Ok(()) } else { wrong("this is not what it can be, by what was answered before") }
    }

    /// True if a name may have had that version in an instant of `since` to `at`; the call itself, `own`, did not bring it.
    fn may_be(&self, name: Name, version: Option<u64>, (since, at): (u64, u64), own: usize) -> bool {
        let concerns = |write: &Write| {
            write.name == name || write.name == Name::AllScripts && matches!(name, Name::Script(_))
        };
        let all = || self.writes.iter().filter(|write| concerns(write));
        // Something else was there from before it began to its end.
        let is_replaced =
            |ended: u64| all().any(|other| other.is_sure && other.sent > ended && other.ended < since);
        let others =
            self.writes.iter().enumerate().filter(|(place, _)| place + 1 != own).map(|(_, write)| write);
        let mut written =
            others.filter(|write| concerns(write) && write.version == version && write.sent <= at);
        version.is_none() && !is_replaced(0) || written.any(|write| !is_replaced(write.ended))
    }

    /// A command is over: it did all of what it was to do, or nobody knows how much.
    fn on_over(&mut self, write: usize, at: u64, is_sure: bool) {
        if let Some(write) = write.checked_sub(1).and_then(|write| self.writes.get_mut(write)) {
            (write.ended, write.is_sure) = (at, is_sure);
        }
    }

    /// A command did nothing and never will.
    fn on_nothing(&mut self, write: usize) {
        if let Some(write) = write.checked_sub(1).and_then(|write| self.writes.get_mut(write)) {
            write.sent = u64::MAX;
        }
    }

    /// A command was refused. Where there are several shards some may have done it.
    pub fn on_refused(&mut self, write: usize, at: u64) {
        match self.are_several {
            true => self.on_over(write, at, false),
            false => self.on_nothing(write),
        }
    }

    /// The script of a name.
    fn script(&self, sha: &[u8]) -> Option<Name> {
        self.shas.get(sha).copied().map(Name::Script)
    }
}

/// The number at the end of a name.
fn number_in(name: &[u8]) -> u64 {
    let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&name[name.len() - digits..]).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The version that a source answers, or that it has answered.
fn version_in(text: &[u8]) -> u64 {
    let behind = text.iter().position(|byte| *byte == b'x').map_or(0, |at| at + 1);
    let digits = text[behind..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    number_in(&text[behind..behind + digits])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_replaced_before_a_call_is_not_answered_and_what_overlaps_may_be() {
        let mut scripts = Scripts::new(1, None);
        let mut write = |line: &str, sent: u64, ended: Option<u64>| {
            let words: Words = line.split('|').map(|word| word.as_bytes().to_vec()).collect();
            let write = scripts.on_sent(&words, sent);
            ended.into_iter().for_each(|at| scripts.on_over(write, at, true));
        };
        write("FUNCTION|LOAD|REPLACE|#!lua name=lib0\nreturn 'x7'", 10, Some(20));
        write("FUNCTION|DELETE|lib0", 30, Some(40));
        write("FUNCTION|LOAD|REPLACE|#!lua name=lib0\nreturn 'x8'", 50, None);
        let may_be = |version, since, at| scripts.may_be(Name::Library(0), version, (since, at), 0);
        assert!(may_be(None, 1, 5) && may_be(None, 15, 18) && !may_be(None, 21, 25));
        assert!(!may_be(Some(7), 1, 5) && may_be(Some(7), 15, 18) && may_be(Some(7), 32, 35));
        assert!(may_be(None, 41, 45) && !may_be(Some(7), 41, 45));
        assert!(!may_be(Some(8), 41, 45) && may_be(Some(8), 60, 70) && may_be(None, 60, 70));
    }

    #[test]
    fn what_all_forget_is_not_known_until_it_is_loaded_again() {
        let mut scripts = Scripts::new(1, None);
        let load = words(&["SCRIPT", "LOAD", &source(0)]);
        let sha = Sha::of(source(0).as_bytes()).to_string();
        let (exists, flush) = (words(&["SCRIPT", "EXISTS", &sha]), words(&["SCRIPT", "FLUSH"]));
        let is = |there| Plain::List(vec![Plain::Int(there)]);
        let mut reply = |words: &Words, from: u64, reply: &Plain| {
            let write = scripts.on_sent(words, from);
            scripts.on_reply(words, (write, from), reply, from + 5)
        };
        let text = |text: &str| Plain::Text(text.as_bytes().to_vec());
        assert_eq!(reply(&load, 10, &text(&sha)), Ok(()));
        assert_eq!(reply(&exists, 20, &is(1)), Ok(()));
        assert!(reply(&exists, 30, &is(0)).is_err());
        assert_eq!(reply(&flush, 40, &text("OK")), Ok(()));
        assert_eq!(reply(&exists, 50, &is(0)), Ok(()));
        assert!(reply(&exists, 60, &is(1)).is_err());
    }
}
