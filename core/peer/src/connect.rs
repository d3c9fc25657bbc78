//! Which links there should be: one dialed to each address, tried again after a while if it fails, and closed if it is
//! too slow or silent.

use std::collections::{BTreeMap, BTreeSet};

use skep_base::{LinkId, Millis};

use crate::event::{LinkNote, LinkOutput};
use crate::handshake::{Introduction, Nonce, put_hello};
use crate::link::{Link, Said, State};
use crate::links::Links;
use crate::message;
use crate::receive::ALIVE_ASK;

/// One address to keep a link to.
pub(crate) struct Dialer {
    state: Dial,
    /// Links lost in a row, none of which was up for long.
    failures: u32,
}

enum Dial {
    At(Millis),
    /// As before, but the address led to this node itself.
    OwnAt(Millis),
    Link(LinkId),
}

impl Dialer {
    pub fn dials_at(&self) -> Option<Millis> {
        match self.state {
            Dial::At(at) | Dial::OwnAt(at) => Some(at),
            Dial::Link(_) => None,
        }
    }

    pub fn link(&self) -> Option<LinkId> {
        match self.state {
            Dial::Link(link) => Some(link),
            _ => None,
        }
    }
}

impl Links {
    /// The addresses to keep a link to. Links dialed to others are closed.
    pub fn set_addresses(&mut self, addresses: BTreeSet<String>, out: &mut Vec<LinkOutput>) {
        let mut kept = BTreeMap::new();
        for address in addresses {
            let dialer = self.dialers.remove(&address);
            kept.insert(address, dialer.unwrap_or(Dialer { state: Dial::At(self.now), failures: 0 }));
        }
        for dropped in std::mem::replace(&mut self.dialers, kept).into_values() {
            if let Some(link) = dropped.link() {
                self.close(link, "its address is no longer wanted".to_owned(), out);
            }
        }
        self.dial_due(out);
    }

    /// A connection was accepted from `address`. `None` if there are too many: it is to be closed at once.
    pub fn accept(&mut self, now: Millis, address: String) -> Option<LinkId> {
        self.now = self.now.max(now);
        let accepted = self.links.values().filter(|link| !link.dialed).count();
        if accepted >= self.limits.accepted_max {
            self.stats.turned_away += 1;
            return None;
        }
        self.stats.accepted += 1;
        Some(self.new_link(address, false))
    }

    pub(crate) fn on_dialed(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if !matches!(link.state, State::Dialing) {
            return;
        }
        (link.since, link.moved) = (self.now, self.now);
        link.state = State::AwaitsWelcome;
        let introduction = self.introduce(id);
        self.put_frame(id, |out| put_hello(out, &introduction));
    }

    /// What this node says of itself on a link, with a new nonce.
    pub(crate) fn introduce(&mut self, id: LinkId) -> Vec<u8> {
        let introduction = Introduction::of(&self.me, self.nonces.draw());
        let raw = introduction.encode();
        let link = self.links.get_mut(&id).expect("whoever introduces this node has looked");
        link.said = Some(Said { public: introduction.peer, nonce: introduction.nonce, raw: raw.clone() });
        raw
    }

    pub(crate) fn on_closed(&mut self, id: LinkId, reason: String, out: &mut Vec<LinkOutput>) {
        if let Some(link) = self.remove(id) {
            let (peer, reason) = match link.state {
                State::Up { peer } => (Some(peer), reason),
                State::Doomed { peer, reason } => (peer, reason),
                State::Refused { reason } => (None, reason),
                _ => (None, reason),
            };
            out.push(LinkOutput::Down { link: id, peer, reason });
        }
    }

    pub(crate) fn close(&mut self, id: LinkId, reason: String, out: &mut Vec<LinkOutput>) {
        if self.links.contains_key(&id) {
            out.push(LinkOutput::Close { link: id });
            self.on_closed(id, reason, out);
        }
    }

    /// Closes a link that did what it must not, and tells the operator.
    pub(crate) fn close_broken(&mut self, id: LinkId, reason: String, out: &mut Vec<LinkOutput>) {
        let Some(link) = self.links.get(&id) else { return };
        let address = link.address.clone();
        self.stats.broken += 1;
        self.note(LinkNote::Broken { address, reason: reason.clone() }, out);
        self.close(id, reason, out);
    }

    pub(crate) fn close_doomed(&mut self, out: &mut Vec<LinkOutput>) {
        let doomed = |link: &Link| match &link.state {
            State::Doomed { reason, .. } => Some((link.id, reason.clone())),
            _ => None,
        };
        let doomed: Vec<_> = self.links.values().filter_map(doomed).collect();
        for (link, reason) in doomed {
            self.close_broken(link, reason, out);
        }
    }

