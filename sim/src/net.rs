//! The network between the nodes: connections as two streams of bytes with delay, bandwidth and a window, which stall while the
//! way is cut, and break with what is under way.
//!
//! Owns connections and cuts, and decides when something arrives; what arrives is told to the processes by
//! [`crate::world`]. As with TCP, bytes of a connection come in order, each once, or the connection breaks - but for
//! [`FrameFault`]s, which are what a broken switch, proxy or kernel could do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use skep_base::{LinkId, Rng};
use skep_peer::FRAME_HEADER_BYTES;

use crate::plan::MS;

/// One connection.
pub type StreamId = u64;

/// What travels on one of the two ways of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Parcel {
    /// The dialler's request.
    Open,
    Opened,
    Bytes(Vec<u8>),
    /// Nothing more comes on this way, and nothing sent the other way is read.
    End(&'static str),
}

/// What is done to the next whole frame of a way before the connection breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameFault {
    Lost,
    Doubled,
    /// One bit is turned over.
    Damaged,
}

/// One side of a connection; side 0 dialled.
#[derive(Clone, Debug)]
pub struct Side {
    pub node: usize,
    /// The life of the machine that has it.
    pub life: u64,
    /// The node's name for it, once it has one.
    pub link: Option<LinkId>,
    pub open: bool,
}

/// The pace of the network.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub delay_us: u64,
    pub bytes_per_ms: u64,
    pub window_bytes: usize,
}

pub struct Stream {
    /// `None`: side 1 has not been reached yet.
    pub sides: [Option<Side>; 2],
    pub to: usize,
    /// Side 0 knows that it is connected.
    pub opened: bool,
    /// From side 0 to side 1, and back.
    ways: [Way; 2],
}

/// One direction of a connection.
#[derive(Default)]
struct Way {
    parcels: VecDeque<(u64, Parcel)>,
    /// When the last byte leaves the sender.
    busy_until: u64,
    arrives_last: u64,
    /// Bytes sent and not read by the receiver's process.
    unread: usize,
    /// All bytes that went out, and all that were read.
    passed: u64,
    read: u64,
    /// Where a damaged frame had gone out whole.
    damaged_until: Option<u64>,
    frames: Frames,
}

/// Follows the frames of a way, and spoils one if it is told to.
#[derive(Default)]
struct Frames {
    header: Vec<u8>,
    body_left: usize,
    fault: Option<FrameFault>,
    /// The frame to be spoiled, as far as it was sent.
    held: Option<Vec<u8>>,
    /// A fault has struck.
    spoiled: Option<FrameFault>,
}

/// All connections, and what is cut.
#[derive(Default)]
pub struct Network {
    streams: BTreeMap<StreamId, Stream>,
    next: StreamId,
    /// By outage: ordered pairs of machines from the first of which nothing reaches the second.
    cuts: BTreeMap<u64, BTreeSet<(usize, usize)>>,
}

impl Network {
    /// Begins a connection; the request is still to be sent.
    pub fn open(&mut self, from: Side, to: usize) -> StreamId {
        self.next += 1;
        let ways = [Way::default(), Way::default()];
        self.streams.insert(self.next, Stream { sides: [Some(from), None], to, opened: false, ways });
        self.next
    }

    pub fn stream(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.streams.get_mut(&id)
    }

    /// The connection that a node calls `link`, and which side of it the node is.
    pub fn find(&self, node: usize, life: u64, link: LinkId) -> Option<(StreamId, usize)> {
        let is = |side: &Option<Side>| {
            side.as_ref().is_some_and(|s| s.node == node && s.life == life && s.link == Some(link) && s.open)
        };
        self.streams.iter().find_map(|(id, s)| s.sides.iter().position(is).map(|side| (*id, side)))
    }

    /// The name by which a machine knows a connection that it dialled, if it has it open.
    pub fn dialled_link(&self, id: StreamId, node: usize) -> Option<LinkId> {
        let side = self.streams.get(&id)?.sides[0].as_ref()?;
        side.link.filter(|_| side.open && side.node == node)
    }

