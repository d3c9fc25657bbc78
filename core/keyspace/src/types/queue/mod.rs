//! A queue of jobs that are leased to workers.
//!
//! A job is added, taken under a lease, and acknowledged; a lease that ends gives the job to another worker. Each take has a
//! token greater than any before, and only the newest one counts. All that happens by itself (leases, delays and lifetimes
//! that end, ticks of schedules) happens in [`Queue::settle`], by the stamp of an entry.
//!
//! Invariants: INV-QUEUE-1 to 7 of DESIGN.md.

mod codec;
mod job;
mod jobs;
#[cfg(test)]
mod model;
mod numbers;
mod orders;
mod rate;
mod schedule;
mod settings;
mod settle;

use std::ops::Bound;
use std::sync::Arc;

use skep_base::{Millis, number};

pub use job::{Backoff, Failure, Job, Options, PRIORITY_DEFAULT, PRIORITY_MAX, Run, State};
pub use numbers::{Numbers, RESTORED_MAX};
pub use rate::Rate;
pub use schedule::{Next, SCHEDULES_MAX, Schedule, TEXT_BYTES_MAX};
pub use settings::{Count, Settings, Totals};
pub use settle::Settled;

use self::jobs::Jobs;
use self::orders::{Orders, keys_of_priority, number_of};
use self::rate::Window;
use crate::db::NEVER;
use crate::dense::DenseMap;
use crate::small::SmallBytes;
use crate::types::Hash;
use crate::value::sampled_heap_bytes;

/// Jobs with their orders, the memory of what was added lately, schedules and settings.
#[derive(Clone, Default)]
pub struct Queue {
    jobs: Jobs,
    /// Ids of jobs by the words of DEDUP, until the end of their windows.
    memory: Hash,
    schedules: DenseMap<Schedule>,
    settings: Settings,
    window: Window,
    totals: Totals,
    orders: Orders,
    /// The earliest tick of a schedule that is known. Follows from the schedules.
    next_tick: Option<Millis>,
    /// Schedules whose next tick the leader is to say. Follows from the schedules.
    wanted: usize,
}

/// A job to be added.
pub struct NewJob<'a> {
    /// `None` for one that the queue chooses.
    pub id: Option<&'a [u8]>,
    pub payload: &'a [u8],
    /// A word under which nothing else is added for so many milliseconds.
    pub dedup: Option<(&'a [u8], u64)>,
    /// When it becomes ready, if not at once.
    pub due: Option<Millis>,
    pub priority: u8,
    pub options: Option<Arc<Options>>,
}

/// The queue holds as many jobs as QSET MAXLEN allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full {
    pub jobs: u64,
    pub max: u64,
}

/// Why a lease is not what its holder believes; nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeaseError {
    /// There is no such job: it was never added, or is done and forgotten.
    NoJob,
    /// The lease has ended, or the job was taken again.
    Stale,
}

/// What to do with a job whose attempt came to nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failed {
    /// It is tried again, after the backoff or this pause.
    Retry(Option<u64>),
    /// It is not tried again.
    Die,
    /// The attempt does not count; it may be taken again after this pause.
    Free(u64),
}

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It may be taken again from this instant on.
    Again(Millis),
    Dead,
    /// It was not taken in the time it had, and is gone.
    Expired,
}

impl Queue {
    /// Adds a job, and gives its id and whether it is new: a job with that id, or one added under the same word of DEDUP,
    /// is given back as it is (INV-QUEUE-6).
    ///
    /// # Errors
    /// [`Full`]; the queue is unchanged.
    ///
    /// Cost: O(log n).
    pub fn add(
        &mut self,
        new: &NewJob<'_>,
        now: Millis,
        numbers: &mut Numbers,
    ) -> Result<(SmallBytes, bool), Full> {
        if let Some(id) = new.id.filter(|id| self.jobs.position(id).is_some()) {
            return Ok((SmallBytes::new(id), false));
        }
        if let Some(id) = new.dedup.and_then(|(word, _)| self.memory.get(word, now)) {
            return Ok((id.clone(), false));
        }
        let max = self.settings.max_len;
        if max > 0 && self.unfinished() >= max {
            return Err(Full { jobs: self.unfinished(), max });
        }
        let id = self.insert_new(new, now, numbers);
        if let Some((word, window_ms)) = new.dedup {
            self.memory.set(word, id.clone(), now.plus(window_ms));
        }
        Ok((id, true))
    }

