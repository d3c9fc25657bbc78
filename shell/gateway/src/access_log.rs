//! One line of JSON for a request, on standard output.
//!
//! Lines are written by a thread of their own, so that a reader who stops reading stops nobody else; what it does not take is
//! thrown away and counted.

use std::cell::Cell;
use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use skep_base::Rng;
use std::cell::RefCell;

/// Lines that wait for the thread.
const LINES_MAX: usize = 10_000;

/// What a line says beside status and time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line {
    pub(crate) id: String,
    pub(crate) client: String,
    /// The name of who proved to call.
    pub(crate) caller: String,
    pub(crate) method: String,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) version: &'static str,
    pub(crate) route: String,
    pub(crate) upstream: String,
    pub(crate) attempts: u32,
    /// Why the gateway answered by itself.
    pub(crate) why: String,
}

/// A core's end of the log.
#[derive(Debug)]
pub(crate) struct AccessLog {
    to: SyncSender<String>,
    /// In millionths; 0 for off.
    share: Cell<u32>,
    lost: Cell<u64>,
    rng: RefCell<Rng>,
}

/// Starts the thread that writes; it ends when all ends are dropped.
///
/// # Errors
/// The system gives no thread.
pub(crate) fn start(cores: usize, seed: u64) -> std::io::Result<Vec<AccessLog>> {
    let (to, from) = sync_channel(LINES_MAX);
    std::thread::Builder::new().name("access-log".to_owned()).spawn(move || write(&from))?;
    let one = |core: u64| AccessLog {
        to: to.clone(),
        share: Cell::new(0),
        lost: Cell::new(0),
        rng: RefCell::new(Rng::new(seed.wrapping_add(core))),
    };
    Ok((0..cores as u64).map(one).collect())
}

fn write(from: &Receiver<String>) {
    let mut out = std::io::stdout().lock();
    while let Ok(line) = from.recv() {
        let mut block = line;
        while let Ok(more) = from.try_recv() {
            block.push_str(&more);
            if block.len() > 64 << 10 {
                break;
            }
        }
        // Who closed its end wants no log; the node goes on.
        if out.write_all(block.as_bytes()).and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

impl AccessLog {
    pub(crate) fn set_share(&self, share: u32) {
        self.share.set(share);
    }

    pub(crate) fn is_on(&self) -> bool {
        self.share.get() > 0
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost.get()
    }

    /// Writes a line, if its request is in the sample. Statuses of 500 and above always are.
    pub(crate) fn write(&self, line: &Line, status: u16, micros: u64, bytes_sent: u64) {
        let share = u64::from(self.share.get());
        if share == 0 || (status < 500 && self.rng.borrow_mut().below(1_000_000) >= share) {
            return;
        }
        let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
        let text = serde_json::json!({
            "time_ms": now.map_or(0, |d| d.as_millis() as u64),
            "id": line.id,
            "client": line.client,
            "caller": line.caller,
            "method": line.method,
            "host": line.host,
            "path": line.path,
            "version": line.version,
            "route": line.route,
            "upstream": line.upstream,
            "attempts": line.attempts,
            "status": status,
            "why": line.why,
            "bytes_sent": bytes_sent,
            "micros": micros,
        });
        if self.to.try_send(format!("{text}\n")).is_err() {
            self.lost.set(self.lost.get() + 1);
        }
    }
}
