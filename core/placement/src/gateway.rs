//! The gateway's configuration in the meta state: its text, by versions, alike on all nodes.
//!
//! What the text means is not looked at here, since nodes of different releases may read it differently; who asks for a change
//! has read it. A version is made only from the one that was known (`base`), so that two people do not undo each other's work
//! without knowing.
//!
//! With the first version that needs it comes the secret by which all gateways sign, for instance sticky cookies; each later
//! version has the same. It is a part of the state and shown to nobody.
//!
//! INV-PLACE-11: versions ascend, and the newest is the one in force; none is ever another text than it was. Once there is a
//! secret, it stays.

use std::fmt;
use std::sync::Arc;

use skep_base::Millis;
use skep_base::varint::{self, Malformed, Reader};

use crate::record;
use crate::state::MetaState;

/// Most bytes of one text. The hub reads it whole before it is proposed, in the turn that it came in; and it goes to each node
/// as one entry.
pub const GATEWAY_BYTES_MAX: usize = 1 << 20;
/// As many versions are kept as far as they fit [`GATEWAY_KEPT_BYTES_MAX`]; the newest and the one before it always.
pub const GATEWAY_VERSIONS_MAX: usize = 20;
/// Most bytes of all kept versions: they are a part of each checkpoint of the meta group.
pub const GATEWAY_KEPT_BYTES_MAX: usize = 4 << 20;
/// Most bytes of who made a version, and of why.
pub const GATEWAY_WORDS_BYTES_MAX: usize = 256;
const _: () = assert!(2 * GATEWAY_BYTES_MAX <= GATEWAY_KEPT_BYTES_MAX);

/// What the cluster's gateways sign with, once one of them needs it.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct GatewaySecret(pub Option<[u8; 32]>);

impl fmt::Debug for GatewaySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "a secret" } else { "no secret" })
    }
}

/// One version of the gateway's configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatewayVersion {
    /// Counted from 1.
    pub version: u64,
    /// When it was asked for, by the wall clock of the node that was asked.
    pub at: Millis,
    /// The user who asked for it.
    pub by: String,
    /// Why, in a few words: the file's name, or which version it was taken from.
    pub what: String,
    /// TOML with a table `gateway`.
    pub text: Arc<str>,
    /// In a change, the one to begin with if there is none.
    pub secret: GatewaySecret,
}

impl GatewayVersion {
    /// The same change, whatever secret was there when it was made.
    fn is_same(&self, other: &GatewayVersion) -> bool {
        *self == GatewayVersion { secret: self.secret, ..other.clone() }
    }
}

impl MetaState {
    /// The version of the gateway's configuration that all nodes shall work by; 0 for none.
    pub fn gateway_version(&self) -> u64 {
        self.gateway.last().map_or(0, |newest| newest.version)
    }

    /// Makes `new` the newest, if it follows the newest. Asked again with the same it changes nothing, whatever came after.
    pub(crate) fn set_gateway(&mut self, mut new: GatewayVersion) -> Result<(), String> {
        if self.gateway.iter().any(|known| known.is_same(&new)) {
            return Ok(());
        }
        if let Some(why) = refusal(&new) {
            return Err(why);
        }
        let (newest, base) = (self.gateway_version(), new.version.wrapping_sub(1));
        if newest != base {
            return Err(format!(
                "the gateway's configuration is at version {newest}, this change was made for version {base}"
            ));
        }
        let kept = Arc::make_mut(&mut self.gateway);
        if let Some(newest) = kept.last().filter(|newest| newest.secret.0.is_some()) {
            new.secret = newest.secret;
        }
        kept.push(new);
        while kept.len() > GATEWAY_VERSIONS_MAX || kept.len() > 2 && bytes(kept) > GATEWAY_KEPT_BYTES_MAX {
            kept.remove(0);
        }
        Ok(())
    }
}

/// Why a version cannot be, whatever the state is.
fn refusal(of: &GatewayVersion) -> Option<String> {
    let too_long = |what: &str, len: usize, max: usize| {
        (len > max).then(|| format!("the gateway's {what} is {len} bytes, limit is {max}"))
    };
    too_long("configuration", of.text.len(), GATEWAY_BYTES_MAX)
        .or_else(|| too_long("author", of.by.len(), GATEWAY_WORDS_BYTES_MAX))
        .or_else(|| too_long("reason", of.what.len(), GATEWAY_WORDS_BYTES_MAX))
}

