//! Takes requests through a gate from arrival to end again and again, for a profiler:
//!
//! ```sh
//! cargo build --release -p skep-gate --example requests
//! valgrind --tool=callgrind --toggle-collect='*run_all*' target/release/examples/requests
//! ```
//!
//! Instructions per request are the total by 100,000. Budget, ejection, breakers, deadlines and peak EWMA are on; 64
//! requests are under way at any time.

use skep_base::Micros;
use skep_gate::balance::Ties;
use skep_gate::balance::sticky::Secret;
use skep_gate::config::resilience::Priority;
use skep_gate::resilience::retry::Traits;
use skep_gate::{Arrival, Config, Gate, Generation, Input, Output, PoolId, RequestId, RouteId, Site};

#[inline(never)]
fn run_all(gate: &mut Gate, requests: u64) -> u64 {
    let (mut out, mut forwarded) = (Vec::new(), 0);
    let arrival = Arrival {
        of: Generation::default(),
        route: Some(RouteId(0)),
        pool: PoolId(0),
        priority: Priority::Normal,
        traits: Traits { idempotent: true, keyed: false, replayable: true },
        sends_body: false,
        hedgeable: true,
        ties: Ties::default(),
        backup_ties: Ties::default(),
        deadline: None,
        nested: false,
    };
    for n in 0..requests + 64 {
        let now = Micros(1_000_000 + n * 10);
        if n < requests {
            gate.handle(now, Input::Arrived { request: RequestId(n), arrival: arrival.clone() }, &mut out);
            gate.handle(now, Input::Connected { request: RequestId(n), attempt: 1 }, &mut out);
        }
        if let Some(old) = n.checked_sub(64) {
            let request = RequestId(old);
            gate.handle(
                now,
                Input::Replied { request, attempt: 1, status: 200, retry_after: None },
                &mut out,
            );
            gate.handle(now, Input::Done { request }, &mut out);
        }
        forwarded += out.drain(..).filter(|o| matches!(o, Output::Forward { .. })).count() as u64;
    }
    forwarded
}

fn main() {
    let text = "[gateway.pool.p]\nupstreams = ['a:1', 'b:1', 'c:1', 'd:1']\n[gateway.route.r]\npool = 'p'\n";
    let config = Config::parse(text).expect("the text is good");
    let mut gate = Gate::new(Micros(0), config, Site::default(), Secret([0; 32]), 1);
    assert_eq!(run_all(&mut gate, 100_000), 100_000);
}
