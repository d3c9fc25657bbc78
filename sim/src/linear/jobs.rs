//! A queue of leased jobs for [`super`]: two jobs that may be added by their names, in one group, or under one word of `DEDUP`, each
//! with a few tries. The queue is paused and goes on, takes one unfinished job or all, gives out one of the group or both; what is dead
//! is moved to another queue. Leases, memories and what is done outlast the run, so that nothing happens by itself and the order of
//! the commands says all.

use crate::model::{Plain, Words};

/// Attempts of a job before it is dead.
const TRIES: i64 = 2;
/// Longer than any run, with all the steps of its clocks.
const FOR_EVER_MS: &str = "10000000000";

/// A job, of [`NAMES`].
pub type Name = u8;
pub const NAMES: [Name; 2] = *b"ab";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JobOp {
    Add(Name),
    AddUnderWord(Name),
    AddToGroup(Name),
    Take,
    /// With the token of a lease, as the others that give one up.
    Ack(Name, i64),
    Fail(Name, i64),
    FailDead(Name, i64),
    Free(Name, i64),
    Redo(Name),
    /// What is dead.
    RedoAll,
    Drop(Name),
    /// What is dead.
    DropAll,
    Look(Name),
    /// `PAUSED`.
    Pause(bool),
    /// `MAXLEN` of one, or none.
    Bound(bool),
    /// `GROUPLIMIT` of two, or of one.
    WidenGroup(bool),
    /// What is dead goes to another queue.
    RedoTo,
    /// In the other queue.
    LookMoved(Name),
    DropMoved,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    Ready,
    Leased,
    Dead,
    Done,
}

/// What is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JobTold {
    Nothing,
    /// A setting is set.
    Set,
    /// `MAXLEN` is reached.
    Full,
    /// It is there, and is new.
    Added(Name, bool),
    /// With token and attempt.
    Lease(Name, i64, i64),
    Acknowledged,
    Again,
    Dead,
    Stale,
    NoJob,
    Number(i64),
    /// With the attempt.
    Stands(Phase, i64),
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Job {
    name: Name,
    phase: Phase,
    attempt: i64,
    /// Of the newest lease; 0 if nobody was told.
    token: i64,
    is_grouped: bool,
}

/// The jobs, the oldest first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Jobs {
    jobs: Vec<Job>,
    /// The one that was added under the word.
    word: Option<Name>,
    /// The greatest token that was told.
    newest: i64,
    is_paused: bool,
    is_bounded: bool,
    is_group_wide: bool,
    /// What is in the other queue, ready and untouched.
    moved: Vec<Name>,
}

impl JobOp {
    pub fn is_read(self) -> bool {
        matches!(self, JobOp::Look(_) | JobOp::LookMoved(_))
    }

    /// The command on the queue `key`; for a planted bug without the word of `DEDUP`.
    pub fn words(self, key: &[u8], forgets_word: bool) -> Words {
        let key = String::from_utf8_lossy(key);
        let id = |name: Name| char::from(name);
        let add = |name: Name| format!("QADD {key} p ID {} TRIES {TRIES} KEEP {FOR_EVER_MS}", id(name));
        let lease = |command: &str, name: Name, token: i64| format!("{command} {key} {} {token}", id(name));
        let line = match self {
            JobOp::Add(name) => add(name),
            JobOp::AddUnderWord(name) if forgets_word => add(name),
            JobOp::AddUnderWord(name) => format!("{} DEDUP word {FOR_EVER_MS}", add(name)),
            JobOp::AddToGroup(name) => format!("{} GROUP g", add(name)),
            JobOp::Take => format!("QTAKE 1 {key} LEASE {FOR_EVER_MS}"),
            JobOp::Ack(name, token) => lease("QACK", name, token),
            JobOp::Fail(name, token) => format!("{} DELAY 0", lease("QFAIL", name, token)),
            JobOp::FailDead(name, token) => format!("{} DEAD", lease("QFAIL", name, token)),
            JobOp::Free(name, token) => format!("{} FREE", lease("QFAIL", name, token)),
            JobOp::Redo(name) => format!("QREDO {key} {}", id(name)),
            JobOp::RedoAll => format!("QREDO {key} ALL"),
            JobOp::Drop(name) => format!("QDROP {key} {}", id(name)),
            JobOp::DropAll => format!("QDROP {key} ALL DEAD"),
            JobOp::Look(name) => format!("QGET {key} {}", id(name)),
            JobOp::Pause(on) => format!("QSET {key} PAUSED {}", if on { "yes" } else { "no" }),
            JobOp::Bound(on) => format!("QSET {key} MAXLEN {}", u8::from(on)),
            JobOp::WidenGroup(on) => format!("QSET {key} GROUPLIMIT {}", 1 + u8::from(on)),
            JobOp::RedoTo => format!("QREDO {key} ALL TO {{{key}}}moved"),
            JobOp::LookMoved(name) => format!("QGET {{{key}}}moved {}", id(name)),
            JobOp::DropMoved => format!("QDROP {{{key}}}moved ALL READY"),
        };
        line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
    }

