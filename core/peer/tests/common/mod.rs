//! A small world for links alone: hosts that dial each other by name over pipes that cut bytes anywhere, stall, break and
//! flip bits. One seed gives one history. It checks what every history must keep, after each step.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use skep_base::{GroupId, LinkId, LogId, LogIndex, Millis, NodeId, NodeUuid, Rng, Term};
use skep_peer::{LinkInput, LinkLimits, LinkNote, LinkOutput, Links, Me, Peer, PeerMessage};

/// How often things go wrong: one in so many steps of a pipe; 0 is never.
#[derive(Clone, Copy, Default)]
pub struct Faults {
    pub breaks: u64,
    pub flips: u64,
    pub stalls: u64,
    pub refused_dials: u64,
    /// Dials that are never answered.
    pub lost_dials: u64,
}

pub fn me(number: u64) -> Me {
    Me {
        uuid: NodeUuid(u128::from(number) << 64 | 7),
        node: NodeId(number),
        cluster_id: "the cluster".to_owned(),
        incarnation: 1,
        name: format!("node-{number}"),
        password: b"secret".to_vec(),
    }
}

/// What the world remembers of one end of a link.
#[derive(Default)]
pub struct End {
    pub up: Option<Peer>,
    pub dialed: Option<String>,
    pub down: Option<String>,
    pub sent: Vec<PeerMessage>,
    pub received: Vec<PeerMessage>,
    /// By what must come in order: places in `sent`.
    sent_in: BTreeMap<u64, Vec<usize>>,
    /// By the same, how many of the messages received were compared with what was sent; and how many in all.
    compared_in: BTreeMap<u64, usize>,
    compared: usize,
}

pub struct Host {
    pub address: String,
    pub links: Links,
    pub ends: BTreeMap<LinkId, End>,
    pub notes: Vec<LinkNote>,
    pub own_addresses: BTreeSet<String>,
    /// When each address was dialed.
    pub dialed_at: Vec<(u64, String)>,
    /// Links whose socket had no room for all.
    unsent: BTreeSet<LinkId>,
}

impl Host {
    /// Links that are up now.
    pub fn up(&self) -> Vec<LinkId> {
        let is_up = |end: &End| end.up.is_some() && end.down.is_none();
        self.ends.iter().filter(|(_, end)| is_up(end)).map(|(link, _)| *link).collect()
    }

    pub fn dialed_up(&self) -> Vec<LinkId> {
        self.up().into_iter().filter(|link| self.ends[link].dialed.is_some()).collect()
    }
}

/// What a kernel takes for a peer that is gone.
const KERNEL_BUFFER_BYTES: usize = 50_000;

/// One direction of a pipe.
#[derive(Default)]
struct Way {
    bytes: VecDeque<u8>,
    stalled_until: u64,
    /// What goes in never comes out, and what has room is this much more.
    lost: Option<usize>,
    /// Nothing more will come; told to the reader when it has read the rest.
    ended: bool,
    told: bool,
}

struct Pipe {
    /// Dialer and acceptor.
    ends: [(usize, LinkId); 2],
    /// `ways[i]` leads from `ends[i]` to the other.
    ways: [Way; 2],
    flipped: bool,
}

impl Pipe {
    fn side(&self, host: usize, link: LinkId) -> Option<usize> {
        self.ends.iter().position(|end| *end == (host, link))
    }
}

pub struct Net {
    pub now: u64,
    pub rng: Rng,
    pub hosts: Vec<Host>,
    pub faults: Faults,
    /// Bytes that one read gives at most.
    pub read_max: u64,
    /// Bytes that one write takes at most.
    pub write_max: u64,
    dials: VecDeque<(usize, LinkId, String)>,
    pipes: Vec<Pipe>,
}

impl Net {
    pub fn new(seed: u64, faults: Faults) -> Net {
        Net {
            now: 1_000,
            rng: Rng::new(seed),
            hosts: Vec::new(),
            faults,
            read_max: 5_000,
            write_max: 20_000,
            dials: VecDeque::new(),
            pipes: Vec::new(),
        }
    }

