//! All links of a node: which there are, what waits to be sent on each, and when the next must be looked at.
//! `connect` dials and gives up, `receive` takes what arrives.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use skep_base::{GroupId, LinkId, Millis, NodeId, NodeUuid, Rng};

use crate::connect::Dialer;
use crate::event::{LinkInput, LinkLimits, LinkNote, LinkOutput, LinkStats, Me, Peer};
use crate::handshake::{Known, Nonces};
use crate::lanes::Arriving;
use crate::link::{Link, Outgoing, State};
use crate::{PIECE_BYTES_MAX, PIECE_BYTES_MIN, PeerMessage, TEXT_BYTES_MAX};

/// Before the same note is given again.
const NOTE_REPEAT_MS: u64 = 60_000;
/// Notes in that time: whoever sends garbage must not fill the log.
const NOTES_MAX: usize = 64;

/// The links of one node. After inputs, and calls of [`send`](Links::send), [`flush`](Links::flush) ends the turn; then
/// [`next_with_output`](Links::next_with_output) names the links that have bytes to send.
///
/// The same inputs in the same order, with the same seed, give the same outputs (INV-PEER-7).
pub struct Links {
    pub(crate) me: Me,
    pub(crate) limits: LinkLimits,
    pub(crate) known: Known,
    pub(crate) now: Millis,
    pub(crate) rng: Rng,
    pub(crate) nonces: Nonces,
    pub(crate) links: BTreeMap<LinkId, Link>,
    pub(crate) dialers: BTreeMap<String, Dialer>,
    pub(crate) stats: LinkStats,
    next_link: u64,
    /// Links with something to send, each once.
    with_output: VecDeque<LinkId>,
    /// Links that were given something to send in this turn, each once.
    unflushed: Vec<LinkId>,
    /// True if a link is doomed.
    doomed: bool,
    /// Reasons given in notes of late.
    noted: BTreeMap<String, Millis>,
}

impl Links {
    /// `seed` should be a secret of this run, drawn from the operating system's randomness, or the simulator's.
    pub fn new(me: Me, limits: LinkLimits, seed: u64) -> Links {
        check_me(&me);
        let piece = limits.piece_bytes;
        assert!((PIECE_BYTES_MIN..=PIECE_BYTES_MAX).contains(&piece), "pieces of {piece} bytes");
        Links {
            nonces: Nonces::new(&me, seed),
            me,
            limits,
            known: Known::default(),
            now: Millis(0),
            rng: Rng::new(seed),
            links: BTreeMap::new(),
            dialers: BTreeMap::new(),
            stats: LinkStats::default(),
            next_link: 1,
            with_output: VecDeque::new(),
            unflushed: Vec::new(),
            doomed: false,
            noted: BTreeMap::new(),
        }
    }

    /// Who this node is from here on. Links on which it said otherwise are closed, and those that it dialed are dialed
    /// again; a changed password alone closes none.
    pub fn set_me(&mut self, me: Me, out: &mut Vec<LinkOutput>) {
        check_me(&me);
        if self.me == me {
            return;
        }
        self.me = me;
        let public = self.me.public();
        let differs = |link: &&Link| link.said.as_ref().is_some_and(|said| said.public != public);
        let stale: Vec<LinkId> = self.links.values().filter(differs).map(|link| link.id).collect();
        for link in stale {
            let reason = "this node says other things of itself than when the link was made".to_owned();
            self.close(link, reason, out);
        }
        self.forget_failures();
    }

    /// The ids that the cluster has given, and those of removed nodes. Links with peers that this excludes are closed. A
    /// removed node that comes again is let in until the next call, so that it can be told.
    pub fn set_known(
        &mut self,
        nodes: BTreeMap<NodeId, NodeUuid>,
        removed: BTreeSet<NodeId>,
        out: &mut Vec<LinkOutput>,
    ) {
        self.known = Known { nodes };
        let objection = |link: &Link| {
            let peer = link.peer()?;
            let gone = removed
                .contains(&peer.node)
                .then(|| format!("node {} ({:?}) was removed from the cluster", peer.node, peer.name));
            Some((link.id, gone.or_else(|| self.known.objection(&self.me, peer))?))
        };
        let excluded: Vec<_> = self.links.values().filter_map(objection).collect();
        for (link, reason) in excluded {
            self.close(link, reason, out);
        }
    }

    /// Advances by one input. Never blocks; appends what should happen to `out`, in order.
    pub fn handle(&mut self, now: Millis, input: LinkInput<'_>, out: &mut Vec<LinkOutput>) {
        self.now = self.now.max(now);
        match input {
            LinkInput::Dialed { link } => self.on_dialed(link),
            LinkInput::Received { link, bytes } => self.on_received(link, bytes, out),
            LinkInput::Closed { link, reason } => self.on_closed(link, reason, out),
            LinkInput::Tick => self.on_tick(out),
        }
        if std::mem::take(&mut self.doomed) {
            self.close_doomed(out);
        }
    }

