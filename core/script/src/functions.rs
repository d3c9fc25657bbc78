//! Libraries of functions: what `FUNCTION LOAD` registers.

use crate::api::raise;
use skep_keyspace::scripts::{Function, ScriptFlags as Flags};

use crate::header::valid_name;
use crate::lua::{Kind, Raise, Stack};

/// What the code of a library registers while it runs.
#[derive(Default)]
pub(crate) struct Registering {
    pub functions: Vec<Function>,
    /// Keep the callback of this function; [`CALLBACK`] in the registry.
    pub wanted: Option<String>,
}

/// Where the callback of the wanted function is kept, in the registry.
pub(crate) const CALLBACK: &str = "skep.callback";

/// `redis.register_function(name, callback)`, or a table of named arguments.
pub(crate) fn register_function(s: Stack) -> Result<i32, Raise> {
    s.work(100)?;
    // SAFETY: as in `api`: nothing of `Shared` is borrowed while Lua is called.
    let registering = unsafe { (*s.shared()).registering.is_some() };
    if !registering {
        return Err(raise(s, "redis.register_function can only be called on FUNCTION LOAD command"));
    }
    let function = match s.top() {
        1 => by_table(s)?,
        2 => by_position(s)?,
        _ => return Err(raise(s, "wrong number of arguments to redis.register_function")),
    };
    // The callback is on top.
    let registering = unsafe { (*s.shared()).registering.as_mut().expect("checked above") };
    if registering.functions.iter().any(|known| known.name == function.name) {
        return Err(raise(s, "Function already exists in the library"));
    }
    if registering.wanted.as_ref().is_some_and(|wanted| *wanted == function.name) {
        s.set_field(skep_lua::LUA_REGISTRYINDEX, CALLBACK);
    }
    registering.functions.push(function);
    Ok(0)
}

/// In Redis too a wrong name of a function is told in the words for libraries.
fn name_of(s: Stack, name: &[u8]) -> Result<String, Raise> {
    let problem = "Library names can only contain letters, numbers, or underscores(_) and must be at least one character long";
    valid_name(name).map(str::to_owned).ok_or_else(|| raise(s, problem))
}

fn by_position(s: Stack) -> Result<Function, Raise> {
    let Some(name) = s.text(1) else {
        return Err(raise(s, "first argument to redis.register_function must be a string"));
    };
    if s.kind(2) != Kind::Function {
        return Err(raise(s, "second argument to redis.register_function must be a function"));
    }
    let name = name_of(s, name)?;
    s.push_copy(2);
    Ok(Function { name, description: None, flags: Flags::default() })
}

fn by_table(s: Stack) -> Result<Function, Raise> {
    if s.kind(1) != Kind::Table {
        let text = "calling redis.register_function with a single argument is only applicable to Lua table (representing named arguments).";
        return Err(raise(s, text));
    }
    let mut name: Option<Vec<u8>> = None;
    let mut description = None;
    let mut flags = Flags::default();
    let mut has_callback = false;
    s.set_top(1);
    s.push_nil(); // 2: the callback
    s.push_nil();
    while s.next(1) {
        s.work(10)?;
        let key = if s.kind(-2) == Kind::Number { Some(&b""[..]) } else { s.string(-2) };
        let Some(key) = key else {
            return Err(raise(s, "named argument key given to redis.register_function is not a string"));
        };
        match key.to_ascii_lowercase().as_slice() {
            b"function_name" => match s.text(-1) {
                Some(given) => name = Some(given.to_vec()),
                None => {
                    return Err(raise(
                        s,
                        "function_name argument given to redis.register_function must be a string",
                    ));
                }
            },
            b"description" => match s.text(-1) {
                Some(given) => description = Some(given.to_vec()),
                None => {
                    return Err(raise(
                        s,
                        "description argument given to redis.register_function must be a string",
                    ));
                }
            },
            b"callback" => {
                if s.kind(-1) != Kind::Function {
                    return Err(raise(
                        s,
                        "callback argument given to redis.register_function must be a function",
                    ));
                }
                has_callback = true;
                s.push_copy(-1);
                s.replace(2);
            }
            b"flags" => {
                if s.kind(-1) != Kind::Table {
                    let text = "flags argument to redis.register_function must be a table representing function flags";
                    return Err(raise(s, text));
                }
                flags = flags_of(s)?;
            }
            _ => return Err(raise(s, "unknown argument given to redis.register_function")),
        }
        s.pop(1);
    }
    let Some(name) = name else {
        return Err(raise(s, "redis.register_function must get a function name argument"));
    };
    if !has_callback {
        return Err(raise(s, "redis.register_function must get a callback argument"));
    }
    let name = name_of(s, &name)?;
    s.push_copy(2);
    Ok(Function { name, description, flags })
}

/// The flags in the array on top.
fn flags_of(s: Stack) -> Result<Flags, Raise> {
    let mut flags = Flags::default();
    let mut index = 1;
    loop {
        s.work(10)?;
        s.get_index(-1, index);
        if s.kind(-1) == Kind::Nil {
            s.pop(1);
            return Ok(flags);
        }
        if !s.string(-1).is_some_and(|name| flags.insert(name)) {
            return Err(raise(s, "unknown flag given"));
        }
        s.pop(1);
        index += 1;
    }
}
