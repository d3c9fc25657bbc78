//! `cjson.decode`.

use super::{Config, config};
use crate::limits::NESTING_MAX;
use crate::lua::{Raise, Stack};
use crate::number::read_c_double;

pub(super) fn decode(s: Stack) -> Result<i32, Raise> {
    if s.top() != 1 {
        return Err(s.bad_argument(1, "expected 1 argument"));
    }
    let text = s.check_string(1)?;
    if text.len() >= 2 && (text[0] == 0 || text[1] == 0) {
        return Err(Raise::At("JSON parser does not support UTF-16 or UTF-32".to_owned()));
    }
    let mut decoder = Decoder { s, config: *config(s), text, at: 0, depth: 0 };
    let first = decoder.token()?;
    decoder.value(first)?;
    match decoder.token()? {
        Token { what: What::End, .. } => Ok(1),
        token => Err(unexpected("the end", &token)),
    }
}

struct Decoder<'a> {
    s: Stack,
    config: Config,
    text: &'a [u8],
    at: usize,
    depth: usize,
}

/// A word of the text, and where it begins.
struct Token {
    what: What,
    at: usize,
}

enum What {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    Colon,
    Comma,
    String(Vec<u8>),
    Number(f64),
    Boolean(bool),
    Null,
    End,
    Bad(&'static str),
}

impl What {
    fn name(&self) -> &'static str {
        match self {
            What::ObjectBegin => "T_OBJ_BEGIN",
            What::ObjectEnd => "T_OBJ_END",
            What::ArrayBegin => "T_ARR_BEGIN",
            What::ArrayEnd => "T_ARR_END",
            What::Colon => "T_COLON",
            What::Comma => "T_COMMA",
            What::String(_) => "T_STRING",
            What::Number(_) => "T_NUMBER",
            What::Boolean(_) => "T_BOOLEAN",
            What::Null => "T_NULL",
            What::End => "T_END",
            What::Bad(problem) => problem,
        }
    }
}

fn unexpected(expected: &str, token: &Token) -> Raise {
    Raise::At(format!("Expected {expected} but found {} at character {}", token.what.name(), token.at + 1))
}

