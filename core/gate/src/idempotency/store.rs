//! What is asked of the store, as commands of its own protocol, and its answers. Each is one command on one key, and so one
//! entry of one shard: durable on a majority before it is answered.
//!
//! Times are the store's: a script's `TIME` is that of its entry, which all copies agree on, so gateways whose clocks differ
//! judge an attempt alike.

use skep_resp::Value;

use super::record::{Record, Token};

/// Claims a key that is free; else tells what is there, and the store's time.
const CLAIM: &str = "\
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local known = redis.call('GET', KEYS[1])
if known then return {known, string.format('%.0f', now)} end
redis.call('SET', KEYS[1], ARGV[1] .. string.format('%.0f', now + ARGV[2]), 'PX', ARGV[3])
return false";

/// The same without claiming.
const LOOK: &str = "\
local t = redis.call('TIME')
local known = redis.call('GET', KEYS[1])
if known then return {known, string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))} end
return false";

/// Claims a key from an attempt that nobody carries out any more.
const TAKE_OVER: &str = "\
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local known = redis.call('GET', KEYS[1])
if known and string.sub(known, 1, #ARGV[1]) == ARGV[1] then return 1 end
if known ~= ARGV[4] then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. string.format('%.0f', now + ARGV[2]), 'PX', ARGV[3])
return 1";

/// Ends an own attempt with a record.
const KEEP: &str = "\
local known = redis.call('GET', KEYS[1])
if known == ARGV[2] then return 1 end
if known and string.sub(known, 1, #ARGV[1]) == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  return 1
end
return 0";

/// Ends an own attempt that did nothing.
const RELEASE: &str = "\
local known = redis.call('GET', KEYS[1])
if known and string.sub(known, 1, #ARGV[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1";

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    Claim {
        begun: Vec<u8>,
        lease_ms: u64,
        retention_ms: u64,
    },
    Look,
    /// `known` is the record that the taker saw.
    TakeOver {
        begun: Vec<u8>,
        lease_ms: u64,
        retention_ms: u64,
        known: Vec<u8>,
    },
    Keep {
        begun: Vec<u8>,
        record: Vec<u8>,
        retention_ms: u64,
    },
    Release {
        begun: Vec<u8>,
    },
}

/// What the store says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    /// Done, or the key is free.
    Yes,
    /// The key is another attempt's.
    No,
    Known {
        bytes: Vec<u8>,
        now_ms: u64,
    },
    /// It was not carried out.
    NotDone,
    /// It may have been carried out.
    Unsure,
}

impl Ask {
    /// The command, its name and arguments, on `key`.
    pub fn words(&self, key: &[u8]) -> Vec<Vec<u8>> {
        let number = |number: &u64| number.to_string().into_bytes();
        let (name, script, arguments) = match self {
            Ask::Claim { begun, lease_ms, retention_ms } => {
                ("EVAL", CLAIM, vec![begun.clone(), number(lease_ms), number(retention_ms)])
            }
            Ask::Look => ("EVAL_RO", LOOK, Vec::new()),
            Ask::TakeOver { begun, lease_ms, retention_ms, known } => (
                "EVAL",
                TAKE_OVER,
                vec![begun.clone(), number(lease_ms), number(retention_ms), known.clone()],
            ),
            Ask::Keep { begun, record, retention_ms } => {
                ("EVAL", KEEP, vec![begun.clone(), record.clone(), number(retention_ms)])
            }
            Ask::Release { begun } => ("EVAL", RELEASE, vec![begun.clone()]),
        };
        let head = [name.as_bytes(), script.as_bytes(), b"1", key];
        head.iter().map(|word| word.to_vec()).chain(arguments).collect()
    }
}

impl Told {
    /// What the store's reply says, whole and in RESP3.
    pub fn of(reply: &[u8]) -> Told {
        let Ok(Some((value, _))) = Value::parse(reply) else { return Told::Unsure };
        if let Some(error) = value.as_error() {
            // Of all errors one leaves it open whether the command was carried out.
            return if error.starts_with(b"UNCERTAIN") { Told::Unsure } else { Told::NotDone };
        }
        match &value {
            Value::Int(1) => Told::Yes,
            Value::Int(_) => Told::No,
            value if value.is_null() => Told::Yes,
            Value::Array(parts) => match &parts[..] {
                [known, now] => {
                    let number = now.as_bytes().and_then(|now| std::str::from_utf8(now).ok()?.parse().ok());
                    match (known.as_bytes(), number) {
                        (Some(bytes), Some(now_ms)) => Told::Known { bytes: bytes.to_vec(), now_ms },
                        _ => Told::Unsure,
                    }
                }
                _ => Told::Unsure,
            },
            _ => Told::Unsure,
        }
    }
}

/// True if the bytes are an attempt of this token.
pub(super) fn is_own(record: &Record, token: &Token) -> bool {
    matches!(record, Record::Begun { token: known, .. } if known == token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_told_apart() {
        for (reply, told) in [
            (&b"_\r\n"[..], Told::Yes),
            (b"$-1\r\n", Told::Yes),
            (b":1\r\n", Told::Yes),
            (b":0\r\n", Told::No),
            (b"*2\r\n$1\r\na\r\n$2\r\n12\r\n", Told::Known { bytes: b"a".to_vec(), now_ms: 12 }),
            (b"-TRYAGAIN there is no leader\r\n", Told::NotDone),
            (b"-OOM command not allowed\r\n", Told::NotDone),
            (b"-UNCERTAIN the leader was lost\r\n", Told::Unsure),
            (b"+half", Told::Unsure),
            (b"", Told::Unsure),
        ] {
            assert_eq!(Told::of(reply), told, "{}", String::from_utf8_lossy(reply));
        }
    }
}
