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
}

/// An instant by `CLOCK_BOOTTIME`, to the nanosecond.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instant(Timespec);

impl Instant {
    pub fn now() -> Instant {
        Instant(clock_gettime(ClockId::Boottime))
    }

    pub fn nanos_since(self, earlier: Instant) -> u64 {
        let nanos = (self.0.tv_sec - earlier.0.tv_sec) * 1_000_000_000 + self.0.tv_nsec - earlier.0.tv_nsec;
        u64::try_from(nanos).unwrap_or(0)
    }

    pub fn millis(self) -> Millis {
        let seconds = u64::try_from(self.0.tv_sec).unwrap_or(0);
        Millis(seconds * 1_000 + self.0.tv_nsec as u64 / 1_000_000)
    }
}

fn millis(clock: ClockId) -> Millis {
    Instant(clock_gettime(clock)).millis()
}
