//! A queue whose jobs have a few tries, some of them not for long (`TTL`), are brought back when they are dead, and dropped.
//! What must be true of each when somebody is told of it, and of all at the end, when they are listed at one instant.

use std::collections::BTreeMap;

use skep_base::Rng;

use super::KEEP_MS;
use crate::model::{Plain, Words, show};
use crate::planted::Planted;

/// The queue.
pub const TRIED: &str = "j3";
/// Lists all of it at one instant, by state behind what `QINFO` says.
pub const LIST_TRIED: &str = "#!lua flags=no-writes\n\
     local all = {redis.call('QINFO', KEYS[1])} \
     for _, state in ipairs({'READY', 'DELAYED', 'LEASED', 'DEAD', 'DONE'}) do \
     all[#all + 1] = redis.call('QLIST', KEYS[1], state, 'COUNT', '1000')[2] end return all";

/// Everything known of its jobs.
#[derive(Default)]
pub struct Tries {
    jobs: BTreeMap<Vec<u8>, Tried>,
    /// Redos of all that are dead.
    redos: Vec<Span>,
    /// How many may have been dropped.
    dropped: i64,
    /// For a planted bug: somebody brings the dead back whom nobody asked.
    revives: bool,
}

/// When a command was sent and when it was answered, if ever.
type Span = (u64, u64);

#[derive(Default)]
struct Tried {
    tries: i64,
    ttl_ms: Option<i64>,
    /// The latest time that the queue can have shown when it was added.
    added_by: Option<i64>,
    /// Leases that somebody was told of.
    leases: i64,
    /// Those that somebody wanted not to count.
    frees: i64,
    redos: Vec<Span>,
    /// When it was told to be dead the last time.
    died: Option<Span>,
    is_killed: bool,
    is_dropped: bool,
    is_done: bool,
}

impl Tries {
    pub fn new(planted: Option<Planted>) -> Tries {
        Tries { revives: planted == Some(Planted::DeadRevived), ..Tries::default() }
    }

    /// What a job gets beside its id.
    pub fn options(rng: &mut Rng) -> Words {
        let mut line = format!("TRIES {} KEEP {KEEP_MS} BACKOFF {} MAX 50", 1 + rng.below(3), rng.below(30));
        if rng.one_in(3) {
            let ttl_ms = if rng.one_in(4) { KEEP_MS } else { 20 + rng.below(400) };
            line.push_str(&format!(" TTL {ttl_ms}"));
        }
        line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
    }

    /// Something that is done to jobs without a lease.
    pub fn next(&self, rng: &mut Rng) -> Words {
        let mut one = || {
            let back = rng.below(12) as usize % self.jobs.len().max(1);
            let id = self.jobs.keys().rev().nth(back);
            id.map_or("none".into(), |id| String::from_utf8_lossy(id).into_owned())
        };
        let (first, second) = (one(), one());
        let line = match rng.below(8) {
            0..2 => format!("QREDO {TRIED} ALL"),
            2 => format!("QREDO {TRIED} ALL FROM DEAD"),
            3..5 => format!("QREDO {TRIED} {first} FROM DEAD"),
            5 => format!("QREDO {TRIED} {first} {second} FROM DEAD"),
            6 => format!("QDROP {TRIED} {first}"),
            _ => format!("QDROP {TRIED} {first} {second}"),
        };
        line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
    }

    pub fn on_sent(&mut self, words: &Words, at: u64) {
        let after = |option: &[u8]| {
            let behind = words.iter().position(|word| word == option)? + 1;
            std::str::from_utf8(words.get(behind)?).ok()?.parse::<i64>().ok()
        };
        match &words[0][..] {
            b"QADD" => {
                let tries = after(b"TRIES").expect("all of them have one");
                let job = Tried { tries, ttl_ms: after(b"TTL"), ..Tried::default() };
                self.jobs.insert(words[2].clone(), job);
            }
            b"QFAIL" => {
                if let Some(job) = self.jobs.get_mut(&words[2]) {
                    job.frees += i64::from(words.iter().any(|word| word == b"FREE"));
                    job.is_killed |= words.iter().any(|word| word == b"DEAD");
                }
            }
            b"QREDO" if self.revives => {}
            b"QREDO" if words[2] == b"ALL" => self.redos.push((at, u64::MAX)),
            b"QREDO" => {
                for id in ids(words) {
                    self.jobs.get_mut(id).into_iter().for_each(|job| job.redos.push((at, u64::MAX)));
                }
            }
            b"QDROP" => {
                for id in ids(words) {
                    self.dropped += 1;
                    self.jobs.get_mut(id).into_iter().for_each(|job| job.is_dropped = true);
                }
            }
            _ => {}
        }
    }