    /// Adds a host that listens at `address`.
    pub fn add(&mut self, address: &str, me: Me, limits: LinkLimits) -> usize {
        let links = Links::new(me, limits, self.rng.next_u64());
        self.hosts.push(Host {
            address: address.to_owned(),
            links,
            ends: BTreeMap::new(),
            notes: Vec::new(),
            own_addresses: BTreeSet::new(),
            dialed_at: Vec::new(),
            unsent: BTreeSet::new(),
        });
        self.hosts.len() - 1
    }

    pub fn set_addresses(&mut self, host: usize, addresses: &[&str]) {
        let addresses = addresses.iter().map(|a| (*a).to_owned()).collect();
        self.call(host, |links, out| links.set_addresses(addresses, out));
    }

    /// Runs `call` on a host's links, and carries out what it says.
    pub fn call(&mut self, host: usize, call: impl FnOnce(&mut Links, &mut Vec<LinkOutput>)) {
        let mut out = Vec::new();
        call(&mut self.hosts[host].links, &mut out);
        self.carry_out(host, out);
    }

    fn handle(&mut self, host: usize, input: LinkInput<'_>) {
        let now = Millis(self.now);
        self.call(host, |links, out| links.handle(now, input, out));
    }

    fn carry_out(&mut self, host: usize, out: Vec<LinkOutput>) {
        for output in out {
            let h = &mut self.hosts[host];
            match output {
                LinkOutput::Dial { link, address } => {
                    assert!(h.ends.insert(link, End::default()).is_none(), "{link:?} was given out twice");
                    h.dialed_at.push((self.now, address.clone()));
                    self.dials.push_back((host, link, address));
                }
                LinkOutput::Close { link } => self.end_pipe(host, link),
                LinkOutput::Up { link, peer, dialed } => {
                    let end = h.ends.get_mut(&link).unwrap();
                    assert!(end.down.is_none() && end.up.is_none(), "{link:?} is up twice, or again");
                    assert_eq!(h.links.peer(link), Some(&peer));
                    (end.up, end.dialed) = (Some(peer), dialed);
                }
                LinkOutput::Message { link, message } => {
                    let end = h.ends.get_mut(&link).unwrap();
                    assert!(end.up.is_some() && end.down.is_none(), "{link:?} speaks and is not up");
                    end.received.push(message);
                }
                LinkOutput::Down { link, peer, reason } => {
                    let end = h.ends.get_mut(&link).unwrap();
                    assert_eq!(end.up, peer, "{link:?}");
                    assert!(end.down.replace(reason).is_none(), "{link:?} is down twice");
                }
                LinkOutput::SelfFound { address } => drop(h.own_addresses.insert(address)),
                LinkOutput::Note(note) => h.notes.push(note),
            }
        }
        self.hosts[host].links.assert_invariants();
    }

    /// A host closed its end: the other reads what is under way, then the end of it.
    fn end_pipe(&mut self, host: usize, link: LinkId) {
        self.dials.retain(|(h, l, _)| (*h, *l) != (host, link));
        for pipe in &mut self.pipes {
            if let Some(side) = pipe.side(host, link) {
                pipe.ways[side].ended = true;
                let back = &mut pipe.ways[1 - side];
                back.bytes.clear();
                (back.ended, back.told) = (true, true);
            }
        }
    }

    pub fn send(&mut self, host: usize, link: LinkId, message: PeerMessage) {
        let h = &mut self.hosts[host];
        if h.links.send(link, &message) {
            let end = h.ends.get_mut(&link).unwrap();
            end.sent_in.entry(order_of(&message)).or_default().push(end.sent.len());
            end.sent.push(message);
        }
        h.links.assert_invariants();
    }

