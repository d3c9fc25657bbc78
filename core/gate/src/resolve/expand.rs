//! Pools with addresses in the places of names.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::Names;
use crate::config::pool::{Pool, UPSTREAMS_MAX, Upstream};
use crate::config::scalar::Address;
use crate::config::{Config, Named};

/// By pool and upstream: the name that an address was found by.
pub type Origins = Vec<Vec<Option<Arc<str>>>>;

/// Pools as they are carried out.
#[derive(Clone, PartialEq, Debug)]
pub struct Expanded {
    pub pools: Vec<Named<Pool>>,
    pub origins: Origins,
}

/// The names that a configuration's upstreams have.
pub fn names_of(config: &Config) -> impl Iterator<Item = &str> {
    let upstreams = config.pools.iter().flat_map(|pool| &pool.it.upstreams);
    upstreams.filter_map(|upstream| upstream.address.name().map(|(name, _)| name))
}

/// Each address of a name is an upstream, with the weight and zone that the name has. A name without addresses stays in its
/// place: who is sent there waits, or finds that there is none. So does a name of this very machine with addresses of both
/// families: that is one upstream, which listens at one of them or both.
///
/// None if no upstream has a name.
pub fn expand(config: &Config, names: &Names) -> Option<Expanded> {
    names_of(config).next()?;
    let (mut pools, mut origins) = (config.pools.clone(), Vec::with_capacity(config.pools.len()));
    for pool in &mut pools {
        let (mut upstreams, mut of_pool) = (Vec::new(), Vec::new());
        for written in std::mem::take(&mut pool.it.upstreams) {
            let Some((name, port)) = written.address.name() else {
                put(&mut upstreams, &mut of_pool, written, None);
                continue;
            };
            let (origin, addresses): (Arc<str>, _) = (name.into(), names.addresses(name));
            if addresses.is_empty() || is_this_machine(&addresses) {
                put(&mut upstreams, &mut of_pool, written, None);
                continue;
            }
            for ip in addresses {
                let address = Address(SocketAddr::new(ip, port).to_string());
                let found = Upstream { address, ..written.clone() };
                put(&mut upstreams, &mut of_pool, found, Some(Arc::clone(&origin)));
            }
        }
        pool.it.upstreams = upstreams;
        origins.push(of_pool);
    }
    Some(Expanded { pools, origins })
}

/// An address that two names have, or a name and the file, is one upstream: that which was written first.
fn put(
    upstreams: &mut Vec<Upstream>,
    origins: &mut Vec<Option<Arc<str>>>,
    new: Upstream,
    origin: Option<Arc<str>>,
) {
    if upstreams.len() < UPSTREAMS_MAX && !upstreams.iter().any(|known| known.address == new.address) {
        upstreams.push(new);
        origins.push(origin);
    }
}

fn is_this_machine(addresses: &[IpAddr]) -> bool {
    let has = |is_v4: bool| addresses.iter().any(|ip| ip.is_ipv4() == is_v4);
    addresses.iter().all(IpAddr::is_loopback) && has(true) && has(false)
}
