//! `CONFIG`, `INFO`, `CLUSTER` and the commands about the process.

use crate::testing::{World, pipeline};
use crate::{CpuTime, Input, Note, Process};

/// The fields of an `INFO` reply.
fn info(w: &mut World, sections: &str) -> Vec<(String, String)> {
    let c = w.connect();
    let text = w.ask(c, &format!("INFO {sections}"));
    w.input(Input::Disconnected { conn: c });
    let fields = text.split(' ').filter_map(|word| word.split_once(':'));
    fields.map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn field(w: &mut World, name: &str) -> String {
    let fields = info(w, "everything");
    fields.into_iter().find(|(n, _)| n == name).map(|(_, v)| v).unwrap_or_default()
}

#[test]
fn settings_are_read_and_changed() {
    let mut w = World::new(&[]);
    let c = w.connect();
    assert_eq!(w.ask(c, "CONFIG GET save"), "*2 $4 save $0");
    assert_eq!(w.ask(c, "CONFIG GET maxmemory-s* timeout"), "*4 $17 maxmemory-samples $1 5 $7 timeout $1 0");
    assert_eq!(w.ask(c, "CONFIG GET TimeOut"), "*2 $7 TimeOut $1 0");
    w.ask(c, "HELLO 3");
    assert_eq!(w.ask(c, "CONFIG GET timeout\nCONFIG GET nosuch"), "%1 $7 timeout $1 0 %0");
    assert_eq!(w.ask(c, "CONFIG SET timeout 7 maxmemory 1mb\nCONFIG GET timeout"), "+OK %1 $7 timeout $1 7");
    assert_eq!(w.node.status().memory_max, 1 << 20);
    assert_eq!(
        w.ask(c, "CONFIG SET maxmemory 2mb nosuch 1"),
        "-ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'"
    );
    assert_eq!(w.node.status().memory_max, 1 << 20, "all or nothing");
    assert!(w.ask(c, "CONFIG SET databases 4").contains("can't set immutable config"));
    assert_eq!(w.ask(c, "CONFIG SET timeout"), "-ERR wrong number of arguments for 'config|set' command");
    assert_eq!(w.ask(c, "CONFIG SET timeout 1 hz"), "-ERR syntax error");
    assert!(w.ask(c, "CONFIG REWRITE").starts_with("-ERR skep does not write its configuration"));
    // A setting that changes what another command says.
    w.ask(c, "RPUSH l a b c\nSADD s 1 2 3");
    assert_eq!(w.ask(c, "OBJECT ENCODING s\nCONFIG SET set-max-intset-entries 2"), "$6 intset +OK");
    assert_eq!(w.ask(c, "OBJECT ENCODING s"), "$8 listpack");
}

#[test]
fn info_has_the_fields_that_clients_read() {
    let mut w = World::new(&[]);
    let c = w.connect();
    w.load.memory_used = 3 << 20;
    w.ask(
        c,
        "SET a 1\nSET b 2 PX 5000\nSET c 3 PX 7000\nGET a\nGET nosuch\nSELECT 9\nLPUSH l x\nGET l\nNOSUCH",
    );
    w.load.memory_used = 2 << 20;
    w.advance(90_061_000);
    w.settle();
    let fields = info(&mut w, "everything");
    for (name, expected) in [
        ("redis_version", "7.4.2"),
        ("skep_version", env!("CARGO_PKG_VERSION")),
        ("redis_mode", "standalone"),
        ("process_id", "4711"),
        ("run_id", "ffffffffffffffffffffffffffffffffffffffff"),
        ("tcp_port", "7001"),
        ("uptime_in_seconds", "90061"),
        ("uptime_in_days", "1"),
        ("connected_clients", "2"),
        ("blocked_clients", "0"),
        ("maxclients", "10000"),
        ("used_memory", "2097152"),
        ("used_memory_human", "2.00M"),
        ("used_memory_peak", "3145728"),
        ("used_memory_peak_human", "3.00M"),
        ("maxmemory", "0"),
        ("maxmemory_human", "0B"),
        ("maxmemory_policy", "noeviction"),
        ("loading", "0"),
        ("rdb_changes_since_last_save", "4"),
        ("rdb_saves", "0"),
        ("rdb_last_bgsave_time_sec", "-1"),
        ("rdb_current_bgsave_time_sec", "-1"),
        ("rdb_last_bgsave_status", "ok"),
        ("role", "master"),
        ("connected_slaves", "0"),
        ("total_connections_received", "2"),
        ("total_commands_processed", "9"),
        ("keyspace_hits", "2"),
        ("expired_keys", "2"),
        ("evicted_keys", "0"),
        ("cluster_enabled", "0"),
        ("db0", "keys=1,expires=0,avg_ttl=0"),
        ("db9", "keys=1,expires=0,avg_ttl=0"),
        ("node_id", "1"),
        ("node_name", "n1"),
        ("cluster_id", "1111111111111111111111111111111111111111"),
        ("leading_shards", "1"),
        ("shards", "1"),
        ("cluster_state", "ok"),
        ("cmdstat_set", "calls=3,usec=0,usec_per_call=0.00,rejected_calls=0,failed_calls=0"),
        ("cmdstat_get", "calls=3,usec=0,usec_per_call=0.00,rejected_calls=0,failed_calls=1"),
        ("errorstat_ERR", "count=1"),
        ("errorstat_WRONGTYPE", "count=1"),
        ("total_error_replies", "2"),
    ] {
        let found = fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        assert_eq!(found, Some(expected), "{name}");
    }
    for name in ["os", "arch_bits", "master_repl_offset", "instantaneous_ops_per_sec", "keyspace_misses"] {
        assert!(fields.iter().any(|(n, v)| n == name && !v.is_empty()), "{name}");
    }
    let names: std::collections::BTreeSet<_> = fields.iter().map(|(n, _)| n).collect();
    assert_eq!(names.len(), fields.len(), "no field comes twice");
    assert!(
        !names.contains(&"dragonfly_version".to_string()) && !names.contains(&"valkey_version".to_string())
    );
}

#[test]
fn figures_of_the_process_are_shown_once_they_are_known() {
    let mut w = World::new(&[]);
    w.load.memory_used = 8 << 20;
    w.settle();
    for name in ["used_cpu_user", "used_memory_rss", "total_system_memory", "mem_fragmentation_ratio"] {
        assert_eq!(field(&mut w, name), "", "{name} is left out, not invented");
    }
    let cpu = |user_ms, system_ms| CpuTime { user_ms, system_ms };
    w.input(Input::Measured(Process {
        memory_resident: 12 << 20,
        memory_total: 2 << 30,
        cpu: cpu(61_250, 70),
        cpu_main_thread: cpu(50_010, 0),
    }));
    let c = w.connect();
    w.ask(c, "CONFIG RESETSTAT");
    for (name, expected) in [
        ("used_memory_rss", "12582912"),
        ("used_memory_rss_human", "12.00M"),
        ("total_system_memory", "2147483648"),
        ("total_system_memory_human", "2.00G"),
        ("mem_fragmentation_ratio", "1.50"),
        ("mem_fragmentation_bytes", "4194304"),
        ("used_cpu_user", "61.250000"),
        ("used_cpu_sys", "0.070000"),
        ("used_cpu_user_children", "0.000000"),
        ("used_cpu_user_main_thread", "50.010000"),
    ] {
        assert_eq!(field(&mut w, name), expected, "{name}");
    }
}

#[test]
fn the_time_of_an_input_is_spread_over_the_commands_that_ran_in_it() {
    let mut w = World::new(&[("durability", "memory")]);
    let c = w.connect();
    w.receive(c, pipeline("GET a\nGET a\nGET a\nSTRLEN a"));
    w.node.attribute_time(8_000);
    w.receive(c, pipeline("GET a\nSET a 1"));
    w.node.attribute_time(6_000);
    w.turn();
    w.node.attribute_time(5_500);
    w.turn();
    w.node.attribute_time(9_000_000);
    let stat = |w: &mut World, name: &str| field(w, &format!("cmdstat_{name}"));
    assert!(stat(&mut w, "get").starts_with("calls=4,usec=12,usec_per_call=3.00,"));
    assert!(stat(&mut w, "strlen").starts_with("calls=1,usec=2,usec_per_call=2.00,"));
    assert!(
        stat(&mut w, "set").starts_with("calls=1,usec=5,usec_per_call=5.50,"),
        "an idle turn is nobody's"
    );
}

#[test]
fn latencies_are_shown_by_percentiles_of_each_command() {
    let mut w = World::new(&[]);
    let c = w.connect();
    w.node.attribute_time(0);
    for (calls, micros) in [(989, 3), (10, 100), (1, 5_000)] {
        for _ in 0..calls {
            w.ask(c, "GET k");
            w.node.attribute_time(micros * 1_000);
        }
    }
    assert_eq!(field(&mut w, "latency_percentiles_usec_get"), "p50=4.000,p99=128.000,p99.9=128.000");
    assert_eq!(field(&mut w, "latency_percentiles_usec_set"), "", "it was not called");
    assert_eq!(w.ask(c, "CONFIG SET latency-tracking-info-percentiles 0"), "+OK");
    assert_eq!(field(&mut w, "latency_percentiles_usec_get"), "p0=4.000");
    let set =
        b"*4\r\n$6\r\nCONFIG\r\n$3\r\nSET\r\n$33\r\nlatency-tracking-info-percentiles\r\n$9\r\n98.8  100\r\n";
    w.receive(c, &set[..]);
    w.settle();
    assert_eq!(w.replies(c), "+OK");
    assert_eq!(field(&mut w, "latency_percentiles_usec_get"), "p98.8=4.000,p100=8192.000");
}

#[test]
fn clients_that_watch_keys_are_counted() {
    let mut w = World::new(&[]);
    let (a, b) = (w.connect(), w.connect());
    assert_eq!(w.ask(a, "WATCH k"), "+OK");
    assert_eq!(w.ask(b, "WATCH k l"), "+OK");
    assert_eq!(field(&mut w, "watching_clients"), "2");
    assert_eq!(w.ask(a, "UNWATCH"), "+OK");
    assert_eq!(w.ask(b, "MULTI\nEXEC"), "+OK *0");
    assert_eq!(field(&mut w, "watching_clients"), "0");
}

#[test]
fn info_gives_the_sections_asked_for() {
    let mut w = World::new(&[]);
    let c = w.connect();
    let titles = |w: &mut World, args: &str| {
        let text = w.ask(c, &format!("INFO {args}"));
        text.split("# ")
            .skip(1)
            .map(|s| s.split(' ').next().unwrap().to_string())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let default =
        "Server Clients Memory Persistence Stats Replication CPU Modules Errorstats Cluster Keyspace Skep";
    assert_eq!(titles(&mut w, ""), default);
    assert_eq!(titles(&mut w, "DEFAULT"), default);
    assert_eq!(titles(&mut w, "cluster Server nosuch"), "Server Cluster");
    assert_eq!(titles(&mut w, "default commandstats").split(' ').count(), 13);
    assert_eq!(titles(&mut w, "all").split(' ').count(), 14);
    assert_eq!(w.ask(c, "INFO nosuch"), "$0");
    assert_eq!(w.ask(c, "INFO cluster"), "$30 # Cluster cluster_enabled:0");
    w.ask(c, "HELLO 3");
    assert_eq!(w.ask(c, "INFO cluster"), "=34 txt:# Cluster cluster_enabled:0");
}

#[test]
fn deadlines_are_averaged_exactly() {
    let mut w = World::new(&[]);
    let c = w.connect();
    w.ask(c, "SET a 1 PX 5000\nSET b 2 PX 9000\nSET c 3");
    w.advance(1_000);
    assert_eq!(field(&mut w, "db0"), "keys=3,expires=2,avg_ttl=6000");
    w.ask(c, "PERSIST b");
    assert_eq!(field(&mut w, "db0"), "keys=3,expires=1,avg_ttl=4000");
    w.ask(c, "FLUSHALL\nSET a 1");
    assert_eq!(field(&mut w, "db0"), "keys=1,expires=0,avg_ttl=0");
}

#[test]
fn counters_start_again_after_resetstat() {
    let mut w = World::new(&[]);
    let c = w.connect();
    w.ask(c, "SET a 1 PX 10\nGET a\nGET b\nNOSUCH");
    w.advance(100);
    w.settle();
    assert_eq!(field(&mut w, "expired_keys"), "1");
    assert_eq!(w.ask(c, "CONFIG RESETSTAT"), "+OK");
    let zero = ["expired_keys", "keyspace_hits", "keyspace_misses", "total_connections_received"];
    for name in zero {
        // Asking takes a connection of its own.
        let expected = if name.ends_with("received") { "4" } else { "0" };
        assert_eq!(field(&mut w, name), expected, "{name}");
    }
    assert_eq!((field(&mut w, "errorstat_ERR"), field(&mut w, "cmdstat_set")), ("".into(), "".into()));
    assert_eq!(w.node.status().expired_keys, 1, "metrics go on");
}

#[test]
fn rates_are_those_of_the_last_second() {
    let mut w = World::new(&[]);
    let c = w.connect();
    w.advance(1_000);
    w.settle();
    w.ask(c, &"PING\n".repeat(500));
    w.advance(2_000);
    w.settle();
    assert_eq!(field(&mut w, "instantaneous_ops_per_sec"), "250");
    // 500 times 14 bytes in and 7 bytes out, in 2 s; kbps are KiB per second.
    assert_eq!(field(&mut w, "instantaneous_input_kbps"), "3.42");
    assert_eq!(field(&mut w, "instantaneous_output_kbps"), "1.71");
}

#[test]
fn checkpoints_are_begun_on_demand() {
    let mut w = World::new(&[]);
    let c = w.connect();
    assert_eq!(w.ask(c, "LASTSAVE"), ":1700000000");
    w.advance(60_000);
    w.receive(c, pipeline("SET k v\nBGSAVE\nBGSAVE\nBGSAVE SCHEDULE\nSAVE\nBGREWRITEAOF\nBGSAVE x"));
    w.settle();
    assert_eq!(
        w.replies(c),
        "+OK +Background saving started -ERR Background save already in progress +Background saving scheduled \
         -ERR Background save already in progress -ERR Background append only file rewriting already in progress \
         -ERR syntax error"
    );
    assert_eq!(field(&mut w, "rdb_bgsave_in_progress"), "1");
    w.advance(2_500);
    assert_eq!(field(&mut w, "rdb_current_bgsave_time_sec"), "2");
    w.save_checkpoints();
    assert_eq!(field(&mut w, "rdb_bgsave_in_progress"), "0");
    assert_eq!(field(&mut w, "rdb_last_bgsave_time_sec"), "2");
    assert_eq!(
        (field(&mut w, "rdb_saves"), field(&mut w, "rdb_changes_since_last_save")),
        ("1".into(), "0".into())
    );
    assert_eq!(w.ask(c, "LASTSAVE"), ":1700000062");
    w.advance(60_000);
    assert_eq!(w.ask(c, "SAVE"), "+OK");
    assert_eq!(
        w.ask(c, "LASTSAVE"),
        ":1700000122",
        "nothing has changed, so what is saved is still the state"
    );
}

#[test]
fn save_answers_when_the_checkpoint_is_durable_and_holds_up_nobody_else() {
    let mut w = World::new(&[]);
    let (saver, other) = (w.connect(), w.connect());
    w.receive(saver, pipeline("SET k v\nSAVE\nSET k w\nGET k"));
    w.settle();
    assert_eq!(w.replies(saver), "+OK", "the commands behind SAVE wait with it");
    w.receive(saver, pipeline("PING"));
    assert_eq!(w.ask(other, "GET k\nSET l 1"), "$1 v +OK");
    assert_eq!(w.ask(other, "SAVE"), "-ERR Background save already in progress");
    assert_eq!(w.ask(other, "CLIENT PAUSE 10\nCLIENT UNPAUSE"), "+OK +OK");
    assert_eq!(w.replies(saver), "", "the end of a pause does not end the wait");
    w.save_checkpoints();
    assert_eq!(w.replies(saver), "+OK +OK $1 w +PONG");
    assert_eq!(w.ask(saver, "SAVE"), "", "there is something new to save");
    w.save_checkpoints();
    assert_eq!(w.replies(saver), "+OK");
}

#[test]
fn save_says_that_the_checkpoint_failed() {
    let mut w = World::new(&[]);
    let (saver, gone, silent) = (w.connect(), w.connect(), w.connect());
    let fail = |w: &mut World| {
        let group = w.under_way().expect("a checkpoint is under way");
        w.input(Input::CheckpointFailed { group, reason: "no space".into() });
        w.settle();
    };
    w.receive(saver, pipeline("SET k v\nSAVE\nPING"));
    w.settle();
    fail(&mut w);
    let text = "+OK -ERR the checkpoint could not be written; the log is kept, nothing is lost +PONG";
    assert_eq!(w.replies(saver), text);
    assert!(w.notes.iter().any(|note| matches!(note, Note::CheckpointFailed { .. })));
    assert!(field(&mut w, "cmdstat_save").ends_with("failed_calls=1"));
    // A client that leaves, and one that wants no replies.
    w.receive(gone, pipeline("SAVE"));
    w.settle();
    w.input(Input::Disconnected { conn: gone });
    fail(&mut w);
    w.receive(silent, pipeline("CLIENT REPLY SKIP\nSAVE\nPING"));
    w.settle();
    fail(&mut w);
    assert_eq!(w.replies(silent), "+PONG");
}

#[test]
fn no_two_times_are_the_same_within_a_millisecond() {
    let mut w = World::new(&[]);
    let c = w.connect();
    assert_eq!(w.ask(c, "TIME\nTIME"), "*2 $10 1700000000 $6 123000 *2 $10 1700000000 $6 123001");
    w.receive(c, pipeline(&"TIME\n".repeat(1_500)));
    assert!(w.replies(c).ends_with("*2 $10 1700000000 $6 123999"), "never a time to come");
    w.advance(1);
    assert_eq!(w.ask(c, "TIME"), "*2 $10 1700000000 $6 124000");
    w.now.wall = skep_base::Millis(1_600_000_000_000);
    assert_eq!(w.ask(c, "TIME"), "*2 $10 1600000000 $1 0", "as the wall clock has it");
}

#[test]
fn the_process_answers_for_itself() {
    let mut w = World::new(&[]);
    let c = w.connect();
    assert_eq!(w.ask(c, "TIME"), "*2 $10 1700000000 $6 123000");
    assert!(w.ask(c, "ROLE").starts_with("*3 $6 master :"));
    assert_eq!(w.ask(c, "REPLICAOF no one\nSLAVEOF NO ONE"), "+OK +OK");
    assert!(w.ask(c, "REPLICAOF 127.0.0.1 6379").contains("skep serve --join"));
    assert_eq!(w.ask(c, "ACL WHOAMI\nMODULE LIST"), "$7 default *0");
    assert_eq!(w.ask(c, "MODULE NOPE"), "-ERR unknown subcommand 'NOPE'. Try MODULE HELP.");
    assert_eq!(w.ask(c, "READONLY\nREADWRITE\nASKING"), "+OK +OK +OK");
    assert!(w.ask(c, "LOLWUT").contains("Redis ver. 7.4.2"));
    assert_eq!(w.ask(c, "SLOWLOG GET\nSLOWLOG GET -1\nSLOWLOG LEN\nSLOWLOG RESET"), "*0 *0 :0 +OK");
    assert_eq!(w.ask(c, "SLOWLOG GET -2"), "-ERR count should be greater than or equal to -1");
    assert_eq!(
        w.ask(c, "slowlog get 1 2"),
        "-ERR unknown subcommand or wrong number of arguments for 'get'. Try SLOWLOG HELP."
    );
    assert!(w.ask(c, "COMMAND COUNT").starts_with(':'));
    assert_eq!(w.ask(c, "COMMAND GETKEYS MSET a 1 b 2"), "*2 $1 a $1 b");
    assert_eq!(w.ask(c, "MEMORY PURGE"), "+OK");
    assert!(w.ask(c, "MEMORY STATS").contains("$10 keys.count :0"));
    assert!(w.ask(c, "MEMORY DOCTOR").contains("maxmemory is not set"));
    for container in
        ["CLIENT", "CLUSTER", "COMMAND", "CONFIG", "MEMORY", "MODULE", "OBJECT", "SLOWLOG", "DEBUG"]
    {
        let help = w.ask(c, &format!("{container} HELP"));
        assert!(help.contains(&format!("+{container} <subcommand>")), "{help}");
    }
}

#[test]
fn debug_serves_tests_and_blocks_nobody() {
    let mut w = World::new(&[]);
    let c = w.connect();
    assert!(w.ask(c, "DEBUG SLEEP 1").starts_with("-ERR DEBUG SLEEP"));
    assert!(w.ask(c, "DEBUG JMAP").starts_with("-ERR unknown subcommand"));
    assert_eq!(w.ask(c, "DEBUG STRINGMATCH-LEN 10 x*x\nDEBUG STRINGMATCH-LEN 10 y*"), ":1 :0");
    assert!(w.ask(c, "DEBUG STRINGMATCH-LEN 9999999999 x").starts_with("-ERR value"));
    assert_eq!(w.ask(c, "DEBUG SET-ACTIVE-EXPIRE 0\nSET k v PX 10"), "+OK +OK");
    w.advance(100);
    w.settle();
    assert_eq!(w.node.status().keys, 1);
    assert!(
        w.node.next_wakeup().is_none_or(|at| at > w.now.mono),
        "nothing can be done about it, so nobody wakes up"
    );
    assert_eq!(w.ask(c, "GET k\nDEBUG SET-ACTIVE-EXPIRE 1"), "$-1 +OK");
    w.settle();
    assert_eq!(w.node.status().keys, 0);
}

#[test]
fn a_shutdown_finishes_what_is_in_flight() {
    let mut w = World::new(&[]);
    let (a, b) = (w.connect(), w.connect());
    for (options, error) in [
        ("foo", "syntax error"),
        ("SAVE NOSAVE", "syntax error"),
        ("ABORT NOW", "syntax error"),
        ("ABORT", "No shutdown in progress."),
    ] {
        assert_eq!(w.ask(a, &format!("SHUTDOWN {options}")), format!("-ERR {error}"));
    }
    w.holds_disk = true;
    w.receive(a, pipeline("SET k v"));
    w.receive(b, pipeline("SHUTDOWN NOSAVE"));
    w.settle();
    assert!(!w.stopped, "a write waits for the disk");
    w.receive(a, pipeline("SET k w"));
    w.holds_disk = false;
    w.settle();
    assert_eq!(w.replies(a), "+OK -TRYAGAIN the node is starting or stopping; nothing was done");
    assert_eq!((w.replies(b), w.stopped), ("".into(), true));
    assert_eq!(w.closed, [b]);
    assert!(w.node.admit(0).is_err());
}

#[test]
fn a_full_disk_refuses_writes_and_nothing_else() {
    let mut w = World::new(&[]);
    let c = w.connect();
    w.ask(c, "SET k v");
    w.input(crate::Input::DiskFull(true));
    assert_eq!(
        w.ask(c, "SET k w\nGET k"),
        "-TRYAGAIN the disk is full; nothing was done; free space in the data directory $1 v"
    );
    assert_eq!(field(&mut w, "cluster_state"), "degraded");
    w.input(crate::Input::DiskFull(false));
    assert_eq!((w.ask(c, "SET k w"), field(&mut w, "cluster_state")), ("+OK".into(), "ok".into()));
}

#[test]
fn cluster_clients_get_a_map_of_the_slots() {
    let mut w = World::new(&[]);
    let c = w.connect();
    let id = w.ask(c, "CLUSTER MYID").replace("$40 ", "");
    assert!(id.len() == 40 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    let nodes = format!("{id} 127.0.0.1:7001@17001 myself,master - 0 0 1 connected 0-16383\n");
    assert_eq!(w.ask(c, "CLUSTER NODES"), format!("${} {nodes}", nodes.len()).trim_end());
    let slots = format!("*1 *3 :0 :16383 *4 $9 127.0.0.1 :7001 $40 {id} *0");
    assert_eq!(w.ask(c, "CLUSTER SLOTS"), slots);
    let info = w.ask(c, "CLUSTER INFO");
    for line in ["cluster_state:ok", "cluster_slots_assigned:16384", "cluster_slots_fail:0", "cluster_size:1"]
    {
        assert!(info.split(' ').any(|l| l == line), "{info}");
    }
    w.ask(c, "HELLO 3");
    assert_eq!(w.ask(c, "CLUSTER SLOTS"), slots.replace("*0", "%0"));
    let shards = w.ask(c, "CLUSTER SHARDS");
    let expected = format!(
        "*1 %2 $5 slots *2 :0 :16383 $5 nodes *1 %7 $2 id $40 {id} $4 port :7001 $2 ip $9 127.0.0.1 $8 endpoint $9 \
         127.0.0.1 $4 role $6 master $18 replication-offset :"
    );
    assert!(shards.starts_with(&expected) && shards.ends_with("$6 health $6 online"), "{shards}");
}

#[test]
fn keys_are_found_by_slot() {
    let mut w = World::new(&[]);
    let c = w.connect();
    w.ask(c, "SET {a}1 x\nSET {a}2 x\nSET {a}3 x PX 10\nSET b x");
    assert_eq!(w.ask(c, "CLUSTER KEYSLOT foo\nCLUSTER KEYSLOT {a}1"), ":12182 :15495");
    assert_eq!(w.ask(c, "CLUSTER COUNTKEYSINSLOT 15495\nCLUSTER COUNTKEYSINSLOT 0"), ":3 :0");
    w.advance(11);
    assert_eq!(w.ask(c, "CLUSTER COUNTKEYSINSLOT 15495"), ":2");
    assert_eq!(
        w.ask(c, "CLUSTER GETKEYSINSLOT 15495 1\nCLUSTER GETKEYSINSLOT 15495 9"),
        "*1 $4 {a}1 *2 $4 {a}1 $4 {a}2"
    );
    for (command, error) in [
        ("COUNTKEYSINSLOT x", "value is not an integer or out of range"),
        ("COUNTKEYSINSLOT 16384", "Invalid slot"),
        ("GETKEYSINSLOT 1 -1", "Invalid slot or number of keys"),
        ("GETKEYSINSLOT -1 1", "Invalid slot or number of keys"),
        ("GETKEYSINSLOT a 1", "value is not an integer or out of range"),
        ("NOPE a 1", "unknown subcommand 'NOPE'. Try CLUSTER HELP."),
    ] {
        assert_eq!(w.ask(c, &format!("CLUSTER {command}")), format!("-ERR {error}"));
    }
}
