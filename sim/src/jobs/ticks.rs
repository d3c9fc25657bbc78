//! A queue with schedules. One ticks each second from when it is first set; one is set and dropped again and again; one ticks when
//! clients tell it to. Each tick adds one job, at its time and not before; of the first schedule none is left out, unless they
//! were missed for more than a minute. Jobs are forgotten as soon as they are done, so that one which came again would be taken
//! again.

use std::collections::{BTreeMap, BTreeSet};

use skep_base::Rng;

use crate::model::{Plain, Words, show};
use crate::planted::Planted;

/// The queue.
pub const TICKED: &str = "j4";
/// Lists all of it at one instant: its schedules, what `QINFO` says, and its jobs.
pub const LIST_TICKED: &str = "#!lua flags=allow-oom\n\
     local all = {redis.call('QCRON', KEYS[1], 'LIST'), redis.call('QINFO', KEYS[1])} \
     for _, state in ipairs({'READY', 'DELAYED', 'LEASED', 'DEAD', 'DONE'}) do \
     all[#all + 1] = redis.call('QLIST', KEYS[1], state, 'COUNT', '1000')[2] end return all";

/// The schedules, each with its expression: always, coming and going, and told.
const ALWAYS: (&str, &str) = ("always", "* * * * * *");
const FITFUL: (&str, &str) = ("fitful", "* * * * * *");
const TOLD: (&str, &str) = ("told", "0 0 29 2 *");

const PAYLOAD: &str = "tick";
const SECOND_MS: i64 = 1_000;
/// Ticks missed for less than this are made up for (`skep_schedule::CATCH_UP_MS`).
const CATCH_UP_MS: i64 = 60_000;

/// Everything known of the schedules.
#[derive(Default)]
pub struct Ticks {
    /// Ticks of which there is a job, or was one, by schedule.
    seen: BTreeSet<(&'static str, i64)>,
    /// Instants at which somebody wanted a tick of [`TOLD`].
    wanted: BTreeSet<i64>,
    /// It was answered that [`ALWAYS`] is set.
    is_set: bool,
    /// How often jobs were acknowledged, as far as that was sent.
    acks: BTreeMap<Vec<u8>, u64>,
    /// For a planted bug: somebody puts off the schedule that ticks always.
    puts_off: bool,
}

impl Ticks {
    pub fn new(planted: Option<Planted>) -> Ticks {
        Ticks { puts_off: planted == Some(Planted::TickPutOff), ..Ticks::default() }
    }

    /// Something that is done to schedules; `wall` is what a clock shows.
    pub fn next(&mut self, rng: &mut Rng, wall: u64) -> Words {
        let set = |(name, cron): (&str, &str)| {
            let mut words: Words = ["QCRON", TICKED, "SET", name, cron, PAYLOAD].map(super::text).to_vec();
            words.extend(["TRIES", "0", "KEEP", "0"].map(super::text));
            words
        };
        if self.puts_off && rng.one_in(4) {
            let at = (wall as i64 / SECOND_MS + 3) * SECOND_MS;
            return ["QCRON", TICKED, "NEXT", ALWAYS.0, &at.to_string()].map(super::text).to_vec();
        }
        match rng.below(8) {
            // It goes on as it was.
            0..3 => set(ALWAYS),
            3 => set(FITFUL),
            4 => ["QCRON", TICKED, "DEL", FITFUL.0].map(super::text).to_vec(),
            5 => set(TOLD),
            _ => {
                let mut at = (wall + rng.below(2_000)) as i64;
                // Each once: a tick that has been may come again only if the schedule was dropped meanwhile.
                while !self.wanted.insert(at) {
                    at += 1;
                }
                ["QCRON", TICKED, "NEXT", TOLD.0, &at.to_string()].map(super::text).to_vec()
            }
        }
    }

    pub fn on_sent(&mut self, words: &Words) {
        if words[0] == b"QACK" {
            *self.acks.entry(words[2].clone()).or_default() += 1;
        }
    }

