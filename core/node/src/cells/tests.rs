//! The cells of one node, with a disk that a test plays; mail arrives when its receiver has its next turn.

mod copies;
mod scripts;

use std::collections::VecDeque;

use skep_base::{ConnId, Millis, NodeUuid};
use skep_log::NodeIdentity;
use skep_settings::Settings;

use super::{CellId, Mail};
use crate::stop::STOP_FULL_MS;
use crate::testing::pipeline;
use crate::{Identity, Input, Load, Node, NodeRecord, Now, Output, Recovered};

struct Cells {
    cells: Vec<Node>,
    inboxes: Vec<VecDeque<Mail>>,
    now: Now,
    /// By cell: the last output that the disk was given.
    given: Vec<u64>,
    /// By cell: checkpoints written and not confirmed.
    written: Vec<Vec<Input<'static>>>,
    begun: Vec<Option<Input<'static>>>,
    holds_checkpoints: bool,
    /// The disk keeps what it is given, and does not say that it is durable.
    holds_disk: bool,
    stopped: Vec<bool>,
    /// Mail that was delivered.
    mail: usize,
}

impl Cells {
    fn of(count: usize, settings: &[(&str, &str)]) -> Cells {
        let mut values = Settings::default();
        settings.iter().for_each(|(name, value)| values.set(name, value).unwrap());
        let now = Now { mono: Millis(1_000_000), wall: Millis(1_700_000_000_123) };
        let identity = Identity {
            saved: NodeIdentity { uuid: NodeUuid(1), ..NodeIdentity::default() },
            record: NodeRecord { name: "n1".into(), ..NodeRecord::default() },
            new_cluster_id: "1".repeat(40),
            run_id: "f".repeat(40),
            process_id: 4711,
            clients_fit: u64::MAX,
            descriptors_fit: u64::MAX,
            incarnation: 1,
            seed: 7,
            secret: [7; 32],
            replaces: None,
            link_limits: skep_peer::LinkLimits::default(),
            rest: crate::RestPace::default(),
            may_damage: false,
        };
        let mut all = Cells {
            cells: Vec::new(),
            inboxes: (0..count).map(|_| VecDeque::new()).collect(),
            now,
            given: vec![0; count],
            written: (0..count).map(|_| Vec::new()).collect(),
            begun: (0..count).map(|_| None).collect(),
            holds_checkpoints: false,
            holds_disk: false,
            stopped: vec![false; count],
            mail: 0,
        };
        for (index, share) in Recovered::default().split(count).into_iter().enumerate() {
            let mut out = Vec::new();
            let cell = CellId { index, count };
            all.cells.push(Node::start_cell(identity.clone(), values.clone(), share, cell, now, &mut out));
            all.carry_out(index, out);
        }
        all.settle();
        assert!(
            all.cells.iter().all(Node::is_ready),
            "they are ready when the disk has confirmed the founding"
        );
        all
    }

    fn input(&mut self, cell: usize, input: Input<'_>) {
        let mut out = Vec::new();
        self.cells[cell].handle(self.now, input, &mut out);
        self.cells[cell].assert_invariants();
        self.carry_out(cell, out);
    }

