//! `ONCE token command [arg ...]`: a write that is run at most once for its token; a repeat gets the first reply.

use skep_base::{Args, Refusal, slot_of};
use skep_command::{CommandSpec, resolve};
use skep_resp::{Protocol, Reply, Value};

use super::Group;
use crate::context::WriteCx;
use crate::dispatch::Handler::Write;
use crate::dispatch::{Handler, handlers};
use crate::once::{Known, Request};

pub const COMMANDS: Group = &[("once", Write(once))];

/// The longest token: room for any id with a prefix. A token is kept in memory for a day.
const TOKEN_BYTES_MAX: usize = 256;

/// How long a token is remembered. Longer than any client goes on repeating a request.
pub const RETENTION_MS: u64 = 24 * 60 * 60 * 1_000;

/// Whatever the command answers is its first reply, an error like WRONGTYPE too. What ONCE itself refuses, because the
/// command is unknown, has no keys or only reads, leaves the token unused.
///
/// The command runs as for RESP2, whatever the connection speaks: the reply is state, and the log does not say what the
/// client spoke. RESP3 has a form of its own for the null alone.
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
    let request = Request::of(cx.db, call);
    match cx.keyspace.once.look_up(token, request, cx.now) {
        Known::OtherRequest => Err(Refusal::text("ERR token was used for another command")),
        Known::Repeat(stored) => {
            put_reply(stored, reply);
            Ok(())
        }
        Known::New => {
            let mut stored = Vec::new();
            handler.write(cx, call, &mut Reply::new(&mut stored, Protocol::Resp2));
            put_reply(&stored, reply);
            let slot = slot_of(&call[first_key]);
            cx.keyspace.once.insert(token, request, slot, &stored, cx.now.plus(RETENTION_MS));
            Ok(())
        }
    }
}

/// The function of a command that ONCE may run.
fn write_of(command: &CommandSpec) -> Result<Handler, Refusal> {
    if command.name == "once" {
        return Err(refused(command, "has a token of its own"));
    }
    match handlers().find(|(name, _)| *name == command.name) {
        Some((_, handler @ Write(_))) => Ok(handler),
        _ => Err(refused(command, "is not a write on keys, repeat it freely")),
    }
}

fn refused(command: &CommandSpec, reason: &str) -> Refusal {
    Refusal::format(format!("ERR ONCE cannot run '{}': it {reason}", command.name))
}

/// Answers with a whole reply of RESP2.
fn put_reply(stored: &[u8], reply: &mut Reply) {
    if reply.protocol() == Protocol::Resp2 {
        return reply.raw(stored);
    }
    match Value::parse(stored) {
        Ok(Some((value, used))) if used == stored.len() => {
            let mut bytes = Vec::with_capacity(stored.len());
            with_resp3_nulls(value).write(&mut bytes);
            reply.raw(&bytes);
        }
        other => panic!("a command wrote {other:?} where one reply belongs"),
    }
}

fn with_resp3_nulls(value: Value) -> Value {
    match value {
        Value::NullBulk | Value::NullArray => Value::Null,
        Value::Array(elements) => Value::Array(elements.into_iter().map(with_resp3_nulls).collect()),
        other => other,
    }
}
