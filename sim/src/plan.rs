//! What one seed is about: nodes, sizes, settings and which faults strike how often. Swarm testing: each seed leaves out
//! about half of the faults, since a run with all of them at once hides what only one of them would show (Groce et al.,
//! "Swarm Testing", 2012).

use skep_base::Rng;
use skep_log::WalConfig;
use skep_node::RestPace;
use skep_peer::{PIECE_BYTES_MAX, PIECE_BYTES_MIN};
use skep_settings::Settings;

use crate::Wishes;
use crate::net::Pace;
use crate::planted::Planted;

/// Virtual microseconds.
pub const MS: u64 = 1_000;
/// Longer than any run.
const FOR_EVER_MS: u64 = 1 << 40;

/// What can go wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fault {
    /// One machine loses power, and with it what was not synced.
    PowerCut,
    /// So do several at once, perhaps all.
    Blackout,
    Kill,
    /// The disk fails from some operation on.
    Eio,
    /// The disk has no more space for a while.
    Full,
    Slow,
    /// The disk answers nothing for a while.
    Hang,
    /// A wall clock is set forward or back.
    Jump,
    Checkpoint,
    /// A client's connection ends.
    Disconnect,
    /// A process is stopped for a while and goes on (SIGSTOP, SIGCONT).
    Pause,
    /// The nodes are parted in two sides.
    Partition,
    /// Two sides that only one node reaches both of.
    Bridge,
    /// Nothing goes from one node to another, or to all others, while the way back is open.
    OneWay,
    /// A connection between two nodes breaks with what was under way.
    Break,
    /// A frame between two nodes is lost, doubled or damaged, then the connection breaks.
    Frame,
    /// The state of a copy changes in memory.
    Damage,
    /// Somebody adds, drains, removes or replaces a node.
    Operate,
}

/// A fault with the range of its mean interval in ms. Half of them strike clusters only.
const FAULTS: [(Fault, u64, u64, bool); 18] = [
    (Fault::PowerCut, 80, 2_000, false),
    (Fault::Kill, 80, 2_000, false),
    (Fault::Eio, 200, 3_000, false),
    (Fault::Full, 200, 2_000, false),
    (Fault::Slow, 200, 2_000, false),
    (Fault::Jump, 100, 2_000, false),
    (Fault::Checkpoint, 20, 500, false),
    (Fault::Disconnect, 20, 800, false),
    (Fault::Blackout, 800, 6_000, true),
    (Fault::Hang, 500, 4_000, true),
    (Fault::Pause, 200, 3_000, true),
    (Fault::Partition, 300, 4_000, true),
    (Fault::Bridge, 500, 4_000, true),
    (Fault::OneWay, 300, 4_000, true),
    (Fault::Break, 50, 2_000, true),
    (Fault::Frame, 50, 2_000, true),
    (Fault::Operate, 500, 3_000, true),
    (Fault::Damage, 200, 2_000, true),
];

/// What a seed may be about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Focus {
    /// Reads that ask a leader which others have replaced: leaders are stopped or cut off again and again, for longer than an
    /// election takes, while clients on all nodes write and read the same keys.
    Leases,
}

impl Focus {
    pub const ALL: [Focus; 1] = [Focus::Leases];

    pub fn name(self) -> &'static str {
        match self {
            Focus::Leases => "leases",
        }
    }

    pub fn parse(name: &str) -> Option<Focus> {
        Focus::ALL.into_iter().find(|focus| focus.name() == name)
    }
}

/// One seed in so many, of those with three nodes or more, is about leases.
const FOCUSED_ONE_IN: u64 = 12;

/// The draw of one seed.
#[derive(Clone, Debug)]
pub struct Plan {
    pub focus: Option<Focus>,
    /// Nodes that list each other and form a cluster; 1 is a node alone.
    pub founders: usize,
    /// Nodes that start later and join, one after the other.
    pub joiners: usize,
    /// Copies of each shard.
    pub replicas: u64,
    pub shards: u64,
    /// Seeds the numbers of cells that nodes have, another in each of their lives. Not drawn, so that a plan of one shard is
    /// what it was.
    pub cells_seed: u64,
    pub clients: usize,
    /// Commands in one burst of a client at the most.
    pub burst_max: u64,
    /// When faults and new work end, in microseconds.
    pub work_us: u64,
    /// Longest pause of a client between bursts.
    pub think_us: u64,
    /// How long a client waits for an answer before it tries another node.
    pub patience_us: u64,
    pub request_timeout_ms: u64,
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
    /// Longest way of a piece of a stream between two nodes, and how much of it is the same for all pieces.
    pub link_us: u64,
    /// Bytes a millisecond that one connection between two nodes carries.
    pub link_bytes_per_ms: u64,
    /// Bytes on their way, or not read yet, above which such a connection takes no more.
    pub window_bytes: usize,
    /// Bytes of the pieces into which nodes cut what they send each other.
    pub piece_bytes: usize,
    /// How much a monotonic clock may run fast or slow, and how far wall clocks are apart at the beginning.
    pub drift_ppm: u64,
    pub skew_ms: u64,
    /// Longest value written, in bytes.
    pub value_bytes_max: u64,
    /// Clients that read their replies in small pieces.
    pub slow_readers: bool,
    /// Before it no fault strikes, in microseconds.
    pub quiet_us: u64,
    /// The faults of this seed with their mean intervals in microseconds.
    pub faults: Vec<(Fault, u64)>,
    /// Longest time that a pause, a partition or a hanging disk lasts, in microseconds.
    pub outage_us: u64,
    /// A bit is flipped before one start in so many.
    pub flip_in: Option<u64>,
    /// The disk fails within one start in so many.
    pub failing_start_in: Option<u64>,
}

