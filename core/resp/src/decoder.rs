//! Reads client requests: RESP arrays of bulk strings, and inline commands.
//!
//! The decoder owns no input. Its caller keeps the unconsumed bytes of a connection at the front of one buffer; the
//! decoder remembers how far it has read the command at the front, so that a command arriving in many pieces costs
//! O(n) in all, and the same bytes give the same commands and errors however they were cut.
//!
//! Nothing is ever allocated by a size that was announced but not sent: memory grows with the bytes that arrived.

use std::fmt;

use skep_base::{Args, Span, number};

use crate::inline;

/// Elements of an array that a client may send before it has authenticated (as in Redis since 6.2.6).
const UNAUTHENTICATED_ELEMENTS_MAX: u32 = 10;
/// Bytes of a bulk string that a client may send before it has authenticated (as in Redis since 6.2.6).
const UNAUTHENTICATED_BULK_BYTES_MAX: u32 = 16 * 1024;
/// Spans and scratch kept from one command to the next; more is given back, so that one huge command does not hold
/// memory for as long as its connection lives.
const SPANS_KEPT: usize = 1024;
const SCRATCH_BYTES_KEPT: usize = 4096;

/// What a request may ask for. Copied per connection, so that a change of settings reaches the next command.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest bulk string, in bytes (`proto-max-bulk-len`).
    pub bulk_bytes_max: u32,
    /// Most elements of one request.
    pub array_elements_max: u32,
    /// Longest inline command and longest line that announces a length, in bytes.
    pub inline_bytes_max: u32,
    /// Longest request, in bytes (`client-query-buffer-limit`): what the caller has to buffer for one command.
    pub command_bytes_max: u32,
    /// False while a password is needed and was not given: much lower limits hold.
    pub authenticated: bool,
}

impl Default for Limits {
    /// The defaults of Redis, and at most 1 Mi elements.
    fn default() -> Limits {
        Limits {
            bulk_bytes_max: 512 * 1024 * 1024,
            array_elements_max: 1024 * 1024,
            inline_bytes_max: 64 * 1024,
            command_bytes_max: 1024 * 1024 * 1024,
            authenticated: true,
        }
    }
}

/// What [`Decoder::next`] found at the front of the input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A whole command: read it with [`Decoder::args`], then drop `consumed` bytes.
    Command { consumed: usize },
    /// A blank line or an empty array: no reply is due. Drop `consumed` bytes and call again.
    Skip { consumed: usize },
    /// Call again when the input is longer. Nothing more can be decided before it is `needed` bytes long in all; that
    /// is what the client announced, so it is no reason to allocate as much.
    Incomplete { needed: usize },
}

/// A request that cannot be read. The position of the next command is lost with it: reply and close the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProtocolError {
    InvalidMultibulkLength,
    ExpectedDollar {
        got: u8,
    },
    InvalidBulkLength,
    TooBigMultibulkCount,
    TooBigBulkCount,
    TooBigInline,
    UnbalancedQuotes,
    UnauthenticatedMultibulkLength,
    UnauthenticatedBulkLength,
    /// The request as a whole exceeds [`Limits::command_bytes_max`].
    TooBigRequest,
    /// An HTTP request line or header: somebody's browser is being made to speak to us. Close without a reply, as
    /// Redis does, before the body is taken for commands.
    CrossProtocol,
}

impl ProtocolError {
    /// The error reply for the client, prefix included; `None` if the connection is to be closed without one.
    pub fn reply(&self) -> Option<String> {
        (*self != ProtocolError::CrossProtocol).then(|| format!("ERR {self}"))
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            ProtocolError::InvalidMultibulkLength => "invalid multibulk length",
            ProtocolError::ExpectedDollar { got } => {
                return write!(f, "Protocol error: expected '$', got '{}'", char::from(*got));
            }
            ProtocolError::InvalidBulkLength => "invalid bulk length",
            ProtocolError::TooBigMultibulkCount => "too big mbulk count string",
            ProtocolError::TooBigBulkCount => "too big bulk count string",
            ProtocolError::TooBigInline => "too big inline request",
            ProtocolError::UnbalancedQuotes => "unbalanced quotes in request",
            ProtocolError::UnauthenticatedMultibulkLength => "unauthenticated multibulk length",
            ProtocolError::UnauthenticatedBulkLength => "unauthenticated bulk length",
            ProtocolError::TooBigRequest => "too big request",
            ProtocolError::CrossProtocol => "possible cross-protocol request",
        };
        write!(f, "Protocol error: {what}")
    }
}

impl std::error::Error for ProtocolError {}

