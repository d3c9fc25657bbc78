//! A node with a disk and clients that a test plays, one input at a time; and several of them with a network between.

mod cluster;
mod drains;
mod restart;

use std::collections::BTreeMap;

use skep_base::{ConnId, GroupId, LogId, Millis, NodeId, NodeUuid};
use skep_log::{NodeIdentity, Record};
use skep_settings::Settings;

pub(crate) use cluster::Cluster;

use crate::{GatewayVersion, Identity, Input, Load, Node, NodeRecord, Note, Now, Output, Recovered};

/// A node and its surroundings.
pub(crate) struct World {
    pub node: Node,
    pub now: Now,
    /// Reported at the end of each turn.
    pub load: Load,
    /// The disk keeps what it is given until [`World::persist`].
    pub holds_disk: bool,
    /// What the node asked for, but for what the disk was asked.
    pub notes: Vec<Note>,
    pub closed: Vec<ConnId>,
    pub gateway: Vec<GatewayVersion>,
    pub stopped: bool,
    /// Checkpoints given out whole and not confirmed.
    finished: Vec<(GroupId, LogId)>,
    begun: Option<(GroupId, LogId)>,
    persist_through: u64,
    identity_given: bool,
    /// What the node asked of the network, and of its checkpoints.
    pub asked: Vec<Output>,
    /// Chunks of checkpoints, those being written last.
    pub chunks: BTreeMap<(GroupId, LogId), Vec<Vec<u8>>>,
    /// What the disk was given, for a node that starts again.
    pub log: Vec<Record>,
}

impl World {
    /// A node that has just become ready, with `settings` as pairs of names and values.
    pub fn new(settings: &[(&str, &str)]) -> World {
        let mut world = World::starting(settings);
        world.settle();
        assert!(world.node.is_ready(), "a node of one is ready after its first outputs are durable");
        world
    }

    /// A node that waits for its disk before it is ready.
    pub fn starting(settings: &[(&str, &str)]) -> World {
        World::numbered(1, settings)
    }

    /// The same, with a number in its name, its addresses and all that is drawn by chance.
    pub fn numbered(number: u16, settings: &[(&str, &str)]) -> World {
        let mut values = Settings::default();
        settings.iter().for_each(|(name, value)| values.set(name, value).unwrap());
        let now = Now { mono: Millis(1_000_000), wall: Millis(1_700_000_000_123) };
        let identity = Identity {
            saved: NodeIdentity { uuid: NodeUuid(u128::from(number)), ..NodeIdentity::default() },
            record: NodeRecord {
                name: format!("n{number}"),
                client: format!("127.0.0.1:{}", 7_000 + number),
                peer: format!("n{number}:17001"),
                http: format!("127.0.0.1:{}", 8_000 + number),
                zone: String::new(),
                version: "0.1.0".into(),
            },
            new_cluster_id: format!("{number}").repeat(40),
            run_id: "f".repeat(40),
            process_id: 4711,
            clients_fit: u64::MAX,
            descriptors_fit: u64::MAX,
            incarnation: 1,
            seed: 7 * u64::from(number),
            secret: [7; 32],
            replaces: None,
            link_limits: skep_peer::LinkLimits::default(),
            rest: crate::RestPace::default(),
            may_damage: false,
        };
        let mut out = Vec::new();
        let node = Node::start(identity, values, Recovered::default(), now, &mut out);
        let mut world = World {
            node,
            now,
            load: Load::default(),
            holds_disk: false,
            notes: Vec::new(),
            closed: Vec::new(),
            gateway: Vec::new(),
            stopped: false,
            finished: Vec::new(),
            begun: None,
            persist_through: 0,
            identity_given: false,
            asked: Vec::new(),
            chunks: BTreeMap::new(),
            log: Vec::new(),
        };
        world.take(out);
        world
    }

    pub fn connect(&mut self) -> ConnId {
        let (_, number) = self.node.admit(0).unwrap();
        self.node.welcome(number, format!("10.0.0.{number}:5000"), "127.0.0.1:7001".into())
    }

    /// Feeds bytes, without ending the turn.
    pub fn receive(&mut self, conn: ConnId, bytes: impl AsRef<[u8]>) {
        self.input(Input::Received { conn, bytes: bytes.as_ref() });
    }

