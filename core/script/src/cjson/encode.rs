//! `cjson.encode`.

use super::{Config, Invalid, config};
use crate::limits::NESTING_MAX;
use crate::lua::{Kind, Raise, Stack};
use crate::number::write_g;

pub(super) fn encode(s: Stack) -> Result<i32, Raise> {
    if s.top() != 1 {
        return Err(s.bad_argument(1, "expected 1 argument"));
    }
    let mut encoder = Encoder { s, config: *config(s), out: Vec::new() };
    encoder.value(0)?;
    s.push_bytes(&encoder.out);
    Ok(1)
}

/// Bytes of a string, six times as many when each is escaped, that are written before it is asked again whether they fit.
const PIECE: usize = 4_096;

struct Encoder {
    s: Stack,
    config: Config,
    out: Vec<u8>,
}

/// Names of characters that have a short escape.
fn escape(c: u8) -> Option<&'static [u8]> {
    Some(match c {
        b'"' => b"\\\"",
        b'\\' => b"\\\\",
        b'/' => b"\\/",
        0x08 => b"\\b",
        b'\t' => b"\\t",
        b'\n' => b"\\n",
        0x0c => b"\\f",
        b'\r' => b"\\r",
        _ => return None,
    })
}

impl Encoder {
    /// Appends the value on top of the stack, which stays there.
    fn value(&mut self, depth: usize) -> Result<(), Raise> {
        let s = self.s;
        s.work(1)?;
        match s.kind(-1) {
            Kind::String => self.string(s.string(-1).expect("its kind is String"))?,
            Kind::Number => self.number(s.number(-1).expect("its kind is Number"))?,
            Kind::Boolean => self.out.extend_from_slice(if s.boolean(-1) { b"true" } else { b"false" }),
            Kind::Nil | Kind::Null => self.out.extend_from_slice(b"null"),
            Kind::Table => self.table(depth + 1)?,
            _ => return Err(self.refuse("type not supported")),
        }
        Ok(())
    }

    /// The error of the value on top.
    fn refuse(&self, reason: &str) -> Raise {
        Raise::At(format!("Cannot serialise {}: {reason}", self.s.type_name(-1)))
    }

    fn string(&mut self, text: &[u8]) -> Result<(), Raise> {
        self.s.work(text.len() / 4)?;
        self.out.push(b'"');
        for piece in text.chunks(PIECE) {
            self.s.room(self.out.len() + piece.len())?;
            piece.iter().for_each(|c| self.character(*c));
        }
        self.out.push(b'"');
        Ok(())
    }

    fn character(&mut self, c: u8) {
        match escape(c) {
            Some(escaped) => self.out.extend_from_slice(escaped),
            None if c < 0x20 || c == 0x7f => self.out.extend_from_slice(format!("\\u{c:04x}").as_bytes()),
            None => self.out.push(c),
        }
    }

    fn number(&mut self, number: f64) -> Result<(), Raise> {
        if number.is_finite() {
            write_g(&mut self.out, number, self.config.precision as usize);
            return self.s.work(10);
        }
        match self.config.encode_invalid {
            Invalid::Refused => return Err(self.refuse("must not be NaN or Inf")),
            Invalid::Null => self.out.extend_from_slice(b"null"),
            Invalid::Written if number.is_nan() => self.out.extend_from_slice(b"nan"),
            Invalid::Written => self.out.extend_from_slice(if number > 0.0 { b"inf" } else { b"-inf" }),
        }
        Ok(())
    }

    fn table(&mut self, depth: usize) -> Result<(), Raise> {
        let too_deep = depth > NESTING_MAX.min(self.config.encode_depth_max as usize);
        if too_deep || !self.s.try_reserve(4) {
            return Err(Raise::At(format!("Cannot serialise, excessive nesting ({depth})")));
        }
        match self.array_length()? {
            Some(length) if length > 0 => self.array(length, depth),
            _ => self.object(depth),
        }
    }

    /// The largest index if all keys of the table on top are positive integers, dense enough for an array.
    fn array_length(&mut self) -> Result<Option<i32>, Raise> {
        let s = self.s;
        let (mut largest, mut items) = (0f64, 0f64);
        s.push_nil();
        while s.next(-2) {
            s.work(1)?;
            s.pop(1);
            let key = if s.kind(-1) == Kind::Number { s.number(-1) } else { None };
            match key {
                Some(key) if key >= 1.0 && key.floor() == key => {
                    largest = largest.max(key);
                    items += 1.0;
                }
                _ => {
                    s.pop(1);
                    return Ok(None);
                }
            }
        }
        let config = self.config;
        let sparse = config.sparse_ratio > 0
            && largest > items * f64::from(config.sparse_ratio)
            && largest > f64::from(config.sparse_safe);
        if sparse || largest > f64::from(i32::MAX) {
            if config.sparse_convert {
                return Ok(None);
            }
            return Err(self.refuse("excessively sparse array"));
        }
        Ok(Some(largest as i32))
    }

    fn array(&mut self, length: i32, depth: usize) -> Result<(), Raise> {
        self.out.push(b'[');
        for i in 1..=length {
            if i > 1 {
                self.out.push(b',');
            }
            self.s.get_index(-1, i);
            self.value(depth)?;
            self.s.pop(1);
        }
        self.out.push(b']');
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), Raise> {
        let s = self.s;
        self.out.push(b'{');
        let mut first = true;
        s.push_nil();
        while s.next(-2) {
            if !std::mem::take(&mut first) {
                self.out.push(b',');
            }
            match s.kind(-2) {
                Kind::Number => {
                    self.out.push(b'"');
                    self.number(s.number(-2).expect("its kind is Number"))?;
                    self.out.extend_from_slice(b"\":");
                }
                Kind::String => {
                    self.string(s.string(-2).expect("its kind is String"))?;
                    self.out.push(b':');
                }
                _ => {
                    s.pop(1);
                    return Err(self.refuse("table key must be a number or string"));
                }
            }
            self.value(depth)?;
            s.pop(1);
        }
        self.out.push(b'}');
        Ok(())
    }
}