    fn carry_out(&mut self, cell: usize, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Persist { number, .. } => {
                    assert_eq!(number, self.given[cell] + 1, "numbers of a cell are consecutive");
                    self.given[cell] = number;
                }
                Output::SaveIdentity(_) => self.input(cell, Input::IdentitySaved),
                Output::CheckpointBegin { group, at, .. } => {
                    self.begun[cell] = Some(Input::CheckpointSaved { group, at });
                }
                Output::CheckpointFinish { .. } => {
                    let saved = self.begun[cell].take();
                    self.written[cell].extend(saved);
                }
                Output::Stopped => self.stopped[cell] = true,
                _ => {}
            }
        }
    }

    /// A turn of one cell, with its mail before and its disk after it.
    fn turn(&mut self, cell: usize) {
        while let Some(mail) = self.inboxes[cell].pop_front() {
            self.mail += 1;
            self.input(cell, Input::Mail(mail));
        }
        self.input(cell, Input::Turn(Load::default()));
        while let Some((to, mail)) = self.cells[cell].take_mail() {
            assert_ne!(to, cell, "a cell writes to itself");
            self.inboxes[to].push_back(mail);
        }
        if !self.holds_disk {
            let through = self.given[cell];
            self.input(cell, Input::Persisted { through });
        }
        if !self.holds_checkpoints {
            for saved in std::mem::take(&mut self.written[cell]) {
                self.input(cell, saved);
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..40 {
            (0..self.cells.len()).for_each(|cell| self.turn(cell));
        }
    }

    /// The disk is full, or has space again: nothing that it is given becomes durable while it is full.
    fn fill_disk(&mut self, full: bool) {
        self.holds_disk = full;
        (0..self.cells.len()).for_each(|cell| self.input(cell, Input::DiskFull(full)));
    }

    fn advance(&mut self, ms: u64) {
        self.now = Now { mono: self.now.mono.plus(ms), wall: self.now.wall.plus(ms) };
    }

    fn connect(&mut self) -> (usize, ConnId) {
        let (cell, number) = self.cells[0].admit(0).unwrap();
        (cell, self.cells[cell].welcome(number, format!("10.0.0.{number}:5000"), "127.0.0.1:7001".into()))
    }

    fn send(&mut self, (cell, conn): (usize, ConnId), commands: &str) {
        self.input(cell, Input::Received { conn, bytes: &pipeline(commands) });
    }

    fn replies(&mut self, (cell, conn): (usize, ConnId)) -> String {
        let text = String::from_utf8(self.cells[cell].unsent(conn).to_vec()).unwrap();
        if self.cells[cell].on_sent(conn, text.len()) {
            self.input(cell, Input::Disconnected { conn });
        }
        text.trim_end().replace("\r\n", " ")
    }

    fn ask(&mut self, conn: (usize, ConnId), commands: &str) -> String {
        self.send(conn, commands);
        self.settle();
        self.replies(conn)
    }
}

const FOUR_SHARDS: &[(&str, &str)] = &[("shards", "4")];

#[test]
fn replies_from_all_homes_come_in_the_order_of_the_requests_on_every_cell() {
    let mut all = Cells::of(3, FOUR_SHARDS);
    let conns: Vec<_> = (0..3).map(|_| all.connect()).collect();
    assert_eq!(conns.iter().map(|conn| conn.0).collect::<Vec<_>>(), [0, 1, 2]);
    for (turn, conn) in conns.iter().enumerate() {
        let sets: String = (0..8).map(|n| format!("SET k{turn}-{n} {n}\nINCR k{turn}-{n}\nPING\n")).collect();
        let expected: Vec<String> = (0..8).map(|n| format!("+OK :{} +PONG", n + 1)).collect();
        assert_eq!(all.ask(*conn, &sets), expected.join(" "));
    }
    let gets: String = (0..8).map(|n| format!("STRLEN k0-{n}\nAPPEND k0-{n} x\n")).collect();
    let expected: Vec<String> = (0..8)
        .map(|n| {
            let len = format!("{}", n + 1).len();
            format!(":{len} :{}", len + 1)
        })
        .collect();
    assert_eq!(all.ask(conns[2], &gets), expected.join(" "), "a read does not pass the write before it");
}

#[test]
fn with_one_shard_clients_are_with_the_hub_and_nothing_is_sent() {
    let mut all = Cells::of(3, &[]);
    let before = all.mail;
    let (one, other) = (all.connect(), all.connect());
    assert_eq!((one.0, other.0), (0, 0));
    assert_eq!(
        all.ask(one, "SET a 1\nCONFIG SET maxmemory-samples 7\nINFO clients").matches("+OK").count(),
        2
    );
    assert_eq!(all.ask(other, "GET a\nDBSIZE"), "$1 1 :1");
    assert_eq!(all.mail, before);
}

#[test]
fn commands_about_the_node_concern_all_cells_and_wait_for_what_was_asked_before() {
    let mut all = Cells::of(2, FOUR_SHARDS);
    let (here, there) = (all.connect(), all.connect());
    assert_eq!(all.ask(there, "SET a 1\nCONFIG SET maxmemory-samples 7\nGET a"), "+OK +OK $1 1");
    for conn in [here, there] {
        assert_eq!(all.ask(conn, "CONFIG GET maxmemory-samples"), "*2 $17 maxmemory-samples $1 7");
        let info = all.ask(conn, "INFO everything");
        assert!(info.contains("connected_clients:2 ") && info.contains("cmdstat_set:calls=1,"), "{info}");
        assert!(info.contains("db0:keys=1,") && info.contains("leading_shards:4 "), "{info}");
    }
    assert!(all.ask(here, "CONFIG SET maxmemory-samples none").starts_with("-ERR"));
    assert_eq!(all.ask(there, "CONFIG GET maxmemory-samples"), "*2 $17 maxmemory-samples $1 7");
}

#[test]
fn a_script_that_one_cell_ran_is_called_by_its_name_in_all_and_asked_for_once() {
    let name_of = |source: &str| skep_keyspace::scripts::Sha::of(source.as_bytes()).to_string();
    let (incr, get) = ("return(redis.call('incr',KEYS[1]))", "return(redis.call('get',KEYS[1]))");
    let mut all = Cells::of(3, FOUR_SHARDS);
    let conns: Vec<_> = (0..3).map(|_| all.connect()).collect();
    let keys: Vec<String> = (0..12).map(|n| format!("k{n}")).collect();
    let call = |name: &str, source: &str, key: &String| format!("{name} {source} 1 {key}\n");
    let by_name: String = keys.iter().map(|key| call("EVALSHA", &name_of(incr), key)).collect();
    let read_by_name: String = keys.iter().map(|key| call("EVALSHA_RO", &name_of(get), key)).collect();
    let each = |reply: &str| vec![reply; keys.len()].join(" ");
    for turn in 1..=2 {
        assert_eq!(all.ask(conns[0], &call("EVAL", incr, &keys[0])), ":1");
        assert_eq!(all.ask(conns[0], &call("EVAL_RO", get, &keys[1])), "$-1");
        assert_eq!(all.ask(conns[0], &format!("DEL {}", keys[0])), ":1");
        for (cell, conn) in conns.iter().enumerate() {
            assert_eq!(all.ask(*conn, &by_name), each(&format!(":{}", 2 * cell + 1)));
            assert_eq!(all.ask(*conn, &read_by_name), each(&format!("$1 {}", 2 * cell + 1)));
            let before = all.cells[cell].script_sources.asked;
            assert!(before > 0);
            assert_eq!(all.ask(*conn, &by_name), each(&format!(":{}", 2 * cell + 2)));
            assert_eq!(all.cells[cell].script_sources.asked, before, "turn {turn}: nobody is asked again");
        }
        assert_eq!(all.ask(conns[1], "SCRIPT FLUSH"), "+OK");
        assert_eq!(all.ask(conns[0], &call("EVAL", incr, &keys[0])), format!(":{}", 7));
        for conn in &conns {
            let name = name_of(incr);
            let of = |key: &str| format!("MULTI\nEVALSHA {name} 1 {key}\nEVALSHA {name} 1 {key}\nEXEC");
            let told = all.ask(*conn, &of(&keys[2]));
            assert!(told.starts_with("+OK +QUEUED +QUEUED *2 :") && !told.contains("NOSCRIPT"), "{told}");
        }
        assert_eq!(all.ask(conns[1], "SCRIPT FLUSH"), "+OK");
        for conn in &conns {
            all.send(*conn, &by_name);
            (0..3).for_each(|_| all.settle());
            assert_eq!(all.replies(*conn), each("-NOSCRIPT No matching script. Please use EVAL."));
        }
        keys.iter().for_each(|key| assert_eq!(all.ask(conns[0], &format!("DEL {key}")), ":1"));
    }
}

#[test]
fn settings_that_two_cells_change_at_once_end_alike() {
    let mut all = Cells::of(2, FOUR_SHARDS);
    let (here, there) = (all.connect(), all.connect());
    for turn in 0..4 {
        all.send(here, &format!("CONFIG SET maxmemory-samples {}", 10 + turn));
        all.send(there, &format!("CONFIG SET maxmemory-samples {}", 20 + turn));
        if turn % 2 == 0 {
            all.turn(1);
        }
        assert_eq!((all.ask(here, ""), all.replies(there)), ("+OK".into(), "+OK".into()));
        let values: Vec<String> =
            [here, there].map(|conn| all.ask(conn, "CONFIG GET maxmemory-samples")).to_vec();
        assert_eq!(values[0], values[1]);
    }
}

#[test]
fn a_setting_of_the_cluster_is_set_in_all_cells_when_it_is_answered() {
    let mut all = Cells::of(2, FOUR_SHARDS);
    let (here, there) = (all.connect(), all.connect());
    for (conn, letters) in [(there, "KA"), (here, "El")] {
        assert_eq!(all.ask(conn, &format!("CONFIG SET timeout 7 notify-keyspace-events {letters}")), "+OK");
        let told = all.cells.iter().map(|cell| cell.settings.notify_keyspace_events().len());
        assert_eq!(told.collect::<Vec<_>>(), [2, 2]);
    }
    assert_eq!(all.ask(there, "CONFIG GET timeout notify-keyspace-events").matches("$2 lE").count(), 1);
    assert!(all.ask(there, "CONFIG SET timeout 8 notify-keyspace-events q").starts_with("-ERR"));
    assert_eq!(all.ask(here, "CONFIG GET timeout"), "*2 $7 timeout $1 7");
}

#[test]
fn clients_are_counted_listed_and_closed_over_all_cells() {
    let mut all = Cells::of(2, &[("shards", "4"), ("maxclients", "3")]);
    let conns: Vec<_> = (0..3).map(|_| all.connect()).collect();
    assert_eq!(all.cells[0].admit(0), Err(&b"-ERR max number of clients reached\r\n"[..]));
    let list = all.ask(conns[0], "CLIENT LIST");
    let ids: Vec<&str> = list.split("id=").skip(1).map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(ids, ["1", "2", "3"]);
    assert_eq!(all.ask(conns[0], "CLIENT KILL ID 2\nCLIENT KILL ID 2"), ":1 :0");
    assert_eq!(
        all.ask(conns[2], "CLIENT KILL SKIPME no TYPE normal"),
        ":2",
        "the caller's reply goes out first"
    );
    all.settle();
    assert_eq!(all.cells.iter().map(|cell| cell.clients.len()).sum::<usize>(), 0);
    assert_eq!((0..3).map(|_| all.connect().0).collect::<Vec<_>>().len(), 3, "their places are free");
}

#[test]
fn a_cell_without_keys_gives_nobody_hope_of_room() {
    let limit = [("maxmemory", "1000"), ("maxmemory-policy", "volatile-ttl")];
    for (shards, hope) in [("1", false), ("2", true)] {
        let all = Cells::of(2, &[&[("shards", shards)], &limit[..]].concat());
        assert_eq!(all.cells[0].memory.others_evict, hope, "{shards} shards");
    }
}

#[test]
fn save_is_answered_when_each_cell_has_its_checkpoints() {
    // The third cell has nothing to save.
    let mut all = Cells::of(3, &[("shards", "2")]);
    let conn = all.connect();
    let sets: String = (0..40).map(|n| format!("SET k{n} {n}\n")).collect();
    all.ask(conn, &sets);
    all.holds_checkpoints = true;
    assert_eq!(all.ask(conn, "SAVE"), "");
    all.holds_checkpoints = false;
    all.turn(0);
    all.holds_checkpoints = true;
    all.settle();
    assert_eq!(all.replies(conn), "", "only the hub has one of its own");
    all.holds_checkpoints = false;
    all.settle();
    assert_eq!(all.replies(conn), "+OK");
    let saved = |cell: &Node| cell.replicas().all(|replica| replica.saved == replica.applied);
    assert!(all.cells.iter().all(saved));
}

#[test]
fn a_stop_that_any_cell_is_asked_for_ends_all_when_nothing_is_between_them() {
    let mut all = Cells::of(3, &[("shards", "6"), ("durability", "memory")]);
    let conns: Vec<_> = (0..3).map(|_| all.connect()).collect();
    for conn in &conns {
        let sets: String = (0..30).map(|n| format!("SET k{n} {n}\n")).collect();
        all.send(*conn, &sets);
    }
    all.send(conns[1], "SHUTDOWN");
    all.settle();
    assert_eq!(all.stopped, [true; 3]);
    assert_eq!(all.replies(conns[0]), ["+OK"; 30].join(" "));
    assert_eq!(all.replies(conns[2]), ["+OK"; 30].join(" "));
    assert!(all.cells.iter().all(|cell| cell.cells.open_elsewhere == 0 && cell.persist.is_idle()));
    assert_eq!(all.cells[0].admit(0), Err(&b"-TRYAGAIN the node is stopping\r\n"[..]));
}

#[test]
fn cells_that_stop_on_a_full_disk_wait_a_moment_for_space_and_acknowledge_nothing_without_it() {
    for space_comes in [true, false] {
        let mut all = Cells::of(3, &[("shards", "6")]);
        let conns: Vec<_> = (0..3).map(|_| all.connect()).collect();
        let sets: String = (0..30).map(|n| format!("SET k{n} {n}\n")).collect();
        assert_eq!(all.ask(conns[0], &sets), ["+OK"; 30].join(" "));
        // These are in the log's queue when the disk fills up.
        all.holds_disk = true;
        conns.iter().for_each(|conn| all.send(*conn, &sets));
        all.settle();
        all.fill_disk(true);
        let late = all.connect();
        let refused = "-TRYAGAIN the disk is full; nothing was done; free space in the data directory";
        assert_eq!(all.ask(late, "SET late 1"), refused);
        all.send(late, "SHUTDOWN");
        all.settle();
        all.advance(STOP_FULL_MS - 1);
        all.settle();
        assert_eq!(all.stopped, [false; 3], "space may come");
        let replies = |all: &mut Cells| conns.iter().map(|conn| all.replies(*conn)).collect::<Vec<_>>();
        assert_eq!(replies(&mut all), [""; 3], "nothing is durable");
        if space_comes {
            all.fill_disk(false);
        } else {
            all.advance(1);
        }
        all.settle();
        assert_eq!(all.stopped, [true; 3], "space comes: {space_comes}");
        let owed = if space_comes { ["+OK"; 30].join(" ") } else { String::new() };
        assert_eq!(replies(&mut all), [&owed[..]; 3]);
    }
}

#[test]
fn slots_of_all_homes_are_told_by_each_cell() {
    let mut all = Cells::of(2, FOUR_SHARDS);
    let (here, there) = (all.connect(), all.connect());
    assert_eq!(all.ask(here, "SET a 1\nSET b 2"), "+OK +OK");
    for conn in [here, there] {
        // The slots of a and b belong to shards of different homes.
        assert_eq!(all.ask(conn, "CLUSTER COUNTKEYSINSLOT 15495\nCLUSTER COUNTKEYSINSLOT 3300"), ":1 :1");
        assert_eq!(all.ask(conn, "CLUSTER GETKEYSINSLOT 15495 9"), "*1 $1 a");
        assert_eq!(all.ask(conn, "CLUSTER SLOTS").matches("*3").count(), 4);
    }
}

#[test]
fn messages_and_counts_reach_the_clients_of_all_cells() {
    let mut all = Cells::of(3, FOUR_SHARDS);
    let conns: Vec<_> = (0..6).map(|_| all.connect()).collect();
    for conn in &conns[..3] {
        assert_eq!(all.ask(*conn, "SUBSCRIBE a"), "*3 $9 subscribe $1 a :1");
    }
    all.ask(conns[1], "PSUBSCRIBE *\nSSUBSCRIBE s");
    for (round, me) in conns[3..].iter().enumerate() {
        assert_eq!(
            all.ask(*me, &format!("PUBLISH a {round}\nSPUBLISH s x\nPUBSUB NUMSUB a")),
            ":4 :1 *2 $1 a :3"
        );
        for (n, conn) in conns[..3].iter().enumerate() {
            let message = format!("*3 $7 message $1 a $1 {round}");
            let more = format!(" *4 $8 pmessage $1 * $1 a $1 {round} *3 $8 smessage $1 s $1 x");
            assert_eq!(all.replies(*conn), [message, if n == 1 { more } else { String::new() }].concat());
        }
    }
    assert!(all.cells.iter().all(|cell| cell.pubsub.bytes_ahead() == 0), "all was taken");
    assert!(all.ask(conns[4], "INFO clients").contains("pubsub_clients:3 "));
    let (cell, conn) = conns[0];
    all.input(cell, Input::Disconnected { conn });
    all.settle();
    assert_eq!(all.ask(conns[4], "PUBLISH a x"), ":3");
}

#[test]
fn a_publisher_waits_for_a_cell_that_is_behind_with_taking_messages() {
    let mut all = Cells::of(2, FOUR_SHARDS);
    let (here, _) = (all.connect(), all.connect());
    let large = format!("PUBLISH a {}", "x".repeat(1 << 20));
    let mut sent = 0;
    while all.cells[0].accepts_input() {
        all.send(here, &large);
        all.turn(0);
        sent += 1;
        assert!(sent < 100, "it is not held up");
    }
    all.settle();
    assert!(all.cells[0].accepts_input());
}

#[test]
fn a_client_of_any_cell_changes_the_gateways_configuration_and_all_cells_tell_it() {
    let mut all = Cells::of(2, FOUR_SHARDS);
    let (here, there) = (all.connect(), all.connect());
    assert_eq!(all.ask(there, "ACL SETUSER ann on nopass ~* +@all\nAUTH ann x"), "+OK +OK");
    assert_eq!(all.ask(there, "SKEP GATEWAY SET 0 a.toml gateway.trusted-hops=1"), ":1");
    for conn in [here, there] {
        let shown = all.ask(conn, "SKEP GATEWAY GET");
        assert!(shown.contains("gateway.trusted-hops=1") && shown.contains("$2 by $3 ann"), "{shown}");
    }
    let late = all.ask(here, "SKEP GATEWAY SET 0 b.toml gateway.trusted-hops=2");
    assert!(late.contains("is at version 1"), "{late}");
    let wrong = all.ask(there, "SKEP GATEWAY SET 1 b.toml gateway.trusted-hop=2");
    assert!(wrong.starts_with("-ERR") && wrong.contains("trusted-hops"), "{wrong}");
}