    /// Sides of connections that a life of a machine has open.
    pub fn sides_of(&self, node: usize, life: u64) -> Vec<(StreamId, usize)> {
        let mut found = Vec::new();
        for (id, stream) in &self.streams {
            for (place, side) in stream.sides.iter().enumerate() {
                if side.as_ref().is_some_and(|s| s.node == node && s.life == life && s.open) {
                    found.push((*id, place));
                }
            }
        }
        found
    }

    /// Connections that both sides have open.
    pub fn established(&self) -> Vec<StreamId> {
        let both = |s: &Stream| s.opened && s.sides.iter().flatten().filter(|side| side.open).count() == 2;
        self.streams.iter().filter(|(_, s)| both(s)).map(|(id, _)| *id).collect()
    }

    /// Sends a parcel from one side of a connection. Gives the instant at which it arrives if nothing is cut.
    pub fn send(
        &mut self,
        id: StreamId,
        side: usize,
        parcel: Parcel,
        (now, pace): (u64, Pace),
        rng: &mut Rng,
    ) -> Option<u64> {
        let way = &mut self.streams.get_mut(&id)?.ways[side];
        let len = if let Parcel::Bytes(bytes) = &parcel { bytes.len() as u64 } else { 64 };
        way.busy_until = way.busy_until.max(now) + len * MS / pace.bytes_per_ms;
        let arrives = way.busy_until + pace.delay_us / 2 + rng.below(pace.delay_us);
        way.arrives_last = arrives.max(way.arrives_last + 1);
        let parcel = match parcel {
            Parcel::Bytes(bytes) => {
                way.unread += bytes.len();
                let bytes = way.frames.pass(&bytes, rng);
                way.passed += bytes.len() as u64;
                if way.frames.spoiled == Some(FrameFault::Damaged) {
                    way.damaged_until.get_or_insert(way.passed);
                }
                Parcel::Bytes(bytes)
            }
            other => other,
        };
        way.parcels.push_back((way.arrives_last, parcel));
        Some(way.arrives_last)
    }

    /// How many bytes a side may send now.
    pub fn room(&self, id: StreamId, side: usize, pace: Pace) -> usize {
        self.streams.get(&id).map_or(0, |s| pace.window_bytes.saturating_sub(s.ways[side].unread))
    }

    /// The process at the other end has read bytes that `side` sent.
    pub fn on_read(&mut self, id: StreamId, side: usize, bytes: usize) {
        if let Some(stream) = self.streams.get_mut(&id) {
            let way = &mut stream.ways[side];
            way.read += bytes as u64;
            // A doubled frame is read twice.
            way.unread = way.unread.saturating_sub(bytes);
        }
    }

    /// What has arrived of what `side` sent.
    pub fn take_arrived(&mut self, id: StreamId, side: usize, now: u64) -> Vec<Parcel> {
        let Some(stream) = self.streams.get_mut(&id) else { return Vec::new() };
        let Some(from) = stream.sides[side].as_ref().map(|s| s.node).or((side == 1).then_some(stream.to))
        else {
            return Vec::new();
        };
        let other = stream.sides[1 - side].as_ref().map_or(stream.to, |s| s.node);
        if self.cuts.values().any(|cut| cut.contains(&(from, other))) {
            return Vec::new();
        }
        let parcels = &mut stream.ways[side].parcels;
        let due = parcels.iter().take_while(|(at, _)| *at <= now).count();
        parcels.drain(..due).map(|(_, parcel)| parcel).collect()
    }

