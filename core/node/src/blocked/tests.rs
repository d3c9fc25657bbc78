//! Waiting on one node.

use skep_base::ConnId;

use crate::testing::{World, pipeline};

fn wait(world: &mut World, commands: &str) -> ConnId {
    let conn = world.connect();
    assert_eq!(world.ask(conn, commands), "", "{commands} waits");
    conn
}

fn worlds() -> [World; 2] {
    [World::new(&[]), World::new(&[("durability", "memory")])]
}

#[test]
fn who_waits_longest_is_served_first_and_each_element_has_one_taker() {
    for mut world in worlds() {
        let conns = [(); 3].map(|()| wait(&mut world, "BLPOP k 0"));
        let other = world.connect();
        assert_eq!(world.ask(other, "LPUSH k a"), ":1");
        assert_eq!(world.replies(conns[0]), "*2 $1 k $1 a");
        assert_eq!(world.ask(other, "RPUSH k b c d\nLRANGE k 0 -1"), ":3 *1 $1 d");
        assert_eq!(world.replies(conns[1]), "*2 $1 k $1 b");
        assert_eq!(world.replies(conns[2]), "*2 $1 k $1 c");
        assert_eq!(conns.map(|conn| world.replies(conn)), ["", "", ""]);
        assert_eq!(world.node.shards[0].waiting.len(), 0);
    }
}

#[test]
fn nobody_sees_the_element_between_and_one_entry_hands_it_over() {
    let mut world = World::new(&[]);
    let conn = wait(&mut world, "BLPOP k 0");
    let other = world.connect();
    let applied = |world: &World| world.node.shards[0].replica.as_ref().unwrap().applied.index.0;
    let before = applied(&world);
    world.receive(other, pipeline("LPUSH k a\nLLEN k"));
    world.settle();
    assert_eq!(world.replies(conn), "*2 $1 k $1 a");
    assert_eq!(world.replies(other), ":1 :0");
    assert_eq!(applied(&world), before + 1, "one entry");
}

#[test]
fn who_begins_to_wait_in_an_entry_gets_what_the_same_entry_brings_behind_it() {
    let mut world = World::new(&[]);
    let (reader, writer) = (world.connect(), world.connect());
    world.receive(reader, pipeline("SET x 1\nXREAD BLOCK 0 STREAMS s $"));
    world.receive(writer, pipeline("XADD s 1-1 f v"));
    world.settle();
    assert_eq!(world.replies(writer), "$3 1-1");
    assert_eq!(world.replies(reader), "+OK *1 *2 $1 s *1 *2 $3 1-1 *2 $1 f $1 v");
}

#[test]
fn what_may_bring_nothing_lets_nobody_overtake() {
    for brings_nothing in ["LPUSHX k x", "RPUSHX k x", "LMOVE none k LEFT LEFT", "RPOPLPUSH none k"] {
        for mut world in worlds() {
            let waiting = [(); 2].map(|()| wait(&mut world, "BLPOP k 0"));
            let other = world.connect();
            world.receive(other, pipeline(&format!("{brings_nothing}\nRPUSH k a")));
            world.settle();
            let got = waiting.map(|conn| world.replies(conn));
            assert_eq!(got, ["*2 $1 k $1 a", ""], "{brings_nothing}");
        }
    }
    let mut world = World::new(&[]);
    let waiting = [(); 2].map(|()| wait(&mut world, "BZPOPMIN z 0"));
    let other = world.connect();
    world.receive(other, pipeline("ZADD z XX 1 m\nZADD z 2 n"));
    world.settle();
    assert_eq!(waiting.map(|conn| world.replies(conn)), ["*3 $1 z $1 n $1 2", ""]);
    assert_eq!(world.ask(other, "SET z text"), ":0 :1 +OK");
    world.receive(other, pipeline("ZADD z 1 m\nDEL z\nZADD z 3 o"));
    world.settle();
    assert_eq!(world.replies(waiting[1]), "*3 $1 z $1 o $1 3");
}

