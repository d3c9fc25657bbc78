//! What a token says, once its signature is right (RFC 7519, section 4).

use std::fmt;

use serde_json::{Map, Value};

use crate::config::auth::{CALLER_BYTES_MAX, Jwt};

/// Why a token with a right signature proves nothing. Said to the client, without what the token says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenFault {
    NoObject,
    Issuer,
    Audience,
    NoEnd,
    Ended,
    Early,
    NoName,
    NoHeader,
}

impl TokenFault {
    /// What the client is told.
    pub fn why(self) -> &'static str {
        match self {
            TokenFault::NoObject => "its claims are no object",
            TokenFault::Issuer => "it is of another issuer",
            TokenFault::Audience => "it is for another audience",
            TokenFault::NoEnd => "it has no exp",
            TokenFault::Ended => "it has expired",
            TokenFault::Early => "it is not valid yet",
            TokenFault::NoName => "it does not name its caller",
            TokenFault::NoHeader => "a claim holds what no header can",
        }
    }
}

impl fmt::Display for TokenFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why())
    }
}

impl std::error::Error for TokenFault {}

/// The claims of a token.
#[derive(Clone, PartialEq, Debug)]
pub struct Claims(Map<String, Value>);

/// The texts of a claim: those of a list, or the one.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Null => Vec::new(),
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().filter(|i| !i.is_array()).flat_map(texts).collect(),
        other => vec![other.to_string()],
    }
}

impl Claims {
    pub(super) fn new(value: Value) -> Result<Claims, TokenFault> {
        match value {
            Value::Object(map) => Ok(Claims(map)),
            _ => Err(TokenFault::NoObject),
        }
    }

    /// The claim of this whole name, or else the one inside others whose names stand before dots.
    fn get(&self, name: &str) -> Option<&Value> {
        if let Some(whole) = self.0.get(name) {
            return Some(whole);
        }
        let mut names = name.split('.');
        let first = self.0.get(names.next()?)?;
        names.try_fold(first, |at, name| at.as_object()?.get(name))
    }

    /// Gives each text of a claim to `test`, until it says true.
    pub(super) fn any(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.get(name).is_some_and(|value| texts(value).iter().any(|text| test(text.as_bytes())))
    }

    /// A time in seconds; parts of one are cut off. `Err` if it is there and no time.
    fn seconds(&self, name: &str) -> Result<Option<u64>, ()> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match (value.as_u64(), value.as_f64()) {
                (Some(whole), _) => Ok(Some(whole)),
                (None, Some(part)) if (0.0..1e15).contains(&part) => Ok(Some(part as u64)),
                _ => Err(()),
            },
        }
    }

    /// Checks issuer, audience and times; gives the second from which the token counts no more.
    pub(super) fn check(&self, jwt: &Jwt, now_secs: u64) -> Result<u64, TokenFault> {
        let is_one_of = |allowed: &[String], name: &str| {
            let any = allowed.iter().any(|a| a == "*");
            any || self
                .0
                .get(name)
                .is_some_and(|value| texts(value).iter().any(|text| allowed.contains(text)))
        };
        // The issuer is one text (section 4.1.1): of a list nobody could say who signed.
        if self.0.get("iss").is_some_and(|iss| !iss.is_string()) || !is_one_of(&jwt.issuer, "iss") {
            return Err(TokenFault::Issuer);
        }
        if !is_one_of(&jwt.audience, "aud") {
            return Err(TokenFault::Audience);
        }
        let leeway = jwt.leeway.0 / 1_000_000;
        let ends = self.seconds("exp").map_err(|()| TokenFault::NoEnd)?.ok_or(TokenFault::NoEnd)?;
        let until = ends.saturating_add(leeway);
        if now_secs >= until {
            return Err(TokenFault::Ended);
        }
        match self.seconds("nbf") {
            Ok(None) => {}
            Ok(Some(begins)) if begins <= now_secs.saturating_add(leeway) => {}
            _ => return Err(TokenFault::Early),
        }
        Ok(until)
    }

    /// The caller's name.
    pub(super) fn name(&self, jwt: &Jwt) -> Result<String, TokenFault> {
        let name = match self.get(&jwt.caller.0) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => return Err(TokenFault::NoName),
        };
        let fits = (1..=CALLER_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
        if fits && name.trim() == name { Ok(name) } else { Err(TokenFault::NoName) }
    }

    /// Scopes: words of a text (RFC 8693, section 4.2), or a list.
    pub(super) fn scopes(&self, name: &str) -> Vec<String> {
        match self.get(name) {
            Some(Value::String(text)) => {
                text.split(' ').filter(|s| !s.is_empty()).map(str::to_owned).collect()
            }
            Some(value) => texts(value),
            None => Vec::new(),
        }
    }

    /// A claim as a header's value: a text as it is, everything else as JSON, so that no item of a list can look like two.
    pub(super) fn header(&self, name: &str) -> Result<Option<Vec<u8>>, TokenFault> {
        let text = match self.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        match text.chars().any(char::is_control) {
            true => Err(TokenFault::NoHeader),
            false => Ok(Some(text.into_bytes())),
        }
    }
}
