//! What keeps a gateway and its upstreams from being overrun or deceived: rates, lists of addresses, trust in proxies.

pub mod both_ways;
pub mod bucket;
pub mod descriptors;
pub mod forwarded;
pub mod guard;
pub mod haste;
pub mod headers;
pub mod nets;
pub mod rate;
pub mod said;
pub mod share;
pub mod trailers;
pub mod upload;
