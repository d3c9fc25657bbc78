//! What an operation of the log, of another node or of another cell is, by its arguments. Clients' own commands are looked up
//! in `local/` first: what is the node's there never becomes an operation, or becomes one with other arguments.

use skep_base::{Args, Refusal};
use skep_command::{CommandSpec, lookup};
use skep_keyspace::{Handler, handler_of};

use crate::transaction::EXEC;

/// The command and the function that shards run for it.
///
/// # Errors
/// If there is none: a version of skep that knows other commands than this one.
pub(crate) fn operation(args: Args<'_>) -> Result<(&'static CommandSpec, Handler), Refusal> {
    let command = match skep_command::resolve(args) {
        Ok(command) => command,
        // A client's has no arguments, but an operation has.
        Err(refusal) => {
            let exec = args.get(0).and_then(lookup).filter(|command| command.id() == EXEC);
            exec.ok_or(refusal)?
        }
    };
    handler_of(command).map(|handler| (command, handler)).ok_or_else(|| command.wrong_arity())
}