fn bytes(kept: &[GatewayVersion]) -> usize {
    kept.iter().map(|version| version.text.len() + version.by.len() + version.what.len()).sum()
}

/// Why these cannot be the kept versions.
pub(crate) fn broken_rule(kept: &[GatewayVersion]) -> Option<&'static str> {
    let ascends =
        kept.is_sorted_by(|a, b| a.version < b.version) && kept.first().is_none_or(|v| v.version > 0);
    let fits =
        kept.len() <= GATEWAY_VERSIONS_MAX && (kept.len() <= 2 || bytes(kept) <= GATEWAY_KEPT_BYTES_MAX);
    let sound = kept.iter().all(|version| refusal(version).is_none());
    let stays = kept.windows(2).all(|pair| pair[0].secret.0.is_none() || pair[0].secret == pair[1].secret);
    (!(ascends && fits && sound && stays))
        .then_some("INV-PLACE-11: versions of the gateway that ascend, within their limits, with one secret")
}

/// The bytes of a version without its secret, as the release had it that had none.
pub(crate) fn encode_one(of: &GatewayVersion, out: &mut Vec<u8>) {
    varint::put(out, of.version);
    varint::put(out, of.at.0);
    varint::put_bytes(out, of.by.as_bytes());
    varint::put_bytes(out, of.what.as_bytes());
    varint::put_bytes(out, of.text.as_bytes());
}

pub(crate) fn decode_one(input: &mut Reader<'_>) -> Result<GatewayVersion, Malformed> {
    Ok(GatewayVersion {
        version: input.varint()?,
        at: Millis(input.varint()?),
        by: record::text(input)?,
        what: record::text(input)?,
        text: record::text(input)?.into(),
        secret: GatewaySecret::default(),
    })
}

pub(crate) fn encode_secret(secret: GatewaySecret, out: &mut Vec<u8>) {
    varint::put_bytes(out, secret.0.as_ref().map_or(&[][..], |secret| secret));
}

pub(crate) fn decode_secret(input: &mut Reader<'_>) -> Result<GatewaySecret, Malformed> {
    match input.bytes()? {
        [] => Ok(GatewaySecret(None)),
        bytes => match bytes.try_into() {
            Ok(secret) => Ok(GatewaySecret(Some(secret))),
            Err(_) => input.malformed("a secret of 32 bytes or none"),
        },
    }
}

/// Whether any of them has a secret, so that their bytes have another form.
pub(crate) fn have_secret(kept: &[GatewayVersion]) -> bool {
    kept.iter().any(|version| version.secret.0.is_some())
}

pub(crate) fn encode(kept: &[GatewayVersion], with_secrets: bool, out: &mut Vec<u8>) {
    varint::put(out, kept.len() as u64);
    kept.iter().for_each(|version| encode_one(version, out));
    if with_secrets {
        kept.iter().for_each(|version| encode_secret(version.secret, out));
    }
}

