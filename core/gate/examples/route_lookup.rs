//! Finds the routes of requests among 1,000 routes again and again, for a profiler:
//!
//! ```sh
//! cargo build --release -p skep-gate --example route_lookup
//! valgrind --tool=callgrind --toggle-collect='*find_all*' target/release/examples/route_lookup
//! ```
//!
//! Instructions per look-up are the total by 100,000.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use skep_base::Rng;
use skep_gate::router::{Action, Head, Headers, Router, normal_path};
use skep_gate::{Config, ListenerId};

struct Lines([(&'static str, &'static [u8]); 3]);

impl Headers for Lines {
    fn any(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.0.any(name, test)
    }
}

#[inline(never)]
fn find_all(router: &Router, asks: &[(String, String)], headers: &dyn Headers, rounds: usize) -> usize {
    let (mut rng, mut found) = (Rng::new(1), 0);
    for at in 0..rounds {
        let (host, path) = black_box(&asks[at % asks.len()]);
        let path = normal_path(path).expect("the paths are good");
        let head = Head {
            listener: Some(ListenerId(0)),
            secure: false,
            method: "GET",
            host,
            path: &path,
            query: None,
            headers,
            source: IpAddr::V4(Ipv4Addr::LOCALHOST),
            caller: None,
        };
        let route = router.find(&head).expect("each has a route");
        found += usize::from(matches!(route.action(&head, &mut rng), Action::Forward(_)));
    }
    found
}

fn main() {
    let mut text = "[gateway.pool.p]\nupstreams = ['a:1']\n".to_owned();
    for n in 0..1_000 {
        let path = if n % 2 == 0 { "path-prefix" } else { "path" };
        text += &format!("[gateway.route.r{n}]\npool = 'p'\nhost = 'h{}.example.com'\n", n / 10);
        text += &format!("{path} = '/api/v1/service{n}'\n");
    }
    let router = Router::new(&Config::parse(&text).expect("the text is good")).expect("it compiles");
    let asks: Vec<(String, String)> = (0..1_000)
        .map(|n| {
            let below = if n % 2 == 0 { "/items/12345" } else { "" };
            (format!("h{}.example.com", n / 10), format!("/api/v1/service{n}{below}"))
        })
        .collect();
    let lines = Lines([("accept", b"*/*"), ("user-agent", b"curl/8"), ("x-request-id", b"0123456789")]);
    assert_eq!(find_all(&router, &asks, &lines, 100_000), 100_000);
}
