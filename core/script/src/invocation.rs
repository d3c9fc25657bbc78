//! The arguments of a command that runs a script: what to run, keys, arguments.

use skep_base::{Args, Refusal, number};

/// `EVAL script numkeys [key …] [arg …]` and its kin, read.
#[derive(Clone, Copy)]
pub struct Invocation<'a> {
    /// The script, its name as SHA-1, or a function's name.
    pub subject: &'a [u8],
    keys: usize,
    rest: Args<'a>,
}

impl<'a> Invocation<'a> {
    /// Reads the arguments of `EVAL`, `EVALSHA`, `FCALL` and their read-only forms, which have been checked to be three or
    /// more.
    ///
    /// # Errors
    /// In Redis's words, if the number of keys is none, negative, or more than there are arguments.
    pub fn parse(args: Args<'a>) -> Result<Invocation<'a>, Refusal> {
        let rest = args.from(3);
        let keys = number::parse_i64(&args[2]).ok_or_else(|| {
            let of_function = args.is(0, "fcall") || args.is(0, "fcall_ro");
            if of_function { Refusal::text("ERR Bad number of keys provided") } else { Refusal::NotInteger }
        })?;
        if keys < 0 {
            return Err(Refusal::text("ERR Number of keys can't be negative"));
        }
        if keys as u64 > rest.len() as u64 {
            return Err(Refusal::text("ERR Number of keys can't be greater than number of args"));
        }
        let subject = args.get(1).expect("there are at least three arguments");
        Ok(Invocation { subject, keys: keys as usize, rest })
    }

    pub fn keys(&self) -> impl ExactSizeIterator<Item = &'a [u8]> {
        self.rest.iter().take(self.keys)
    }

    pub fn args(&self) -> impl ExactSizeIterator<Item = &'a [u8]> {
        self.rest.from(self.keys).iter()
    }
}
