//! The `skep` command, as a library so that its parts are tested one by one.
//!
//! Owns the command line, the layers of configuration, log output and signals, and wires the other crates together.
//! Decides nothing that a running cluster depends on.

pub mod cli;
pub mod config;
pub mod logging;
pub mod memory;
pub mod open_files;
pub mod report;
pub mod serve;
pub mod signals;
