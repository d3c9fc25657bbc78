//! How many of the process's descriptors the gateway takes: what is left is for the store, which ends the process if it cannot
//! open its log.
//!
//! A new descriptor has the lowest number that is free (POSIX.1-2017, "File Descriptor Allocation"). So its number tells that
//! as many are open below it, whoever opened them, and nobody has to count.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::io::Errno;

/// Connections of the process that fit.
static FIT: AtomicI32 = AtomicI32::new(RawFd::MAX);

/// Tells how many connections of all kinds the process may have. The gateway takes new clients below three quarters of that
/// number, and what it opens for them below seven eighths.
pub fn set_fit(fit: u64) {
    FIT.store(RawFd::try_from(fit).unwrap_or(RawFd::MAX), Ordering::Relaxed);
}

fn is_below(socket: &impl AsRawFd, eighths: i64) -> bool {
    i64::from(socket.as_raw_fd()) < i64::from(FIT.load(Ordering::Relaxed)) * eighths / 8
}

/// Whether a client that was just let in may stay.
pub(crate) fn has_room_for_client(socket: &impl AsRawFd) -> bool {
    is_below(socket, 6)
}

/// Whether nothing could be opened because too much is open, of the process or of the machine.
pub(crate) fn is_want(error: &io::Error) -> bool {
    let known = Errno::from_io_error(error);
    matches!(known, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// Gives back what was just opened towards an upstream; or, if too many are open, closes it.
pub(crate) fn check<S: AsRawFd>(socket: S) -> Option<S> {
    is_below(&socket, 7).then_some(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Numbered(RawFd);

    impl AsRawFd for Numbered {
        fn as_raw_fd(&self) -> RawFd {
            self.0
        }
    }

    /// One test: the limit is the process's.
    #[test]
    fn clients_leave_room_for_upstreams_and_both_for_the_store() {
        assert!(has_room_for_client(&Numbered(1 << 30)), "nobody has said how many fit");
        set_fit(800);
        let taken = [0, 599, 600, 699, 700]
            .map(|n| (has_room_for_client(&Numbered(n)), check(Numbered(n)).is_some()));
        assert_eq!(taken, [(true, true), (true, true), (false, true), (false, true), (false, false)]);
        set_fit(u64::MAX);
        assert!(check(Numbered(1 << 30)).is_some());
    }
}
