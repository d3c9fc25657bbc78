//! One row of the command table, and the words by which a row is written.

use skep_base::{Args, Refusal};

use crate::flags::{Categories, Flags, KeyFlags};
use crate::keys::{KeyError, Keys};

/// All that is known of a command without running it.
#[derive(Clone, Copy, Debug)]
pub struct CommandSpec {
    /// In lower case; `config|get` for a subcommand.
    pub name: &'static str,
    /// Number of arguments, the name included; if negative, at least that many.
    pub arity: i16,
    pub flags: Flags,
    pub categories: Categories,
    pub keys: &'static [KeySpec],
    pub group: Group,
    /// The version of Redis that had it first.
    pub since: &'static str,
    /// Its arguments as manuals write them: `key value [NX | XX]` (see `syntax.rs`).
    pub syntax: &'static str,
    pub complexity: &'static str,
    /// What it does, as one sentence.
    pub summary: &'static str,
    /// Redis's hints to clients and proxies: how to route it and join the replies.
    pub tips: &'static [&'static str],
    pub deprecated: Option<Deprecation>,
    pub(crate) special: Special,
    pub(crate) id: u16,
    pub(crate) subcommand_count: u16,
}

/// A command's place in the table: dense from 0, subcommands included, for arrays of handlers and counters. It may
/// differ between versions of skep, so it never leaves the process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CommandId(pub(crate) u16);

/// What to use in place of a command, and the version of Redis that said so first.
#[derive(Clone, Copy, Debug)]
pub struct Deprecation {
    pub since: &'static str,
    pub instead: &'static str,
}

/// The chapter of the manual.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    Connection,
    Server,
    Cluster,
    Generic,
    String,
    Bitmap,
    HyperLogLog,
    Hash,
    List,
    Set,
    SortedSet,
    Geo,
    Queue,
    Stream,
    PubSub,
    Scripting,
    Transactions,
}

/// Where some of a command's keys are, and what is done to them.
#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    pub begin: Begin,
    pub find: Find,
    pub flags: KeyFlags,
    /// Empty, or what the flags do not tell.
    pub note: &'static str,
}

/// Where a search for keys begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begin {
    /// At this argument (1 is the first behind the name).
    Index(u8),
    /// Behind the last `word` at or after argument `from`.
    Keyword { word: &'static str, from: u8 },
    /// It cannot be told from the arguments alone.
    Hidden,
}

/// Which arguments are keys from there on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Find {
    /// Each `step`th one up to `last`: counted from the beginning, or if negative from the end of the command (-1 is
    /// the last argument). With a `limit` of 2, of these only the first half.
    Range { last: i8, step: u8, limit: u8 },
    /// The first one is a number, and that many behind it are keys.
    Counted,
    /// It cannot be told from the arguments alone.
    Hidden,
}

/// Commands whose keys, or what is done to them, need a look at the options.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Special {
    None,
    /// The key is read as well if `GET` is given.
    Set,
    /// The key is only read if all operations are `GET`.
    Bitfield,
    /// `STORE key` may stand anywhere.
    Sort,
    /// `STORE key` and `STOREDIST key` may stand anywhere among the options.
    GeoStore,
    /// The keys are those of the command from argument 2 on.
    Once,
    /// Keys and as many ids stand behind the first `STREAMS` that is an option.
    Streams,
}

impl CommandSpec {
    #[inline]
    pub fn id(&self) -> CommandId {
        CommandId(self.id)
    }

    /// True if a command of `argc` arguments, its name included, has enough of them and not too many.
    #[inline]
    pub fn check_arity(&self, argc: usize) -> bool {
        let arity = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { argc >= arity } else { argc == arity }
    }

    /// The error for a wrong number of arguments.
    pub fn wrong_arity(&self) -> Refusal {
        Refusal::WrongArity(self.name.into())
    }

    /// The positions of the keys in `args`, the command's name at 0. `args` must have passed
    /// [`CommandSpec::check_arity`].
    ///
    /// # Errors
    /// [`KeyError`] if a number of keys is given and cannot be right.
    ///
    /// Cost: O(1), or O(arguments) for commands whose options name keys. Does not allocate.
    #[inline]
    pub fn keys(&self, args: Args<'_>) -> Result<Keys, KeyError> {
        Keys::of(self, args)
    }

    pub fn is_write(&self) -> bool {
        self.flags.has(Flags::WRITE)
    }

    pub fn is_container(&self) -> bool {
        self.subcommand_count > 0
    }

    /// The subcommands of a container, which follow it in the table.
    pub fn subcommands(&self) -> &'static [CommandSpec] {
        let first = usize::from(self.id) + 1;
        &crate::COMMANDS[first..first + usize::from(self.subcommand_count)]
    }

    /// The name behind the `|` of a subcommand; the whole name of a command.
    pub fn short_name(&self) -> &'static str {
        self.name.split_once('|').map_or(self.name, |(_, short)| short)
    }

    pub fn is_subcommand(&self) -> bool {
        self.name.contains('|')
    }
}

impl CommandId {
    /// For indexing: below [`crate::COMMAND_COUNT`].
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    #[inline]
    pub fn spec(self) -> &'static CommandSpec {
        &crate::COMMANDS[self.index()]
    }
}

