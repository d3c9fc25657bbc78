//! What a request offers as proof, and how it looks without.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Rules;
use crate::names::AuthId;
use crate::router::Head;

/// A longer token is none; a head of a request is bounded as well.
const TOKEN_BYTES_MAX: usize = 16 << 10;
/// bcrypt would take no notice of what follows.
const PASSWORD_BYTES_MAX: usize = 72;

/// What a request offers for one way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Offered {
    Nothing,
    Key(Vec<u8>),
    Password {
        user: String,
        password: Vec<u8>,
    },
    Token(String),
    /// Something that cannot be read.
    Bad(&'static str),
}

/// What stands behind a scheme of `Authorization`, whose case does not matter (RFC 9110, section 11.1).
fn behind<'v>(scheme: &str, value: &'v [u8]) -> Option<&'v [u8]> {
    let (first, rest) = value.split_at_checked(scheme.len())?;
    let rest = rest.strip_prefix(b" ")?;
    first.eq_ignore_ascii_case(scheme.as_bytes()).then(|| rest.trim_ascii())
}

impl Rules {
    /// What `head` offers for a way.
    pub fn offered(&self, auth: AuthId, head: &Head<'_>) -> Offered {
        let config = self.way(auth);
        let mut found: Option<Vec<u8>> = None;
        let mut take = |value: &[u8]| {
            found = Some(value.to_vec());
            true
        };
        if let Some(keys) = &config.keys {
            let in_header = head.headers.any(&keys.header.0, &mut |value| match keys.header.0.as_str() {
                "authorization" => behind("bearer", value).is_some_and(&mut take),
                _ => take(behind("bearer", value).unwrap_or(value)),
            });
            if !in_header && let Some(name) = &keys.query {
                head.parameter(&name.0, &mut take);
            }
            return found.map_or(Offered::Nothing, Offered::Key);
        }
        if config.basic.is_some() {
            head.headers.any("authorization", &mut |value| behind("basic", value).is_some_and(&mut take));
            return found.map_or(Offered::Nothing, |value| password(&value));
        }
        let jwt = config.jwt.as_ref().expect("a way is one of three");
        let mut there =
            head.headers.any("authorization", &mut |value| behind("bearer", value).is_some_and(&mut take));
        if !there && let Some(name) = &jwt.cookie {
            there = head.cookie(&name.0, &mut take);
        }
        if !there && let Some(name) = &jwt.query {
            head.parameter(&name.0, &mut take);
        }
        match found.map(String::from_utf8) {
            None => Offered::Nothing,
            Some(Ok(token)) if token.len() <= TOKEN_BYTES_MAX => Offered::Token(token),
            Some(_) => Offered::Bad("it is no token"),
        }
    }

    /// Where a proof of this way may be.
    pub fn places(&self, auth: AuthId) -> Places<'_> {
        let config = self.way(auth);
        if let Some(keys) = &config.keys {
            let query = keys.query.as_ref().map(|q| q.0.as_str());
            return Places { header: Some(&keys.header.0), query, cookie: None };
        }
        let tokens = config.jwt.as_ref();
        Places {
            header: Some("authorization"),
            query: tokens.and_then(|jwt| jwt.query.as_ref()).map(|q| q.0.as_str()),
            cookie: tokens.and_then(|jwt| jwt.cookie.as_ref()).map(|c| c.0.as_str()),
        }
    }

    /// What of a proof does not go on to upstreams.
    pub fn hidden(&self, auth: AuthId) -> Places<'_> {
        let config = self.way(auth);
        let keys = config.keys.as_ref().is_some_and(|keys| keys.pass_on);
        let passwords = config.basic.as_ref().is_some_and(|basic| basic.pass_on);
        let tokens = config.jwt.as_ref().is_some_and(|jwt| jwt.pass_on);
        if keys || passwords || tokens { Places::default() } else { self.places(auth) }
    }
}

/// Parts of a request that hold a proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Places<'r> {
    pub header: Option<&'r str>,
    pub query: Option<&'r str>,
    pub cookie: Option<&'r str>,
}

/// A `Cookie` line without the cookie `name`; none if nothing is left.
pub fn without_cookie(line: &[u8], name: &str) -> Option<Vec<u8>> {
    let is = |pair: &&[u8]| {
        let key = pair.split(|b| *b == b'=').next().unwrap_or_default();
        key.trim_ascii() == name.as_bytes()
    };
    let kept: Vec<&[u8]> =
        line.split(|b| *b == b';').filter(|pair| !is(pair)).map(<[u8]>::trim_ascii).collect();
    (!kept.is_empty()).then(|| kept.join(&b"; "[..]))
}

/// `query` without the parameter `name`.
pub fn without_parameter<'q>(query: &'q str, name: &str) -> Cow<'q, str> {
    let is = |pair: &&str| {
        let key = pair.split_once('=').map_or(*pair, |(key, _)| key);
        *crate::router::unescape(key) == *name.as_bytes()
    };
    match query.split('&').any(|pair| is(&pair)) {
        true => Cow::Owned(query.split('&').filter(|pair| !is(pair)).collect::<Vec<_>>().join("&")),
        false => Cow::Borrowed(query),
    }
}

fn password(value: &[u8]) -> Offered {
    let Ok(plain) = STANDARD.decode(value) else { return Offered::Bad("it is no base 64") };
    let Some(colon) = plain.iter().position(|b| *b == b':') else { return Offered::Bad("it has no colon") };
    let (user, password) = (&plain[..colon], &plain[colon + 1..]);
    match std::str::from_utf8(user) {
        // bcrypt ends at a zero byte, too.
        Ok(user) if password.len() <= PASSWORD_BYTES_MAX && !password.contains(&0) => {
            Offered::Password { user: user.to_owned(), password: password.to_vec() }
        }
        Ok(_) => Offered::Bad("the password is too long"),
        Err(_) => Offered::Bad("the name is no UTF-8"),
    }
}
