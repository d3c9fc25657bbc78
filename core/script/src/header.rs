//! The first line of a script or library: `#!lua flags=no-writes` and `#!lua name=mylib`.

use skep_base::Refusal;
use skep_keyspace::scripts::ScriptFlags as Flags;

/// What the first line of a script says. `None` in a script without one, to which no rules of flags apply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub flags: Option<Flags>,
}

impl Header {
    /// Whether the script is to run with reads only, given whether the command says so (`EVAL_RO`, `EVALSHA_RO`).
    ///
    /// # Errors
    /// A script with flags may run by such a command only if `no-writes` is among them.
    pub fn reads_only(self, read_only_command: bool) -> Result<bool, Refusal> {
        match self.flags {
            None => Ok(read_only_command),
            Some(flags) => reads_only(flags, read_only_command),
        }
    }
}

/// As [`Header::reads_only`], of a function.
pub fn reads_only(flags: Flags, read_only_command: bool) -> Result<bool, Refusal> {
    if read_only_command && !flags.no_writes() {
        return Err(Refusal::text("ERR Can not execute a script with write flag using *_ro command."));
    }
    Ok(flags.no_writes())
}

/// The header of a script and where its code begins.
pub(crate) fn of_script(source: &[u8]) -> Result<(Header, usize), Refusal> {
    let Some((line, end)) = first_line(source) else { return Ok((Header { flags: None }, 0)) };
    let line = line.ok_or(Refusal::text("ERR Invalid script shebang"))?;
    let mut words = words(line);
    let engine = words.next().unwrap_or_default();
    if engine != b"#!lua" {
        return Err(refused("Unexpected engine in script shebang: ", engine));
    }
    let mut flags = Flags::default();
    for word in words {
        let Some(names) = word.strip_prefix(b"flags=") else {
            return Err(refused("Unknown lua shebang option: ", word));
        };
        for name in names.split(|c| *c == b',').filter(|_| !names.is_empty()) {
            if !flags.insert(name) {
                return Err(refused("Unexpected flag in script shebang: ", name));
            }
        }
    }
    Ok((Header { flags: Some(flags) }, end))
}

/// The name of a library and where its code begins.
pub(crate) fn of_library(code: &[u8]) -> Result<(String, usize), Refusal> {
    let (line, end) = first_line(code).ok_or(Refusal::text("ERR Missing library metadata"))?;
    let line = line.ok_or(Refusal::text("ERR Invalid library metadata"))?;
    let mut words = words(line);
    let engine = words.next().unwrap_or_default();
    let mut name: Option<&[u8]> = None;
    for word in words {
        let Some(given) = word.split_at_checked(5).filter(|(key, _)| key.eq_ignore_ascii_case(b"name="))
        else {
            return Err(refused("Invalid metadata value given: ", word));
        };
        if name.replace(given.1).is_some() {
            return Err(Refusal::text("ERR Invalid metadata value, name argument was given multiple times"));
        }
    }
    let name = name.ok_or(Refusal::text("ERR Library name was not given"))?;
    let name = valid_name(name).ok_or(Refusal::text(
        "ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one character long",
    ))?;
    if !engine[2..].eq_ignore_ascii_case(b"lua") {
        let engine = String::from_utf8_lossy(&engine[2..]).into_owned();
        return Err(Refusal::format(format!("ERR Engine '{engine}' not found")));
    }
    Ok((name.to_owned(), end))
}

/// The name of a library or function, if it may be one.
pub(crate) fn valid_name(name: &[u8]) -> Option<&str> {
    let fits = !name.is_empty() && name.iter().all(|c| c.is_ascii_alphanumeric() || *c == b'_');
    fits.then(|| std::str::from_utf8(name).expect("letters, digits and underscores"))
}

/// The line that begins with `#!`, without its end (`None` if it has none), and where it ends.
fn first_line(source: &[u8]) -> Option<(Option<&[u8]>, usize)> {
    if !source.starts_with(b"#!") {
        return None;
    }
    match source.iter().position(|c| *c == b'\n') {
        Some(end) => Some((Some(&source[..end]), end)),
        None => Some((None, 0)),
    }
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|c| c.is_ascii_whitespace()).filter(|word| !word.is_empty())
}

fn refused(reason: &str, what: &[u8]) -> Refusal {
    Refusal::format(format!("ERR {reason}{}", String::from_utf8_lossy(what)))
}
