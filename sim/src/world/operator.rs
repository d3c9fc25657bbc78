//! Whoever runs the cluster: drains, removes and takes nodes back, and finds that a disk has lost everything.

use skep_log::MemDisk;
use skep_node::Input;
use skep_resp::{Value, write_command};

use super::{End, Event, Phase, World};
use crate::plan::MS;
use crate::process::{Conn, peer_address};
use crate::shadow::Shadow;

/// How long the operator waits for an answer before asking another node.
const ANSWER_US_MAX: u64 = 3_000 * MS;
/// Between two questions.
const STEP_US: u64 = 100 * MS;
/// After it a removal that does not come about is called off.
const REMOVAL_US_MAX: u64 = 15_000 * MS;
/// Fewer nodes than this are left in peace.
const NODES_MIN: usize = 3;

/// What the operator is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Task {
    Drain,
    Undrain,
    Remove,
}

/// The operator, who does one thing at a time.
#[derive(Default)]
pub struct Operator {
    task: Option<(Task, usize)>,
    /// When the task began, and when the next step is.
    since: u64,
    next: u64,
    /// A connection to a life of a node, with a question on it since then.
    asked: Option<(usize, u64, Conn, u64)>,
}

impl Operator {
    pub fn is_idle(&self) -> bool {
        self.task.is_none()
    }
}

impl World {
    /// Begins something, if nothing is under way.
    pub(super) fn operate(&mut self) {
        let node = self.rng.below(self.machines.len() as u64) as usize;
        // Who is on the way into the cluster may have been told of nobody but this node.
        let all_joined = self.machines.iter().all(|m| m.removed || m.id.is_some());
        if !self.operator.is_idle() || self.live() < NODES_MIN || !all_joined {
            return;
        }
        if self.machines[node].removed {
            return self.take_back(node);
        }
        if self.rng.one_in(3) {
            return self.lose_disk(node);
        }
        // A drain takes votes away; while a node is gone for good, those that are left may be needed.
        if !self.is_settled(1) {
            return;
        }
        self.note(&format!("the operator drains {node}"));
        self.begin_task(Task::Drain, node);
    }

    fn begin_task(&mut self, task: Task, node: usize) {
        if self.operator.task.is_none() {
            self.operator.since = self.now;
        }
        self.operator.task = Some((task, node));
    }

    /// Machines whose nodes belong to the cluster.
    pub(super) fn live(&self) -> usize {
        self.machines.iter().filter(|m| !m.removed).count()
    }

    /// Goes on with what is under way.
    pub(super) fn step_operator(&mut self) {
        let Some((task, node)) = self.operator.task else { return };
        if let Some((asked, life, conn, since)) = self.operator.asked {
            let patient = self.now < since + ANSWER_US_MAX && self.machines[asked].runs(life);
            match self.answer_on(asked, conn).filter(|_| patient) {
                Some(answer) => self.on_answer(task, node, &answer),
                None if patient => return,
                None => {}
            }
            self.hang_up(asked, life, conn);
            return;
        }
        if self.now >= self.operator.next {
            self.operator.next = self.now + STEP_US;
            self.ask(task, node);
        }
    }

    fn ask(&mut self, task: Task, node: usize) {
        let able = |m: &crate::machine::Machine| {
            !m.paused && m.process.as_ref().is_some_and(|p| p.is_ready() && !p.is_stopped())
        };
        let nodes: Vec<usize> = (0..self.machines.len()).filter(|n| able(&self.machines[*n])).collect();
        if nodes.is_empty() {
            return;
        }
        let at = nodes[self.rng.below(nodes.len() as u64) as usize];
        let machine = &mut self.machines[at];
        let (life, now) = (machine.life, machine.clocks.now(self.now));
        let Some(process) = &mut machine.process else { return };
        let Ok((cell, number)) = process.hub().admit(0) else { return };
        let conn = process.cells[cell].node.welcome(number, "10.0.2.1:1".into(), format!("10.0.0.{at}:6379"));
        let verb = match task {
            Task::Drain => "DRAIN",
            Task::Undrain => "UNDRAIN",
            Task::Remove => "REMOVE",
        };
        let mut bytes = Vec::new();
        let name = format!("n{node}");
        write_command(&mut bytes, ["SKEP", "NODE", verb, &name].map(str::as_bytes));
        process.handle(cell, now, Input::Received { conn, bytes: &bytes });
        self.operator.asked = Some((at, life, (cell, conn), self.now));
        self.soon_in(at, cell);
    }

    /// What a node has answered, if it has.
    fn answer_on(&mut self, node: usize, (cell, conn): Conn) -> Option<Value> {
        let of = &mut self.machines[node].process.as_mut()?.cells[cell].node;
        let (value, len) = Value::parse(of.unsent(conn)).ok()??;
        of.on_sent(conn, len);
        Some(value)
    }

