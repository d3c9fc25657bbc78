//! Ticks of schedules: the leader finds when the next one is, and logs it (decision 9).
//!
//! A queue adds a job at a tick by itself, as an entry passes it, and then wants to know the next. What the leader answers is
//! a command like any other, about one version of one schedule: if two leaders answer, the first counts.

use skep_base::{Args, Millis, Refusal};
use skep_command::{CommandId, CommandSpec, id_of};
use skep_keyspace::next_tick_call;
use skep_resp::Protocol;
use skep_schedule::Schedule;

use crate::Node;
use crate::batch::{Call, Origin};
use crate::local::Route;
use crate::shard::Shard;

const QCRON: CommandId = id_of("qcron");

/// Ticks looked for in a turn: one takes some microseconds, and a strange expression some milliseconds.
const TICKS_PER_TURN_MAX: usize = 16;

/// When what was logged and not heard of again is logged once more: it went with a leadership that was lost and won again.
const ASK_AGAIN_MS: u64 = 1_000;

/// What the leader has answered, and when.
#[derive(Clone, Copy, Default)]
pub(crate) struct TicksTold {
    /// Of the newest schedule answered; later changes have greater versions.
    version: u64,
    at: Millis,
}

impl Node {
    /// Logs the ticks that are wanted.
    pub(crate) fn propose_ticks(&mut self) {
        if !self.may_sweep() {
            return;
        }
        let (now, routes) = (self.now, &self.routes);
        for shard in &mut self.shards {
            let told = shard.ticks_told;
            let Some(replica) = shard.leading().filter(|r| r.keyspace.wants_ticks()) else { continue };
            let time = replica.time(now);
            let all = now.mono >= told.at.plus(ASK_AGAIN_MS);
            let mut wanted = replica.keyspace.ticks_wanted(TICKS_PER_TURN_MAX);
            wanted.retain(|wanted| all || wanted.schedule.version > told.version);
            for wanted in wanted {
                let schedule = &wanted.schedule;
                let found = Schedule::parse(&schedule.cron, &schedule.zone)
                    .and_then(|cron| cron.next(schedule.since(), time))
                    .map_err(|why| why.to_string());
                let Route::Keyspace(handler) = routes.of(QCRON.spec()) else {
                    panic!("QCRON is a command of the keyspace")
                };
                let call = Call {
                    origin: Origin::Nobody,
                    command: QCRON.spec(),
                    handler,
                    db: wanted.db,
                    protocol: Protocol::Resp2,
                    silent: true,
                    no_touch: true,
                    caches: false,
                    free: false,
                    wait: None,
                };
                let words = next_tick_call(&wanted, found.as_ref().map(|at| *at).map_err(|why| why.as_str()));
                shard.batch.push_write(call, words.args());
                let version = shard.ticks_told.version.max(schedule.version);
                shard.ticks_told = TicksTold { version, at: now.mono };
            }
        }
    }

    /// When a tick that a leader wants is to be looked for, or once more.
    pub(crate) fn next_tick_wanted(&self, shard: &Shard) -> Option<Millis> {
        let replica = shard.replica.as_ref().filter(|r| r.group.is_leader() && self.may_sweep())?;
        if !replica.keyspace.wants_ticks() {
            return None;
        }
        let wanted = replica.keyspace.ticks_wanted(TICKS_PER_TURN_MAX);
        let is_new = wanted.iter().any(|w| w.schedule.version > shard.ticks_told.version);
        Some(if is_new { self.now.mono } else { shard.ticks_told.at.plus(ASK_AGAIN_MS) })
    }

