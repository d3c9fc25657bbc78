//! An independent, plain model of a few commands on keys that one client has to itself: what each reply must be, and what
//! must be there after a crash. Shares no code with the keyspace.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use skep_resp::Value as Reply;

pub type Words = Vec<Vec<u8>>;

/// A reply without the differences between the protocols.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Plain {
    Nil,
    Int(i64),
    Text(Vec<u8>),
    Error(Vec<u8>),
    List(Vec<Plain>),
}

impl Plain {
    pub fn of(reply: &Reply) -> Plain {
        let list = |values: &[Reply]| Plain::List(values.iter().map(Plain::of).collect());
        match reply {
            Reply::Int(n) => Plain::Int(*n),
            Reply::Bool(b) => Plain::Int(i64::from(*b)),
            Reply::Double(x) => text(&format!("{x}")),
            Reply::Simple(t) | Reply::Bulk(t) | Reply::Verbatim(_, t) | Reply::BigNumber(t) => {
                Plain::Text(t.clone())
            }
            Reply::Error(t) | Reply::BulkError(t) => Plain::Error(t.clone()),
            Reply::Array(v) | Reply::Set(v) | Reply::Push(v) => list(v),
            Reply::Map(pairs) => {
                Plain::List(pairs.iter().flat_map(|(k, v)| [Plain::of(k), Plain::of(v)]).collect())
            }
            Reply::Attributed(_, value) => Plain::of(value),
            Reply::NullBulk | Reply::NullArray | Reply::Null => Plain::Nil,
        }
    }

    /// The text of an error that says that nothing was done and the client may try again.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Plain::Error(t) if t.starts_with(b"TRYAGAIN") || t.starts_with(b"OOM") || t.starts_with(b"UNBLOCKED") || t.starts_with(b"EXECABORT"))
    }

    /// The text of an error that says that the command may or may not be carried out.
    pub fn is_uncertain(&self) -> bool {
        matches!(self, Plain::Error(t) if t.starts_with(b"UNCERTAIN"))
    }

    /// The list's elements sorted by groups of `group`, for replies without an order.
    fn sorted(self, group: usize) -> Plain {
        let Plain::List(elements) = self else { return self };
        let mut groups: Vec<_> = elements.chunks(group).map(<[Plain]>::to_vec).collect();
        groups.sort();
        Plain::List(groups.concat())
    }
}

fn text(t: &str) -> Plain {
    Plain::Text(t.as_bytes().to_vec())
}

fn bytes(t: &[u8]) -> Plain {
    Plain::Text(t.to_vec())
}

fn len(n: usize) -> Plain {
    Plain::Int(n as i64)
}

fn int(word: &[u8]) -> i64 {
    std::str::from_utf8(word).ok().and_then(|t| t.parse().ok()).expect("the workload writes numbers here")
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Held {
    Str(Vec<u8>),
    List(VecDeque<Vec<u8>>),
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
    Set(BTreeSet<Vec<u8>>),
    Sorted(BTreeMap<Vec<u8>, i64>),
}

/// The keys of one client.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Model {
    keys: BTreeMap<Vec<u8>, Held>,
}

impl Model {
    /// Checks the reply to a command against what it must be, and carries the command out.
    pub fn observe(&mut self, words: &Words, reply: &Plain) -> Result<(), String> {
        if words[0] == b"SPOP" {
            return self.observe_spop(words, reply);
        }
        let expected = self.apply(words);
        let matches = match &words[0][..] {
            b"HGETALL" => reply.clone().sorted(2) == expected.clone().sorted(2),
            b"SMEMBERS" => reply.clone().sorted(1) == expected.clone().sorted(1),
            _ => *reply == expected,
        };
        if matches {
            Ok(())
        } else {
            Err(format!("{} was answered {reply:?}, not {expected:?}", show(words)))
        }
    }

    /// The states that an unanswered command may have led to if it was carried out.
    pub fn outcomes(&self, words: &Words) -> Vec<Model> {
        let mut after = self.clone();
        if words[0] != b"SPOP" {
            after.apply(words);
            return vec![after];
        }
        let Some(Held::Set(members)) = self.keys.get(&words[1]) else { return vec![after] };
        let popped = |member: &Vec<u8>| {
            let mut after = self.clone();
            after.set(&words[1]).remove(member);
            after.tidy(&words[1]);
            after
        };
        members.iter().map(popped).collect()
    }

    fn observe_spop(&mut self, words: &Words, reply: &Plain) -> Result<(), String> {
        let key = &words[1];
        let set = self.set(key);
        let fine = match reply {
            Plain::Nil => set.is_empty(),
            Plain::Text(member) => set.remove(member),
            _ => false,
        };
        let left = set.len();
        self.tidy(key);
        if fine { Ok(()) } else { Err(format!("{} was answered {reply:?}; {left} members", show(words))) }
    }

