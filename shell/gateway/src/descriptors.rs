//! Whether a descriptor that was just opened may be kept, as [`skep_gate::protect::descriptors`] says.
//!
//! A new descriptor has the lowest number that is free (POSIX.1-2017, "File Descriptor Allocation"). So its number tells that
//! as many are open below it, whoever opened them, and nobody has to count.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use skep_gate::protect::descriptors::{For, has_room};

/// Connections of the process that fit.
static FIT: AtomicU64 = AtomicU64::new(u64::MAX);

/// Tells how many connections of all kinds the process may have.
pub fn set_fit(fit: u64) {
    FIT.store(fit, Ordering::Relaxed);
}

fn may_keep(socket: &impl AsRawFd, whom: For) -> bool {
    let open = u64::try_from(socket.as_raw_fd()).expect("an open one has a number");
    has_room(whom, open, FIT.load(Ordering::Relaxed))
}

/// Whether a client that was just let in may stay.
pub(crate) fn has_room_for_client(socket: &impl AsRawFd) -> bool {
    may_keep(socket, For::Client)
}

/// Whether nothing could be opened because too much is open, of the process or of the machine.
pub(crate) fn is_want(error: &io::Error) -> bool {
    let known = Errno::from_io_error(error);
    matches!(known, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// Gives back what was just opened towards an upstream; or, if too many are open, closes it.
pub(crate) fn check<S: AsRawFd>(socket: S) -> Option<S> {
    may_keep(&socket, For::Upstream).then_some(socket)
}

#[cfg(test)]
mod tests {
    use std::os::fd::RawFd;

    use super::*;

    struct Numbered(RawFd);

    impl AsRawFd for Numbered {
        fn as_raw_fd(&self) -> RawFd {
            self.0
        }
    }

    /// One test: the limit is the process's.
    #[test]
    fn what_is_opened_is_kept_by_its_number_among_those_that_fit() {
        assert!(has_room_for_client(&Numbered(1 << 30)), "nobody has said how many fit");
        set_fit(800);
        let taken =
            [599, 600, 700].map(|n| (has_room_for_client(&Numbered(n)), check(Numbered(n)).is_some()));
        assert_eq!(taken, [(true, true), (false, true), (false, false)]);
        set_fit(u64::MAX);
        assert!(check(Numbered(1 << 30)).is_some());
    }
}
