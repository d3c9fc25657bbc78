//! Who waits for time in a gate.

use super::RequestId;
use crate::names::{PoolId, RouteId};

/// Who wants to be woken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Timer {
    Request(RequestId),
    Pool(PoolId),
    Route(RouteId),
}