    /// The next instant at which [`handle`](Self::handle) wants [`LinkInput::Tick`] if nothing else arrives.
    ///
    /// Cost: looks at each link and address.
    pub fn next_wakeup(&self) -> Option<Millis> {
        if self.doomed {
            return Some(self.now);
        }
        let dials = self.dialers.values().filter_map(Dialer::dials_at);
        self.links.values().map(|link| self.due(link)).chain(dials).min()
    }

    /// Appends `message` to what `link` will send; it leaves after [`flush`](Self::flush). False, and nothing done, if
    /// the link is not up. A link with too much unsent is closed at the next input.
    ///
    /// # Panics
    /// If the message breaks a limit; see [`PeerMessage::encode`].
    ///
    /// Cost: one copy of the message's bytes, no allocation but the buffer's growth; of what waits in a lane, another copy,
    /// but large payloads of log entries and checkpoints are shared until they leave.
    pub fn send(&mut self, link: LinkId, message: &PeerMessage) -> bool {
        let is_up = self.put(link, |output| output.put_message(message));
        self.stats.messages_out += u64::from(is_up);
        is_up
    }

    /// True if appends of `group` that were sent on a link wait behind other messages: what is sent there may overtake them.
    pub fn holds_appends(&self, link: LinkId, group: GroupId) -> bool {
        self.links.get(&link).is_some_and(|link| link.output.holds_appends(group))
    }

    /// Ends the turn: all that was sent may leave.
    pub fn flush(&mut self) {
        let mut unflushed = std::mem::take(&mut self.unflushed);
        for id in unflushed.drain(..) {
            let link = self.links.get_mut(&id).expect("a link that is gone has nothing to send");
            link.output.unflushed = false;
            if link.output.seal() {
                self.stats.frames_out += 1;
                list(&mut self.with_output, link);
            }
            self.refill(id);
        }
        self.unflushed = unflushed;
    }

    /// Puts pieces of what waits on a link into frames, if few are ready to leave.
    fn refill(&mut self, id: LinkId) {
        let link = self.links.get_mut(&id).expect("whoever refills a link has looked");
        let frames = link.output.refill();
        if frames > 0 {
            self.stats.frames_out += frames;
            self.stats.pieces_out += frames;
            list(&mut self.with_output, link);
        }
    }

    /// The next link that has something to send; each is named once until it has more.
    pub fn next_with_output(&mut self) -> Option<LinkId> {
        loop {
            let id = self.with_output.pop_front()?;
            if let Some(link) = self.links.get_mut(&id) {
                link.output.listed = false;
                return Some(id);
            }
        }
    }

    /// The bytes that wait to be sent on a link: whole frames, less what has left of the first.
    pub fn unsent(&self, link: LinkId) -> &[u8] {
        self.links.get(&link).map_or(&[], |link| link.output.unsent())
    }

