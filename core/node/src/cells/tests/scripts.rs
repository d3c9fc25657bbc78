//! Scripts that some shards know and others do not, called by their names by many clients.

use skep_base::ConnId;
use skep_keyspace::scripts::Sha;

use super::{Cells, FOUR_SHARDS};
use crate::Input;

const INCR: &str = "return(redis.call('incr',KEYS[1]))";
const NO_SCRIPT: &str = "-NOSCRIPT No matching script. Please use EVAL.";

/// What a cell asks of shards for one of them: whether it knows, whether the three others do, and one for the source.
const ASKED_FOR_ONE: usize = 5;

fn by_name(keys: std::ops::Range<usize>) -> String {
    let name = Sha::of(INCR.as_bytes());
    keys.map(|key| format!("EVALSHA {name} 1 k{key}\n")).collect()
}

/// Cells of which one has run the script, for a key of its own, and as many clients of each.
fn cells_with_clients(each: usize) -> (Cells, Vec<(usize, ConnId)>) {
    let mut all = Cells::of(3, FOUR_SHARDS);
    let conns: Vec<_> = (0..3 * each).map(|_| all.connect()).collect();
    assert_eq!(all.ask(conns[0], &format!("EVAL {INCR} 1 other")), ":1");
    (all, conns)
}

#[test]
fn what_many_clients_call_at_once_is_sought_once_by_each_cell() {
    let (mut all, conns) = cells_with_clients(8);
    conns.iter().for_each(|conn| all.send(*conn, &by_name(0..12)));
    all.settle();
    all.settle();
    for conn in &conns {
        let got = all.replies(*conn);
        assert_eq!(got.split(' ').filter(|reply| reply.starts_with(':')).count(), 12, "{got}");
    }
    let values: String = (0..12).map(|key| format!("GET k{key}\n")).collect();
    assert_eq!(all.ask(conns[0], &values), ["$2 24"; 12].join(" "));
    for cell in &all.cells {
        // A cell knows by itself what its own shards know, but a shard of its own may lack it too.
        let asked = cell.script_sources.asked;
        assert!(asked <= 4 * ASKED_FOR_ONE, "{asked}");
    }
}

#[test]
fn who_waits_for_what_another_client_asks_goes_on_when_that_one_is_gone() {
    for turns in 0..6 {
        let (mut all, conns) = cells_with_clients(2);
        let (first, second) = (conns[1], conns[4]);
        assert_eq!((first.0, second.0), (1, 1), "of one cell");
        all.send(first, &by_name(0..12));
        all.send(second, &by_name(0..12));
        for _ in 0..turns {
            (0..3).for_each(|cell| all.turn(cell));
        }
        all.input(first.0, Input::Disconnected { conn: first.1 });
        all.settle();
        all.settle();
        let got = all.replies(second);
        assert_eq!(got.split(' ').filter(|reply| reply.starts_with(':')).count(), 12, "{got}");
    }
}

#[test]
fn a_source_that_cannot_be_brought_to_its_shard_is_found_once_for_all_who_wait() {
    let (mut all, conns) = cells_with_clients(8);
    all.fill_disk(true);
    for key in 0..12 {
        let asked = |all: &Cells| all.cells.iter().map(|cell| cell.script_sources.asked).collect::<Vec<_>>();
        let before = asked(&all);
        conns.iter().for_each(|conn| all.send(*conn, &by_name(key..key + 1)));
        all.settle();
        for conn in &conns {
            let told = all.replies(*conn);
            assert!(told.starts_with("-TRYAGAIN the disk is full"), "k{key}: {told}");
        }
        // The shard is asked again after each call that did not bring it, and the third is the last.
        let more: Vec<usize> = asked(&all).iter().zip(before).map(|(now, before)| now - before).collect();
        assert!(more.iter().all(|more| *more <= ASKED_FOR_ONE + 2), "k{key}: {more:?}");
    }
    all.fill_disk(false);
    conns.iter().for_each(|conn| all.send(*conn, &by_name(0..12)));
    all.settle();
    all.settle();
    for conn in &conns {
        let told = all.replies(*conn);
        assert_eq!(told.split(' ').filter(|reply| reply.starts_with(':')).count(), 12, "{told}");
    }
}

