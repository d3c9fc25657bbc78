//! What a script may use, and what the units are.

/// What one run may use. Counted the same on every replica, so the limits must be the same on all of them: they come with
/// the log entry or from a constant, never from a node's own settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Steps. One is an instruction of the interpreter, or about as much work inside of a library function or a command.
    pub work: u32,
    /// Bytes that the script may allocate in all, also if they become garbage meanwhile; and bytes of its reply. More than
    /// 1 GiB counts as that: it keeps tables smaller than what Lua can index.
    pub memory: u32,
}

impl Limits {
    /// About a third of a second of pure Lua, and a quarter of a GiB.
    pub const DEFAULT: Limits = Limits { work: 50_000_000, memory: 256 << 20 };
}

/// The most memory of a run: a table of so many bytes has fewer entries than 2^26, at which Lua would raise an error from
/// inside of a native function.
pub(crate) const MEMORY_MAX: u32 = 1 << 30;

/// What a run is given beside its arguments. The same on every replica: the seed comes from the log entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    pub limits: Limits,
    /// Where `math.random` begins.
    pub seed: u64,
}

/// The longest source of a script or library. Below it a function cannot have so many constants that their numbers
/// overflow (a known fault of 5.1's compiler).
pub const SOURCE_BYTES_MAX: usize = 1 << 20;

/// Compiled scripts kept; the source of others is compiled again when they run.
pub(crate) const COMPILED_MAX: usize = 1024;
/// Bytes of their sources together. Compiled they take about four times as much memory, and twice that until garbage is collected.
pub(crate) const COMPILED_BYTES_MAX: usize = 8 << 20;

/// How deep tables of a reply, JSON and MessagePack may nest. They are followed on the stack.
pub(crate) const NESTING_MAX: usize = 1000;

/// Work of a command called by a script, beside what the host does.
pub(crate) const COMMAND_WORK: usize = 100;