    /// Loses what is under way, from `side` or both ways.
    pub fn lose_under_way(&mut self, id: StreamId, side: Option<usize>) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        for (from, way) in stream.ways.iter_mut().enumerate() {
            if side.is_none_or(|side| side == from) {
                way.parcels.clear();
            }
        }
    }

    /// Spoils the next whole frame that `side` sends.
    pub fn spoil(&mut self, id: StreamId, side: usize, fault: FrameFault) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.ways[side].frames.fault = Some(fault);
        }
    }

    /// What was done to a frame that `side` sent.
    pub fn spoiled(&self, id: StreamId, side: usize) -> Option<FrameFault> {
        self.streams.get(&id)?.ways[side].frames.spoiled
    }

    /// True if the process at the other end has read a damaged frame that `side` sent, and has the connection open.
    pub fn damage_was_read(&self, id: StreamId, side: usize) -> bool {
        self.streams.get(&id).is_some_and(|s| {
            let way = &s.ways[side];
            let open = s.sides[1 - side].as_ref().is_some_and(|other| other.open && other.link.is_some());
            open && way.damaged_until.is_some_and(|until| way.read >= until)
        })
    }

    /// Forgets a connection that neither side has open.
    pub fn tidy(&mut self, id: StreamId) {
        let is_over = |s: &Stream| {
            s.sides.iter().flatten().all(|side| !side.open) && s.ways.iter().all(|way| way.parcels.is_empty())
        };
        if self.streams.get(&id).is_some_and(is_over) {
            self.streams.remove(&id);
        }
    }

    /// Begins an outage.
    pub fn cut(&mut self, outage: u64, pairs: BTreeSet<(usize, usize)>) {
        self.cuts.insert(outage, pairs);
    }

    /// Ends an outage, or all of them. Gives all ways on which something may arrive, with the instant.
    pub fn mend(&mut self, outage: Option<u64>) -> Vec<(StreamId, usize, u64)> {
        match outage {
            Some(outage) => drop(self.cuts.remove(&outage)),
            None => self.cuts.clear(),
        }
        let mut ways = Vec::new();
        for (id, stream) in &self.streams {
            for (side, way) in stream.ways.iter().enumerate() {
                ways.extend(way.parcels.front().map(|(at, _)| (*id, side, *at)));
            }
        }
        ways
    }
}

impl Frames {
    /// What becomes of bytes that are sent.
    fn pass(&mut self, mut bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        while !bytes.is_empty() {
            let at_boundary = self.header.is_empty() && self.body_left == 0;
            if at_boundary && self.fault.is_some() && self.spoiled.is_none() {
                self.held = Some(Vec::new());
            }
            let len = if self.body_left > 0 {
                self.body_left.min(bytes.len())
            } else {
                (FRAME_HEADER_BYTES - self.header.len()).min(bytes.len())
            };
            let (piece, rest) = bytes.split_at(len);
            bytes = rest;
            self.held.as_mut().unwrap_or(&mut out).extend_from_slice(piece);
            if self.follow(piece)
                && let Some(frame) = self.held.take()
            {
                out.extend(self.spoil(frame, rng));
            }
        }
        out
    }

    /// Takes note of a piece of a header or body. True at the end of a frame.
    fn follow(&mut self, piece: &[u8]) -> bool {
        if self.body_left > 0 {
            self.body_left -= piece.len();
            return self.body_left == 0;
        }
        self.header.extend_from_slice(piece);
        if self.header.len() == FRAME_HEADER_BYTES {
            let h = &self.header;
            self.body_left = u32::from_le_bytes([h[0], h[1], h[2], h[3]]) as usize;
            self.header.clear();
        }
        false
    }

    fn spoil(&mut self, mut frame: Vec<u8>, rng: &mut Rng) -> Vec<u8> {
        self.spoiled = self.fault.take();
        match self.spoiled {
            Some(FrameFault::Lost) => return Vec::new(),
            Some(FrameFault::Doubled) => frame.extend_from_within(..),
            Some(FrameFault::Damaged) => {
                let at = rng.below(frame.len() as u64) as usize;
                frame[at] ^= 1 << rng.below(8);
            }
            None => {}
        }
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { delay_us: 100, bytes_per_ms: 1_000, window_bytes: 64 };

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut header = (body.len() as u32).to_le_bytes().to_vec();
        header.resize(FRAME_HEADER_BYTES, 7);
        [&header, body].concat()
    }

    fn connected(net: &mut Network) -> StreamId {
        let side = |node| Side { node, life: 1, link: Some(LinkId(7)), open: true };
        let id = net.open(side(0), 1);
        let stream = net.stream(id).unwrap();
        (stream.sides[1], stream.opened) = (Some(side(1)), true);
        id
    }

    fn arrived(net: &mut Network, id: StreamId, now: u64) -> Vec<u8> {
        let parcels = net.take_arrived(id, 0, now).into_iter();
        parcels.flat_map(|p| if let Parcel::Bytes(bytes) = p { bytes } else { Vec::new() }).collect()
    }

