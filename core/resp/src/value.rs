//! The client's side of the protocol: [`Value`] reads replies of both versions, [`write_command`] writes requests.
//!
//! Made for the simulator, the bench tool and tests: a reply that is not yet whole is read again from its start when
//! more has arrived, so large replies in small pieces are not for it.

use std::fmt;

use skep_base::number;

/// How deep aggregates may nest; deeper ones are refused rather than followed on the stack.
const DEPTH_MAX: usize = 32;
/// Longest line of a simple string, error or number, in bytes.
const LINE_BYTES_MAX: usize = 1024 * 1024;
/// Longest bulk string, in bytes: Redis's own limit.
const BULK_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Most elements of one aggregate.
const ELEMENTS_MAX: usize = 1 << 30;

/// One reply. The three ways of saying "nothing" are kept apart, so that tests can tell them from one another.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    Simple(Vec<u8>),
    Error(Vec<u8>),
    Int(i64),
    Bulk(Vec<u8>),
    Array(Vec<Value>),
    /// `$-1`
    NullBulk,
    /// `*-1`
    NullArray,
    /// `_`
    Null,
    Bool(bool),
    Double(f64),
    BigNumber(Vec<u8>),
    BulkError(Vec<u8>),
    /// `=`: three letters of format, and the text.
    Verbatim([u8; 3], Vec<u8>),
    Map(Vec<(Value, Value)>),
    Set(Vec<Value>),
    Push(Vec<Value>),
    /// `|`: facts about the value that follows.
    Attributed(Vec<(Value, Value)>, Box<Value>),
}

/// The bytes are not a reply; the position of the next one is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ValueError {
    UnknownType(u8),
    BadNumber,
    BadLine,
    TooDeep,
    TooBig,
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueError::UnknownType(byte) => write!(f, "unknown reply type {:?}", char::from(*byte)),
            ValueError::BadNumber => f.write_str("malformed number in reply"),
            ValueError::BadLine => f.write_str("reply line without CR LF, or longer than 1 MiB"),
            ValueError::TooDeep => write!(f, "reply nested deeper than {DEPTH_MAX}"),
            ValueError::TooBig => f.write_str("reply announces a size beyond the limits"),
        }
    }
}

impl std::error::Error for ValueError {}

impl Value {
    /// Reads the reply at the front of `input`, and says how many bytes it took; `None` if it is not yet whole.
    ///
    /// # Errors
    /// [`ValueError`]; nothing behind can be read.
    pub fn parse(input: &[u8]) -> Result<Option<(Value, usize)>, ValueError> {
        let mut reader = Reader { input, at: 0 };
        Ok(reader.value(0)?.map(|value| (value, reader.at)))
    }

    /// The bytes of a string of any kind.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Simple(bytes) | Value::Bulk(bytes) | Value::Verbatim(_, bytes) => Some(bytes),
            _ => None,
        }
    }

    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The text of an error reply, prefix included.
    pub fn as_error(&self) -> Option<&[u8]> {
        match self {
            Value::Error(text) | Value::BulkError(text) => Some(text),
            _ => None,
        }
    }

    /// The elements of an array, set or push message.
    pub fn as_elements(&self) -> Option<&[Value]> {
        match self {
            Value::Array(elements) | Value::Set(elements) | Value::Push(elements) => Some(elements),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null | Value::NullBulk | Value::NullArray)
    }

    /// Appends the value as it would be sent.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Value::Simple(text) => line(out, b'+', text),
            Value::Error(text) => line(out, b'-', text),
            Value::BigNumber(text) => line(out, b'(', text),
            Value::Int(value) => count(out, b':', *value),
            Value::Bulk(bytes) => blob(out, b'$', b"", bytes),
            Value::BulkError(bytes) => blob(out, b'!', b"", bytes),
            Value::Verbatim(format, bytes) => {
                blob(out, b'=', &[format[0], format[1], format[2], b':'], bytes)
            }
            Value::NullBulk => out.extend_from_slice(b"$-1\r\n"),
            Value::NullArray => out.extend_from_slice(b"*-1\r\n"),
            Value::Null => out.extend_from_slice(b"_\r\n"),
            Value::Bool(value) => out.extend_from_slice(if *value { b"#t\r\n" } else { b"#f\r\n" }),
            Value::Double(value) => {
                out.push(b',');
                number::write_f64(out, *value);
                out.extend_from_slice(b"\r\n");
            }
            Value::Array(elements) => elements_of(out, b'*', elements),
            Value::Set(elements) => elements_of(out, b'~', elements),
            Value::Push(elements) => elements_of(out, b'>', elements),
            Value::Map(pairs) => pairs_of(out, b'%', pairs),
            Value::Attributed(pairs, value) => {
                pairs_of(out, b'|', pairs);
                value.write(out);
            }
        }
    }
}

