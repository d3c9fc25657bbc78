//! What a command answers when it declines: the caller asked for something that cannot be had. State is unchanged.

use std::borrow::Cow;
use std::fmt;

use crate::args::OwnedArgs;

/// A refusal, rendered to the client as an error reply. Whoever returns one has changed nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The key holds a value of another type.
    WrongType,
    /// An argument is not a 64-bit integer.
    NotInteger,
    /// An argument is not a finite or infinite decimal number.
    NotFloat,
    /// The options do not parse or exclude each other.
    Syntax,
    /// The key does not exist and the command needs it.
    NoSuchKey,
    /// An index lies outside the value.
    IndexOutOfRange,
    /// The number of arguments is wrong; holds the command's name in lower case (`set`, `client|list`).
    WrongArity(Cow<'static, str>),
    /// There is nothing to answer with yet, and the command may wait for it: not an error. Nothing was changed.
    WouldWait(Unserved),
    /// Any other error, whole, prefix included: `ERR offset is out of range`.
    Text(Cow<'static, str>),
}

/// What a command leaves behind that found nothing and may wait.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Unserved {
    /// What it answers where waiting is not possible.
    pub in_vain: InVain,
    /// What waits, if not the arguments as they came: those that mean "from here on" say where that is.
    pub args: Option<Box<OwnedArgs>>,
}

/// What a command answers that found nothing and cannot wait, or waited in vain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum InVain {
    #[default]
    NullArray,
    /// A null string.
    Null,
    /// What it has written before it said that it would wait.
    Written,
}

impl Refusal {
    /// A refusal with a fixed text, prefix included.
    pub const fn text(message: &'static str) -> Refusal {
        Refusal::Text(Cow::Borrowed(message))
    }

    /// A refusal with a built text, prefix included. Line breaks are replaced when it is written to the client.
    pub fn format(message: String) -> Refusal {
        Refusal::Text(Cow::Owned(message))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::WrongType => {
                f.write_str("WRONGTYPE Operation against a key holding the wrong kind of value")
            }
            Refusal::NotInteger => f.write_str("ERR value is not an integer or out of range"),
            Refusal::NotFloat => f.write_str("ERR value is not a valid float"),
            Refusal::Syntax => f.write_str("ERR syntax error"),
            Refusal::NoSuchKey => f.write_str("ERR no such key"),
            Refusal::IndexOutOfRange => f.write_str("ERR index out of range"),
            Refusal::WrongArity(name) => write!(f, "ERR wrong number of arguments for '{name}' command"),
            Refusal::WouldWait(_) => f.write_str("ERR the command would wait"),
            Refusal::Text(text) => f.write_str(text),
        }
    }
}
