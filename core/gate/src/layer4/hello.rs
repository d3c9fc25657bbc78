//! The first message of a TLS client (RFC 8446, section 4.1.2), read for the name of the server that it asks for.
//!
//! Nothing of it is changed or kept: the connection goes on to who can answer it.

/// A client hello is smaller, also with keys for exchanges after quantum computers; longer ones are no honest ones.
pub const HELLO_BYTES_MAX: usize = 16 << 10;

/// What the beginning of a connection says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Hello {
    /// It goes on.
    NeedMore,
    /// It asks for this name, in lower case.
    Name(String),
    /// It asks for no name.
    Nameless,
    /// It is no TLS, or more than [`HELLO_BYTES_MAX`].
    NotTls,
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// Reads what has come so far. Cost: O(bytes).
pub fn read(bytes: &[u8]) -> Hello {
    let message = match handshake(bytes) {
        Ok(message) => message,
        Err(hello) => return hello,
    };
    match extensions(&message).and_then(name) {
        Some(Some(name)) => Hello::Name(name),
        Some(None) => Hello::Nameless,
        None => Hello::NotTls,
    }
}

/// The handshake message, which may lie in several records.
fn handshake(bytes: &[u8]) -> Result<Vec<u8>, Hello> {
    let (mut message, mut rest) = (Vec::new(), bytes);
    loop {
        if let [kind, a, b, c, ..] = message[..] {
            let len = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            if kind != CLIENT_HELLO || len > HELLO_BYTES_MAX {
                return Err(Hello::NotTls);
            }
            if message.len() >= len + 4 {
                return Ok(message[4..len + 4].to_vec());
            }
        }
        if bytes.len() > HELLO_BYTES_MAX {
            return Err(Hello::NotTls);
        }
        match rest {
            [kind, ..] if *kind != HANDSHAKE => return Err(Hello::NotTls),
            [_, major, ..] if *major != 3 => return Err(Hello::NotTls),
            [_, _, _, high, low, body @ ..] => {
                let len = usize::from(*high) << 8 | usize::from(*low);
                if len == 0 || len > HELLO_BYTES_MAX {
                    return Err(Hello::NotTls);
                }
                if body.len() < len {
                    return Err(Hello::NeedMore);
                }
                message.extend_from_slice(&body[..len]);
                rest = &body[len..];
            }
            _ => return Err(Hello::NeedMore),
        }
    }
}

/// Takes a field with a length of `width` bytes in front.
fn field<'b>(bytes: &mut &'b [u8], width: usize) -> Option<&'b [u8]> {
    let (len, rest) = bytes.split_at_checked(width)?;
    let len = len.iter().fold(0usize, |n, b| n << 8 | usize::from(*b));
    let (field, rest) = rest.split_at_checked(len)?;
    *bytes = rest;
    Some(field)
}

fn extensions(message: &[u8]) -> Option<&[u8]> {
    // Version and random.
    let mut rest = message.get(34..)?;
    field(&mut rest, 1)?;
    field(&mut rest, 2)?;
    field(&mut rest, 1)?;
    // Without extensions the message ends here.
    if rest.is_empty() { Some(rest) } else { field(&mut rest, 2) }
}

fn name(mut extensions: &[u8]) -> Option<Option<String>> {
    while !extensions.is_empty() {
        let (kind, rest) = extensions.split_at_checked(2)?;
        extensions = rest;
        let mut body = field(&mut extensions, 2)?;
        if u16::from_be_bytes([kind[0], kind[1]]) != SERVER_NAME {
            continue;
        }
        let mut list = field(&mut body, 2)?;
        let (kind, rest) = list.split_first()?;
        list = rest;
        let host = std::str::from_utf8(field(&mut list, 2)?).ok()?;
        let good = *kind == HOST_NAME && crate::router::is_host(host);
        return good.then(|| Some(host.to_ascii_lowercase()));
    }
    Some(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hello with this name, in records of at most `piece` bytes.
    fn hello(name: Option<&str>, piece: usize) -> Vec<u8> {
        let mut extensions = vec![0, 23, 0, 0];
        if let Some(name) = name {
            let n = name.len() as u16;
            extensions.extend([0, 0]);
            extensions.extend((n + 5).to_be_bytes());
            extensions.extend((n + 3).to_be_bytes());
            extensions.push(0);
            extensions.extend(n.to_be_bytes());
            extensions.extend(name.as_bytes());
        }
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        let mut message = vec![CLIENT_HELLO, 0, (body.len() >> 8) as u8, body.len() as u8];
        message.extend(body);
        let record = |part: &[u8]| {
            let mut record = vec![HANDSHAKE, 3, 1, 0, part.len() as u8];
            record.extend_from_slice(part);
            record
        };
        message.chunks(piece).flat_map(record).collect()
    }

    #[test]
    fn the_name_is_found_in_any_number_of_records() {
        for piece in [1, 7, 50, 200] {
            let bytes = hello(Some("Db.Example.com"), piece);
            assert_eq!(read(&bytes), Hello::Name("db.example.com".to_owned()), "{piece}");
            for cut in 0..bytes.len() {
                assert_eq!(read(&bytes[..cut]), Hello::NeedMore, "{piece} {cut}");
            }
            assert_eq!(read(&hello(None, piece)), Hello::Nameless);
        }
    }

    #[test]
    fn what_is_no_hello_is_told_at_once_and_nothing_panics() {
        assert_eq!(read(b"GET / HTTP/1.1\r\n"), Hello::NotTls);
        assert_eq!(read(&[22, 2]), Hello::NotTls);
        assert_eq!(read(&hello(Some("a b"), 200)), Hello::NotTls);
        let bytes = hello(Some("db.example.com"), 200);
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                let _ = read(&changed);
            }
        }
        let endless: Vec<u8> = (0..4000).flat_map(|_| [22, 3, 1, 0, 1, 1]).collect();
        assert_eq!(read(&endless), Hello::NotTls);
    }
}