/// Appends a request: an array of bulk strings.
pub fn write_command<'a>(
    out: &mut Vec<u8>,
    args: impl IntoIterator<Item = &'a [u8], IntoIter: ExactSizeIterator>,
) {
    let args = args.into_iter();
    count(out, b'*', args.len() as i64);
    for arg in args {
        blob(out, b'$', b"", arg);
    }
}

fn line(out: &mut Vec<u8>, kind: u8, text: &[u8]) {
    out.push(kind);
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

fn count(out: &mut Vec<u8>, kind: u8, value: i64) {
    out.push(kind);
    number::write_i64(out, value);
    out.extend_from_slice(b"\r\n");
}

fn blob(out: &mut Vec<u8>, kind: u8, prefix: &[u8], bytes: &[u8]) {
    count(out, kind, (prefix.len() + bytes.len()) as i64);
    out.extend_from_slice(prefix);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn elements_of(out: &mut Vec<u8>, kind: u8, elements: &[Value]) {
    count(out, kind, elements.len() as i64);
    elements.iter().for_each(|element| element.write(out));
}

fn pairs_of(out: &mut Vec<u8>, kind: u8, pairs: &[(Value, Value)]) {
    count(out, kind, pairs.len() as i64);
    for (key, value) in pairs {
        key.write(out);
        value.write(out);
    }
}

struct Reader<'a> {
    input: &'a [u8],
    at: usize,
}

/// `Ok(None)` throughout: the input ends before the value does.
type Read<T> = Result<Option<T>, ValueError>;

/// Gives back `Ok(None)` for a part that is not yet there.
macro_rules! whole {
    ($part:expr) => {
        match $part? {
            Some(part) => part,
            None => return Ok(None),
        }
    };
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Read<Value> {
        if depth > DEPTH_MAX {
            return Err(ValueError::TooDeep);
        }
        let Some(&kind) = self.input.get(self.at) else { return Ok(None) };
        if !b"+-:$*_#,(!=%~>|".contains(&kind) {
            return Err(ValueError::UnknownType(kind));
        }
        let text = whole!(self.line());
        Ok(Some(match kind {
            b'+' => Value::Simple(text.to_vec()),
            b'-' => Value::Error(text.to_vec()),
            b':' => Value::Int(number::parse_i64(text).ok_or(ValueError::BadNumber)?),
            b'$' if text == b"-1" => Value::NullBulk,
            b'*' if text == b"-1" => Value::NullArray,
            b'$' => Value::Bulk(whole!(self.blob(text)).to_vec()),
            b'!' => Value::BulkError(whole!(self.blob(text)).to_vec()),
            b'=' => match whole!(self.blob(text)) {
                [a, b, c, b':', rest @ ..] => Value::Verbatim([*a, *b, *c], rest.to_vec()),
                _ => return Err(ValueError::BadLine),
            },
            b'_' if text.is_empty() => Value::Null,
            b'#' if text == b"t" => Value::Bool(true),
            b'#' if text == b"f" => Value::Bool(false),
            b',' if text == b"nan" => Value::Double(f64::NAN),
            b',' => Value::Double(number::parse_f64(text).ok_or(ValueError::BadNumber)?),
            b'(' => Value::BigNumber(text.to_vec()),
            b'*' => Value::Array(whole!(self.elements(text, depth))),
            b'~' => Value::Set(whole!(self.elements(text, depth))),
            b'>' => Value::Push(whole!(self.elements(text, depth))),
            b'%' => Value::Map(whole!(self.pairs(text, depth))),
            b'|' => {
                let pairs = whole!(self.pairs(text, depth));
                Value::Attributed(pairs, Box::new(whole!(self.value(depth + 1))))
            }
            _ => return Err(ValueError::BadLine),
        }))
    }

    /// The rest of the line at `at` behind its type byte.
    fn line(&mut self) -> Read<&'a [u8]> {
        let rest = &self.input[self.at + 1..];
        let window = &rest[..rest.len().min(LINE_BYTES_MAX)];
        match window.iter().position(|b| *b == b'\r') {
            Some(end) if rest.len() == end + 1 => Ok(None),
            Some(end) if rest[end + 1] == b'\n' => {
                self.at += end + 3;
                Ok(Some(&rest[..end]))
            }
            None if window.len() < LINE_BYTES_MAX => Ok(None),
            _ => Err(ValueError::BadLine),
        }
    }

    fn blob(&mut self, length: &[u8]) -> Read<&'a [u8]> {
        let length = size(length, BULK_BYTES_MAX)?;
        let rest = &self.input[self.at..];
        let Some(end) = rest.get(length..length + 2) else { return Ok(None) };
        if end != b"\r\n" {
            return Err(ValueError::BadLine);
        }
        self.at += length + 2;
        Ok(Some(&rest[..length]))
    }

    fn elements(&mut self, count: &[u8], depth: usize) -> Read<Vec<Value>> {
        // Grows with what has arrived, whatever was announced.
        let mut elements = Vec::new();
        for _ in 0..size(count, ELEMENTS_MAX)? {
            elements.push(whole!(self.value(depth + 1)));
        }
        Ok(Some(elements))
    }

    fn pairs(&mut self, count: &[u8], depth: usize) -> Read<Vec<(Value, Value)>> {
        let mut pairs = Vec::new();
        for _ in 0..size(count, ELEMENTS_MAX)? {
            let key = whole!(self.value(depth + 1));
            pairs.push((key, whole!(self.value(depth + 1))));
        }
        Ok(Some(pairs))
    }
}

