//! Changes and checkpoints of the meta state: decoding never panics, and what is taken keeps the invariants.

#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_placement::{MetaCommand, MetaState};

fuzz_target!(|bytes: &[u8]| {
    let Some((len, rest)) = bytes.split_first() else { return };
    let (state, commands) = rest.split_at(rest.len().min(usize::from(*len) * 4));
    let mut state = MetaState::decode(state).unwrap_or_default();
    state.assert_invariants();
    for command in commands.split(|byte| *byte == 0xff) {
        if let Ok(command) = MetaCommand::decode(command) {
            assert_eq!(MetaCommand::decode(&command.encode()).as_ref(), Ok(&command));
            let before = state.clone();
            if state.apply(command).is_err() {
                assert_eq!(state, before);
            }
            state.assert_invariants();
        }
    }
    let mut encoded = Vec::new();
    state.encode(&mut encoded);
    assert_eq!(MetaState::decode(&encoded), Ok(state));
});
