//! Requests on standard input, replies on standard output: what examples that stand in for a server share.

use std::io::{Read, Write};

use skep_base::Args;
use skep_resp::{Decoder, Limits, Step};

/// Gives each request to `run`, with where its reply goes, until standard input ends. Replies leave when no whole request is left.
pub fn serve(mut run: impl FnMut(Args<'_>, &mut Vec<u8>)) {
    let mut decoder = Decoder::new();
    let (mut input, mut output) = (Vec::new(), Vec::new());
    let mut piece = [0; 65536];
    loop {
        match decoder.next(&input, &Limits::default()).expect("requests are well-formed") {
            Step::Command { consumed } => {
                run(decoder.args(&input), &mut output);
                input.drain(..consumed);
            }
            Step::Skip { consumed } => drop(input.drain(..consumed)),
            Step::Incomplete { .. } => {
                std::io::stdout().write_all(&output).expect("standard output is open");
                std::io::stdout().flush().expect("standard output is open");
                output.clear();
                match std::io::stdin().read(&mut piece).expect("standard input is readable") {
                    0 => return,
                    len => input.extend_from_slice(&piece[..len]),
                }
            }
        }
    }
}
