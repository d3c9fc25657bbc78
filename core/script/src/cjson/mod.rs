//! The `cjson` library, as lua-cjson 2.1 has it in Redis: settings, names and errors.

mod decode;
mod encode;

use crate::limits::NESTING_MAX;
use crate::lua::{Kind, Native, Raise, Stack};

/// The settings of one instance. They last for the run of one script.
#[derive(Clone, Copy)]
pub(crate) struct Config {
    sparse_convert: bool,
    sparse_ratio: i32,
    sparse_safe: i32,
    encode_depth_max: i32,
    decode_depth_max: i32,
    encode_invalid: Invalid,
    decode_invalid: bool,
    precision: i32,
    keep_buffer: bool,
}

/// What becomes of NaN and the infinities when they are encoded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Invalid {
    Refused,
    Written,
    Null,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            sparse_convert: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_depth_max: NESTING_MAX as i32,
            decode_depth_max: NESTING_MAX as i32,
            encode_invalid: Invalid::Refused,
            decode_invalid: true,
            precision: 14,
            keep_buffer: true,
        }
    }
}

const FUNCTIONS: [(&str, Native); 10] = [
    ("encode", encode::encode),
    ("decode", decode::decode),
    ("encode_sparse_array", sparse_array),
    ("encode_max_depth", |s| depth(s, |config| &mut config.encode_depth_max)),
    ("decode_max_depth", |s| depth(s, |config| &mut config.decode_depth_max)),
    ("encode_number_precision", precision),
    ("encode_keep_buffer", keep_buffer),
    ("encode_invalid_numbers", encode_invalid),
    ("decode_invalid_numbers", decode_invalid),
    ("new", new),
];

/// Pushes the library with the settings of `instance`.
pub(crate) fn open(s: Stack, instance: u32) {
    s.push_table(0, FUNCTIONS.len() + 3);
    for (name, function) in FUNCTIONS {
        s.push_native_with(function, instance);
        s.set_field(-2, name);
    }
    s.push_null();
    s.set_field(-2, "null");
    s.push_bytes(b"cjson");
    s.set_field(-2, "_NAME");
    s.push_bytes(b"2.1.0");
    s.set_field(-2, "_VERSION");
}

/// The settings of the instance whose function runs.
fn config<'a>(s: Stack) -> &'a mut Config {
    // SAFETY: the interpreter's `Shared` outlives the call, and only the function that runs looks at the settings. An
    // instance's number is only in functions of the run that made it.
    unsafe { &mut (&mut (*s.shared()).cjson)[s.instance() as usize] }
}

fn new(s: Stack) -> Result<i32, Raise> {
    s.work(100)?;
    // SAFETY: as in `config`.
    let all = unsafe { &mut (*s.shared()).cjson };
    all.push(Config::default());
    open(s, all.len() as u32 - 1);
    Ok(1)
}

/// At most `most` arguments; missing ones become nil.
fn arguments(s: Stack, most: i32) -> Result<(), Raise> {
    if s.top() > most {
        return Err(s.bad_argument(most + 1, "found too many arguments"));
    }
    s.set_top(most);
    Ok(())
}

fn set_integer(s: Stack, argument: i32, value: &mut i32, least: i32, most: i32) -> Result<(), Raise> {
    if s.kind(argument) != Kind::Nil {
        let given = s.check_integer_or(argument, 0)? as i32;
        if !(least..=most).contains(&given) {
            let problem = format!("expected integer between {least} and {most}");
            // The original tells of the first argument, whichever it is.
            return Err(s.bad_argument(1, &problem));
        }
        *value = given;
    }
    s.push_number(f64::from(*value));
    Ok(())
}

/// One of `options`, or a boolean, which is the first or second of them.
fn choice(s: Stack, argument: i32, options: &[&str], value: &mut usize) -> Result<(), Raise> {
    match s.kind(argument) {
        Kind::Nil => {}
        Kind::Boolean => *value = usize::from(s.boolean(argument)),
        _ => {
            let given = s.check_string(argument)?;
            let Some(found) = options.iter().position(|option| option.as_bytes() == given) else {
                let problem = format!("invalid option '{}'", String::from_utf8_lossy(given));
                return Err(s.bad_argument(argument, &problem));
            };
            *value = found;
        }
    }
    if *value < 2 {
        s.push_boolean(*value == 1);
    } else {
        s.push_bytes(options[*value].as_bytes());
    }
    Ok(())
}

fn switch(s: Stack, argument: i32, value: &mut bool) -> Result<(), Raise> {
    let mut chosen = usize::from(*value);
    choice(s, argument, &["off", "on"], &mut chosen)?;
    *value = chosen == 1;
    Ok(())
}

fn sparse_array(s: Stack) -> Result<i32, Raise> {
    arguments(s, 3)?;
    let config = config(s);
    switch(s, 1, &mut config.sparse_convert)?;
    set_integer(s, 2, &mut config.sparse_ratio, 0, i32::MAX)?;
    set_integer(s, 3, &mut config.sparse_safe, 0, i32::MAX)?;
    Ok(3)
}

fn depth(s: Stack, field: fn(&mut Config) -> &mut i32) -> Result<i32, Raise> {
    arguments(s, 1)?;
    set_integer(s, 1, field(config(s)), 1, i32::MAX)?;
    Ok(1)
}

fn precision(s: Stack) -> Result<i32, Raise> {
    arguments(s, 1)?;
    set_integer(s, 1, &mut config(s).precision, 1, 14)?;
    Ok(1)
}

fn keep_buffer(s: Stack) -> Result<i32, Raise> {
    arguments(s, 1)?;
    switch(s, 1, &mut config(s).keep_buffer)?;
    Ok(1)
}

fn encode_invalid(s: Stack) -> Result<i32, Raise> {
    arguments(s, 1)?;
    let config = config(s);
    let mut chosen = match config.encode_invalid {
        Invalid::Refused => 0,
        Invalid::Written => 1,
        Invalid::Null => 2,
    };
    choice(s, 1, &["off", "on", "null"], &mut chosen)?;
    config.encode_invalid = [Invalid::Refused, Invalid::Written, Invalid::Null][chosen];
    Ok(1)
}

fn decode_invalid(s: Stack) -> Result<i32, Raise> {
    arguments(s, 1)?;
    switch(s, 1, &mut config(s).decode_invalid)?;
    Ok(1)
}
