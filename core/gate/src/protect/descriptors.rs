//! How many of the process's descriptors the gateway takes: what is left is for the store, which ends the process if it cannot
//! open its log.

/// For whom a descriptor is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum For {
    /// A client that is let in.
    Client,
    /// A connection to an upstream, or what else is opened for a client that is there.
    Upstream,
}

impl For {
    /// Of eight parts of all, so many.
    fn eighths(self) -> u64 {
        match self {
            // Those that are there must be served, so the last that the gateway takes are not theirs.
            For::Client => 6,
            For::Upstream => 7,
        }
    }
}

/// Whether one more may be kept open, of a process in which `fit` may be and `open` are at least.
pub fn has_room(whom: For, open: u64, fit: u64) -> bool {
    u128::from(open) < u128::from(fit) * u128::from(whom.eighths()) / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_room_for_upstreams_and_both_for_the_store() {
        for (open, fit, client, upstream) in [
            (0, 800, true, true),
            (599, 800, true, true),
            (600, 800, false, true),
            (699, 800, false, true),
            (700, 800, false, false),
            (0, 1, false, false),
            (0, 0, false, false),
            (1 << 30, u64::MAX, true, true),
        ] {
            let found = (has_room(For::Client, open, fit), has_room(For::Upstream, open, fit));
            assert_eq!(found, (client, upstream), "{open} of {fit}");
        }
    }
}
