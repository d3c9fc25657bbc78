//! Events of keys on their way to other cells and nodes. Each: 0, db u8, varint class, name and key behind their lengths; or 3,
//! the same, varints cell and connection of the client that did it, between cells only; or 1, db u8: all keys of a database;
//! or 2: something was missed, so any key may have changed.

use bytes::Bytes;
use skep_base::ConnId;
use skep_base::varint::{self, Malformed, Reader, put_bytes};
use skep_keyspace::events::Class;

use super::Author;

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Seen<'a> {
    Key {
        db: u8,
        class: Class,
        name: &'a str,
        key: &'a [u8],
        by: Option<Author>,
    },
    Database {
        db: u8,
    },
    /// Any key of any database may have changed.
    Missed,
}

impl Seen<'_> {
    /// The same, without who did it: nobody whom another node knows.
    pub fn of_nobody(mut self) -> Self {
        if let Seen::Key { by, .. } = &mut self {
            *by = None;
        }
        self
    }
}

pub(super) fn put(out: &mut Vec<u8>, seen: Seen<'_>) {
    match seen {
        Seen::Key { db, class, name, key, by } => {
            out.extend_from_slice(&[if by.is_some() { 3 } else { 0 }, db]);
            varint::put(out, class as u64);
            put_bytes(out, name.as_bytes());
            put_bytes(out, key);
            if let Some(Author { cell, conn }) = by {
                varint::put(out, u64::from(cell));
                varint::put(out, conn.0);
            }
        }
        Seen::Database { db } => out.extend_from_slice(&[1, db]),
        Seen::Missed => out.push(2),
    }
}

/// A batch for who missed something.
pub(super) fn missed() -> Bytes {
    Bytes::from_static(&[2])
}

/// The events of a batch. Ends behind the first that is malformed.
pub(super) fn seen(batch: &[u8]) -> impl Iterator<Item = Result<Seen<'_>, Malformed>> {
    let mut reader = Some(Reader::new(batch));
    std::iter::from_fn(move || {
        let of = reader.as_mut().filter(|reader| reader.left() > 0)?;
        let seen = one(of);
        if seen.is_err() {
            reader = None;
        }
        Some(seen)
    })
}

fn one<'a>(reader: &mut Reader<'a>) -> Result<Seen<'a>, Malformed> {
    Ok(match reader.u8()? {
        tag @ (0 | 3) => {
            let db = reader.u8()?;
            let class = u16::try_from(reader.varint()?).ok().and_then(Class::of);
            let Some(class) = class else { return reader.malformed("a class of events before this") };
            let Ok(name) = std::str::from_utf8(reader.bytes()?) else {
                return reader.malformed("the name of an event before this");
            };
            let key = reader.bytes()?;
            let mut by = None;
            if tag == 3 {
                let Ok(cell) = u16::try_from(reader.varint()?) else {
                    return reader.malformed("the number of a cell before this");
                };
                by = Some(Author { cell, conn: ConnId(reader.varint()?) });
            }
            Seen::Key { db, class, name, key, by }
        }
        1 => Seen::Database { db: reader.u8()? },
        2 => Seen::Missed,
        _ => return reader.malformed("a kind of event before this"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_back_as_they_were_and_damage_is_refused() {
        let by = Some(Author { cell: 2, conn: ConnId(1 << 40) });
        let expected = [
            Seen::Key { db: 3, class: Class::Silent, name: "", key: b"key", by },
            Seen::Database { db: 15 },
            Seen::Key { db: 0, class: Class::Expired, name: "expired", key: b"", by: None },
            Seen::Missed,
        ];
        let mut bytes = Vec::new();
        expected.iter().for_each(|seen| put(&mut bytes, *seen));
        assert_eq!(seen(&bytes).collect::<Result<Vec<_>, _>>().unwrap(), expected);
        assert_eq!(seen(&missed()).collect::<Result<Vec<_>, _>>().unwrap(), [Seen::Missed]);
        for at in 0..bytes.len() {
            assert!(seen(&bytes[..at]).count() <= 4);
            for flip in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << flip;
                assert!(seen(&bad).count() <= bad.len());
            }
        }
    }
}
