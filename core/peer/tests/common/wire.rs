//! The bytes of a handshake, built by hand from DESIGN.md and not by the crate, for peers that break its rules.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use skep_base::varint::{put, put_bytes};
use skep_peer::Me;

pub const HELLO: u8 = 1;
pub const WELCOME: u8 = 2;
pub const REFUSE: u8 = 3;
pub const PROOF: u8 = 4;

pub const DIALER: u8 = 1;
pub const ACCEPTOR: u8 = 2;

/// The header of a frame with `len` bytes of body whose checksum is `crc`.
pub fn header(len: usize, crc: u32) -> Vec<u8> {
    let mut out = (len as u32).to_le_bytes().to_vec();
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
    out
}

pub fn frame(body: &[u8]) -> Vec<u8> {
    let mut out = header(body.len(), crc32c::crc32c(body));
    out.extend_from_slice(body);
    out
}

pub fn message(kind: u8, fields: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend_from_slice(&(fields.len() as u32).to_le_bytes());
    out.extend_from_slice(fields);
    out
}

pub fn step(kind: u8, fields: &[u8]) -> Vec<u8> {
    frame(&message(kind, fields))
}

pub fn introduction(me: &Me, versions: (u64, u64), nonce: &[u8; 16]) -> Vec<u8> {
    let mut out = b"skeplink".to_vec();
    put(&mut out, versions.0);
    put(&mut out, versions.1);
    out.extend_from_slice(&me.uuid.0.to_le_bytes());
    put(&mut out, me.node.0);
    put_bytes(&mut out, me.cluster_id.as_bytes());
    put(&mut out, me.incarnation);
    put_bytes(&mut out, me.name.as_bytes());
    out.extend_from_slice(nonce);
    out
}

pub fn proof(password: &[u8], side: u8, version: u64, dialer: &[u8], acceptor: &[u8]) -> [u8; 32] {
    let mut said = b"skep link proof\0".to_vec();
    said.push(side);
    put(&mut said, version);
    put_bytes(&mut said, dialer);
    said.extend_from_slice(acceptor);
    let mut mac = Hmac::<Sha256>::new_from_slice(password).unwrap();
    mac.update(&said);
    mac.finalize().into_bytes().into()
}

pub fn welcome(version: u64, introduction: &[u8], proof: &[u8; 32]) -> Vec<u8> {
    let mut fields = Vec::new();
    put(&mut fields, version);
    put_bytes(&mut fields, introduction);
    fields.extend_from_slice(proof);
    step(WELCOME, &fields)
}

/// Kind and fields of the message in a frame that holds one.
pub fn read(frame: &[u8]) -> (u8, Vec<u8>) {
    let body = &frame[12..];
    let len = u32::from_le_bytes(body[1..5].try_into().unwrap()) as usize;
    assert_eq!(body.len(), 5 + len, "one frame with one message");
    (body[0], body[5..].to_vec())
}

/// Version, introduction and proof of a welcome's fields.
pub fn read_welcome(fields: &[u8]) -> (u64, Vec<u8>, [u8; 32]) {
    let mut r = skep_base::varint::Reader::new(fields);
    let (version, introduction) = (r.varint().unwrap(), r.bytes().unwrap().to_vec());
    (version, introduction, r.take(32).unwrap().try_into().unwrap())
}
