//! Replies that are kept and given again, to clients of either protocol.
//!
//! A stored reply is one of RESP3, but for two things of which RESP2 has two forms: the absence of an array is `*-1`, and an
//! array of pairs, which RESP2 lays flat, begins with `P`, each pair with `p`. A whole reply of RESP2 is a stored reply too.

use crate::Reply;
use crate::reply::{Form, STORED_PAIR, STORED_PAIRS};

/// Bytes that are no stored reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotStored {
    /// Where they go wrong.
    pub offset: usize,
}

impl Reply<'_> {
    /// Gives what was written with [`Reply::to_store`].
    ///
    /// # Errors
    /// [`NotStored`]; part of it may have been written.
    pub fn stored(&mut self, bytes: &[u8]) -> Result<(), NotStored> {
        let mut at = 0;
        while at < bytes.len() {
            at += self.token(&bytes[at..]).ok_or(NotStored { offset: at })?;
        }
        Ok(())
    }

    /// Writes the value, or the head of the aggregate, that `bytes` begin with. Gives its length.
    fn token(&mut self, bytes: &[u8]) -> Option<usize> {
        let end = bytes.windows(2).position(|two| two == b"\r\n")?;
        let text = bytes.get(1..end)?;
        let whole = end + 2;
        let number = || std::str::from_utf8(text).ok()?.parse::<i64>().ok();
        let count = || usize::try_from(number()?).ok();
        match bytes[0] {
            b'+' | b'-' | b':' => self.raw(&bytes[..whole]),
            b'$' if text == b"-1" => self.null(),
            b'*' if text == b"-1" => self.null_array(),
            b'$' | b'=' => {
                let payload = bytes.get(whole..whole.checked_add(count()?)?)?;
                let whole = whole + payload.len() + 2;
                if bytes.get(whole - 2..whole)? != b"\r\n" {
                    return None;
                }
                match (bytes[0], self.form()) {
                    (b'=', Form::Resp2) => self.bulk(payload.get(4..)?), // behind the format and a colon
                    _ => self.raw(&bytes[..whole]),
                }
                return Some(whole);
            }
            b'_' if text.is_empty() => self.null(),
            b'#' if matches!(text, b"t" | b"f") => self.boolean(text == b"t"),
            b',' | b'(' if self.form() == Form::Resp2 => self.bulk(text),
            b',' | b'(' => self.raw(&bytes[..whole]),
            b'*' => self.array(count()?),
            b'%' => self.map(count()?),
            b'~' => self.set(count()?),
            b'>' => self.push(count()?),
            STORED_PAIRS => self.pairs(count()?),
            STORED_PAIR => self.pair(),
            _ => return None,
        }
        Some(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Protocol;

    /// Everything that a reply can hold.
    fn write(reply: &mut Reply) {
        reply.map(2);
        reply.simple("a");
        reply.null();
        reply.bulk(b"line\r\nline");
        reply.null_array();
        reply.set(3);
        reply.double(1.5);
        reply.double_plain(f64::INFINITY);
        reply.boolean(true);
        reply.pairs(2);
        for score in [0.1, -3.0] {
            reply.pair();
            reply.bulk(b"member");
            reply.double(score);
        }
        reply.array(4);
        reply.error("ERR no");
        reply.verbatim("text");
        reply.int(-7);
        reply.push(1);
        reply.boolean(false);
    }

    #[test]
    fn a_stored_reply_gives_that_of_either_protocol() {
        let mut stored = Vec::new();
        write(&mut Reply::to_store(&mut stored));
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            let (mut direct, mut given) = (Vec::new(), Vec::new());
            write(&mut Reply::new(&mut direct, protocol));
            Reply::new(&mut given, protocol).stored(&stored).unwrap();
            assert_eq!(String::from_utf8_lossy(&given), String::from_utf8_lossy(&direct), "{protocol:?}");
        }
        let mut again = Vec::new();
        Reply::to_store(&mut again).stored(&stored).unwrap();
        assert_eq!(again, stored);
    }

    #[test]
    fn what_is_no_reply_is_refused_and_no_bytes_panic() {
        let mut stored = Vec::new();
        write(&mut Reply::to_store(&mut stored));
        let given = |bytes: &[u8]| Reply::new(&mut Vec::new(), Protocol::Resp2).stored(bytes);
        for bad in [
            "+OK",
            "?1\r\n",
            "$5\r\nab\r\n",
            "$2\r\nabc\r\n",
            "*x\r\n",
            "#x\r\n",
            "=3\r\nabc\r\n",
            "$99999999999999999999\r\n",
        ] {
            assert_eq!(given(bad.as_bytes()), Err(NotStored { offset: 0 }), "{bad:?}");
        }
        assert_eq!(given(b":1\r\n:"), Err(NotStored { offset: 4 }));
        for at in 0..stored.len() {
            let _ = given(&stored[..at]);
            for bit in 0..8 {
                let mut flipped = stored.clone();
                flipped[at] ^= 1 << bit;
                let _ = given(&flipped);
            }
        }
    }
}
