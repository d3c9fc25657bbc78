//! Bodies over the streams of HTTP/2, towards clients and upstreams alike: h2 frames them and counts what its windows allow, this
//! moves them.

mod pump;
mod received;
mod tunnel;

use std::future::poll_fn;
use std::task::Poll;

use h2::{Ping, PingPong};

pub(crate) use pump::{Pump, Told};
pub(crate) use received::Received;
pub(crate) use tunnel::Tunnel;

/// Asks whether the other side is there. Its answer to the question before was heard, and is taken.
pub(crate) async fn ping(pings: &mut PingPong) {
    poll_fn(|cx| Poll::Ready(pings.poll_pong(cx).is_ready())).await;
    let _ = pings.send_ping(Ping::opaque());
}
