//! The limit of open files, which is also a limit of connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are no clients: log segments, checkpoints, listeners, HTTP connections (at most 256), with room to spare.
const OTHER_FILES_MAX: u64 = 512;

/// Raises this process's limit of open files so that `clients` connections fit, as far as it may be raised. Gives how
/// many connections fit, at most `clients`.
pub fn make_room(clients: u64) -> u64 {
    let needed = clients.saturating_add(OTHER_FILES_MAX);
    let limit = getrlimit(Resource::Nofile);
    if allowed(limit.current) < needed {
        let raised = Rlimit { current: Some(needed.min(allowed(limit.maximum))), maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!(%error, "cannot raise the limit of open files");
        }
    }
    allowed(getrlimit(Resource::Nofile).current).saturating_sub(OTHER_FILES_MAX).clamp(1, clients.max(1))
}

/// No limit is the greatest.
fn allowed(limit: Option<u64>) -> u64 {
    limit.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_as_far_as_the_system_allows() {
        let hard = allowed(getrlimit(Resource::Nofile).maximum);
        assert_eq!(make_room(100), 100.min(hard.saturating_sub(OTHER_FILES_MAX).max(1)));
        assert!(make_room(u64::MAX) >= 1);
        assert!(allowed(getrlimit(Resource::Nofile).current) <= hard);
    }
}
