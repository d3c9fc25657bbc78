//! The table `redis` (and `server`, the same table): commands, replies, the log.

use std::ptr;

use skep_base::{Args, Span, number};
use skep_resp::{Protocol, Reply};

use crate::host::{Host, LogLevel};
use crate::limits::COMMAND_WORK;
use crate::lua::{Kind, Native, Raise, Stack, to_integer};
use crate::to_lua::{push_error, push_reply};

/// The version of Redis whose scripts run here.
const VERSION: &str = "7.4.0";
const VERSION_NUMBER: u32 = 0x0007_0400;

/// Of a line of `redis.log`; the rest of a longer one is cut off. What is logged is kept until the entry is applied.
const LINE_BYTES_MAX: usize = 16 << 10;

/// Pushes the table.
pub(crate) fn open(s: Stack) {
    s.push_table(0, 32);
    let functions: [(&str, Native); 12] = [
        ("call", |s| command(s, true)),
        ("pcall", |s| command(s, false)),
        ("log", log),
        ("sha1hex", sha1hex),
        ("error_reply", error_reply),
        ("status_reply", status_reply),
        ("setresp", setresp),
        ("set_repl", set_repl),
        ("replicate_commands", |s| {
            s.push_boolean(true);
            Ok(1)
        }),
        ("acl_check_cmd", acl_check_cmd),
        // Redis has these two for its debugger; outside of it they do nothing.
        ("breakpoint", |s| {
            s.push_boolean(false);
            Ok(1)
        }),
        ("debug", |_| Ok(0)),
    ];
    for (name, function) in functions {
        s.push_native(function);
        s.set_field(-2, name);
    }
    for (name, value) in [
        ("LOG_DEBUG", 0),
        ("LOG_VERBOSE", 1),
        ("LOG_NOTICE", 2),
        ("LOG_WARNING", 3),
        ("REPL_NONE", 0),
        ("REPL_AOF", 1),
        ("REPL_SLAVE", 2),
        ("REPL_REPLICA", 2),
        ("REPL_ALL", 3),
        ("REDIS_VERSION_NUM", VERSION_NUMBER),
    ] {
        s.push_number(f64::from(value));
        s.set_field(-2, name);
    }
    s.push_bytes(VERSION.as_bytes());
    s.set_field(-2, "REDIS_VERSION");
}

/// Raises an error table without a place in front, as `redis.*` does.
pub(crate) fn raise(s: Stack, text: &str) -> Raise {
    push_error(s, format!("ERR {text}").as_bytes());
    Raise::Top
}

/// `redis.call` and `redis.pcall`: an error reply is raised by the first, and a value of the second.
fn command(s: Stack, raises: bool) -> Result<i32, Raise> {
    match run_command(s) {
        Ok(is_error) if is_error && raises => Err(Raise::Top),
        Ok(_) => Ok(1),
        Err(Raise::Top) if !raises => Ok(1),
        Err(other) => Err(other),
    }
}

/// Runs the command in the arguments and pushes its reply. True if it is an error.
fn run_command(s: Stack) -> Result<bool, Raise> {
    s.work(COMMAND_WORK)?;
    let shared = s.shared();
    // SAFETY: `Shared` outlives the call; nothing is borrowed from it while the host runs or Lua is called.
    let (host, protocol, mut buffer, mut spans, mut bytes) = unsafe {
        let shared = &mut *shared;
        let Some(host) = shared.host else {
            // While a library is loaded; Redis has no such field then.
            let text = "Script attempted to access nonexistent global variable 'call'";
            return Err(Raise::At(text.to_owned()));
        };
        let buffers = (&mut shared.command, &mut shared.spans, &mut shared.reply);
        (
            host,
            shared.protocol,
            std::mem::take(buffers.0),
            std::mem::take(buffers.1),
            std::mem::take(buffers.2),
        )
    };
    let result = collect(s, &mut buffer, &mut spans).and_then(|()| {
        bytes.clear();
        // SAFETY: the engine holds the host exclusively while the script runs, and a host cannot call the engine.
        let work = unsafe {
            let mut reply = Reply::limited(&mut bytes, protocol, (*shared).memory);
            (*host).call(Args::new(&buffer, &spans), &mut reply)
        };
        s.work(work.saturating_add(bytes.len() / 16))?;
        push_reply(s, &bytes)
    });
    if let Ok(true) = result {
        s.push_boolean(true);
        s.set_field(-2, "ignore_error_stats_update");
    }
    // SAFETY: as above.
    unsafe {
        let shared = &mut *shared;
        (shared.command, shared.spans, shared.reply) = (buffer, spans, bytes);
    }
    result
}

/// Copies the arguments of the running function into `buffer`.
fn collect(s: Stack, buffer: &mut Vec<u8>, spans: &mut Vec<Span>) -> Result<(), Raise> {
    buffer.clear();
    spans.clear();
    let count = s.top();
    if count == 0 {
        return Err(raise(s, "Please specify at least one argument for this redis lib call"));
    }
    // SAFETY: as in `run_command`.
    let bytes_max = unsafe { (*s.shared()).memory };
    for argument in 1..=count {
        let start = buffer.len();
        match s.kind(argument) {
            Kind::String => {
                let text = s.string(argument).expect("its kind is String");
                // A script's strings are counted as its memory, but the same one may be given often.
                if start + text.len() > bytes_max {
                    return Err(raise(
                        s,
                        &format!("the command's arguments are longer than {bytes_max} bytes"),
                    ));
                }
                buffer.extend_from_slice(text);
            }
            Kind::Number => write_number(buffer, s.number(argument).expect("its kind is Number")),
            _ => return Err(raise(s, "Lua redis lib command arguments must be strings or integers")),
        }
        s.work(buffer.len() / 16 - start / 16)?;
        spans.push(Span { start: start as u32, len: (buffer.len() - start) as u32 });
    }
    Ok(())
}

