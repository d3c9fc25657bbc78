//! The commands that ask a running cluster, or tell it to do something. Each talks to one node, any of them.

mod ask;
pub mod gateway;
pub mod node;
pub mod status;
mod table;
mod tell;

use std::fmt;

/// Why a command did not do what it was asked to; the text is for the person who asked.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure(pub String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}
