//! The limit of open files, which is also a limit of connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are no clients: log segments, checkpoints, listeners, HTTP connections (at most 256), with room to spare.
const OTHER_FILES_MAX: u64 = 512;

/// Raises this process's limit of open files as far as it may be raised, since `maxclients` may grow later. Gives how
/// many connections fit: never so many that the log could not open its files.
pub fn make_room() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!(%error, "cannot raise the limit of open files");
        }
    }
    room(allowed(getrlimit(Resource::Nofile).current))
}

/// Under a limit of a few hundred clients get half.
fn room(files: u64) -> u64 {
    (files - OTHER_FILES_MAX.min(files / 2)).max(1)
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
        assert_eq!(make_room(), room(hard));
        assert_eq!(allowed(getrlimit(Resource::Nofile).current), hard);
    }

    #[test]
    fn files_are_left_for_the_log() {
        assert_eq!([0, 1, 64, 1024, 20_000].map(room), [1, 1, 32, 512, 19_488]);
        assert_eq!(room(u64::MAX), u64::MAX - OTHER_FILES_MAX);
    }
}
