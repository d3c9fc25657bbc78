//! Requests cut in any way give the same commands and the same error as in one piece.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_resp::{Decoder, Limits, ProtocolError, Step};

type Decoded = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

/// Small, so that the fuzzer meets them; the first byte says whether the client has authenticated.
fn limits(authenticated: bool) -> Limits {
    Limits { bulk_bytes_max: 1 << 20, array_elements_max: 1000, inline_bytes_max: 64, command_bytes_max: 1 << 21, authenticated }
}

fn decode(input: &[u8], limits: &Limits, piece: usize) -> Decoded {
    let (mut decoder, mut commands) = (Decoder::new(), Vec::new());
    let (mut start, mut end) = (0, 0);
    loop {
        match decoder.next(&input[start..end], limits) {
            Ok(Step::Command { consumed }) => {
                let args = decoder.args(&input[start..end]);
                assert!(!args.is_empty() && consumed > 0);
                commands.push(args.iter().map(<[u8]>::to_vec).collect());
                start += consumed;
            }
            Ok(Step::Skip { consumed }) => {
                assert!(consumed > 0);
                start += consumed;
            }
            Ok(Step::Incomplete { needed }) => {
                assert!(needed > end - start);
                if end == input.len() {
                    return (commands, None);
                }
                end = (end + piece).min(input.len());
            }
            Err(error) => return (commands, Some(error)),
        }
        assert!(start <= end);
    }
}

fuzz_target!(|data: &[u8]| {
    let [choice, input @ ..] = data else { return };
    let limits = limits(choice & 1 == 0);
    let whole = decode(input, &limits, input.len().max(1));
    assert_eq!(decode(input, &limits, 1), whole);
    assert_eq!(decode(input, &limits, usize::from(choice >> 1) + 1), whole);
});