    /// Carries out a command whose effect is not random, and gives its reply.
    fn apply(&mut self, words: &Words) -> Plain {
        let name = std::str::from_utf8(&words[0]).expect("commands are ASCII");
        if matches!(name, "DEL" | "EXISTS") {
            return self.apply_to_many(name, &words[1..]);
        }
        if name == "MSET" {
            for pair in words[1..].chunks(2) {
                self.keys.insert(pair[0].clone(), Held::Str(pair[1].clone()));
            }
            return text("OK");
        }
        let (key, rest) = (&words[1], &words[2..]);
        let reply = match name {
            "SET" | "GET" | "APPEND" | "STRLEN" | "SETRANGE" | "GETDEL" | "GETSET" | "INCR" | "INCRBY" => {
                self.apply_string(name, key, rest)
            }
            "RPUSH" | "LPUSH" | "LPOP" | "RPOP" | "LLEN" | "LRANGE" | "LTRIM" => {
                self.apply_list(name, key, rest)
            }
            "LMOVE" | "RENAME" => self.apply_to_two(name, key, rest),
            "HSET" | "HDEL" | "HGETALL" | "HINCRBY" => self.apply_hash(name, key, rest),
            "SADD" | "SREM" | "SMEMBERS" | "SCARD" => self.apply_set(name, key, rest),
            "ZADD" | "ZREM" | "ZRANGE" | "ZINCRBY" | "ZMSCORE" => self.apply_sorted(name, key, rest),
            _ => panic!("the model does not know {name}"),
        };
        self.tidy(key);
        reply
    }

    fn apply_to_many(&mut self, name: &str, keys: &[Vec<u8>]) -> Plain {
        let found = match name {
            "DEL" => keys.iter().filter(|k| self.keys.remove(*k).is_some()).count(),
            _ => keys.iter().filter(|k| self.keys.contains_key(*k)).count(),
        };
        len(found)
    }

    fn apply_string(&mut self, name: &str, key: &[u8], rest: &[Vec<u8>]) -> Plain {
        if let "GETDEL" | "GET" = name {
            let found = match self.keys.get(key) {
                Some(Held::Str(value)) => bytes(value),
                _ => Plain::Nil,
            };
            if name == "GETDEL" {
                self.keys.remove(key);
            }
            return found;
        }
        let existed = self.keys.contains_key(key);
        let value = self.string(key);
        match name {
            "SET" => {
                value.clone_from(&rest[0]);
                text("OK")
            }
            "GETSET" => {
                let old = std::mem::replace(value, rest[0].clone());
                if existed { Plain::Text(old) } else { Plain::Nil }
            }
            "APPEND" => {
                value.extend_from_slice(&rest[0]);
                len(value.len())
            }
            "SETRANGE" => {
                let (at, part) = (int(&rest[0]) as usize, &rest[1]);
                value.resize(value.len().max(at + part.len()), 0);
                value[at..at + part.len()].copy_from_slice(part);
                len(value.len())
            }
            "STRLEN" => {
                let n = value.len();
                if !existed {
                    self.keys.remove(key);
                }
                len(n)
            }
            _ => {
                let by = rest.first().map_or(1, |w| int(w));
                let sum = if existed { int(value) } else { 0 } + by;
                *value = sum.to_string().into_bytes();
                Plain::Int(sum)
            }
        }
    }

    fn apply_list(&mut self, name: &str, key: &[u8], rest: &[Vec<u8>]) -> Plain {
        let list = self.list(key);
        match name {
            "RPUSH" => list.extend(rest.iter().cloned()),
            "LPUSH" => rest.iter().for_each(|v| list.push_front(v.clone())),
            "LPOP" => return list.pop_front().map_or(Plain::Nil, Plain::Text),
            "RPOP" => return list.pop_back().map_or(Plain::Nil, Plain::Text),
            "LRANGE" => return Plain::List(list.iter().map(|v| bytes(v)).collect()),
            "LTRIM" => {
                // Always from 0 to a small index: that is all the workload asks for.
                list.truncate(int(&rest[1]) as usize + 1);
                return text("OK");
            }
            _ => {}
        }
        len(list.len())
    }

    fn apply_to_two(&mut self, name: &str, key: &[u8], rest: &[Vec<u8>]) -> Plain {
        if name == "RENAME" {
            return match self.keys.remove(key) {
                Some(held) => {
                    self.keys.insert(rest[0].clone(), held);
                    text("OK")
                }
                None => Plain::Error(b"ERR no such key".to_vec()),
            };
        }
        let Some(value) = self.list(key).pop_front() else { return Plain::Nil };
        self.tidy(key);
        self.list(&rest[0]).push_back(value.clone());
        Plain::Text(value)
    }

