//! Libraries of functions as `FUNCTION DUMP` writes them: each as its code, behind the byte that Redis has for one.

use std::borrow::Cow;

use skep_base::varint::Malformed;

use super::encode::put_string;
use super::strings::Source;
use super::{seal, verify};

/// `RDB_OPCODE_FUNCTION2`
const LIBRARY: u8 = 245;

/// The version of Redis's format that has them first.
const VERSION: u16 = 10;

/// The libraries as a payload.
pub fn dump<'a>(codes: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut payload = Vec::new();
    for code in codes {
        payload.push(LIBRARY);
        put_string(&mut payload, code);
    }
    seal(payload, VERSION)
}

/// What is wrong with a payload of libraries.
pub enum BadPayload {
    /// Its version or checksum.
    Footer,
    /// It holds something else.
    Other,
    Malformed(Malformed),
}

/// The codes of the libraries of a payload.
pub fn load(payload: &[u8]) -> Result<Vec<Cow<'_, [u8]>>, BadPayload> {
    let body = verify(payload).ok_or(BadPayload::Footer)?;
    let mut source = Source::new(body);
    let mut codes = Vec::new();
    while source.bytes.left() > 0 {
        if source.bytes.u8().map_err(BadPayload::Malformed)? != LIBRARY {
            return Err(BadPayload::Other);
        }
        codes.push(source.string().map_err(BadPayload::Malformed)?);
    }
    Ok(codes)
}
