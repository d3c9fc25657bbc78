//! One client: what it sent and is owed, what it knows of its own keys, and the checks of every reply.

use std::collections::{BTreeMap, VecDeque};

use skep_base::Rng;
use skep_resp::{Value, write_command};

use crate::bank::{self, Tells};
use crate::history::{HISTORY_DB, Histories, OpRef};
use crate::jobs::JOB_QUEUES;
use crate::ledger::{Before, LEDGER_DB, Ledger, QUEUES};
use crate::model::{Model, Plain, Words, show};
use crate::plan::Plan;
use crate::process::Conn;
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
    Ledger(Before),
    /// On accounts.
    Bank(Tells),
    History(OpRef),
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
        self.db = 0;
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
        if self.number == 0 {
            self.select(bytes, HISTORY_DB, around.wall_min);
            for (words, op) in around.histories.final_reads(self.session(), around.at) {
                self.send(bytes, words, Kind::History(op), around.wall_min);
            }
        }
    }

    /// One connection, among those of all clients.
    fn session(&self) -> u64 {
        (self.number as u64) << 32 | self.generation
    }

    /// The next burst of commands.
    pub fn burst(&mut self, rng: &mut Rng, around: &mut Surroundings<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let domain = rng.below(10);
        let histories = !around.plan.evicts_all();
        let db = match domain {
            0..3 => PRIVATE_DB,
            3..5 => LEDGER_DB,
            5..8 if histories => HISTORY_DB,
            _ => rng.below(u64::from(WILD_DBS)) as u8,
        };
        self.select(&mut bytes, db, around.wall_min);
        let most = if around.plan.refuses() { around.plan.burst_max.min(6) } else { around.plan.burst_max };
        for _ in 0..1 + rng.below(most) {
            if db == LEDGER_DB && rng.one_in(3) {
                for (words, tells) in bank::next(rng) {
                    self.send(&mut bytes, words, Kind::Bank(tells), around.wall_min);
                }
                continue;
            }
            let (words, kind) = match domain {
                0..3 if rng.one_in(5) => {
                    (self.workload.expiring(rng, around.wall), Kind::Expiring(self.epoch))
                }
                0..3 => (self.workload.private(rng), Kind::Private(self.epoch)),
                3..5 => {
                    let words = match rng.one_in(2) {
                        true => around.ledger.next_of_jobs(rng),
                        false => self.workload.ledger(rng),
                    };
                    let before = around.ledger.on_sent(&words, around.at);
                    (words, Kind::Ledger(before))
                }
                5..8 if histories => {
                    let (words, op) = around.histories.next(rng, self.session(), around.at);
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
        let (words, op) = around.histories.probe(writes, self.session(), around.at);
        self.send(&mut bytes, words, Kind::History(op), around.wall_min);
        bytes
    }

    fn select(&mut self, bytes: &mut Vec<u8>, db: u8, wall: u64) {
        if self.db != db {
            self.db = db;
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

    /// Takes bytes from the node and checks the replies in them. Gives bytes to send in answer.
    pub fn receive(&mut self, bytes: &[u8], around: &mut Surroundings<'_>) -> Result<Vec<u8>, String> {
        self.unread.extend_from_slice(bytes);
        let mut used = 0;
        let mut answer = Vec::new();
        while let Some((value, len)) =
            Value::parse(&self.unread[used..]).map_err(|e| format!("INV-SIM-9: {e}"))?
        {
            used += len;
            self.replies += 1;
            let Some(sent) = self.sent.pop_front() else {
                return Err(format!("INV-SIM-9: a reply that nobody asked for: {value:?}"));
            };
            answer.extend(self.on_reply(&sent, &Plain::of(&value), around)?);
        }
        self.unread.drain(..used);
        if self.state == State::Syncing && self.sent.is_empty() && answer.is_empty() {
            self.state = State::Up;
            self.audits = false;
            self.candidates.truncate(1);
            if std::mem::take(&mut self.after_crash) {
                // What a start recovered is durable.
                self.history.clone_from(&self.candidates);
            }
        }
        Ok(answer)
    }

    fn on_reply(
        &mut self,
        sent: &Sent,
        reply: &Plain,
        around: &mut Surroundings<'_>,
    ) -> Result<Vec<u8>, String> {
        if reply.is_refusal() || reply.is_uncertain() {
            return self.on_refused(sent, reply, around);
        }
        let judges = !around.plan.evicts_all();
        match &sent.kind {
            Kind::Any => {}
            Kind::Select if *reply == Plain::Text(b"OK".to_vec()) => {}
            Kind::Select => return Err(format!("INV-SIM-9: SELECT was answered {reply:?}")),
            Kind::Barrier => return Ok(self.go_on_syncing(around)),
            Kind::Show if judges => {
                self.judged += 1;
                retain(&mut self.candidates, sent, reply)?;
            }
            Kind::ShowOver(place) if judges => {
                self.judged += 1;
                retain(&mut self.over[*place].candidates, sent, reply)?;
            }
            Kind::Private(epoch) if judges && *epoch == self.epoch => {
                self.judged += 1;
                let model = self.candidates.first_mut().expect("a client that is up has one model");
                model.observe(&sent.words, reply).map_err(|e| format!("INV-SIM-4: {e}"))?;
                if around.plan.memory {
                    self.history.push(model.clone());
                }
            }
            Kind::Expiring(epoch) if *epoch == self.epoch => self.on_expiring(sent, reply, around)?,
            Kind::Ledger(before) if judges => {
                around.ledger.on_reply(&sent.words, before, reply, around.at)?
            }
            Kind::Bank(tells) if judges => {
                self.judged += 1;
                bank::judge(&sent.words, *tells, reply)?;
            }
            Kind::History(op) => {
                self.judged += 1;
                around.histories.on_reply(around.at, *op, &sent.words, reply)?;
            }
            Kind::Audit(queue) if judges => {
                let Plain::List(left) = reply else { return Err(format!("INV-SIM-5: {queue} is {reply:?}")) };
                around.ledger.audit(queue, left)?;
            }
            _ => {}
        }
        Ok(Vec::new())
    }

    /// A command was not carried out, or may be carried out later. Gives bytes to send in answer.
    fn on_refused(
        &mut self,
        sent: &Sent,
        reply: &Plain,
        around: &mut Surroundings<'_>,
    ) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        match &sent.kind {
            Kind::Private(epoch) | Kind::Expiring(epoch) => {
                if reply.is_uncertain() && *epoch == self.epoch {
                    self.begin_epoch();
                }
            }
            Kind::Ledger(_) if reply.is_uncertain() => around.ledger.on_lost(&sent.words),
            Kind::Ledger(_) => around.ledger.on_refused(&sent.words),
            Kind::History(op) => around.histories.on_reply(around.at, *op, &sent.words, reply)?,
            // These change nothing, so they can be sent again; where there are other nodes, to any of them after a while.
            Kind::Barrier | Kind::Show | Kind::ShowOver(_) | Kind::Audit(_) => match around.plan.alone() {
                true => self.send_again(&mut bytes, sent, around),
                false => self.gives_up = true,
            },
            Kind::Any | Kind::Bank(_) | Kind::Select => {}
        }
        Ok(bytes)
    }

    fn send_again(&mut self, bytes: &mut Vec<u8>, sent: &Sent, around: &Surroundings<'_>) {
        let db = if matches!(sent.kind, Kind::Audit(_)) { LEDGER_DB } else { PRIVATE_DB };
        self.select(bytes, db, around.wall_min);
        self.send(bytes, sent.words.clone(), sent.kind.clone(), around.wall_min);
    }

    /// Leaves the own keys as they are and goes on with fresh ones.
    fn begin_epoch(&mut self) {
        self.epoch += 1;
        self.workload.begin_epoch(self.epoch);
        self.candidates = vec![Model::default()];
        self.expiring.clear();
    }

    fn on_expiring(&mut self, sent: &Sent, reply: &Plain, around: &Surroundings<'_>) -> Result<(), String> {
        let key = &sent.words[1];
        self.judged += 1;
        if sent.words.len() > 2 {
            let deadline = std::str::from_utf8(&sent.words[4]).ok().and_then(|t| t.parse().ok()).unwrap_or(0);
            self.expiring.insert(key.clone(), Expiring::Set { value: sent.words[2].clone(), deadline });
            return Ok(());
        }
        let wrong = |what: &str| Err(format!("{what}: {} was answered {reply:?}", show(&sent.words)));
        match (self.expiring.get(key).unwrap_or(&Expiring::Unknown), reply) {
            (Expiring::Unknown, _) | (Expiring::Gone, Plain::Nil) => Ok(()),
            (Expiring::Gone, _) => wrong("INV-SIM-8: a key that was seen to be expired came back"),
            (Expiring::Set { deadline, .. }, Plain::Nil) => {
                let may_be_gone = *deadline <= around.wall_max || around.plan.evicts_volatile();
                self.expiring.insert(key.clone(), Expiring::Gone);
                if may_be_gone { Ok(()) } else { wrong("INV-SIM-8: a key vanished before its deadline") }
            }
            (Expiring::Set { value, .. }, Plain::Text(seen)) if value != seen => {
                wrong("INV-SIM-8: not the value last set")
            }
            (Expiring::Set { deadline, .. }, _) if deadline + 1 < sent.wall_min => {
                wrong("INV-SIM-8: a key was seen after its deadline")
            }
            _ => Ok(()),
        }
    }

    /// The connection is gone, with the process if `crashed`; if `lossy`, acknowledged writes may be gone too.
    pub fn on_lost(&mut self, crashed: bool, lossy: bool, around: &mut Surroundings<'_>) {
        self.state = State::Down;
        self.generation += 1;
        self.conn = None;
        (self.bound, self.gives_up) = (false, false);
        self.unread.clear();
        let mut frontier = self.candidates.clone();
        let mut uncertain = false;
        for sent in std::mem::take(&mut self.sent) {
            match sent.kind {
                Kind::Private(epoch) if epoch == self.epoch => {
                    uncertain = true;
                    self.extend_candidates(&sent.words, &mut frontier, around.plan.refuses());
                }
                Kind::Expiring(epoch) if epoch == self.epoch && sent.words.len() > 2 => {
                    uncertain = true;
                    self.expiring.insert(sent.words[1].clone(), Expiring::Unknown);
                }
                Kind::Ledger(_) => around.ledger.on_lost(&sent.words),
                Kind::History(op) => around.histories.on_lost(op),
                _ => {}
            }
        }
        if !around.plan.alone() {
            if uncertain {
                self.end_epoch();
            }
            return;
        }
        if around.plan.memory {
            self.history.extend(self.candidates.iter().cloned());
            if lossy {
                self.candidates.append(&mut self.history);
                self.history.extend(self.candidates.iter().cloned());
            }
        }
        self.candidates.sort();
        self.candidates.dedup();
        if lossy {
            self.expiring.clear();
        } else if crashed {
            // That a read saw a key expired is not logged; if the clock went back meanwhile, it may be seen again.
            self.expiring.retain(|_, known| !matches!(known, Expiring::Gone));
        }
        self.after_crash |= crashed;
    }

    /// Gives up the own keys, which must hold one of the candidates at the end.
    fn end_epoch(&mut self) {
        self.candidates.sort();
        self.candidates.dedup();
        let candidates = std::mem::take(&mut self.candidates);
        if self.over.len() < OVER_MAX {
            self.over.push(Over { show: self.workload.show(), candidates });
        }
        self.begin_epoch();
    }

    /// One more command without an answer: it was carried out, or it and all behind it were not. If commands may be
    /// refused, those behind it may have been carried out all the same.
    fn extend_candidates(&mut self, words: &Words, frontier: &mut Vec<Model>, subsets: bool) {
        let mut next: Vec<Model> = frontier.iter().flat_map(|m| m.outcomes(words)).collect();
        next.sort();
        next.dedup();
        self.candidates.extend(next.iter().cloned());
        if subsets {
            self.candidates.sort();
            self.candidates.dedup();
            frontier.clone_from(&self.candidates);
        } else {
            *frontier = next;
        }
    }
}

/// Keeps the candidates that a read of everything agrees with.
fn retain(candidates: &mut Vec<Model>, sent: &Sent, reply: &Plain) -> Result<(), String> {
    let all = candidates.len();
    candidates.retain(|c| c.clone().observe(&sent.words, reply).is_ok());
    if candidates.is_empty() {
        return Err(format!(
            "INV-SIM-4: {} is {reply:?}, which none of {all} ways of carrying out what the client sent gives",
            show(&sent.words)
        ));
    }
    Ok(())
}