#[test]
fn a_newcomer_does_not_overtake_those_who_wait() {
    for mut world in worlds() {
        let first = wait(&mut world, "BLPOP a 0");
        let (second, other) = (world.connect(), world.connect());
        // The second finds something at its second key, and waits for the first one behind the first.
        world.ask(other, "RPUSH b 1");
        world.receive(other, pipeline("RPUSH a x"));
        world.receive(second, pipeline("BLPOP a b 0"));
        world.settle();
        assert_eq!(world.replies(first), "*2 $1 a $1 x");
        assert_eq!(world.replies(second), "*2 $1 b $1 1");
        let first = wait(&mut world, "BRPOP a 0");
        world.receive(second, pipeline("BRPOP a 0"));
        world.receive(other, pipeline("RPUSH a y"));
        world.settle();
        assert_eq!((world.replies(first), world.replies(second)), ("*2 $1 a $1 y".into(), "".into()));
    }
}

#[test]
fn what_is_there_is_taken_without_waiting_in_the_order_of_the_keys() {
    for mut world in worlds() {
        let conn = world.connect();
        world.ask(conn, "RPUSH b 1 2\nRPUSH a 3\nZADD z 1 one 2 two");
        assert_eq!(world.ask(conn, "BLPOP none a b 0"), "*2 $1 a $1 3");
        assert_eq!(world.ask(conn, "BRPOP none b a 0"), "*2 $1 b $1 2");
        assert_eq!(
            world.ask(conn, "BZPOPMAX none z 0\nBZPOPMIN z 0"),
            "*3 $1 z $3 two $1 2 *3 $1 z $3 one $1 1"
        );
        assert_eq!(world.ask(conn, "BLMPOP 0 2 none b LEFT COUNT 5"), "*2 $1 b *1 $1 1");
        assert_eq!(world.ask(conn, "RPUSH a 1\nBLMOVE a b LEFT RIGHT 0\nBRPOPLPUSH b a 0"), ":1 $1 1 $1 1");
    }
}

#[test]
fn a_time_that_is_over_is_answered_with_null_and_nothing_is_taken_later() {
    for mut world in worlds() {
        let conn = wait(&mut world, "BLPOP k 0.5");
        let at = world.node.next_wakeup().expect("the wait has an end");
        assert_eq!(at, world.now.mono.plus(500));
        world.advance(499);
        world.settle();
        assert_eq!(world.replies(conn), "");
        world.advance(1);
        world.settle();
        assert_eq!(world.replies(conn), "*-1");
        assert_eq!(world.ask(conn, "RPUSH k a\nLLEN k"), ":1 :1");
        assert_eq!(world.ask(conn, "DEL k\nBLMOVE k l LEFT LEFT 0.001"), ":1");
        world.advance(1);
        world.settle();
        assert_eq!(world.replies(conn), "*-1");
    }
}

