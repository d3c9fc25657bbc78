//! skep's native queue: QADD, QTAKE, QACK, over its Redis port.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Value, cmd};

use crate::{Producer, Run};

const QUEUE: &str = "load";
/// How long a consumer waits for jobs before it asks again.
const BLOCK_MS: usize = 1_000;

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

    pub async fn work(mut self, run: Arc<Run>) -> Result<()> {
        while !run.is_over() {
            let mut take = cmd("QTAKE");
            take.arg(1).arg(QUEUE).arg("COUNT").arg(run.window).arg("BLOCK").arg(BLOCK_MS);
            let jobs: Option<Vec<Vec<Value>>> = take.query_async(&mut self.0).await?;
            let jobs = jobs.unwrap_or_default();
            if jobs.is_empty() {
                continue;
            }
            let mut ack = cmd("QACK");
            ack.arg(QUEUE);
            for job in &jobs {
                let (id, token): (String, u64) =
                    (redis::from_redis_value(job[1].clone())?, redis::from_redis_value(job[2].clone())?);
                ack.arg(id).arg(token);
            }
            let accepted: Value = ack.query_async(&mut self.0).await?;
            let accepted: usize = match accepted {
                Value::Int(one) => one as usize,
                many => redis::from_redis_value::<Vec<usize>>(many)?.into_iter().sum(),
            };
            run.note_done(accepted);
        }
        Ok(())
    }
}
