//! Events of a program on their way to a RabbitMQ broker.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mos::scheduler::{Event, event};
use mos::{Add, Mos, NewCube, Settings};
use mos_core::{CubeId, Scope, UserId};
use mos_testkit::embedder::WordEmbedder;
use serde_json::{Value, json};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program whose scheduler tells a broker what happened.
async fn open(folder: &Path, rabbitmq: Value) -> mos::Result<Mos> {
    let settings = json!({
        "enable_mem_scheduler": true,
        "mem_scheduler": {"backend": "general_scheduler", "config": {"rabbitmq": rabbitmq}},
    });
    let file = folder.join("settings.json");
    std::fs::write(&file, settings.to_string()).unwrap();
    let settings = Settings::load(Some(&file), []).unwrap().settings;
    let embedder = Arc::new(WordEmbedder::new("words", 64));
    Mos::builder(settings).data_dir(folder).embedder(embedder).build().await
}

/// Adds a memory, and returns the events that are in the log when everything is done.
async fn add_and_wait(mos: &Mos) -> Vec<Event> {
    let (ann, notes) = (UserId::from("ann"), CubeId::from("notes"));
    mos.create_user("ann", None).await.unwrap();
    mos.create_cube(&ann, NewCube::new("notes")).await.unwrap();
    mos.add(Add::text("the garage code is 7391").user("ann").cube(notes.clone())).await.unwrap();
    let scheduler = mos.scheduler().unwrap();
    assert!(scheduler.wait_until_idle(PATIENCE).await.unwrap(), "something is still to be done");
    let recorded = scheduler.events().events(&Scope::of(&notes), 0, 100).await.unwrap();
    recorded.into_iter().map(|recorded| recorded.event).collect()
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_broker_that_is_away_takes_nothing_from_the_log_and_stops_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let away = json!({"host_name": "127.0.0.1", "port": free_port(), "user_name": "ann", "password": "hunter2"});
    let opened = open(folder.path(), away).await;
    if !mos::features().contains(&"rabbitmq") {
        let error = opened.unwrap_err().to_string();
        assert!(error.contains("cargo build --features rabbitmq") && !error.contains("hunter2"), "{error}");
        return;
    }
    let mos = opened.unwrap();
    let events = add_and_wait(&mos).await;
    assert!(events.iter().any(|event| event.label == event::ADD_MEMORY), "{events:?}");
    assert_eq!(mos.stop().await.unfinished, 0);
}

#[tokio::test]
async fn a_section_without_a_host_means_no_broker() {
    let folder = tempfile::tempdir().unwrap();
    let mos = open(folder.path(), json!({"host_name": "", "erase_on_connect": true})).await.unwrap();
    assert!(!add_and_wait(&mos).await.is_empty());
}

#[cfg(feature = "rabbitmq")]
#[tokio::test]
async fn a_queue_gets_every_event_of_the_log() {
    use lapin::options::{
        BasicGetOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
    };
    use lapin::types::FieldTable;
    use lapin::{Connection, ConnectionProperties, ExchangeKind};

    let Some(url) = mos_testkit::services::address("AMQP_URL") else { return };
    let exchange = format!("mos-test-{}-events", std::process::id());
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let (name, none) = (exchange.as_str(), FieldTable::default());
    channel.exchange_declare(name.into(), ExchangeKind::Fanout, durable, none.clone()).await.unwrap();
    let own = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare("".into(), own, none.clone()).await.unwrap().name().clone();
    channel.queue_bind(queue.clone(), name.into(), "".into(), QueueBindOptions::default(), none).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let mos = open(folder.path(), json!({"url": url, "exchange_name": exchange})).await.unwrap();
    let events = add_and_wait(&mos).await;
    assert!(events.iter().any(|event| event.label == event::ADD_MEMORY), "{events:?}");
    // Waits for the broker's confirmations.
    mos.stop().await;

    let mut got: Vec<Event> = Vec::new();
    while let Some(message) = channel.basic_get(queue.clone(), BasicGetOptions { no_ack: true }).await.unwrap() {
        got.push(serde_json::from_slice(&message.delivery.data).unwrap());
    }
    // Of different messages, events may be told in another order than they are recorded in.
    let by_name = |mut events: Vec<Event>| {
        events.sort_by(|one, other| one.item_id.cmp(&other.item_id));
        events
    };
    assert_eq!(by_name(got), by_name(events));
    channel.exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default()).await.unwrap();
    connection.close(200, "OK".into()).await.unwrap();
}