    /// What a reply says, if it is one that the command can have.
    pub fn told(self, reply: &Plain) -> Option<JobTold> {
        let name_of = |id: &[u8]| NAMES.into_iter().find(|name| id == [*name]);
        Some(match (self, reply) {
            (JobOp::Add(_) | JobOp::AddUnderWord(_) | JobOp::AddToGroup(_), reply) => match reply {
                Plain::Error(error) if error.starts_with(b"QFULL") => JobTold::Full,
                Plain::List(answer) => match &answer[..] {
                    [Plain::Text(id), Plain::Int(new @ (0 | 1))] => JobTold::Added(name_of(id)?, *new == 1),
                    _ => return None,
                },
                _ => return None,
            },
            (JobOp::Pause(_) | JobOp::Bound(_) | JobOp::WidenGroup(_), Plain::Text(ok)) if ok == b"OK" => {
                JobTold::Set
            }
            (JobOp::Take | JobOp::Look(_) | JobOp::LookMoved(_), Plain::Nil) => JobTold::Nothing,
            (JobOp::Take, Plain::List(leases)) => match &leases[..] {
                [Plain::List(lease)] => match &lease[..] {
                    [_, Plain::Text(id), Plain::Int(token), _, Plain::Int(attempt), ..] => {
                        JobTold::Lease(name_of(id)?, *token, *attempt)
                    }
                    _ => return None,
                },
                _ => return None,
            },
            (JobOp::Ack(..), Plain::Int(1)) => JobTold::Acknowledged,
            (JobOp::Fail(..) | JobOp::Free(..), Plain::Int(_)) => JobTold::Again,
            (JobOp::Fail(..) | JobOp::FailDead(..), Plain::Text(fate)) if fate == b"dead" => JobTold::Dead,
            (JobOp::Redo(_) | JobOp::RedoAll | JobOp::RedoTo, Plain::Int(n)) => JobTold::Number(*n),
            (JobOp::Drop(_) | JobOp::DropAll | JobOp::DropMoved, Plain::Int(n)) => JobTold::Number(*n),
            (JobOp::Look(_) | JobOp::LookMoved(_), Plain::List(fields)) => {
                let field = |name: &[u8]| {
                    let at = fields.iter().step_by(2).position(|n| *n == Plain::Text(name.to_vec()))?;
                    fields.get(2 * at + 1)
                };
                let phase = match field(b"state")? {
                    Plain::Text(state) if state == b"ready" => Phase::Ready,
                    Plain::Text(state) if state == b"leased" => Phase::Leased,
                    Plain::Text(state) if state == b"dead" => Phase::Dead,
                    Plain::Text(state) if state == b"done" => Phase::Done,
                    _ => return None,
                };
                let Plain::Int(attempt) = field(b"attempt")? else { return None };
                JobTold::Stands(phase, *attempt)
            }
            (_, Plain::Error(error)) if error.starts_with(b"STALE") => JobTold::Stale,
            (_, Plain::Error(error)) if error.starts_with(b"NOJOB") => JobTold::NoJob,
            _ => return None,
        })
    }
}

impl Jobs {
    /// The state after a command and what it answers. Which token a lease has is `told`, if it is greater than those before.
    pub fn apply(&self, op: JobOp, told: Option<JobTold>) -> (Jobs, JobTold) {
        let mut after = self.clone();
        let told = after.carry_out(op, told);
        (after, told)
    }