/// Reads the requests of one connection.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The arguments read so far; at [`Step::Command`] all of them.
    spans: Vec<Span>,
    /// Arguments still to come; 0 at the start of a command.
    remaining: u32,
    /// Bytes of the argument at `at`, if its length line was read already.
    bulk: Option<u32>,
    /// Everything before is read.
    at: usize,
    /// From `at` to here the line that starts there has no end (nothing is known if it is less than `at`).
    scanned: usize,
    /// The bytes of an inline command with quotes; `spans` refer to it if `in_scratch`.
    scratch: Vec<u8>,
    in_scratch: bool,
}

impl Decoder {
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// Reads the next command at the front of `input`. Between calls the caller drops what was consumed and appends
    /// what arrived, nothing else.
    ///
    /// # Errors
    /// [`ProtocolError`]; the connection must be closed.
    ///
    /// Cost: O(bytes that arrived since the last call); no allocation once `spans` has grown.
    #[inline]
    pub fn next(&mut self, input: &[u8], limits: &Limits) -> Result<Step, ProtocolError> {
        if self.remaining == 0 {
            self.forget();
            match input.first() {
                Some(b'*') => {
                    if let Some(step) = self.header(input, limits)? {
                        return Ok(step);
                    }
                }
                Some(_) => return self.inline(input, limits),
                None => return Ok(Step::Incomplete { needed: 1 }),
            }
        }
        self.bulks(input, limits)
    }

    /// The arguments of the command that the last call of [`Decoder::next`] found, given the same `input`.
    #[inline]
    pub fn args<'a>(&'a self, input: &'a [u8]) -> Args<'a> {
        Args::new(if self.in_scratch { &self.scratch } else { input }, &self.spans)
    }

    /// Reads `*<count>`. `None`: a command begins, its arguments follow.
    #[inline]
    fn header(&mut self, input: &[u8], limits: &Limits) -> Result<Option<Step>, ProtocolError> {
        let (count, end) = match self.length_line(input, limits) {
            Line::Length(count, end) => (count, end),
            Line::Bad => return Err(ProtocolError::InvalidMultibulkLength),
            Line::TooLong => return Err(ProtocolError::TooBigMultibulkCount),
            Line::Incomplete(needed) => return Ok(Some(Step::Incomplete { needed })),
        };
        if count > i64::from(limits.array_elements_max) {
            return Err(ProtocolError::InvalidMultibulkLength);
        }
        if count > i64::from(UNAUTHENTICATED_ELEMENTS_MAX) && !limits.authenticated {
            return Err(ProtocolError::UnauthenticatedMultibulkLength);
        }
        if count <= 0 {
            self.scanned = 0;
            return Ok(Some(Step::Skip { consumed: end }));
        }
        self.remaining = count as u32;
        self.at = end;
        Ok(None)
    }

    /// Reads whole short arguments, as far as there are some: the common case of [`Decoder::bulks`].
    #[inline]
    fn short_bulks(&mut self, input: &[u8], limits: &Limits) {
        let (mut at, mut remaining) = (self.at, self.remaining);
        let there = input.len().min(limits.command_bytes_max as usize);
        while remaining > 0 && input.get(at) == Some(&b'$') {
            let Some((length, bytes)) = short_line(&input[at..]) else { break };
            let start = at + bytes;
            let end = start + length as usize + 2;
            if end > there || length > limits.bulk_bytes_max {
                break;
            }
            self.spans.push(Span { start: start as u32, len: length });
            at = end;
            remaining -= 1;
        }
        (self.at, self.remaining) = (at, remaining);
    }

    /// Reads `$<length>` and the bytes of each argument that is left.
    #[inline]
    fn bulks(&mut self, input: &[u8], limits: &Limits) -> Result<Step, ProtocolError> {
        if self.bulk.is_none() {
            self.short_bulks(input, limits);
        }
        while self.remaining > 0 {
            let length = match self.bulk {
                Some(length) => length,
                None => match self.bulk_header(input, limits)? {
                    Ok(length) => length,
                    Err(needed) => return Ok(Step::Incomplete { needed }),
                },
            };
            // The two bytes behind an argument are skipped unread, as in Redis.
            let end = self.at + length as usize + 2;
            if end > limits.command_bytes_max as usize {
                return Err(ProtocolError::TooBigRequest);
            }
            if input.len() < end {
                self.bulk = Some(length);
                return Ok(Step::Incomplete { needed: end });
            }
            self.bulk = None;
            self.spans.push(Span { start: self.at as u32, len: length });
            self.at = end;
            self.remaining -= 1;
        }
        let consumed = std::mem::take(&mut self.at);
        self.scanned = 0;
        Ok(Step::Command { consumed })
    }

