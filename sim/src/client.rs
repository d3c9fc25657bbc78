//! One client: what it sent and is owed, and what it knows of its own keys.

mod replies;
mod uncertain;

use std::collections::{BTreeMap, VecDeque};

use skep_base::Rng;
use skep_resp::write_command;

use crate::bank::{self, Tells};
use crate::carried::Carrier;
use crate::history::{HISTORY_DB, Histories, OpRef, Sender};
use crate::jobs::{JOB_QUEUES, LIST_TICKED, LIST_TRIED, LIST_WINDOWED, TICKED, TRIED, WINDOWED, done_key};
use crate::ledger::{Before, LEDGER_DB, Ledger, NOTES, QUEUES};
use crate::model::{Model, Words, show};
use crate::plan::{Fault, Plan};
use crate::process::Conn;
use crate::streams::STREAMS;
use crate::workload::{PRIVATE_DB, WILD_DBS, Workload};

/// How far the client is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Down,
    /// Connected, finding out what became of its keys.
    Syncing,
    Up,
}

/// A command without an answer yet.
struct Sent {
    words: Words,
    kind: Kind,
    /// The earliest wall time that any clock showed since it left.
    wall_min: u64,
}

#[derive(Clone)]
enum Kind {
    /// The reply is not judged.
    Any,
    Select,
    /// On the client's own keys of some epoch.
    Private(u64),
    Expiring(u64),
    Ledger(Before, Carrier),
    /// On accounts.
    Bank(Tells),
    History(OpRef),
    /// Watches a key that is to be replaced only if it is what the read behind it finds.
    Watch,
    ReadWatched(OpRef),
    /// Ends the transaction that replaces it.
    Replace(OpRef),
    Barrier,
    Show,
    /// Shows keys of an epoch that is over, by its place in [`Client::over`].
    ShowOver(usize),
    Audit(&'static str),
}

/// Own keys that the client has given up, since something may still be done to them. At the end they must hold one of these.
struct Over {
    show: Vec<Words>,
    candidates: Vec<Model>,
}

/// Epochs that are looked at again at the end.
const OVER_MAX: usize = 16;

/// What is known of a key with a deadline.
enum Expiring {
    Unknown,
    Set { value: Vec<u8>, deadline: u64 },
    Gone,
}

/// The world as a client may know it.
pub struct Surroundings<'a> {
    pub plan: &'a Plan,
    pub ledger: &'a mut Ledger,
    pub histories: &'a mut Histories,
    /// Virtual microseconds.
    pub at: u64,
    /// What the client's node takes for the time, and the earliest time that any wall clock shows.
    pub wall: u64,
    pub wall_min: u64,
    /// The latest wall time that a clock can be at which was never set back.
    pub wall_max: u64,
}

pub struct Client {
    pub state: State,
    number: usize,
    /// Counts its connections.
    pub generation: u64,
    /// Where it is connected, or connects to.
    pub node: usize,
    /// It has asked a node to be let in.
    pub bound: bool,
    pub conn: Option<Conn>,
    /// It was refused, and looks for another node.
    pub gives_up: bool,
    /// When it asked for something last.
    pub since: u64,
    /// Until then it sends nothing but probes.
    pub quiet_until: u64,
    /// When the last piece under way to the node, and from it, arrives.
    pub to_node_at: u64,
    pub to_client_at: u64,
    workload: Workload,
    db: u8,
    /// Commands about the connection that it has sent.
    stage: u64,
    /// What it watches was answered to be watched; `None` if it watches nothing.
    watches: Option<bool>,
    sent: VecDeque<Sent>,
    unread: Vec<u8>,
    /// What its keys may hold; one model unless something is uncertain.
    candidates: Vec<Model>,
    /// With memory durability: what they held since the last crash.
    history: Vec<Model>,
    expiring: BTreeMap<Vec<u8>, Expiring>,
    /// Counts the sets of own keys: where there are several nodes, a command whose answer is lost may be carried out late, so
    /// the client goes on with fresh keys.
    epoch: u64,
    over: Vec<Over>,
    audits: bool,
    after_crash: bool,
    pub replies: u64,
    pub judged: u64,
}

impl Client {
    pub fn new(number: usize, plan: &Plan) -> Client {
        Client {
            state: State::Down,
            number,
            generation: 0,
            node: 0,
            bound: false,
            gives_up: false,
            conn: None,
            since: 0,
            quiet_until: 0,
            to_node_at: 0,
            to_client_at: 0,
            workload: Workload::new(number, plan.value_bytes_max),
            db: 0,
            stage: 0,
            watches: None,
            sent: VecDeque::new(),
            unread: Vec::new(),
            candidates: vec![Model::default()],
            history: vec![Model::default()],
            expiring: BTreeMap::new(),
            epoch: 0,
            over: Vec::new(),
            audits: false,
            after_crash: false,
            replies: 0,
            judged: 0,
        }
    }

