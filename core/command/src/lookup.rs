//! Finds commands by name.

use skep_base::{Args, Refusal};

use crate::spec::{CommandId, CommandSpec};
use crate::table::{COMMAND_COUNT, COMMANDS};

/// About five times the number of commands, so that nearly every name is found at the first look.
const SLOTS: usize = 1024;
const EMPTY: u16 = u16::MAX;
/// How much of an unknown command's arguments is repeated in the error, in bytes (as in Redis).
const ECHOED_BYTES_MAX: usize = 128;

/// Marks in the index the names that [`folded`] tells from all others: letters only, and no more than 16.
const FOLDED_IS_EXACT: u16 = 1 << 15;

/// Open addressing by [`slot`], made at compile time.
static INDEX: [u16; SLOTS] = index();

/// The command of that name, in any case; not a subcommand.
///
/// Cost: a hash of at most 16 bytes of the name and one comparison, nearly always. Does not allocate.
#[inline]
pub fn lookup(name: &[u8]) -> Option<&'static CommandSpec> {
    let words = folded(name);
    let mut slot = slot(words, name.len());
    loop {
        let entry = INDEX[slot];
        if entry == EMPTY {
            return None;
        }
        let command = &COMMANDS[usize::from(entry & !FOLDED_IS_EXACT)];
        let own = command.name.as_bytes();
        let same = own.len() == name.len()
            && folded(own) == words
            && (entry & FOLDED_IS_EXACT != 0 || own.eq_ignore_ascii_case(name));
        if same {
            return Some(command);
        }
        slot = (slot + 1) % SLOTS;
    }
}

/// The command of that name, in any case; `config|get` is a subcommand.
pub fn lookup_full(name: &[u8]) -> Option<&'static CommandSpec> {
    match name.iter().position(|b| *b == b'|') {
        Some(at) => subcommand(lookup(&name[..at])?, &name[at + 1..]),
        None => lookup(name),
    }
}

/// The command that `args` call, its subcommand if it has some, with as many arguments as it takes.
///
/// # Errors
/// Redis's errors for an unknown command, an unknown subcommand and a wrong number of arguments.
#[inline]
pub fn resolve(args: Args<'_>) -> Result<&'static CommandSpec, Refusal> {
    let Some(mut command) = args.get(0).and_then(lookup) else { return Err(unknown_command(args)) };
    if command.is_container()
        && let Some(name) = args.get(1)
    {
        command = subcommand(command, name).ok_or_else(|| unknown_subcommand(command, name))?;
    }
    if command.check_arity(args.len()) { Ok(command) } else { Err(command.wrong_arity()) }
}

/// The id of a command by its name in the table, for filling arrays in constants.
///
/// # Panics
/// If there is no such command: in a constant, when it is compiled.
pub const fn id_of(name: &str) -> CommandId {
    let mut at = 0;
    while at < COMMAND_COUNT {
        if same(COMMANDS[at].name.as_bytes(), name.as_bytes()) {
            return CommandId(at as u16);
        }
        at += 1;
    }
    panic!("no such command in the table");
}

fn subcommand(container: &CommandSpec, name: &[u8]) -> Option<&'static CommandSpec> {
    container.subcommands().iter().find(|c| c.short_name().as_bytes().eq_ignore_ascii_case(name))
}

#[cold]
fn unknown_command(args: Args<'_>) -> Refusal {
    let name = args.get(0).unwrap_or_default();
    let mut echoed = Vec::new();
    for arg in args.from(1).iter() {
        if echoed.len() >= ECHOED_BYTES_MAX {
            break;
        }
        let arg = &arg[..arg.len().min(ECHOED_BYTES_MAX - echoed.len())];
        echoed.extend_from_slice(b"'");
        echoed.extend_from_slice(arg);
        echoed.extend_from_slice(b"' ");
    }
    Refusal::format(format!(
        "ERR unknown command '{}', with args beginning with: {}",
        text(name),
        String::from_utf8_lossy(&echoed)
    ))
}

#[cold]
fn unknown_subcommand(container: &CommandSpec, name: &[u8]) -> Refusal {
    Refusal::format(format!(
        "ERR unknown subcommand '{}'. Try {} HELP.",
        text(name),
        container.name.to_ascii_uppercase()
    ))
}

/// At most so much of what the client sent as an error repeats.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(ECHOED_BYTES_MAX)]).into_owned()
}

/// The first and last eight bytes of a name, whatever its case.
#[inline]
const fn folded(name: &[u8]) -> (u64, u64) {
    const CASE: u64 = 0x2020_2020_2020_2020;
    let n = name.len();
    let (a, b) = match n {
        0 => (0, 0),
        1..=3 => (name[0] as u64 | (name[n / 2] as u64) << 8 | (name[n - 1] as u64) << 16, 0),
        4..=7 => (half(name, 0), half(name, n - 4)),
        _ => (half(name, 0) | half(name, 4) << 32, half(name, n - 8) | half(name, n - 4) << 32),
    };
    (a | CASE, b | CASE)
}

#[inline]
const fn half(name: &[u8], at: usize) -> u64 {
    u32::from_le_bytes([name[at], name[at + 1], name[at + 2], name[at + 3]]) as u64
}

