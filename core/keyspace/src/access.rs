//! When and how often keys are used: the leader's own knowledge for eviction, never part of replicated state. Also whether
//! a read met something that its time says is gone and the state still holds.
//!
//! 32 bits per key: seconds of last use (LRU), or minutes of last decay and a logarithmic counter (LFU, after
//! Morris 1978, with the parameters Redis made customary).

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

use skep_base::{Millis, Rng};

/// What the 32 bits of an entry mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AccessMode {
    #[default]
    Lru,
    Lfu,
}

/// The 32 bits of an entry, to be set by reads too. Atomic only in name, so that entries may be dropped by another thread.
pub struct Access(AtomicU32);

impl Access {
    #[inline]
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    #[inline]
    pub fn set(&self, bits: u32) {
        self.0.store(bits, Ordering::Relaxed);
    }
}

impl From<u32> for Access {
    fn from(bits: u32) -> Access {
        Access(AtomicU32::new(bits))
    }
}

impl Clone for Access {
    fn clone(&self) -> Access {
        self.get().into()
    }
}

/// A new key's counter, so that it is not the first to go before it had a chance.
const LFU_INITIAL: u8 = 5;

/// The clock and parameters by which uses are recorded. Set by the node from its settings, advanced once per turn.
pub struct AccessClock {
    mode: AccessMode,
    now: Millis,
    rng: Cell<u64>,
    paused: Cell<bool>,
    hits: Cell<u64>,
    misses: Cell<u64>,
    saw_due: Cell<bool>,
    pub lfu_log_factor: u32,
    pub lfu_decay_minutes: u32,
}

impl Default for AccessClock {
    fn default() -> AccessClock {
        AccessClock {
            mode: AccessMode::Lru,
            now: Millis(0),
            rng: Cell::new(1),
            paused: Cell::new(false),
            hits: Cell::new(0),
            misses: Cell::new(0),
            saw_due: Cell::new(false),
            lfu_log_factor: 10,
            lfu_decay_minutes: 1,
        }
    }
}

impl AccessClock {
    pub fn mode(&self) -> AccessMode {
        self.mode
    }

    /// Changes what is recorded. Entries keep the bits of the old mode until they are used again, as in Redis.
    pub fn set_mode(&mut self, mode: AccessMode) {
        self.mode = mode;
    }

    /// `wall` is the node's clock; a step backwards only makes keys look younger.
    pub fn set_now(&mut self, wall: Millis) {
        self.now = wall;
    }

    /// While paused, uses are not recorded (`CLIENT NO-TOUCH`).
    pub fn set_paused(&self, paused: bool) {
        self.paused.set(paused);
    }

    /// Counts a look-up.
    #[inline]
    pub fn count(&self, found: bool) {
        let counter = if found { &self.hits } else { &self.misses };
        counter.set(counter.get() + 1);
    }

    /// Look-ups that found their key.
    pub fn hits(&self) -> u64 {
        self.hits.get()
    }

    /// Look-ups that did not.
    pub fn misses(&self) -> u64 {
        self.misses.get()
    }

    /// Takes note that something past its deadline was met that is still in the state.
    #[cold]
    pub fn note_due(&self) {
        self.saw_due.set(true);
    }

    /// True if the read that ran last met a key or hash field that is past its deadline by the read's time, but not removed
    /// from the state yet; forgets it. Its reply then depends on a clock, and a node with a slower one would show the key
    /// again.
    ///
    /// Errs on the side of true: a hash counts with any of its fields, whichever was asked for.
    pub fn take_saw_due(&self) -> bool {
        self.saw_due.take()
    }

    /// Sets both counts to 0.
    pub fn reset_counts(&self) {
        self.hits.set(0);
        self.misses.set(0);
    }

    /// The bits of a key just created.
    #[inline]
    pub fn fresh(&self) -> u32 {
        match self.mode {
            AccessMode::Lru => self.seconds(),
            AccessMode::Lfu => self.minutes() << 8 | u32::from(LFU_INITIAL),
        }
    }

    /// The bits of a key that comes from elsewhere with what was known of its use there; `None` if that is not what this
    /// mode records.
    pub fn restored(&self, idle_seconds: Option<u64>, frequency: Option<u8>) -> Option<u32> {
        match self.mode {
            AccessMode::Lru => idle_seconds.map(|idle| u64::from(self.seconds()).saturating_sub(idle) as u32),
            AccessMode::Lfu => frequency.map(|counter| self.minutes() << 8 | u32::from(counter)),
        }
    }

    /// Records a use.
    #[inline]
    pub fn touch(&self, access: &Access) {
        if self.paused.get() {
            return;
        }
        match self.mode {
            AccessMode::Lru => access.set(self.seconds()),
            AccessMode::Lfu => {
                let counter = self.increment(self.frequency(access.get()));
                access.set(self.minutes() << 8 | u32::from(counter));
            }
        }
    }

    /// Seconds since the last use, by LRU bits.
    pub fn idle_seconds(&self, access: u32) -> u32 {
        self.seconds().saturating_sub(access)
    }

    /// The counter of LFU bits after decay.
    pub fn frequency(&self, access: u32) -> u8 {
        let counter = access as u8;
        if self.lfu_decay_minutes == 0 {
            return counter;
        }
        let idle = self.minutes().wrapping_sub(access >> 8) & 0x00ff_ffff;
        counter.saturating_sub((idle / self.lfu_decay_minutes).min(255) as u8)
    }

    fn increment(&self, counter: u8) -> u8 {
        if counter == u8::MAX {
            return counter;
        }
        let base = f64::from(counter.saturating_sub(LFU_INITIAL));
        let mut rng = Rng::new(self.rng.get());
        self.rng.set(rng.next_u64());
        if rng.unit() < 1.0 / (base * f64::from(self.lfu_log_factor) + 1.0) { counter + 1 } else { counter }
    }

    fn seconds(&self) -> u32 {
        (self.now.0 / 1_000) as u32
    }

    fn minutes(&self) -> u32 {
        (self.now.0 / 60_000) as u32 & 0x00ff_ffff
    }
}
