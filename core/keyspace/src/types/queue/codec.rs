//! A queue's checkpoint form: jobs, words of DEDUP, schedules, and at the end the rest. Orders are made anew.
//!
//! The rest comes last, so that the first element of a large queue, which is written with its key, is a job: a key never
//! holds an empty queue.

use skep_base::varint::{Malformed, Reader};

use super::Queue;
use super::job::Job;
use super::rate::Window;
use super::schedule::{SCHEDULES_MAX, Schedule};
use super::settings::{Settings, Totals};
use crate::pieces::{Elements, Frozen};
use crate::segments::Segments;
use crate::value::{Typed, Value, typed_access};

/// What an element is.
const JOB: u8 = 0;
const WORD: u8 = 1;
const SCHEDULE: u8 = 2;
const REST: u8 = 3;

/// The parts of a queue, as they are or as they were.
struct Parts<'a> {
    jobs: &'a Segments<Job>,
    words: &'a dyn Elements,
    schedules: &'a Segments<Schedule>,
    rest: &'a dyn Fn(&mut Vec<u8>),
}

impl Parts<'_> {
    fn count(&self) -> usize {
        self.jobs.len() + self.words.count() + self.schedules.len() + 1
    }

    fn encode_from(&self, from: usize, bytes: usize, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        let mut at = from;
        while at < self.count() && (at == from || out.len() - start < bytes) {
            self.encode_one(at, out);
            at += 1;
        }
        at
    }

    fn encode_one(&self, at: usize, out: &mut Vec<u8>) {
        if let Some(job) = self.jobs.get(at) {
            out.push(JOB);
            return job.encode(out);
        }
        let at = at - self.jobs.len();
        if at < self.words.count() {
            out.push(WORD);
            self.words.encode_from(at, 1, out);
            return;
        }
        match self.schedules.get(at - self.words.count()) {
            Some(schedule) => {
                out.push(SCHEDULE);
                schedule.encode(out);
            }
            None => {
                out.push(REST);
                (self.rest)(out);
            }
        }
    }
}

impl Queue {
    fn parts<R>(&self, with: impl FnOnce(Parts<'_>) -> R) -> R {
        with(Parts {
            jobs: self.jobs.entries(),
            words: self.memory.elements(),
            schedules: self.schedules.entries(),
            rest: &|out| self.encode_rest(out),
        })
    }

    fn encode_rest(&self, out: &mut Vec<u8>) {
        self.settings.encode(out);
        self.window.encode(out);
        self.totals.encode(out);
    }

    fn decode_one(&mut self, input: &mut Reader<'_>) -> Result<(), Malformed> {
        match input.u8()? {
            JOB => {
                let job = Job::decode(input)?;
                if self.jobs.position(&job.id).is_some() || self.jobs.find(job.number).is_some() {
                    return input.malformed("a job that is not in the queue yet");
                }
                self.insert(job);
            }
            WORD => self.memory.decode_elements(1, input)?,
            SCHEDULE => {
                let schedule = Schedule::decode(input)?;
                let is_full = self.schedules.len() >= SCHEDULES_MAX;
                if is_full || self.schedules.contains(&schedule.name) {
                    return input
                        .malformed("a schedule that is not in the queue yet, one of the most it may have");
                }
                self.set_schedule(schedule);
            }
            REST => {
                let settings = Settings::decode(input)?;
                // Once: another limit of groups costs a look at all of them.
                if self.settings != Settings::default() {
                    return input.malformed("settings once");
                }
                self.set_settings(settings);
                self.window = Window::decode(input)?;
                self.totals = Totals::decode(input)?;
            }
            _ => return input.malformed("an element of kind 0 to 3"),
        }
        Ok(())
    }
}

impl Elements for Queue {
    fn count(&self) -> usize {
        self.parts(|parts| parts.count())
    }

    fn encode_from(&self, from: usize, bytes: usize, out: &mut Vec<u8>) -> usize {
        self.parts(|parts| parts.encode_from(from, bytes, out))
    }
}

/// A queue as it was.
struct FrozenQueue {
    jobs: Segments<Job>,
    words: Frozen,
    schedules: Segments<Schedule>,
    rest: Vec<u8>,
}

impl FrozenQueue {
    fn parts<R>(&self, with: impl FnOnce(Parts<'_>) -> R) -> R {
        with(Parts {
            jobs: &self.jobs,
            words: &*self.words,
            schedules: &self.schedules,
            rest: &|out| out.extend_from_slice(&self.rest),
        })
    }
}

impl Elements for FrozenQueue {
    fn count(&self) -> usize {
        self.parts(|parts| parts.count())
    }

    fn encode_from(&self, from: usize, bytes: usize, out: &mut Vec<u8>) -> usize {
        self.parts(|parts| parts.encode_from(from, bytes, out))
    }
}

impl Typed for Queue {
    typed_access!(Queue, boxed);

    /// A queue that holds no job and would be the same if it were made anew, but for what it counted.
    fn is_empty(&self) -> bool {
        let holds_nothing = self.jobs.len() == 0 && self.memory.is_empty() && self.schedules.is_empty();
        holds_nothing && self.settings == Settings::default()
    }

    fn elements(&self) -> &dyn Elements {
        self
    }

    fn decode_elements(&mut self, count: usize, input: &mut Reader<'_>) -> Result<(), Malformed> {
        (0..count).try_for_each(|_| self.decode_one(input))
    }

    fn freeze(&mut self) -> Frozen {
        let mut rest = Vec::new();
        self.encode_rest(&mut rest);
        Box::new(FrozenQueue {
            jobs: self.jobs.entries().clone(),
            words: self.memory.freeze(),
            schedules: self.schedules.entries().clone(),
            rest,
        })
    }

    fn heap_bytes(&self) -> usize {
        self.all_heap_bytes() + self.memory.heap_bytes()
    }

    fn next_deadline(&self) -> Option<skep_base::Millis> {
        Queue::next_deadline(self)
    }
}