    /// Refuses a schedule that this node can read no sense into, before it is logged. One that comes another way (by ONCE, or
    /// from a node of another version) is refused by the leader, which QCRON LIST shows.
    #[inline]
    pub(crate) fn check_schedule(&self, command: &CommandSpec, args: Args<'_>) -> Result<(), Refusal> {
        if command.id() != QCRON || !args.is(2, "set") || args.len() < 6 {
            return Ok(());
        }
        // As the command itself reads its words: each has one value.
        let zone = (6..args.len()).step_by(2).find(|at| args.is(*at, "tz")).and_then(|at| args.get(at + 1));
        match Schedule::parse(&args[4], zone.unwrap_or_default()) {
            Ok(_) => Ok(()),
            Err(why) => Err(Refusal::format(format!("ERR {why}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use skep_base::Millis;

    use crate::testing::World;

    /// Sends one command whose words may hold blanks, and gives the reply.
    fn ask(world: &mut World, conn: skep_base::ConnId, words: &[&str]) -> String {
        let mut bytes = Vec::new();
        skep_resp::write_command(&mut bytes, words.iter().map(|w| w.as_bytes()));
        world.receive(conn, bytes);
        world.settle();
        world.replies(conn)
    }

    /// The ids of the jobs that are ready.
    fn ready(world: &mut World, conn: skep_base::ConnId) -> Vec<String> {
        let listed = world.ask(conn, "QLIST q READY COUNT 100");
        let words: Vec<&str> = listed.split(' ').collect();
        let ids = words.windows(3).filter(|w| w[0] == "id").map(|w| w[2].to_string());
        ids.collect()
    }

    #[test]
    fn schedules_add_one_job_a_tick_and_wake_the_node_up_for_it() {
        let mut world = World::new(&[]);
        let conn = world.connect();
        world.now.wall = Millis(1_800_000_000_500);
        world.advance(1);
        assert_eq!(ask(&mut world, conn, &["QCRON", "q", "SET", "beat", "* * * * * *", "tick"]), "+OK");
        loop {
            let at = world.node.next_wakeup().expect("a schedule has a tick");
            let ms = at.since(world.now.mono).max(1);
            if world.now.wall.plus(ms) > Millis(1_800_000_003_500) {
                break;
            }
            world.advance(ms);
            world.settle();
        }
        let expected: Vec<String> =
            (1..4).map(|s| format!("beat@{}", 1_800_000_000_000u64 + s * 1_000)).collect();
        assert_eq!(ready(&mut world, conn), expected);
        // What was missed within a minute is made up for.
        world.advance(10_000);
        for _ in 0..40 {
            world.settle();
            world.advance(1);
        }
        assert_eq!(ready(&mut world, conn).len(), 13);
        // After a longer pause one is.
        world.advance(3_600_000);
        for _ in 0..40 {
            world.settle();
            world.advance(1);
        }
        assert_eq!(ready(&mut world, conn).len(), 14);
    }

    #[test]
    fn a_schedule_that_is_set_again_keeps_the_ticks_that_are_overdue() {
        let mut world = World::new(&[]);
        let conn = world.connect();
        world.now.wall = Millis(1_800_000_000_500);
        world.advance(1);
        let set = ["QCRON", "q", "SET", "beat", "* * * * * *", "tick"];
        assert_eq!(ask(&mut world, conn, &set), "+OK");
        world.advance(10_000);
        for turn in 0..40 {
            if turn % 4 == 0 {
                assert_eq!(ask(&mut world, conn, &set), "+OK");
            }
            world.settle();
            world.advance(1);
        }
        let expected: Vec<String> =
            (1..=10).map(|s| format!("beat@{}", 1_800_000_000_000u64 + s * 1_000)).collect();
        assert_eq!(ready(&mut world, conn), expected);
    }

    #[test]
    fn a_schedule_without_sense_is_refused_before_it_is_logged() {
        let mut world = World::new(&[]);
        let conn = world.connect();
        for (cron, zone, why) in [
            ("61 * * * *", "UTC", "invalid cron expression"),
            ("@daily", "Mars/Olympus", "unknown time zone 'Mars/Olympus'"),
        ] {
            let reply =
                ask(&mut world, conn, &["QCRON", "q", "SET", "n", cron, "p", "PRIO", "3", "TZ", zone]);
            assert!(reply.starts_with("-ERR") && reply.contains(why), "{reply}");
        }
        assert_eq!(world.ask(conn, "EXISTS q"), ":0");
        // What comes another way shows what is wrong with it.
        let reply = ask(&mut world, conn, &["ONCE", "t", "QCRON", "q", "SET", "n", "61 * * * *", "p"]);
        assert_eq!(reply, "+OK");
        world.settle();
        let listed = world.ask(conn, "QCRON q LIST");
        assert!(listed.contains("invalid cron expression"), "{listed}");
        let reply = ask(&mut world, conn, &["QCRON", "q", "SET", "never", "0 0 30 2 *", "p"]);
        assert_eq!(reply, "+OK");
        world.settle();
        let listed = world.ask(conn, "QCRON q LIST");
        assert!(listed.contains("the expression is never true"), "{listed}");
        assert!(world.node.next_wakeup().is_none_or(|at| at > world.now.mono), "the node comes to rest");
    }
}
