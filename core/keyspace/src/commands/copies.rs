//! `WAIT` and `WAITAOF`: how many copies hold what a connection wrote. The keyspace knows their arguments only; the node that leads
//! counts the copies.

use skep_base::{Args, Refusal};
use skep_resp::Reply;

use super::{Group, parse};
use crate::context::ReadCx;
use crate::dispatch::Handler::Read;
use crate::waits::would_wait;

pub const COMMANDS: Group = &[("wait", Read(wait)), ("waitaof", Read(wait))];

/// What a call waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CopiesWanted {
    /// The leader's own disk.
    pub local: bool,
    /// Copies other than the leader's.
    pub replicas: u64,
    /// In milliseconds; 0 for no end.
    pub timeout_ms: u64,
}

impl CopiesWanted {
    /// What a call of `WAIT` or `WAITAOF` asks for.
    ///
    /// # Errors
    /// Redis's, in the order in which it looks at the arguments.
    pub fn parse(args: Args<'_>) -> Result<CopiesWanted, Refusal> {
        const POSITIVE: &str = "ERR value is out of range, must be positive";
        let (local, replicas, timeout) = match args.len() {
            3 => (false, parse::int(&args[1])?, &args[2]),
            _ => {
                let local = parse::int_between(&args[1], 0, 1)? == 1;
                (local, parse::int_within(&args[2], 0, i64::MAX, POSITIVE)?, &args[3])
            }
        };
        // Fewer than none are always there.
        let replicas = u64::try_from(replicas).unwrap_or(0);
        Ok(CopiesWanted { local, replicas, timeout_ms: parse::wait_ms(timeout)? })
    }
}

fn wait(_: &mut ReadCx, args: Args, _: &mut Reply) -> Result<(), Refusal> {
    CopiesWanted::parse(args)?;
    Err(would_wait())
}

#[cfg(test)]
mod tests {
    use skep_base::args::OwnedArgs;

    use super::CopiesWanted;

    #[test]
    fn arguments_are_understood_and_refused_as_redis_does() {
        let table = [
            ("wait 0 0", "no 0 0"),
            ("wait 2 100", "no 2 100"),
            ("wait -1 100", "no 0 100"),
            ("wait a 100", "ERR value is not an integer or out of range"),
            ("wait a b", "ERR value is not an integer or out of range"),
            ("wait 1 b", "ERR timeout is not an integer or out of range"),
            ("wait 1 -1", "ERR timeout is negative"),
            ("waitaof 1 2 300", "yes 2 300"),
            ("waitaof 0 2 300", "no 2 300"),
            ("waitaof 2 2 300", "ERR value is out of range, value must between 0 and 1"),
            ("waitaof -1 2 300", "ERR value is out of range, value must between 0 and 1"),
            ("waitaof a 2 300", "ERR value is not an integer or out of range"),
            ("waitaof 0 -2 300", "ERR value is out of range, must be positive"),
            ("waitaof 0 a 300", "ERR value is out of range, must be positive"),
            ("waitaof 0 2 a", "ERR timeout is not an integer or out of range"),
        ];
        for (call, expected) in table {
            let args = OwnedArgs::collect(call.split(' ').map(str::as_bytes));
            let got = match CopiesWanted::parse(args.args()) {
                Ok(wanted) => {
                    let local = if wanted.local { "yes" } else { "no" };
                    format!("{local} {} {}", wanted.replicas, wanted.timeout_ms)
                }
                Err(refusal) => refusal.to_string(),
            };
            assert_eq!(got, expected, "{call}");
        }
    }
}
