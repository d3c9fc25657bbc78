//! Who calls, before a route is taken.

use std::rc::Rc;

use http::Response;

use super::Asked;
use super::own::Own;
use super::rules::NOT_LET_IN;
use crate::auth::{self, Known};
use crate::core::Plan;
use crate::figures::count;
use crate::listen::Connection;
use crate::reply::Reply;

/// So often a request that waits is judged by yet another configuration.
const CONFIGURATIONS_MAX: u32 = 10;

/// Who calls, if the request's route in `plan` asks for it, which is the one in force.
///
/// # Errors
/// The answer; also to who is not let in by its address, and has nothing checked that takes long.
pub(super) async fn admit(
    connection: &Connection,
    plan: &Plan,
    asked: &Asked<'_>,
    own: &mut Own,
) -> Result<Option<Known>, Response<Reply>> {
    let core = &connection.core;
    let head = asked.head(connection);
    let Some(found) = plan.snapshot.router.find(&head) else { return Ok(None) };
    let route = found.route;
    if !core.lets_in(plan, route, head.source) {
        own.record.set_route(plan, route);
        return Err(own.answer(403, NOT_LET_IN));
    }
    let Some(auth) = &plan.snapshot.auth else { return Ok(None) };
    match auth::admit(core, auth, route, &head).await {
        Ok(known) => {
            if let Some(known) = &known {
                own.record.note(|line| line.caller = known.caller.name.clone());
            }
            Ok(known)
        }
        Err(denied) => {
            count(&core.not_let_in);
            own.record.set_route(plan, route);
            Err(auth::answer(&denied, &auth.rules, route, |status, what| own.answer(status, what)))
        }
    }
}

/// Asks again, by address and proof, whenever another configuration came since `let_in_by`, until one stays in force
/// meanwhile. Rates are not asked again: what was taken of one is used up.
///
/// # Errors
/// The answer.
pub(super) async fn admit_again(
    connection: &Connection,
    mut let_in_by: Rc<Plan>,
    asked: &mut Asked<'_>,
    own: &mut Own,
) -> Result<(), Response<Reply>> {
    for _ in 0..CONFIGURATIONS_MAX {
        let plan = connection.core.plan();
        if Rc::ptr_eq(&plan, &let_in_by) {
            return Ok(());
        }
        asked.known = admit(connection, &plan, asked, own).await?;
        let_in_by = plan;
    }
    Err(own.answer(503, "the configuration changes too often"))
}
