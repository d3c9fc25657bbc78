//! A task that ends with whoever started it.

use tokio::task::{JoinHandle, spawn_local};

/// A task of this thread, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Owned(Option<JoinHandle<()>>);

impl Owned {
    pub(crate) fn spawn(task: impl Future<Output = ()> + 'static) -> Owned {
        Owned(Some(spawn_local(task)))
    }

    /// Lets it come to its own end.
    pub(crate) fn let_go(mut self) {
        self.0 = None;
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}
