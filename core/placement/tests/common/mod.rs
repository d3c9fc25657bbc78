//! What the tests of this crate share. Not each of them uses all of it.

#![allow(dead_code)]

pub mod states;
pub mod world;
