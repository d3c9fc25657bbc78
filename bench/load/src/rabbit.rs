//! A quorum queue of RabbitMQ over three members: persistent messages with publisher confirms, manual acknowledgements.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

use crate::{Producer, Run};

const QUEUE: &str = "load";
const PERSISTENT: u8 = 2;

pub struct Publisher {
    channel: Channel,
    _connection: Connection,
}

pub struct Consumer {
    consumer: lapin::Consumer,
    _connection: Connection,
}

async fn connect(address: &str) -> Result<(Connection, Channel)> {
    let connection = Connection::connect(&format!("amqp://{address}/%2f"), ConnectionProperties::default())
        .await
        .with_context(|| address.to_owned())?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

/// An empty quorum queue with three members.
pub async fn prepare(address: &str) -> Result<()> {
    let (_connection, channel) = connect(address).await?;
    channel.queue_delete(QUEUE.into(), QueueDeleteOptions::default()).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString(LongString::from("quorum")));
    arguments.insert("x-quorum-initial-group-size".into(), AMQPValue::LongInt(3));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(QUEUE.into(), options, arguments).await?;
    Ok(())
}

impl Publisher {
    pub async fn connect(address: String) -> Result<Publisher> {
        let (connection, channel) = connect(&address).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Publisher { channel, _connection: connection })
    }
}

impl Producer for Publisher {
    async fn add(&self, payload: &[u8]) -> Result<()> {
        let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
        let published = self.channel.basic_publish(
            "".into(),
            QUEUE.into(),
            BasicPublishOptions::default(),
            payload,
            properties,
        );
        ensure!(published.await?.await?.is_ack(), "a message was not confirmed");
        Ok(())
    }
}

impl Consumer {
    pub async fn connect(address: String, window: usize) -> Result<Consumer> {
        let (connection, channel) = connect(&address).await?;
        channel.basic_qos(window as u16, BasicQosOptions::default()).await?;
        let consumer = channel
            .basic_consume(QUEUE.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
            .await?;
        Ok(Consumer { consumer, _connection: connection })
    }

    pub async fn work(mut self, run: Arc<Run>) -> Result<()> {
        while !run.is_over() {
            let all_done = run.all_done.notified();
            let delivery = tokio::select! {
                delivery = self.consumer.next() => delivery,
                () = all_done => return Ok(()),
            };
            delivery.context("the channel was closed")??.ack(BasicAckOptions::default()).await?;
            run.note_done(1);
        }
        Ok(())
    }
}
