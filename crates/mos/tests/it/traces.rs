//! The name of a request goes with what follows from it.

use std::sync::Arc;

use mos::config::Setting;
use mos::scheduler::{HandlerContext, HandlerError, Registration, ScheduleMessage, label};
use mos::trace::with_trace_id;
use mos::{Add, Mos, NewCube, Settings};
use mos_testkit::embedder::WordEmbedder;
use serde_json::json;
use tokio::sync::mpsc;

use crate::ann;

#[tokio::test]
async fn a_message_carries_the_trace_of_the_request_that_led_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let (sender, mut seen) = mpsc::unbounded_channel();
    let handler = move |_: HandlerContext, messages: Vec<ScheduleMessage>| {
        let sender = sender.clone();
        async move { sender.send(messages[0].trace_id.clone()).map_err(HandlerError::retry) }
    };
    let settings = Settings::from_json(&json!({"enable_mem_scheduler": true})).unwrap();
    let builder = Mos::builder(settings).data_dir(folder.path()).embedder(Arc::new(WordEmbedder::new("words", 64)));
    let mos = builder.handlers([(label::ADD, Registration::new(handler))]).build().await.unwrap();
    mos.create_user("ann", None).await.unwrap();
    mos.create_cube(&ann(), NewCube::new("notes")).await.unwrap();

    let add = mos.add(Add::text("the garage code is 7391").user("ann").cube("notes"));
    with_trace_id("request-7".into(), add).await.unwrap();
    assert_eq!(seen.recv().await.unwrap(), "request-7");

    mos.add(Add::text("the bin is emptied on Monday").user("ann").cube("notes")).await.unwrap();
    let other = seen.recv().await.unwrap();
    assert!(!other.is_empty() && other != "request-7", "a request without a name has one of its own: {other}");
    mos.stop().await;
}
