//! Bodies over the streams of HTTP/2, towards clients and upstreams alike: h2 frames them and counts what its windows allow, this
//! moves them.

mod pump;
mod received;
mod tunnel;

pub(crate) use pump::Pump;
pub(crate) use received::Received;
pub(crate) use tunnel::Tunnel;
