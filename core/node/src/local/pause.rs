//! `CLIENT PAUSE`: commands wait in their connections until it is over.

use skep_base::Millis;
use skep_command::CommandSpec;

use crate::Node;

/// Commands without the flag of a write that wait for the end of a pause of writes all the same: messages, and scripts that do not
/// say that they only read.
const MAY_WRITE: [&str; 5] = ["publish", "spublish", "eval", "evalsha", "fcall"];

/// A pause in force.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pause {
    /// Monotonic.
    pub until: Millis,
    /// Reads go on.
    pub writes_only: bool,
}

impl Node {
    /// True if `command` has to wait. `CLIENT` is exempt, or nobody could end a pause.
    #[inline]
    pub(crate) fn is_paused(&self, command: &CommandSpec) -> bool {
        match self.paused {
            None => false,
            Some(_) if command.name.starts_with("client|") => false,
            Some(pause) => !pause.writes_only || command.is_write() || MAY_WRITE.contains(&command.name),
        }
    }

    /// Begins a pause, or makes the one in force longer and wider, never shorter or narrower, as Redis does.
    pub(crate) fn pause(&mut self, asked: Pause) {
        self.paused = Some(match self.paused {
            None => asked,
            Some(now) => {
                Pause { until: now.until.max(asked.until), writes_only: now.writes_only && asked.writes_only }
            }
        });
    }

    /// Ends a pause whose time is over.
    pub(crate) fn end_pause(&mut self) {
        if self.paused.is_some_and(|pause| pause.until <= self.now.mono) {
            self.unpause();
        }
    }

    /// Lets waiting clients go on.
    pub(crate) fn unpause(&mut self) {
        self.paused = None;
        self.to_resume.extend(self.clients.iter().filter(|c| c.waiting && c.pending() == 0).map(|c| c.id));
    }
}
