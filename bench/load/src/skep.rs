//! skep's native queue: QADD, QTAKE, QACK, over its Redis port.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Value, cmd};

use crate::{Producer, Run};

const QUEUE: &str = "load";
/// How long a consumer waits for jobs before it asks again: the end of a run waits for it.
const BLOCK_MS: usize = 20;

pub struct Adder(MultiplexedConnection);

pub struct Taker(MultiplexedConnection);

async fn connect(address: &str) -> Result<MultiplexedConnection> {
    let client = redis::Client::open(format!("redis://{address}/"))?;
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(20)));
    client.get_multiplexed_async_connection_with_config(&config).await.with_context(|| address.to_owned())
}

/// An empty queue.
pub async fn prepare(address: &str) -> Result<()> {
    let mut connection = connect(address).await?;
    cmd("DEL").arg(QUEUE).exec_async(&mut connection).await?;
    Ok(())
}

impl Adder {
    pub async fn connect(address: String) -> Result<Adder> {
        Ok(Adder(connect(&address).await?))
    }
}

impl Producer for Adder {
    async fn add(&self, payload: &[u8]) -> Result<()> {
        cmd("QADD").arg(QUEUE).arg(payload).exec_async(&mut self.0.clone()).await?;
        Ok(())
    }
}

impl Taker {
    pub async fn connect(address: String) -> Result<Taker> {
        Ok(Taker(connect(&address).await?))
    }

    /// Takes jobs until the run is over. What was done is acknowledged in one write with the next taking, as a worker that
    /// always has something to do goes about it; the other systems hand out the next jobs without being asked again.
    pub async fn work(mut self, run: Arc<Run>) -> Result<()> {
        let mut held: Vec<(String, u64)> = Vec::new();
        while !run.is_over() {
            let mut both = redis::pipe();
            if !held.is_empty() {
                let ack = both.cmd("QACK").arg(QUEUE);
                for (id, token) in &held {
                    ack.arg(id).arg(token);
                }
            }
            both.cmd("QTAKE").arg(1).arg(QUEUE).arg("COUNT").arg(run.window).arg("BLOCK").arg(BLOCK_MS);
            let mut replies: Vec<Value> = both.query_async(&mut self.0).await?;
            let jobs: Option<Vec<Vec<Value>>> =
                redis::from_redis_value(replies.pop().context("no reply to QTAKE")?)?;
            let accepted = match replies.pop() {
                None => 0,
                Some(Value::Int(one)) => usize::try_from(one)?,
                Some(many) => redis::from_redis_value::<Vec<usize>>(many)?.into_iter().sum(),
            };
            run.note_done(accepted);
            held.clear();
            for job in jobs.unwrap_or_default() {
                let field = |at: usize| job.get(at).cloned().context("a job of QTAKE has fewer fields");
                held.push((redis::from_redis_value(field(1)?)?, redis::from_redis_value(field(2)?)?));
            }
        }
        Ok(())
    }
}