/// A length or count between 0 and `max`.
fn size(text: &[u8], max: usize) -> Result<usize, ValueError> {
    let value = number::parse_u64(text).ok_or(ValueError::BadNumber)?;
    usize::try_from(value).ok().filter(|v| *v <= max).ok_or(ValueError::TooBig)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &[u8]) -> Result<Option<(Value, usize)>, ValueError> {
        Value::parse(text)
    }

    fn bulk(text: &str) -> Value {
        Value::Bulk(text.into())
    }

    #[test]
    fn each_type_is_read() {
        let table: Vec<(&str, Value)> = vec![
            ("+OK\r\n", Value::Simple("OK".into())),
            ("-ERR no\r\n", Value::Error("ERR no".into())),
            (":-7\r\n", Value::Int(-7)),
            ("$3\r\na\rb\r\n", bulk("a\rb")),
            ("$0\r\n\r\n", bulk("")),
            ("$-1\r\n", Value::NullBulk),
            ("*-1\r\n", Value::NullArray),
            ("_\r\n", Value::Null),
            ("*0\r\n", Value::Array(vec![])),
            (
                "*2\r\n:1\r\n*1\r\n$-1\r\n",
                Value::Array(vec![Value::Int(1), Value::Array(vec![Value::NullBulk])]),
            ),
            ("#t\r\n", Value::Bool(true)),
            (",-inf\r\n", Value::Double(f64::NEG_INFINITY)),
            (",1.5\r\n", Value::Double(1.5)),
            ("(123456789012345678901234\r\n", Value::BigNumber("123456789012345678901234".into())),
            ("!5\r\nERR x\r\n", Value::BulkError("ERR x".into())),
            ("=6\r\ntxt:hi\r\n", Value::Verbatim(*b"txt", "hi".into())),
            ("%1\r\n+a\r\n:1\r\n", Value::Map(vec![(Value::Simple("a".into()), Value::Int(1))])),
            ("~1\r\n#f\r\n", Value::Set(vec![Value::Bool(false)])),
            (">1\r\n+m\r\n", Value::Push(vec![Value::Simple("m".into())])),
            (
                "|1\r\n+ttl\r\n:3\r\n$1\r\nx\r\n",
                Value::Attributed(vec![(Value::Simple("ttl".into()), Value::Int(3))], Box::new(bulk("x"))),
            ),
        ];
        for (text, value) in table {
            assert_eq!(parse(text.as_bytes()), Ok(Some((value.clone(), text.len()))), "{text:?}");
            let mut written = Vec::new();
            value.write(&mut written);
            assert_eq!(written, text.as_bytes());
            for cut in 0..text.len() {
                assert_eq!(parse(&text.as_bytes()[..cut]), Ok(None), "{text:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_not_a_reply_is_refused() {
        let table: [(&str, ValueError); 11] = [
            ("?\r\n", ValueError::UnknownType(b'?')),
            (":1.5\r\n", ValueError::BadNumber),
            ("$-2\r\n", ValueError::BadNumber),
            ("$1\r\nabc", ValueError::BadLine),
            ("+a\rb", ValueError::BadLine),
            ("#x\r\n", ValueError::BadLine),
            ("_x\r\n", ValueError::BadLine),
            ("=2\r\nab\r\n", ValueError::BadLine),
            (",one\r\n", ValueError::BadNumber),
            ("$999999999999\r\n", ValueError::TooBig),
            ("*2147483648\r\n", ValueError::TooBig),
        ];
        for (text, error) in table {
            assert_eq!(parse(text.as_bytes()), Err(error), "{text:?}");
        }
        assert_eq!(parse("*1\r\n".repeat(100).as_bytes()), Err(ValueError::TooDeep));
        assert_eq!(parse(&vec![b'+'; LINE_BYTES_MAX + 1]), Err(ValueError::BadLine));
        assert_eq!(parse(b"*1000000000\r\n"), Ok(None));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let text = "[a-zA-Z0-9 ]{0,12}".prop_map(String::into_bytes);
        let leaf = prop_oneof![
            text.clone().prop_map(Value::Simple),
            text.prop_map(Value::Error),
            any::<i64>().prop_map(Value::Int),
            prop::collection::vec(any::<u8>(), 0..40).prop_map(Value::Bulk),
            any::<f64>().prop_filter("NaN is unequal to itself", |v| !v.is_nan()).prop_map(Value::Double),
            any::<bool>().prop_map(Value::Bool),
            Just(Value::NullBulk),
            Just(Value::NullArray),
            Just(Value::Null),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            let some = prop::collection::vec(inner.clone(), 0..6);
            let pairs = prop::collection::vec((inner.clone(), inner.clone()), 0..4);
            prop_oneof![
                some.clone().prop_map(Value::Array),
                some.prop_map(Value::Set),
                pairs.clone().prop_map(Value::Map),
                (pairs, inner).prop_map(|(pairs, value)| Value::Attributed(pairs, Box::new(value))),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in any_value()) {
            let mut text = Vec::new();
            value.write(&mut text);
            prop_assert_eq!(Value::parse(&text), Ok(Some((value, text.len()))));
            for cut in 0..text.len() {
                prop_assert_eq!(Value::parse(&text[..cut]), Ok(None));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Value::parse(&bytes);
        }
    }
}
