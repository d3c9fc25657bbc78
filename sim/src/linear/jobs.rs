//! A queue of leased jobs for [`super`]: two jobs that may be added by their names or under one word of `DEDUP`, each with a few
//! tries. Leases, memories and what is done outlast the run, so that nothing happens by itself and the order of the
//! commands says all.

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
}

/// The jobs, the oldest first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Jobs {
    jobs: Vec<Job>,
    /// The one that was added under the word.
    word: Option<Name>,
    /// The greatest token that was told.
    newest: i64,
}

impl JobOp {
    pub fn is_read(self) -> bool {
        matches!(self, JobOp::Look(_))
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
        };
        line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
    }

    /// What a reply says, if it is one that the command can have.
    pub fn told(self, reply: &Plain) -> Option<JobTold> {
        let name_of = |id: &[u8]| NAMES.into_iter().find(|name| id == [*name]);
        Some(match (self, reply) {
            (JobOp::Add(_) | JobOp::AddUnderWord(_), Plain::List(answer)) => match &answer[..] {
                [Plain::Text(id), Plain::Int(new @ (0 | 1))] => JobTold::Added(name_of(id)?, *new == 1),
                _ => return None,
            },
            (JobOp::Take | JobOp::Look(_), Plain::Nil) => JobTold::Nothing,
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
            (JobOp::Redo(_) | JobOp::RedoAll | JobOp::Drop(_) | JobOp::DropAll, Plain::Int(n)) => {
                JobTold::Number(*n)
            }
            (JobOp::Look(_), Plain::List(fields)) => {
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
            JobOp::Add(name) => match self.job(name) {
                Some(_) => JobTold::Added(name, false),
                None => self.add(name),
            },
            JobOp::AddUnderWord(name) => match (self.job(name).map(|job| job.name), self.word) {
                (Some(known), _) | (None, Some(known)) => JobTold::Added(known, false),
                (None, None) => {
                    self.word = Some(name);
                    self.add(name)
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
        }
    }

    fn job(&mut self, name: Name) -> Option<&mut Job> {
        self.jobs.iter_mut().find(|job| job.name == name)
    }

    fn add(&mut self, name: Name) -> JobTold {
        self.jobs.push(Job { name, phase: Phase::Ready, attempt: 0, token: 0 });
        JobTold::Added(name, true)
    }

    fn take(&mut self, told: Option<JobTold>) -> JobTold {
        let Some(job) = self.jobs.iter_mut().find(|job| job.phase == Phase::Ready) else {
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
    fn tokens_grow() {
        let (jobs, _) = Jobs::default().apply(JobOp::Add(NAMES[0]), None);
        let (jobs, _) = jobs.apply(JobOp::Take, Some(JobTold::Lease(NAMES[0], 7, 1)));
        let (jobs, _) = jobs.apply(JobOp::Free(NAMES[0], 7), None);
        let again = JobTold::Lease(NAMES[0], 7, 1);
        assert_ne!(jobs.apply(JobOp::Take, Some(again)).1, again);
    }
}
