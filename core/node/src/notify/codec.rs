//! Events of keys on their way to other cells and nodes. Each: 0, db u8, varint class, name and key behind their lengths; or
//! 1, db u8: all keys of a database; or 2: something was missed, so any key may have changed.

use bytes::Bytes;
use skep_base::varint::{self, Malformed, Reader, put_bytes};
use skep_keyspace::events::{Class, Event};

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Seen<'a> {
    Key {
        db: u8,
        class: Class,
        name: &'a str,
        key: &'a [u8],
    },
    Database {
        db: u8,
    },
    /// Any key of any database may have changed.
    Missed,
}

pub(super) fn put(out: &mut Vec<u8>, events: &[Event]) {
    for event in events {
        match event {
            Event::Key { db, class, name, key } => {
                out.extend_from_slice(&[0, *db]);
                varint::put(out, *class as u64);
                put_bytes(out, name.as_bytes());
                put_bytes(out, key);
            }
            Event::Database { db, .. } => out.extend_from_slice(&[1, *db]),
            // Goes everywhere by itself.
            Event::Published { .. } => {}
        }
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
        0 => {
            let db = reader.u8()?;
            let class = u16::try_from(reader.varint()?).ok().and_then(Class::of);
            let Some(class) = class else { return reader.malformed("a class of events before this") };
            let Ok(name) = std::str::from_utf8(reader.bytes()?) else {
                return reader.malformed("the name of an event before this");
            };
            Seen::Key { db, class, name, key: reader.bytes()? }
        }
        1 => Seen::Database { db: reader.u8()? },
        2 => Seen::Missed,
        _ => return reader.malformed("a kind of event before this"),
    })
}

#[cfg(test)]
mod tests {
    use skep_keyspace::SmallBytes;
    use skep_keyspace::events::Whole;

    use super::*;

    #[test]
    fn events_come_back_as_they_were_and_damage_is_refused() {
        let key = SmallBytes::new(b"a key that is longer than what is kept in place");
        let events = [
            Event::Key { db: 3, class: Class::Silent, name: "", key: key.clone() },
            Event::Database { db: 15, why: Whole::Flushed },
            Event::Key { db: 0, class: Class::Expired, name: "expired", key: SmallBytes::new(b"") },
        ];
        let mut bytes = Vec::new();
        put(&mut bytes, &events);
        let expected = [
            Seen::Key { db: 3, class: Class::Silent, name: "", key: &key },
            Seen::Database { db: 15 },
            Seen::Key { db: 0, class: Class::Expired, name: "expired", key: b"" },
        ];
        assert_eq!(seen(&bytes).collect::<Result<Vec<_>, _>>().unwrap(), expected);
        assert_eq!(seen(&missed()).collect::<Result<Vec<_>, _>>().unwrap(), [Seen::Missed]);
        for at in 0..bytes.len() {
            assert!(seen(&bytes[..at]).count() <= 3);
            for flip in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << flip;
                assert!(seen(&bad).count() <= bad.len());
            }
        }
    }
}