    #[test]
    fn bytes_arrive_in_order_after_a_while() {
        let (mut net, mut rng) = (Network::default(), Rng::new(3));
        let id = connected(&mut net);
        let mut last = 0;
        for n in 0..50u8 {
            let at = net.send(id, 0, Parcel::Bytes(vec![n]), (u64::from(n), PACE), &mut rng).unwrap();
            assert!(at > last && at >= u64::from(n) + 50, "{at} after {last}");
            last = at;
        }
        assert!(arrived(&mut net, id, 49).is_empty());
        assert_eq!(arrived(&mut net, id, last), (0..50).collect::<Vec<u8>>());
    }

    #[test]
    fn the_window_closes_until_the_receiver_has_read() {
        let (mut net, mut rng) = (Network::default(), Rng::new(3));
        let id = connected(&mut net);
        assert_eq!(net.room(id, 0, PACE), 64);
        net.send(id, 0, Parcel::Bytes(vec![0; 60]), (0, PACE), &mut rng);
        assert_eq!(net.room(id, 0, PACE), 4);
        net.on_read(id, 0, 60);
        assert_eq!(net.room(id, 0, PACE), 64);
    }

    #[test]
    fn a_cut_stalls_one_way_until_it_is_mended() {
        let (mut net, mut rng) = (Network::default(), Rng::new(3));
        let id = connected(&mut net);
        net.cut(1, BTreeSet::from([(0, 1)]));
        net.send(id, 0, Parcel::Bytes(vec![1]), (0, PACE), &mut rng);
        net.send(id, 1, Parcel::Bytes(vec![2]), (0, PACE), &mut rng);
        assert!(net.take_arrived(id, 0, 1_000_000).is_empty());
        assert_eq!(net.take_arrived(id, 1, 1_000_000).len(), 1);
        assert_eq!(net.mend(Some(1)).len(), 1);
        assert_eq!(arrived(&mut net, id, 1_000_000), [1]);
    }

    #[test]
    fn whole_frames_are_lost_doubled_or_damaged_and_those_around_them_are_not() {
        let frames = [frame(b"first"), frame(b"second one"), frame(b"third")];
        let expected = |fault| match fault {
            FrameFault::Lost => [&frames[0][..], &frames[2]].concat(),
            _ => [&frames[0][..], &frames[1], &frames[1], &frames[2]].concat(),
        };
        for fault in [FrameFault::Lost, FrameFault::Doubled, FrameFault::Damaged] {
            for piece_len in [1, 3, 8, 100] {
                let (mut net, mut rng) = (Network::default(), Rng::new(3));
                let id = connected(&mut net);
                let all = frames.concat();
                net.send(id, 0, Parcel::Bytes(all[..5].to_vec()), (0, PACE), &mut rng);
                net.spoil(id, 0, fault);
                for piece in all[5..].chunks(piece_len) {
                    net.send(id, 0, Parcel::Bytes(piece.to_vec()), (0, PACE), &mut rng);
                }
                assert_eq!(net.spoiled(id, 0), Some(fault));
                let got = arrived(&mut net, id, u64::MAX);
                if fault == FrameFault::Damaged {
                    let differ: u32 = got.iter().zip(&all).map(|(a, b)| (a ^ b).count_ones()).sum();
                    assert_eq!((got.len(), differ), (all.len(), 1));
                } else {
                    assert_eq!(got, expected(fault), "{fault:?} in pieces of {piece_len}");
                }
            }
        }
    }

    #[test]
    fn a_connection_that_both_sides_left_is_forgotten() {
        let mut net = Network::default();
        let id = connected(&mut net);
        assert_eq!(net.established(), [id]);
        assert_eq!(net.find(1, 1, LinkId(7)), Some((id, 1)));
        for side in 0..2 {
            net.tidy(id);
            assert!(net.stream(id).is_some());
            net.stream(id).unwrap().sides[side].as_mut().unwrap().open = false;
        }
        net.tidy(id);
        assert!(net.stream(id).is_none());
    }
}
