//! Publishing to RabbitMQ: a real broker where `AMQP_URL` names one, and none at all.

use std::net::TcpListener;
use std::time::Duration;

use lapin::message::Delivery;
use lapin::options::{
    BasicGetOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};
use mos_core::StoreError;
use mos_stores::{Delivered, ExchangeType, RabbitOptions, RabbitPublisher};
use mos_testkit::services::address;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// An exchange of a test's own, and a queue that is bound to it.
struct Listener {
    connection: Connection,
    channel: Channel,
    exchange: String,
    queue: ShortString,
}

impl Listener {
    async fn open(url: &str, name: &str, kind: ExchangeKind, key: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let exchange = format!("mos-test-{}-{name}", std::process::id());
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        channel.exchange_declare(exchange.as_str().into(), kind, durable, FieldTable::default()).await.unwrap();
        // Ends with the connection.
        let own = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare("".into(), own, FieldTable::default()).await.unwrap().name().clone();
        let (from, bind) = (exchange.as_str().into(), QueueBindOptions::default());
        channel.queue_bind(queue.clone(), from, key.into(), bind, FieldTable::default()).await.unwrap();
        Self { connection, channel, exchange, queue }
    }

    fn options(&self, url: &str) -> RabbitOptions {
        let mut options = RabbitOptions::from_url(url).unwrap();
        options.exchange.clone_from(&self.exchange);
        options
    }

    /// What the queue holds.
    async fn got(&self) -> Vec<Delivery> {
        let mut got = Vec::new();
        while let Some(message) =
            self.channel.basic_get(self.queue.clone(), BasicGetOptions { no_ack: true }).await.unwrap()
        {
            got.push(message.delivery);
        }
        got
    }

    async fn close(self) {
        self.channel.exchange_delete(self.exchange.as_str().into(), ExchangeDeleteOptions::default()).await.unwrap();
        self.connection.close(200, "OK".into()).await.unwrap();
    }
}

#[tokio::test]
async fn messages_arrive_in_order_and_persistent() {
    let Some(url) = address("AMQP_URL") else { return };
    let listener = Listener::open(&url, "order", ExchangeKind::Fanout, "").await;
    let publisher = RabbitPublisher::open(listener.options(&url)).await.unwrap();
    // More than are sent before the first is confirmed.
    for n in 0..200 {
        publisher.publish(n.to_string().as_bytes(), "memos-scheduler").unwrap();
    }
    assert!(publisher.flush(PATIENCE).await, "{publisher:?}");
    assert_eq!(publisher.delivered(), Delivered { waiting: 0, confirmed: 200, dropped: 0 });
    let got = listener.got().await;
    let texts: Vec<String> = got.iter().map(|message| String::from_utf8(message.data.clone()).unwrap()).collect();
    assert_eq!(texts, (0..200).map(|n| n.to_string()).collect::<Vec<_>>());
    let properties = &got[0].properties;
    assert_eq!(properties.content_type().as_ref().map(ShortString::as_str), Some("application/json"));
    assert_eq!(*properties.delivery_mode(), Some(2));
    listener.close().await;
}

#[tokio::test]
async fn a_direct_exchange_gets_messages_by_their_key() {
    let Some(url) = address("AMQP_URL") else { return };
    let listener = Listener::open(&url, "direct", ExchangeKind::Direct, "wanted").await;
    let mut options = listener.options(&url);
    options.exchange_type = ExchangeType::Direct;
    let publisher = RabbitPublisher::open(options).await.unwrap();
    publisher.publish(b"1", "other").unwrap();
    publisher.publish(b"2", "wanted").unwrap();
    assert!(publisher.flush(PATIENCE).await, "{publisher:?}");
    let got = listener.got().await;
    assert_eq!(got.len(), 1);
    assert_eq!((got[0].data.as_slice(), got[0].routing_key.as_str()), (b"2".as_slice(), "wanted"));
    listener.close().await;
}

#[tokio::test]
async fn messages_wait_while_the_exchange_is_another_one_and_arrive_when_it_is_right() {
    let Some(url) = address("AMQP_URL") else { return };
    let listener = Listener::open(&url, "type", ExchangeKind::Direct, "key").await;
    let publisher = RabbitPublisher::open(listener.options(&url)).await.unwrap();
    publisher.publish(b"{}", "key").unwrap();
    assert!(!publisher.flush(Duration::from_millis(500)).await, "the exchange is no fanout");
    assert_eq!(publisher.delivered(), Delivered { waiting: 1, confirmed: 0, dropped: 0 });
    let deleting = ExchangeDeleteOptions::default();
    listener.channel.exchange_delete(listener.exchange.as_str().into(), deleting).await.unwrap();
    assert!(publisher.flush(PATIENCE).await, "the publisher makes the exchange itself: {publisher:?}");
    listener.close().await;
}

#[tokio::test]
async fn a_broker_that_is_away_blocks_nobody_and_the_line_is_bounded() {
    // Nobody listens on a port that was just given back.
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let mut away = RabbitOptions::at("127.0.0.1", Some(port), false, "ann", "hunter2", "/");
    away.capacity = 3;
    let publisher = RabbitPublisher::open(away).await.unwrap();
    for n in 0..3 {
        publisher.publish(n.to_string().as_bytes(), "key").unwrap();
    }
    assert!(!publisher.flush(Duration::from_millis(200)).await);
    let error = publisher.publish(b"3", "key").unwrap_err();
    assert!(matches!(error, StoreError::Full { limit: 3, .. }), "{error}");
    assert!(!format!("{error} {publisher:?}").contains("hunter2"), "{error}");
    assert_eq!(publisher.delivered(), Delivered { waiting: 3, confirmed: 0, dropped: 1 });
    assert!(matches!(publisher.publish(b"", &"k".repeat(256)), Err(StoreError::Invalid(_))));
}

#[tokio::test]
async fn certificates_that_are_not_there_are_told_at_once() {
    let mut options = RabbitOptions::at("localhost", None, true, "guest", "guest", "/");
    options.ca_certificate = Some("/nowhere/ca.pem".into());
    let error = RabbitPublisher::open(options).await.unwrap_err().to_string();
    assert!(error.contains("/nowhere/ca.pem"), "{error}");
}
