//! From a command's reply to the value that the script gets.
//!
//! As Redis converts: null is `false` in RESP2 and `nil` in RESP3; a status is `{ok=…}`, an error `{err=…}`, and RESP3's types
//! are tables with one field that names the type.

use crate::limits::NESTING_MAX;
use crate::lua::{Raise, Stack};

/// Pushes the one reply that `bytes` holds. True if it is an error.
///
/// # Errors
/// [`Raise::Exhausted`], and [`Raise::At`] if it nests too deep for the stack.
///
/// Panics if it is not one whole reply: the host wrote it.
pub(crate) fn push_reply(s: Stack, bytes: &[u8]) -> Result<bool, Raise> {
    let mut reader = Reader { s, rest: bytes };
    let is_error = matches!(bytes.first(), Some(b'-' | b'!'));
    reader.value(0)?;
    assert!(
        reader.rest.is_empty(),
        "a host wrote more than one reply: {:?}",
        bytes.escape_ascii().to_string()
    );
    Ok(is_error)
}

/// Pushes the table of an error whose text is `CODE message`; in front of a single word goes `ERR`.
pub(crate) fn push_error(s: Stack, text: &[u8]) {
    let text = text.trim_ascii_end();
    s.push_table(0, 2);
    if text.contains(&b' ') {
        s.push_bytes(text);
    } else {
        s.push_bytes(&[b"ERR ", text].concat());
    }
    s.set_field(-2, "err");
}

struct Reader<'a> {
    s: Stack,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn line(&mut self) -> &'a [u8] {
        let end = self.rest.windows(2).position(|pair| pair == b"\r\n").expect("a reply's lines end");
        let line = &self.rest[..end];
        self.rest = &self.rest[end + 2..];
        line
    }

    fn number(&mut self) -> i64 {
        let line = self.line();
        skep_base::number::parse_i64(line).expect("a reply's lengths and integers are numbers")
    }

    /// The bytes behind a length. `None` for the null of RESP2.
    fn blob(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.number()).ok()?;
        let blob = &self.rest[..len];
        self.rest = &self.rest[len + 2..];
        Some(blob)
    }

    /// Pushes one value.
    fn value(&mut self, depth: usize) -> Result<(), Raise> {
        let s = self.s;
        s.work(2)?;
        s.reserve(4, "reply is nested too deep")?;
        let (&tag, rest) = self.rest.split_first().expect("a host writes whole replies");
        self.rest = rest;
        match tag {
            b':' => {
                let number = self.number();
                s.push_number(number as f64);
            }
            b'$' => match self.blob() {
                Some(blob) => s.push_bytes(blob),
                None => s.push_boolean(false),
            },
            b'+' => {
                let line = self.line();
                self.field("ok", |s| s.push_bytes(line));
            }
            b'-' => push_error(s, self.line()),
            b'!' => push_error(s, self.blob().expect("an error is not null")),
            b'*' => match usize::try_from(self.number()) {
                Ok(len) => self.array(len, depth)?,
                Err(_) => s.push_boolean(false),
            },
            b'_' => {
                self.line();
                s.push_nil();
            }
            b'#' => {
                let value = self.line() == b"t";
                s.push_boolean(value);
            }
            b',' => {
                let line = self.line();
                let number = crate::number::read_c_double(line).expect("a double is a number").0;
                self.field("double", |s| s.push_number(number));
            }
            b'(' => {
                let line = self.line();
                self.field("big_number", |s| s.push_bytes(line));
            }
            b'=' => {
                let blob = self.blob().expect("a verbatim string is not null");
                self.field("verbatim_string", |s| {
                    s.push_table(0, 2);
                    s.push_bytes(&blob[4..]);
                    s.set_field(-2, "string");
                    s.push_bytes(&blob[..3]);
                    s.set_field(-2, "format");
                });
            }
            b'%' => self.map(depth)?,
            b'~' => self.set(depth)?,
            _ => panic!("a host wrote a reply of type {:?}", char::from(tag)),
        }
        Ok(())
    }

    /// Pushes a table with one field.
    fn field(&self, name: &str, push: impl FnOnce(Stack)) {
        self.s.push_table(0, 1);
        push(self.s);
        self.s.set_field(-2, name);
    }

    fn deeper(&self, depth: usize) -> Result<usize, Raise> {
        if depth < NESTING_MAX {
            Ok(depth + 1)
        } else {
            Err(Raise::At("reply is nested too deep".to_owned()))
        }
    }

    fn array(&mut self, len: usize, depth: usize) -> Result<(), Raise> {
        let depth = self.deeper(depth)?;
        self.s.push_table(len, 0);
        for index in 1..=len {
            self.value(depth)?;
            self.s.set_index(-2, index as i32);
        }
        Ok(())
    }

    fn map(&mut self, depth: usize) -> Result<(), Raise> {
        let depth = self.deeper(depth)?;
        let len = self.number();
        self.s.push_table(0, 1);
        self.s.push_table(0, len as usize);
        for _ in 0..len {
            self.value(depth)?;
            self.value(depth)?;
            self.s.set(-3)?;
        }
        self.s.set_field(-2, "map");
        Ok(())
    }

    fn set(&mut self, depth: usize) -> Result<(), Raise> {
        let depth = self.deeper(depth)?;
        let len = self.number();
        self.s.push_table(0, 1);
        self.s.push_table(0, len as usize);
        for _ in 0..len {
            self.value(depth)?;
            self.s.push_boolean(true);
            self.s.set(-3)?;
        }
        self.s.set_field(-2, "set");
        Ok(())
    }
}