    /// Takes note that the first `bytes` of [`unsent`](Self::unsent) have left. More may be there then: if so, the link is
    /// named again.
    pub fn on_sent(&mut self, id: LinkId, bytes: usize) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.output.on_sent(bytes);
        // What fits the kernel's buffer is gone in any case. Where more waits, it has taken some since the other side has.
        if bytes > 0 && link.output.waiting() > 0 {
            link.moved = self.now;
        }
        self.stats.bytes_out += bytes as u64;
        self.refill(id);
    }

    /// Bytes that wait on a link, those of the turn's open frame included: what flow control goes by.
    pub fn unsent_bytes(&self, link: LinkId) -> usize {
        self.links.get(&link).map_or(0, |link| link.output.waiting())
    }

    /// Who is on the other side, if the link is up.
    pub fn peer(&self, link: LinkId) -> Option<&Peer> {
        self.links.get(&link)?.peer()
    }

    /// Counters since creation. Cost: looks at each link.
    pub fn stats(&self) -> LinkStats {
        LinkStats { up: self.links.values().filter(|link| link.is_up()).count(), ..self.stats }
    }

    /// Panics, naming the broken rule, if the state is impossible.
    pub fn assert_invariants(&self) {
        for (address, dialer) in &self.dialers {
            if let Some(id) = dialer.link() {
                let sound = self.links.get(&id).is_some_and(|link| link.dialed && link.address == *address);
                assert!(sound, "INV-PEER-1: {address} counts on {id:?}, which it did not dial");
            }
        }
        for link in self.links.values() {
            let known = self.dialers.get(&link.address).and_then(Dialer::link) == Some(link.id);
            assert!(!link.dialed || known, "INV-PEER-1: {:?} to {} is not counted", link.id, link.address);
            let sends = link.output.is_open() || link.output.holds_any();
            assert!(link.is_up() || !sends, "INV-PEER-2: {:?} sends and is not up", link.id);
            let unflushed = self.unflushed.iter().filter(|id| **id == link.id).count();
            assert!(
                unflushed == usize::from(link.output.unflushed),
                "INV-PEER-4: {:?} is to be flushed {unflushed} times",
                link.id
            );
            let listed = self.with_output.iter().filter(|id| **id == link.id).count();
            assert!(
                listed == usize::from(link.output.listed),
                "INV-PEER-4: {:?} is named {listed} times",
                link.id
            );
            link.input.assert_invariants();
            link.arriving.assert_invariants();
            link.output.assert_invariants();
            let bound = self.limits.output_bytes_max;
            assert!(
                link.output.waiting() <= bound,
                "INV-PEER-4: {:?} keeps more than {bound} bytes",
                link.id
            );
        }
        let accepted = self.links.values().filter(|link| !link.dialed).count();
        assert!(accepted <= self.limits.accepted_max, "INV-PEER-6: {accepted} accepted links");
    }

    pub(crate) fn new_link(&mut self, address: String, dialed: bool) -> LinkId {
        let id = LinkId(self.next_link);
        self.next_link += 1;
        let link = Link {
            id,
            address,
            dialed,
            state: if dialed { State::Dialing } else { State::AwaitsHello },
            said: None,
            since: self.now,
            moved: self.now,
            asked: self.now,
            input: crate::FrameReader::new(),
            arriving: Arriving::default(),
            output: Outgoing::new(self.limits.piece_bytes),
        };
        self.links.insert(id, link);
        id
    }

    /// Appends a message of the link itself by `put` to the turn's frame of a link, if that is up.
    pub(crate) fn put_small(&mut self, id: LinkId, put: impl FnOnce(&mut Vec<u8>)) {
        self.put(id, |output| output.put_small(put));
    }

    /// Lets `put` append to what a link sends; it says whether that completed a frame. False if the link is not up.
    fn put(&mut self, id: LinkId, put: impl FnOnce(&mut Outgoing) -> bool) -> bool {
        let Some(link) = self.links.get_mut(&id).filter(|link| link.is_up()) else { return false };
        if !std::mem::replace(&mut link.output.unflushed, true) {
            self.unflushed.push(id);
        }
        if put(&mut link.output) {
            self.stats.frames_out += 1;
            list(&mut self.with_output, link);
        }
        let (waiting, bound) = (link.output.waiting(), self.limits.output_bytes_max);
        if waiting > bound {
            let reason = format!("{waiting} bytes wait to be sent, limit is {bound}");
            link.doom(reason);
            self.doomed = true;
        }
        true
    }

    /// Appends a frame of the handshake by `put`.
    pub(crate) fn put_frame(&mut self, id: LinkId, put: impl FnOnce(&mut Vec<u8>)) {
        let link = self.links.get_mut(&id).expect("whoever puts a frame has looked");
        link.output.put_frames(put);
        self.stats.frames_out += 1;
        list(&mut self.with_output, link);
    }

    /// Gives a note, unless its reason was given a short while ago or too many were.
    pub(crate) fn note(&mut self, note: LinkNote, out: &mut Vec<LinkOutput>) {
        let now = self.now;
        self.noted.retain(|_, at| now.since(*at) < NOTE_REPEAT_MS);
        if self.noted.len() < NOTES_MAX && !self.noted.contains_key(note.reason()) {
            self.noted.insert(note.reason().to_owned(), now);
            out.push(LinkOutput::Note(note));
        }
    }

    /// Forgets a link, and plans when its address is dialed again.
    pub(crate) fn remove(&mut self, id: LinkId) -> Option<Link> {
        let link = self.links.remove(&id)?;
        self.unflushed.retain(|unflushed| *unflushed != id);
        if link.dialed {
            self.plan_dial(&link);
        }
        Some(link)
    }
}

fn check_me(me: &Me) {
    assert!(me.uuid != NodeUuid(0), "a node without a uuid has no links");
    for text in [&me.name, &me.cluster_id] {
        assert!(
            text.len() <= TEXT_BYTES_MAX,
            "name or cluster id of {} bytes, limit is {TEXT_BYTES_MAX}",
            text.len()
        );
    }
}

fn list(with_output: &mut VecDeque<LinkId>, link: &mut Link) {
    if !link.output.listed {
        link.output.listed = true;
        with_output.push_back(link.id);
    }
}