    fn hang_up(&mut self, node: usize, life: u64, (cell, conn): Conn) {
        self.operator.asked = None;
        let machine = &mut self.machines[node];
        if machine.runs(life) {
            let now = machine.clocks.now(self.now);
            if let Some(process) = &mut machine.process {
                process.handle(cell, now, Input::Disconnected { conn });
            }
            self.soon_in(node, cell);
        }
    }

    fn on_answer(&mut self, task: Task, node: usize, answer: &Value) {
        let refused = match answer {
            Value::Error(text) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        };
        self.note(&format!("{task:?} of {node}: {}", refused.as_deref().unwrap_or("OK")));
        let late = self.now > self.operator.since + REMOVAL_US_MAX;
        match (task, refused) {
            (Task::Drain, None) => {
                self.count("nodes drained");
                let remove = self.rng.one_in(2);
                self.begin_task(if remove { Task::Remove } else { Task::Undrain }, node);
                // So that something moves before it ends.
                self.operator.next = self.now + self.rng.below(2_000 * MS);
            }
            (Task::Drain, Some(why)) if why.starts_with("ERR") => self.operator.task = None,
            (Task::Remove, None) => {
                self.count("nodes removed");
                self.machines[node].removed = true;
                self.operator.task = None;
            }
            (Task::Remove, Some(_)) if late => self.begin_task(Task::Undrain, node),
            (Task::Undrain, None) => self.operator.task = None,
            // That it is there no more, after a removal that was uncertain.
            (_, Some(why)) if why.starts_with("ERR no node is called") => {
                self.count("nodes removed");
                self.machines[node].removed = true;
                self.operator.task = None;
            }
            _ => {} // asked again
        }
    }

    /// A node that was removed stops by itself.
    pub(super) fn look_after_removed(&mut self, node: usize) {
        let machine = &self.machines[node];
        if machine.removed && machine.process.as_ref().is_some_and(|p| p.is_stopped()) {
            self.end(node, End::Kill);
            self.lose_clients_of(node, false);
        }
    }

    /// A machine whose node was removed comes back with an empty disk, as a new node.
    fn take_back(&mut self, node: usize) {
        if self.machines[node].process.is_some() || self.phase != Phase::Working {
            return;
        }
        self.count("nodes taken back");
        self.note(&format!("{node} comes back with an empty disk"));
        let join = self.others(node);
        let machine = &mut self.machines[node];
        (machine.removed, machine.replaces, machine.join) = (false, None, join);
        (machine.disk, machine.shadow) = (MemDisk::new(), Shadow::default());
        machine.damaged.clear();
        self.at(self.now, Event::Start { node });
    }

    fn others(&self, node: usize) -> Vec<String> {
        let others = (0..self.machines.len()).filter(|n| *n != node && !self.machines[*n].removed);
        others.map(peer_address).collect()
    }

    /// A disk loses everything: its process ends, and an empty node takes the place of the one that was there.
    fn lose_disk(&mut self, node: usize) {
        if self.may_lose_disk(node) && self.end(node, End::Kill) {
            self.lose_clients_of(node, false);
            self.empty_disk(node);
            let soon = self.within(self.plan.outage_us);
            self.at(soon, Event::Start { node });
        }
    }

    /// As `skep serve` does with a data directory that is damaged: all is moved aside, but for whom the node knew.
    pub(super) fn empty_disk(&mut self, node: usize) {
        self.count("disks lost");
        self.note(&format!("the disk of {node} is empty"));
        let join = self.others(node);
        let machine = &mut self.machines[node];
        (machine.replaces, machine.join) = (machine.id, join);
        (machine.disk, machine.shadow) = (MemDisk::new(), Shadow::default());
        machine.damaged.clear();
    }

    /// True if every group has three voters and no other disk was lost that the cluster has not got over.
    pub(super) fn may_lose_disk(&self, node: usize) -> bool {
        self.live() >= 3 && self.machines[node].id.is_some() && self.is_settled(3)
    }

    /// True if all nodes that run say that the members are those that there are, and that each group has a leader, so many
    /// voters, and no earlier members whose disks might be needed; one node may be down.
    fn is_settled(&self, voters: usize) -> bool {
        let live = self.live();
        if self.machines.iter().any(|m| m.replaces.is_some() && m.replaces == m.id) {
            return false; // an empty disk has not been given another node yet
        }
        let mut known = 0;
        for status in self.machines.iter().filter_map(|m| m.process.as_ref()).map(|p| p.status()) {
            let settled = status.nodes.len() == live
                && status.meta.voters.len() >= voters
                && status.meta.settled
                && status
                    .shards
                    .iter()
                    .all(|s| s.leader.is_some() && s.settled && s.replicas.len() >= voters)
                && status.shards.iter().flat_map(|s| &s.replicas).all(|r| r.voter);
            if status.nodes.is_empty() || !settled {
                return false;
            }
            known += 1;
        }
        known + 1 >= live
    }
}