    fn carry_out(&mut self, op: JobOp, told: Option<JobTold>) -> JobTold {
        match op {
            JobOp::Add(name) | JobOp::AddToGroup(name) => match self.job(name) {
                Some(_) => JobTold::Added(name, false),
                None => self.add(name, matches!(op, JobOp::AddToGroup(_))),
            },
            JobOp::AddUnderWord(name) => match (self.job(name).map(|job| job.name), self.word) {
                (Some(known), _) | (None, Some(known)) => JobTold::Added(known, false),
                (None, None) => {
                    let told = self.add(name, false);
                    self.word = Some(name).filter(|_| told != JobTold::Full);
                    told
                }
            },
            JobOp::Take => self.take(told),
            JobOp::Ack(name, token) => {
                let is_again = |job: &&mut Job| job.phase == Phase::Done && job.token == token;
                if self.job(name).filter(is_again).is_some() {
                    return JobTold::Acknowledged;
                }
                self.give_up(name, token, |job| {
                    job.phase = Phase::Done;
                    JobTold::Acknowledged
                })
            }
            JobOp::Fail(name, token) => self.give_up(name, token, |job| match job.attempt < TRIES {
                true => job.is_again(),
                false => job.is_dead(),
            }),
            JobOp::FailDead(name, token) => self.give_up(name, token, Job::is_dead),
            JobOp::Free(name, token) => self.give_up(name, token, |job| {
                job.attempt -= 1;
                job.is_again()
            }),
            JobOp::Redo(name) => {
                self.redo(|job| job.name == name && matches!(job.phase, Phase::Dead | Phase::Done))
            }
            JobOp::RedoAll => self.redo(|job| job.phase == Phase::Dead),
            JobOp::Drop(name) => self.drop(|job| job.name == name),
            JobOp::DropAll => self.drop(|job| job.phase == Phase::Dead),
            JobOp::Look(name) => match self.job(name) {
                Some(job) => JobTold::Stands(job.phase, job.attempt),
                None => JobTold::Nothing,
            },
            JobOp::Pause(on) => set(&mut self.is_paused, on),
            JobOp::Bound(on) => set(&mut self.is_bounded, on),
            JobOp::WidenGroup(on) => set(&mut self.is_group_wide, on),
            JobOp::RedoTo => self.move_dead(),
            JobOp::LookMoved(name) => match self.moved.contains(&name) {
                true => JobTold::Stands(Phase::Ready, 0),
                false => JobTold::Nothing,
            },
            JobOp::DropMoved => JobTold::Number(self.moved.drain(..).count() as i64),
        }
    }

    fn job(&mut self, name: Name) -> Option<&mut Job> {
        self.jobs.iter_mut().find(|job| job.name == name)
    }

    fn add(&mut self, name: Name, is_grouped: bool) -> JobTold {
        let is_unfinished = |job: &Job| matches!(job.phase, Phase::Ready | Phase::Leased);
        if self.is_bounded && self.jobs.iter().any(is_unfinished) {
            return JobTold::Full;
        }
        self.jobs.push(Job { name, phase: Phase::Ready, attempt: 0, token: 0, is_grouped });
        JobTold::Added(name, true)
    }

    fn take(&mut self, told: Option<JobTold>) -> JobTold {
        let in_work = self.jobs.iter().filter(|job| job.is_grouped && job.phase == Phase::Leased).count();
        let waits_for_group = in_work > usize::from(self.is_group_wide);
        let is_offered = |job: &&mut Job| job.phase == Phase::Ready && !(job.is_grouped && waits_for_group);
        let Some(job) = self.jobs.iter_mut().find(is_offered).filter(|_| !self.is_paused) else {
            return JobTold::Nothing;
        };
        let token = match told {
            Some(JobTold::Lease(_, token, _)) if token > self.newest => token,
            _ => 0,
        };
        (job.phase, job.attempt, job.token) = (Phase::Leased, job.attempt + 1, token);
        let lease = JobTold::Lease(job.name, token, job.attempt);
        self.newest = self.newest.max(token);
        lease
    }

    fn give_up(&mut self, name: Name, token: i64, how: impl FnOnce(&mut Job) -> JobTold) -> JobTold {
        match self.job(name) {
            None => JobTold::NoJob,
            Some(job) if job.token == token && job.phase == Phase::Leased => how(job),
            Some(_) => JobTold::Stale,
        }
    }

    fn redo(&mut self, which: impl Fn(&Job) -> bool) -> JobTold {
        let mut count = 0;
        for job in self.jobs.iter_mut().filter(|job| which(job)) {
            (job.phase, job.attempt) = (Phase::Ready, 0);
            count += 1;
        }
        JobTold::Number(count)
    }

    fn drop(&mut self, which: impl Fn(&Job) -> bool) -> JobTold {
        let before = self.jobs.len();
        self.jobs.retain(|job| !which(job));
        JobTold::Number((before - self.jobs.len()) as i64)
    }

    /// What the other queue has under the same name stays.
    fn move_dead(&mut self) -> JobTold {
        let goes = |job: &Job, moved: &[Name]| job.phase == Phase::Dead && !moved.contains(&job.name);
        let names: Vec<Name> =
            self.jobs.iter().filter(|job| goes(job, &self.moved)).map(|job| job.name).collect();
        self.jobs.retain(|job| !names.contains(&job.name));
        self.moved.extend(&names);
        self.moved.sort_unstable();
        JobTold::Number(names.len() as i64)
    }
}

fn set(setting: &mut bool, on: bool) -> JobTold {
    *setting = on;
    JobTold::Set
}

