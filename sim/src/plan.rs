//! What one seed is about: sizes, settings and which faults strike how often. Swarm testing: each seed leaves out about
//! half of the faults, since a run with all of them at once hides what only one of them would show (Groce et al., "Swarm
//! Testing", 2012).

use skep_base::Rng;
use skep_log::WalConfig;
use skep_settings::Settings;

/// Virtual microseconds.
pub const MS: u64 = 1_000;

/// The draw of one seed.
#[derive(Clone, Debug)]
pub struct Plan {
    pub clients: usize,
    /// Commands in one burst of a client at the most.
    pub burst_max: u64,
    /// When faults and new work end, in microseconds.
    pub work_us: u64,
    /// Longest pause of a client between bursts.
    pub think_us: u64,
    pub segment_bytes: u64,
    pub first_segment_bytes: u64,
    pub segments_kept: usize,
    pub checkpoint_log_bytes: u64,
    /// `durability = "memory"`.
    pub memory: bool,
    /// The limit in bytes, and what happens when it is reached.
    pub maxmemory: Option<(u64, &'static str)>,
    /// Longest time of a write with its sync.
    pub sync_us: u64,
    /// Longest way of a piece of a stream between client and node.
    pub network_us: u64,
    /// Longest value written, in bytes.
    pub value_bytes_max: u64,
    /// Clients that read their replies in small pieces.
    pub slow_readers: bool,
    /// Mean time between two of each, in microseconds.
    pub faults: Faults,
    /// A bit is flipped before one start in so many.
    pub flip_in: Option<u64>,
    /// The disk fails within one start in so many.
    pub failing_start_in: Option<u64>,
}

/// Mean time between two strikes of each fault, in microseconds; `None` if this seed does without.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    pub power_cut: Option<u64>,
    pub kill: Option<u64>,
    pub eio: Option<u64>,
    pub full: Option<u64>,
    pub slow: Option<u64>,
    pub jump: Option<u64>,
    pub checkpoint: Option<u64>,
    pub disconnect: Option<u64>,
}

impl Plan {
    pub fn draw(rng: &mut Rng) -> Plan {
        let segment_bytes = [4096, 4096, 8192, 16_384, 65_536][rng.below(5) as usize];
        let memory = rng.one_in(5);
        let faults = Faults {
            power_cut: some(rng, 80, 2_000),
            kill: some(rng, 80, 2_000),
            eio: some(rng, 200, 3_000),
            full: some(rng, 200, 2_000).filter(|_| !memory),
            slow: some(rng, 200, 2_000),
            jump: some(rng, 100, 2_000),
            checkpoint: some(rng, 20, 500),
            disconnect: some(rng, 20, 800),
        };
        let policies =
            ["noeviction", "allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-ttl"];
        let maxmemory = (rng.one_in(4) && !memory)
            .then(|| (1_000 + rng.below(30_000), policies[rng.below(policies.len() as u64) as usize]));
        Plan {
            clients: 1 + rng.below(5) as usize,
            burst_max: 1 + rng.below(12),
            work_us: (300 + rng.below(2_500)) * MS,
            think_us: (1 + rng.below(60)) * MS,
            segment_bytes,
            first_segment_bytes: 2048 + 512 * rng.below(12),
            segments_kept: 2 + rng.below(3) as usize,
            checkpoint_log_bytes: 1 << (16 + rng.below(4)),
            memory,
            maxmemory,
            sync_us: 200 + rng.below(6 * MS),
            network_us: 20 + rng.below(2 * MS),
            value_bytes_max: if rng.one_in(4) { 6_000 } else { 60 },
            slow_readers: rng.one_in(4),
            faults,
            flip_in: rng.one_in(2).then(|| 2 + rng.below(4)),
            failing_start_in: rng.one_in(3).then(|| 2 + rng.below(4)),
        }
    }

    /// True if a write may be refused although the node is well.
    pub fn refuses(&self) -> bool {
        self.faults.full.is_some() || self.maxmemory.is_some_and(|(_, policy)| policy != "allkeys-random")
    }

    /// True if keys may vanish, of those with a deadline only or of all.
    pub fn evicts_all(&self) -> bool {
        self.maxmemory.is_some_and(|(_, policy)| policy.starts_with("allkeys"))
    }

    pub fn evicts_volatile(&self) -> bool {
        self.maxmemory.is_some_and(|(_, policy)| policy != "noeviction")
    }

    pub fn wal_config(&self) -> WalConfig {
        WalConfig {
            salt: 0x5eed_5a17,
            segment_bytes: self.segment_bytes,
            first_segment_bytes: self.first_segment_bytes,
            segments_kept: self.segments_kept,
        }
    }

    pub fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        let mut set = |name: &str, value: &str| {
            settings.set(name, value).unwrap_or_else(|e| panic!("{name} = {value}: {e}"));
        };
        set("durability", if self.memory { "memory" } else { "disk" });
        set("checkpoint-log-bytes", &self.checkpoint_log_bytes.to_string());
        if let Some((bytes, policy)) = self.maxmemory {
            set("maxmemory", &bytes.to_string());
            set("maxmemory-policy", policy);
        }
        settings
    }
}

/// In half of the draws a mean time between `low` and `high` milliseconds.
fn some(rng: &mut Rng, low: u64, high: u64) -> Option<u64> {
    let mean = (low + rng.below(high - low)) * MS;
    rng.one_in(2).then_some(mean)
}