    fn apply_hash(&mut self, name: &str, key: &[u8], rest: &[Vec<u8>]) -> Plain {
        let hash = self.hash(key);
        match name {
            "HSET" => len(usize::from(hash.insert(rest[0].clone(), rest[1].clone()).is_none())),
            "HDEL" => len(usize::from(hash.remove(&rest[0]).is_some())),
            "HINCRBY" => {
                let sum = hash.get(&rest[0]).map_or(0, |v| int(v)) + int(&rest[1]);
                hash.insert(rest[0].clone(), sum.to_string().into_bytes());
                Plain::Int(sum)
            }
            _ => Plain::List(hash.iter().flat_map(|(k, v)| [bytes(k), bytes(v)]).collect()),
        }
    }

    fn apply_set(&mut self, name: &str, key: &[u8], rest: &[Vec<u8>]) -> Plain {
        let set = self.set(key);
        match name {
            "SADD" => len(rest.iter().filter(|m| set.insert((*m).clone())).count()),
            "SREM" => len(rest.iter().filter(|m| set.remove(*m)).count()),
            "SCARD" => len(set.len()),
            _ => Plain::List(set.iter().map(|m| bytes(m)).collect()),
        }
    }

    fn apply_sorted(&mut self, name: &str, key: &[u8], rest: &[Vec<u8>]) -> Plain {
        let Held::Sorted(sorted) = self.keys.entry(key.to_vec()).or_insert(Held::Sorted(BTreeMap::new()))
        else {
            panic!("{key:?} holds another type");
        };
        match name {
            "ZADD" => len(usize::from(sorted.insert(rest[1].clone(), int(&rest[0])).is_none())),
            "ZREM" => len(usize::from(sorted.remove(&rest[0]).is_some())),
            "ZINCRBY" => {
                let score = sorted.entry(rest[1].clone()).or_default();
                *score += int(&rest[0]);
                text(&score.to_string())
            }
            "ZMSCORE" => {
                let score = |member| sorted.get(member).map_or(Plain::Nil, |score| text(&score.to_string()));
                Plain::List(rest.iter().map(score).collect())
            }
            _ => {
                let mut order: Vec<_> = sorted.iter().map(|(member, score)| (*score, member)).collect();
                order.sort();
                Plain::List(order.iter().map(|(_, member)| bytes(member)).collect())
            }
        }
    }

    /// Empty collections vanish.
    fn tidy(&mut self, key: &[u8]) {
        let empty = match self.keys.get(key) {
            None | Some(Held::Str(_)) => false,
            Some(Held::List(l)) => l.is_empty(),
            Some(Held::Hash(h)) => h.is_empty(),
            Some(Held::Set(s)) => s.is_empty(),
            Some(Held::Sorted(z)) => z.is_empty(),
        };
        if empty {
            self.keys.remove(key);
        }
    }

    fn string(&mut self, key: &[u8]) -> &mut Vec<u8> {
        let held = self.keys.entry(key.to_vec()).or_insert(Held::Str(Vec::new()));
        if let Held::Str(value) = held { value } else { panic!("{key:?} holds another type") }
    }

    fn list(&mut self, key: &[u8]) -> &mut VecDeque<Vec<u8>> {
        let held = self.keys.entry(key.to_vec()).or_insert(Held::List(VecDeque::new()));
        if let Held::List(list) = held { list } else { panic!("{key:?} holds another type") }
    }

    fn hash(&mut self, key: &[u8]) -> &mut BTreeMap<Vec<u8>, Vec<u8>> {
        let held = self.keys.entry(key.to_vec()).or_insert(Held::Hash(BTreeMap::new()));
        if let Held::Hash(hash) = held { hash } else { panic!("{key:?} holds another type") }
    }

    fn set(&mut self, key: &[u8]) -> &mut BTreeSet<Vec<u8>> {
        let held = self.keys.entry(key.to_vec()).or_insert(Held::Set(BTreeSet::new()));
        if let Held::Set(set) = held { set } else { panic!("{key:?} holds another type") }
    }
}

/// A command as text.
pub fn show(words: &[Vec<u8>]) -> String {
    let shown = words.iter().map(|w| match w.len() {
        0..=40 => String::from_utf8_lossy(w).into_owned(),
        n => format!("{}...({n} bytes)", String::from_utf8_lossy(&w[..30])),
    });
    shown.collect::<Vec<_>>().join(" ")
}
