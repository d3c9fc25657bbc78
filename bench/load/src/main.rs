//! Jobs through a queue: added by producers, taken and acknowledged by consumers, the same load for each system.
//!
//! Each producer keeps `window` additions under way, each of which counts when the system has confirmed it; each consumer takes
//! up to `window` jobs at a time and acknowledges each. Producers and consumers are spread over the addresses. One thread:
//! what the load costs is the same order for all, and is printed beside what the servers cost by whoever calls this.
//!
//! Prints one line: jobs per second from the first addition to the last acknowledgement, jobs, and seconds.

mod nats;
mod rabbit;
mod skep;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::{Parser, ValueEnum};
use futures_util::future::try_join_all;
use tokio::sync::Notify;

/// How long nothing may happen before the run counts as hanging.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, ValueEnum)]
enum System {
    Skep,
    Rabbitmq,
    Nats,
}

#[derive(Parser)]
struct Options {
    system: System,
    /// Addresses of the members, host:port.
    #[arg(long, value_delimiter = ',', required = true)]
    addresses: Vec<String>,
    #[arg(long, default_value_t = 100_000)]
    jobs: usize,
    #[arg(long, default_value_t = 6)]
    producers: usize,
    #[arg(long, default_value_t = 6)]
    consumers: usize,
    /// Additions that one producer has under way, and jobs that one consumer takes at a time.
    #[arg(long, default_value_t = 32)]
    window: usize,
    /// Bytes of a job.
    #[arg(long, default_value_t = 100)]
    size: usize,
}

/// What all producers and consumers of a run share.
pub struct Run {
    jobs: usize,
    window: usize,
    payload: Vec<u8>,
    begun: AtomicUsize,
    added: AtomicUsize,
    done: AtomicUsize,
    all_done: Notify,
}

impl Run {
    /// True if one more job is to be added.
    pub fn begin_one(&self) -> bool {
        self.begun.fetch_add(1, Ordering::Relaxed) < self.jobs
    }

    pub fn note_added(&self) {
        self.added.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes note of jobs that were acknowledged.
    pub fn note_done(&self, count: usize) {
        if self.done.fetch_add(count, Ordering::Relaxed) + count >= self.jobs {
            self.all_done.notify_waiters();
        }
    }

    pub fn is_over(&self) -> bool {
        self.done.load(Ordering::Relaxed) >= self.jobs
    }
}

/// One connection that adds jobs.
pub trait Producer: Send + Sync + 'static {
    /// Adds a job; returns when it is confirmed.
    fn add(&self, payload: &[u8]) -> impl Future<Output = Result<()>> + Send;
}

async fn produce(producer: Arc<impl Producer>, run: Arc<Run>) -> Result<()> {
    let one_after_another = |_| {
        let (producer, run) = (producer.clone(), run.clone());
        async move {
            while run.begin_one() {
                producer.add(&run.payload).await?;
                run.note_added();
            }
            anyhow::Ok(())
        }
    };
    try_join_all((0..run.window).map(one_after_another)).await?;
    Ok(())
}

/// Ends with an error if nothing has moved for too long.
async fn watch(run: &Run) -> Result<()> {
    let mut before = 0;
    loop {
        tokio::time::sleep(PATIENCE).await;
        let now = run.added.load(Ordering::Relaxed) + run.done.load(Ordering::Relaxed);
        if now == before {
            bail!(
                "nothing in {PATIENCE:?}: {} of {} jobs added, {} done",
                run.added.load(Ordering::Relaxed),
                run.jobs,
                run.done.load(Ordering::Relaxed)
            );
        }
        before = now;
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse();
    let run = Arc::new(Run {
        jobs: options.jobs,
        window: options.window,
        payload: vec![b'x'; options.size],
        begun: AtomicUsize::new(0),
        added: AtomicUsize::new(0),
        done: AtomicUsize::new(0),
        all_done: Notify::new(),
    });
    let address = |at: usize| options.addresses[at % options.addresses.len()].clone();
    let mut tasks = Vec::new();
    let started;
    match options.system {
        System::Skep => {
            skep::prepare(&address(0)).await?;
            let producers =
                try_join_all((0..options.producers).map(|at| skep::Adder::connect(address(at)))).await?;
            let consumers =
                try_join_all((0..options.consumers).map(|at| skep::Taker::connect(address(at)))).await?;
            started = Instant::now();
            tasks.extend(producers.into_iter().map(|one| tokio::spawn(produce(Arc::new(one), run.clone()))));
            tasks.extend(consumers.into_iter().map(|one| tokio::spawn(one.work(run.clone()))));
        }
        System::Rabbitmq => {
            rabbit::prepare(&address(0)).await?;
            let producers =
                try_join_all((0..options.producers).map(|at| rabbit::Publisher::connect(address(at))))
                    .await?;
            let consumers = try_join_all(
                (0..options.consumers).map(|at| rabbit::Consumer::connect(address(at), options.window)),
            )
            .await?;
            started = Instant::now();
            tasks.extend(producers.into_iter().map(|one| tokio::spawn(produce(Arc::new(one), run.clone()))));
            tasks.extend(consumers.into_iter().map(|one| tokio::spawn(one.work(run.clone()))));
        }
        System::Nats => {
            nats::prepare(&address(0), options.consumers * options.window).await?;
            let producers =
                try_join_all((0..options.producers).map(|at| nats::Publisher::connect(address(at)))).await?;
            let consumers =
                try_join_all((0..options.consumers).map(|at| nats::Consumer::connect(address(at)))).await?;
            started = Instant::now();
            tasks.extend(producers.into_iter().map(|one| tokio::spawn(produce(Arc::new(one), run.clone()))));
            tasks.extend(consumers.into_iter().map(|one| tokio::spawn(one.work(run.clone()))));
        }
    }
    let all = async {
        for ended in try_join_all(tasks).await? {
            ended?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        ended = all => ended?,
        hung = watch(&run) => hung?,
    }
    let seconds = started.elapsed().as_secs_f64();
    let done = run.done.load(Ordering::Relaxed);
    ensure!(done == run.jobs, "{done} of {} jobs were acknowledged", run.jobs);
    println!("{:.1} jobs/s, {done} jobs, {seconds:.2} s", done as f64 / seconds);
    Ok(())
}