impl Job {
    fn is_again(&mut self) -> JobTold {
        self.phase = Phase::Ready;
        JobTold::Again
    }

    fn is_dead(&mut self) -> JobTold {
        self.phase = Phase::Dead;
        JobTold::Dead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_dies_of_its_tries_comes_back_and_is_done() {
        const A: Name = NAMES[0];
        let mut jobs = Jobs::default();
        let lease = |token, attempt| {
            let told = JobTold::Lease(A, token, attempt);
            (JobOp::Take, told, told)
        };
        let steps = [
            lease(0, 0),
            (JobOp::AddUnderWord(A), JobTold::Nothing, JobTold::Added(A, true)),
            lease(1, 1),
            (JobOp::Fail(A, 1), JobTold::Nothing, JobTold::Again),
            lease(2, 2),
            (JobOp::Fail(A, 1), JobTold::Nothing, JobTold::Stale),
            (JobOp::Fail(A, 2), JobTold::Nothing, JobTold::Dead),
            (JobOp::RedoAll, JobTold::Nothing, JobTold::Number(1)),
            lease(3, 1),
            (JobOp::Free(A, 3), JobTold::Nothing, JobTold::Again),
            lease(4, 1),
            (JobOp::Ack(A, 4), JobTold::Nothing, JobTold::Acknowledged),
            (JobOp::Ack(A, 4), JobTold::Nothing, JobTold::Acknowledged),
            (JobOp::FailDead(A, 4), JobTold::Nothing, JobTold::Stale),
            (JobOp::DropAll, JobTold::Nothing, JobTold::Number(0)),
            (JobOp::Drop(A), JobTold::Nothing, JobTold::Number(1)),
            (JobOp::AddUnderWord(NAMES[1]), JobTold::Nothing, JobTold::Added(A, false)),
            (JobOp::Look(A), JobTold::Nothing, JobTold::Nothing),
        ];
        for (op, told, expected) in steps {
            let (after, found) = jobs.apply(op, Some(told));
            let expected = if expected == JobTold::Lease(A, 0, 0) { JobTold::Nothing } else { expected };
            assert_eq!(found, expected, "{op:?}");
            jobs = after;
        }
    }

    #[test]
    fn settings_hold_and_the_dead_are_moved() {
        const A: Name = NAMES[0];
        const B: Name = NAMES[1];
        let steps = [
            (JobOp::Bound(true), JobTold::Set),
            (JobOp::AddToGroup(A), JobTold::Added(A, true)),
            (JobOp::AddUnderWord(B), JobTold::Full),
            (JobOp::AddToGroup(A), JobTold::Added(A, false)),
            (JobOp::Bound(false), JobTold::Set),
            (JobOp::AddToGroup(B), JobTold::Added(B, true)),
            (JobOp::Pause(true), JobTold::Set),
            (JobOp::Take, JobTold::Nothing),
            (JobOp::Pause(false), JobTold::Set),
            (JobOp::Take, JobTold::Lease(A, 1, 1)),
            (JobOp::Take, JobTold::Nothing),
            (JobOp::WidenGroup(true), JobTold::Set),
            (JobOp::Take, JobTold::Lease(B, 2, 1)),
            (JobOp::FailDead(A, 1), JobTold::Dead),
            (JobOp::RedoTo, JobTold::Number(1)),
            (JobOp::Look(A), JobTold::Nothing),
            (JobOp::LookMoved(A), JobTold::Stands(Phase::Ready, 0)),
            (JobOp::AddUnderWord(A), JobTold::Added(A, true)),
            (JobOp::Take, JobTold::Lease(A, 3, 1)),
            (JobOp::FailDead(A, 3), JobTold::Dead),
            (JobOp::RedoTo, JobTold::Number(0)),
            (JobOp::DropMoved, JobTold::Number(1)),
            (JobOp::RedoTo, JobTold::Number(1)),
        ];
        let mut jobs = Jobs::default();
        for (op, expected) in steps {
            let (after, found) = jobs.apply(op, Some(expected));
            assert_eq!(found, expected, "{op:?}");
            jobs = after;
        }
    }

    #[test]
    fn tokens_grow() {
        let (jobs, _) = Jobs::default().apply(JobOp::Add(NAMES[0]), None);
        let (jobs, _) = jobs.apply(JobOp::Take, Some(JobTold::Lease(NAMES[0], 7, 1)));
        let (jobs, _) = jobs.apply(JobOp::Free(NAMES[0], 7), None);
        let again = JobTold::Lease(NAMES[0], 7, 1);
        assert_ne!(jobs.apply(JobOp::Take, Some(again)).1, again);
    }
}
