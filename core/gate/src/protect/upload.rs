//! What a request must have shown of its body before it takes a connection to an upstream.
//!
//! To say that a body comes costs a client nothing, and its upstream's connection is nobody else's until it has come: some hundred
//! clients that send nothing more would hold all of them. So the gateway waits for as much as it keeps of a body anyway, to send
//! it again. Who sends less waits by himself; who sends more has it streamed from there.

/// How many bytes are waited for, of a body of `length` if its head told that, of which `keep` bytes are kept. A body without a told
/// length may be a conversation, which must not wait for its end: its first byte tells that it has begun. `is_call` says that it is
/// one whose client may want an answer even before that, as gRPC's may.
pub fn needed(length: Option<u64>, keep: u64, is_call: bool) -> u64 {
    match length {
        Some(length) => length.min(keep),
        None if is_call => 0,
        None => keep.min(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_anyway_is_waited_for_and_a_conversation_is_not() {
        for (length, keep, is_call, expected) in [
            (Some(0), 100, false, 0),
            (Some(10), 100, false, 10),
            (Some(100), 100, false, 100),
            (Some(1_000), 100, false, 100),
            (Some(10), 0, false, 0),
            (Some(10), 100, true, 10),
            (None, 100, false, 1),
            (None, 0, false, 0),
            (None, 100, true, 0),
        ] {
            assert_eq!(needed(length, keep, is_call), expected, "{length:?} of {keep}, {is_call}");
        }
    }
}