    /// Lets a millisecond pass: dials are answered, bytes move, timers fire.
    pub fn step(&mut self) {
        self.now += 1;
        while let Some((host, link, address)) = self.dials.pop_front() {
            self.dial(host, link, &address);
        }
        for host in 0..self.hosts.len() {
            self.write_out(host);
        }
        for pipe in 0..self.pipes.len() {
            self.trouble(pipe);
            for side in 0..2 {
                self.read_in(pipe, side);
            }
        }
        self.pipes.retain(|pipe| !pipe.ways.iter().all(|way| way.told));
        for host in 0..self.hosts.len() {
            if self.hosts[host].links.next_wakeup().is_some_and(|at| at.0 <= self.now) {
                self.handle(host, LinkInput::Tick);
                let next = self.hosts[host].links.next_wakeup();
                assert!(
                    next.is_none_or(|at| at.0 > self.now),
                    "a tick at {} wants another at once",
                    self.now
                );
            }
            self.hosts[host].links.flush();
            self.hosts[host].links.assert_invariants();
        }
    }

    pub fn run(&mut self, ms: u64) {
        (0..ms).for_each(|_| self.step());
    }

    fn dial(&mut self, host: usize, link: LinkId, address: &str) {
        if self.faults.lost_dials > 0 && self.rng.one_in(self.faults.lost_dials) {
            return;
        }
        let refused = self.faults.refused_dials > 0 && self.rng.one_in(self.faults.refused_dials);
        let listener = self.hosts.iter().position(|h| h.address == address).filter(|_| !refused);
        let now = Millis(self.now);
        let from = format!("{}:{}", self.hosts[host].address, 40_000 + link.0);
        let accepted = listener.and_then(|l| Some((l, self.hosts[l].links.accept(now, from)?)));
        let Some((listener, accepted)) = accepted else {
            return self.handle(host, LinkInput::Closed { link, reason: "connection refused".to_owned() });
        };
        self.hosts[listener].ends.insert(accepted, End::default());
        let ends = [(host, link), (listener, accepted)];
        self.pipes.push(Pipe { ends, ways: Default::default(), flipped: false });
        self.handle(host, LinkInput::Dialed { link });
    }

    fn write_out(&mut self, host: usize) {
        while let Some(link) = self.hosts[host].links.next_with_output() {
            self.hosts[host].unsent.insert(link);
        }
        for link in self.hosts[host].unsent.clone() {
            let h = &mut self.hosts[host];
            let found = self.pipes.iter_mut().find_map(|pipe| Some((pipe.side(host, link)?, pipe)));
            if let Some((side, pipe)) = found
                && !pipe.ways[side].ended
                && pipe.ways[side].stalled_until <= self.now
            {
                let unsent = h.links.unsent(link);
                let mut taken = unsent.len().min(1 + self.rng.below(self.write_max) as usize);
                if let Some(room) = &mut pipe.ways[side].lost {
                    taken = taken.min(*room);
                    *room -= taken;
                }
                pipe.ways[side].bytes.extend(&unsent[..taken]);
                h.links.on_sent(link, taken);
            }
            if h.links.unsent(link).is_empty() {
                h.unsent.remove(&link);
            }
        }
        self.hosts[host].links.assert_invariants();
    }

    fn trouble(&mut self, pipe: usize) {
        let (faults, now) = (self.faults, self.now);
        let mut hit = |n: u64| n > 0 && self.rng.one_in(n);
        let (breaks, flips, stalls) = (hit(faults.breaks), hit(faults.flips), hit(faults.stalls));
        let pipe = &mut self.pipes[pipe];
        if breaks {
            for way in &mut pipe.ways {
                let kept = self.rng.below(way.bytes.len() as u64 + 1) as usize;
                way.bytes.truncate(kept);
                way.ended = true;
            }
        }
        let way = &mut pipe.ways[self.rng.below(2) as usize];
        if stalls {
            way.stalled_until = now + self.rng.below(15_000);
        }
        if flips && !way.bytes.is_empty() {
            let at = self.rng.below(way.bytes.len() as u64) as usize;
            way.bytes[at] ^= 1 << self.rng.below(8);
            pipe.flipped = true;
        }
    }

