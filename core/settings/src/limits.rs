//! `client-output-buffer-limit`: how much a client may leave unread before it is disconnected, by class of client.

use std::fmt::Write;

use crate::{BadValue, kind::parse_bytes};

/// The limits of the three classes of client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OutputLimits {
    /// Every client that is in no other class.
    pub normal: ClassLimit,
    /// Redis's replicas. There are none here; the value is remembered.
    pub replica: ClassLimit,
    /// Clients that subscribe to a channel.
    pub pubsub: ClassLimit,
}

/// The limits of one class. 0 is no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ClassLimit {
    /// Past it the client is disconnected at once.
    pub hard_bytes: u64,
    /// Past it for `soft_seconds` on end the client is disconnected.
    pub soft_bytes: u64,
    pub soft_seconds: u64,
}

const CLASS_NAMES: [&str; 3] = ["normal", "slave", "pubsub"];

impl OutputLimits {
    /// Parses `class hard soft seconds` quadruples and lays them over `self`: classes that are not named stay.
    pub(crate) fn overlaid(self, text: &str) -> Result<OutputLimits, BadValue> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        if words.is_empty() || !words.len().is_multiple_of(4) {
            return Err(BadValue::Other("Wrong number of arguments in buffer limit configuration."));
        }
        let mut limits = self;
        for quad in words.chunks_exact(4) {
            let class = limits
                .class_mut(quad[0])
                .ok_or(BadValue::Other("Invalid client class specified in buffer limit configuration."))?;
            let broken =
                BadValue::Other("Error in hard, soft or soft_seconds setting in buffer limit configuration.");
            *class = (|| {
                Some(ClassLimit {
                    hard_bytes: parse_bytes(quad[1])?,
                    soft_bytes: parse_bytes(quad[2])?,
                    soft_seconds: quad[3].parse().ok()?,
                })
            })()
            .ok_or(broken)?;
        }
        Ok(limits)
    }

    fn class_mut(&mut self, name: &str) -> Option<&mut ClassLimit> {
        match name.to_ascii_lowercase().as_str() {
            "normal" => Some(&mut self.normal),
            "replica" | "slave" => Some(&mut self.replica),
            "pubsub" => Some(&mut self.pubsub),
            _ => None,
        }
    }

    /// As `CONFIG GET` shows it.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        for (name, class) in CLASS_NAMES.iter().zip([self.normal, self.replica, self.pubsub]) {
            let gap = if out.is_empty() { "" } else { " " };
            write!(out, "{gap}{name} {} {} {}", class.hard_bytes, class.soft_bytes, class.soft_seconds)
                .expect("a String takes every write");
        }
        out
    }
}
