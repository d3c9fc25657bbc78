//! Sessions that stay at an upstream, by a cookie that any gateway node can check.
//!
//! The cookie holds no address: a name of the upstream that only who has the cluster's secret can make, and the second at
//! which it ends, with an HMAC over both and the pool's name. Nothing is stored, so it holds through the loss of any node.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of the code in a cookie: 128 bits.
const CODE_BYTES: usize = 16;

/// The secret of the cluster. Shown to nobody.
#[derive(Clone)]
pub struct Secret(pub [u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// What a valid cookie says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Session {
    /// The upstream's name: see [`upstream_name`].
    pub upstream: u64,
    /// The end of the session, in seconds since the Unix epoch.
    pub ends: u64,
}

fn code(secret: &Secret, parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut code = Hmac::<Sha256>::new_from_slice(&secret.0).expect("HMAC takes keys of any length");
    for part in parts {
        // With its length in front, so that no two lists of parts look alike.
        code.update(&(part.len() as u64).to_le_bytes());
        code.update(part);
    }
    code
}

/// The name of the upstream at `address` in cookies.
pub fn upstream_name(secret: &Secret, address: &str) -> u64 {
    let bytes = code(secret, &[b"upstream", address.as_bytes()]).finalize().into_bytes();
    u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes of 32"))
}

/// The value of a cookie.
pub fn cookie(secret: &Secret, pool: &str, session: Session) -> String {
    let (name, ends) = (session.upstream.to_le_bytes(), session.ends.to_le_bytes());
    let code = code(secret, &[b"session", pool.as_bytes(), &name, &ends]).finalize().into_bytes();
    let code: String = code[..CODE_BYTES].iter().map(|b| format!("{b:02x}")).collect();
    format!("{:016x}-{:x}-{code}", session.upstream, session.ends)
}

/// What a cookie says, or `None` if it was not made by [`cookie`] with this secret for this pool, or its end, by the wall
/// clock `now_secs`, has come. Takes the same time for all wrong codes.
pub fn session(secret: &Secret, pool: &str, value: &[u8], now_secs: u64) -> Option<Session> {
    let mut parts = std::str::from_utf8(value).ok()?.split('-');
    let (upstream, ends, hex) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || upstream.len() != 16 || ends.len() > 16 || hex.len() != 2 * CODE_BYTES {
        return None;
    }
    let number = |text: &str| {
        let plain = text.bytes().all(|b| b.is_ascii_hexdigit());
        u64::from_str_radix(text, 16).ok().filter(|_| plain)
    };
    let session = Session { upstream: number(upstream)?, ends: number(ends)? };
    let mut given = [0; CODE_BYTES];
    for (byte, digits) in given.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = number(std::str::from_utf8(digits).ok()?)? as u8;
    }
    let (name, end) = (session.upstream.to_le_bytes(), session.ends.to_le_bytes());
    code(secret, &[b"session", pool.as_bytes(), &name, &end]).verify_truncated_left(&given).ok()?;
    (now_secs < session.ends).then_some(session)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_holds_at_any_node_until_its_end_and_cannot_be_changed() {
        let secret = Secret([7; 32]);
        let name = upstream_name(&secret, "10.0.0.1:80");
        let given = Session { upstream: name, ends: 1_800_000_000 };
        let value = cookie(&secret, "api", given);
        let check =
            |secret: &Secret, pool: &str, value: &str, now| session(secret, pool, value.as_bytes(), now);
        assert_eq!(check(&Secret([7; 32]), "api", &value, 1_799_999_999), Some(given));
        assert_eq!(check(&secret, "api", &value, 1_800_000_000), None, "it has ended");
        assert_eq!(check(&secret, "other", &value, 1), None, "it is for another pool");
        assert_eq!(check(&Secret([8; 32]), "api", &value, 1), None, "another secret made it");
        for at in 0..value.len() {
            for byte in *b"0a-+ " {
                let mut changed = value.clone().into_bytes();
                if changed[at] != byte {
                    changed[at] = byte;
                    assert_eq!(session(&secret, "api", &changed, 1), None, "byte {at} is free");
                }
            }
            assert_eq!(session(&secret, "api", &value.as_bytes()[..at], 1), None);
        }
        for junk in ["", "-", "--", "---", "é", "0000000000000000-1-"] {
            assert_eq!(check(&secret, "api", junk, 1), None, "{junk:?}");
        }
        assert_ne!(name, upstream_name(&secret, "10.0.0.2:80"));
    }
}
