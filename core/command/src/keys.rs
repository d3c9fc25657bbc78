//! Where the keys of a command are: the table's key positions applied to actual arguments.

use skep_base::{Args, number};

use crate::flags::{Flags, KeyFlags};
use crate::lookup::resolve;
use crate::sort;
use crate::spec::{Begin, CommandSpec, Find, KeySpec, Special};

/// No command has more groups of keys than that (GEORADIUS: its source, STORE and STOREDIST).
const RANGES_MAX: usize = 3;

/// One key of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    /// Which argument it is.
    pub index: usize,
    /// What the command does to it.
    pub flags: KeyFlags,
}

/// The number of keys that the arguments announce is not a number, not positive, or more than there are arguments; or what
/// ONCE is to run is no command. The command will answer with an error of its own and touch nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyError;

/// The keys of one command with its arguments.
#[derive(Clone, Copy, Default, Debug)]
pub struct Keys {
    ranges: [Range; RANGES_MAX],
    used: usize,
}

/// Every `step`th argument from `first` to before `end`.
#[derive(Clone, Copy, Default, Debug)]
struct Range {
    first: usize,
    end: usize,
    step: usize,
    flags: KeyFlags,
}

impl Keys {
    #[inline]
    pub(crate) fn of(command: &CommandSpec, args: Args<'_>) -> Result<Keys, KeyError> {
        let mut keys = Keys::default();
        if command.special == Special::Streams {
            let flags = command.keys.first().map_or_else(KeyFlags::default, |spec| spec.flags);
            keys.add(streams(args, flags).ok_or(KeyError)?);
            return Ok(keys);
        }
        for spec in command.keys {
            if let Some(range) = find(command, spec, args)? {
                keys.add(range);
            }
        }
        if command.special == Special::Once {
            return Keys::of_inner(args);
        }
        if command.special != Special::None {
            keys.look_at_options(command.special, args);
        }
        Ok(keys)
    }

    /// The keys of the command that ONCE is to run.
    #[cold]
    fn of_inner(args: Args<'_>) -> Result<Keys, KeyError> {
        /// Arguments in front of the inner command: the name and the token.
        const BEFORE: usize = 2;
        let inner = args.from(BEFORE);
        let command = resolve(inner).ok().filter(|c| c.special != Special::Once).ok_or(KeyError)?;
        let mut keys = Keys::of(command, inner)?;
        for range in &mut keys.ranges[..keys.used] {
            range.first += BEFORE;
            range.end += BEFORE;
        }
        Ok(keys)
    }

    /// All keys, in the order of the table; a key given twice comes twice.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = Key> + '_ {
        let (mut range, mut at) = (0, self.ranges[0].first);
        std::iter::from_fn(move || {
            while range < self.used {
                let Range { end, step, flags, .. } = self.ranges[range];
                if at < end {
                    let index = at;
                    at += step;
                    return Some(Key { index, flags });
                }
                range += 1;
                at = self.ranges.get(range).map_or(0, |r| r.first);
            }
            None
        })
    }

    /// The position of the first key.
    #[inline]
    pub fn first(&self) -> Option<usize> {
        (self.used > 0).then(|| self.ranges[0].first)
    }

    pub fn len(&self) -> usize {
        self.ranges[..self.used].iter().map(|r| (r.end - r.first).div_ceil(r.step)).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    #[inline]
    fn add(&mut self, range: Range) {
        self.ranges[self.used] = range;
        self.used += 1;
    }

    #[cold]
    fn look_at_options(&mut self, special: Special, args: Args<'_>) {
        const READS_AND_WRITES: KeyFlags = KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::UPDATE);
        const OVERWRITES: KeyFlags = KeyFlags::OW.and(KeyFlags::UPDATE);
        match special {
            Special::None | Special::Once | Special::Streams | Special::GeoStore => {}
            Special::Set => {
                let reads = (3..args.len()).any(|at| args.is(at, "get"));
                self.ranges[0].flags = if reads { READS_AND_WRITES } else { OVERWRITES };
            }
            Special::Bitfield => {
                let reads_only = bitfield_reads_only(args);
                self.ranges[0].flags =
                    if reads_only { KeyFlags::RO.and(KeyFlags::ACCESS) } else { READS_AND_WRITES };
            }
            Special::Sort => {
                if let Some(at) = sort_store(args) {
                    self.add(Range { first: at, end: at + 1, step: 1, flags: OVERWRITES });
                }
            }
        }
    }
}

