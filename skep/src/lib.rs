//! The `skep` command, as a library so that its parts are tested one by one.
//!
//! Owns the command line, the layers of configuration, log output and signals, and wires the other crates together.
//! Decides nothing that a running cluster depends on.

pub mod chance;
pub mod cli;
pub mod commands;
pub mod config;
pub mod first_gateway;
pub mod gateway;
pub mod health;
pub mod in_force;
pub mod logging;
pub mod memory;
pub mod open_files;
pub mod recovery;
pub mod report;
pub mod serve;
pub mod signals;
pub mod store;