    fn read_in(&mut self, pipe: usize, side: usize) {
        let way = &mut self.pipes[pipe].ways[side];
        if way.told || way.stalled_until > self.now {
            return;
        }
        if way.lost.is_some() {
            way.bytes.clear();
            way.told = way.ended;
            return;
        }
        let len = way.bytes.len().min(1 + self.rng.below(self.read_max) as usize);
        let bytes: Vec<u8> = way.bytes.drain(..len).collect();
        let (host, link) = self.pipes[pipe].ends[1 - side];
        if !bytes.is_empty() {
            self.handle(host, LinkInput::Received { link, bytes: &bytes });
        }
        let way = &mut self.pipes[pipe].ways[side];
        if way.ended && !way.told && way.bytes.is_empty() {
            way.told = true;
            self.pipes[pipe].ways[1 - side].ended = true;
            self.handle(host, LinkInput::Closed { link, reason: "the other side closed it".to_owned() });
        }
        self.check_order(pipe, side);
    }

    /// What came out of a pipe is what went in: of each order the messages from the first on, whole, none twice.
    fn check_order(&mut self, pipe: usize, side: usize) {
        let ends = self.pipes[pipe].ends;
        let ((from, sent), (to, received)) = (ends[side], ends[1 - side]);
        let mut end = self.hosts[to].ends.remove(&received).unwrap();
        let other = &self.hosts[from].ends[&sent];
        for message in &end.received[end.compared..] {
            let order = order_of(message);
            let place = end.compared_in.entry(order).or_default();
            let expected = other.sent_in.get(&order).and_then(|places| places.get(*place));
            let expected = expected.unwrap_or_else(|| panic!("more came than was sent: {message:?}"));
            assert_eq!(*message, other.sent[*expected], "message {place} of order {order}");
            *place += 1;
        }
        end.compared = end.received.len();
        self.hosts[to].ends.insert(received, end);
    }

    /// Ends all pipes between two hosts without a word to either: a cable is pulled.
    pub fn cut(&mut self, a: usize, b: usize) {
        for pipe in &mut self.pipes {
            let hosts = pipe.ends.map(|(host, _)| host);
            if hosts == [a, b] || hosts == [b, a] {
                pipe.ways.iter_mut().for_each(|way| {
                    way.bytes.clear();
                    way.lost = Some(KERNEL_BUFFER_BYTES);
                });
            }
        }
    }

    /// Panics unless all that was sent on links that still stand has come.
    pub fn assert_all_arrived(&self) {
        for pipe in &self.pipes {
            for side in 0..2 {
                let (from, to) = (pipe.ends[side], pipe.ends[1 - side]);
                let (sent, received) = (&self.hosts[from.0].ends[&from.1], &self.hosts[to.0].ends[&to.1]);
                assert_eq!(sent.sent.len(), received.received.len());
            }
        }
    }
}

/// A message that tells itself from all others, of one of several groups, whose messages come each in order.
pub fn numbered(number: u64, bytes: usize) -> PeerMessage {
    PeerMessage::CheckpointPiece {
        group: GroupId(number % 3),
        at: LogId { term: Term(3), index: LogIndex(number) },
        chunk: number,
        bytes: (0..bytes).map(|at| number.wrapping_add(at as u64 / 7) as u8).collect(),
        last: number.is_multiple_of(2),
    }
}

/// A small message that waits for none of the others.
pub fn urgent(number: u64) -> PeerMessage {
    PeerMessage::StateDigest { group: GroupId(1), at: LogId::default(), digest: number }
}

/// What it must not overtake: messages of the same.
fn order_of(message: &PeerMessage) -> u64 {
    match message {
        PeerMessage::CheckpointPiece { group, .. } => group.0,
        _ => u64::MAX,
    }
}
