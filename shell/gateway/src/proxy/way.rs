//! Where a request goes, by names: another configuration may come before it is sent.

use skep_gate::{Arrival, PoolId, RouteId};

use crate::core::Plan;

pub(super) const REMOVED: &str = "the route was removed while the request waited";

pub(super) struct Way {
    pub(super) route: String,
    pool: String,
}

impl Way {
    /// That of a request that came by a route of `plan`.
    pub(super) fn of(plan: &Plan, arrival: &Arrival) -> Way {
        let config = &plan.snapshot.config;
        let route = arrival.route.expect("it came by one");
        Way {
            route: config.routes[route.at()].name.clone(),
            pool: config.pools[arrival.pool.at()].name.clone(),
        }
    }

    /// Gives the numbers of the configuration in force. False if it has the route or the pool no more.
    pub(super) fn renew(&self, plan: &Plan, arrival: &mut Arrival) -> bool {
        if plan.generation == arrival.of {
            return true;
        }
        let config = &plan.snapshot.config;
        let route = config.routes.iter().position(|route| route.name == self.route);
        let pool = config.pools.iter().position(|pool| pool.name == self.pool);
        let (Some(route), Some(pool)) = (route, pool) else { return false };
        (arrival.route, arrival.pool) = (Some(RouteId(route as u32)), PoolId(pool as u32));
        arrival.of = plan.generation;
        true
    }
}
