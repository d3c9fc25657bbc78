//! `LCS`: the longest common subsequence of two strings, by dynamic programming.

use skep_base::{Args, Refusal};
use skep_resp::Reply;

use crate::commands::parse::{self, STRING_BYTES_MAX};
use crate::context::ReadCx;
use crate::types::Str;

/// A run of bytes that both strings share.
struct Match {
    a: usize,
    b: usize,
    len: usize,
}

#[derive(Default)]
struct Options {
    len: bool,
    idx: bool,
    with_match_len: bool,
    min_match_len: usize,
}

/// Cost: O(product of the lengths) in time and in memory, the latter at most 512 MiB.
pub fn lcs(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let value = |key: &[u8]| match cx.read::<Str>(key) {
        Ok(value) => Ok(value.map_or(&b""[..], Str::as_slice)),
        Err(_) => Err(Refusal::text("ERR The specified keys must contain string values")),
    };
    let (a, b) = (value(&args[1])?, value(&args[2])?);
    let options = options(args.from(3))?;
    let table = Table::fill(a, b)?;
    let total = table.at(a.len(), b.len());
    if options.len && !options.idx {
        reply.len(total as usize);
        return Ok(());
    }
    let mut matches = Vec::new();
    table.walk(a, b, |run| matches.push(run));
    if !options.idx {
        let text: Vec<u8> = matches.iter().rev().flat_map(|m| &a[m.a..m.a + m.len]).copied().collect();
        reply.bulk(&text);
        return Ok(());
    }
    matches.retain(|m| m.len >= options.min_match_len);
    reply.map(2);
    reply.bulk(b"matches");
    reply.array(matches.len());
    for run in &matches {
        reply.array(if options.with_match_len { 3 } else { 2 });
        for start in [run.a, run.b] {
            reply.array(2);
            reply.len(start);
            reply.len(start + run.len - 1);
        }
        if options.with_match_len {
            reply.len(run.len);
        }
    }
    reply.bulk(b"len");
    reply.len(total as usize);
    Ok(())
}

fn options(args: Args) -> Result<Options, Refusal> {
    let mut options = Options::default();
    let mut at = 0;
    while at < args.len() {
        if args.is(at, "idx") {
            options.idx = true;
        } else if args.is(at, "len") {
            options.len = true;
        } else if args.is(at, "withmatchlen") {
            options.with_match_len = true;
        } else if args.is(at, "minmatchlen") && at + 1 < args.len() {
            at += 1;
            options.min_match_len = parse::int(&args[at])?.max(0) as usize;
        } else {
            return Err(Refusal::Syntax);
        }
        at += 1;
    }
    if options.idx && options.len {
        return Err(Refusal::text("ERR If you want both the length and indexes, please just use IDX."));
    }
    Ok(options)
}

/// The length of the common subsequence of each pair of beginnings.
struct Table {
    cells: Vec<u32>,
    width: usize,
}

impl Table {
    fn fill(a: &[u8], b: &[u8]) -> Result<Table, Refusal> {
        let width = b.len() + 1;
        let cells = (a.len() + 1).saturating_mul(width);
        if cells.saturating_mul(size_of::<u32>()) > STRING_BYTES_MAX {
            return Err(Refusal::text(
                "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
            ));
        }
        let mut table = Table { cells: vec![0; cells], width };
        for (i, x) in a.iter().enumerate() {
            let (above, row) = table.cells[i * width..(i + 2) * width].split_at_mut(width);
            for (j, y) in b.iter().enumerate() {
                row[j + 1] = if x == y { above[j] + 1 } else { above[j + 1].max(row[j]) };
            }
        }
        Ok(table)
    }

    /// For the first `i` bytes of one string and the first `j` of the other.
    fn at(&self, i: usize, j: usize) -> u32 {
        self.cells[i * self.width + j]
    }

    /// Gives the runs of one longest subsequence, the last first: the one that prefers early bytes of `a`, as Redis does.
    fn walk(&self, a: &[u8], b: &[u8], mut found: impl FnMut(Match)) {
        let (mut i, mut j) = (a.len(), b.len());
        while i > 0 && j > 0 {
            let mut len = 0;
            while i > 0 && j > 0 && a[i - 1] == b[j - 1] {
                (i, j, len) = (i - 1, j - 1, len + 1);
            }
            if len > 0 {
                found(Match { a: i, b: j, len });
            } else if self.at(i - 1, j) > self.at(i, j - 1) {
                i -= 1;
            } else {
                j -= 1;
            }
        }
    }
}
