//! What the store keeps for a key: that it was begun, its reply, or that there is none to give.
//!
//! ```text
//! 1 'B' fingerprint(32) token(16) deadline as decimal digits, written by the store: ms of its own time
//! 1 'K' fingerprint(32) status headers body
//! 1 'L' fingerprint(32)      carried out, and the reply was too long to be kept
//! 1 'U' fingerprint(32)      whether it was carried out is not known
//! ```

use skep_base::varint::{self, Malformed, Reader};

const VERSION: u8 = 1;
const BEGUN: u8 = b'B';
const KEPT: u8 = b'K';
const LONG: u8 = b'L';
const UNKNOWN: u8 = b'U';

/// Of the request: who repeats a key must repeat all of it.
pub type Fingerprint = [u8; 32];
/// Of one attempt to carry a request out; never used twice.
pub type Token = [u8; 16];

/// A reply as it is kept and given again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Kept {
    pub status: u16,
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub body: Vec<u8>,
}

/// What is known of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    Begun {
        token: Token,
        /// In the store's time; behind it nobody carries the attempt out any more.
        deadline_ms: u64,
    },
    Kept(Kept),
    Long,
    Unknown,
}

impl Record {
    /// Reads what is kept under a key.
    ///
    /// # Errors
    /// [`Malformed`]: something else has written there.
    pub fn decode(bytes: &[u8]) -> Result<(Fingerprint, Record), Malformed> {
        let mut input = Reader::new(bytes);
        if input.u8()? != VERSION {
            return input.malformed("a record of version 1");
        }
        let kind = input.u8()?;
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(input.take(32)?);
        let record = match kind {
            BEGUN => {
                let mut token = [0; 16];
                token.copy_from_slice(input.take(16)?);
                let digits = input.take(input.left())?;
                match std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()) {
                    Some(deadline_ms) => Record::Begun { token, deadline_ms },
                    None => return input.malformed("a deadline in digits"),
                }
            }
            KEPT => Record::Kept(kept(&mut input)?),
            LONG => Record::Long,
            UNKNOWN => Record::Unknown,
            _ => return input.malformed("a record that was begun, is kept, long or unknown"),
        };
        input.end()?;
        Ok((fingerprint, record))
    }
}

/// A begun record without its deadline, which the store appends.
pub(super) fn begun(fingerprint: &Fingerprint, token: &Token) -> Vec<u8> {
    let mut out = vec![VERSION, BEGUN];
    out.extend_from_slice(fingerprint);
    out.extend_from_slice(token);
    out
}

pub(super) fn encode_kept(fingerprint: &Fingerprint, kept: &Kept) -> Vec<u8> {
    let mut out = vec![VERSION, KEPT];
    out.extend_from_slice(fingerprint);
    varint::put(&mut out, u64::from(kept.status));
    varint::put(&mut out, kept.headers.len() as u64);
    for (name, value) in &kept.headers {
        varint::put_bytes(&mut out, name);
        varint::put_bytes(&mut out, value);
    }
    varint::put_bytes(&mut out, &kept.body);
    out
}

pub(super) fn long(fingerprint: &Fingerprint) -> Vec<u8> {
    [&[VERSION, LONG][..], fingerprint].concat()
}

pub(super) fn unknown(fingerprint: &Fingerprint) -> Vec<u8> {
    [&[VERSION, UNKNOWN][..], fingerprint].concat()
}

fn kept(input: &mut Reader<'_>) -> Result<Kept, Malformed> {
    let status = match u16::try_from(input.varint()?) {
        Ok(status) if (100..=999).contains(&status) => status,
        _ => return input.malformed("a status"),
    };
    let mut headers = Vec::new();
    for _ in 0..input.count(2)? {
        headers.push((input.bytes()?.to_vec(), input.bytes()?.to_vec()));
    }
    Ok(Kept { status, headers, body: input.bytes()?.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_they_were_written_and_no_prefix_is() {
        let (fingerprint, token) = ([7; 32], [9; 16]);
        let kept = Kept {
            status: 201,
            headers: vec![(b"location".to_vec(), b"/a/1".to_vec()), (b"x".to_vec(), Vec::new())],
            body: b"made".to_vec(),
        };
        let begun = [begun(&fingerprint, &token), b"1700000000123".to_vec()].concat();
        for (bytes, record) in [
            (begun, Record::Begun { token, deadline_ms: 1_700_000_000_123 }),
            (encode_kept(&fingerprint, &kept), Record::Kept(kept)),
            (long(&fingerprint), Record::Long),
            (unknown(&fingerprint), Record::Unknown),
        ] {
            assert_eq!(Record::decode(&bytes), Ok((fingerprint, record.clone())));
            let least = if matches!(record, Record::Begun { .. }) { 51 } else { bytes.len() };
            assert!((0..least).all(|cut| Record::decode(&bytes[..cut]).is_err() || cut == bytes.len()));
            assert!(Record::decode(&[&bytes[..], b"x"].concat()).is_err());
        }
        assert!(Record::decode(b"something else").is_err());
    }
}