    /// Takes note of a reply to what was sent at `since`; `wall_max` is the latest that a clock can show.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn on_reply(
        &mut self,
        words: &Words,
        (since, at): Span,
        wall_max: u64,
        reply: &Plain,
    ) -> Result<(), &'static str> {
        let end = |spans: &mut Vec<Span>| {
            let open = spans.iter_mut().find(|span| **span == (since, u64::MAX));
            open.into_iter().for_each(|span| span.1 = at);
        };
        match (&words[0][..], reply) {
            (b"QADD", _) => {
                if let Some(job) = self.jobs.get_mut(&words[2]) {
                    job.added_by.get_or_insert(wall_max as i64);
                }
            }
            (b"QREDO", Plain::Int(_)) if words[2] == b"ALL" => end(&mut self.redos),
            (b"QREDO", Plain::Int(count)) => {
                if !(0..=ids(words).len() as i64).contains(count) {
                    return Err("more were brought back than were named");
                }
                for id in ids(words) {
                    self.jobs.get_mut(id).into_iter().for_each(|job| end(&mut job.redos));
                }
            }
            (b"QDROP", Plain::Int(count)) if !(0..=ids(words).len() as i64).contains(count) => {
                return Err("more were dropped than were named");
            }
            (b"QFAIL", Plain::Text(fate)) => {
                let job = self.jobs.get_mut(&words[2]).ok_or("a job that nobody added")?;
                match &fate[..] {
                    b"dead" => job.died = job.died.max(Some((since, at))),
                    b"expired" if job.ttl_ms.is_some() => {}
                    _ => return Err("an unexpected fate"),
                }
            }
            (b"QFAIL", Plain::Int(_)) if words.iter().any(|word| word == b"DEAD") => {
                return Err("a job is to be tried again that was to be dead");
            }
            (b"QACK", Plain::Int(1)) => {
                self.jobs.get_mut(&words[2]).into_iter().for_each(|job| job.is_done = true);
            }
            // It may be gone.
            (b"QACK" | b"QFAIL" | b"QBEAT", Plain::Error(error))
                if error.starts_with(b"NOJOB")
                    && self
                        .jobs
                        .get(&words[2])
                        .is_some_and(|job| !job.is_dropped && job.ttl_ms.is_none()) =>
            {
                return Err("a job was lost");
            }
            _ => {}
        }
        Ok(())
    }

    /// Somebody is told of a lease that was given at `taken`, by the time of the queue.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn on_lease(&mut self, id: &[u8], attempt: i64, taken: i64, (since, at): Span) -> Result<(), String> {
        let job = self.jobs.get_mut(id).ok_or("a job that nobody added")?;
        let redos = || job.redos.iter().chain(&self.redos).filter(|redo| redo.0 <= at);
        job.leases += 1;
        let most = job.tries * (1 + redos().count() as i64) + job.frees;
        if !(1..=job.tries).contains(&attempt) || job.leases > most {
            return Err(format!(
                "attempt {attempt} and lease {} of a job with {} tries, at most {most}",
                job.leases, job.tries
            ));
        }
        if let Some((began, told)) = job.died.filter(|died| died.1 < since)
            && !redos().any(|redo| redo.1 >= began)
        {
            return Err(format!("a job was handed out after it was told to be dead, in {began} to {told}"));
        }
        if let (Some(ttl_ms), Some(added_by)) = (job.ttl_ms, job.added_by)
            && taken > added_by + ttl_ms
            && redos().next().is_none()
        {
            return Err(format!(
                "a job was handed out at {taken} that was to be taken by {added_by} + {ttl_ms}"
            ));
        }
        Ok(())
    }

    /// Compares what the queue holds at the end, by [`LIST_TRIED`], with what is known.
    ///
    /// # Errors
    /// What does not fit.
    pub fn audit(&self, told: &[Plain]) -> Result<(), String> {
        let strange = || format!("INV-SIM-27: {TRIED} says of itself {told:?}");
        let [Plain::List(info), states @ ..] = told else { return Err(strange()) };
        let mut there = BTreeMap::new();
        for (state, jobs) in ["ready", "delayed", "leased", "dead", "done"].into_iter().zip(states) {
            let Plain::List(jobs) = jobs else { return Err(strange()) };
            for job in jobs {
                let Plain::List(fields) = job else { return Err(strange()) };
                let (Some(Plain::Text(id)), Some(Plain::Int(attempt))) =
                    (super::field(fields, "id"), super::field(fields, "attempt"))
                else {
                    return Err(strange());
                };
                if there.insert(id, (state, *attempt)).is_some() {
                    return Err(format!("INV-SIM-27: {} is in two states", show(std::slice::from_ref(id))));
                }
            }
        }
        let number = |name| super::number(info, name).map(|n| n as i64).ok_or_else(strange);
        let gone = number("added")? - number("expired")? - there.len() as i64;
        // A queue that was empty in between has begun to count anew.
        if !(0..=self.dropped).contains(&gone) {
            return Err(format!(
                "INV-SIM-27: {gone} jobs of {TRIED} are gone, {} at the most were dropped",
                self.dropped
            ));
        }
        for (id, job) in &self.jobs {
            let found = there.remove(id);
            self.compare(job, found).map_err(|why| {
                format!("INV-SIM-27: {} of {TRIED} {why}: {found:?}", show(std::slice::from_ref(id)))
            })?;
        }
        match there.keys().next() {
            Some(id) => {
                Err(format!("INV-SIM-27: nobody added {} to {TRIED}", show(std::slice::from_ref(*id))))
            }
            None => Ok(()),
        }
    }

    /// Compares one job with where it stands at the end.
    fn compare(&self, job: &Tried, found: Option<(&str, i64)>) -> Result<(), &'static str> {
        let lives_long = job.ttl_ms.is_none_or(|ttl_ms| ttl_ms >= KEEP_MS as i64);
        let Some((state, attempt)) = found else {
            let is_missing = job.added_by.is_some() && lives_long && !job.is_dropped;
            return if is_missing { Err("is missing") } else { Ok(()) };
        };
        let redos = || job.redos.iter().chain(&self.redos);
        if job.is_done != (state == "done") && (job.is_done || job.leases == 0) {
            return Err("was acknowledged, or was not");
        }
        if state == "dead" && attempt < job.tries && !job.is_killed {
            return Err("died with tries left");
        }
        if let Some((began, _)) = job.died
            && state != "dead"
            && !redos().any(|redo| redo.1 >= began)
        {
            return Err("was told to be dead");
        }
        if attempt > job.tries {
            return Err("was tried too often");
        }
        Ok(())
    }
}

