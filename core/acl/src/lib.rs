//! Users and their rights, in the language of Redis 7.4's ACLs. See DESIGN.md beside this crate.
//!
//! [`User`] is what the cluster agrees on: it is changed by [`Rule`]s, and printed as rules that make it again.
//! [`Rights`] is what a node makes of it for its own command table, and checks commands against.
//! [`DenialLog`] keeps what was denied, [`Generator`] draws passwords. Pure: no clock, no randomness of its own.
//!
//! Invariant: no password is kept, only its SHA-256.

mod carried;
mod generate;
mod log;
mod password;
mod rights;
mod rule;
mod user;

pub use carried::{CarriedRights, NotRights, carry, without_rights};
pub use generate::{GENERATED_BITS_MAX, Generator};
pub use log::{Context, Denial, DenialLog, Reason};
pub use password::PasswordHash;
pub use rights::{Denied, Rights};
pub use rule::{Rule, RuleError, join_selectors};
pub use user::{DEFAULT_USER, KeyPattern, Selector, User, Users, is_valid_name};
