//! Writes replies straight into a connection's output buffer, in the protocol that the connection speaks.

use skep_base::{InVain, Refusal, number};

/// The protocol version of a connection (`HELLO 2`, `HELLO 3`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Protocol {
    #[default]
    Resp2,
    Resp3,
}

/// One reply being written. Aggregates announce their element count first; whoever announces `n` elements writes `n`.
///
/// Where the two protocols differ the same call serves both: `map(n)` is an array of `2n` for RESP2, `double` a bulk
/// string, `null` a null bulk string.
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    form: Form,
    /// Where it begins.
    start: usize,
    /// Where it ends at the latest.
    end: usize,
    /// Something had no room in it.
    is_over: bool,
}

/// Of a reply; twice the largest value. A few bytes of a request can ask for any number of them: the same key many times.
pub const REPLY_BYTES_MAX: usize = 1 << 30;

/// Room for what begins a string or an array, or for a number: what there must be before one is written.
const HEADER_BYTES: usize = 32;

/// Kinds of RESP that no protocol has.
pub(crate) const STORED_PAIRS: u8 = b'P';
pub(crate) const STORED_PAIR: u8 = b'p';

/// In which form a reply is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Resp2,
    Resp3,
    /// One from which both can be made, see `stored.rs`: RESP3, but for what has two forms in RESP2 and one in RESP3.
    Stored,
}

impl Form {
    fn of(protocol: Protocol) -> Form {
        match protocol {
            Protocol::Resp2 => Form::Resp2,
            Protocol::Resp3 => Form::Resp3,
        }
    }
}

