//! Classes of events, and the letters of `notify-keyspace-events` that choose among them.

use std::fmt;

/// What kind of event it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Class {
    /// `g`: on keys of any type.
    Generic = 1 << 0,
    /// `$`
    String = 1 << 1,
    /// `l`
    List = 1 << 2,
    /// `s`
    Set = 1 << 3,
    /// `h`
    Hash = 1 << 4,
    /// `z`
    SortedSet = 1 << 5,
    /// `x`: a key's deadline has passed and the key was removed.
    Expired = 1 << 6,
    /// `e`: a key was removed because memory is short.
    Evicted = 1 << 7,
    /// `t`
    Stream = 1 << 8,
    /// `d`: what Redis has for types of modules; queues here.
    Module = 1 << 9,
    /// `n`: a key came.
    New = 1 << 10,
    /// `m`: a key was looked for in vain. It has not changed.
    Miss = 1 << 14,
    /// No letter: the key changed, and Redis notifies nobody.
    Silent = 1 << 15,
}

impl Class {
    /// The class of this number, which is the value of its constant.
    pub fn of(number: u16) -> Option<Class> {
        use Class::*;
        [Generic, String, List, Set, Hash, SortedSet, Expired, Evicted, Stream, Module, New, Miss, Silent]
            .into_iter()
            .find(|class| *class as u16 == number)
    }
}

/// The value of `notify-keyspace-events`.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct NotifyFlags(u16);

/// Each letter and the bit it stands for, in the order in which Redis prints them.
const LETTERS: [(u8, u16); 14] = [
    (b'g', Class::Generic as u16),
    (b'$', Class::String as u16),
    (b'l', Class::List as u16),
    (b's', Class::Set as u16),
    (b'h', Class::Hash as u16),
    (b'z', Class::SortedSet as u16),
    (b'x', Class::Expired as u16),
    (b'e', Class::Evicted as u16),
    (b't', Class::Stream as u16),
    (b'd', Class::Module as u16),
    (b'n', Class::New as u16),
    (b'K', KEYSPACE),
    (b'E', KEYEVENT),
    (b'm', Class::Miss as u16),
];

const KEYSPACE: u16 = 1 << 12;
const KEYEVENT: u16 = 1 << 13;

/// What `A` stands for: all classes but `n` and `m`.
const ALL: u16 = (1 << 10) - 1;

impl NotifyFlags {
    /// Reads letters in any order; the same may come twice. `None` if one is unknown.
    pub fn parse(letters: &[u8]) -> Option<NotifyFlags> {
        letters.iter().try_fold(NotifyFlags(0), |flags, letter| {
            let bits = match letter {
                b'A' => ALL,
                letter => LETTERS.iter().find(|(known, _)| known == letter)?.1,
            };
            Some(NotifyFlags(flags.0 | bits))
        })
    }

    /// True if somebody may get something: there is a class, and a channel for it.
    pub fn notifies(self) -> bool {
        let classes = ALL | Class::New as u16 | Class::Miss as u16;
        self.0 & classes != 0 && self.0 & (KEYSPACE | KEYEVENT) != 0
    }

    /// True if events of `class` are notified.
    #[inline]
    pub fn has(self, class: Class) -> bool {
        self.0 & class as u16 != 0
    }

    /// True if events go to `__keyspace@N__:key`.
    #[inline]
    pub fn by_key(self) -> bool {
        self.0 & KEYSPACE != 0
    }

    /// True if events go to `__keyevent@N__:name`.
    #[inline]
    pub fn by_event(self) -> bool {
        self.0 & KEYEVENT != 0
    }
}

impl fmt::Display for NotifyFlags {
    /// The letters as `CONFIG GET` shows them. Reading them again gives the same flags, for which `n` is shown beside `A`:
    /// Redis leaves it out there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.0 & ALL == ALL;
        if all {
            f.write_str("A")?;
        }
        for (letter, bit) in LETTERS {
            if self.0 & bit != 0 && !(all && ALL & bit != 0) {
                write!(f, "{}", char::from(letter))?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for NotifyFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NotifyFlags({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_read_in_any_order_and_printed_in_that_of_redis() {
        for (given, shown) in [
            ("", ""),
            ("KEA", "AKE"),
            ("Kg$lshzxetd", "AK"),
            ("Exg", "gxE"),
            ("mnAEK", "AnKEm"),
            ("nE", "nE"),
            ("KKgg", "gK"),
            ("tz$K", "$ztK"),
        ] {
            let flags = NotifyFlags::parse(given.as_bytes()).unwrap();
            assert_eq!(flags.to_string(), shown, "{given}");
            assert_eq!(NotifyFlags::parse(shown.as_bytes()), Some(flags));
        }
        for bad in ["q", "KEa", "K E", "\0"] {
            assert_eq!(NotifyFlags::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_class_without_a_channel_notifies_nobody() {
        for (letters, notifies) in
            [("", false), ("A", false), ("KE", false), ("Km", true), ("Kn", true), ("Ed", true)]
        {
            assert_eq!(NotifyFlags::parse(letters.as_bytes()).unwrap().notifies(), notifies, "{letters}");
        }
    }

    #[test]
    fn a_silent_event_has_no_letter() {
        let all = NotifyFlags::parse(b"AKEnm").unwrap();
        assert!(!all.has(Class::Silent));
        assert!(all.has(Class::Module) && all.has(Class::New) && all.by_key() && all.by_event());
    }
}
