//! What happens in a queue by itself when its time has come, and schedules.

use skep_base::Millis;

use super::job::State;
use super::schedule::{Next, Schedule};
use super::settings::Count;
use super::{Fate, NewJob, Numbers, Queue};
use crate::db::NEVER;
use crate::dense::DenseMap;

/// What a job that was given back by the clock is told to have died of.
const LAPSED: &[u8] = b"the lease ran out";

/// What happened by itself.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Settled {
    /// Things, words of DEDUP that are forgotten included.
    pub count: usize,
    /// A job became ready: its delay or a lease ended, or a tick brought it.
    pub readied: bool,
    /// A job whose lease ended has no tries left.
    pub died: bool,
    /// A job is gone whose time was over, whether to be taken or to be remembered.
    pub dropped: bool,
}

/// Something whose time has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// The job of this number, in whatever state it is.
    Job(u64),
    /// A word of DEDUP.
    Word,
    /// A schedule.
    Tick,
}

impl Queue {
    /// The earliest instant past which something happens by itself.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.next_due().map(|(deadline, _)| deadline)
    }

    /// Lets up to `limit` things happen whose time is before `now`, the earliest first.
    ///
    /// Cost: O(log n) for each.
    pub fn settle(&mut self, now: Millis, limit: usize, numbers: &mut Numbers) -> Settled {
        let mut settled = Settled::default();
        while settled.count < limit
            && let Some((_, due)) = self.next_due().filter(|(deadline, _)| *deadline < now)
        {
            match due {
                Due::Job(number) => self.settle_job(number, now, &mut settled),
                Due::Word => drop(self.memory.expire_fields(now, 1)),
                Due::Tick => settled.readied |= self.tick(now, numbers),
            }
            settled.count += 1;
        }
        settled
    }

    fn next_due(&self) -> Option<(Millis, Due)> {
        let orders = &self.orders;
        let sets = [&orders.delayed, &orders.leased, &orders.lifetimes, &orders.done, &orders.dead];
        let jobs =
            sets.into_iter().filter_map(|set| set.first()).map(|(at, number)| (*at, Due::Job(*number)));
        let word = crate::value::Typed::next_deadline(&self.memory).map(|at| (at, Due::Word));
        let tick = self.next_tick.map(|at| (at, Due::Tick));
        jobs.chain(word).chain(tick).filter(|(at, _)| *at != NEVER).min()
    }

    fn settle_job(&mut self, number: u64, now: Millis, settled: &mut Settled) {
        let mut note = |fate| match fate {
            Fate::Again(_) => settled.readied = true,
            Fate::Dead => settled.died = true,
            Fate::Expired => settled.dropped = true,
        };
        let at = self.jobs.find(number).expect("orders hold numbers of jobs");
        match self.jobs.at(at).state {
            State::Delayed => note(self.again(at, 0, now)),
            State::Leased => {
                self.totals.note(Count::Lapsed, now);
                self.change(at, |job| job.note_failure(now, LAPSED));
                if self.jobs.at(at).has_tries_left(&self.settings) {
                    note(self.again(at, 0, now));
                } else {
                    self.die(at, now);
                    note(Fate::Dead);
                }
            }
            State::Ready => {
                self.remove(at);
                self.totals.note(Count::Expired, now);
                note(Fate::Expired);
            }
            State::Dead | State::Done => {
                self.remove(at);
                note(Fate::Expired);
            }
        }
    }

    /// Adds the job of the first schedule whose tick is the earliest. The leader says when the next one is.
    /// False if the job is there already.
    fn tick(&mut self, now: Millis, numbers: &mut Numbers) -> bool {
        let tick = self.next_tick.expect("a tick is due");
        let at = self.schedules.iter().position(|s| s.next == Next::At(tick));
        let at = at.expect("a schedule has the earliest tick");
        let version = numbers.next(now);
        let schedule = self.schedules.at_mut(at).expect("found above");
        assert!(tick > schedule.last, "INV-QUEUE-7: tick {tick:?} of {:?} again", schedule.name);
        (schedule.last, schedule.next, schedule.version) = (tick, Next::Wanted, version);
        let (id, payload) = (schedule.job_id(tick), schedule.payload.clone());
        let (priority, options) = (schedule.priority, Some(schedule.options.clone()));
        self.recount_ticks();
        let is_new = self.jobs.position(&id).is_none();
        if is_new {
            let new = NewJob { id: Some(&id), payload: &payload, dedup: None, due: None, priority, options };
            self.insert_new(&new, now, numbers);
        }
        is_new
    }

    pub fn schedules(&self) -> &DenseMap<Schedule> {
        &self.schedules
    }

    /// True if the leader is to say when a schedule's next tick is.
    #[inline]
    pub fn wants_tick(&self) -> bool {
        self.wanted > 0
    }

    /// Sets a schedule, in place of the one of its name.
    pub fn set_schedule(&mut self, schedule: Schedule) {
        self.schedules.insert(schedule);
        self.recount_ticks();
    }

    /// True if there was a schedule of that name.
    pub fn drop_schedule(&mut self, name: &[u8]) -> bool {
        let was_there = self.schedules.remove(name).is_some();
        self.recount_ticks();
        was_there
    }

    /// Says when the next tick of a schedule is. False if there is no such schedule, or if it is another version than the
    /// one this is about: then it is left alone. A tick that has been is not accepted again.
    pub fn set_next(&mut self, name: &[u8], version: Option<u64>, next: Next, new_version: u64) -> bool {
        let Some(schedule) = self.schedules.get_mut(name) else { return false };
        let fits = version.is_none_or(|version| version == schedule.version);
        let again = matches!(next, Next::At(tick) if tick <= schedule.last);
        if !fits || again {
            return false;
        }
        (schedule.next, schedule.version) = (next, new_version);
        self.recount_ticks();
        true
    }

    pub(super) fn recount_ticks(&mut self) {
        (self.next_tick, self.wanted) = self.ticks_known();
    }

    /// The earliest known tick, and how many are wanted. Cost: O(schedules), of which a queue has few.
    pub(super) fn ticks_known(&self) -> (Option<Millis>, usize) {
        let known =
            self.schedules.iter().filter_map(|s| if let Next::At(at) = s.next { Some(at) } else { None });
        let wanted = self.schedules.iter().filter(|s| s.next == Next::Wanted).count();
        (known.min(), wanted)
    }
}
