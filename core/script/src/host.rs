//! Who carries out the commands of a script: the keyspace, or a test's table.

use skep_base::Args;
use skep_resp::Reply;

/// The surroundings of a running script.
pub trait Host {
    /// Carries out one command and writes one whole reply, in `reply.protocol()`. What the host declines it answers with
    /// an error: unknown commands, a wrong number of arguments, commands that scripts may not call, writes in a script
    /// that only reads (see [`crate::refusals`] for the texts).
    ///
    /// Answers how many steps it took beside what its reply shows; the script may be at its end for it. The same on every
    /// replica.
    fn call(&mut self, command: Args, reply: &mut Reply) -> usize;

    /// True if the caller may run `command`, false if its rights do not allow it.
    ///
    /// # Errors
    /// [`UnknownCommand`] if there is no such command. The number of arguments is not looked at.
    fn may_call(&mut self, command: Args) -> Result<bool, UnknownCommand>;

    /// A line for the log, from `redis.log`.
    fn log(&mut self, level: LogLevel, message: &[u8]);
}

/// `redis.acl_check_cmd` was asked for a command that does not exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownCommand;

/// Levels of `redis.log`, as Redis numbers them from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LogLevel {
    Debug,
    Verbose,
    Notice,
    Warning,
}

/// What a host answers to commands that a script may not call, in Redis's words.
pub mod refusals {
    pub const UNKNOWN_COMMAND: &str = "ERR Unknown Redis command called from script";
    pub const WRONG_ARITY: &str = "ERR Wrong number of args calling Redis command from script";
    pub const NOT_FROM_SCRIPT: &str = "ERR This Redis command is not allowed from script";
    pub const NO_MEMORY: &str = "OOM command not allowed when used memory > 'maxmemory'.";
    pub const READ_ONLY: &str = "ERR Write commands are not allowed from read-only scripts.";
}
