//! The name in a client hello does not depend on how it is cut, and is the one that rustls finds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rustls::server::Acceptor;
use skep_gate::layer4::hello::{HELLO_BYTES_MAX, Hello, read};

/// The name that rustls finds; none if it takes the hello for none, or for one without a name.
fn rustls_name(mut input: &[u8]) -> Option<String> {
    let mut acceptor = Acceptor::default();
    loop {
        if acceptor.read_tls(&mut input).ok()? == 0 {
            return None;
        }
        if let Some(accepted) = acceptor.accept().ok()? {
            return accepted.client_hello().server_name().map(str::to_owned);
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let whole = read(input);
    for end in 0..input.len().min(600) {
        match read(&input[..end]) {
            Hello::NeedMore => {}
            // What is found does not change any more, however much follows.
            found => assert_eq!(found, whole, "after {end} bytes"),
        }
    }
    assert!(input.len() <= HELLO_BYTES_MAX + 5 || whole != Hello::NeedMore, "it waits for no more than that");
    if let Some(theirs) = rustls_name(input) {
        let ours = match &whole {
            Hello::Name(name) => Some(name.as_str()),
            _ => None,
        };
        // A name that is none is refused here, and with it the connection.
        assert!(ours.is_none_or(|ours| ours == theirs.to_ascii_lowercase()), "{whole:?}, and {theirs:?} for rustls");
        assert!(whole != Hello::Nameless && whole != Hello::NeedMore, "rustls finds {theirs:?}");
    }
});