/// The jobs that a command names.
fn ids(words: &Words) -> &[Vec<u8>] {
    let end = words.iter().position(|word| word == b"FROM").unwrap_or(words.len());
    &words[2..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Words {
        line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
    }

    /// A job with two tries that may be taken until 150, by the time of its queue.
    fn added() -> Tries {
        let (mut tries, add) = (Tries::default(), words("QADD j3 x ID x TRIES 2 TTL 50"));
        tries.on_sent(&add, 1);
        tries.on_reply(&add, (1, 2), 100, &Plain::List(Vec::new())).unwrap();
        tries
    }

    #[test]
    fn a_job_is_not_handed_out_more_often_than_it_has_tries_nor_after_its_time() {
        let mut tries = added();
        assert!(tries.on_lease(b"x", 3, 110, (3, 4)).is_err());
        let mut tries = added();
        tries.on_lease(b"x", 1, 110, (3, 4)).unwrap();
        tries.on_lease(b"x", 2, 150, (5, 6)).unwrap();
        assert!(tries.on_lease(b"x", 2, 150, (7, 8)).is_err());
        assert!(added().on_lease(b"x", 1, 151, (3, 4)).is_err());
    }

    #[test]
    fn the_dead_are_not_handed_out_until_they_are_brought_back() {
        let died = || {
            let (mut tries, fail) = (added(), words("QFAIL j3 x 7 DEAD"));
            tries.on_sent(&fail, 10);
            tries.on_reply(&fail, (10, 20), 0, &Plain::Text(b"dead".to_vec())).unwrap();
            tries
        };
        assert!(died().on_lease(b"x", 1, 110, (21, 30)).is_err());
        assert!(died().on_lease(b"x", 1, 110, (19, 30)).is_ok(), "asked for before that was answered");
        let mut tries = died();
        tries.on_sent(&words("QREDO j3 ALL"), 25);
        assert!(tries.on_lease(b"x", 1, 110, (21, 30)).is_ok());
    }

    #[test]
    fn what_is_missing_at_the_end_or_died_too_soon_is_found() {
        let text = |text: &str| Plain::Text(text.as_bytes().to_vec());
        let audit = |line: &str, state: usize, attempt: i64| {
            let mut tries = Tries::default();
            tries.on_sent(&words(line), 1);
            tries.on_reply(&words(line), (1, 2), 100, &Plain::List(Vec::new())).unwrap();
            let info = [text("added"), Plain::Int(1), text("expired"), Plain::Int(i64::from(state > 4))];
            let job = [text("id"), text("x"), text("attempt"), Plain::Int(attempt)];
            let mut told = vec![Plain::List(info.to_vec())];
            told.extend((0..5).map(|at| match at == state {
                true => Plain::List(vec![Plain::List(job.to_vec())]),
                false => Plain::List(Vec::new()),
            }));
            tries.audit(&told).is_ok()
        };
        assert!(audit("QADD j3 x ID x TRIES 2", 0, 0));
        assert!(!audit("QADD j3 x ID x TRIES 2", 5, 0), "it is missing");
        assert!(audit("QADD j3 x ID x TRIES 2 TTL 50", 5, 0));
        assert!(audit("QADD j3 x ID x TRIES 2", 3, 2));
        assert!(!audit("QADD j3 x ID x TRIES 2", 3, 1), "it died with a try left");
        assert!(!audit("QADD j3 x ID x TRIES 2", 4, 1), "nobody acknowledged it");
    }
}
