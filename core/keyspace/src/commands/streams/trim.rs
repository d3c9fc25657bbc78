//! The options of `XADD` and `XTRIM`: how far to cut a stream down.

use skep_base::{Args, Refusal};

use super::super::parse;
use super::ids::{self, NewId};
use crate::types::Stream;
use crate::types::stream::Trim;

/// What approximate trimming deletes at most if no LIMIT is given: a hundred blocks.
const DEFAULT_LIMIT: usize = 10_000;

/// How far to trim, and how exactly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trimming {
    to: Trim,
    approximate: bool,
    limit: Option<usize>,
}

/// What stands between the key and the fields of `XADD`.
pub struct AddOptions {
    pub id: NewId,
    pub trimming: Option<Trimming>,
    /// `NOMKSTREAM`
    pub only_existing: bool,
    /// The argument at which the fields begin.
    pub fields_at: usize,
}

/// Options as far as they have been read.
#[derive(Default)]
struct Parsed {
    to: Option<Trim>,
    approximate: bool,
    limit: Option<usize>,
}

impl Parsed {
    /// Reads the option at `at`; gives the position behind it, or `None` if it is none of these.
    fn option(&mut self, args: Args, at: usize) -> Result<Option<usize>, Refusal> {
        if at + 1 >= args.len() {
            return Ok(None);
        }
        if args.is(at, "maxlen") || args.is(at, "minid") {
            if self.to.is_some() {
                return Err(Refusal::text(
                    "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
                ));
            }
            let has_mark = at + 2 < args.len() && [b"~", b"="].iter().any(|mark| args[at + 1] == mark[..]);
            self.approximate = has_mark && args[at + 1] == b"~"[..];
            let value_at = at + 1 + usize::from(has_mark);
            let value = &args[value_at];
            self.to = Some(if args.is(at, "maxlen") {
                let len = u64::try_from(parse::int(value)?);
                Trim::Len(len.map_err(|_| Refusal::text("ERR The MAXLEN argument must be >= 0."))?)
            } else {
                Trim::Id(ids::strict(value, 0)?)
            });
            return Ok(Some(value_at + 1));
        }
        if args.is(at, "limit") {
            let limit = usize::try_from(parse::int(&args[at + 1])?);
            self.limit = Some(limit.map_err(|_| Refusal::text("ERR The LIMIT argument must be >= 0."))?);
            return Ok(Some(at + 2));
        }
        Ok(None)
    }

    fn finish(self) -> Result<Option<Trimming>, Refusal> {
        let Some(to) = self.to else {
            // A LIMIT of 0 is no limit, and passes where there is nothing to limit.
            return match self.limit {
                None => Ok(None),
                Some(0) => Err(NO_TILDE),
                Some(_) => Err(Refusal::text(
                    "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
                )),
            };
        };
        if self.limit.is_some() && !self.approximate {
            return Err(NO_TILDE);
        }
        let limit = match self.limit {
            None if self.approximate => Some(DEFAULT_LIMIT),
            limit => limit.filter(|limit| *limit > 0),
        };
        Ok(Some(Trimming { to, approximate: self.approximate, limit }))
    }
}

const NO_TILDE: Refusal =
    Refusal::text("ERR syntax error, LIMIT cannot be used without the special ~ option");

impl Trimming {
    /// Reads the arguments of `XTRIM`.
    pub fn parse(args: Args) -> Result<Trimming, Refusal> {
        const NO_STRATEGY: Refusal =
            Refusal::text("ERR syntax error, XTRIM must be called with a trimming strategy");
        let mut parsed = Parsed::default();
        let mut at = 2;
        while at < args.len() {
            at = parsed.option(args, at)?.ok_or(Refusal::Syntax)?;
        }
        if parsed.to.is_none() && parsed.limit.is_none_or(|limit| limit == 0) {
            return Err(NO_STRATEGY);
        }
        parsed.finish()?.ok_or(NO_STRATEGY)
    }

    /// Trims `stream` and gives the number of entries deleted.
    pub fn apply(self, stream: &mut Stream) -> usize {
        stream.trim(self.to, self.approximate, self.limit)
    }
}

impl AddOptions {
    /// Reads the arguments of `XADD` up to the id.
    pub fn parse(args: Args) -> Result<AddOptions, Refusal> {
        let mut parsed = Parsed::default();
        let mut only_existing = false;
        let mut at = 2;
        let id = loop {
            let Some(word) = args.get(at) else { break None };
            if word == b"*" {
                break Some(NewId::Auto);
            }
            if let Some(next) = parsed.option(args, at)? {
                at = next;
            } else if args.is(at, "nomkstream") {
                only_existing = true;
                at += 1;
            } else {
                break Some(ids::for_entry(word)?);
            }
        };
        let trimming = parsed.finish()?;
        let id = id.ok_or(Refusal::WrongArity("xadd".into()))?;
        Ok(AddOptions { id, trimming, only_existing, fields_at: at + 1 })
    }
}
