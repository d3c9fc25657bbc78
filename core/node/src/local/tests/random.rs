//! Random sessions of several clients, whose replies are known beforehand.

use std::collections::VecDeque;

use skep_base::{ConnId, Rng};

use crate::testing::{World, pipeline};

/// One client: it alone uses its key and its name, so that it knows every reply.
struct Session {
    conn: ConnId,
    key: String,
    value: u64,
    name: u64,
    unsent: VecDeque<u8>,
    expected: String,
    received: String,
}

impl Session {
    fn next(&mut self, rng: &mut Rng) {
        let (key, number) = (&self.key, rng.below(1_000));
        let bulk = |n: u64| format!("${}\r\n{n}\r\n", n.to_string().len());
        let (command, reply) = match rng.below(8) {
            0 => (format!("ECHO {number}"), bulk(number)),
            1 => {
                self.value = number;
                (format!("SET {key} {number}"), "+OK\r\n".into())
            }
            2 => (format!("GET {key}"), bulk(self.value)),
            3 => {
                self.value += 1;
                (format!("INCR {key}"), format!(":{}\r\n", self.value))
            }
            4 => {
                self.name = number;
                (format!("CLIENT SETNAME {number}"), "+OK\r\n".into())
            }
            5 => ("CLIENT GETNAME".into(), bulk(self.name)),
            6 => ("GET".into(), "-ERR wrong number of arguments for 'get' command\r\n".into()),
            _ => (format!("CLIENT REPLY SKIP\nINCR {key}\nGET {key}"), {
                self.value += 1;
                bulk(self.value)
            }),
        };
        self.unsent.extend(pipeline(&command));
        self.expected.push_str(&reply);
    }

    fn send_some(&mut self, w: &mut World, rng: &mut Rng) {
        let count = self.unsent.len().min(rng.below(200) as usize);
        let bytes: Vec<u8> = self.unsent.drain(..count).collect();
        w.receive(self.conn, bytes);
    }

    fn read_some(&mut self, w: &mut World, rng: &mut Rng) {
        let waiting = w.node.unsent(self.conn);
        let count = waiting.len().min(rng.below(300) as usize);
        self.received.push_str(std::str::from_utf8(&waiting[..count]).unwrap());
        assert!(!w.node.on_sent(self.conn, count));
    }
}

#[test]
fn each_client_gets_its_replies_in_order_whatever_the_disk_and_the_others_do() {
    for seed in 0..30 {
        let mut rng = Rng::new(seed);
        let mut w = World::new(&[("durability", if seed % 3 == 0 { "memory" } else { "disk" })]);
        w.holds_disk = true;
        let mut sessions: Vec<Session> = (0..4)
            .map(|i| {
                let conn = w.connect();
                let key = format!("key{i}");
                w.receive(conn, pipeline(&format!("SET {key} 5\nCLIENT SETNAME 5")));
                let expected = "+OK\r\n+OK\r\n".to_string();
                Session {
                    conn,
                    key,
                    value: 5,
                    name: 5,
                    unsent: VecDeque::new(),
                    expected,
                    received: String::new(),
                }
            })
            .collect();
        for _ in 0..600 {
            let session = &mut sessions[rng.below(4) as usize];
            match rng.below(10) {
                0..=3 => session.next(&mut rng),
                4..=5 => session.send_some(&mut w, &mut rng),
                6 => session.read_some(&mut w, &mut rng),
                7 => w.turn(),
                8 => w.persist(),
                _ => match rng.below(20) {
                    0 => w.node.pause(crate::local::Pause {
                        until: w.now.mono.plus(30),
                        writes_only: seed % 2 == 0,
                    }),
                    _ => w.advance(rng.below(20)),
                },
            }
        }
        w.holds_disk = false;
        w.advance(1_000);
        for session in &mut sessions {
            while !session.unsent.is_empty() {
                session.send_some(&mut w, &mut rng);
            }
            w.settle();
            while !w.node.unsent(session.conn).is_empty() {
                session.read_some(&mut w, &mut rng);
            }
            assert_eq!(session.received, session.expected, "seed {seed}, {}", session.key);
        }
    }
}