    pub(crate) fn close_own(&mut self, id: LinkId, out: &mut Vec<LinkOutput>) {
        let Some(link) = self.links.get(&id) else { return };
        let address = link.address.clone();
        out.push(LinkOutput::SelfFound { address: address.clone() });
        self.close(id, "its address leads to this node itself".to_owned(), out);
        if let Some(dialer) = self.dialers.get_mut(&address) {
            dialer.state = Dial::OwnAt(self.now.plus(self.limits.self_retry_ms));
        }
    }

    /// When a link must be looked at.
    pub(crate) fn due(&self, link: &Link) -> Millis {
        match link.state {
            State::Up { .. } => match link.dialed {
                true => self.silent_at(link).min(self.asks_at(link)),
                false => self.silent_at(link),
            },
            State::Doomed { .. } => self.now,
            _ => link.since.plus(self.limits.handshake_ms_max),
        }
    }

    fn silent_at(&self, link: &Link) -> Millis {
        link.moved.plus(self.limits.silent_ms_max)
    }

    fn asks_at(&self, link: &Link) -> Millis {
        link.asked.plus((self.limits.silent_ms_max / 5).max(1))
    }

    pub(crate) fn on_tick(&mut self, out: &mut Vec<LinkOutput>) {
        let due: Vec<LinkId> =
            self.links.values().filter(|link| self.due(link) <= self.now).map(|link| link.id).collect();
        for id in due {
            self.on_due(id, out);
        }
        self.dial_due(out);
    }

    fn on_due(&mut self, id: LinkId, out: &mut Vec<LinkOutput>) {
        let link = &self.links[&id];
        let ms = self.now.since(link.since);
        match &link.state {
            State::Up { .. } if self.silent_at(link) <= self.now => {
                let silent = self.now.since(link.moved);
                self.close_broken(id, format!("nothing moved for {silent} ms"), out);
            }
            State::Up { .. } => {
                self.links.get_mut(&id).expect("found above").asked = self.now;
                self.put_small(id, |out| {
                    let start = message::begin(out, ALIVE_ASK);
                    message::end(out, start);
                });
            }
            // Closed at the end of each input.
            State::Doomed { .. } => {}
            State::Refused { reason } => {
                let reason = reason.clone();
                self.close(id, reason, out);
            }
            // What cannot be reached is no news worth a note each time.
            State::Dialing => self.close(id, format!("no connection within {ms} ms"), out),
            _ => self.close_broken(id, format!("the handshake was not over after {ms} ms"), out),
        }
    }

    fn dial_due(&mut self, out: &mut Vec<LinkOutput>) {
        let due = |(address, dialer): (&String, &Dialer)| {
            dialer.dials_at().is_some_and(|at| at <= self.now).then(|| address.clone())
        };
        let due: Vec<String> = self.dialers.iter().filter_map(due).collect();
        for address in due {
            let link = self.new_link(address.clone(), true);
            self.stats.dialed += 1;
            self.dialers.get_mut(&address).expect("found above").state = Dial::Link(link);
            out.push(LinkOutput::Dial { link, address });
        }
    }

    /// Plans when to dial again in place of `lost`.
    pub(crate) fn plan_dial(&mut self, lost: &Link) {
        let (min, max) = (self.limits.back_off_ms_min, self.limits.back_off_ms_max);
        let Some(dialer) = self.dialers.get_mut(&lost.address) else { return };
        // A link that is lost as soon as it is up is not dialed in a tight loop either.
        let lasted = lost.is_up() && self.now.since(lost.since) >= max;
        let failures = if lasted { 0 } else { dialer.failures };
        let longest = (min << (failures + 1).min(20)).min(max).max(1);
        let delay = longest / 2 + self.rng.below(longest / 2 + 1);
        dialer.failures = failures.saturating_add(1);
        dialer.state = Dial::At(self.now.plus(delay.max(1)));
    }

    /// Dials all that waits for its turn at the next tick.
    pub(crate) fn forget_failures(&mut self) {
        for dialer in self.dialers.values_mut() {
            dialer.failures = 0;
            if let Dial::At(at) = &mut dialer.state {
                *at = (*at).min(self.now);
            }
        }
    }

    /// True if this node said `nonce` on one of its links: whoever repeats it is this node.
    pub(crate) fn is_own_nonce(&self, nonce: &Nonce) -> bool {
        self.links.values().any(|link| link.said.as_ref().is_some_and(|said| said.nonce == *nonce))
    }
}
