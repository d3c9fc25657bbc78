//! The node's replicated store as its gateway sees it: calls from inside the process.

use bytes::Bytes;
use skep_gateway::{Store, StoreCall, StoreError};
use skep_server::Inside;
use tokio::sync::oneshot;

/// Calls this node, which answers each within its `request-timeout`.
#[derive(Clone)]
pub struct NodeStore(pub Inside);

impl Store for NodeStore {
    fn call(&self, command: Vec<Bytes>) -> StoreCall {
        let (sender, receiver) = oneshot::channel();
        // Who does not wait any more does not want the reply.
        let answer = move |reply| drop(sender.send(reply));
        let called = self.0.call(command.iter().map(|word| &word[..]), answer);
        Box::pin(async move {
            called.map_err(|busy| StoreError::Unavailable(busy.to_string()))?;
            receiver.await.map_err(|_| StoreError::Late)
        })
    }
}
