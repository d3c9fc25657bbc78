//! Every command with words drawn by chance, from clients of three nodes: each byte that comes back is of a whole reply, no rule
//! of a node is broken, and the replicas, one of which dies and starts again, come to the same state.

use skep_base::args::OwnedArgs;
use skep_base::{ConnId, GroupId, Rng};
use skep_command::{COMMAND_COUNT, entry};
use skep_resp::Value;

use crate::Note;
use crate::testing::Cluster;

const SEEDS: u64 = 2;
const COMMANDS: usize = 4_000;

/// They end, stop, silence or empty something, so that nothing is left to look at.
const LEFT_OUT: &str =
    "shutdown quit client|reply client|pause client|kill skep|drain skep|remove flushall flushdb";

const WORDS: &str = "
    0 1 2 3 -1 -2 10 2.5 1e3 inf -inf nan 9223372036854775807 -9223372036854775808 * a* (1 [a - + $ >
    0-1 5-* 1-1 ~ = left right before after min max withscores withvalues count match type limit by get
    nx xx gt lt ex px exat keepttl persist block streams group noack id mkstream maxlen minid store
    weights aggregate sum desc asc alpha and not bit u8 i64 set incrby overflow fromlonlat frommember
    byradius km withdist replace db copy on off ~a* +@all worker delay priority key token lease fields
    idle force async sync yes no f lib latency event";

const SCRIPTS: &[&str] = &[
    "",
    "return 1",
    "return redis.call('incr', KEYS[1])",
    "return redis.pcall('lpush', KEYS[1], ARGV[1])",
    "return {KEYS, ARGV, {err = 'E x'}}",
    "redis.call('set', KEYS[1], math.random()) return redis.call('time')",
    "return cjson.decode(cmsgpack.unpack(ARGV[1]))",
    "while true do end",
    "#!lua name=lib\nredis.register_function('f', function(k, a) return redis.call('rpush', k[1], 'v') end)",
];

fn one<'a>(rng: &mut Rng, pool: &[&'a str]) -> &'a str {
    pool[rng.below(pool.len() as u64) as usize]
}

fn words(rng: &mut Rng) -> Vec<String> {
    let others: Vec<_> = WORDS.split_whitespace().collect();
    let command = loop {
        let at = rng.below(COMMAND_COUNT as u64) as usize;
        let command = entry(at).expect("within the table");
        let is_drawn = command.is_write() || rng.below(3) == 0;
        if is_drawn && !command.is_container() && !LEFT_OUT.split(' ').any(|name| name == command.name) {
            break command;
        }
    };
    let mut words: Vec<String> = command.name.split('|').map(String::from).collect();
    // Most calls of a script would not come to run it.
    match command.name {
        "eval" | "eval_ro" => words.extend([one(rng, SCRIPTS), "1"].map(String::from)),
        "fcall" | "fcall_ro" => words.extend(["f", "1"].map(String::from)),
        "function|load" => words.push(SCRIPTS[SCRIPTS.len() - 1].to_string()),
        _ => {}
    }
    let least = usize::from(command.arity.unsigned_abs());
    let more = if command.arity < 0 { rng.below(6) as usize } else { 0 };
    while words.len() < least + more {
        let word = match rng.below(20) {
            0..7 => format!("{:?}{}", command.group, rng.below(2)),
            7..19 => one(rng, &others).to_string(),
            _ => one(rng, SCRIPTS).to_string(),
        };
        words.push(word);
    }
    // Its keys are mostly of the type that it is for.
    let args = OwnedArgs::collect(words.iter().map(|word| word.as_bytes()));
    if let Ok(keys) = command.keys(args.args()) {
        for key in keys.iter() {
            if rng.below(8) > 0 {
                words[key.index] = format!("{:?}{}", command.group, rng.below(2));
            }
        }
    }
    words
}

struct Client {
    node: usize,
    conn: ConnId,
    received: Vec<u8>,
}

impl Client {
    /// In RESP3, where who listens may do all else.
    fn connect(cluster: &mut Cluster, node: usize) -> Client {
        let mut client = Client { node, conn: cluster.node(node).connect(), received: Vec::new() };
        client.send(cluster, &["HELLO".into(), "3".into()]);
        client
    }

    fn send(&mut self, cluster: &mut Cluster, words: &[String]) {
        let mut bytes = Vec::new();
        skep_resp::write_command(&mut bytes, words.iter().map(|word| word.as_bytes()));
        cluster.node(self.node).receive(self.conn, bytes);
    }

    /// Takes whole replies.
    fn read(&mut self, cluster: &mut Cluster) {
        let world = cluster.node(self.node);
        self.received.extend_from_slice(world.node.unsent(self.conn));
        let len = world.node.unsent(self.conn).len();
        assert!(!world.node.on_sent(self.conn, len), "no command here closes its connection");
        while let Some((_, len)) = Value::parse(&self.received).expect("replies are well-formed") {
            self.received.drain(..len);
        }
    }
}

/// Three clients, one at each node, which run until the replicas agree.
fn play(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut cluster = Cluster::of(3, &[]);
    let mut clients: Vec<Client> = (1..=3).map(|node| Client::connect(&mut cluster, node)).collect();
    for at in 0..COMMANDS {
        if at == COMMANDS / 2 {
            // One applies its log again.
            let again = 1 + rng.below(3) as usize;
            cluster.restart(again);
            clients[again - 1] = Client::connect(&mut cluster, again);
        }
        let client = &mut clients[rng.below(3) as usize];
        let words = words(&mut rng);
        println!("seed {seed}, node {}: {words:?}", client.node);
        client.send(&mut cluster, &words);
        for _ in 0..rng.below(2) {
            cluster.step();
        }
        clients.iter_mut().for_each(|client| client.read(&mut cluster));
        if at % 200 == 0 {
            agree(&mut cluster);
        }
        if rng.below(30) == 0 {
            // Who waits, queues or listens begins anew.
            let at = rng.below(3) as usize;
            let Client { node, conn, .. } = clients[at];
            cluster.node(node).input(crate::Input::Disconnected { conn });
            clients[at] = Client::connect(&mut cluster, node);
        }
    }
    agree(&mut cluster);
}

/// The replicas come to the same position and state, and none was found to differ before and rebuilt.
fn agree(cluster: &mut Cluster) {
    cluster.run_until("replicas that agree", |cluster| {
        let mut digests = cluster.alive().map(|world| {
            let shard = |(group, ..): &(GroupId, _, u64)| *group == GroupId(1);
            world.node.digests().into_iter().find(shard)
        });
        let first = digests.next().expect("three nodes");
        first.is_some() && digests.all(|digest| digest == first)
    });
    let differs = |note: &&Note| matches!(note, Note::Diverged { .. } | Note::Distrusted { .. });
    let found = cluster.alive().flat_map(|world| &world.notes).find(differs);
    assert!(found.is_none(), "{found:?}");
}

#[test]
fn whatever_clients_say_replies_are_whole_and_replicas_agree() {
    for seed in 0..SEEDS {
        play(seed);
    }
}
