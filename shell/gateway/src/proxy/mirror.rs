//! Copies of requests, whose replies are thrown away.
//!
//! A copy leaves when the request itself is answered, so it takes nothing from it, and only if its body is whole by then and
//! was kept. How it ends is nobody's business but the mirror pool's.

use std::rc::Rc;
use std::time::Duration;

use http_body_util::BodyExt;
use skep_base::Micros;
use skep_gate::balance::Ties;
use skep_gate::config::resilience::Priority;
use skep_gate::resilience::retry::Traits;
use skep_gate::{Arrival, Generation, Input, PoolId};
use tokio::task::spawn_local;

use super::attempts::{self, NoReply};
use super::template::Template;
use crate::core::Core;
use crate::in_flight::{InFlight, Record};
use crate::source::{Inbound, Source};

/// Longer bodies are not copied, unless the route's `retry.body-size` keeps more.
pub(super) const BODY_BYTES_MAX: u64 = 64 << 10;
/// How long the reply to a copy may take in all.
const REPLY_TIME: Duration = Duration::from_secs(30);

/// Sends a copy of a request to a pool of the configuration `of`.
pub(super) fn start(
    core: &Rc<Core>,
    template: &Template,
    source: &Source,
    (pool, of): (PoolId, Generation),
    (ties, deadline): (Ties, Option<Micros>),
) {
    // Pools have other numbers after a change; the copy is left out then.
    let same = core.plan().generation == of;
    let Some(body) = source.whole().filter(|_| same) else { return };
    let arrival = Arrival {
        of,
        route: None,
        pool,
        // Whoever waits in a queue is more important than a copy.
        priority: Priority::Low,
        traits: Traits { idempotent: false, keyed: false, replayable: true },
        sends_body: !body.is_empty(),
        hedgeable: false,
        ties,
        backup_ties: Ties::default(),
        deadline,
        nested: false,
    };
    let (core, template) = (Rc::clone(core), template.without_trailers());
    let mut in_flight = InFlight::new(&core, Record::silent());
    core.tell(Input::Arrived { request: in_flight.id, arrival });
    spawn_local(async move {
        let source = Source::new(Inbound::Whole(body), u64::MAX, u64::MAX, REPLY_TIME);
        match attempts::carry(&mut in_flight, &template, &source).await {
            Ok(found) => {
                let mut reply = found.response.into_body();
                let read = async { while let Some(Ok(_)) = reply.frame().await {} };
                if tokio::time::timeout(REPLY_TIME, read).await.is_ok() {
                    in_flight.end(|request| Input::Done { request });
                }
            }
            Err(NoReply::Answer { .. }) => in_flight.has_ended(),
            Err(NoReply::ClientFault(_)) => {}
        }
    });
}
