//! Idempotency keys: a request with a key is carried out once, and every repeat gets the first reply.
//!
//! Owns what is kept in the store and each decision about it; the shell calls the store and the upstream as it is told. The
//! attempt is recorded, durably, before the upstream is called, and the reply before the client sees it. So whoever dies in
//! between leaves a record that says so: what a repeat gets then is [`Unknown`](crate::config::idempotency::Unknown), never a
//! second run that nobody asked for.
//!
//! INV-GATE-15: of all attempts with one key at most one is carried out at a time, and none after one whose reply is kept. Nobody
//! gets a reply that was made for another host (on a route with `host`), for another caller, or for other cookies where nothing else
//! says who calls.

mod attempt;
mod holding;
mod record;
mod refusal;
mod store;
#[cfg(test)]
mod tests;

pub use attempt::{Answer, Attempt, Input, Output, Ran, STORE_TIME};
pub use holding::Holding;
pub use record::{Fingerprint, Kept, Token};
pub use refusal::Refusal;
pub use store::{Ask, Told};

use crate::auth::{Caller, without_parameter};
use crate::config::idempotency::{Idempotency, Teller};
use crate::router::{Head, normal_host};

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

/// Whose keys a request uses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    /// What tells this owner from others.
    pub parts: Vec<Vec<u8>>,
    /// Something says who calls. If nothing does, everybody else may use the same keys, so a repeat must have the same cookies, and
    /// gets none that the first reply set.
    pub is_known: bool,
}

/// Whose keys a request uses: if its route is one of `named_hosts`, those of the host that it asks for, which may be a tenant's (any
/// other route is one service under whatever name or address a node is reached); and there those of the caller who was
/// proved, by the way and the name, so that a token that was renewed is the same caller's and no header makes another of it.
/// Without one, those of the values of the headers and cookies that tell callers apart, in the order of the configuration.
pub fn owner(rules: &Idempotency, named_hosts: bool, caller: Option<&Caller>, head: &Head<'_>) -> Owner {
    let host = if named_hosts { normal_host(head.host) } else { "".into() };
    let mut parts = vec![host.into_owned().into_bytes()];
    if let Some(caller) = caller {
        parts.extend([caller.key.to_le_bytes().to_vec(), caller.name.clone().into_bytes()]);
        return Owner { parts, is_known: true };
    }
    let values = |teller: &Teller| match teller {
        Teller::Header(name) => lines(head, &name.0),
        Teller::Cookie(name) => values(b"\n", |test| head.cookie(&name.0, test)),
    };
    parts.extend(rules.by.iter().map(values));
    let is_known = parts[1..].iter().any(|part| !part.is_empty());
    Owner { parts, is_known }
}

/// All lines of a header. Those of `cookie` are one line however many they came in: a client of HTTP/2 divides them as it likes
/// (RFC 9113, section 8.2.3), and its repeat may come over HTTP/1.1. No line of another holds a line feed, so different ones stay
/// different.
fn lines(head: &Head<'_>, name: &str) -> Vec<u8> {
    let between: &[u8] = if name == "cookie" { b"; " } else { b"\n" };
    values(between, |test| head.headers.any(name, test))
}

/// All that `find` goes through, `between` between two. An empty value tells nobody anything.
fn values(between: &[u8], find: impl FnOnce(&mut dyn FnMut(&[u8]) -> bool) -> bool) -> Vec<u8> {
    let mut values: Vec<Vec<u8>> = Vec::new();
    find(&mut |value| {
        if !value.is_empty() {
            values.push(value.to_vec());
        }
        false
    });
    values.join(between)
}

/// The target of a request as its repeats must have it: without the parameters that may hold the proof of its caller, for a token
/// is renewed.
pub fn target<'p>(path: &str, query: Option<&str>, proofs: impl IntoIterator<Item = &'p str>) -> String {
    let query = query.unwrap_or("").to_owned();
    let query = proofs.into_iter().fold(query, |query, name| without_parameter(&query, name).into_owned());
    [path, &query].join("?")
}

/// The name of a key's record in the store: of this route, this [`owner`] and this key.
pub fn record_key(route: &str, owner: &Owner, key: &[u8]) -> Vec<u8> {
    let parts = [route.as_bytes(), key].into_iter().chain(owner.parts.iter().map(Vec::as_slice));
    let mut name = b"skep.gateway.once:".to_vec();
    name.extend(crate::hex(&crate::digest(parts)));
    name
}

/// What a repeat must have in common with the first: method, path with query, the body, and what says how that is to be read. If
/// nothing says who calls, the cookies too: another user's repeat is refused so, and one whose cookies have changed is not
/// carried out a second time.
pub fn fingerprint(owner: &Owner, head: &Head<'_>, target: &[u8], body: &[u8]) -> Fingerprint {
    let cookies = if owner.is_known { Vec::new() } else { lines(head, "cookie") };
    let (kind, coding) = (lines(head, "content-type"), lines(head, "content-encoding"));
    crate::digest([head.method.as_bytes(), target, &kind, &coding, &cookies, body])
}
