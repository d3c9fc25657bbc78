//! Libraries of functions: what `FUNCTION LOAD` registered.

/// A library, as it is kept and replicated: its code, and what loading it registered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Library {
    pub name: String,
    /// The whole source, first line included.
    pub code: Vec<u8>,
    /// In the order of their names.
    pub functions: Vec<Function>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Function {
    pub name: String,
    pub description: Option<Vec<u8>>,
    pub flags: ScriptFlags,
}

/// What a script or function says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ScriptFlags(u8);

/// The flags by name. A script of ours never runs on a stale copy or in a wrong slot, so some are remembered and change
/// nothing.
const FLAGS: [&str; 5] = ["no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys"];

impl Library {
    /// The function of that name, in any case.
    pub fn function(&self, name: &[u8]) -> Option<&Function> {
        self.functions.iter().find(|function| function.name.as_bytes().eq_ignore_ascii_case(name))
    }
}

impl ScriptFlags {
    /// Adds the flag of that name. False if there is none.
    pub fn insert(&mut self, name: &[u8]) -> bool {
        let found = FLAGS.iter().position(|flag| flag.as_bytes() == name);
        found.map(|bit| self.0 |= 1 << bit).is_some()
    }

    /// The script only reads.
    pub fn no_writes(self) -> bool {
        self.0 & 1 != 0
    }

    /// It may run when memory is short.
    pub fn allows_oom(self) -> bool {
        self.0 & 0b11 != 0
    }

    /// The names, in a fixed order.
    pub fn names(self) -> impl ExactSizeIterator<Item = &'static str> {
        let set: Vec<&str> =
            (0..FLAGS.len()).filter(|bit| self.0 >> bit & 1 != 0).map(|bit| FLAGS[bit]).collect();
        set.into_iter()
    }

    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    pub(crate) fn from_bits(bits: u8) -> Option<ScriptFlags> {
        (bits < 1 << FLAGS.len()).then_some(ScriptFlags(bits))
    }
}
