//! SIGTERM and SIGINT as a call on a thread of their own, which may wake an event loop.

use std::io;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// A signal that asks the node to stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopSignal {
    Terminate,
    Interrupt,
}

impl StopSignal {
    /// Its name, for the log.
    pub fn name(self) -> &'static str {
        match self {
            StopSignal::Terminate => "SIGTERM",
            StopSignal::Interrupt => "SIGINT",
        }
    }

    /// The exit status of a process that the signal ended, as shells give it: 128 + its number.
    fn exit_code(self) -> i32 {
        match self {
            StopSignal::Terminate => 128 + SIGTERM,
            StopSignal::Interrupt => 128 + SIGINT,
        }
    }
}

/// Calls `stop` once, on a thread of its own, when the first SIGTERM or SIGINT arrives: set a flag and wake the loop
/// (`mio::Waker`, a channel). A second signal ends the process at once, for people who do not want to wait; nothing
/// that is on disk is lost by that.
///
/// The thread lives as long as the process. Call once.
///
/// # Errors
/// The handlers could not be installed, or the thread not started.
pub fn on_stop(stop: impl FnOnce(StopSignal) + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut arrived = signals
            .forever()
            .map(|number| if number == SIGTERM { StopSignal::Terminate } else { StopSignal::Interrupt });
        if let Some(first) = arrived.next() {
            stop(first);
        }
        if let Some(second) = arrived.next() {
            tracing::warn!("{} again, ending at once", second.name());
            std::process::exit(second.exit_code());
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    // The only test of this process that raises a signal: a second one would end it.
    #[test]
    fn the_first_signal_is_a_call() {
        let (sender, receiver) = std::sync::mpsc::channel();
        on_stop(move |signal| sender.send(signal).unwrap()).unwrap();
        signal_hook::low_level::raise(SIGTERM).unwrap();
        assert_eq!(receiver.recv(), Ok(StopSignal::Terminate));
    }
}
