//! Checks of passwords, which are slow on purpose, beside the cores.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use skep_base::Micros;
use skep_gate::auth::Tries;
use tokio::sync::Semaphore;

/// Checks at a time on a node.
const AT_ONCE: usize = 2;
/// Checks that wait on a node; the last of them does so for a few seconds.
const WAITING_MAX: usize = 64;

/// The node's checks.
#[derive(Clone, Debug)]
pub(crate) struct Hashing {
    slots: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    tries: Arc<Mutex<Tries>>,
    /// What the tries' time counts from.
    started: Instant,
}

/// Counts one that waits for as long as it lives.
struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hashing {
    pub(crate) fn new() -> Hashing {
        Hashing {
            slots: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Arc::default(),
            tries: Arc::default(),
            started: Instant::now(),
        }
    }

    /// Whether a client at this address may have a password checked here.
    ///
    /// # Errors
    /// How long it has to wait.
    pub(crate) fn may_try(&self, source: IpAddr) -> Result<(), Micros> {
        let now = Micros(self.started.elapsed().as_micros() as u64);
        self.tries.lock().unwrap_or_else(PoisonError::into_inner).may_try(now, source)
    }

    /// Whether a bcrypt hash is that of a password; none if too many wait.
    pub(crate) async fn check(&self, hash: String, password: Vec<u8>) -> Option<bool> {
        let waiting = Waiting(Arc::clone(&self.waiting));
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            return None;
        }
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok()?;
        let check = move || {
            // Kept until the end, also if the client goes meanwhile.
            let _slot = slot;
            bcrypt::verify(password, &hash).unwrap_or(false)
        };
        let found = tokio::task::spawn_blocking(check).await.unwrap_or(false);
        drop(waiting);
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cores_of_a_node_count_tries_together() {
        let cores = [Hashing::new()].map(|one| [one.clone(), one]).concat();
        let source = "2001:db8::1".parse().unwrap();
        let passed = (0..40).filter(|n| cores[n % 2].may_try(source).is_ok()).count();
        // A second of a busy machine may be worth one more each.
        assert!((20..30).contains(&passed), "{passed}");
    }

    #[test]
    fn a_password_is_right_or_wrong_and_too_many_are_turned_away() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let hash = bcrypt::hash("geheim", 4).unwrap();
            let hashing = Hashing::new();
            assert_eq!(hashing.check(hash.clone(), b"geheim".to_vec()).await, Some(true));
            assert_eq!(hashing.check(hash.replace("$2b$", "$2y$"), b"geheim".to_vec()).await, Some(true));
            assert_eq!(hashing.check(hash.clone(), b"geheim!".to_vec()).await, Some(false));
            assert_eq!(hashing.check("no hash".to_owned(), b"geheim".to_vec()).await, Some(false));
            let all = hashing.slots.clone().acquire_many_owned(AT_ONCE as u32).await.unwrap();
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..WAITING_MAX {
                let (hashing, hash) = (hashing.clone(), hash.clone());
                tasks.spawn(async move { hashing.check(hash, b"geheim".to_vec()).await });
            }
            while hashing.waiting.load(Ordering::Relaxed) < WAITING_MAX {
                tokio::task::yield_now().await;
            }
            assert_eq!(hashing.check(hash, b"geheim".to_vec()).await, None);
            drop(all);
            let found = tasks.join_all().await;
            assert!(found.iter().all(|found| *found == Some(true)), "{found:?}");
            assert_eq!(hashing.waiting.load(Ordering::Relaxed), 0);
        });
    }
}
