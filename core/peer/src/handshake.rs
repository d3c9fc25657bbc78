//! What two nodes say before anything else: who they are, and that both know the password.
//!
//! ```text
//! dialer -> acceptor   Hello   introduction
//! acceptor -> dialer   Welcome version, introduction, proof       or   Refuse reason
//! dialer -> acceptor   Proof   proof                              or   Refuse reason
//! ```
//! A proof is the HMAC-SHA256 under the password of the direction, the version and both introductions as they were sent;
//! those hold a nonce each, so no proof serves twice, and nothing in them can be altered on the way.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use skep_base::varint::{Malformed, Reader, put, put_bytes};
use skep_base::{NodeId, NodeUuid};

use crate::event::{Me, Peer};
use crate::{frame, message};

/// The oldest and the newest version of the messages that this release speaks.
pub const VERSION_MIN: u64 = 1;
pub const VERSION_MAX: u64 = 1;

/// Opens each introduction, so that no other protocol is taken for this one.
const MAGIC: &[u8; 8] = b"skeplink";

const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const REFUSE: u8 = 3;
const PROOF: u8 = 4;

const PROOF_BYTES: usize = 32;

/// Drawn anew for each link by each side.
pub(crate) type Nonce = [u8; 16];
pub(crate) type Proof = [u8; PROOF_BYTES];

/// Who gives a proof; neither can give the other's back to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Dialer = 1,
    Acceptor = 2,
}

/// What each side says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Introduction {
    pub version_min: u64,
    pub version_max: u64,
    pub peer: Peer,
    pub nonce: Nonce,
}

impl Introduction {
    pub fn of(me: &Me, nonce: Nonce) -> Introduction {
        Introduction { version_min: VERSION_MIN, version_max: VERSION_MAX, peer: me.public(), nonce }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put(&mut out, self.version_min);
        put(&mut out, self.version_max);
        message::put_uuid(&mut out, self.peer.uuid);
        put(&mut out, self.peer.node.0);
        message::put_text(&mut out, &self.peer.cluster_id);
        put(&mut out, self.peer.incarnation);
        message::put_text(&mut out, &self.peer.name);
        out.extend_from_slice(&self.nonce);
        out
    }

    /// Reads the fields known to this release; a newer one may have more behind them.
    fn decode(bytes: &[u8]) -> Result<Introduction, Malformed> {
        let mut r = Reader::new(bytes);
        if r.take(MAGIC.len()).ok() != Some(MAGIC) {
            return Err(Malformed { offset: 0, expected: "the introduction of a skep node" });
        }
        let (version_min, version_max) = (r.varint()?, r.varint()?);
        if version_min > version_max {
            return r.malformed("an oldest version before the newest");
        }
        let peer = Peer {
            uuid: message::uuid(&mut r)?,
            node: NodeId(r.varint()?),
            cluster_id: message::text(&mut r)?,
            incarnation: r.varint()?,
            name: message::text(&mut r)?,
        };
        Ok(Introduction { version_min, version_max, peer, nonce: array(&mut r)? })
    }
}

fn array<const N: usize>(r: &mut Reader<'_>) -> Result<[u8; N], Malformed> {
    let mut array = [0; N];
    array.copy_from_slice(r.take(N)?);
    Ok(array)
}

/// One step of the handshake. Introductions also as they came, for the proofs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step<'a> {
    Hello { introduction: Introduction, raw: &'a [u8] },
    Welcome { version: u64, introduction: Introduction, raw: &'a [u8], proof: Proof },
    Refuse { reason: String },
    Proof { proof: Proof },
}

impl Step<'_> {
    pub fn name(&self) -> &'static str {
        match self {
            Step::Hello { .. } => "a hello",
            Step::Welcome { .. } => "a welcome",
            Step::Refuse { .. } => "a refusal",
            Step::Proof { .. } => "a proof",
        }
    }
}

/// Reads the step that fills the body of a frame.
pub(crate) fn read_step(body: &[u8]) -> Result<Step<'_>, Malformed> {
    let mut frame = Reader::new(body);
    let (kind, len) = (frame.u8()?, frame.u32()? as usize);
    let raw = frame.take(len)?;
    frame.end()?;
    let mut r = Reader::new(raw);
    let step = match kind {
        HELLO => return Ok(Step::Hello { introduction: Introduction::decode(raw)?, raw }),
        WELCOME => {
            let (version, raw, proof) = (r.varint()?, r.bytes()?, array(&mut r)?);
            Step::Welcome { version, introduction: Introduction::decode(raw)?, raw, proof }
        }
        REFUSE => Step::Refuse { reason: message::text(&mut r)? },
        PROOF => Step::Proof { proof: array(&mut r)? },
        _ => return Err(Malformed { offset: 0, expected: "a step of the handshake" }),
    };
    r.end()?;
    Ok(step)
}

