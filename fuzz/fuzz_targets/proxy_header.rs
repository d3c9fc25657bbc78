//! PROXY headers: what is found does not depend on what follows, and what is told on is read back equal.
#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use skep_gate::config::pool::SendProxy;
use skep_gate::layer4::proxy_header::{Found, HEADER_BYTES_MAX, read, write};

fuzz_target!(|input: &[u8]| {
    let whole = read(input);
    for end in 0..input.len().min(600) {
        match read(&input[..end]) {
            Found::NeedMore => {}
            found => assert_eq!(found, whole, "after {end} bytes"),
        }
    }
    assert!(input.len() < HEADER_BYTES_MAX || whole != Found::NeedMore, "it waits for no more than that");
    let Found::Header { len, ends } = whole else { return };
    assert!(len <= input.len() && len <= HEADER_BYTES_MAX);
    assert_eq!(read(&input[..len]), whole);
    let Some(ends) = ends else { return };
    let same = |a: SocketAddr, b: SocketAddr| (a.ip().to_canonical(), a.port()) == (b.ip().to_canonical(), b.port());
    for form in [SendProxy::V1, SendProxy::V2] {
        let text = write(form, ends);
        match read(&text) {
            Found::Header { len, ends: Some(again) } => {
                assert!(len == text.len() && same(again.0, ends.0) && same(again.1, ends.1), "{ends:?} became {again:?}");
            }
            found => panic!("{ends:?} became {found:?}"),
        }
    }
});
