//! The orders in which jobs are found: what is ready by priority and age, what is due by time, groups, workers.
//!
//! All of it follows from the jobs and the group limit, and is made anew when a queue is read back. Jobs are named by number.
//! Invariant: a job is in the orders of its state and in no other (INV-QUEUE-1), and at most one job of a group is offered,
//! the oldest that is ready, while fewer than the limit are in work (INV-QUEUE-4).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use skep_base::Millis;

use super::job::{Job, PRIORITY_MAX, State};
use crate::db::NEVER;
use crate::small::SmallBytes;

/// By deadline, then by age.
pub type ByTime = BTreeSet<(Millis, u64)>;

#[derive(Clone, Default)]
pub struct Orders {
    /// What may be taken: see [`ready_key`]. Of each group one job at the most.
    pub ready: BTreeSet<u64>,
    pub delayed: ByTime,
    pub leased: ByTime,
    /// Ready jobs that are dropped if nobody takes them.
    pub lifetimes: ByTime,
    pub dead: ByTime,
    pub done: ByTime,
    pub groups: BTreeMap<SmallBytes, Group>,
    /// Numbers of leased jobs by the worker that gave its name.
    pub workers: BTreeMap<SmallBytes, BTreeSet<u64>>,
}

/// The jobs of a group that are not finished.
#[derive(Clone, Default)]
pub struct Group {
    /// Ready ones by age, with their priorities.
    pub waiting: BTreeSet<(u64, u8)>,
    /// Leased, or waiting for a retry.
    pub busy: u64,
    /// The one that is among the ready.
    offered: Option<u64>,
}

/// Priority and number of a job so that the first to be taken is the least.
fn ready_key(priority: u8, number: u64) -> u64 {
    const NUMBER_BITS: u32 = 60;
    u64::from(PRIORITY_MAX - priority) << NUMBER_BITS | number
}

/// The number in a [`ready_key`].
pub fn number_of(key: u64) -> u64 {
    key & ((1 << 60) - 1)
}

/// The range of [`ready_key`]s of a priority.
pub fn keys_of_priority(priority: u8) -> std::ops::RangeInclusive<u64> {
    ready_key(priority, 0)..=ready_key(priority, (1 << 60) - 1)
}

/// True if the job's group waits for it.
fn is_in_work(job: &Job) -> bool {
    job.state == State::Leased || job.state == State::Delayed && job.started
}

impl Orders {
    /// Puts a job into the orders of its state.
    pub fn link(&mut self, job: &Job, group_limit: u64) {
        match job.state {
            State::Ready => {
                if job.deadline != NEVER {
                    self.lifetimes.insert((job.deadline, job.number));
                }
                if job.group().is_none() {
                    self.ready.insert(ready_key(job.priority, job.number));
                }
            }
            State::Leased => {
                let worker = &job.run.as_ref().expect("a leased job has a token").worker;
                if !worker.is_empty() {
                    self.workers.entry(worker.clone()).or_default().insert(job.number);
                }
            }
            State::Delayed | State::Dead | State::Done => {}
        }
        if let Some(order) = self.by_time(job.state) {
            order.insert((job.deadline, job.number));
        }
        self.change_group(job, group_limit, |group| match job.state {
            State::Ready => drop(group.waiting.insert((job.number, job.priority))),
            _ => group.busy += 1,
        });
    }

    /// Takes a job out of the orders of its state.
    pub fn unlink(&mut self, job: &Job, group_limit: u64) {
        match job.state {
            State::Ready => {
                self.lifetimes.remove(&(job.deadline, job.number));
                if job.group().is_none() {
                    self.ready.remove(&ready_key(job.priority, job.number));
                }
            }
            State::Leased => {
                let worker = &job.run.as_ref().expect("a leased job has a token").worker;
                if let Some(jobs) = self.workers.get_mut(worker) {
                    jobs.remove(&job.number);
                    if jobs.is_empty() {
                        self.workers.remove(worker);
                    }
                }
            }
            State::Delayed | State::Dead | State::Done => {}
        }
        if let Some(order) = self.by_time(job.state) {
            order.remove(&(job.deadline, job.number));
        }
        self.change_group(job, group_limit, |group| match job.state {
            State::Ready => drop(group.waiting.remove(&(job.number, job.priority))),
            _ => group.busy -= 1,
        });
    }