impl<'a> Reply<'a> {
    /// Of [`REPLY_BYTES_MAX`] at the most.
    #[inline]
    pub fn new(out: &'a mut Vec<u8>, protocol: Protocol) -> Reply<'a> {
        Reply::limited(out, protocol, REPLY_BYTES_MAX)
    }

    /// A reply of about `bytes_max` at the most. In the place of a longer one stays an error when this is dropped; what a command did
    /// is done all the same.
    #[inline]
    pub fn limited(out: &'a mut Vec<u8>, protocol: Protocol, bytes_max: usize) -> Reply<'a> {
        Reply::of(out, Form::of(protocol), bytes_max)
    }

    #[inline]
    fn of(out: &'a mut Vec<u8>, form: Form, bytes_max: usize) -> Reply<'a> {
        let start = out.len();
        Reply { out, form, start, end: start.saturating_add(bytes_max), is_over: false }
    }

    /// A reply in the form from which [`Reply::stored`] makes that of either protocol.
    pub fn to_store(out: &'a mut Vec<u8>) -> Reply<'a> {
        Reply::of(out, Form::Stored, REPLY_BYTES_MAX)
    }

    /// The protocol whose forms can be written raw: RESP3 for a reply that is to be stored.
    pub fn protocol(&self) -> Protocol {
        if self.form == Form::Resp2 { Protocol::Resp2 } else { Protocol::Resp3 }
    }

    pub(crate) fn form(&self) -> Form {
        self.form
    }

    /// Goes on in another protocol (`HELLO` answers in the one it chose).
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.form = Form::of(protocol);
    }

    /// Where the next byte goes; for [`Reply::rewind`].
    pub fn mark(&self) -> usize {
        self.out.len()
    }

    /// Takes back everything written since `mark`.
    pub fn rewind(&mut self, mark: usize) {
        self.out.truncate(mark);
        self.is_over &= mark > self.start;
    }

    /// Whether so many bytes more have room.
    #[inline]
    fn has_room(&mut self, bytes: usize) -> bool {
        self.is_over |= bytes > self.end.saturating_sub(self.out.len());
        !self.is_over
    }

    /// A reply that another node, or an earlier run of the command, wrote in this protocol.
    pub fn raw(&mut self, bytes: &[u8]) {
        if self.has_room(bytes.len()) {
            self.out.extend_from_slice(bytes);
        }
    }

    #[inline]
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// A simple string; must hold no line break.
    #[inline]
    pub fn simple(&mut self, text: &str) {
        debug_assert!(!text.contains(['\r', '\n']), "simple string with a line break: {text:?}");
        self.out.push(b'+');
        self.out.extend_from_slice(text.as_bytes());
        self.line_end();
    }

    /// An error whose text starts with its prefix. Line breaks become blanks, since they would end the reply early.
    pub fn error(&mut self, text: &str) {
        self.out.push(b'-');
        self.out.extend(text.bytes().map(|b| if b == b'\r' || b == b'\n' { b' ' } else { b }));
        self.line_end();
    }

    pub fn refusal(&mut self, refusal: &Refusal) {
        match refusal {
            Refusal::Text(text) => self.error(text),
            // Who could let it wait looks before it comes here.
            Refusal::WouldWait(unserved) => match unserved.in_vain {
                InVain::Null => self.null(),
                InVain::NullArray => self.null_array(),
                InVain::Written => {}
            },
            other => self.error(&other.to_string()),
        }
    }

    /// Answers a refusal in the place of what was written since `mark`, unless that is what a command answers that cannot wait.
    pub fn refuse(&mut self, refusal: &Refusal, mark: usize) {
        if !matches!(refusal, Refusal::WouldWait(unserved) if unserved.in_vain == InVain::Written) {
            self.rewind(mark);
        }
        self.refusal(refusal);
    }

    #[inline]
    pub fn int(&mut self, value: i64) {
        self.header(b':', value);
    }

    /// An integer reply of a length or count.
    #[inline]
    pub fn len(&mut self, value: usize) {
        self.int(value as i64);
    }

    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        if !self.has_room(bytes.len()) {
            return;
        }
        self.header(b'$', bytes.len() as i64);
        self.out.extend_from_slice(bytes);
        self.line_end();
    }

    /// A bulk string, or null.
    #[inline]
    pub fn bulk_or_null(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    /// A bulk string of a number in decimal.
    pub fn bulk_int(&mut self, value: i64) {
        let mut digits = Vec::with_capacity(20);
        number::write_i64(&mut digits, value);
        self.bulk(&digits);
    }

    /// The absence of a single value.
    #[inline]
    pub fn null(&mut self) {
        if !self.has_room(HEADER_BYTES) {
            return;
        }
        self.out.extend_from_slice(match self.form {
            Form::Resp2 => b"$-1\r\n",
            Form::Resp3 | Form::Stored => b"_\r\n",
        });
    }

    /// The absence of an array (`*-1` in RESP2).
    pub fn null_array(&mut self) {
        if !self.has_room(HEADER_BYTES) {
            return;
        }
        self.out.extend_from_slice(match self.form {
            Form::Resp2 | Form::Stored => b"*-1\r\n",
            Form::Resp3 => b"_\r\n",
        });
    }

    #[inline]
    pub fn array(&mut self, elements: usize) {
        self.header(b'*', elements as i64);
    }

    /// A map of `pairs` keys with values.
    pub fn map(&mut self, pairs: usize) {
        match self.form {
            Form::Resp2 => self.header(b'*', 2 * pairs as i64),
            Form::Resp3 | Form::Stored => self.header(b'%', pairs as i64),
        }
    }

    /// An array of `pairs` arrays of two, each begun with [`Reply::pair`]; in RESP2 one array of all of their elements.
    pub fn pairs(&mut self, pairs: usize) {
        match self.form {
            Form::Resp2 => self.header(b'*', 2 * pairs as i64),
            Form::Resp3 => self.header(b'*', pairs as i64),
            Form::Stored => self.header(STORED_PAIRS, pairs as i64),
        }
    }

    /// Begins a pair of [`Reply::pairs`].
    pub fn pair(&mut self) {
        match self.form {
            Form::Resp2 => {}
            Form::Resp3 => self.array(2),
            Form::Stored => self.header(STORED_PAIR, 2),
        }
    }

    /// A set of `elements`; an array in RESP2.
    pub fn set(&mut self, elements: usize) {
        match self.form {
            Form::Resp2 => self.header(b'*', elements as i64),
            Form::Resp3 | Form::Stored => self.header(b'~', elements as i64),
        }
    }

    /// A push message of `elements`; an array in RESP2.
    pub fn push(&mut self, elements: usize) {
        match self.form {
            Form::Resp2 => self.header(b'*', elements as i64),
            Form::Resp3 | Form::Stored => self.header(b'>', elements as i64),
        }
    }

    /// A double; a bulk string in RESP2.
    pub fn double(&mut self, value: f64) {
        if !self.has_room(HEADER_BYTES) {
            return;
        }
        match self.form {
            Form::Resp2 => {
                let mut text = Vec::with_capacity(24);
                number::write_f64(&mut text, value);
                self.bulk(&text);
            }
            Form::Resp3 | Form::Stored => {
                self.out.push(b',');
                number::write_f64(self.out, value);
                self.line_end();
            }
        }
    }

    /// A double in plain decimal (see [`number::write_f64_plain`]); a bulk string in RESP2.
    pub fn double_plain(&mut self, value: f64) {
        if !self.has_room(HEADER_BYTES) {
            return;
        }
        match self.form {
            Form::Resp2 => {
                let mut text = Vec::with_capacity(24);
                number::write_f64_plain(&mut text, value);
                self.bulk(&text);
            }
            Form::Resp3 | Form::Stored => {
                self.out.push(b',');
                number::write_f64_plain(self.out, value);
                self.line_end();
            }
        }
    }

    /// A boolean; 1 or 0 in RESP2.
    pub fn boolean(&mut self, value: bool) {
        if !self.has_room(HEADER_BYTES) {
            return;
        }
        match self.form {
            Form::Resp2 => self.int(i64::from(value)),
            Form::Resp3 | Form::Stored => {
                self.out.extend_from_slice(if value { b"#t\r\n" } else { b"#f\r\n" })
            }
        }
    }

    /// A text for people (`INFO`): verbatim in RESP3, a bulk string in RESP2.
    pub fn verbatim(&mut self, text: &str) {
        if !self.has_room(text.len()) {
            return;
        }
        match self.form {
            Form::Resp2 => self.bulk(text.as_bytes()),
            Form::Resp3 | Form::Stored => {
                self.header(b'=', text.len() as i64 + 4);
                self.out.extend_from_slice(b"txt:");
                self.out.extend_from_slice(text.as_bytes());
                self.line_end();
            }
        }
    }

    #[inline]
    fn header(&mut self, kind: u8, value: i64) {
        if !self.has_room(HEADER_BYTES) {
            return;
        }
        self.out.push(kind);
        if (0..10).contains(&value) {
            self.out.push(b'0' + value as u8);
        } else {
            number::write_i64(self.out, value);
        }
        self.line_end();
    }

    #[inline]
    fn line_end(&mut self) {
        self.out.extend_from_slice(b"\r\n");
    }
}

impl Drop for Reply<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.is_over {
            self.leave_out();
        }
    }
}

impl Reply<'_> {
    #[cold]
    fn leave_out(&mut self) {
        let bytes_max = self.end - self.start;
        self.rewind(self.start);
        self.error(&format!(
            "ERR the reply is longer than {bytes_max} bytes and left out; what the command did is done. Ask for less at a time"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(protocol: Protocol, write: impl Fn(&mut Reply)) -> String {
        let mut out = Vec::new();
        write(&mut Reply::new(&mut out, protocol));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_protocol_gets_its_own_form() {
        let both = |write: fn(&mut Reply)| (written(Protocol::Resp2, write), written(Protocol::Resp3, write));
        assert_eq!(both(|r| r.map(2)), ("*4\r\n".into(), "%2\r\n".into()));
        assert_eq!(both(|r| r.set(3)), ("*3\r\n".into(), "~3\r\n".into()));
        assert_eq!(both(|r| r.null()), ("$-1\r\n".into(), "_\r\n".into()));
        assert_eq!(both(|r| r.null_array()), ("*-1\r\n".into(), "_\r\n".into()));
        assert_eq!(both(|r| r.double(1.5)), ("$3\r\n1.5\r\n".into(), ",1.5\r\n".into()));
        assert_eq!(both(|r| r.boolean(true)), (":1\r\n".into(), "#t\r\n".into()));
        assert_eq!(both(|r| r.verbatim("ab")), ("$2\r\nab\r\n".into(), "=6\r\ntxt:ab\r\n".into()));
        assert_eq!(both(|r| r.int(-12)), (":-12\r\n".into(), ":-12\r\n".into()));
    }

    #[test]
    fn a_reply_that_is_too_long_is_an_error_behind_what_was_there() {
        let refused = "+OK\r\n-ERR the reply is longer than 200 bytes and left out; what the command did is done. Ask for less at a time\r\n";
        let writes: [fn(&mut Reply); 8] = [
            |r| r.bulk(b"abc"),
            |r| r.int(1),
            |r| r.null(),
            |r| r.null_array(),
            |r| r.array(0),
            |r| r.double(1.5),
            |r| r.boolean(true),
            |r| r.verbatim("abc"),
        ];
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            for write in writes {
                for rewinds in [false, true] {
                    let mut out = b"+OK\r\n".to_vec();
                    let mut reply = Reply::limited(&mut out, protocol, 200);
                    let mark = reply.mark();
                    (0..1_000_000).for_each(|_| write(&mut reply));
                    assert!(reply.mark() <= 250, "and nothing grows");
                    if rewinds {
                        reply.rewind(mark);
                        reply.int(1);
                    }
                    drop(reply);
                    let expected = if rewinds { "+OK\r\n:1\r\n" } else { refused };
                    assert_eq!(String::from_utf8(out).unwrap(), expected);
                }
            }
        }
        let whole = |r: &mut Reply| (0..18).for_each(|_| r.bulk(b"abc"));
        let mut out = Vec::new();
        whole(&mut Reply::limited(&mut out, Protocol::Resp3, 200));
        assert_eq!(out, b"$3\r\nabc\r\n".repeat(18));
    }

    #[test]
    fn an_error_never_spans_lines() {
        assert_eq!(written(Protocol::Resp2, |r| r.error("ERR a\r\nb")), "-ERR a  b\r\n");
    }
}
