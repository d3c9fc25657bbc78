//! Which key of a set a token is checked with.
//!
//! The key says which algorithm is right, not the token: `none`, or the public key of RSA as a secret of HMAC, cannot come
//! into question (RFC 8725, section 3.1).

/// Keys without a name that are tried at most: each try takes as long as a signature.
const TRIES_MAX: usize = 4;

/// Algorithms that are known here, by their names in tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alg {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
    Hs256,
}

/// What is known of one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Key {
    pub id: Option<String>,
    /// The one algorithm that it is for.
    pub alg: Alg,
}

/// With what to check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Choice {
    /// One of these must do, by their places.
    Keys(Vec<usize>),
    /// The set may be an old one.
    Unknown,
    /// There is such a key, for another algorithm.
    Wrong,
}

/// The keys with which a token of this head may be checked.
pub fn choose(keys: &[Key], id: Option<&str>, alg: Alg) -> Choice {
    let named = |key: &Key| id.is_none() || key.id.as_deref() == id;
    let fit = |(at, key): (usize, &Key)| (named(key) && key.alg == alg).then_some(at);
    let found: Vec<usize> = keys.iter().enumerate().filter_map(fit).take(TRIES_MAX).collect();
    match found.is_empty() {
        false => Choice::Keys(found),
        true if id.is_some() && keys.iter().any(named) => Choice::Wrong,
        true => Choice::Unknown,
    }
}