impl Plan {
    /// The plan of a seed.
    pub fn draw(rng: &mut Rng, wishes: &Wishes) -> Plan {
        let mut plan = Plan::draw_any(rng, wishes.nodes);
        let drawn = Rng::new(!plan.cells_seed).one_in(FOCUSED_ONE_IN) && plan.nodes() >= 3;
        let needed = wishes.planted.is_some_and(Planted::is_about_leases);
        if wishes.focus == Some(Focus::Leases) || needed || drawn {
            plan.focus_on_leases();
        }
        plan
    }

    fn draw_any(rng: &mut Rng, nodes: Option<usize>) -> Plan {
        let nodes = nodes.unwrap_or([1, 1, 1, 2, 3, 3, 3, 3, 4, 5, 5, 7][rng.below(12) as usize]).clamp(1, 7);
        let alone = nodes == 1;
        // A cluster forms at once, or grows from less.
        let founders =
            if alone || rng.one_in(3) { 1.max(nodes - rng.below(nodes as u64) as usize) } else { nodes };
        let segment_bytes = [4096, 4096, 8192, 16_384, 65_536][rng.below(5) as usize];
        let memory = alone && rng.one_in(5);
        let faults = draw_faults(rng, alone, memory);
        let think_ms = if alone { 60 } else { [30, 200, 1_500][rng.below(3) as usize] };
        let policies =
            ["noeviction", "allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-ttl"];
        let maxmemory = (rng.one_in(4) && !memory)
            .then(|| (1_000 + rng.below(30_000), policies[rng.below(policies.len() as u64) as usize]));
        Plan {
            focus: None,
            founders,
            joiners: nodes - founders,
            replicas: [1, 2, 3, 3, 3, 3, 5, 7][rng.below(8) as usize],
            shards: if alone { 1 } else { [1, 1, 1, 2, 5][rng.below(5) as usize] },
            cells_seed: rng.clone().next_u64(),
            clients: 1 + rng.below(if alone { 5 } else { 7 }) as usize,
            burst_max: 1 + rng.below(12),
            work_us: if alone { 300 + rng.below(2_500) } else { 1_500 + rng.below(6_000) } * MS,
            think_us: (1 + rng.below(think_ms)) * MS,
            patience_us: [300, 1_000, 3_000, 12_000][rng.below(4) as usize] * MS,
            request_timeout_ms: [200, 1_000, 5_000][rng.below(3) as usize],
            segment_bytes,
            first_segment_bytes: 2048 + 512 * rng.below(12),
            segments_kept: 2 + rng.below(3) as usize,
            checkpoint_log_bytes: 1 << (16 + rng.below(4)),
            memory,
            maxmemory,
            sync_us: 200 + rng.below(6 * MS),
            network_us: 20 + rng.below(2 * MS),
            link_us: [100, 500, 2_000, 10_000][rng.below(4) as usize],
            link_bytes_per_ms: [1_000, 20_000, 1_000_000][rng.below(3) as usize],
            window_bytes: [4 << 10, 64 << 10, 1 << 20][rng.below(3) as usize],
            drift_ppm: [0, 1_000, 20_000][rng.below(3) as usize],
            skew_ms: if alone { 0 } else { [0, 5, 500][rng.below(3) as usize] },
            value_bytes_max: if rng.one_in(4) { 6_000 } else { 60 },
            slow_readers: rng.one_in(4),
            quiet_us: 0,
            faults,
            outage_us: [300, 1_000, 3_000][rng.below(3) as usize] * MS,
            flip_in: rng.one_in(2).then(|| 2 + rng.below(4)),
            failing_start_in: rng.one_in(3).then(|| 2 + rng.below(4)),
            piece_bytes: [PIECE_BYTES_MIN, 300, 4 << 10, PIECE_BYTES_MAX][rng.below(4) as usize],
        }
    }