/// A number as an argument: an integer without a point, else the shortest text that reads back equal (Redis 7.2 and later).
fn write_number(out: &mut Vec<u8>, value: f64) {
    let integer = to_integer(value);
    if integer as f64 == value && integer != i64::MAX {
        number::write_i64(out, integer);
    } else if value.is_nan() {
        out.extend_from_slice(b"nan");
    } else {
        number::write_f64(out, value);
    }
}

/// The host of the running script.
fn host<'a>(s: Stack) -> Option<&'a mut (dyn Host + 'static)> {
    // SAFETY: as in `run_command`.
    unsafe { (*s.shared()).host.map(|host| &mut *host) }
}

fn log(s: Stack) -> Result<i32, Raise> {
    let count = s.top();
    if count < 2 {
        return Err(raise(s, "redis.log() requires two arguments or more."));
    }
    if s.kind(1) != Kind::Number {
        return Err(raise(s, "First argument must be a number (log level)."));
    }
    let level = match to_integer(s.number(1).expect("its kind is Number")) {
        0 => LogLevel::Debug,
        1 => LogLevel::Verbose,
        2 => LogLevel::Notice,
        3 => LogLevel::Warning,
        _ => return Err(raise(s, "Invalid debug level.")),
    };
    let mut line = Vec::new();
    for argument in 2..=count {
        if argument > 2 {
            line.push(b' ');
        }
        let text = s.text(argument).unwrap_or_default();
        let room = LINE_BYTES_MAX.saturating_sub(line.len());
        line.extend_from_slice(&text[..text.len().min(room)]);
    }
    s.work(COMMAND_WORK + line.len() / 16)?;
    if let Some(host) = host(s) {
        host.log(level, &line);
    }
    Ok(0)
}

fn sha1hex(s: Stack) -> Result<i32, Raise> {
    if s.top() != 1 {
        return Err(raise(s, "wrong number of arguments"));
    }
    let text = s.text(1).unwrap_or_default();
    s.work(text.len() / 4)?;
    s.push_bytes(skep_keyspace::scripts::Sha::of(text).to_string().as_bytes());
    Ok(1)
}

fn error_reply(s: Stack) -> Result<i32, Raise> {
    match s.string(1) {
        Some(text) if s.top() == 1 => push_error(s, text.strip_prefix(b"-").unwrap_or(text)),
        _ => push_error(s, b"ERR wrong number or type of arguments"),
    }
    Ok(1)
}

fn status_reply(s: Stack) -> Result<i32, Raise> {
    match s.string(1) {
        Some(text) if s.top() == 1 => {
            s.push_table(0, 1);
            s.push_bytes(text);
            s.set_field(-2, "ok");
        }
        _ => push_error(s, b"ERR wrong number or type of arguments"),
    }
    Ok(1)
}

fn setresp(s: Stack) -> Result<i32, Raise> {
    if s.top() != 1 {
        return Err(raise(s, "redis.setresp() requires one argument."));
    }
    let protocol = match s.number(1).map(to_integer) {
        Some(2) => Protocol::Resp2,
        Some(3) => Protocol::Resp3,
        _ => return Err(raise(s, "RESP version must be 2 or 3.")),
    };
    // SAFETY: as in `run_command`.
    unsafe { (*s.shared()).protocol = protocol };
    Ok(0)
}

/// Accepted and without effect: commands are replicated by the log, which has the call of the script.
fn set_repl(s: Stack) -> Result<i32, Raise> {
    if s.top() != 1 {
        return Err(raise(s, "redis.set_repl() requires two arguments."));
    }
    match s.number(1).map(to_integer) {
        Some(0..=3) => Ok(0),
        _ => Err(raise(s, "Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.")),
    }
}

fn acl_check_cmd(s: Stack) -> Result<i32, Raise> {
    if s.top() == 0 {
        return Err(raise(s, "Please specify at least one argument for this redis lib call"));
    }
    let (mut buffer, mut spans) = (Vec::new(), Vec::new());
    collect(s, &mut buffer, &mut spans)?;
    let Some(host) = host(s) else {
        return Err(raise(s, "redis.acl_check_cmd can only be called inside a script invocation"));
    };
    let Ok(allowed) = host.may_call(Args::new(&buffer, &spans)) else {
        return Err(raise(s, "Invalid command passed to redis.acl_check_cmd()"));
    };
    s.push_boolean(allowed);
    Ok(1)
}

/// The host for as long as `run` runs. It is taken away again on the way out.
pub(crate) fn with_host<R>(s: Stack, host: &mut dyn Host, run: impl FnOnce() -> R) -> R {
    let host = ptr::from_mut(host);
    // SAFETY: the lifetime is only hidden: the pointer is removed before the borrow ends.
    let host = unsafe { std::mem::transmute::<*mut (dyn Host + '_), *mut (dyn Host + 'static)>(host) };
    unsafe { (*s.shared()).host = Some(host) };
    let result = run();
    unsafe { (*s.shared()).host = None };
    result
}
