//! What arrives on links: frames, the steps of the handshake, messages.

use skep_base::LinkId;

use crate::PeerMessage;
use crate::event::{LinkNote, LinkOutput, Peer};
use crate::handshake::{self, Introduction, Proof, Side, Step, Transcript};
use crate::handshake::{VERSION_MAX, VERSION_MIN};
use crate::lanes::{Arrived, PIECE};
use crate::link::State;
use crate::links::Links;
use crate::message::{self, Messages};

/// Kinds of the link's own messages: whoever gets the first, which only dialers send, answers with the second at once.
pub(crate) const ALIVE_ASK: u8 = 5;
const ALIVE: u8 = 6;

/// Why a link ends on what arrived.
enum End {
    Broken(String),
    RefusedBy(String),
    /// The other side is this node.
    Own,
}

impl Links {
    pub(crate) fn on_received(&mut self, id: LinkId, bytes: &[u8], out: &mut Vec<LinkOutput>) {
        self.stats.bytes_in += bytes.len() as u64;
        let Some(link) = self.links.get_mut(&id) else { return };
        link.moved = self.now;
        let mut reader = std::mem::take(&mut link.input);
        let mut rest = bytes;
        while let Some(link) = self.links.get(&id).filter(|link| link.listens()) {
            let ended = match reader.next(&mut rest, link.body_bytes_max()) {
                Ok(None) => break,
                Ok(Some(body)) => self.on_frame(id, body, out),
                Err(error) => Err(End::Broken(error.to_string())),
            };
            if let Err(end) = ended {
                self.end(id, end, out);
            }
        }
        if let Some(link) = self.links.get_mut(&id).filter(|link| link.listens()) {
            link.input = reader;
        }
    }

    fn end(&mut self, id: LinkId, end: End, out: &mut Vec<LinkOutput>) {
        match end {
            End::Broken(reason) => self.close_broken(id, reason, out),
            End::Own => self.close_own(id, out),
            End::RefusedBy(reason) => {
                let reason: String = reason.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
                let address = self.links[&id].address.clone();
                self.stats.refused += 1;
                self.note(LinkNote::RefusedBy { address, reason: reason.clone() }, out);
                self.close(id, format!("refused: {reason}"), out);
            }
        }
    }

    fn on_frame(&mut self, id: LinkId, body: &[u8], out: &mut Vec<LinkOutput>) -> Result<(), End> {
        self.stats.frames_in += 1;
        if self.links[&id].is_up() {
            return self.on_messages(id, body, out);
        }
        match handshake::read_step(body) {
            Ok(step) => self.on_step(id, step, out),
            Err(error) => Err(End::Broken(format!("bad step of the handshake: {error}"))),
        }
    }

    fn on_messages(&mut self, id: LinkId, body: &[u8], out: &mut Vec<LinkOutput>) -> Result<(), End> {
        for item in Messages::new(body) {
            let (kind, fields) = item.map_err(|error| End::Broken(format!("bad frame: {error}")))?;
            match kind {
                ALIVE_ASK | ALIVE if !fields.is_empty() => {
                    return Err(End::Broken(format!("{} bytes in a sign of life", fields.len())));
                }
                ALIVE_ASK => self.put_small(id, |out| {
                    let start = message::begin(out, ALIVE);
                    message::end(out, start);
                }),
                ALIVE => {}
                PIECE => self.on_piece(id, fields, out).map_err(End::Broken)?,
                _ => {
                    let bad = |error| End::Broken(format!("bad message of kind {kind}: {error}"));
                    let message = PeerMessage::decode(kind, fields).map_err(bad)?;
                    self.stats.messages_in += 1;
                    out.push(LinkOutput::Message { link: id, message });
                }
            }
        }
        Ok(())
    }

    fn on_piece(&mut self, id: LinkId, fields: &[u8], out: &mut Vec<LinkOutput>) -> Result<(), String> {
        let link = self.links.get_mut(&id).expect("a link that is being handled is there");
        let stats = &mut self.stats;
        stats.pieces_in += 1;
        link.arriving.take(fields, |kind, arrived| {
            let message = match arrived {
                Arrived::Within(fields) => PeerMessage::decode(kind, fields)?,
                Arrived::Alone(fields) => PeerMessage::decode_shared(kind, &fields)?,
            };
            stats.messages_in += 1;
            out.push(LinkOutput::Message { link: id, message });
            Ok(())
        })
    }

    fn on_step(&mut self, id: LinkId, step: Step<'_>, out: &mut Vec<LinkOutput>) -> Result<(), End> {
        match (&self.links[&id].state, step) {
            (State::AwaitsHello, Step::Hello { introduction, raw }) => {
                self.on_hello(id, introduction, raw, out)
            }
            (State::AwaitsWelcome, Step::Welcome { version, introduction, raw, proof }) => {
                return self.on_welcome(id, version, introduction, raw, &proof, out);
            }
            (State::AwaitsProof { .. }, Step::Proof { proof }) => self.on_proof(id, &proof, out),
            (State::AwaitsWelcome | State::AwaitsProof { .. }, Step::Refuse { reason }) => {
                return Err(End::RefusedBy(reason));
            }
            (_, step) => return Err(End::Broken(format!("{} out of turn", step.name()))),
        }
        Ok(())
    }

