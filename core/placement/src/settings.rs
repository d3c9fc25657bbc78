//! Settings of the whole cluster in the meta state: those that somebody has set, alike on all nodes.
//!
//! What a name or a value means is not looked at here, since nodes of different releases may know different ones; who asks for
//! a change has checked it. What nobody has set is not here: each node has its own starting value of it.
//!
//! INV-PLACE-12: names, values and their number are within their limits.

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_base::varint::{self, Malformed, Reader};

use crate::record;
use crate::state::MetaState;

/// Most settings; the state goes to other nodes whole.
pub const SETTINGS_MAX: usize = 256;
/// Most bytes of a name.
pub const SETTING_NAME_BYTES_MAX: usize = 64;
/// Most bytes of a value.
pub const SETTING_VALUE_BYTES_MAX: usize = 4_096;

/// Values of settings by their names.
pub type ClusterSettings = BTreeMap<String, String>;

impl MetaState {
    /// Sets all of them or none.
    pub(crate) fn set_settings(&mut self, pairs: Vec<(String, String)>) -> Result<(), String> {
        let mut settings = ClusterSettings::clone(&self.settings);
        settings.extend(pairs);
        if let Some(why) = refusal(&settings) {
            return Err(why);
        }
        self.settings = Arc::new(settings);
        Ok(())
    }
}

/// Why these cannot be the settings.
fn refusal(settings: &ClusterSettings) -> Option<String> {
    let count = settings.len();
    if count > SETTINGS_MAX {
        return Some(format!("the cluster would have {count} settings, limit is {SETTINGS_MAX}"));
    }
    settings.iter().find_map(|(name, value)| match (name.len(), value.len()) {
        (len, _) if !(1..=SETTING_NAME_BYTES_MAX).contains(&len) => {
            Some(format!("the name of a setting is {len} bytes, limit is 1 to {SETTING_NAME_BYTES_MAX}"))
        }
        (_, len) if len > SETTING_VALUE_BYTES_MAX => {
            Some(format!("the value of {name} is {len} bytes, limit is {SETTING_VALUE_BYTES_MAX}"))
        }
        _ => None,
    })
}

pub(crate) fn broken_rule(settings: &ClusterSettings) -> Option<&'static str> {
    refusal(settings).map(|_| "INV-PLACE-12: settings within their limits")
}

pub(crate) fn encode<'a>(pairs: impl ExactSizeIterator<Item = (&'a String, &'a String)>, out: &mut Vec<u8>) {
    varint::put(out, pairs.len() as u64);
    for (name, value) in pairs {
        varint::put_bytes(out, name.as_bytes());
        varint::put_bytes(out, value.as_bytes());
    }
}

pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Vec<(String, String)>, Malformed> {
    (0..input.count(2)?).map(|_| Ok((record::text(input)?, record::text(input)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GatewaySecret, GatewayVersion, MetaCommand};

    fn set(state: &mut MetaState, pairs: &[(&str, &str)]) -> Result<(), String> {
        let owned = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
        let command = MetaCommand::SetSettings { pairs: pairs.iter().map(owned).collect() };
        let bytes = command.encode();
        assert_eq!(MetaCommand::decode(&bytes).as_ref(), Ok(&command));
        assert!((0..bytes.len()).all(|cut| MetaCommand::decode(&bytes[..cut]).is_err()));
        let outcome = state.apply(command);
        state.assert_invariants();
        outcome
    }

    fn encoded(state: &MetaState) -> Vec<u8> {
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        assert_eq!(MetaState::decode(&bytes).as_ref(), Ok(state));
        assert!((0..bytes.len()).all(|cut| MetaState::decode(&bytes[..cut]).is_err()));
        bytes
    }

    #[test]
    fn what_was_set_last_holds_and_survives_in_the_checkpoint() {
        let mut state = MetaState::founded();
        set(&mut state, &[("a", "1"), ("b", "")]).unwrap();
        set(&mut state, &[("a", "2")]).unwrap();
        set(&mut state, &[("a", "2")]).unwrap();
        assert_eq!(encoded(&state)[0], 6);
        let settings: Vec<_> = state.settings.iter().map(|(name, value)| [name.as_str(), value]).collect();
        assert_eq!(settings, [["a", "2"], ["b", ""]]);
    }

    #[test]
    fn what_does_not_fit_is_refused_whole() {
        let mut state = MetaState::founded();
        set(&mut state, &[("a", "1")]).unwrap();
        let before = state.clone();
        let long = "x".repeat(SETTING_VALUE_BYTES_MAX + 1);
        let many: Vec<String> = (0..SETTINGS_MAX).map(|number| format!("n{number}")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "")).collect();
        for (pairs, why) in [
            (&[("a", "2"), ("", "1")][..], "the name of a setting is 0 bytes, limit is 1 to 64"),
            (&[("a", "2"), (&long[..65], "1")], "the name of a setting is 65 bytes, limit is 1 to 64"),
            (&[("a", "2"), ("b", &long)], "the value of b is 4097 bytes, limit is 4096"),
            (&many, "the cluster would have 257 settings, limit is 256"),
        ] {
            assert_eq!(set(&mut state, pairs).unwrap_err(), why);
            assert_eq!(state, before);
        }
        Arc::make_mut(&mut state.settings).insert(String::new(), String::new());
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        assert!(MetaState::decode(&bytes).unwrap_err().to_string().contains("INV-PLACE-12"));
    }

    #[test]
    fn states_of_releases_before_are_read_and_written_while_nothing_is_set() {
        let mut state = MetaState::founded();
        // By the release that had neither: no versions of the gateway at the end.
        let bytes = encoded(&state);
        assert_eq!((bytes[0], bytes.last()), (4, Some(&0)));
        set(&mut state, &[("a", "1")]).unwrap();
        let with = encoded(&state);
        // The same but for its version and what stands behind.
        assert_eq!(with[1..bytes.len()], bytes[1..]);
        assert_eq!(with[bytes.len()..], [1, 1, b'a', 1, b'1']);
    }

    #[test]
    fn settings_stand_behind_versions_of_the_gateway_with_and_without_its_secret() {
        let mut state = MetaState::founded();
        set(&mut state, &[("a", "1")]).unwrap();
        for (version, secret) in [(1, None), (2, Some([7; 32]))] {
            let (at, text) = (skep_base::Millis(1), Arc::from(""));
            let (by, what, secret) = (String::new(), String::new(), GatewaySecret(secret));
            let new = GatewayVersion { version, at, by, what, text, secret };
            state.apply(MetaCommand::SetGateway(new)).unwrap();
            assert_eq!(encoded(&state)[0], 6);
        }
    }
}
