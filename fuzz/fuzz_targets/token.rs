//! Sets of keys and tokens: whatever they hold they are taken or refused, and no token is taken that was changed after it was
//! signed.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use ring::hmac;
use skep_gate::auth::Rules;
use skep_gate::{AuthId, Config};
use skep_gateway::keyset::{KeySet, head};

const SECRET: &str = "a secret that is long enough for SHA-256";

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let text = "[gateway.auth.app.jwt]\njwks = 'http://a/keys'\nissuer = 'i'\naudience = 'a'\n\
                headers = { x-mail = 'email', x-roles = 'realm.roles' }\n";
    Rules::new(&Config::parse(text).expect("it is one"), &[]).expect("it has a way")
});

fn b64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let n = group.iter().chain([0, 0].iter()).take(3).fold(0, |n, b| n << 8 | usize::from(*b));
        for digit in 0..=group.len() {
            out.push(char::from(DIGITS[n >> (18 - 6 * digit) & 63]));
        }
    }
    out
}

/// Verifies as the gateway does, and looks at the caller that comes of it.
fn caller(set: &KeySet, token: &str) -> bool {
    let Ok(head) = head(token) else { return false };
    let Some(Ok(claims)) = set.verify(&head, token) else { return false };
    if let Ok((caller, until)) = RULES.by_claims(AuthId(0), claims, 1_000) {
        assert!(until >= 1_000 && !caller.name.is_empty());
        for (name, value) in &caller.headers {
            assert!(!value.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)), "{name}: {value:?}");
        }
    }
    true
}

fuzz_target!(|data: &[u8]| {
    let Some(cut) = data.iter().position(|b| *b == b'\n') else { return };
    let (first, rest) = (&data[..cut], &data[cut + 1..]);
    // A set and a token of anybody's.
    if let (Ok(set), Ok(token)) = (KeySet::read(first), std::str::from_utf8(rest)) {
        caller(&set, token);
    }
    // A head and claims that the issuer signs; and then somebody changes a byte.
    let set = KeySet::of_secret(SECRET).expect("it is long enough");
    let message = format!("{}.{}", b64(first), b64(rest));
    let code = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), message.as_bytes());
    let token = format!("{message}.{}", b64(code.as_ref()));
    if !caller(&set, &token) {
        return;
    }
    let at = (cut * 31 + rest.len() * 7) % token.len();
    for other in [b'A', b'B', b'-', b'=', b'.'] {
        let mut changed = token.clone().into_bytes();
        changed[at] = other;
        let changed = String::from_utf8(changed).expect("it is ASCII");
        assert!(changed == token || !caller(&set, &changed), "{changed} is taken for {token}");
    }
});
