//! `ONCE token command [arg ...]`: a write that is run at most once for its token; a repeat gets the first reply.

use skep_base::{Args, Refusal, slot_of};
use skep_command::{CommandSpec, resolve};
use skep_resp::Reply;

use super::Group;
use super::scripts::{NO_MEMORY_FOR_SCRIPT, calls_script};
use crate::context::WriteCx;
use crate::dispatch::Handler::Write;
use crate::dispatch::{Handler, handler_of};
use crate::once::{Known, Request};

pub const COMMANDS: Group = &[("once", Write(once))];

/// The longest token: room for any id with a prefix. A token is kept in memory, for a day as a rule.
const TOKEN_BYTES_MAX: usize = 256;

/// Whatever the command answers is its first reply, an error like WRONGTYPE too. What ONCE itself refuses, because the
/// command is unknown, has no keys or only reads, or since its entry says that there is no memory for scripts, leaves the token unused;
/// so does a call of a script or function that is not known.
///
/// The reply is kept in a form from which that of either protocol is made: it is state, and the log does not say what the
/// client spoke; and a repeat may come over a connection that speaks the other.
fn once(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let (token, call) = (&args[1], args.from(2));
    if !(1..=TOKEN_BYTES_MAX).contains(&token.len()) {
        let text = format!("ERR token is {} bytes, 1 to {TOKEN_BYTES_MAX} are allowed", token.len());
        return Err(Refusal::format(text));
    }
    let command = resolve(call)?;
    let handler = write_of(command)?;
    let Ok(keys) = command.keys(call) else {
        handler.write(cx, call, reply); // it refuses its number of keys
        return Ok(());
    };
    let Some(first_key) = keys.first() else { return Err(refused(command, "has no keys")) };
    let request = Request::of(cx.db, cx.keyspace.as_sent(command, call));
    match cx.keyspace.once.look_up(token, request, cx.now) {
        Known::OtherRequest => Err(Refusal::text("ERR token was used for another command")),
        Known::Repeat(stored) => {
            put_reply(stored, reply);
            Ok(())
        }
        // What a script without memory answers is not for as long as a reply is kept.
        Known::New if cx.keyspace.has_no_memory() && calls_script(command) => Err(NO_MEMORY_FOR_SCRIPT),
        // It is refused as unknown; its client sends the source with the same token, or loads the library.
        Known::New if calls_unknown(cx, command, call) => {
            handler.write(cx, call, reply);
            Ok(())
        }
        Known::New => {
            let mut stored = Vec::new();
            handler.write(cx, call, &mut Reply::to_store(&mut stored));
            put_reply(&stored, reply);
            let slot = slot_of(&call[first_key]);
            let deadline = cx.now.plus(cx.keyspace.once.retention_ms);
            cx.keyspace.once.insert(token, request, slot, &stored, deadline);
            Ok(())
        }
    }
}

/// True for a call by name of a script or function that is not known.
fn calls_unknown(cx: &WriteCx, command: &CommandSpec, call: Args) -> bool {
    matches!(command.name, "evalsha" | "fcall") && cx.keyspace.script_flags(call).is_none()
}

/// The function of a command that ONCE may run.
fn write_of(command: &CommandSpec) -> Result<Handler, Refusal> {
    if command.name == "once" {
        return Err(refused(command, "has a token of its own"));
    }
    match handler_of(command) {
        Some(handler @ Write(_)) => Ok(handler),
        _ => Err(refused(command, "is not a write on keys, repeat it freely")),
    }
}

fn refused(command: &CommandSpec, reason: &str) -> Refusal {
    Refusal::format(format!("ERR ONCE cannot run '{}': it {reason}", command.name))
}

/// Answers with a reply that was kept.
fn put_reply(stored: &[u8], reply: &mut Reply) {
    if let Err(bad) = reply.stored(stored) {
        panic!("{bad:?} where a command wrote its reply: {:?}", String::from_utf8_lossy(stored));
    }
}
