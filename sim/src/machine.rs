//! One machine: its disk, its clocks, and the process on it, if one runs.

use std::collections::{BTreeMap, BTreeSet};

use skep_base::{GroupId, LogIndex, Millis, NodeId, Rng};
use skep_log::MemDisk;
use skep_node::Now;

use crate::plan::MS;
use crate::process::Process;
use crate::shadow::Shadow;
use crate::world::Step;

/// Wall time at the beginning: 2024, in ms.
const WALL_START: i64 = 1_704_067_200_000;

/// For a planted bug: how far a monotonic clock is set with the wall clock at the most.
const STEP_MS_MAX: i64 = 2_000;

/// The clocks of one machine. The monotonic one runs a little fast or slow, and begins anew with each power cut; the wall clock
/// jumps.
pub struct Clocks {
    /// Monotonic microseconds at the instant `since` of virtual time.
    mono: u64,
    since: u64,
    /// Parts in a million by which the monotonic clock runs fast.
    rate_ppm: i64,
    /// Wall milliseconds at the beginning of virtual time, and the most that they ever were.
    wall_offset: i64,
    wall_offset_max: i64,
}

impl Clocks {
    pub fn new(rng: &mut Rng, drift_ppm: u64, skew_ms: u64) -> Clocks {
        let wall_offset = WALL_START + rng.below(2 * skew_ms + 1) as i64 - skew_ms as i64;
        Clocks {
            mono: rng.below(1 << 40),
            since: 0,
            rate_ppm: rng.below(2 * drift_ppm + 1) as i64 - drift_ppm as i64,
            wall_offset,
            wall_offset_max: wall_offset,
        }
    }

    /// Monotonic microseconds.
    fn mono(&self, at: u64) -> u64 {
        let elapsed = (at - self.since) as i128;
        self.mono + (elapsed + elapsed * i128::from(self.rate_ppm) / 1_000_000) as u64
    }

    /// What both clocks show.
    pub fn now(&self, at: u64) -> Now {
        Now { mono: Millis(self.mono(at) / MS), wall: Millis(self.wall(at)) }
    }

    pub fn wall(&self, at: u64) -> u64 {
        (at as i64 / MS as i64 + self.wall_offset) as u64
    }

    /// What a wall clock would show that was never set back: a node's time may go on from any that it saw.
    pub fn wall_max(&self, at: u64) -> u64 {
        (at as i64 / MS as i64 + self.wall_offset_max) as u64
    }

    /// The virtual instant at which the monotonic clock shows `instant`.
    pub fn instant(&self, instant: Millis) -> u64 {
        let ahead = i128::from(instant.0) * i128::from(MS) - i128::from(self.mono);
        let elapsed = ahead * 1_000_000 / (1_000_000 + i128::from(self.rate_ppm));
        u64::try_from(i128::from(self.since) + elapsed + 1).unwrap_or(0)
    }

    /// Sets the wall clock forward or back.
    pub fn jump(&mut self, by_ms: i64) {
        self.wall_offset += by_ms;
        self.wall_offset_max = self.wall_offset_max.max(self.wall_offset);
    }

    /// For a planted bug: the monotonic clock stood still for a while.
    pub fn stand_still(&mut self, us: u64) {
        self.since += us;
    }

    /// For a planted bug: the monotonic clock is set with the wall clock, though not so far that nothing would ever go on.
    pub fn step_with_wall(&mut self, by_ms: i64) {
        let by_us = by_ms.clamp(-STEP_MS_MAX, STEP_MS_MAX) * MS as i64;
        self.mono = self.mono.saturating_add_signed(by_us);
    }

    /// The machine is switched on again: the monotonic clock begins anywhere.
    pub fn reboot(&mut self, at: u64, rng: &mut Rng) {
        (self.mono, self.since) = (rng.below(1 << 40), at);
    }
}

pub struct Machine {
    /// Peer addresses that its node is told to join.
    pub join: Vec<String>,
    pub disk: MemDisk,
    pub clocks: Clocks,
    /// What its node is called by the cluster, since it was told, and the node that an empty one replaces.
    pub id: Option<NodeId>,
    pub replaces: Option<NodeId>,
    /// The cluster has removed its node.
    pub removed: bool,
    pub process: Option<Process>,
    /// Counts the starts.
    pub life: u64,
    pub failed_starts: u64,
    /// Power is off: connections to it hang.
    pub dark: bool,
    /// The process is stopped (SIGSTOP): what it was to do waits here.
    pub paused: bool,
    /// What the clocks showed when it was stopped, and when that was.
    pub paused_at: Option<(Now, u64)>,
    /// The disk answers nothing: what waits for it waits here too.
    pub hangs: bool,
    pub waiting: Vec<Step>,
    /// Factor of all disk times.
    pub slowness: u64,
    pub shadow: Shadow,
    /// The last entry of each group that the process was seen to have applied.
    pub applied: BTreeMap<GroupId, LogIndex>,
    /// Groups whose copy here was changed past the log.
    pub damaged: BTreeSet<GroupId>,
    /// The process was ready once.
    pub ready: bool,
    /// Turns in the same millisecond.
    pub turns_at: (u64, u64),
}

impl Machine {
    pub fn new(clocks: Clocks, join: Vec<String>) -> Machine {
        Machine {
            join,
            disk: MemDisk::new(),
            clocks,
            id: None,
            replaces: None,
            removed: false,
            process: None,
            life: 0,
            failed_starts: 0,
            dark: false,
            paused: false,
            paused_at: None,
            hangs: false,
            waiting: Vec::new(),
            slowness: 1,
            shadow: Shadow::default(),
            applied: BTreeMap::new(),
            damaged: BTreeSet::new(),
            ready: false,
            turns_at: (0, 0),
        }
    }

    pub fn runs(&self, life: u64) -> bool {
        self.life == life && self.process.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_an_instant_at_the_virtual_time_told_for_it() {
        let mut rng = Rng::new(1);
        for _ in 0..200 {
            let mut clocks = Clocks::new(&mut rng, 20_000, 500);
            clocks.reboot(rng.below(1 << 30), &mut rng);
            let at = clocks.since + rng.below(1 << 36);
            let wanted = clocks.now(at).mono.plus(1 + rng.below(10_000));
            let instant = clocks.instant(wanted);
            assert!(instant > at, "{instant} is not after {at}");
            let shown = clocks.now(instant).mono;
            assert!(shown >= wanted && shown.0 <= wanted.0 + 1, "{shown:?} instead of {wanted:?}");
        }
    }
}
