//! Answers `COMMAND …` requests read from standard input, as a server would: the half of
//! `tests/tools/compare_command_table.py` that shows our table.

use std::io::{Read, Write};

use skep_command::{describe, resolve};
use skep_resp::{Decoder, Limits, Protocol, Reply, Step};

fn main() -> std::io::Result<()> {
    let (mut input, mut out) = (Vec::new(), Vec::new());
    std::io::stdin().read_to_end(&mut input)?;
    let (mut decoder, mut start, mut protocol) = (Decoder::new(), 0, Protocol::Resp2);
    loop {
        let rest = &input[start..];
        match decoder.next(rest, &Limits::default()) {
            Ok(Step::Command { consumed }) => {
                let args = decoder.args(rest);
                let mut reply = Reply::new(&mut out, protocol);
                if args.is(0, "hello") {
                    protocol = if args.is(1, "3") { Protocol::Resp3 } else { Protocol::Resp2 };
                    reply.ok();
                } else if let Err(refusal) = resolve(args).and_then(|_| describe::answer(args, &mut reply)) {
                    reply.refusal(&refusal);
                }
                start += consumed;
            }
            Ok(Step::Skip { consumed }) => start += consumed,
            Ok(Step::Incomplete { .. }) => break,
            Err(error) => return Err(std::io::Error::other(error)),
        }
    }
    std::io::stdout().write_all(&out)
}
