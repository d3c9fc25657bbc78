//! Which replies are held until they are whole, so that they can be kept before the client sees them.

/// A reply that is held, as far as it has come.
#[derive(Debug)]
pub struct Holding {
    held: u64,
    size_max: u64,
    is_http2: bool,
}

impl Holding {
    /// Of a reply whose body may be kept up to `size_max` bytes and has at least `length`, from an upstream of HTTP/2 or not. None if it is
    /// passed on as it comes: it is too long, or read piece by piece as it comes.
    pub fn begin(size_max: u64, is_http2: bool, content_type: Option<&[u8]>, length: u64) -> Option<Holding> {
        let is_stream = content_type.is_some_and(|kind| {
            kind.starts_with(b"text/event-stream") || kind.starts_with(b"application/grpc")
        });
        (!is_stream && length <= size_max).then_some(Holding { held: 0, size_max, is_http2 })
    }

    /// Takes so many more bytes of the body. False if that is too long now, and passed on from its beginning.
    pub fn takes(&mut self, bytes: u64) -> bool {
        self.held = self.held.saturating_add(bytes);
        self.held <= self.size_max
    }

    /// Bytes that are held.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Whether trailers are left out, of the first reply as well. Those of HTTP/1.1 may be, by whoever is on the way (RFC 9110, section
    /// 6.5.1), and a repeat must get the same reply. A reply with others is passed on, and not kept.
    pub fn leaves_out_trailers(&self) -> bool {
        !self.is_http2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_stream_or_too_long_is_not_held() {
        for (kind, length, held) in [
            (None, 0, true),
            (Some("application/json"), 10, true),
            (Some("text/event-stream; charset=utf-8"), 0, false),
            (Some("application/grpc+proto"), 0, false),
            (Some("text/plain"), 11, false),
        ] {
            let found = Holding::begin(10, false, kind.map(str::as_bytes), length);
            assert_eq!(found.is_some(), held, "{kind:?} of {length}");
        }
        let mut holding = Holding::begin(10, false, None, 0).unwrap();
        assert!(holding.takes(4) && holding.takes(6) && holding.held() == 10);
        assert!(!holding.takes(1) && !holding.takes(u64::MAX));
    }

    #[test]
    fn trailers_of_http1_are_left_out_and_those_of_http2_are_not() {
        assert!(Holding::begin(0, false, None, 0).unwrap().leaves_out_trailers());
        assert!(!Holding::begin(0, true, None, 0).unwrap().leaves_out_trailers());
    }
}