    fn on_hello(&mut self, id: LinkId, hello: Introduction, raw: &[u8], out: &mut Vec<LinkOutput>) {
        let version = match handshake::common_version((VERSION_MIN, VERSION_MAX), &hello) {
            Ok(version) => version,
            Err(reason) => return self.refuse(id, reason, out),
        };
        if let Some(reason) = self.objection(&hello) {
            return self.refuse(id, reason, out);
        }
        let acceptor = self.introduce(id);
        let transcript = Transcript { version, dialer: raw.to_vec(), acceptor };
        let proof = transcript.proof(&self.me.password, Side::Acceptor);
        self.put_frame(id, |out| handshake::put_welcome(out, version, &transcript.acceptor, &proof));
        self.set_state(id, State::AwaitsProof { peer: hello.peer, transcript });
    }

    fn on_welcome(
        &mut self,
        id: LinkId,
        version: u64,
        welcome: Introduction,
        raw: &[u8],
        proof: &Proof,
        out: &mut Vec<LinkOutput>,
    ) -> Result<(), End> {
        if !(VERSION_MIN..=VERSION_MAX).contains(&version) {
            return Err(End::Broken(format!(
                "version {version} was chosen of {VERSION_MIN} to {VERSION_MAX}"
            )));
        }
        let said = self.links[&id].said.as_ref().expect("a welcome is awaited behind a hello");
        let transcript = Transcript { version, dialer: said.raw.clone(), acceptor: raw.to_vec() };
        if !transcript.is_proof(&self.me.password, Side::Acceptor, proof) {
            self.refuse(id, wrong_password(&welcome.peer), out);
            return Ok(());
        }
        if welcome.peer.uuid == self.me.uuid && self.is_own_nonce(&welcome.nonce) {
            return Err(End::Own);
        }
        if let Some(reason) = self.objection(&welcome) {
            self.refuse(id, reason, out);
            return Ok(());
        }
        let proof = transcript.proof(&self.me.password, Side::Dialer);
        self.put_frame(id, |out| handshake::put_proof(out, &proof));
        self.up(id, welcome.peer, out);
        Ok(())
    }

    fn on_proof(&mut self, id: LinkId, proof: &Proof, out: &mut Vec<LinkOutput>) {
        let State::AwaitsProof { peer, transcript } = &self.links[&id].state else {
            panic!("a proof is taken for {id:?}, which awaits none");
        };
        let peer = peer.clone();
        if !transcript.is_proof(&self.me.password, Side::Dialer, proof) {
            return self.refuse(id, wrong_password(&peer), out);
        }
        // Its id may have been given to another since its hello.
        match self.known.objection(&self.me, &peer) {
            Some(reason) => self.refuse(id, reason, out),
            None => self.up(id, peer, out),
        }
    }

    /// Why this node wants no link with another; `None` if it does, or if it is this node itself, which its dialing side
    /// finds out.
    fn objection(&self, other: &Introduction) -> Option<String> {
        if other.peer.uuid == self.me.uuid && !self.is_own_nonce(&other.nonce) {
            return Some(format!(
                "node {:?} and node {:?} both have uuid {}: a data directory was copied; empty one of them",
                other.peer.name, self.me.name, self.me.uuid
            ));
        }
        self.known.objection(&self.me, &other.peer)
    }

    fn up(&mut self, id: LinkId, peer: Peer, out: &mut Vec<LinkOutput>) {
        self.set_state(id, State::Up { peer: peer.clone() });
        let link = self.links.get_mut(&id).expect("set above");
        (link.since, link.asked) = (self.now, self.now);
        let dialed = link.dialed.then(|| link.address.clone());
        out.push(LinkOutput::Up { link: id, peer, dialed });
    }

    /// Tells the other side why not. It closes the link when it has read that.
    fn refuse(&mut self, id: LinkId, reason: String, out: &mut Vec<LinkOutput>) {
        self.stats.refused += 1;
        let address = self.links[&id].address.clone();
        self.note(LinkNote::Refused { address, reason: reason.clone() }, out);
        self.put_frame(id, |out| handshake::put_refuse(out, &reason));
        self.set_state(id, State::Refused { reason });
    }

    fn set_state(&mut self, id: LinkId, state: State) {
        let link = self.links.get_mut(&id).expect("a link that is being handled is there");
        link.state = state;
    }
}

fn wrong_password(peer: &Peer) -> String {
    format!("node {:?} has another password for peers; it must be the same on all nodes", peer.name)
}