/// Where in the index to look for a name first.
#[inline]
const fn slot(folded: (u64, u64), len: usize) -> usize {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = (folded.0 ^ folded.1.rotate_left(23) ^ len as u64).wrapping_mul(K);
    (mixed >> 32) as usize % SLOTS
}

const fn index() -> [u16; SLOTS] {
    assert!(COMMAND_COUNT < FOLDED_IS_EXACT as usize);
    let mut index = [EMPTY; SLOTS];
    let mut at = 0;
    while at < COMMAND_COUNT {
        let name = COMMANDS[at].name.as_bytes();
        let mut slot = slot(folded(name), name.len());
        while index[slot] != EMPTY {
            slot = (slot + 1) % SLOTS;
        }
        index[slot] = at as u16 | if is_short_letters(name) { FOLDED_IS_EXACT } else { 0 };
        at += 1 + COMMANDS[at].subcommand_count as usize;
    }
    index
}

/// Letters keep apart when their case is dropped; other bytes may fall together with a letter's neighbour.
const fn is_short_letters(name: &[u8]) -> bool {
    let mut at = 0;
    while at < name.len() {
        if !name[at].is_ascii_lowercase() {
            return false;
        }
        at += 1;
    }
    name.len() <= 16
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_base::args::OwnedArgs;

    fn resolved(words: &[&str]) -> Result<&'static str, String> {
        let args = OwnedArgs::collect(words.iter().map(|w| w.as_bytes()));
        resolve(args.args()).map(|c| c.name).map_err(|e| e.to_string())
    }

    #[test]
    fn every_name_is_found_in_any_case() {
        for command in crate::commands() {
            assert!(std::ptr::eq(lookup(command.name.as_bytes()).unwrap(), command));
            assert!(std::ptr::eq(lookup(command.name.to_ascii_uppercase().as_bytes()).unwrap(), command));
            assert!(lookup(&command.name.as_bytes()[1..]).is_none_or(|c| c.name == &command.name[1..]));
            for sub in command.subcommands() {
                assert!(std::ptr::eq(lookup_full(sub.name.to_ascii_uppercase().as_bytes()).unwrap(), sub));
                assert!(lookup(sub.name.as_bytes()).is_none());
            }
        }
        assert!(lookup(b"").is_none());
        assert!(lookup(b"sort\x7fro").is_none(), "DEL is an underscore in another case");
        assert!(lookup(b"g\x05t").is_none() && lookup(b"ge\x14").is_none());
        assert!(lookup_full(b"get|set").is_none());
        assert!(lookup_full(b"config|get|set").is_none());
    }

    #[test]
    fn names_are_spread_over_the_index() {
        let looks = |name: &str| {
            let at = lookup(name.as_bytes()).unwrap().id;
            let start = slot(folded(name.as_bytes()), name.len());
            (0..).take_while(|n| INDEX[(start + n) % SLOTS] & !FOLDED_IS_EXACT != at).count() + 1
        };
        assert_eq!(
            ["get", "set", "incr", "lpush", "rpop", "hset", "hget", "zadd", "del", "mget"].map(looks),
            [1; 10]
        );
        let total: usize = crate::commands().map(|c| looks(c.name)).sum();
        let names = crate::commands().count();
        assert!(total * 10 < names * 13, "{total} looks for {names} names");
    }

    #[test]
    fn calls_are_resolved_with_redis_errors() {
        assert_eq!(resolved(&["GeT", "k"]), Ok("get"));
        assert_eq!(resolved(&["CONFIG", "Get", "x"]), Ok("config|get"));
        assert_eq!(resolved(&["command"]), Ok("command"));
        let refused = |words: &[&str]| resolved(words).unwrap_err();
        assert_eq!(refused(&["get"]), "ERR wrong number of arguments for 'get' command");
        assert_eq!(refused(&["get", "a", "b"]), "ERR wrong number of arguments for 'get' command");
        assert_eq!(refused(&["config"]), "ERR wrong number of arguments for 'config' command");
        assert_eq!(refused(&["config", "get"]), "ERR wrong number of arguments for 'config|get' command");
        assert_eq!(refused(&["CONFIG", "foo"]), "ERR unknown subcommand 'foo'. Try CONFIG HELP.");
        assert_eq!(refused(&["foo"]), "ERR unknown command 'foo', with args beginning with: ");
        assert_eq!(
            refused(&["foo", "a", "b"]),
            "ERR unknown command 'foo', with args beginning with: 'a' 'b' "
        );
        let long = "x".repeat(200);
        assert_eq!(
            refused(&[&long, "a", &long, "b"]),
            format!(
                "ERR unknown command '{}', with args beginning with: 'a' '{}' ",
                "x".repeat(128),
                "x".repeat(124)
            )
        );
        assert_eq!(refused(&[]), "ERR unknown command '', with args beginning with: ");
    }

    #[test]
    fn ids_are_places_in_the_table() {
        const GET: CommandId = id_of("get");
        assert_eq!(GET.spec().name, "get");
        assert_eq!(id_of("config|set").spec().name, "config|set");
        for (at, command) in COMMANDS.iter().enumerate() {
            assert_eq!(command.id().index(), at);
        }
    }
}
