//! A work queue of JetStream with three replicas: acknowledged publishes, one pull consumer that all share.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::{Config, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, consumer};
use futures_util::StreamExt;

use crate::{Producer, Run};

const STREAM: &str = "load";
const SUBJECT: &str = "load.jobs";
const REPLICAS: usize = 3;
/// How long a consumer waits for jobs before it asks again.
const EXPIRES: Duration = Duration::from_secs(1);

pub struct Publisher(jetstream::Context);

pub struct Consumer(PullConsumer);

async fn connect(address: &str) -> Result<jetstream::Context> {
    let client = async_nats::connect(address).await.with_context(|| address.to_owned())?;
    Ok(jetstream::new(client))
}

/// An empty stream, and the consumer. `under_way`: the jobs that may be taken and not acknowledged.
pub async fn prepare(address: &str, under_way: usize) -> Result<()> {
    let context = connect(address).await?;
    drop(context.delete_stream(STREAM).await);
    let stream = context
        .create_stream(Config {
            name: STREAM.to_owned(),
            subjects: vec![SUBJECT.to_owned()],
            retention: RetentionPolicy::WorkQueue,
            storage: StorageType::File,
            num_replicas: REPLICAS,
            ..Config::default()
        })
        .await
        .map_err(|cause| anyhow!("{cause}"))?;
    stream
        .create_consumer(pull::Config {
            durable_name: Some(STREAM.to_owned()),
            ack_policy: AckPolicy::Explicit,
            max_ack_pending: under_way as i64,
            ..pull::Config::default()
        })
        .await
        .map_err(|cause| anyhow!("{cause}"))?;
    Ok(())
}

impl Publisher {
    pub async fn connect(address: String) -> Result<Publisher> {
        Ok(Publisher(connect(&address).await?))
    }
}

impl Producer for Publisher {
    async fn add(&self, payload: &[u8]) -> Result<()> {
        self.0.publish(SUBJECT, payload.to_vec().into()).await?.await?;
        Ok(())
    }
}

impl Consumer {
    pub async fn connect(address: String) -> Result<Consumer> {
        let context = connect(&address).await?;
        let stream = context.get_stream(STREAM).await.map_err(|cause| anyhow!("{cause}"))?;
        let consumer: consumer::Consumer<pull::Config> =
            stream.get_consumer(STREAM).await.map_err(|cause| anyhow!("{cause}"))?;
        Ok(Consumer(consumer))
    }

    pub async fn work(self, run: Arc<Run>) -> Result<()> {
        while !run.is_over() {
            let batch = self.0.fetch().max_messages(run.window).expires(EXPIRES).messages();
            let mut jobs = batch.await.map_err(|cause| anyhow!("{cause}"))?;
            while let Some(job) = jobs.next().await {
                job.map_err(|cause| anyhow!("{cause}"))?.ack().await.map_err(|cause| anyhow!("{cause}"))?;
                run.note_done(1);
            }
        }
        Ok(())
    }
}