    /// Offers jobs of groups by another limit. Cost: O(groups).
    pub fn set_group_limit(&mut self, group_limit: u64) {
        for group in self.groups.values_mut() {
            group.offer(&mut self.ready, group_limit);
        }
    }

    /// The order of a state in which every job has a deadline.
    pub fn timed(&self, state: State) -> Option<&ByTime> {
        match state {
            State::Ready => None,
            State::Delayed => Some(&self.delayed),
            State::Leased => Some(&self.leased),
            State::Dead => Some(&self.dead),
            State::Done => Some(&self.done),
        }
    }

    /// Jobs that wait for others of their group, by group and age, behind a place.
    pub fn waiting(&self, behind: Option<(SmallBytes, u64)>) -> impl Iterator<Item = (&SmallBytes, u64)> {
        let from = match &behind {
            Some((name, _)) => Bound::Included(name.clone()),
            None => Bound::Unbounded,
        };
        let groups = self.groups.range((from, Bound::Unbounded));
        groups.flat_map(move |(name, group)| {
            let seen = behind.as_ref().filter(|(n, _)| n == name).map_or(0, |(_, number)| *number);
            let rest = group.waiting.range((Bound::Excluded((seen, u8::MAX)), Bound::Unbounded));
            let rest = rest.filter(|(number, _)| group.offered.is_none_or(|key| number_of(key) != *number));
            rest.map(move |(number, _)| (name, *number))
        })
    }

    fn by_time(&mut self, state: State) -> Option<&mut ByTime> {
        match state {
            State::Ready => None,
            State::Delayed => Some(&mut self.delayed),
            State::Leased => Some(&mut self.leased),
            State::Dead => Some(&mut self.dead),
            State::Done => Some(&mut self.done),
        }
    }

    /// Changes the job's group if it has one that cares for its state.
    fn change_group(&mut self, job: &Job, group_limit: u64, change: impl FnOnce(&mut Group)) {
        let Some(name) = job.group().filter(|_| job.state == State::Ready || is_in_work(job)) else { return };
        let group = self.groups.entry(name.clone()).or_default();
        change(group);
        group.offer(&mut self.ready, group_limit);
        if group.waiting.is_empty() && group.busy == 0 {
            self.groups.remove(name);
        }
    }

    /// Bytes allocated, judged by counts.
    pub fn heap_bytes(&self) -> usize {
        /// What a number takes in a B-tree whose nodes are filled from one side.
        const NUMBER: usize = 16;
        const TIMED: usize = 30;
        const NAMED: usize = size_of::<(SmallBytes, Group)>() * 3 / 2;
        let sets = [&self.delayed, &self.leased, &self.lifetimes, &self.dead, &self.done];
        let timed: usize = sets.iter().map(|set| set.len()).sum();
        let named = self.groups.len() + self.workers.len();
        self.ready.len() * NUMBER + timed * TIMED + named * NAMED
    }

    /// Panics unless these are the orders of `jobs`. Cost: O(n log n).
    pub fn assert_invariants<'a>(&self, jobs: impl Iterator<Item = &'a Job>, group_limit: u64) {
        let mut expected = Orders::default();
        jobs.for_each(|job| expected.link(job, group_limit));
        assert_eq!(self.ready, expected.ready, "INV-QUEUE-4: jobs that are offered");
        assert_eq!(self.lifetimes, expected.lifetimes, "ready jobs that are dropped");
        for state in State::ALL {
            assert_eq!(
                self.timed(state),
                expected.timed(state),
                "INV-QUEUE-1: jobs that are {}",
                state.name()
            );
        }
        assert_eq!(self.workers, expected.workers, "jobs by worker");
        let shown = |orders: &Orders| -> Vec<_> {
            let of = |(name, g): (&SmallBytes, &Group)| (name.clone(), g.waiting.clone(), g.busy, g.offered);
            orders.groups.iter().map(of).collect()
        };
        assert_eq!(shown(self), shown(&expected), "groups");
    }
}

impl Group {
    /// Makes the oldest job that waits one of the ready if fewer than the limit are in work.
    fn offer(&mut self, ready: &mut BTreeSet<u64>, limit: u64) {
        let first = self.waiting.first().filter(|_| self.busy < limit);
        let offered = first.map(|(number, priority)| ready_key(*priority, *number));
        if offered != self.offered {
            if let Some(key) = &self.offered {
                ready.remove(key);
            }
            ready.extend(offered);
            self.offered = offered;
        }
    }
}