#[test]
fn who_joins_a_search_that_finds_nothing_has_the_others_asked_once_more() {
    let name = Sha::of(INCR.as_bytes());
    let mut seconds = 0;
    for (late, key) in (0..3).flat_map(|late| (0..12).map(move |key| (late, key))) {
        let mut all = Cells::of(3, FOUR_SHARDS);
        let conns: Vec<_> = (0..6).map(|_| all.connect()).collect();
        let turns = |all: &mut Cells| {
            for _ in 0..8 {
                (0..3).filter(|cell| *cell != late).for_each(|cell| all.turn(cell));
            }
        };
        // All shards but those of one cell say that they do not know it. Then one of these runs it.
        let by = (late + 1) % 3;
        let (first, joins, runs) = (conns[by], conns[by + 3], conns[(late + 2) % 3]);
        all.send(first, &format!("EVALSHA {name} 1 k{key}"));
        turns(&mut all);
        all.send(runs, &format!("EVAL {INCR} 1 other"));
        turns(&mut all);
        let (has_run, told) = (all.replies(runs) == ":1", all.replies(first));
        all.send(joins, &format!("EVALSHA {name} 1 k{key}"));
        turns(&mut all);
        all.settle();
        let replies = [told, all.replies(first)].concat();
        let told = all.replies(joins);
        if has_run {
            assert!(told == ":1" || told == ":2", "{late} k{key}: {told} after {replies}");
            seconds += usize::from(replies == NO_SCRIPT);
        }
    }
    assert!(seconds > 0, "the first found nothing");
}

#[test]
fn what_was_found_stays_noted_whatever_other_calls_are_answered() {
    let (mut all, conns) = cells_with_clients(2);
    for (cell, conn) in conns[..3].iter().enumerate() {
        let asked = |all: &Cells| all.cells[conn.0].script_sources.asked;
        for key in 0..12 {
            assert_eq!(all.ask(*conn, &by_name(key..key + 1)), format!(":{}", 3 * cell + 1));
            let before = asked(&all);
            assert_eq!(all.ask(*conn, &by_name(key..key + 1)), format!(":{}", 3 * cell + 2));
            assert_eq!(asked(&all), before, "a source that was brought is noted");
        }
        // Neither a script that nobody knows is a reason to ask again, nor counters that begin anew.
        let before = asked(&all);
        let unknown = "0".repeat(40);
        assert_eq!(all.ask(*conn, &format!("SCRIPT SHOW {unknown}")), "-NOSCRIPT No matching script.");
        assert_eq!(all.ask(*conn, &by_name(0..6)), vec![format!(":{}", 3 * cell + 3); 6].join(" "));
        assert_eq!(all.ask(conns[3 + cell], "CONFIG RESETSTAT"), "+OK");
        assert_eq!(all.ask(*conn, &by_name(6..12)), vec![format!(":{}", 3 * cell + 3); 6].join(" "));
        assert_eq!(asked(&all), before);
        let told = all.ask(*conn, "INFO commandstats");
        assert!(!told.contains("cmdstat_script|"), "{told}");
    }
}

#[test]
fn a_shard_that_has_forgotten_a_script_is_asked_again_after_it_said_so() {
    let mut missed = 0;
    for cell in 0..3 {
        let (mut all, conns) = cells_with_clients(1);
        let conn = conns[cell];
        all.ask(conns[0], &by_name(0..12));
        all.ask(conn, &by_name(0..12));
        // More than a shard keeps of what was not loaded.
        let others: String = (0..600).map(|n| format!("EVAL return({n}) 1 k0\n")).collect();
        all.ask(conns[0], &others);
        let told = all.ask(conn, &by_name(0..1));
        if told != NO_SCRIPT {
            assert_eq!(told, ":3", "its cell has the shard, and sees that it has forgotten");
            continue;
        }
        missed += 1;
        let asked = all.cells[conn.0].script_sources.asked;
        assert!(all.ask(conn, &by_name(0..12)).split(' ').all(|reply| reply.starts_with(':')));
        let more = all.cells[conn.0].script_sources.asked - asked;
        assert_eq!(more, ASKED_FOR_ONE, "what is known of other shards is not forgotten");
    }
    assert!(missed > 0);
}

#[test]
fn who_reads_by_the_name_of_a_script_that_a_shard_has_forgotten_is_refused_once_at_most() {
    let (mut all, conns) = cells_with_clients(1);
    let source = "return(#KEYS)";
    let name = Sha::of(source.as_bytes());
    assert_eq!(all.ask(conns[0], &format!("EVAL {source} 1 other")), ":1");
    // Some other shard knows it all the time.
    let everywhere: String = (0..12).map(|key| format!("EVALSHA {name} 1 k{key}\n")).collect();
    all.ask(conns[0], &everywhere);
    for conn in conns {
        for key in 0..12 {
            assert_eq!(all.ask(conn, &format!("EVALSHA {name} 1 k{key}\n").repeat(2)), ":1 :1");
            // More than a shard keeps of what was not loaded.
            let others: String = (0..600).map(|n| format!("EVAL return({n}) 1 k{key}\n")).collect();
            all.ask(conn, &others);
            let read = format!("EVALSHA_RO {name} 1 k{key}");
            let told = all.ask(conn, &read);
            assert!(told == NO_SCRIPT || told == ":1", "{told}");
            assert_eq!(all.ask(conn, &read), ":1", "{key} after {told}");
        }
    }
}