    /// Reads `$<length>` at `at`, and moves `at` behind it; or says how many bytes of input that takes at least.
    #[inline]
    fn bulk_header(&mut self, input: &[u8], limits: &Limits) -> Result<Result<u32, usize>, ProtocolError> {
        match input.get(self.at) {
            Some(b'$') => {}
            Some(&got) => return Err(ProtocolError::ExpectedDollar { got }),
            None => return Ok(Err(self.at + 1)),
        }
        let (length, end) = match self.length_line(input, limits) {
            Line::Length(length, end) => (length, end),
            Line::Bad => return Err(ProtocolError::InvalidBulkLength),
            Line::TooLong => return Err(ProtocolError::TooBigBulkCount),
            Line::Incomplete(needed) => return Ok(Err(needed)),
        };
        if !(0..=i64::from(limits.bulk_bytes_max)).contains(&length) {
            return Err(ProtocolError::InvalidBulkLength);
        }
        if length > i64::from(UNAUTHENTICATED_BULK_BYTES_MAX) && !limits.authenticated {
            return Err(ProtocolError::UnauthenticatedBulkLength);
        }
        self.at = end;
        Ok(Ok(length as u32))
    }

    /// Reads the number between the byte at `at` and the next CR. The byte behind the CR is not looked at, as in Redis.
    #[inline]
    fn length_line(&mut self, input: &[u8], limits: &Limits) -> Line {
        match short_line(&input[self.at..]) {
            Some((length, bytes)) => Line::Length(i64::from(length), self.at + bytes),
            None => self.length_line_slowly(input, limits),
        }
    }

    /// [`Decoder::length_line`] for every line, bad and unfinished ones included.
    #[cold]
    fn length_line_slowly(&mut self, input: &[u8], limits: &Limits) -> Line {
        match self.find(input, b'\r', limits.inline_bytes_max) {
            Find::At(end) if input.len() < end + 2 => Line::Incomplete(end + 2),
            Find::At(end) => match number::parse_i64(&input[self.at + 1..end]) {
                Some(length) => Line::Length(length, end + 2),
                None => Line::Bad,
            },
            Find::TooFar => Line::TooLong,
            Find::NotYet => Line::Incomplete(input.len() + 1),
        }
    }

    fn inline(&mut self, input: &[u8], limits: &Limits) -> Result<Step, ProtocolError> {
        let end = match self.find(input, b'\n', limits.inline_bytes_max) {
            Find::At(end) => end,
            Find::TooFar => return Err(ProtocolError::TooBigInline),
            Find::NotYet => return Ok(Step::Incomplete { needed: input.len() + 1 }),
        };
        self.scanned = 0;
        let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
        self.in_scratch = inline::is_quoted(line);
        if !self.in_scratch {
            inline::split_plain(line, &mut self.spans);
        } else if !inline::split_quoted(line, &mut self.scratch, &mut self.spans) {
            return Err(ProtocolError::UnbalancedQuotes);
        }
        let args = self.args(input);
        if args.is(0, "post") || args.is(0, "host:") {
            return Err(ProtocolError::CrossProtocol);
        }
        let consumed = end + 1;
        Ok(if args.is_empty() { Step::Skip { consumed } } else { Step::Command { consumed } })
    }

    /// Finds `byte` within `bytes_max` of `at`, without looking at any byte twice.
    fn find(&mut self, input: &[u8], byte: u8, bytes_max: u32) -> Find {
        let limit = self.at + bytes_max as usize + 1;
        let window = &input[..input.len().min(limit)];
        let from = self.scanned.max(self.at);
        match window[from..].iter().position(|b| *b == byte) {
            Some(offset) => {
                self.scanned = from + offset;
                Find::At(from + offset)
            }
            None if window.len() == limit => Find::TooFar,
            None => {
                self.scanned = window.len();
                Find::NotYet
            }
        }
    }

    /// Makes ready for the next command.
    #[inline]
    fn forget(&mut self) {
        self.spans.clear();
        if self.in_scratch || self.spans.capacity() > SPANS_KEPT {
            self.shrink();
        }
    }

    #[cold]
    fn shrink(&mut self) {
        self.in_scratch = false;
        self.scratch.clear();
        self.scratch.shrink_to(SCRATCH_BYTES_KEPT);
        self.spans.shrink_to(SPANS_KEPT);
    }
}

/// The number behind the first byte, and the bytes of the line, if it is whole and the number has up to three digits,
/// which is nearly always so.
#[inline]
fn short_line(line: &[u8]) -> Option<(u32, usize)> {
    let digit = |byte: u8| u32::from(byte.wrapping_sub(b'0'));
    match *line {
        [_, a @ b'0'..=b'9', b'\r', _, ..] => Some((digit(a), 4)),
        [_, a @ b'1'..=b'9', b @ b'0'..=b'9', b'\r', _, ..] => Some((digit(a) * 10 + digit(b), 5)),
        [_, a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', b'\r', _, ..] => {
            Some((digit(a) * 100 + digit(b) * 10 + digit(c), 6))
        }
        _ => None,
    }
}

enum Line {
    /// The number, and where the next line starts.
    Length(i64, usize),
    Bad,
    TooLong,
    /// Length of input needed to say more.
    Incomplete(usize),
}

enum Find {
    At(usize),
    NotYet,
    TooFar,
}
