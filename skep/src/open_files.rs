//! The limit of open files, which is also a limit of connections.

use std::io::stderr;
use std::os::fd::AsRawFd;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are no clients: log segments, checkpoints, listeners, links, HTTP connections (at most 256), with room to spare.
const OTHER_FILES_MAX: u64 = 512;

/// Of these a part is kept for the log, however many are open already.
const KEPT_SHARE: u64 = 4;

/// How many files may be open.
#[derive(Clone, Copy)]
pub struct Room {
    allowed: u64,
}

impl Room {
    /// How many connections fit: never so many that the log could not open its files.
    pub fn clients(self) -> u64 {
        (self.allowed - self.others_max()).max(1)
    }

    /// How many may be open, of all kinds, when a client is let in. `open_at_start` are among those that are no clients: they
    /// are kept once, as open ones, and leave room for [`Room::clients`].
    pub fn descriptors(self, open_at_start: u64) -> u64 {
        let others_max = self.others_max();
        let kept = others_max.saturating_sub(open_at_start).max(others_max / KEPT_SHARE);
        (self.allowed - kept).max(1)
    }

    /// Under a limit of a few hundred clients get half.
    fn others_max(self) -> u64 {
        OTHER_FILES_MAX.min(self.allowed / 2)
    }
}

/// Raises this process's limit of open files as far as it may be raised, since `maxclients` may grow later.
pub fn make_room() -> Room {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!(%error, "cannot raise the limit of open files");
        }
    }
    Room { allowed: allowed(getrlimit(Resource::Nofile).current) }
}

/// How many files are open: a new one has the lowest number that is free (POSIX, file descriptor allocation).
pub fn count_open() -> u64 {
    fcntl_dupfd_cloexec(stderr(), 0).map_or(0, |next| u64::try_from(next.as_raw_fd()).unwrap_or(0))
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
        assert_eq!(make_room().allowed, hard);
        assert_eq!(allowed(getrlimit(Resource::Nofile).current), hard);
    }

    #[test]
    fn files_are_left_for_the_log() {
        let clients = |allowed| Room { allowed }.clients();
        assert_eq!([0, 1, 64, 1024, 20_000].map(clients), [1, 1, 32, 512, 19_488]);
        assert_eq!(clients(u64::MAX), u64::MAX - OTHER_FILES_MAX);
    }

    #[test]
    fn what_is_open_at_the_start_takes_no_place_of_a_client() {
        let (few, many) = (Room { allowed: 1024 }, Room { allowed: 20_000 });
        for open in [0, 40, 384] {
            assert_eq!(few.descriptors(open) - open, few.clients());
            assert_eq!(many.descriptors(open) - open, many.clients());
        }
        assert_eq!(few.descriptors(1_000), 1024 - 128, "the log has its files whatever is open");
        assert_eq!(Room { allowed: 0 }.descriptors(0), 1);
    }

    #[test]
    fn the_three_files_of_every_process_are_counted() {
        assert!(count_open() >= 3);
    }
}