pub(crate) fn decode(input: &mut Reader<'_>, has_secret: bool) -> Result<Vec<GatewayVersion>, Malformed> {
    let mut kept: Vec<_> = (0..input.count(5)?).map(|_| decode_one(input)).collect::<Result<_, _>>()?;
    if has_secret {
        for version in &mut kept {
            version.secret = decode_secret(input)?;
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MetaCommand;

    fn version(version: u64, text: &str) -> GatewayVersion {
        let (by, what) = ("ann".to_owned(), format!("v{version}.toml"));
        let (at, secret) = (Millis(version * 1_000), GatewaySecret::default());
        GatewayVersion { version, at, by, what, text: text.into(), secret }
    }

    fn set(state: &mut MetaState, new: GatewayVersion) -> Result<(), String> {
        let command = MetaCommand::SetGateway(new);
        assert_eq!(MetaCommand::decode(&command.encode()).as_ref(), Ok(&command));
        let outcome = state.apply(command);
        state.assert_invariants();
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        assert_eq!(MetaState::decode(&bytes).as_ref(), Ok(&*state));
        outcome
    }

    #[test]
    fn a_version_follows_the_newest_and_no_other() {
        let mut state = MetaState::founded();
        assert_eq!(state.gateway_version(), 0);
        set(&mut state, version(1, "[gateway]")).unwrap();
        set(&mut state, version(2, "[gateway] # 2")).unwrap();
        for wrong in [0, 1, 2, 4] {
            let before = state.clone();
            let why = set(&mut state, version(wrong, "another")).unwrap_err();
            assert!(why.contains("is at version 2, this change was made for version"), "{why}");
            assert_eq!(state, before);
        }
        assert_eq!(&*state.gateway.last().unwrap().text, "[gateway] # 2");
    }

    #[test]
    fn a_change_that_is_asked_again_is_made_once_even_after_another() {
        let mut state = MetaState::founded();
        set(&mut state, version(1, "a")).unwrap();
        set(&mut state, version(1, "a")).unwrap();
        set(&mut state, version(2, "b")).unwrap();
        set(&mut state, version(1, "a")).unwrap();
        assert_eq!(state.gateway_version(), 2);
        assert_eq!(state.gateway.len(), 2);
    }

    #[test]
    fn old_versions_go_by_number_and_by_bytes_but_never_the_last_two() {
        let mut state = MetaState::founded();
        for at in 1..=30 {
            set(&mut state, version(at, "small")).unwrap();
        }
        let kept = |state: &MetaState| state.gateway.iter().map(|v| v.version).collect::<Vec<_>>();
        assert_eq!(kept(&state), (11..=30).collect::<Vec<_>>());
        let large = "x".repeat(GATEWAY_BYTES_MAX);
        for at in 31..=36 {
            set(&mut state, version(at, &large)).unwrap();
        }
        assert_eq!(kept(&state), [34, 35, 36]);
        let why = set(&mut state, version(37, &format!("{large}x"))).unwrap_err();
        assert_eq!(why, "the gateway's configuration is 1048577 bytes, limit is 1048576");
        let long = GatewayVersion { by: "x".repeat(257), ..version(37, "") };
        assert!(set(&mut state, long).unwrap_err().contains("author is 257 bytes, limit is 256"));
        let long = GatewayVersion { what: "x".repeat(257), ..version(37, "") };
        assert!(set(&mut state, long).unwrap_err().contains("reason is 257 bytes"));
    }

    #[test]
    fn the_first_secret_stays_and_is_shown_to_nobody() {
        let mut state = MetaState::founded();
        let with = |at, text: &str, byte| GatewayVersion {
            secret: GatewaySecret(Some([byte; 32])),
            ..version(at, text)
        };
        set(&mut state, version(1, "a")).unwrap();
        set(&mut state, with(2, "b", 7)).unwrap();
        set(&mut state, version(3, "c")).unwrap();
        set(&mut state, with(4, "d", 8)).unwrap();
        let secrets: Vec<_> = state.gateway.iter().map(|v| v.secret.0.map(|s| s[0])).collect();
        assert_eq!(secrets, [None, Some(7), Some(7), Some(7)]);
        let before = state.clone();
        set(&mut state, with(4, "d", 8)).unwrap();
        assert_eq!(state, before, "asked again it changes nothing");
        assert!(!format!("{state:?}").contains("7, 7"), "{state:?}");
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        assert_eq!(bytes[0], 5);
        assert!((0..bytes.len()).all(|cut| MetaState::decode(&bytes[..cut]).is_err()));
        Arc::make_mut(&mut state.gateway)[3].secret = GatewaySecret(Some([8; 32]));
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        assert!(MetaState::decode(&bytes).unwrap_err().to_string().contains("INV-PLACE-11"));
    }

    #[test]
    fn without_a_secret_the_bytes_are_those_of_the_release_that_knows_none() {
        let mut state = MetaState::founded();
        set(&mut state, version(1, "a")).unwrap();
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        assert_eq!(bytes[0], 4);
        assert_eq!(MetaCommand::SetGateway(version(2, "b")).encode()[0], 12);
    }

    #[test]
    fn a_state_of_the_release_before_is_read_and_a_broken_one_is_not() {
        let mut state = MetaState::founded();
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        bytes[0] = 3;
        bytes.pop();
        assert_eq!(MetaState::decode(&bytes).unwrap(), state);

        set(&mut state, version(1, "a")).unwrap();
        set(&mut state, version(2, "b")).unwrap();
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        assert!((0..bytes.len()).all(|cut| MetaState::decode(&bytes[..cut]).is_err()));
        Arc::make_mut(&mut state.gateway).swap(0, 1);
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        assert!(MetaState::decode(&bytes).unwrap_err().to_string().contains("INV-PLACE-11"));
    }
}