    /// Hands out the first job that may be taken, as a lease of `worker` (empty: of nobody named). `None` if there is none,
    /// or a limit is reached, or the queue is paused (INV-QUEUE-5).
    ///
    /// Cost: O(log n).
    pub fn take(
        &mut self,
        worker: &[u8],
        lease_ms: Option<u64>,
        now: Millis,
        numbers: &mut Numbers,
    ) -> Option<&Job> {
        let Settings { limit, rate, paused, .. } = self.settings;
        if paused || limit > 0 && self.orders.leased.len() as u64 >= limit {
            return None;
        }
        let number = number_of(*self.orders.ready.first()?);
        if let Some(rate) = rate {
            if self.window.allowance(rate, now) == 0 {
                return None;
            }
            self.window.note(rate, now);
        }
        let at = self.jobs.find(number).expect("orders hold numbers of jobs");
        let lease_ms = lease_ms.unwrap_or_else(|| self.jobs.at(at).lease_ms(&self.settings));
        let token = numbers.next(now);
        self.change(at, |job| {
            job.state = State::Leased;
            job.started = true;
            job.attempt = job.attempt.saturating_add(1);
            job.deadline = now.plus(lease_ms);
            let run = job.run.get_or_insert_default();
            assert!(token > run.token, "INV-QUEUE-2: token {token} behind {}", run.token);
            run.token = token;
            run.worker = SmallBytes::new(worker);
            run.taken = now;
        });
        Some(self.jobs.at(at))
    }

    /// From when on a job may be taken, as far as the clock tells; `None` while there is none, or something else must happen.
    pub fn takes_from(&self) -> Option<Millis> {
        let Settings { limit, rate, paused, .. } = self.settings;
        let is_full = limit > 0 && self.orders.leased.len() as u64 >= limit;
        self.orders.ready.first().filter(|_| !paused && !is_full)?;
        Some(rate.map_or(Millis(0), |rate| self.window.free_from(rate)))
    }

    /// True if it takes every job and gives out each that is ready.
    pub fn is_unlimited(&self) -> bool {
        let Settings { rate, limit, max_len, paused, .. } = self.settings;
        rate.is_none() && limit == 0 && max_len == 0 && !paused
    }

    /// Marks a leased job as done, with a `result`. Acknowledging it again with the same token is no error while the job is
    /// remembered, so that a worker may repeat what was not answered.
    ///
    /// # Errors
    /// [`LeaseError`] (INV-QUEUE-3).
    pub fn acknowledge(
        &mut self,
        id: &[u8],
        token: u64,
        result: Option<&[u8]>,
        now: Millis,
    ) -> Result<(), LeaseError> {
        let at = self.jobs.position(id).ok_or(LeaseError::NoJob)?;
        let job = self.jobs.at(at);
        if job.state == State::Done && job.run.as_ref().is_some_and(|run| run.token == token) {
            return Ok(());
        }
        let at = self.leased(id, token, now)?;
        self.totals.note(Count::Done, now);
        let keep = self.jobs.at(at).keep_ms(&self.settings);
        if keep == 0 {
            self.remove(at);
            return Ok(());
        }
        self.change(at, |job| {
            job.state = State::Done;
            job.deadline = now.plus(keep);
            let run = job.run.as_mut().expect("it was leased");
            run.ended = now;
            run.result = result.map(Into::into);
        });
        Ok(())
    }

