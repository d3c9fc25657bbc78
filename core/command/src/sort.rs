//! The patterns of SORT: it reads keys that are not among its arguments, but made of the elements that it finds. Who checks
//! keys has to look at these too.

use skep_base::{Args, slot_of};

use crate::lookup::{id_of, resolve};
use crate::spec::{CommandId, CommandSpec, Special};

const SORT: CommandId = id_of("sort");
const SORT_RO: CommandId = id_of("sort_ro");

/// A `BY` or `GET` of a SORT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SortPattern<'a> {
    /// `BY` or `GET`.
    pub option: &'static str,
    pub pattern: &'a [u8],
}

/// The patterns of `SORT` and `SORT_RO`, in their order; none of other commands.
#[inline]
pub fn sort_patterns<'a>(
    command: &CommandSpec,
    args: Args<'a>,
) -> impl Iterator<Item = SortPattern<'a>> + use<'a> {
    let sorts = command.id() == SORT || command.id() == SORT_RO;
    let mut at = if sorts { 2 } else { args.len() };
    std::iter::from_fn(move || {
        while at < args.len() {
            let here = at;
            at += values(args, here) + 1;
            let option = if args.is(here, "by") { "BY" } else { "GET" };
            if (args.is(here, "by") || args.is(here, "get"))
                && let Some(pattern) = args.get(here + 1)
            {
                return Some(SortPattern { option, pattern });
            }
        }
        None
    })
}

/// How many values stand behind the word at `at` of a SORT.
pub(crate) fn values(args: Args<'_>, at: usize) -> usize {
    match () {
        () if args.is(at, "limit") => 2,
        () if args.is(at, "by") || args.is(at, "get") || args.is(at, "store") => 1,
        () => 0,
    }
}

/// The command that is carried out with its arguments: what ONCE runs, or the command itself.
#[inline]
pub fn carried_out<'a>(command: &'static CommandSpec, args: Args<'a>) -> (&'static CommandSpec, Args<'a>) {
    /// Arguments in front of the inner command: the name and the token.
    const BEFORE: usize = 2;
    if command.special == Special::Once
        && let Ok(inner) = resolve(args.from(BEFORE))
    {
        return (inner, args.from(BEFORE));
    }
    (command, args)
}

impl SortPattern<'_> {
    /// True if it names keys: one without a star stands for nothing, and `#` for the element itself.
    pub fn names_keys(&self) -> bool {
        self.star().is_some()
    }

    /// The slot of all keys that it can name: that of a hash tag in front of the star. `None` if they may be in any.
    pub fn slot(&self) -> Option<u16> {
        // Behind the star it is the element that may bring the first tag.
        let before = &self.pattern[..self.star()?];
        let open = before.iter().position(|byte| *byte == b'{')?;
        let len = before[open + 1..].iter().position(|byte| *byte == b'}')?;
        (len > 0).then(|| slot_of(before))
    }

    /// SORT looks for it up to the first zero byte, as Redis does.
    fn star(&self) -> Option<usize> {
        self.pattern.iter().take_while(|byte| **byte != 0).position(|byte| *byte == b'*')
    }
}

#[cfg(test)]
mod tests {
    use skep_base::args::OwnedArgs;

    use super::*;

    fn patterns(call: &str) -> String {
        let args = OwnedArgs::collect(call.split_whitespace().map(str::as_bytes));
        let (command, args) = carried_out(resolve(args.args()).unwrap(), args.args());
        let shown = |p: SortPattern| format!("{} {}", p.option, String::from_utf8_lossy(p.pattern));
        sort_patterns(command, args).map(shown).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn patterns_are_what_stands_behind_by_and_get() {
        for (call, expected) in [
            ("SORT a", ""),
            ("SORT by BY get GET by LIMIT get by STORE get ALPHA GET", "BY get, GET by"),
            ("SORT a get # get x*->f desc by y", "GET #, GET x*->f, BY y"),
            ("SORT_RO a BY w_*", "BY w_*"),
            ("ONCE t SORT a GET * STORE b", "GET *"),
            ("MGET by get b", ""),
        ] {
            assert_eq!(patterns(call), expected, "{call}");
        }
    }

    #[test]
    fn a_tag_in_front_of_the_star_says_where_all_keys_are() {
        type Tag = Option<&'static [u8]>;
        let table: [(&[u8], bool, Tag); 12] = [
            (b"#", false, None),
            (b"nostar", false, None),
            (b"behind\0*", false, None),
            (b"*", true, None),
            (b"w_*", true, None),
            (b"{a}*", true, Some(b"{a}")),
            (b"x{a}y*->field", true, Some(b"{a}")),
            (b"{a}{b}*", true, Some(b"{a}")),
            (b"*{a}", true, None),
            (b"{a*}", true, None),
            (b"{}{a}*", true, None),
            (b"{a}\0*", false, None),
        ];
        for (pattern, names_keys, tag) in table {
            let by = SortPattern { option: "BY", pattern };
            assert_eq!(by.names_keys(), names_keys, "{}", pattern.escape_ascii());
            assert_eq!(by.slot(), tag.map(slot_of), "{}", pattern.escape_ascii());
        }
    }
}
