//! The one place that reads clocks for the node.

use rustix::time::{ClockId, clock_gettime};
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

fn millis(clock: ClockId) -> Millis {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Millis(seconds * 1_000 + time.tv_nsec as u64 / 1_000_000)
}