    /// When groups rest; as `cells_seed`, not drawn. Seldom in seeds about leases, since a leader at rest has none.
    pub fn rest(&self, planted: Option<Planted>) -> RestPace {
        let mut rng = Rng::new(self.cells_seed ^ 0x7e57);
        let seldom = self.focus == Some(Focus::Leases);
        let after_ms = if seldom { 5_000 } else { [50, 50, 300, 1_000, 5_000][rng.below(5) as usize] };
        let usual = RestPace::default().vouch_ms;
        let vouch_ms = if planted == Some(Planted::RestUnasked) { FOR_EVER_MS } else { usual };
        RestPace { after_ms, vouch_ms }
    }

    /// Cells of a node in one of its lives.
    pub fn cells_of(&self, node: usize, life: u64) -> usize {
        if self.shards == 1 {
            return 1;
        }
        let mut rng = Rng::new(self.cells_seed ^ (node as u64) << 32 ^ life);
        [1, 2, 2, 3, 4][rng.below(5) as usize]
    }

    /// A cluster that is well but for what [`Focus::Leases`] tells, with clients on all nodes.
    fn focus_on_leases(&mut self) {
        self.focus = Some(Focus::Leases);
        let nodes = self.nodes().max(3);
        (self.founders, self.joiners, self.replicas, self.shards) = (nodes, 0, nodes as u64, 1);
        self.clients = 2 * nodes + 1;
        (self.work_us, self.think_us, self.patience_us) = (6_000 * MS, 100 * MS, 3_000 * MS);
        (self.maxmemory, self.memory, self.flip_in, self.failing_start_in) = (None, false, None, None);
        // Until each node has a copy none can replace another.
        (self.quiet_us, self.outage_us) = (2_000 * MS, 200 * MS);
        self.faults = vec![(Fault::Pause, 700 * MS), (Fault::Partition, 700 * MS), (Fault::Jump, 2_000 * MS)];
    }

    /// All nodes there will be, but for those that replace others.
    pub fn nodes(&self) -> usize {
        self.founders + self.joiners
    }

    pub fn alone(&self) -> bool {
        self.nodes() == 1
    }

    pub fn has(&self, fault: Fault) -> bool {
        self.faults.iter().any(|(f, _)| *f == fault)
    }

    /// The pace of connections between nodes.
    pub fn pace(&self) -> Pace {
        Pace { delay_us: self.link_us, bytes_per_ms: self.link_bytes_per_ms, window_bytes: self.window_bytes }
    }

    /// True if a write may be refused although the node is well.
    pub fn refuses(&self) -> bool {
        !self.alone()
            || self.has(Fault::Full)
            || self.maxmemory.is_some_and(|(_, policy)| policy != "allkeys-random")
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

    /// The settings of a node that is told to join `join`.
    pub fn settings(&self, join: &[String]) -> Settings {
        let mut settings = Settings::default();
        let mut set = |name: &str, value: &str| {
            settings.set(name, value).unwrap_or_else(|e| panic!("{name} = {value}: {e}"));
        };
        set("durability", if self.memory { "memory" } else { "disk" });
        set("checkpoint-log-bytes", &self.checkpoint_log_bytes.to_string());
        set("replicas", &self.replicas.to_string());
        set("shards", &self.shards.to_string());
        set("join", &join.join(","));
        if !self.alone() {
            set("request-timeout", &self.request_timeout_ms.to_string());
        }
        if let Some((bytes, policy)) = self.maxmemory {
            set("maxmemory", &bytes.to_string());
            set("maxmemory-policy", policy);
        }
        settings
    }
}

/// About half of the faults, each with a mean interval; clusters get more time between those that strike a node alone too.
fn draw_faults(rng: &mut Rng, alone: bool, memory: bool) -> Vec<(Fault, u64)> {
    let mut faults = Vec::new();
    for (fault, low, high, clusters_only) in FAULTS {
        let mean = (low + rng.below(high - low)) * MS * if alone || clusters_only { 1 } else { 2 };
        let fits_not = alone && clusters_only || memory && fault == Fault::Full;
        if rng.one_in(2) && !fits_not {
            faults.push((fault, mean));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_draw_every_size_and_fault_and_leave_every_fault_out() {
        let plans: Vec<Plan> =
            (0..300).map(|seed| Plan::draw(&mut Rng::new(seed), &Wishes::default())).collect();
        for nodes in [1, 2, 3, 4, 5, 7] {
            assert!(plans.iter().any(|p| p.nodes() == nodes), "no plan of {nodes} nodes");
        }
        for (fault, ..) in FAULTS {
            let with = plans.iter().filter(|p| p.has(fault)).count();
            assert!((60..240).contains(&with), "{fault:?} in {with} of 300 plans");
        }
        let focused = plans.iter().filter(|p| p.focus.is_some()).count();
        assert!((5..40).contains(&focused), "{focused} of 300 plans are about leases");
        assert!(plans.iter().any(|p| p.joiners > 0) && plans.iter().any(|p| p.founders > 2));
        assert!(plans.iter().all(|p| p.nodes() > 1 || !p.has(Fault::Partition)));
    }
}
