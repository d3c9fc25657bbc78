//! `maxmemory` as clients meet it.

use crate::testing::World;

/// The world's idea of memory: so much for each key.
const KEY_BYTES: u64 = 100_000;

fn settle(w: &mut World) {
    for _ in 0..10 {
        w.load.memory_used = w.node.status().keys * KEY_BYTES;
        w.settle();
    }
}

fn set_many(w: &mut World, from: usize, to: usize, options: &str) -> String {
    let c = w.connect();
    let commands: Vec<String> = (from..to).map(|i| format!("SET k{i} v {options}")).collect();
    w.receive(c, crate::testing::pipeline(&commands.join("\n")));
    settle(w);
    w.replies(c)
}

#[test]
fn keys_go_while_writes_come() {
    for (policy, options) in [("allkeys-lru", ""), ("allkeys-random", ""), ("volatile-ttl", "EX 100")] {
        let mut w = World::new(&[("maxmemory", "1000000"), ("maxmemory-policy", policy)]);
        assert!(!set_many(&mut w, 0, 50, options).contains('-'));
        assert!(!set_many(&mut w, 50, 100, options).contains('-'), "{policy}");
        let keys = w.node.status().keys;
        assert!(keys <= 10, "{policy} left {keys} keys");
        assert!(w.node.status().evicted_keys >= 90, "{policy}");
    }
}

#[test]
fn writes_that_grow_are_refused_when_nothing_may_go() {
    for policy in ["noeviction", "volatile-lru", "volatile-ttl"] {
        let mut w = World::new(&[("maxmemory", "1000000"), ("maxmemory-policy", policy)]);
        set_many(&mut w, 0, 50, "");
        let c = w.connect();
        let refused = "-OOM command not allowed when used memory > 'maxmemory'.";
        assert_eq!(w.ask(c, "SET new v\nDEL k1\nGET k2"), format!("{refused} :1 $1 v"), "{policy}");
        assert_eq!(w.ask(c, "CONFIG SET maxmemory-policy allkeys-lru"), "+OK");
        settle(&mut w);
        assert_eq!(w.ask(c, "SET new v"), "+OK", "{policy}");
        assert_eq!(w.ask(c, "CONFIG SET maxmemory 0 maxmemory-policy noeviction\nSET another v"), "+OK +OK");
    }
}

#[test]
fn the_table_of_settings_names_the_policies_that_there_are() {
    let row = skep_settings::SETTINGS.iter().find(|row| row.name == "maxmemory-policy").unwrap();
    let skep_settings::Kind::Choice(words) = row.kind else { panic!("{:?}", row.kind) };
    assert_eq!(words.len(), skep_keyspace::EvictionPolicy::ALL.len());
    for word in words {
        let w = World::new(&[("maxmemory-policy", word)]);
        assert_eq!(w.node.memory.policy.name(), *word);
    }
}
