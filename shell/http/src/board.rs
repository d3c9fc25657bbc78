//! Where the node leaves its status for whoever asks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::{GatewayEntry, NodeStatus, StatusSource};

/// The last status that the node published. The node replaces it whole and never waits for a reader.
#[derive(Debug)]
pub struct StatusBoard {
    last: Mutex<(Arc<NodeStatus>, Instant)>,
    gateway: Mutex<GatewayEntry>,
    /// An older status means that the node's loop stands still.
    age_max: Duration,
}

impl StatusBoard {
    /// The node publishes about once a second; five missed turns are no hiccup, and few enough that a load balancer
    /// learns of it before its clients give up.
    pub const AGE_MAX: Duration = Duration::from_secs(5);

    /// A board with a first status. After [`StatusBoard::AGE_MAX`] without another the node is told not ready.
    pub fn new(first: NodeStatus) -> Arc<StatusBoard> {
        StatusBoard::with_age_max(first, StatusBoard::AGE_MAX)
    }

    /// As [`StatusBoard::new`], with another patience.
    pub fn with_age_max(first: NodeStatus, age_max: Duration) -> Arc<StatusBoard> {
        let last = Mutex::new((Arc::new(first), Instant::now()));
        Arc::new(StatusBoard { last, gateway: Mutex::default(), age_max })
    }

    /// Replaces the status. Call at least once a second, and at once when readiness changes.
    /// What it says of the gateway is replaced by what [`StatusBoard::set_gateway`] was told.
    pub fn publish(&self, mut status: NodeStatus) {
        status.cluster.gateway = self.gateway.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let next = (Arc::new(status), Instant::now());
        // The old status is dropped after the lock is released.
        let _old = std::mem::replace(&mut *self.last.lock().unwrap_or_else(PoisonError::into_inner), next);
    }

    /// Takes over what is in force at the gateway; whoever asks from here on is told.
    pub fn set_gateway(&self, gateway: GatewayEntry) {
        self.gateway.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&gateway);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut last.0).cluster.gateway = gateway;
    }

    /// The last status; not ready if it is too old.
    pub fn read(&self) -> Arc<NodeStatus> {
        let (status, published) = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let age = published.elapsed();
        if age <= self.age_max || status.ready.is_err() {
            return status;
        }
        let ready = Err(format!("the node has not reported for {} ms", age.as_millis()));
        Arc::new(NodeStatus { ready, ..(*status).clone() })
    }

    /// For [`crate::HttpServer::start`].
    pub fn source(self: &Arc<StatusBoard>) -> StatusSource {
        let board = Arc::clone(self);
        Arc::new(move || board.read())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ClusterStatus;

    fn status(ready: Result<(), String>) -> NodeStatus {
        let cluster = ClusterStatus { cluster_id: "c".into(), node_id: 1, ..ClusterStatus::default() };
        NodeStatus { ready, cluster, metrics: vec![] }
    }

    #[test]
    fn the_last_status_is_read() {
        let board = StatusBoard::new(status(Err("starting".into())));
        assert_eq!(board.read().ready, Err("starting".to_owned()));
        board.publish(status(Ok(())));
        assert_eq!(board.read().ready, Ok(()));
    }

    #[test]
    fn what_is_in_force_at_the_gateway_is_told_at_once_and_stays() {
        let board = StatusBoard::new(status(Ok(())));
        let gateway = GatewayEntry { wanted: 3, in_force: 2, problem: "cannot be read".into() };
        board.set_gateway(gateway.clone());
        assert_eq!(board.read().cluster.gateway, gateway);
        board.publish(status(Ok(())));
        assert_eq!(board.read().cluster.gateway, gateway);
    }

    #[test]
    fn a_node_that_stands_still_is_not_ready() {
        let board = StatusBoard::with_age_max(status(Ok(())), Duration::ZERO);
        // The clock is finer than a nanosecond's worth of instructions, but not by contract.
        while board.read().ready.is_ok() {
            std::hint::spin_loop();
        }
        assert!(board.read().ready.clone().unwrap_err().starts_with("the node has not reported for"));
    }
}
