//! Arguments of the commands on queues.

use std::sync::Arc;

use skep_base::{Args, Millis, Refusal, number};

use crate::small::SmallBytes;
use crate::types::queue::{Backoff, NewJob, Options, PRIORITY_DEFAULT, PRIORITY_MAX};

/// The longest id, name of a worker, group or schedule, and word of DEDUP: each is kept in memory with its job.
const NAME_BYTES_MAX: usize = 256;
/// The longest span of time and the latest instant, in milliseconds: the year 4199, as for fields of hashes.
const MS_MAX: u64 = (1 << 46) - 1;

/// Ids that are words of commands with ids.
const RESERVED: [&str; 5] = ["all", "from", "to", "worker", "result"];

/// A name of 1 to 256 bytes; `what` it is for the refusal.
pub fn name<'a>(arg: &'a [u8], what: &str) -> Result<&'a [u8], Refusal> {
    if (1..=NAME_BYTES_MAX).contains(&arg.len()) {
        return Ok(arg);
    }
    let text = format!("ERR {what} is {} bytes, 1 to {NAME_BYTES_MAX} are allowed", arg.len());
    Err(Refusal::format(text))
}

/// The id of a job to be added.
fn id(arg: &[u8]) -> Result<&[u8], Refusal> {
    if RESERVED.iter().any(|word| arg.eq_ignore_ascii_case(word.as_bytes())) {
        let text =
            format!("ERR '{}' cannot be an id, it is a word of commands", String::from_utf8_lossy(arg));
        return Err(Refusal::format(text));
    }
    name(arg, "the id")
}

/// A whole number of `min..=max` behind the word `what`.
pub fn whole(arg: &[u8], min: u64, max: u64, what: &str) -> Result<u64, Refusal> {
    match number::parse_u64(arg) {
        Some(value) if (min..=max).contains(&value) => Ok(value),
        _ => {
            let given = String::from_utf8_lossy(&arg[..arg.len().min(32)]).into_owned();
            Err(Refusal::format(format!(
                "ERR {what} is '{given}', a whole number of {min} to {max} is needed"
            )))
        }
    }
}

/// A span of time in milliseconds.
pub fn span(arg: &[u8], min: u64, what: &str) -> Result<u64, Refusal> {
    whole(arg, min, MS_MAX, what)
}

/// A token of a lease.
pub fn token(arg: &[u8]) -> Result<u64, Refusal> {
    whole(arg, 0, u64::MAX, "the token")
}

/// Words with values, in any order.
pub struct Words<'a> {
    args: Args<'a>,
    at: usize,
}

impl<'a> Words<'a> {
    pub fn new(args: Args<'a>) -> Words<'a> {
        Words { args, at: 0 }
    }

    pub fn is_done(&self) -> bool {
        self.at >= self.args.len()
    }

    /// Passes over `word` if it comes next.
    pub fn word(&mut self, word: &str) -> bool {
        let is_next = self.args.is(self.at, word);
        self.at += usize::from(is_next);
        is_next
    }

    /// The value behind `word` if that comes next.
    pub fn value(&mut self, word: &str) -> Option<&'a [u8]> {
        let value = self.args.get(self.at + 1).filter(|_| self.args.is(self.at, word))?;
        self.at += 2;
        Some(value)
    }

    /// The next argument, whatever it is.
    pub fn plain(&mut self) -> Option<&'a [u8]> {
        let value = self.args.get(self.at)?;
        self.at += 1;
        Some(value)
    }

    /// A refusal that names the word that is not understood here.
    pub fn refuse<R>(&self) -> Result<R, Refusal> {
        let word = self.args.get(self.at).unwrap_or_default();
        let word = String::from_utf8_lossy(&word[..word.len().min(32)]).into_owned();
        Err(Refusal::format(format!("ERR syntax error at '{word}'")))
    }
}

/// The options of QADD.
pub struct Added<'a> {
    pub id: Option<&'a [u8]>,
    pub dedup: Option<(&'a [u8], u64)>,
    pub due: Option<Millis>,
    pub job: JobOptions,
}

/// Those of them that a schedule may have too.
pub struct JobOptions {
    pub priority: u8,
    options: Options,
}

impl Default for JobOptions {
    fn default() -> JobOptions {
        JobOptions { priority: PRIORITY_DEFAULT, options: Options::default() }
    }
}

impl JobOptions {
    /// Takes the option that comes next; false if it is another.
    pub fn take(&mut self, words: &mut Words<'_>) -> Result<bool, Refusal> {
        let options = &mut self.options;
        if let Some(value) = words.value("prio") {
            self.priority = whole(value, 0, u64::from(PRIORITY_MAX), "PRIO")? as u8;
        } else if let Some(value) = words.value("group") {
            options.group = Some(SmallBytes::new(name(value, "GROUP")?));
        } else if let Some(value) = words.value("lease") {
            options.lease_ms = Some(span(value, 1, "LEASE")?);
        } else if let Some(value) = words.value("tries") {
            options.tries = Some(tries(value)?);
        } else if let Some(value) = words.value("backoff") {
            options.backoff = Some(backoff(value, words)?);
        } else if let Some(value) = words.value("ttl") {
            options.ttl_ms = Some(span(value, 1, "TTL")?);
        } else if let Some(value) = words.value("keep") {
            options.keep_ms = Some(span(value, 0, "KEEP")?);
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// `None` if the job has nothing of its own.
    pub fn shared(self) -> Option<Arc<Options>> {
        (self.options != Options::default()).then(|| Arc::new(self.options))
    }
}

/// 0 for no limit.
pub fn tries(value: &[u8]) -> Result<u32, Refusal> {
    Ok(whole(value, 0, u64::from(u32::MAX), "TRIES")? as u32)
}

/// `BACKOFF value [MAX ms]`
pub fn backoff(value: &[u8], words: &mut Words<'_>) -> Result<Backoff, Refusal> {
    /// An hour.
    const MAX_DEFAULT_MS: u64 = 3_600_000;
    let first_ms = span(value, 0, "BACKOFF")?;
    let max_ms = match words.value("max") {
        Some(value) => span(value, first_ms, "MAX")?,
        None => first_ms.max(MAX_DEFAULT_MS),
    };
    Ok(Backoff { first_ms, max_ms })
}

impl<'a> Added<'a> {
    pub fn parse(args: Args<'a>, now: Millis) -> Result<Added<'a>, Refusal> {
        let mut added = Added { id: None, dedup: None, due: None, job: JobOptions::default() };
        let mut words = Words::new(args);
        while !words.is_done() {
            if added.job.take(&mut words)? {
                continue;
            }
            if let Some(value) = words.value("id") {
                added.id = Some(id(value)?);
            } else if added.due.is_none()
                && let Some(value) = words.value("delay")
            {
                added.due = Some(now.plus(span(value, 0, "DELAY")?));
            } else if added.due.is_none()
                && let Some(value) = words.value("at")
            {
                added.due = Some(Millis(span(value, 0, "AT")?));
            } else if let Some(word) = words.value("dedup") {
                let Some(ms) = words.plain() else { return Err(Refusal::Syntax) };
                added.dedup = Some((name(word, "the word of DEDUP")?, span(ms, 1, "DEDUP")?));
            } else {
                return words.refuse();
            }
        }
        Ok(added)
    }

    pub fn new_job<'p>(self, payload: &'p [u8]) -> NewJob<'p>
    where
        'a: 'p,
    {
        let Added { id, dedup, due, job } = self;
        let priority = job.priority;
        NewJob { id, payload, dedup, due, priority, options: job.shared() }
    }
}
