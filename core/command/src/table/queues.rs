//! Commands on queues of leased jobs, which are ours.

use super::prelude::*;

pub(super) const COMMANDS: &[CommandSpec] = &[
    command("qack", -4, WRITE | FAST, QUEUE, "7.4.0")
        .keys_at(&[key(1, RW | ACCESS | DELETE)])
        .syntax("key (id token)... [RESULT bytes]")
        .docs("O(log(N)) a job", "Marks leased jobs as done, if the leases hold."),
    command("qadd", -3, WRITE | DENYOOM | FAST, QUEUE, "7.4.0")
        .keys_at(&[key(1, RW | INSERT)])
        .syntax(
            "key payload [ID id] [DEDUP (word milliseconds)] [DELAY milliseconds | AT unix-time-milliseconds] \
             [PRIO priority:integer] [GROUP group] [LEASE milliseconds] [TRIES tries:integer] \
             [BACKOFF milliseconds [MAX milliseconds]] [TTL milliseconds] [KEEP milliseconds]",
        )
        .docs("O(log(N))", "Adds a job to a queue unless its id or word is known."),
    command("qbeat", -4, WRITE | FAST, QUEUE, "7.4.0")
        .keys_at(&[key(1, RW | ACCESS | UPDATE)])
        .syntax("key (id token | WORKER name) [milliseconds]")
        .docs("O(log(N)) a lease", "Prolongs a lease, or all of a worker."),
    command("qcron", -3, WRITE | DENYOOM, QUEUE, "7.4.0")
        .keys_at(&[key(1, RW | ACCESS | UPDATE)])
        .syntax(
            "key (SET name expression payload | DEL name | LIST | NEXT name instant) [TZ zone] \
             [PRIO priority:integer] [GROUP group] [LEASE milliseconds] [TRIES tries:integer] \
             [BACKOFF milliseconds [MAX milliseconds]] [TTL milliseconds] [KEEP milliseconds] [WHY text] \
             [VERSION version:integer]",
        )
        .docs("O(N) in the schedules", "Sets, drops or lists schedules by which a queue adds jobs itself."),
    command("qdrop", -3, WRITE, QUEUE, "7.4.0")
        .keys_at(&[key(1, RW | DELETE)])
        .syntax("key (id... | ALL state)")
        .docs("O(log(N)) a job", "Drops jobs; with ALL up to 10000 of a state at a time."),
    command("qfail", -4, WRITE | FAST, QUEUE, "7.4.0")
        .keys_at(&[key(1, RW | ACCESS | UPDATE)])
        .syntax("key id token [ERROR text] [DELAY milliseconds] [DEAD | FREE]")
        .docs("O(log(N))", "Gives a leased job back, to be tried again, to be dead, or as if it had not been taken."),
    command("qget", -3, READONLY | BLOCKING | FAST, QUEUE, "7.4.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax("key id [BLOCK milliseconds]")
        .docs("O(1)", "Shows a job."),
    command("qinfo", 2, READONLY, QUEUE, "7.4.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .tips(&["nondeterministic_output"])
        .syntax("key")
        .docs("O(log(N)), O(W) in the workers", "Counts the jobs of a queue and shows its settings."),
    command("qlist", -3, READONLY, QUEUE, "7.4.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax("key (READY | DELAYED | LEASED | DEAD | DONE) [CURSOR cursor:string] [COUNT count]")
        .docs("O(log(N)+M) in the jobs shown", "Lists the jobs of a state in steps."),
    command("qredo", -3, WRITE | MOVABLEKEYS, QUEUE, "7.4.0")
        .keys_at(&[key(1, RW | ACCESS | UPDATE), keyword("TO", 3, RW | INSERT)])
        .syntax("key (id... | ALL) [FROM (DEAD | DONE)] [TO key]")
        .docs(
            "O(log(N)) a job",
            "Makes dead or done jobs ready again, here or in another queue; with ALL up to 10000 at a time.",
        ),
    command("qset", -4, WRITE | DENYOOM, QUEUE, "7.4.0")
        .keys_at(&[key(1, RW | UPDATE)])
        .syntax(
            "key [LEASE milliseconds] [TRIES tries:integer] [BACKOFF milliseconds [MAX milliseconds]] \
             [RATE count [PER milliseconds]] [LIMIT limit] [GROUPLIMIT limit] [KEEP milliseconds] \
             [DEADKEEP milliseconds] [MAXLEN count] [PAUSED (YES | NO)]",
        )
        .docs("O(1), O(G) in the groups with GROUPLIMIT", "Sets what holds for all jobs of a queue."),
    command("qtake", -3, WRITE | BLOCKING | MOVABLEKEYS, QUEUE, "7.4.0")
        .keys_at(&[counted_keys(1, RW | ACCESS | UPDATE)])
        .syntax("numkeys key... [WORKER name] [COUNT count] [BLOCK milliseconds] [LEASE milliseconds]")
        .docs("O(K+M*log(N)) in the queues and the jobs taken", "Takes jobs from queues under a lease."),
];
