//! What a request offers as proof, and how it looks without.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Rules;
use crate::names::{AuthId, RouteId};
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
    /// What `head` offers for a way, and where; of several places the header is asked first, then the cookie.
    pub fn offered(&self, auth: AuthId, head: &Head<'_>) -> (Offered, Place) {
        let config = self.way(auth);
        let mut found: Option<Vec<u8>> = None;
        let mut place = Place::Header;
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
                place = Place::Query;
                head.parameter(&name.0, &mut take);
            }
            return (found.map_or(Offered::Nothing, Offered::Key), place);
        }
        if config.basic.is_some() {
            head.headers.any("authorization", &mut |value| behind("basic", value).is_some_and(&mut take));
            return (found.map_or(Offered::Nothing, |value| password(&value)), place);
        }
        let jwt = config.jwt.as_ref().expect("a way is one of three");
        let mut there =
            head.headers.any("authorization", &mut |value| behind("bearer", value).is_some_and(&mut take));
        if !there && let Some(name) = &jwt.cookie {
            place = Place::Cookie;
            there = head.cookie(&name.0, &mut take);
        }
        if !there && let Some(name) = &jwt.query {
            place = Place::Query;
            head.parameter(&name.0, &mut take);
        }
        let offered = match found.map(String::from_utf8) {
            None => Offered::Nothing,
            Some(Ok(token)) if token.len() <= TOKEN_BYTES_MAX => Offered::Token(token),
            Some(_) => Offered::Bad("it is no token"),
        };
        (offered, place)
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

    /// The header or the parameter that may hold a proof for a route and is there more than once: which of its values an upstream
    /// goes by cannot be known, so the request is to be answered 400 (RFC 6750, sections 2 and 3.1).
    pub fn repeated<'r>(&'r self, route: RouteId, head: &Head<'_>) -> Option<&'r str> {
        self.ways(route).iter().map(|way| self.places(*way)).find_map(|Places { header, query, .. }| {
            let header = header.filter(|name| head.headers.any(name, &mut after_first()));
            header.or_else(|| query.filter(|name| head.parameter(name, &mut after_first())))
        })
    }

    /// What of a request of a route does not go on to upstreams, where `way` proved its caller by what it found in `place`: all
    /// that any way of the route could take for a proof, but the proof itself if it is passed on. An upstream may read a token
    /// and leave it to the gateway to verify it; what nobody verified must not be there.
    pub fn hidden(&self, route: RouteId, way: AuthId, place: Place) -> Hidden<'_> {
        let config = self.way(way);
        let passes = config.keys.as_ref().is_some_and(|keys| keys.pass_on)
            || config.basic.as_ref().is_some_and(|basic| basic.pass_on)
            || config.jwt.as_ref().is_some_and(|jwt| jwt.pass_on);
        let own = self.places(way);
        let kept = match place {
            _ if !passes => Places::default(),
            Place::Header => Places { header: own.header, ..Places::default() },
            Place::Query => Places { query: own.query, ..Places::default() },
            Place::Cookie => Places { cookie: own.cookie, ..Places::default() },
        };
        let mut hidden = Hidden { cookie_kept: kept.cookie, ..Hidden::default() };
        for places in self.ways(route).iter().map(|way| self.places(*way)) {
            hidden.headers.extend(places.header.filter(|name| kept.header != Some(*name)));
            hidden.queries.extend(places.query.filter(|name| kept.query != Some(*name)));
            hidden.cookies.extend(places.cookie.filter(|name| kept.cookie != Some(*name)));
        }
        hidden
    }
}

/// Parts of a request that may hold a proof of one way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Places<'r> {
    pub header: Option<&'r str>,
    pub query: Option<&'r str>,
    pub cookie: Option<&'r str>,
}

/// In which of its [`Places`] a proof was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    Header,
    Query,
    Cookie,
}

/// Parts of a request that do not go on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Hidden<'r> {
    pub headers: Vec<&'r str>,
    pub queries: Vec<&'r str>,
    cookies: Vec<&'r str>,
    /// The cookie that is the proof: its first value, which was verified, goes on, and no other.
    cookie_kept: Option<&'r str>,
}

impl Hidden<'_> {
    /// True if cookies need not be looked at.
    pub fn leaves_cookies(&self) -> bool {
        self.cookies.is_empty() && self.cookie_kept.is_none()
    }

    /// The `Cookie` lines of a request as they go on, in order; one of which nothing is left is not there.
    pub fn cookie_lines<'l>(&self, lines: impl IntoIterator<Item = &'l [u8]>) -> Vec<Vec<u8>> {
        let mut was_kept = false;
        let mut goes_on = |pair: &[u8]| {
            let name = pair.split(|b| *b == b'=').next().unwrap_or_default();
            let is = |own: &str| own.as_bytes() == name.trim_ascii();
            match self.cookie_kept {
                // Only what `Head::cookie` takes for a cookie can have been verified.
                Some(own) if is(own) => {
                    let is_one = own.as_bytes() == name && pair.len() > name.len();
                    is_one && !std::mem::replace(&mut was_kept, true)
                }
                _ => !self.cookies.iter().any(|own| is(own)),
            }
        };
        let mut found = Vec::new();
        for line in lines {
            let pairs = line.split(|b| *b == b';').map(<[u8]>::trim_ascii);
            let kept: Vec<&[u8]> = pairs.filter(|pair| goes_on(pair)).collect();
            if !kept.is_empty() {
                found.push(kept.join(&b"; "[..]));
            }
        }
        found
    }
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
/// True for whatever it is shown after the first.
fn after_first() -> impl FnMut(&[u8]) -> bool {
    let mut shown = 0;
    move |_| {
        shown += 1;
        shown > 1
    }
}