    pub fn is_idle(&self) -> bool {
        self.sent.is_empty()
    }

    /// The commands that are owed an answer, for a report.
    pub fn owed(&self) -> Vec<String> {
        self.sent.iter().map(|s| show(&s.words)).collect()
    }

    /// At the next synchronisation the shared queues are compared too.
    pub fn audit_next(&mut self) {
        self.audits = true;
    }

    /// The first bytes of a new connection: a barrier, then reads of all its keys.
    pub fn begin_sync(&mut self, rng: &mut Rng, around: &mut Surroundings<'_>) -> Vec<u8> {
        self.state = State::Syncing;
        (self.db, self.watches) = (0, None);
        let mut bytes = Vec::new();
        if rng.one_in(2) {
            self.send(&mut bytes, vec![b"HELLO".to_vec(), b"3".to_vec()], Kind::Any, around.wall_min);
        }
        self.select(&mut bytes, PRIVATE_DB, around.wall_min);
        let barrier = self.workload.barrier();
        self.send(&mut bytes, barrier, Kind::Barrier, around.wall_min);
        bytes
    }

    fn go_on_syncing(&mut self, around: &mut Surroundings<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for words in self.workload.show() {
            self.send(&mut bytes, words, Kind::Show, around.wall_min);
        }
        if self.audits {
            self.audit(&mut bytes, around);
        }
        bytes
    }

    /// Reads all that is known: own keys of earlier times, the shared queues, and the keys with histories.
    fn audit(&mut self, bytes: &mut Vec<u8>, around: &mut Surroundings<'_>) {
        for place in 0..self.over.len() {
            for words in self.over[place].show.clone() {
                self.send(bytes, words, Kind::ShowOver(place), around.wall_min);
            }
        }
        self.select(bytes, LEDGER_DB, around.wall_min);
        for queue in QUEUES {
            let words = ["LRANGE", queue, "0", "-1"].map(|w| w.as_bytes().to_vec()).to_vec();
            self.send(bytes, words, Kind::Audit(queue), around.wall_min);
        }
        for queue in JOB_QUEUES {
            let words = ["QINFO", queue].map(|w| w.as_bytes().to_vec()).to_vec();
            self.send(bytes, words, Kind::Audit(queue), around.wall_min);
        }
        for stream in STREAMS {
            let words =
                ["XINFO", "STREAM", stream, "FULL", "COUNT", "0"].map(|w| w.as_bytes().to_vec()).to_vec();
            self.send(bytes, words, Kind::Audit(stream), around.wall_min);
        }
        for words in around.ledger.calls_of_scripts(self.number) {
            let before = around.ledger.on_sent(&words, around.at);
            self.send(bytes, words, Kind::Ledger(before, Carrier::Alone), around.wall_min);
        }
        let noted = vec![b"SCARD".to_vec(), done_key().into_bytes()];
        self.send(bytes, noted, Kind::Audit(NOTES), around.wall_min);
        if self.number == 0 {
            let lists = [(TRIED, LIST_TRIED), (TICKED, LIST_TICKED), (WINDOWED, LIST_WINDOWED)];
            for (queue, script) in lists {
                let words = ["EVAL", script, "1", queue].map(|w| w.as_bytes().to_vec()).to_vec();
                self.send(bytes, words, Kind::Audit(queue), around.wall_min);
            }
            self.select(bytes, HISTORY_DB, around.wall_min);
            for (words, op) in around.histories.final_reads(self.sender(), around.at) {
                self.send(bytes, words, Kind::History(op), around.wall_min);
            }
        }
    }

    fn sender(&self) -> Sender {
        Sender { session: (self.number as u64) << 32 | self.generation, stage: self.stage }
    }

    /// The next burst of commands.
    pub fn burst(&mut self, rng: &mut Rng, around: &mut Surroundings<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let domain = rng.below(10);
        let histories = !around.plan.evicts_all();
        let db = match domain {
            0..2 => PRIVATE_DB,
            2..5 => LEDGER_DB,
            5..8 if histories => HISTORY_DB,
            _ => rng.below(u64::from(WILD_DBS)) as u8,
        };
        self.select(&mut bytes, db, around.wall_min);
        // A copy that was damaged has other versions of what was written after that: where it leads, a watch fails or holds wrongly
        // until it is found.
        let replaces = db == HISTORY_DB && !around.plan.has(Fault::Damage);
        let most = if around.plan.refuses() { around.plan.burst_max.min(6) } else { around.plan.burst_max };
        for _ in 0..1 + rng.below(most) {
            if db == LEDGER_DB && rng.one_in(3) {
                for (words, tells) in bank::next(rng) {
                    self.send(&mut bytes, words, Kind::Bank(tells), around.wall_min);
                }
                continue;
            }
            if db == LEDGER_DB {
                self.use_ledger(&mut bytes, rng, around);
                continue;
            }
            if replaces && self.watches.is_none() && rng.one_in(4) {
                self.watch(&mut bytes, rng, around);
                continue;
            }
            let (words, kind) = match domain {
                0..2 if rng.one_in(5) => {
                    (self.workload.expiring(rng, around.wall), Kind::Expiring(self.epoch))
                }
                0..2 => (self.workload.private(rng), Kind::Private(self.epoch)),
                5..8 if histories => {
                    let (words, op) = around.histories.next(rng, self.sender(), around.at);
                    (words, Kind::History(op))
                }
                _ => (self.workload.wild(rng, around.wall), Kind::Any),
            };
            self.send(&mut bytes, words, kind, around.wall_min);
        }
        bytes
    }