#[inline]
fn find(command: &CommandSpec, spec: &KeySpec, args: Args<'_>) -> Result<Option<Range>, KeyError> {
    let first = match spec.begin {
        Begin::Index(at) => usize::from(at),
        Begin::Keyword { word, from } => {
            let from = usize::from(from);
            let found = match command.special {
                Special::GeoStore => geo_store(args, word, from),
                _ => (from + 1..args.len()).rfind(|at| args.is(at - 1, word)),
            };
            match found {
                Some(at) => at,
                None => return Ok(None),
            }
        }
        Begin::Hidden => return Ok(None),
    };
    let (first, end, step) = match spec.find {
        Find::Range { last, step, .. } => {
            let end = if last >= 0 {
                first + usize::from(last.unsigned_abs()) + 1
            } else {
                args.len() + 1 - usize::from(last.unsigned_abs())
            };
            (first, end, usize::from(step))
        }
        Find::Counted => {
            let count = args.get(first).and_then(number::parse_i64).ok_or(KeyError)?;
            if count == 0 && command.flags.has(Flags::NO_MANDATORY_KEYS) {
                return Ok(None);
            }
            let count = usize::try_from(count)
                .ok()
                .filter(|c| (1..args.len() - first).contains(c))
                .ok_or(KeyError)?;
            (first + 1, first + 1 + count, 1)
        }
        Find::Hidden => return Ok(None),
    };
    debug_assert!(
        end <= args.len(),
        "keys up to {end} of {} arguments: the arity admits too few",
        args.len()
    );
    Ok((first < end).then_some(Range { first, end, step, flags: spec.flags }))
}

/// The keys of XREAD and XREADGROUP: the first half of what stands behind STREAMS.
fn streams(args: Args<'_>, flags: KeyFlags) -> Option<Range> {
    let mut at = 1;
    while !args.is(at, "streams") {
        at += match () {
            () if args.is(at, "block") || args.is(at, "count") => 2,
            () if args.is(at, "group") => 3,
            () if args.is(at, "noack") => 1,
            () => return None,
        };
    }
    let (first, count) = (at + 1, args.len() - at - 1);
    (count > 0 && count.is_multiple_of(2)).then_some(Range { first, end: first + count / 2, step: 1, flags })
}

/// True if no operation of a BITFIELD changes the key.
fn bitfield_reads_only(args: Args<'_>) -> bool {
    let mut at = 2;
    while at < args.len() {
        if !args.is(at, "get") {
            return false;
        }
        at += 3;
    }
    true
}

/// The argument behind the last STORE of a SORT.
fn sort_store(args: Args<'_>) -> Option<usize> {
    let (mut at, mut found) = (2, None);
    while at + 1 < args.len() {
        if args.is(at, "store") {
            found = Some(at + 1);
        }
        at += sort::values(args, at) + 1;
    }
    found
}

/// The argument behind the last `word` that is an option of a GEORADIUS, whose options begin at `from`.
fn geo_store(args: Args<'_>, word: &str, from: usize) -> Option<usize> {
    let (mut at, mut found) = (from, None);
    while at + 1 < args.len() {
        if args.is(at, word) {
            found = Some(at + 1);
        }
        // What stands behind these is a value, and may read like an option.
        let has_value = ["count", "store", "storedist"].iter().any(|option| args.is(at, option));
        at += if has_value { 2 } else { 1 };
    }
    found
}
