//! Names and passwords. What is compared is a slow hash, by the shell.

use std::sync::Arc;

use super::{Caller, Rules, plain_caller};
use crate::config::Scalar;
use crate::config::auth::{CALLERS_MAX, CallerName, PasswordHash};
use crate::digest;
use crate::names::AuthId;

/// A check that the shell has to make.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Password {
    /// The bcrypt hash to check against.
    pub hash: String,
    /// The user exists; if not, the check is made all the same, and its outcome means nothing.
    pub is_known: bool,
    /// Of this user, hash and password, salted: what is remembered when it was right.
    pub digest: [u8; 32],
}

impl Rules {
    /// What there is to check; none if the way has no users at all.
    pub fn password(&self, auth: AuthId, salt: &[u8], user: &str, password: &[u8]) -> Option<Password> {
        let way = &self.ways[auth.at()];
        let known = way.users.get(user);
        let hash = known.or(way.decoy.as_ref())?;
        // Who is gone is not remembered by a hash that another happens to have.
        let kind: &[u8] = if known.is_some() { b"basic" } else { b"nobody" };
        let digest = digest([salt, kind, &way.digest, user.as_bytes(), hash.as_bytes(), password]);
        Some(Password { hash: hash.clone(), is_known: known.is_some(), digest })
    }

    /// The caller whose password was right.
    pub fn by_password(&self, auth: AuthId, user: &str) -> Arc<Caller> {
        let way = &self.ways[auth.at()];
        plain_caller(&way.name, &way.config, user, Vec::new())
    }
}

/// Reads a file of users as `htpasswd -B` writes it: `NAME:HASH` a line, empty lines and those with `#` left out.
///
/// # Errors
/// A sentence with the line; of the line's contents only the name.
pub fn parse_users(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut users: Vec<(String, String)> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = at + 1;
        let (name, hash) = line.split_once(':').ok_or_else(|| format!("line {at} is no NAME:HASH"))?;
        if CallerName::read(&toml::de::DeValue::String(name.into())).is_none() {
            return Err(format!("line {at}: `{}` must be {}", name.escape_debug(), CallerName::form()));
        }
        let hash = PasswordHash::of(hash)
            .ok_or_else(|| format!("line {at}: what {name} has must be {}", PasswordHash::form()))?;
        if users.len() == CALLERS_MAX {
            return Err(format!("line {at}: there are more than {CALLERS_MAX} users"));
        }
        users.push((name.to_owned(), hash.0));
    }
    Ok(users)
}
