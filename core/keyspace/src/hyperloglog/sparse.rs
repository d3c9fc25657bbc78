//! The sparse form: runs of equal registers, one after the other.
//!
//! `00llllll`: 1 to 64 zeros. `01llllll llllllll`: 1 to 16,384 zeros. `1vvvvvll`: 1 to 4 registers of value 1 to 32.
//! A change splits one run and joins neighbours exactly where Redis does, so that the bytes stay equal to its own.

use std::ops::Range;

use super::{Corrupted, HEADER_BYTES, REGISTERS};

/// Redis's default for `hll-sparse-max-bytes`: a sparse counter that would become longer, header included, becomes dense.
const SPARSE_BYTES_MAX: usize = 3000;
const SHORT_ZEROS_MAX: usize = 64;
const VALUES_MAX: usize = 4;
const VALUE_MAX: u8 = 32;
/// Runs looked at for joining after a change, from the one before it.
const RUNS_JOINED: usize = 5;

/// What became of a change.
pub enum Outcome {
    /// The register has that value or more.
    Unchanged,
    Raised,
    /// The sparse form cannot hold it.
    TooSmall,
}

/// One run, read.
#[derive(Clone, Copy)]
struct Run {
    value: u8,
    len: usize,
    /// Bytes that it takes.
    size: usize,
}

/// Appends a run of 1 to 16,384 zeros.
pub fn put_zeros(out: &mut Vec<u8>, len: usize) {
    if len <= SHORT_ZEROS_MAX {
        out.push(len as u8 - 1);
    } else {
        out.extend_from_slice(&[0x40 | ((len - 1) >> 8) as u8, (len - 1) as u8]);
    }
}

/// Calls `found` with the registers and the value of each run.
pub fn each_run(body: &[u8], mut found: impl FnMut(Range<usize>, u8)) -> Result<(), Corrupted> {
    let (mut at, mut first) = (0, 0);
    while at < body.len() {
        let run = read(body, at).ok_or(Corrupted)?;
        let end = first + run.len;
        if end > REGISTERS {
            return Err(Corrupted);
        }
        found(first..end, run.value);
        first = end;
        at += run.size;
    }
    if first == REGISTERS { Ok(()) } else { Err(Corrupted) }
}

/// Raises a register of a well-formed sparse counter. Cost: O(its bytes).
pub fn raise(bytes: &mut Vec<u8>, register: usize, value: u8) -> Outcome {
    // Before the look at the register: Redis, too, goes over to the dense form first.
    if value > VALUE_MAX {
        return Outcome::TooSmall;
    }
    let (mut before, mut at, mut first) = (HEADER_BYTES, HEADER_BYTES, 0);
    let run = loop {
        let run = read(bytes, at).expect("runs cover every register");
        if register < first + run.len {
            break run;
        }
        before = at;
        at += run.size;
        first += run.len;
    };
    if run.value >= value {
        return Outcome::Unchanged;
    }
    let mut parts = Vec::with_capacity(5);
    put_run(&mut parts, run.value, register - first);
    put_run(&mut parts, value, 1);
    put_run(&mut parts, run.value, first + run.len - 1 - register);
    if parts.len() > run.size && bytes.len() + parts.len() - run.size > SPARSE_BYTES_MAX {
        return Outcome::TooSmall;
    }
    bytes.splice(at..at + run.size, parts);
    join(bytes, before);
    Outcome::Raised
}

/// Joins neighbouring runs of one value, as far as a run reaches.
fn join(bytes: &mut Vec<u8>, mut at: usize) {
    for _ in 0..RUNS_JOINED {
        let Some(run) = read(bytes, at) else { return };
        match read(bytes, at + run.size) {
            Some(next) if run.value > 0 && next.value == run.value && run.len + next.len <= VALUES_MAX => {
                bytes[at + 1] = values(run.value, run.len + next.len);
                bytes.remove(at);
            }
            _ => at += run.size,
        }
    }
}

/// Appends a run, if there is anything in it.
fn put_run(out: &mut Vec<u8>, value: u8, len: usize) {
    match (value, len) {
        (_, 0) => {}
        (0, _) => put_zeros(out, len),
        _ => out.push(values(value, len)),
    }
}

fn values(value: u8, len: usize) -> u8 {
    0x80 | (value - 1) << 2 | (len - 1) as u8
}

/// The run at `at`; `None` past the end or within the last byte's missing half.
#[inline]
fn read(bytes: &[u8], at: usize) -> Option<Run> {
    let byte = *bytes.get(at)?;
    Some(match byte >> 6 {
        0 => Run { value: 0, len: usize::from(byte) + 1, size: 1 },
        1 => {
            let len = usize::from(byte & 0x3f) << 8 | usize::from(*bytes.get(at + 1)?);
            Run { value: 0, len: len + 1, size: 2 }
        }
        _ => Run { value: (byte >> 2 & 0x1f) + 1, len: usize::from(byte & 3) + 1, size: 1 },
    })
}
