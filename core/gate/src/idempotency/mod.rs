//! Idempotency keys: a request with a key is carried out once, and every repeat gets the first reply.
//!
//! Owns what is kept in the store and each decision about it; the shell calls the store and the upstream as it is told. The
//! attempt is recorded, durably, before the upstream is called, and the reply before the client sees it. So whoever dies in
//! between leaves a record that says so: what a repeat gets then is [`Unknown`](crate::config::idempotency::Unknown), never a
//! second run that nobody asked for.
//!
//! INV-GATE-15: of all attempts with one key at most one is carried out at a time, and none after one whose reply is kept.

mod attempt;
mod record;
mod refusal;
mod store;
#[cfg(test)]
mod tests;

pub use attempt::{Answer, Attempt, Input, Output, Ran, STORE_TIME};
pub use record::{Fingerprint, Kept, Token};
pub use refusal::Refusal;
pub use store::{Ask, Told};

use std::borrow::Cow;

use crate::auth::{Caller, without_parameter};
use crate::config::idempotency::Idempotency;
use crate::router::Headers;

/// Longest key.
pub const KEY_BYTES_MAX: usize = 255;

/// Why a request's `Idempotency-Key` is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyError {
    Empty,
    TooLong,
    /// Something else than printable ASCII.
    Characters,
    /// Given more than once.
    Several,
}

/// The key of a request, by the values of its `Idempotency-Key` headers; `None` without one. Quotes around it, which the
/// draft of the IETF asks for and few send, are no part of it.
///
/// # Errors
/// [`KeyError`], for a 400.
pub fn key<'v>(values: impl IntoIterator<Item = &'v [u8]>) -> Result<Option<&'v [u8]>, KeyError> {
    let mut values = values.into_iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(KeyError::Several);
    }
    let value = value.trim_ascii();
    let key = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value);
    match () {
        () if key.is_empty() => Err(KeyError::Empty),
        () if key.len() > KEY_BYTES_MAX => Err(KeyError::TooLong),
        () if !key.iter().all(|byte| (b' '..=b'~').contains(byte)) => Err(KeyError::Characters),
        () => Ok(Some(key)),
    }
}

/// Whose keys a request uses: those of the caller who was proved, by the way and the name, so that a token that was renewed is the
/// same caller's and no header makes another of it. Without one, those of the values of the headers that tell callers apart, in
/// the order of the configuration.
pub fn owner(rules: &Idempotency, caller: Option<&Caller>, headers: &dyn Headers) -> Vec<Vec<u8>> {
    if let Some(caller) = caller {
        return vec![caller.key.to_le_bytes().to_vec(), caller.name.clone().into_bytes()];
    }
    let values = |name: &str| {
        let mut values: Vec<Vec<u8>> = Vec::new();
        headers.any(name, &mut |value| {
            values.push(value.to_vec());
            false
        });
        // No value holds a line feed, so different headers stay different.
        values.join(&b'\n')
    };
    rules.by.iter().map(|name| values(&name.0)).collect()
}

/// The target of a request as its repeats must have it: without the parameter that held the proof of its caller, if one may,
/// for a token is renewed.
pub fn target(path: &str, query: Option<&str>, proof: Option<&str>) -> String {
    let query = query.unwrap_or("");
    let query = proof.map_or(Cow::Borrowed(query), |name| without_parameter(query, name));
    [path, &query].join("?")
}

/// The name of a key's record in the store: of this route, this [`owner`] and this key.
pub fn record_key(route: &str, caller: &[&[u8]], key: &[u8]) -> Vec<u8> {
    let parts = [route.as_bytes(), key].into_iter().chain(caller.iter().copied());
    let mut name = b"skep.gateway.once:".to_vec();
    name.extend(crate::hex(&crate::digest(parts)));
    name
}

/// What a repeat must have in common with the first: method, path with query, and body.
pub fn fingerprint(method: &[u8], target: &[u8], body: &[u8]) -> Fingerprint {
    crate::digest([method, target, body])
}
