//! The key by which a client and a server of WebSockets over HTTP/1.1 know that both mean it (RFC 6455, section 4).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// RFC 6455, section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The value of `Sec-WebSocket-Key`, of bytes that were drawn at random.
pub fn key(random: [u8; 16]) -> String {
    STANDARD.encode(random)
}

/// Whether a value of `Sec-WebSocket-Key` can be one: 16 bytes in base 64.
pub fn is_key(text: &str) -> bool {
    STANDARD.decode(text).is_ok_and(|bytes| bytes.len() == 16)
}

/// The value of `Sec-WebSocket-Accept` that answers this key.
pub fn accept(key: &str) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_their_answers_are_those_of_the_standard() {
        assert_eq!(key(*b"the sample nonce"), "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(is_key("dGhlIHNhbXBsZSBub25jZQ=="));
        for bad in
            ["", "dGhlIHNhbXBsZSBub25jZQ", "c2hvcnQ=", "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ=="]
        {
            assert!(!is_key(bad), "{bad:?}");
        }
    }
}