    /// One operation on a key that all clients use, to see whether this client's node answers by an old state.
    pub fn probe(&mut self, writes: bool, around: &mut Surroundings<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.select(&mut bytes, HISTORY_DB, around.wall_min);
        let (words, op) = around.histories.probe(writes, self.sender(), around.at);
        self.send(&mut bytes, words, Kind::History(op), around.wall_min);
        bytes
    }

    /// A command on keys that all clients share, carried in one way or another.
    fn use_ledger(&mut self, bytes: &mut Vec<u8>, rng: &mut Rng, around: &mut Surroundings<'_>) {
        let words = match rng.below(10) {
            0..5 => around.ledger.next_of_jobs(rng, around.wall),
            5..7 => around.ledger.next_of_streams(rng),
            7 => around.ledger.next_of_scripts(rng),
            _ => self.workload.ledger(rng),
        };
        let carrier = Carrier::draw(&words, around.ledger.notes_apart(), rng);
        let before = around.ledger.on_sent(&words, around.at);
        let (commands, answered) = carrier.commands(&words);
        for (place, command) in commands.into_iter().enumerate() {
            match place == answered {
                true => {
                    write_command(bytes, command.iter().map(Vec::as_slice).collect::<Vec<_>>());
                    let kind = Kind::Ledger(before.clone(), carrier);
                    self.sent.push_back(Sent { words: words.clone(), kind, wall_min: around.wall_min });
                }
                false => self.send(bytes, command, Kind::Any, around.wall_min),
            }
        }
    }

    /// Begins to replace a key by what nobody else may have replaced it with meanwhile; see [`Client::replace`].
    fn watch(&mut self, bytes: &mut Vec<u8>, rng: &mut Rng, around: &mut Surroundings<'_>) {
        self.stage += u64::from(!around.histories.forgets_watch());
        let (words, op) = around.histories.read_to_replace(rng, self.sender(), around.at);
        self.watches = Some(around.histories.forgets_watch());
        if !around.histories.forgets_watch() {
            let watch = vec![b"WATCH".to_vec(), words[1].clone()];
            self.send(bytes, watch, Kind::Watch, around.wall_min);
        }
        self.send(bytes, words, Kind::ReadWatched(op), around.wall_min);
    }

    /// Goes on with what was read, or lets it be.
    fn replace(&mut self, bytes: &mut Vec<u8>, op: OpRef, around: &mut Surroundings<'_>) {
        let watched = self.watches == Some(true);
        let from = self.sender();
        let next = watched.then(|| around.histories.replace(op, from, around.at)).flatten();
        let words = |word: &str| vec![word.as_bytes().to_vec()];
        let Some((set, op)) = next else {
            self.watches = None;
            return self.send(bytes, words("UNWATCH"), Kind::Any, around.wall_min);
        };
        self.send(bytes, words("MULTI"), Kind::Any, around.wall_min);
        self.send(bytes, set, Kind::Any, around.wall_min);
        self.send(bytes, words("EXEC"), Kind::Replace(op), around.wall_min);
    }

    fn select(&mut self, bytes: &mut Vec<u8>, db: u8, wall: u64) {
        if self.db != db {
            self.db = db;
            self.stage += 1;
            self.send(bytes, vec![b"SELECT".to_vec(), db.to_string().into_bytes()], Kind::Select, wall);
        }
    }

    fn send(&mut self, bytes: &mut Vec<u8>, words: Words, kind: Kind, wall_min: u64) {
        write_command(bytes, words.iter().map(Vec::as_slice).collect::<Vec<_>>());
        self.sent.push_back(Sent { words, kind, wall_min });
    }

    /// The wall clock went back to `wall`.
    pub fn on_wall_back(&mut self, wall: u64) {
        for sent in &mut self.sent {
            sent.wall_min = sent.wall_min.min(wall);
        }
    }
}