/// Appends a frame that holds one message.
fn put_frame(out: &mut Vec<u8>, kind: u8, fields: impl FnOnce(&mut Vec<u8>)) {
    let frame = frame::begin(out);
    let start = message::begin(out, kind);
    fields(out);
    message::end(out, start);
    frame::seal(out, frame);
}

pub(crate) fn put_hello(out: &mut Vec<u8>, introduction: &[u8]) {
    put_frame(out, HELLO, |out| out.extend_from_slice(introduction));
}

pub(crate) fn put_welcome(out: &mut Vec<u8>, version: u64, introduction: &[u8], proof: &Proof) {
    put_frame(out, WELCOME, |out| {
        put(out, version);
        put_bytes(out, introduction);
        out.extend_from_slice(proof);
    });
}

pub(crate) fn put_refuse(out: &mut Vec<u8>, reason: &str) {
    put_frame(out, REFUSE, |out| message::put_text(out, reason));
}

pub(crate) fn put_proof(out: &mut Vec<u8>, proof: &Proof) {
    put_frame(out, PROOF, |out| out.extend_from_slice(proof));
}

/// What both sides said, of which a proof is made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Transcript {
    pub version: u64,
    /// Introductions as they were sent.
    pub dialer: Vec<u8>,
    pub acceptor: Vec<u8>,
}

impl Transcript {
    pub fn proof(&self, password: &[u8], side: Side) -> Proof {
        self.mac(password, side).finalize().into_bytes().into()
    }

    /// Takes the same time for every wrong proof.
    pub fn is_proof(&self, password: &[u8], side: Side, proof: &Proof) -> bool {
        self.mac(password, side).verify_slice(proof).is_ok()
    }

    fn mac(&self, password: &[u8], side: Side) -> Hmac<Sha256> {
        let mut head = b"skep link proof\0".to_vec();
        head.push(side as u8);
        put(&mut head, self.version);
        put(&mut head, self.dialer.len() as u64);
        let mut mac = keyed(password);
        mac.update(&head);
        mac.update(&self.dialer);
        mac.update(&self.acceptor);
        mac
    }
}

fn keyed(password: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(password).expect("HMAC takes keys of any length")
}

/// Draws nonces: no two alike within a run, nor, as long as the seed is another, between runs. Who has seen some cannot
/// tell the next, unlike with [`skep_base::Rng`].
pub(crate) struct Nonces {
    secret: [u8; 32],
    drawn: u64,
}

impl Nonces {
    pub fn new(me: &Me, seed: u64) -> Nonces {
        let mut mac = keyed(&me.password);
        mac.update(b"skep link nonces\0");
        mac.update(&seed.to_le_bytes());
        mac.update(&me.uuid.0.to_le_bytes());
        mac.update(&me.incarnation.to_le_bytes());
        Nonces { secret: mac.finalize().into_bytes().into(), drawn: 0 }
    }

    pub fn draw(&mut self) -> Nonce {
        self.drawn += 1;
        let mut mac = keyed(&self.secret);
        mac.update(&self.drawn.to_le_bytes());
        let drawn: [u8; 32] = mac.finalize().into_bytes().into();
        let mut nonce = Nonce::default();
        nonce.copy_from_slice(&drawn[..size_of::<Nonce>()]);
        nonce
    }
}

/// The ids that the cluster has given, as far as this node knows.
#[derive(Default)]
pub(crate) struct Known {
    pub nodes: BTreeMap<NodeId, NodeUuid>,
}

impl Known {
    /// Why there may be no link between `me` and `peer`. Does not look at versions and passwords, nor whether they
    /// are one. A node that was removed is let in: it believes that it was only over a link that has proved itself.
    pub fn objection(&self, me: &Me, peer: &Peer) -> Option<String> {
        if !me.cluster_id.is_empty() && !peer.cluster_id.is_empty() && me.cluster_id != peer.cluster_id {
            return Some(format!(
                "node {:?} belongs to cluster {:?}, node {:?} to cluster {:?}",
                peer.name, peer.cluster_id, me.name, me.cluster_id
            ));
        }
        match self.nodes.get(&peer.node) {
            Some(uuid) if *uuid != peer.uuid => Some(format!(
                "node {:?} with uuid {} says that it is node {}, which has uuid {uuid}",
                peer.name, peer.uuid, peer.node
            )),
            _ => None,
        }
    }
}

/// The version that both speak, or why there is none.
pub(crate) fn common_version(ours: (u64, u64), other: &Introduction) -> Result<u64, String> {
    let newest = ours.1.min(other.version_max);
    if newest >= ours.0.max(other.version_min) {
        return Ok(newest);
    }
    Err(format!(
        "node {:?} speaks versions {} to {} between nodes, and versions {} to {} are spoken here; upgrade one release at a time",
        other.peer.name, other.version_min, other.version_max, ours.0, ours.1
    ))
}
