//! What a node says over HTTP, and errors that say what to do.

use skep_http::{ClusterStatus, FetchFault, NodeEntry, fetch};

use super::Failure;
use crate::cli::HttpAt;

/// The cluster as the node at `at` knows it.
pub(super) fn cluster(at: &HttpAt) -> Result<ClusterStatus, Failure> {
    let address = address(&at.http);
    let body = fetch(address, "/api/v1/cluster").map_err(|fault| unreachable(address, &fault))?;
    ClusterStatus::parse(&body)
        .map_err(|error| Failure(format!("{address} is a node of another release of skep: {error}")))
}

/// True if a skep answers at this address.
pub(super) fn is_alive(address: &str) -> bool {
    fetch(address, "/healthz").is_ok()
}

fn unreachable(address: &str, fault: &FetchFault) -> Failure {
    let what_to_do = match fault {
        FetchFault::Connect(_) => {
            "; does a node run there? Give the address that some node's --http-listen has with --http"
        }
        FetchFault::Broken(_) => "; give the address that some node's --http-listen has with --http",
        FetchFault::Late | FetchFault::Refused { .. } => "; ask another node with --http",
    };
    Failure(format!("no answer from {address}: {fault}{what_to_do}"))
}

/// People paste URLs.
fn address(given: &str) -> &str {
    given.strip_prefix("http://").unwrap_or(given).trim_end_matches('/')
}

/// The node that `wanted` means, a name or else an id.
pub(super) fn find<'c>(cluster: &'c ClusterStatus, wanted: &str) -> Result<&'c NodeEntry, Failure> {
    let by_name = cluster.nodes.iter().find(|node| node.name == wanted);
    let by_id = || cluster.nodes.iter().find(|node| node.id.to_string() == wanted);
    by_name.or_else(by_id).ok_or_else(|| {
        let all: Vec<String> =
            cluster.nodes.iter().map(|node| format!("{} (id {})", node.name, node.id)).collect();
        Failure(format!("no node is called {wanted}; there are {}", all.join(", ")))
    })
}

/// A node's name, or its id if it is not listed.
pub(super) fn name(cluster: &ClusterStatus, id: u64) -> String {
    let node = cluster.nodes.iter().find(|node| node.id == id);
    node.map_or_else(|| format!("node {id}"), |node| node.name.clone())
}

/// How many shards the node leads, and of how many it holds a copy.
pub(super) fn burden(cluster: &ClusterStatus, id: u64) -> (usize, usize) {
    let leads = cluster.shards.iter().filter(|shard| shard.leader == id).count();
    let holds = |replicas: &[skep_http::ReplicaEntry]| replicas.iter().any(|replica| replica.node == id);
    (leads, cluster.shards.iter().filter(|shard| holds(&shard.replicas)).count())
}
