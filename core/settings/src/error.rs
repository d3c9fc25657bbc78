//! Why a setting is refused, in two dialects: for a person who starts a node (`Display`), and for a client of
//! `CONFIG SET`, in Redis's words ([`SettingError::refusal`]).

use std::fmt;

use skep_base::Refusal;

use crate::{Kind, find, nearest};

/// Why a setting was not taken. Nothing has changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SettingError {
    /// No row of the table has this name.
    Unknown { name: String },
    /// `CONFIG SET` of a setting that is read at start only, or of a fact.
    Immutable { name: &'static str },
    /// One `CONFIG SET` names the same setting twice.
    Duplicate { name: &'static str },
    /// The value does not parse or is out of range.
    Bad { name: &'static str, value: String, why: BadValue },
}

/// What is wrong with a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BadValue {
    /// Not a number of bytes.
    NotBytes,
    /// Not an integer.
    NotInteger,
    /// A number out of its range.
    OutOfRange { min: i128, max: i128 },
    /// Neither `yes` nor `no`.
    NotYesNo,
    /// None of the words that are allowed.
    NotChoice(&'static [&'static str]),
    /// Any other, with the text that clients of `CONFIG SET` get.
    Other(&'static str),
}

impl SettingError {
    /// The reply of `CONFIG SET`, as Redis 7 words it (observed with redis-server 7.0.15).
    pub fn refusal(&self) -> Refusal {
        match self {
            SettingError::Unknown { name } => Refusal::format(format!(
                "ERR Unknown option or number of arguments for CONFIG SET - '{}'",
                name.chars().take(SHOWN_CHARS_MAX).collect::<String>()
            )),
            SettingError::Immutable { name } => failed(name, "can't set immutable config"),
            SettingError::Duplicate { name } => failed(name, "duplicate parameter"),
            SettingError::Bad { name, why, .. } => failed(name, &why.redis_text()),
        }
    }
}

/// As much of a wrong name or value as an error repeats; the client may have sent megabytes.
const SHOWN_CHARS_MAX: usize = 100;

fn failed(name: &str, why: &str) -> Refusal {
    Refusal::format(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"))
}

impl BadValue {
    fn redis_text(&self) -> String {
        match self {
            BadValue::NotBytes => "argument must be a memory value".to_owned(),
            BadValue::NotInteger => "argument couldn't be parsed into an integer".to_owned(),
            BadValue::OutOfRange { min, max } => {
                format!("argument must be between {min} and {max} inclusive")
            }
            BadValue::NotYesNo => "argument must be 'yes' or 'no'".to_owned(),
            BadValue::NotChoice(words) => {
                format!("argument(s) must be one of the following: {}", words.join(", "))
            }
            BadValue::Other(text) => (*text).to_owned(),
        }
    }
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingError::Unknown { name } => {
                write!(f, "unknown key `{name}`")?;
                match nearest(name) {
                    Some(near) => write!(f, "; did you mean `{near}`?"),
                    None => Ok(()),
                }
            }
            SettingError::Immutable { name } => write!(f, "`{name}` can be changed only at start"),
            SettingError::Duplicate { name } => write!(f, "`{name}` is given twice"),
            SettingError::Bad { name, value, .. } => {
                let spec = find(name).expect("a bad value is of a setting in the table");
                match spec.kind {
                    // A password is shown to nobody, not even when it is refused.
                    Kind::Secret => write!(f, "`{name}` has {} bytes", value.len())?,
                    _ => write!(f, "`{name}` is `{}`", shown(value))?,
                }
                write!(f, "; it must be {}", spec.kind.allowed())?;
                match spec.unit {
                    "" | "bytes" => Ok(()),
                    unit => write!(f, " ({unit})"),
                }
            }
        }
    }
}

impl std::error::Error for SettingError {}

/// A value as an error shows it: one line, not too long.
fn shown(value: &str) -> String {
    let mut out: String = value.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect();
    if value.chars().nth(SHOWN_CHARS_MAX).is_some() {
        out.push('…');
    }
    out
}