    /// Takes a leased job back from its worker.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub fn fail(
        &mut self,
        id: &[u8],
        token: u64,
        failed: Failed,
        text: &[u8],
        now: Millis,
    ) -> Result<Fate, LeaseError> {
        let at = self.leased(id, token, now)?;
        if let Failed::Free(pause) = failed {
            self.change(at, |job| job.attempt = job.attempt.saturating_sub(1));
            return Ok(self.again(at, pause, now));
        }
        self.totals.note(Count::Failed, now);
        self.change(at, |job| job.note_failure(now, text));
        let job = self.jobs.at(at);
        match failed {
            Failed::Retry(pause) if job.has_tries_left(&self.settings) => {
                let backoff = job.backoff(&self.settings).after(job.attempt);
                Ok(self.again(at, pause.unwrap_or(backoff), now))
            }
            _ => {
                self.die(at, now);
                Ok(Fate::Dead)
            }
        }
    }

    /// Prolongs a lease so that it ends no sooner than `ms` from now (by default the job's own length), and gives its end.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub fn beat(
        &mut self,
        id: &[u8],
        token: u64,
        ms: Option<u64>,
        now: Millis,
    ) -> Result<Millis, LeaseError> {
        let at = self.leased(id, token, now)?;
        Ok(self.prolong(at, ms, now))
    }

    /// Prolongs all leases of a worker, and gives their jobs. Cost: O(log n) for each.
    pub fn beat_worker(&mut self, worker: &[u8], ms: Option<u64>, now: Millis) -> Vec<&Job> {
        let numbers: Vec<u64> =
            self.orders.workers.get(&SmallBytes::new(worker)).into_iter().flatten().copied().collect();
        let mut held = Vec::with_capacity(numbers.len());
        for number in numbers {
            let at = self.jobs.find(number).expect("orders hold numbers of jobs");
            if self.jobs.at(at).deadline >= now {
                self.prolong(at, ms, now);
                held.push(number);
            }
        }
        held.into_iter().map(|number| self.jobs.of(number)).collect()
    }

    /// Makes a job that is dead or done ready, as if it had just been added, but in its old place. False if there is none.
    pub fn redo(&mut self, id: &[u8], now: Millis) -> bool {
        let Some(at) = self.jobs.position(id) else { return false };
        if !matches!(self.jobs.at(at).state, State::Dead | State::Done) {
            return false;
        }
        self.change(at, |job| {
            job.state = State::Ready;
            (job.attempt, job.started) = (0, false);
            job.added = now;
            job.deadline = job.life_end();
            let run = job.run.get_or_insert_default();
            run.result = None;
        });
        true
    }

    /// Takes a job that is dead or done out of the queue, to be put into another by [`Queue::put_back`].
    pub fn take_out(&mut self, id: &[u8]) -> Option<Job> {
        let at = self.jobs.position(id)?;
        matches!(self.jobs.at(at).state, State::Dead | State::Done).then(|| self.remove(at))
    }

    /// Adds a job of another queue as a new one. False if its id is there already; the job is lost then, so ask
    /// [`Queue::job`] before.
    pub fn put_back(&mut self, job: Job, now: Millis, numbers: &mut Numbers) -> bool {
        if self.jobs.position(&job.id).is_some() {
            return false;
        }
        let run = job.run.map(|run| Box::new(Run { failures: run.failures, ..Run::default() }));
        let number = numbers.next(now);
        let mut job = Job {
            number,
            state: State::Ready,
            attempt: 0,
            started: false,
            added: now,
            deadline: NEVER,
            run,
            ..job
        };
        job.deadline = job.life_end();
        self.insert(job);
        self.totals.note(Count::Added, now);
        true
    }

    /// Removes a job, whatever its state; a worker that has it finds that out. False if there is none.
    pub fn drop_job(&mut self, id: &[u8]) -> bool {
        let at = self.jobs.position(id);
        at.map(|at| self.remove(at)).is_some()
    }

    pub fn job(&self, id: &[u8]) -> Option<&Job> {
        self.jobs.position(id).map(|at| self.jobs.at(at))
    }

    /// All jobs, in the order of the checkpoint.
    pub(crate) fn jobs(&self) -> &DenseMap<Job> {
        self.jobs.map()
    }

    /// How many jobs are in a state. Cost: O(1).
    pub fn count(&self, state: State) -> usize {
        match self.orders.timed(state) {
            Some(order) => order.len(),
            None => {
                let others = State::ALL.iter().filter_map(|s| self.orders.timed(*s));
                self.jobs.len() - others.map(|order| order.len()).sum::<usize>()
            }
        }
    }

    /// Jobs of a state behind `cursor`, each with its own: ready ones in the order in which they will be taken, then those that
    /// wait for others of their group; the others by their deadline. Cost: O(log n) before the first.
    pub fn list<'a>(
        &'a self,
        state: State,
        cursor: Option<&Cursor>,
    ) -> Box<dyn Iterator<Item = (Cursor, &'a Job)> + 'a> {
        if let Some(order) = self.orders.timed(state) {
            let from = match cursor {
                Some(Cursor::Timed(at, number)) => Bound::Excluded((*at, *number)),
                _ => Bound::Unbounded,
            };
            let rows = order.range((from, Bound::Unbounded));
            return Box::new(rows.map(|(at, number)| (Cursor::Timed(*at, *number), self.jobs.of(*number))));
        }
        let (from, behind) = match cursor {
            Some(Cursor::Offered(key)) => (Bound::Excluded(*key), None),
            Some(Cursor::Waiting(number, group)) => {
                (Bound::Excluded(u64::MAX), Some((group.clone(), *number)))
            }
            _ => (Bound::Unbounded, None),
        };
        let offered = self.orders.ready.range((from, Bound::Unbounded));
        let offered = offered.map(|key| (Cursor::Offered(*key), self.jobs.of(number_of(*key))));
        let waiting = self
            .orders
            .waiting(behind)
            .map(|(group, number)| (Cursor::Waiting(number, group.clone()), self.jobs.of(number)));
        Box::new(offered.chain(waiting))
    }

    /// When the oldest job was added that may be taken.
    pub fn oldest_ready(&self) -> Option<Millis> {
        let firsts = (0..=PRIORITY_MAX).filter_map(|p| self.orders.ready.range(keys_of_priority(p)).next());
        firsts.map(|key| self.jobs.of(number_of(*key)).added).min()
    }

    /// Names of workers that hold leases.
    pub fn workers(&self) -> impl ExactSizeIterator<Item = (&SmallBytes, usize)> {
        self.orders.workers.iter().map(|(name, jobs)| (name, jobs.len()))
    }

    pub fn groups(&self) -> usize {
        self.orders.groups.len()
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Cost: O(groups) if the limit of groups changes.
    pub fn set_settings(&mut self, settings: Settings) {
        if settings.rate != self.settings.rate {
            self.window.clear();
        }
        if settings.group_limit != self.settings.group_limit {
            self.orders.set_group_limit(settings.group_limit);
        }
        self.settings = settings;
    }

    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The greatest number or token in the queue. Cost: O(n); for a queue that comes from elsewhere.
    pub fn newest(&self) -> u64 {
        let of_job = |job: &Job| job.number.max(job.run.as_ref().map_or(0, |run| run.token));
        let jobs = self.jobs.map().iter().map(of_job);
        jobs.chain(self.schedules.iter().map(|s| s.version)).max().unwrap_or(0)
    }

    /// Panics if jobs, orders and what follows from them disagree. Cost: O(n log n).
    pub fn assert_invariants(&self) {
        self.jobs.assert_invariants();
        self.memory.assert_invariants();
        self.schedules.assert_invariants();
        self.orders.assert_invariants(self.jobs.map().iter(), self.settings.group_limit);
        assert_eq!(self.ticks_known(), (self.next_tick, self.wanted), "ticks of schedules");
    }

    fn unfinished(&self) -> u64 {
        (self.jobs.len() - self.orders.dead.len() - self.orders.done.len()) as u64
    }

    /// Adds a job that is not there, past all limits.
    fn insert_new(&mut self, new: &NewJob<'_>, now: Millis, numbers: &mut Numbers) -> SmallBytes {
        let mut number = numbers.next(now);
        let id = match new.id {
            Some(id) => SmallBytes::new(id),
            // A client may have thought of the same.
            None => loop {
                let id = SmallBytes::new(number.to_string().as_bytes());
                if self.jobs.position(&id).is_none() {
                    break id;
                }
                number = numbers.next(now);
            },
        };
        let mut job = Job {
            id: id.clone(),
            payload: new.payload.into(),
            number,
            deadline: NEVER,
            added: now,
            attempt: 0,
            priority: new.priority,
            state: State::Ready,
            started: false,
            is_named: new.id.is_some(),
            options: new.options.clone(),
            run: None,
        };
        match new.due.filter(|due| *due > now) {
            Some(due) => {
                (job.state, job.deadline) = (State::Delayed, due);
                if let Some(options) = job.options.as_mut().filter(|options| options.ttl_ms.is_some()) {
                    Arc::make_mut(options).ttl_from = Some(due);
                }
            }
            None => job.deadline = job.life_end(),
        }
        self.insert(job);
        self.totals.note(Count::Added, now);
        id
    }

    fn insert(&mut self, job: Job) {
        let at = self.jobs.insert(job);
        self.orders.link(self.jobs.at(at), self.settings.group_limit);
    }

    fn remove(&mut self, at: usize) -> Job {
        let job = self.jobs.remove_at(at);
        self.orders.unlink(&job, self.settings.group_limit);
        job
    }

    /// Changes a job, its orders with it.
    fn change(&mut self, at: usize, change: impl FnOnce(&mut Job)) {
        let limit = self.settings.group_limit;
        self.orders.unlink(self.jobs.at(at), limit);
        let job = self.jobs.at_mut(at);
        change(job);
        self.orders.link(job, limit);
    }

    /// The position of a job if `token` is that of its lease, which holds still.
    fn leased(&self, id: &[u8], token: u64, now: Millis) -> Result<usize, LeaseError> {
        let at = self.jobs.position(id).ok_or(LeaseError::NoJob)?;
        let job = self.jobs.at(at);
        let is_newest = job.run.as_ref().is_some_and(|run| run.token == token);
        let holds = job.state == State::Leased && is_newest && now <= job.deadline;
        if holds { Ok(at) } else { Err(LeaseError::Stale) }
    }

    fn prolong(&mut self, at: usize, ms: Option<u64>, now: Millis) -> Millis {
        let ms = ms.unwrap_or_else(|| self.jobs.at(at).lease_ms(&self.settings));
        let end = self.jobs.at(at).deadline.max(now.plus(ms));
        self.change(at, |job| job.deadline = end);
        end
    }

    /// Makes a job ready after a pause, or drops it if it was to be taken before.
    fn again(&mut self, at: usize, pause_ms: u64, now: Millis) -> Fate {
        let due = now.plus(pause_ms);
        let life_end = self.jobs.at(at).life_end();
        if life_end < due {
            self.remove(at);
            self.totals.note(Count::Expired, now);
            return Fate::Expired;
        }
        self.change(at, |job| {
            (job.state, job.deadline) =
                if pause_ms == 0 { (State::Ready, life_end) } else { (State::Delayed, due) };
        });
        Fate::Again(due)
    }

    fn die(&mut self, at: usize, now: Millis) {
        let keep = self.settings.dead_keep_ms;
        self.totals.note(Count::Died, now);
        self.change(at, |job| {
            job.state = State::Dead;
            job.deadline = if keep == 0 { NEVER } else { now.plus(keep) };
            job.run.get_or_insert_default().ended = now;
        });
    }

    fn all_heap_bytes(&self) -> usize {
        let jobs = sampled_heap_bytes(self.jobs.map(), Job::heap_bytes);
        let schedules: usize = self.schedules.iter().map(Schedule::heap_bytes).sum();
        let maps = self.jobs.heap_bytes() + self.schedules.heap_bytes() + self.window.heap_bytes();
        size_of::<Queue>() + maps + jobs + schedules + self.orders.heap_bytes()
    }
}

/// A place in a list of jobs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cursor {
    /// In an order by time.
    Timed(Millis, u64),
    /// Among the ready that may be taken.
    Offered(u64),
    /// Among those that wait for others of their group.
    Waiting(u64, SmallBytes),
}

impl Cursor {
    /// As text for clients.
    pub fn text(&self) -> Vec<u8> {
        match self {
            Cursor::Timed(at, number) => format!("t{}.{number}", at.0).into_bytes(),
            Cursor::Offered(key) => format!("r{key}").into_bytes(),
            Cursor::Waiting(number, group) => {
                let mut text = format!("g{number}.").into_bytes();
                text.extend_from_slice(group);
                text
            }
        }
    }

    /// Reads what [`Cursor::text`] wrote.
    pub fn parse(text: &[u8]) -> Option<Cursor> {
        let (kind, rest) = text.split_first()?;
        let pair = || {
            let dot = rest.iter().position(|b| *b == b'.')?;
            Some((number::parse_u64(&rest[..dot])?, &rest[dot + 1..]))
        };
        match kind {
            b't' => pair().and_then(|(at, n)| Some(Cursor::Timed(Millis(at), number::parse_u64(n)?))),
            b'r' => Some(Cursor::Offered(number::parse_u64(rest)?)),
            b'g' => pair().map(|(number, group)| Cursor::Waiting(number, SmallBytes::new(group))),
            _ => None,
        }
    }
}
