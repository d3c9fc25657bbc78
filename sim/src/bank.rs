//! Accounts between which transactions and scripts move amounts: whoever reads all of them at once sees them sum up to
//! nothing (INV-SIM-23). A transaction or script of which a part was carried out, or into which a command of another came,
//! or that ran twice in a part, would show.

use skep_base::Rng;
use skep_keyspace::scripts::Sha;

use crate::model::{Plain, Words, show};

const ACCOUNTS: [&str; 3] = ["{bank}a", "{bank}b", "{bank}c"];

const MOVE: &str =
    "redis.call('decrby', KEYS[1], ARGV[1]) redis.call('incrby', KEYS[2], ARGV[1]) return 'moved'";
const MOVE_AND_READ: &str = "redis.call('decrby', KEYS[1], ARGV[1]) redis.call('incrby', KEYS[2], ARGV[1]) return \
                             redis.call('mget', KEYS[1], KEYS[2], KEYS[3])";
const READ: &str = "return redis.call('mget', KEYS[1], KEYS[2], KEYS[3])";

/// What a reply tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tells {
    Nothing,
    /// What is in all accounts, as a list; nil if a watched one has changed.
    All,
}

/// Commands to be sent behind one another on one connection.
pub fn next(rng: &mut Rng) -> Vec<(Words, Tells)> {
    let from = rng.below(3) as usize;
    let accounts = [0, 1, 2].map(|at| ACCOUNTS[(from + at) % 3]);
    let [a, b, c] = accounts;
    let amount = (1 + rng.below(100)).to_string();
    let quiet = |words: &[&str]| (words_of(words), Tells::Nothing);
    let read = |words: &[&str]| (words_of(words), Tells::All);
    match rng.below(10) {
        0 => vec![quiet(&["EVAL", MOVE, "2", a, b, &amount])],
        1 => vec![read(&["EVAL", MOVE_AND_READ, "3", a, b, c, &amount])],
        2 => vec![read(&["EVAL_RO", READ, "3", a, b, c])],
        3 => vec![read(&["MGET", a, b, c])],
        4 => vec![
            quiet(&["MULTI"]),
            quiet(&["GET", a]),
            quiet(&["GET", b]),
            quiet(&["GET", c]),
            read(&["EXEC"]),
        ],
        5 => vec![
            quiet(&["WATCH", a, b]),
            quiet(&["MULTI"]),
            quiet(&["INCRBY", a, &amount]),
            quiet(&["DECRBY", c, &amount]),
            quiet(&["EXEC"]),
        ],
        // As a script within a transaction sees them.
        6 => vec![
            quiet(&["MULTI"]),
            quiet(&["INCRBY", b, &amount]),
            quiet(&["DECRBY", a, &amount]),
            quiet(&["EVAL", MOVE, "2", c, a, "7"]),
            quiet(&["EXEC"]),
        ],
        // By the name of one that ran elsewhere, perhaps on another shard, which this one may not know yet.
        7 | 8 => {
            let script = format!("{MOVE} -- {}", rng.below(700));
            let name = Sha::of(script.as_bytes()).to_string();
            let call = quiet(&["EVALSHA", &name, "2", a, b, &amount]);
            let before = quiet(&["EVAL", &script, "2", "{mint}a", "{mint}b", "1"]);
            match rng.one_in(2) {
                true => vec![before, call],
                false => vec![before, quiet(&["MULTI"]), call.clone(), call, quiet(&["EXEC"])],
            }
        }
        _ => vec![
            quiet(&["MULTI"]),
            quiet(&["DECRBY", a, &amount]),
            quiet(&["INCRBY", c, &amount]),
            quiet(&["EXEC"]),
        ],
    }
}

/// Judges the reply to a command of [`next`].
///
/// # Errors
/// The accounts do not sum up, or cannot be read.
pub fn judge(words: &Words, tells: Tells, reply: &Plain) -> Result<(), String> {
    let wrong = || Err(format!("INV-SIM-23: {} was answered {reply:?}", show(words)));
    match (tells, reply) {
        (Tells::Nothing, _) | (Tells::All, Plain::Nil) => Ok(()),
        (Tells::All, Plain::List(all)) => {
            let amount = |of: &Plain| match of {
                Plain::Nil => Some(0),
                Plain::Text(text) => std::str::from_utf8(text).ok()?.parse::<i64>().ok(),
                _ => None,
            };
            let sum: Option<i64> = all.iter().map(amount).sum();
            if all.len() == ACCOUNTS.len() && sum == Some(0) { Ok(()) } else { wrong() }
        }
        _ => wrong(),
    }
}

fn words_of(words: &[&str]) -> Words {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_that_do_not_sum_up_are_found() {
        let text = |text: &str| Plain::Text(text.as_bytes().to_vec());
        let judge = |reply: Plain| judge(&words_of(&["MGET"]), Tells::All, &reply);
        assert_eq!(judge(Plain::List(vec![text("3"), Plain::Nil, text("-3")])), Ok(()));
        assert_eq!(judge(Plain::Nil), Ok(()));
        assert!(judge(Plain::List(vec![text("3"), text("1"), text("-3")])).is_err());
        assert!(judge(Plain::List(vec![text("3"), text("-3")])).is_err());
        assert!(judge(Plain::List(vec![text("x"), Plain::Nil, Plain::Nil])).is_err());
        assert!(judge(Plain::Error(b"ERR no".to_vec())).is_err());
    }
}
