//! The gateway's configuration on its way from the cluster to this node's gateway.
//!
//! The node's loop leaves the newest version here and goes on; a thread of its own reads the text, so that a long one stalls
//! nobody, and gives it to the gateway. A version that this release cannot read is told in the status, and the one before it
//! stays in force; so is one that this node cannot carry out, for want of a file or a port, which is tried again.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use skep_gate::balance::sticky::Secret;
use skep_gateway::Applied;
use skep_http::{GatewayEntry, StatusBoard};
use skep_node::GatewayVersion;
use tokio::runtime::Builder;

use crate::gateway::Gateway;

/// Between two tries of a version that this node could not carry out.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// Where the node's loop leaves versions.
#[derive(Clone, Default)]
pub struct Versions {
    slot: Arc<(Mutex<Slot>, Condvar)>,
}

#[derive(Default)]
struct Slot {
    newest: Option<GatewayVersion>,
    ended: bool,
}

impl Versions {
    /// Leaves a version, in place of one that was not looked at yet. Never waits for the reading.
    pub fn put(&self, version: GatewayVersion) {
        self.change(|slot| slot.newest = Some(version));
    }

    /// No version follows: the thread ends.
    pub fn end(&self) {
        self.change(|slot| slot.ended = true);
    }

    fn change(&self, change: impl FnOnce(&mut Slot)) {
        let (slot, changed) = &*self.slot;
        change(&mut slot.lock().unwrap_or_else(PoisonError::into_inner));
        changed.notify_one();
    }

    /// The newest version that was not taken yet; waits for one, or gives `failed` back in the end. `None` after the end.
    fn take(&self, failed: Option<GatewayVersion>) -> Option<GatewayVersion> {
        let (slot, changed) = &*self.slot;
        let slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let has_nothing = |slot: &mut Slot| slot.newest.is_none() && !slot.ended;
        let mut slot = match failed {
            None => changed.wait_while(slot, has_nothing).unwrap_or_else(PoisonError::into_inner),
            Some(_) => {
                let waited = changed.wait_timeout_while(slot, TRY_AGAIN, has_nothing);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        match slot.ended {
            true => None,
            false => slot.newest.take().or(failed),
        }
    }
}

/// Starts the thread, which gives `gateway` what is to be in force and tells `board`.
///
/// # Errors
/// The system gives no thread.
pub fn start(versions: Versions, gateway: Gateway, board: Arc<StatusBoard>) -> io::Result<()> {
    let runtime = Builder::new_current_thread().build()?;
    let read = move || {
        let (mut entry, mut failed) = (GatewayEntry::default(), None);
        while let Some(version) = versions.take(failed.take()) {
            let may_try_again = runtime.block_on(take_version(&version, &gateway, &mut entry));
            failed = may_try_again.then_some(version);
            board.set_gateway(entry.clone());
        }
    };
    thread::Builder::new().name("gateway-config".to_owned()).spawn(read).map(drop)
}

/// True if the version is not in force and may be later: what it lacks is this node's, such as a file or a port.
async fn take_version(version: &GatewayVersion, gateway: &impl PutInForce, entry: &mut GatewayEntry) -> bool {
    let number = version.version;
    entry.wanted = number;
    let (outcome, may_try_again) = match skep_gateway::read(&version.text) {
        Ok(config) => {
            let secret = version.secret.0.map(Secret);
            (gateway.put(Applied { version: number, config: Arc::new(config), secret }).await, true)
        }
        Err(mistakes) => {
            let release = env!("CARGO_PKG_VERSION");
            (Err(format!("this release, {release}, cannot read it: {}", mistakes[0])), false)
        }
    };
    let Err(why) = outcome else {
        (entry.in_force, entry.problem) = (number, String::new());
        tracing::info!(version = number, by = version.by, what = version.what, "gateway's configuration");
        return false;
    };
    let kept = match entry.in_force {
        0 => "there is none before it".to_owned(),
        before => format!("version {before} stays"),
    };
    let problem = format!("version {number} of the gateway's configuration is not in force, {kept}: {why}");
    if problem != entry.problem {
        tracing::error!("{problem}");
        entry.problem = problem;
    }
    may_try_again
}

/// What takes configurations: the gateway, but in tests.
trait PutInForce {
    fn put(&self, applied: Applied) -> impl Future<Output = Result<(), String>>;
}

impl PutInForce for Gateway {
    async fn put(&self, applied: Applied) -> Result<(), String> {
        self.apply(applied).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_base::Millis;

    fn version(version: u64, text: &str) -> GatewayVersion {
        let (by, what) = ("ann".into(), "g.toml".into());
        GatewayVersion { version, at: Millis(0), by, what, text: text.into(), secret: Default::default() }
    }

    /// Takes what does not trust two hops.
    #[derive(Default)]
    struct Taken(Mutex<Vec<u64>>);

    impl PutInForce for Taken {
        async fn put(&self, applied: Applied) -> Result<(), String> {
            if applied.config.trusted_hops == 2 {
                return Err("the port is in use".to_owned());
            }
            self.0.lock().unwrap().push(applied.version);
            Ok(())
        }
    }

    #[test]
    fn a_version_that_cannot_be_read_or_carried_out_leaves_the_one_before_in_force() {
        let (gateway, mut entry) = (Taken::default(), GatewayEntry::default());
        let runtime = Builder::new_current_thread().build().unwrap();
        let mut take = |number, text| {
            runtime.block_on(take_version(&version(number, text), &gateway, &mut entry));
            entry.clone()
        };
        let good = |number| GatewayEntry { wanted: number, in_force: number, problem: String::new() };
        let first = take(1, "[gateway]\ntrusted-hops = 2");
        assert_eq!((first.wanted, first.in_force), (1, 0));
        assert!(first.problem.contains("there is none before it: the port is in use"), "{first:?}");
        assert_eq!(take(2, "[gateway]\ntrusted-hops = 1"), good(2));
        let unread = take(3, "[gateway]\nof-later-releases = 1");
        assert_eq!((unread.wanted, unread.in_force), (3, 2));
        assert!(
            unread.problem.contains("version 3") && unread.problem.contains("version 2 stays"),
            "{unread:?}"
        );
        assert_eq!(take(4, "[gateway]"), good(4));
        assert_eq!(*gateway.0.lock().unwrap(), [2, 4]);
        let mut again =
            |number, text| runtime.block_on(take_version(&version(number, text), &gateway, &mut entry));
        assert!(again(5, "[gateway]\ntrusted-hops = 2"), "what holds the port may go away");
        assert!(!again(6, "[gateway]\nof-later-releases = 1"));
        assert!(!again(7, "[gateway]"));
    }

    #[test]
    fn of_versions_that_come_faster_than_they_are_read_the_newest_is_taken() {
        let versions = Versions::default();
        versions.put(version(1, "a"));
        versions.put(version(2, "b"));
        assert_eq!(versions.take(Some(version(1, "a"))).map(|v| v.version), Some(2));
        assert_eq!(versions.take(Some(version(2, "b"))).map(|v| v.version), Some(2), "it is tried again");
        versions.put(version(3, "c"));
        versions.end();
        assert!(versions.take(None).is_none());
    }
}
