//! The settings of a node: one table that drives flags, variables, the TOML file, `CONFIG GET` and `CONFIG SET`.
//!
//! Owns names, defaults, ranges, units, and the text form of every value. Does not own where a value comes from (the
//! `skep` binary layers file, environment and flags) nor what a value does (whoever reads the accessor).
//!
//! Invariant: a [`Settings`] always holds a valid value for every row of [`SETTINGS`], and `set(name, get(name))`
//! changes nothing.

mod command;
mod error;
mod kind;
mod limits;
mod settings;
mod spec;
mod table;

pub use command::{ConfigSet, names_shared};
pub use error::{BadValue, SettingError};
pub use kind::{Kind, Value, human_bytes, parse_bytes};
pub use limits::{ClassLimit, OutputLimits};
pub use settings::{Durability, LogFormat, LogLevel, Settings};
pub use spec::{Effect, SettingSpec, find, nearest, nearest_of};
pub use table::SETTINGS;
