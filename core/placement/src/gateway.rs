//! The gateway's configuration in the meta state: its text, by versions, alike on all nodes.
//!
//! What the text means is not looked at here, since nodes of different releases may read it differently; who asks for a change
//! has read it. A version is made only from the one that was known (`base`), so that two people do not undo each other's work
//! without knowing.
//!
//! INV-PLACE-11: versions ascend, and the newest is the one in force; none is ever another text than it was.

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
}

impl MetaState {
    /// The version of the gateway's configuration that all nodes shall work by; 0 for none.
    pub fn gateway_version(&self) -> u64 {
        self.gateway.last().map_or(0, |newest| newest.version)
    }

    /// Makes `new` the newest, if it follows the newest. Asked again with the same it changes nothing, whatever came after.
    pub(crate) fn set_gateway(&mut self, new: GatewayVersion) -> Result<(), String> {
        if self.gateway.contains(&new) {
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
    (!(ascends && fits && sound))
        .then_some("INV-PLACE-11: versions of the gateway that ascend, within their limits")
}

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
    })
}

pub(crate) fn encode(kept: &[GatewayVersion], out: &mut Vec<u8>) {
    varint::put(out, kept.len() as u64);
    kept.iter().for_each(|version| encode_one(version, out));
}

pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Vec<GatewayVersion>, Malformed> {
    (0..input.count(5)?).map(|_| decode_one(input)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MetaCommand;

    fn version(version: u64, text: &str) -> GatewayVersion {
        let (by, what) = ("ann".to_owned(), format!("v{version}.toml"));
        GatewayVersion { version, at: Millis(version * 1_000), by, what, text: text.into() }
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
