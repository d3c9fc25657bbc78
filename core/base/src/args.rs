//! The arguments of one command as slices of one buffer, without an allocation per command.

use std::ops::Index;

/// Where one argument lies in its buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    pub start: u32,
    pub len: u32,
}

/// The arguments of one command, the command's name included at index 0.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    buffer: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Args<'a> {
    /// `spans` must lie within `buffer`; an argument that does not panics when it is read.
    pub fn new(buffer: &'a [u8], spans: &'a [Span]) -> Args<'a> {
        Args { buffer, spans }
    }

    /// Number of arguments, the name included.
    #[inline]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The argument at `index`, or `None` past the end.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        let span = self.spans.get(index)?;
        Some(&self.buffer[span.start as usize..span.start as usize + span.len as usize])
    }

    /// The arguments from `index` on (empty past the end).
    #[inline]
    pub fn from(&self, index: usize) -> Args<'a> {
        Args { buffer: self.buffer, spans: self.spans.get(index..).unwrap_or(&[]) }
    }

    /// The arguments before `index` (all, if there are fewer).
    #[inline]
    pub fn up_to(&self, index: usize) -> Args<'a> {
        Args { buffer: self.buffer, spans: self.spans.get(..index).unwrap_or(self.spans) }
    }

    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + DoubleEndedIterator + Clone + use<'a> {
        let buffer = self.buffer;
        self.spans.iter().map(move |s| &buffer[s.start as usize..s.start as usize + s.len as usize])
    }

    /// Bytes of all arguments together.
    pub fn bytes(&self) -> usize {
        self.spans.iter().map(|s| s.len as usize).sum()
    }

    /// True if the argument at `index` is `word`, whatever its case.
    #[inline]
    pub fn is(&self, index: usize, word: &str) -> bool {
        self.get(index).is_some_and(|a| a.eq_ignore_ascii_case(word.as_bytes()))
    }
}

impl Index<usize> for Args<'_> {
    type Output = [u8];

    #[inline]
    fn index(&self, index: usize) -> &[u8] {
        match self.get(index) {
            Some(arg) => arg,
            None => panic!("argument {index} of {} read; the arity check admits fewer", self.len()),
        }
    }
}

/// Owned arguments, for the places where a command outlives the buffer it came in.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct OwnedArgs {
    buffer: Vec<u8>,
    spans: Vec<Span>,
}

impl OwnedArgs {
    pub fn copy(args: Args<'_>) -> OwnedArgs {
        let mut owned =
            OwnedArgs { buffer: Vec::with_capacity(args.bytes()), spans: Vec::with_capacity(args.len()) };
        args.iter().for_each(|arg| owned.push(arg));
        owned
    }

    pub fn collect<'a>(args: impl IntoIterator<Item = &'a [u8]>) -> OwnedArgs {
        let mut owned = OwnedArgs::default();
        for arg in args {
            owned.push(arg);
        }
        owned
    }

    pub fn push(&mut self, arg: &[u8]) {
        self.spans.push(Span { start: self.buffer.len() as u32, len: arg.len() as u32 });
        self.buffer.extend_from_slice(arg);
    }

    pub fn args(&self) -> Args<'_> {
        Args::new(&self.buffer, &self.spans)
    }
}