    /// Takes note of a reply.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn on_reply(&mut self, words: &Words, reply: &Plain) -> Result<(), &'static str> {
        match (&words[0][..], reply) {
            (b"QCRON", Plain::Text(ok)) if words[2] == b"SET" && ok == b"OK" => {
                self.is_set |= words[3] == ALWAYS.0.as_bytes();
            }
            (b"QCRON", Plain::Int(0 | 1)) if words[2] != b"SET" => {}
            (b"QCRON", _) => return Err("an unexpected reply"),
            // It is forgotten once it was acknowledged, which somebody must have sent beside this.
            (b"QACK" | b"QFAIL" | b"QBEAT", Plain::Error(error)) if error.starts_with(b"NOJOB") => {
                let own = u64::from(words[0] == b"QACK");
                let acks = self.acks.get(&words[2]).copied().unwrap_or(0);
                if acks <= own && words[2] != b"none" {
                    return Err("a job was lost");
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Somebody was given the job `id` at `taken`, by the time of the queue.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn on_lease(&mut self, id: &[u8], payload: &[u8], taken: i64) -> Result<(), String> {
        let tick = self.on_job(id, payload)?;
        if taken <= tick { Err(format!("the tick came at {taken}, before its time")) } else { Ok(()) }
    }

    /// There is a job. Gives its tick.
    fn on_job(&mut self, id: &[u8], payload: &[u8]) -> Result<i64, String> {
        let parse = || {
            let (name, tick) = std::str::from_utf8(id).ok()?.split_once('@')?;
            let schedule = [ALWAYS, FITFUL, TOLD].into_iter().find(|schedule| schedule.0 == name)?;
            Some((schedule.0, tick.parse::<i64>().ok()?))
        };
        let (name, tick) =
            parse().filter(|_| payload == PAYLOAD.as_bytes()).ok_or("no schedule adds such a job")?;
        let fits = if name == TOLD.0 { self.wanted.contains(&tick) } else { tick % SECOND_MS == 0 };
        if !fits {
            return Err("the schedule has no such tick".into());
        }
        self.seen.insert((name, tick));
        Ok(tick)
    }

    /// Compares what the queue holds at the end, by [`LIST_TICKED`], with what is known. False if it is to be looked at once more,
    /// since the leader is to say when the next tick is. `wall_max` is the latest that a clock can show.
    ///
    /// # Errors
    /// What does not fit.
    pub fn audit(&mut self, told: &[Plain], wall_max: u64) -> Result<bool, String> {
        let strange = || format!("INV-SIM-28: {TICKED} says of itself {told:?}");
        let [Plain::List(schedules), Plain::List(info), states @ ..] = told else { return Err(strange()) };
        for jobs in states {
            let Plain::List(jobs) = jobs else { return Err(strange()) };
            for job in jobs {
                let Plain::List(fields) = job else { return Err(strange()) };
                let (Some(Plain::Text(id)), Some(Plain::Text(payload))) =
                    (super::field(fields, "id"), super::field(fields, "payload"))
                else {
                    return Err(strange());
                };
                let shown = |why| format!("INV-SIM-28: {why}: {}", show(std::slice::from_ref(id)));
                self.on_job(id, payload).map_err(shown)?;
            }
        }
        let added = super::number(info, "added").ok_or_else(strange)?;
        // A queue that was gone before the first schedule was there has begun to count anew.
        if added > self.seen.len() {
            return Err(format!("INV-SIM-28: {added} jobs were added at {} ticks", self.seen.len()));
        }
        let always = schedules.iter().find_map(|schedule| {
            let Plain::List(fields) = schedule else { return None };
            let name = Plain::Text(ALWAYS.0.as_bytes().to_vec());
            (super::field(fields, "name") == Some(&name)).then_some(fields)
        });
        let Some(always) = always else {
            let is_lost = self.is_set || self.seen.iter().any(|(name, _)| *name == ALWAYS.0);
            return if is_lost { Err(format!("INV-SIM-28: {} is gone", ALWAYS.0)) } else { Ok(true) };
        };
        match super::field(always, "next-ms") {
            Some(Plain::Int(next)) => self.check_row(*next, wall_max).map(|()| true),
            // It is true each second: there is a next tick, and somebody must find it.
            Some(Plain::Nil) if super::field(always, "error") == Some(&Plain::Nil) => Ok(false),
            _ => Err(strange()),
        }
    }

    /// Looks for ticks that were left out before `next`.
    fn check_row(&self, next: i64, wall_max: u64) -> Result<(), String> {
        let ticks = || self.seen.iter().filter(|(name, _)| *name == ALWAYS.0).map(|(_, tick)| *tick);
        if next % SECOND_MS != 0 || next > wall_max as i64 + SECOND_MS {
            return Err(format!("INV-SIM-28: the next tick is {next}, while no clock is past {wall_max}"));
        }
        for (before, after) in ticks().zip(ticks().skip(1).chain([next])) {
            if after <= before || after - before > SECOND_MS && after - before <= SECOND_MS + CATCH_UP_MS {
                return Err(format!("INV-SIM-28: behind the tick {before} comes {after}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_that_were_left_out_and_do_not_make_up_a_minute_are_found() {
        let check = |seen: &[i64], next: i64| {
            let seen = seen.iter().map(|second| (ALWAYS.0, second * SECOND_MS)).collect();
            Ticks { seen, ..Ticks::default() }.check_row(next * SECOND_MS, 1_000_000).is_ok()
        };
        assert!(check(&[], 7));
        assert!(check(&[4, 5, 6], 7));
        assert!(!check(&[4, 6], 7));
        assert!(!check(&[4, 5], 7));
        assert!(!check(&[4, 65], 66));
        assert!(check(&[4, 66], 67));
        assert!(!check(&[4, 5], 5));
        assert!(!check(&[4, 5], 2_000));
    }
}
