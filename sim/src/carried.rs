//! How a command reaches its key: alone, in a transaction, or called by a script. What it does and answers is the same.

use skep_base::Rng;

use crate::jobs::{COUNTED, done_key};
use crate::model::{Plain, Words, show};
use crate::scripts::is_of_scripts;
use crate::streams;

const CALL: &str = "return redis.call(unpack(ARGV))";
/// Who acknowledges a job writes down that it is done, both or neither. With its first line a script is refused as a whole where
/// memory is short, and not half way.
const ACK_AND_NOTE: &str = "#!lua\n\
                            local done = redis.call('QACK', KEYS[1], ARGV[1], ARGV[2]) \
                            if done == 1 then redis.call('SADD', KEYS[2], ARGV[1]) end return done";

/// The way that a command takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carrier {
    Alone,
    /// Behind a read of the same key.
    Transaction,
    Script,
    /// By a script that notes the completion of a job.
    Noting,
    /// For a planted bug: the note is a command of its own.
    NotingApart,
}

impl Carrier {
    pub fn draw(words: &Words, apart: bool, rng: &mut Rng) -> Carrier {
        let waits = words[0].starts_with(b"B") || words.iter().any(|word| word == b"BLOCK");
        match rng.below(6) {
            _ if is_of_scripts(words) => Carrier::Alone,
            _ if words[0] == b"QACK" && words[1] == COUNTED.as_bytes() => {
                if apart {
                    Carrier::NotingApart
                } else {
                    Carrier::Noting
                }
            }
            0 => Carrier::Transaction,
            1 if !waits => Carrier::Script,
            _ => Carrier::Alone,
        }
    }

    /// The commands to be sent, and the place of the one whose reply is that to `words`.
    pub fn commands(self, words: &Words) -> (Vec<Words>, usize) {
        let of = |words: &[&str]| words.iter().map(|word| word.as_bytes().to_vec()).collect::<Words>();
        let key = key_of(words);
        match self {
            Carrier::Alone => (vec![words.clone()], 0),
            Carrier::Transaction => {
                let read = vec![b"EXISTS".to_vec(), key.to_vec()];
                (vec![of(&["MULTI"]), read, words.clone(), of(&["EXEC"])], 3)
            }
            Carrier::Script => {
                let mut script = of(&["EVAL", CALL, "1"]);
                script.push(key.to_vec());
                script.extend_from_slice(words);
                (vec![script], 0)
            }
            Carrier::Noting => {
                let mut script = of(&["EVAL", ACK_AND_NOTE, "2", COUNTED, &done_key()]);
                script.extend_from_slice(&words[2..]);
                (vec![script], 0)
            }
            Carrier::NotingApart => {
                let mut note = of(&["SADD", &done_key()]);
                note.push(words[2].clone());
                (vec![words.clone(), note], 0)
            }
        }
    }

    /// What the reply to the carrier says of the command.
    ///
    /// # Errors
    /// It is none that the carrier can have.
    pub fn unwrap(self, words: &Words, reply: &Plain) -> Result<Plain, String> {
        match (self, reply) {
            (Carrier::Transaction, Plain::List(replies)) => match &replies[..] {
                [Plain::Int(_), reply] => Ok(reply.clone()),
                _ => Err(format!("INV-SIM-9: EXEC of EXISTS and {} was answered {reply:?}", show(words))),
            },
            (Carrier::Transaction, Plain::Error(_)) => Ok(reply.clone()),
            (Carrier::Transaction, _) => {
                Err(format!("INV-SIM-9: EXEC of {} without WATCH was answered {reply:?}", show(words)))
            }
            _ => Ok(reply.clone()),
        }
    }
}

/// The key of a command of the ledger.
fn key_of(words: &Words) -> &[u8] {
    match words[0][0] {
        b'X' => streams::key_of(words),
        b'Q' if words[0] == b"QTAKE" => &words[2],
        _ => &words[1],
    }
}
