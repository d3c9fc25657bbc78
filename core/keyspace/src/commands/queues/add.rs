//! Putting jobs in.

use skep_base::{Args, Refusal};
use skep_resp::Reply;

use super::change_or_create;
use super::parse::Added;
use crate::context::WriteCx;

/// `QADD queue payload [ID id] [DEDUP word ms] [DELAY ms | AT unix-ms] [PRIO 0-9] [GROUP group] [LEASE ms] [TRIES n]
/// [BACKOFF ms [MAX ms]] [TTL ms] [KEEP ms]`
pub fn qadd(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let now = cx.now;
    let new = Added::parse(args.from(3), now)?.new_job(&args[2]);
    let (id, is_new) = change_or_create(cx, &args[1], |queue, numbers| {
        let (id, is_new) = queue.add(&new, now, numbers).map_err(|full| {
            Refusal::format(format!("QFULL the queue holds {} jobs, MAXLEN is {}", full.jobs, full.max))
        })?;
        Ok(((id, is_new), is_new.then_some("qadd")))
    })?;
    reply.array(2);
    reply.bulk(&id);
    reply.int(i64::from(is_new));
    Ok(())
}