    /// Ends turns, and lets the disk work unless it is held, until nothing is left to do.
    pub fn settle(&mut self) {
        for _ in 0..20 {
            self.turn();
            if !self.holds_disk {
                self.persist();
            }
        }
    }

    /// Hands a shard over, as the hub has it done that found a better leader.
    pub fn hand_over(&mut self, group: GroupId, to: NodeId) {
        let mut out = Vec::new();
        self.node.lead_away(group, to, &mut out);
        self.take(out);
    }

    /// Ends a turn.
    pub fn turn(&mut self) {
        self.input(Input::Turn(self.load));
    }

    /// Lets time pass.
    pub fn advance(&mut self, ms: u64) {
        self.now = Now { mono: self.now.mono.plus(ms), wall: self.now.wall.plus(ms) };
    }

    /// Everything given to the disk becomes durable.
    pub fn persist(&mut self) {
        let through = self.persist_through;
        self.input(Input::Persisted { through });
        if std::mem::take(&mut self.identity_given) {
            self.input(Input::IdentitySaved);
        }
    }

    /// Checkpoints that are written become durable, and those that wait for them are written.
    pub fn save_checkpoints(&mut self) {
        self.settle();
        while self.save_checkpoint() {
            self.settle();
        }
    }

    /// A checkpoint that is written becomes durable. False if there is none.
    pub fn save_checkpoint(&mut self) -> bool {
        let Some((group, at)) = self.finished.pop() else { return false };
        self.input(Input::CheckpointSaved { group, at });
        true
    }

    /// The group whose checkpoint is being written, or waits to be confirmed.
    pub fn under_way(&mut self) -> Option<GroupId> {
        self.finished.pop().or(self.begun.take()).map(|(group, _)| group)
    }

    /// The bytes sent to a client since the last time, line ends shown as blanks.
    pub fn replies(&mut self, conn: ConnId) -> String {
        let text = String::from_utf8(self.node.unsent(conn).to_vec()).unwrap();
        if self.node.on_sent(conn, text.len()) {
            self.closed.push(conn);
            self.input(Input::Disconnected { conn });
        }
        text.trim_end().replace("\r\n", " ")
    }

    /// Sends commands, one a line with arguments between blanks, and gives all replies.
    pub fn ask(&mut self, conn: ConnId, commands: &str) -> String {
        self.receive(conn, pipeline(commands));
        self.settle();
        self.replies(conn)
    }

    pub fn input(&mut self, input: Input<'_>) {
        let mut out = Vec::new();
        self.node.handle(self.now, input, &mut out);
        self.take(out);
        self.node.assert_invariants();
    }

    fn take(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Persist { number, records } => {
                    self.log.extend(records);
                    assert_eq!(number, self.persist_through + 1, "numbers are consecutive");
                    self.persist_through = number;
                }
                Output::Close { conn } => self.closed.push(conn),
                Output::Note(note) => self.notes.push(note),
                Output::Gateway(version) => self.gateway.push(version),
                Output::Stopped => self.stopped = true,
                Output::SaveIdentity(_) => self.identity_given = true,
                Output::CheckpointBegin { group, at, .. } => {
                    self.begun = Some((group, at));
                    self.chunks.insert((group, at), Vec::new());
                }
                Output::CheckpointChunk { bytes, .. } => {
                    let begun = self.begun.expect("a chunk belongs to a checkpoint");
                    self.chunks.get_mut(&begun).expect("it was begun").push(bytes);
                }
                Output::CheckpointFinish { .. } => self.finished.extend(self.begun.take()),
                Output::Dial { .. } | Output::CloseLink { .. } | Output::ReadCheckpoint { .. } => {
                    self.asked.push(output);
                }
                _ => {}
            }
        }
    }
}

/// Commands in RESP, one a line with arguments between blanks; `""` is an empty argument.
pub(crate) fn pipeline(commands: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in commands.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().map(|w| if w == "\"\"" { "" } else { w }).collect();
        bytes.extend(format!("*{}\r\n", words.len()).into_bytes());
        for word in words {
            bytes.extend(format!("${}\r\n{word}\r\n", word.len()).into_bytes());
        }
    }
    bytes
}
