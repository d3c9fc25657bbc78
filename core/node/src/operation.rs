//! What an operation of the log, of another node or of another cell is, by its arguments. Clients' own commands are looked up
//! in `local/` first: what is the node's there never becomes an operation, or becomes one with other arguments.

use skep_base::{Args, Refusal};
use skep_command::{CommandSpec, lookup};
use skep_keyspace::{EXEC_READ, Handler, SCRIPT_READ, SCRIPT_WRITE, calls_script, handler_of};

use crate::transaction::EXEC;

/// The command and the function that shards run for it, as a write or as a read: some commands may be either.
///
/// # Errors
/// If there is none: a version of skep that knows other commands than this one.
pub(crate) fn operation(args: Args<'_>, logged: bool) -> Result<(&'static CommandSpec, Handler), Refusal> {
    let command = match skep_command::resolve(args) {
        Ok(command) => command,
        // A client's has no arguments, but an operation has.
        Err(refusal) => {
            let exec = args.get(0).and_then(lookup).filter(|command| command.id() == EXEC);
            exec.ok_or(refusal)?
        }
    };
    let handler = handler_of(command).ok_or_else(|| command.wrong_arity())?;
    let handler = match handler {
        Handler::Write(_) if !logged && command.id() == EXEC => EXEC_READ,
        Handler::Write(_) if !logged && calls_script(command) => SCRIPT_READ,
        Handler::Read(_) if logged && calls_script(command) => SCRIPT_WRITE,
        as_it_is => as_it_is,
    };
    Ok((command, handler))
}