impl Decoder<'_> {
    /// Pushes the value that begins with `token`.
    fn value(&mut self, token: Token) -> Result<(), Raise> {
        let s = self.s;
        match token.what {
            What::String(text) => s.push_bytes(&text),
            What::Number(number) => s.push_number(number),
            What::Boolean(value) => s.push_boolean(value),
            What::Null => s.push_null(),
            What::ObjectBegin => self.object()?,
            What::ArrayBegin => self.array()?,
            _ => return Err(unexpected("value", &token)),
        }
        Ok(())
    }

    fn descend(&mut self) -> Result<(), Raise> {
        self.depth += 1;
        if self.depth > NESTING_MAX.min(self.config.decode_depth_max as usize) || !self.s.try_reserve(3) {
            let text =
                format!("Found too many nested data structures ({}) at character {}", self.depth, self.at);
            return Err(Raise::At(text));
        }
        Ok(())
    }

    fn object(&mut self) -> Result<(), Raise> {
        self.descend()?;
        self.s.push_table(0, 0);
        let mut token = self.token()?;
        if matches!(token.what, What::ObjectEnd) {
            self.depth -= 1;
            return Ok(());
        }
        loop {
            let What::String(key) = token.what else { return Err(unexpected("object key string", &token)) };
            self.s.push_bytes(&key);
            token = self.token()?;
            if !matches!(token.what, What::Colon) {
                return Err(unexpected("colon", &token));
            }
            token = self.token()?;
            self.value(token)?;
            self.s.set(-3)?;
            token = self.token()?;
            match token.what {
                What::ObjectEnd => break,
                What::Comma => token = self.token()?,
                _ => return Err(unexpected("comma or object end", &token)),
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn array(&mut self) -> Result<(), Raise> {
        self.descend()?;
        self.s.push_table(0, 0);
        let mut token = self.token()?;
        if matches!(token.what, What::ArrayEnd) {
            self.depth -= 1;
            return Ok(());
        }
        let mut index = 1;
        loop {
            self.value(token)?;
            self.s.set_index(-2, index);
            index += 1;
            token = self.token()?;
            match token.what {
                What::ArrayEnd => break,
                What::Comma => token = self.token()?,
                _ => return Err(unexpected("comma or array end", &token)),
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// The byte at `at`; 0 at the end, as in C, where a zero ends the text too.
    fn byte(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }

    fn token(&mut self) -> Result<Token, Raise> {
        let start = self.at;
        while matches!(self.byte(self.at), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        let at = self.at;
        let single = match self.byte(at) {
            b'{' => Some(What::ObjectBegin),
            b'}' => Some(What::ObjectEnd),
            b'[' => Some(What::ArrayBegin),
            b']' => Some(What::ArrayEnd),
            b':' => Some(What::Colon),
            b',' => Some(What::Comma),
            _ => None,
        };
        let token = if let Some(what) = single {
            self.at += 1;
            Token { what, at }
        } else {
            self.long_token(at)
        };
        self.s.work(2 + (self.at - start) / 4)?;
        Ok(token)
    }

    fn long_token(&mut self, at: usize) -> Token {
        let rest = &self.text[at.min(self.text.len())..];
        let what = match self.byte(at) {
            0 => What::End,
            b'"' => return self.string(at),
            b'-' | b'0'..=b'9' => self.number(at),
            _ if rest.starts_with(b"true") => self.word(4, What::Boolean(true)),
            _ if rest.starts_with(b"false") => self.word(5, What::Boolean(false)),
            _ if rest.starts_with(b"null") => self.word(4, What::Null),
            b'+' | b'i' | b'I' | b'n' | b'N' if self.config.decode_invalid && is_invalid_number(rest) => {
                self.number(at)
            }
            _ => What::Bad("invalid token"),
        };
        Token { what, at }
    }

    fn word(&mut self, len: usize, what: What) -> What {
        self.at += len;
        what
    }

    fn number(&mut self, at: usize) -> What {
        let rest = &self.text[at..];
        if !self.config.decode_invalid && is_invalid_number(rest) {
            return What::Bad("invalid number");
        }
        match read_c_double(rest) {
            Some((number, len)) => self.word(len, What::Number(number)),
            None => What::Bad("invalid number"),
        }
    }

    fn string(&mut self, at: usize) -> Token {
        let mut text = Vec::new();
        self.at += 1;
        loop {
            let plain = self.text[self.at.min(self.text.len())..].iter();
            let plain = plain.take_while(|c| !matches!(c, b'"' | b'\\' | 0)).count();
            text.extend_from_slice(&self.text[self.at.min(self.text.len())..][..plain]);
            self.at += plain;
            match self.byte(self.at) {
                b'"' => break,
                0 => return Token { what: What::Bad("unexpected end of string"), at: self.at },
                _ => {}
            }
            match self.byte(self.at + 1) {
                b'u' => match self.unicode(self.at) {
                    Some((c, len)) => {
                        text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                        self.at += len;
                    }
                    None => return Token { what: What::Bad("invalid unicode escape code"), at: self.at },
                },
                c => {
                    text.push(match c {
                        b'"' | b'\\' | b'/' => c,
                        b'b' => 0x08,
                        b't' => b'\t',
                        b'n' => b'\n',
                        b'f' => 0x0c,
                        b'r' => b'\r',
                        _ => return Token { what: What::Bad("invalid escape code"), at: self.at },
                    });
                    self.at += 2;
                }
            }
        }
        self.at += 1;
        Token { what: What::String(text), at }
    }

    /// The character of the escape at `at`, a pair of surrogates too, and how long the escape is.
    fn unicode(&self, at: usize) -> Option<(char, usize)> {
        let unit = |at: usize| {
            let digits = self.text.get(at + 2..at + 6)?;
            digits.iter().try_fold(0, |n, c| Some(n << 4 | char::from(*c).to_digit(16)?))
        };
        let high = unit(at)?;
        if high & 0xf800 != 0xd800 {
            return Some((char::from_u32(high)?, 6));
        }
        if high & 0x400 != 0 || self.byte(at + 6) != b'\\' || self.byte(at + 7) != b'u' {
            return None;
        }
        let low = unit(at + 6)?;
        if low & 0xfc00 != 0xdc00 {
            return None;
        }
        Some((char::from_u32(((high & 0x3ff) << 10 | (low & 0x3ff)) + 0x10000)?, 12))
    }
}

/// Numbers that C reads and JSON does not have.
fn is_invalid_number(text: &[u8]) -> bool {
    let text = match text.first() {
        Some(b'+') => return true,
        Some(b'-') => &text[1..],
        _ => text,
    };
    match text.first() {
        Some(b'0') => matches!(text.get(1), Some(b'x' | b'X' | b'0'..=b'9')),
        Some(c) if *c <= b'9' => false,
        _ => [b"inf", b"nan"].iter().any(|word| text.get(..3).is_some_and(|t| t.eq_ignore_ascii_case(*word))),
    }
}
