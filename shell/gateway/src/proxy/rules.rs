//! Whether a request may pass: networks and rates in front of its route.

use http::Response;
use http::header::RETRY_AFTER;
use skep_gate::LimitId;
use skep_gate::config::Named;
use skep_gate::protect::guard::Ruling;
use skep_gate::protect::headers::{policy, retry_after, state};

use super::own::{CHANGED, Own};
use super::{Asked, set};
use crate::figures::count;
use crate::listen::Connection;
use crate::reply::Reply;

/// RateLimit headers of a reply.
pub(super) type Limited = Vec<(&'static str, String)>;

pub(super) const NOT_LET_IN: &str = "this address is not let in";

/// Asks whether the request may pass its route in the configuration in force; gives the RateLimit headers of the reply.
///
/// # Errors
/// The answer.
pub(super) async fn rule(
    connection: &Connection,
    asked: &Asked<'_>,
    own: &mut Own,
) -> Result<Limited, Response<Reply>> {
    let core = &connection.core;
    let plan = core.plan();
    let head = asked.head(connection);
    let Some(route) = plan.snapshot.router.find(&head).map(|found| found.route) else {
        return Err(own.answer(404, "no route takes this request"));
    };
    own.record.set_route(&plan, route);
    let it = &plan.snapshot.config.routes[route.at()].it;
    if it.limits.is_empty() && it.allow.is_empty() && it.deny.is_empty() {
        return Ok(Vec::new());
    }
    let (ruling, plan) = core.judge(&plan, route, &head).await;
    let config = &plan.snapshot.config;
    let lines = |limit: LimitId, verdict| {
        let Named { name, it } = &config.limits[limit.at()];
        match it.headers {
            true => vec![("ratelimit-policy", policy(name, it)), ("ratelimit", state(name, verdict))],
            false => Vec::new(),
        }
    };
    match ruling {
        Ruling::Passes(None) => Ok(Vec::new()),
        Ruling::Passes(Some((limit, verdict))) => Ok(lines(limit, verdict)),
        Ruling::Forbidden => Err(own.answer(403, NOT_LET_IN)),
        Ruling::Limited(limit, verdict) => {
            count(&core.limited);
            let mut response = own.answer(429, "too many requests");
            for (name, value) in lines(limit, verdict) {
                set(response.headers_mut(), name, &value);
            }
            if config.limits[limit.at()].it.headers {
                set(response.headers_mut(), RETRY_AFTER.as_str(), &retry_after(verdict.wait));
            }
            Err(response)
        }
        Ruling::NotKnown | Ruling::Changed => {
            let what = match ruling {
                Ruling::Changed => CHANGED,
                _ => "the rate of this caller cannot be found out at present",
            };
            let mut response = own.answer(503, what);
            set(response.headers_mut(), RETRY_AFTER.as_str(), "1");
            Err(response)
        }
    }
}