#[test]
fn bad_times_are_refused_as_in_redis() {
    let mut world = World::new(&[]);
    let conn = world.connect();
    for (command, refusal) in [
        ("BLPOP k x", "-ERR timeout is not a float or out of range"),
        ("BLPOP k -1", "-ERR timeout is negative"),
        ("BRPOP k 1e300", "-ERR timeout is out of range"),
        ("BLMOVE a b LEFT UP 0", "-ERR syntax error"),
        ("BLMPOP 0 0 k LEFT", "-ERR numkeys should be greater than 0"),
        ("BZMPOP 0 1 k MIN COUNT 0", "-ERR count should be greater than 0"),
        ("XREAD BLOCK x STREAMS s $", "-ERR timeout is not an integer or out of range"),
        ("XREAD BLOCK -1 STREAMS s $", "-ERR timeout is negative"),
        ("BLPOP s 0", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
    ] {
        world.ask(conn, "SET s 1");
        assert_eq!(world.ask(conn, command), refusal, "{command}");
    }
}

#[test]
fn a_client_that_waits_runs_nothing_else_until_it_is_served() {
    for mut world in worlds() {
        let (conn, other) = (world.connect(), world.connect());
        assert_eq!(world.ask(conn, "SET a 1\nBLPOP k 0\nSET a 2\nPING"), "+OK");
        assert_eq!(world.ask(other, "GET a\nRPUSH k x\nGET a"), "$1 1 :1 $1 1");
        assert_eq!(world.replies(conn), "*2 $1 k $1 x +OK +PONG");
        assert_eq!(world.ask(other, "GET a"), "$1 2");
    }
}

#[test]
fn who_is_tried_in_vain_is_not_overtaken_by_those_behind() {
    let mut world = World::new(&[]);
    let target = wait(&mut world, "BLPOP d 0");
    let conns = ["BLPOP a 0", "BLPOP a 0", "BLMOVE a d LEFT LEFT 0"].map(|command| wait(&mut world, command));
    let (one, other) = (world.connect(), world.connect());
    world.holds_disk = true;
    // Nobody knows that it brings something before it has run.
    for command in ["EVAL return(redis.call('rpush','a','1','2')) 0", "DEL a"] {
        world.receive(one, pipeline(command));
        world.turn();
    }
    // Two are tried for what was there for a moment.
    world.persist();
    world.receive(other, pipeline("RPUSH a x"));
    world.holds_disk = false;
    world.settle();
    assert_eq!(conns.map(|conn| world.replies(conn)), ["*2 $1 a $1 x", "", ""]);
    assert_eq!(world.ask(other, "RPUSH a y z"), ":1 :2");
    assert_eq!(conns.map(|conn| world.replies(conn)), ["", "*2 $1 a $1 y", "$1 z"]);
    assert_eq!(world.replies(target), "*2 $1 d $1 z");
}

#[test]
fn elements_that_are_moved_serve_those_who_wait_for_the_target() {
    for mut world in worlds() {
        let last = wait(&mut world, "BLPOP c 0");
        let middle = wait(&mut world, "BLMOVE b c LEFT RIGHT 0");
        let first = wait(&mut world, "BRPOPLPUSH a b 0");
        let other = world.connect();
        assert_eq!(world.ask(other, "RPUSH a x\nEXISTS a b c"), ":1 :0");
        assert_eq!([first, middle].map(|conn| world.replies(conn)), ["$1 x", "$1 x"]);
        assert_eq!(world.replies(last), "*2 $1 c $1 x");
    }
}

#[test]
fn a_move_that_waits_brings_nothing_to_its_target() {
    let mut world = World::new(&[]);
    let first = wait(&mut world, "BLPOP b 0");
    let applied = |world: &World| world.node.shards[0].replica.as_ref().unwrap().applied.index.0;
    let before = applied(&world);
    wait(&mut world, "BLMOVE a b LEFT LEFT 0");
    wait(&mut world, "BLMOVE c c LEFT LEFT 0");
    assert_eq!(applied(&world), before, "nobody is tried in vain");
    assert_eq!(world.replies(first), "");
}

#[test]
fn an_element_that_is_moved_within_its_list_is_handed_on_once() {
    for mut world in worlds() {
        let first = wait(&mut world, "BLMOVE a a LEFT RIGHT 0");
        let others = [(); 2].map(|()| wait(&mut world, "BLPOP a 0"));
        let other = world.connect();
        assert_eq!(world.ask(other, "RPUSH a 1 2"), ":2");
        assert_eq!(world.replies(first), "$1 1");
        assert_eq!(others.map(|conn| world.replies(conn)), ["*2 $1 a $1 2", "*2 $1 a $1 1"]);
    }
}

#[test]
fn what_comes_another_way_serves_as_well() {
    for mut world in worlds() {
        let other = world.connect();
        for (make, serve) in [
            ("RPUSH from x", "RENAME from k"),
            ("RPUSH from x", "COPY from k"),
            ("RPUSH from x y", "LMOVE from k RIGHT LEFT"),
            ("RPUSH from 1 2\nRPUSH from x", "SORT from BY nosort STORE k"),
            ("RPUSH from x\nSELECT 1\nDEL k\nRPUSH k x\nSELECT 0", "SWAPDB 0 1"),
        ] {
            world.ask(other, &format!("FLUSHALL\n{make}"));
            let conns = [(); 2].map(|()| wait(&mut world, "BRPOP k 0"));
            world.ask(other, serve);
            assert!(world.replies(conns[0]).starts_with("*2 $1 k $1 "), "{serve}");
            world.ask(other, "RPUSH k z");
            assert!(world.replies(conns[1]).starts_with("*2 $1 k $1 "), "{serve}");
        }
    }
}

#[test]
fn sorted_sets_serve_by_score() {
    for mut world in worlds() {
        let conns = [(); 2].map(|()| wait(&mut world, "BZPOPMIN z 0"));
        let third = wait(&mut world, "BZMPOP 0 1 z MAX COUNT 2");
        let other = world.connect();
        assert_eq!(world.ask(other, "ZADD z 3 c 1 a 2 b 4 d"), ":4");
        assert_eq!(world.replies(conns[0]), "*3 $1 z $1 a $1 1");
        assert_eq!(world.replies(conns[1]), "*3 $1 z $1 b $1 2");
        assert_eq!(world.replies(third), "*2 $1 z *2 *2 $1 d $1 4 *2 $1 c $1 3");
    }
}

#[test]
fn a_key_of_another_type_serves_nobody_who_has_waited() {
    for mut world in worlds() {
        let conn = wait(&mut world, "BLPOP k 0");
        let sorted = wait(&mut world, "BZPOPMIN k 0");
        let other = world.connect();
        assert_eq!(world.ask(other, "FLUSHALL\nRANDOMKEY"), "+OK $-1", "commands without keys serve nobody");
        assert_eq!(world.ask(other, "SET k 1"), "+OK");
        assert!(world.ask(other, "LPUSH k x").starts_with("-WRONGTYPE"));
        assert_eq!(world.ask(other, "DEL k\nSADD k m\nDEL k\nZADD k 1 m"), ":1 :1 :1 :1");
        assert_eq!(world.replies(conn), "");
        assert_eq!(world.replies(sorted), "*3 $1 k $1 m $1 1");
        assert_eq!(world.ask(other, "RPUSH k x"), ":1");
        assert_eq!(world.replies(conn), "*2 $1 k $1 x");
    }
}

#[test]
fn a_move_to_a_key_of_another_type_is_refused_when_its_time_comes() {
    for mut world in worlds() {
        let conn = wait(&mut world, "BLMOVE a b LEFT LEFT 0");
        let other = world.connect();
        assert_eq!(world.ask(other, "SET b 1\nRPUSH a x\nLLEN a"), "+OK :1 :1");
        assert!(world.replies(conn).starts_with("-WRONGTYPE"));
    }
}

#[test]
fn a_client_that_is_gone_takes_nothing() {
    for mut world in worlds() {
        let (gone, ended) = (wait(&mut world, "BLPOP k 0"), wait(&mut world, "BLPOP k 0"));
        let stays = wait(&mut world, "BLPOP k 0");
        world.input(crate::Input::Disconnected { conn: gone });
        world.input(crate::Input::Ended { conn: ended });
        assert_eq!(world.closed, [ended]);
        let other = world.connect();
        assert_eq!(world.ask(other, "RPUSH k a b\nLRANGE k 0 -1"), ":2 *1 $1 b");
        assert_eq!(world.replies(stays), "*2 $1 k $1 a");
    }
}

#[test]
fn a_client_that_goes_before_its_command_is_applied_does_not_begin_to_wait() {
    let mut world = World::new(&[]);
    let other = world.connect();
    assert_eq!(world.ask(other, "XGROUP CREATE s g $ MKSTREAM"), "+OK");
    world.holds_disk = true;
    let conn = world.connect();
    // A group's reader is tried in an entry first.
    assert_eq!(world.ask(conn, "XREADGROUP GROUP g c BLOCK 0 STREAMS s >"), "");
    world.input(crate::Input::Disconnected { conn });
    world.holds_disk = false;
    world.settle();
    assert_eq!(world.node.shards[0].waiting.len(), 0);
}

#[test]
fn client_unblock_ends_a_wait_with_null_or_an_error() {
    for mut world in worlds() {
        let other = world.connect();
        let conns = [(); 2].map(|()| wait(&mut world, "BLPOP k 0"));
        let [first, second] = conns.map(|conn| world.node.clients.get(conn).unwrap().number);
        assert!(world.ask(other, "INFO clients").contains("blocked_clients:2 "));
        assert!(world.ask(other, &format!("CLIENT LIST ID {first}")).contains(" flags=b "));
        assert_eq!(world.ask(other, &format!("CLIENT UNBLOCK {first}\nCLIENT UNBLOCK {first}")), ":1 :0");
        assert_eq!(
            world.ask(other, &format!("CLIENT UNBLOCK {second} ERROR\nRPUSH k a\nLLEN k")),
            ":1 :1 :1"
        );
        assert_eq!(world.replies(conns[0]), "*-1");
        assert_eq!(world.replies(conns[1]), "-UNBLOCKED client unblocked via CLIENT UNBLOCK");
        assert!(world.ask(other, "INFO clients").contains("blocked_clients:0 "));
    }
}

#[test]
fn readers_of_a_group_get_an_entry_each_and_each_group_its_own() {
    for mut world in worlds() {
        let other = world.connect();
        world.ask(other, "XGROUP CREATE s g $ MKSTREAM\nXGROUP CREATE s h $");
        let read =
            |group: &str, who: &str| format!("XREADGROUP GROUP {group} {who} COUNT 1 BLOCK 0 STREAMS s >");
        let first = wait(&mut world, &read("g", "one"));
        let second = wait(&mut world, &read("g", "two"));
        let of_other = wait(&mut world, &read("h", "three"));
        assert_eq!(world.ask(other, "XADD s 1-1 a b"), "$3 1-1");
        assert_eq!(world.replies(first), "*1 *2 $1 s *1 *2 $3 1-1 *2 $1 a $1 b");
        assert_eq!(world.replies(of_other), "*1 *2 $1 s *1 *2 $3 1-1 *2 $1 a $1 b");
        let again = world.connect();
        assert_eq!(
            world.ask(again, "XREADGROUP GROUP g one BLOCK 0 STREAMS s 0"),
            "*1 *2 $1 s *1 *2 $3 1-1 *2 $1 a $1 b",
            "what it has not acknowledged, whoever waits"
        );
        assert_eq!(world.replies(second), "");
        assert_eq!(
            world.ask(other, "XADD s 2-1 a b\nXPENDING s g - + 9 two"),
            "$3 2-1 *1 *4 $3 2-1 $3 two :0 :1"
        );
        assert_eq!(world.replies(second), "*1 *2 $1 s *1 *2 $3 2-1 *2 $1 a $1 b");
    }
}

#[test]
fn readers_of_streams_wait_for_what_is_new() {
    for mut world in worlds() {
        let other = world.connect();
        assert_eq!(world.ask(other, "XADD s 1-1 a b"), "$3 1-1");
        let readers = [(); 2].map(|()| wait(&mut world, "XREAD BLOCK 0 STREAMS s $"));
        let late = wait(&mut world, "XREAD BLOCK 50 STREAMS none s $ 9-9");
        assert_eq!(world.ask(other, "XADD s 2-1 c d"), "$3 2-1");
        for reader in readers {
            assert_eq!(world.replies(reader), "*1 *2 $1 s *1 *2 $3 2-1 *2 $1 c $1 d");
        }
        assert_eq!(world.replies(late), "");
        world.advance(50);
        world.settle();
        assert_eq!(world.replies(late), "*-1");
        let again = wait(&mut world, "XREAD BLOCK 0 STREAMS s $");
        assert_eq!(world.ask(other, "DEL s\nSET s 1\nDEL s\nXADD s 3-1 e f"), ":1 +OK :1 $3 3-1");
        assert_eq!(world.replies(again), "*1 *2 $1 s *1 *2 $3 3-1 *2 $1 e $1 f");
    }
}

#[test]
fn readers_of_a_group_that_goes_away_are_told() {
    for mut world in worlds() {
        let other = world.connect();
        for (end, answer) in [
            ("XGROUP DESTROY s g", "-NOGROUP "),
            ("DEL s", "-NOGROUP "),
            ("SET s 1", "-WRONGTYPE "),
            ("FLUSHALL", "-NOGROUP "),
        ] {
            world.ask(other, "DEL s\nXGROUP CREATE s g $ MKSTREAM");
            let readers = [(); 3].map(|()| wait(&mut world, "XREADGROUP GROUP g c BLOCK 0 STREAMS s >"));
            let plain = wait(&mut world, "XREAD BLOCK 0 STREAMS s $");
            world.ask(other, end);
            for reader in readers {
                assert!(world.replies(reader).starts_with(answer), "{end}");
            }
            assert_eq!(world.replies(plain), "", "{end}");
            world.input(crate::Input::Disconnected { conn: plain });
        }
    }
}

#[test]
fn workers_wait_for_jobs() {
    for mut world in worlds() {
        let workers = [(); 2].map(|()| wait(&mut world, "QTAKE 2 p q BLOCK 0"));
        let other = world.connect();
        assert_eq!(world.ask(other, "QADD q x ID one\nQADD p y ID two"), "*2 $3 one :1 *2 $3 two :1");
        assert!(world.replies(workers[0]).starts_with("*1 *7 $1 q $3 one "));
        assert!(world.replies(workers[1]).starts_with("*1 *7 $1 p $3 two "));
        let end = wait(&mut world, "QGET q one BLOCK 0");
        let worker = wait(&mut world, "QTAKE 1 q BLOCK 200");
        assert_eq!(world.ask(other, "QADD q x ID three DELAY 100"), "*2 $5 three :1");
        assert_eq!(world.replies(worker), "");
        world.advance(101);
        world.settle();
        assert!(world.replies(worker).starts_with("*1 *7 $1 q $5 three "), "its time has come");
        assert_eq!(world.replies(end), "");
    }
}

#[test]
fn who_waited_in_vain_for_the_end_of_a_job_gets_it_as_it_is() {
    for mut world in worlds() {
        let other = world.connect();
        assert_eq!(world.ask(other, "QADD q x ID one\nQGET q none BLOCK 0"), "*2 $3 one :1 $-1");
        let waits = wait(&mut world, "QGET q one BLOCK 100");
        let unblocked = wait(&mut world, "QGET q one BLOCK 0");
        let number = world.node.clients.get(unblocked).unwrap().number;
        assert_eq!(world.ask(other, &format!("CLIENT UNBLOCK {number}")), ":1");
        world.advance(101);
        world.settle();
        let ready = "*26 $2 id $3 one $5 state $5 ready ";
        for conn in [waits, unblocked] {
            let reply = world.replies(conn);
            assert!(reply.starts_with(ready), "{reply}");
        }
        let queued = world.ask(other, "MULTI\nQGET q one BLOCK 0\nEXEC");
        assert!(queued.ends_with("errors *0") && queued.contains(ready), "{queued}");
        let script = world.ask(other, "EVAL return(redis.call('qget','q','one','block','0')[4]) 1 q");
        assert_eq!(script, "$5 ready");
        assert!(world.node.shards[0].waiting.is_empty());
    }
}

#[test]
fn a_worker_gets_the_next_job_when_the_rate_of_its_queue_allows_it() {
    for mut world in worlds() {
        let other = world.connect();
        world.ask(other, "QSET q RATE 1 PER 1000\nQADD q x ID one\nQADD q x ID two\nQADD q x ID three");
        assert!(world.ask(other, "QTAKE 1 q").contains("$3 one "));
        let worker = wait(&mut world, "QTAKE 1 q BLOCK 0");
        world.advance(900);
        world.settle();
        assert_eq!(world.replies(worker), "");
        let at = world.node.next_wakeup().expect("the rate allows another");
        assert!(at > world.now.mono && at <= world.now.mono.plus(200), "{at:?} {:?}", world.now.mono);
        world.advance(150);
        world.settle();
        assert!(world.replies(worker).contains("$3 two "));
    }
}