impl Group {
    /// As Redis writes it in `COMMAND DOCS`.
    pub fn name(self) -> &'static str {
        match self {
            Group::Connection => "connection",
            Group::Server => "server",
            Group::Cluster => "cluster",
            Group::Generic => "generic",
            Group::String => "string",
            Group::Bitmap => "bitmap",
            Group::HyperLogLog => "hyperloglog",
            Group::Hash => "hash",
            Group::List => "list",
            Group::Set => "set",
            Group::SortedSet => "sorted-set",
            Group::Geo => "geo",
            Group::Queue => "queue",
            Group::Stream => "stream",
            Group::PubSub => "pubsub",
            Group::Scripting => "scripting",
            Group::Transactions => "transactions",
        }
    }
}

/// Begins a row. `flags` and `categories` are joined words; the categories that follow from the flags (read, write,
/// admin and dangerous, blocking, fast or slow) are added.
pub(crate) const fn command(
    name: &'static str,
    arity: i16,
    flags: u32,
    categories: u64,
    since: &'static str,
) -> CommandSpec {
    let flags = Flags::from_bits(flags);
    CommandSpec {
        name,
        arity,
        flags,
        categories: Categories::from_bits(categories).and(implied_categories(flags, categories)),
        keys: &[],
        group: Group::Generic,
        since,
        syntax: "",
        complexity: "",
        summary: "",
        tips: &[],
        deprecated: None,
        special: Special::None,
        id: 0,
        subcommand_count: 0,
    }
}

const fn implied_categories(flags: Flags, categories: u64) -> Categories {
    let mut implied = if flags.has(Flags::FAST) { Categories::FAST } else { Categories::SLOW };
    if flags.has(Flags::WRITE) {
        implied = implied.and(Categories::WRITE);
    }
    // Redis leaves scripts that only read out of what reads.
    if flags.has(Flags::READONLY) && !Categories::from_bits(categories).has(Categories::SCRIPTING) {
        implied = implied.and(Categories::READ);
    }
    if flags.has(Flags::ADMIN) {
        implied = implied.and(Categories::ADMIN).and(Categories::DANGEROUS);
    }
    if flags.has(Flags::BLOCKING) {
        implied = implied.and(Categories::BLOCKING);
    }
    implied
}

impl CommandSpec {
    pub(crate) const fn keys_at(mut self, keys: &'static [KeySpec]) -> CommandSpec {
        self.keys = keys;
        self
    }

    pub(crate) const fn special(mut self, special: Special) -> CommandSpec {
        self.special = special;
        self
    }

    pub(crate) const fn tips(mut self, tips: &'static [&'static str]) -> CommandSpec {
        self.tips = tips;
        self
    }

    pub(crate) const fn deprecated(mut self, since: &'static str, instead: &'static str) -> CommandSpec {
        self.deprecated = Some(Deprecation { since, instead });
        self
    }

    pub(crate) const fn syntax(mut self, syntax: &'static str) -> CommandSpec {
        self.syntax = syntax;
        self
    }

    pub(crate) const fn docs(mut self, complexity: &'static str, summary: &'static str) -> CommandSpec {
        self.complexity = complexity;
        self.summary = summary;
        self
    }
}

const fn key_spec(begin: Begin, find: Find, flags: u16) -> KeySpec {
    KeySpec { begin, find, flags: KeyFlags::from_bits(flags), note: "" }
}

/// One key, at argument `at`.
pub(crate) const fn key(at: u8, flags: u16) -> KeySpec {
    key_spec(Begin::Index(at), Find::Range { last: 0, step: 1, limit: 0 }, flags)
}

/// Keys from argument `at` to `last` (see [`Find::Range`]).
pub(crate) const fn keys(at: u8, last: i8, flags: u16) -> KeySpec {
    key_spec(Begin::Index(at), Find::Range { last, step: 1, limit: 0 }, flags)
}

/// A number at argument `at`, and as many keys behind it.
pub(crate) const fn counted_keys(at: u8, flags: u16) -> KeySpec {
    key_spec(Begin::Index(at), Find::Counted, flags)
}

/// One key behind the option `word`, which stands at argument `from` or later.
pub(crate) const fn keyword(word: &'static str, from: u8, flags: u16) -> KeySpec {
    key_spec(Begin::Keyword { word, from }, Find::Range { last: 0, step: 1, limit: 0 }, flags)
}

/// Keys that cannot be told from the arguments alone.
pub(crate) const fn hidden(flags: u16) -> KeySpec {
    key_spec(Begin::Hidden, Find::Hidden, flags)
}

impl KeySpec {
    pub(crate) const fn step(mut self, every: u8) -> KeySpec {
        if let Find::Range { step, .. } = &mut self.find {
            *step = every;
        }
        self
    }

    /// Keys up to the end of the command, of which the other half is something else.
    pub(crate) const fn first_half(mut self) -> KeySpec {
        self.find = Find::Range { last: -1, step: 1, limit: 2 };
        self
    }

    pub(crate) const fn note(mut self, note: &'static str) -> KeySpec {
        self.note = note;
        self
    }
}
