//! The one place that reads clocks for the node.

use rustix::time::{ClockId, Timespec, clock_gettime};
use skep_base::Millis;
use skep_node::Now;

/// Reads the time. `CLOCK_BOOTTIME` goes on while the process is stopped and while the machine sleeps, which leases and
/// timeouts rely on.
#[derive(Clone, Copy, Default, Debug)]
pub struct Clock;

impl Clock {
    pub fn now(self) -> Now {
        Now { mono: millis(ClockId::Boottime), wall: millis(ClockId::Realtime) }
    }

    /// The time for something that arrived in the turn that began at `now`. A lease must be judged by an instant that was
    /// read after the request arrived, since the process may have been stopped in between; a deadline need not, and so
    /// one clock is read, which takes about 40 ns.
    pub fn later(self, now: Now) -> Now {
        Now { mono: millis(ClockId::Boottime), wall: now.wall }
    }
}

/// Measures how long something takes, in nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Timespec);

impl Stopwatch {
    pub fn start() -> Stopwatch {
        Stopwatch(clock_gettime(ClockId::Monotonic))
    }

    pub fn nanos(self) -> u64 {
        let now = clock_gettime(ClockId::Monotonic);
        let nanos = (now.tv_sec - self.0.tv_sec) * 1_000_000_000 + (now.tv_nsec - self.0.tv_nsec) as i64;
        u64::try_from(nanos).unwrap_or(0)
    }
}

fn millis(clock: ClockId) -> Millis {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Millis(seconds * 1_000 + time.tv_nsec as u64 / 1_000_000)
}
