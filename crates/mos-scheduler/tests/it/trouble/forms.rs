//! The JSON of messages, events and running tasks is that of MemOS.

use std::path::Path;
use std::sync::Arc;

use mos_core::Clock;
use mos_scheduler::event::ADD_MEMORY;
use mos_scheduler::{Event, ScheduleMessage};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{Seen, gated, in_memory, options, scheduler};
use crate::support::RuntimeClock;

fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/compat/golden").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn message(recorded: &Value) -> ScheduleMessage {
    serde_json::from_value(recorded.clone()).unwrap()
}

#[test]
fn messages_are_written_as_memos_writes_them() {
    for (name, recorded) in golden("schedule_message_items.json").as_object().unwrap() {
        let message = message(&recorded["model_dump_json"]);
        assert_eq!(json!(message), recorded["model_dump_json"], "{name}");
        let flat = message.to_redis_map();
        assert_eq!(Value::Object(flat.clone()), recorded["redis_dict"], "{name}");
        // Flat, nothing and the empty text are the same: MemOS reads the latter back, this the former.
        assert_eq!(ScheduleMessage::from_redis_map(&flat).unwrap(), message, "{name}");
        if let Some(round_trip) = recorded.get("round_trip") {
            let mut read_by_memos = round_trip.clone();
            assert_eq!(read_by_memos["api_path"], "");
            read_by_memos["api_path"] = Value::Null;
            assert_eq!(json!(message), read_by_memos, "{name}");
        }
    }
}

#[test]
fn flat_messages_that_lack_something_are_refused_with_its_name() {
    let recorded = golden("schedule_message_items.json");
    let whole = recorded["full"]["redis_dict"].as_object().unwrap();
    for needed in ["item_id", "user_id", "cube_id", "timestamp"] {
        let mut lacking = whole.clone();
        lacking.insert(needed.to_owned(), json!(""));
        let error = ScheduleMessage::from_redis_map(&lacking).unwrap_err();
        assert!(error.contains(needed), "{error}");
    }
    for (broken, value) in [("info", "{"), ("chat_history", "[7]"), ("timestamp", "yesterday")] {
        let mut wrong = whole.clone();
        wrong.insert(broken.to_owned(), json!(value));
        let error = ScheduleMessage::from_redis_map(&wrong).unwrap_err();
        assert!(error.contains(broken) || error.contains(value), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn events_are_written_as_memos_writes_them() {
    let recorded = golden("schedule_log_for_web_item.json");
    let recorded = &recorded["model_dump_json"];
    let source = message(&golden("schedule_message_items.json")["minimal"]["model_dump_json"]);
    let event = Event::of(&source, ADD_MEMORY, "x", "l", RuntimeClock::new().now());
    let mut event = event.moved("UserInput", "LongTermMemory");
    assert_eq!(event.item_id, format!("{}/{ADD_MEMORY}/x", source.item_id));
    event.item_id = recorded["item_id"].as_str().unwrap().to_owned();
    assert_eq!(json!(event), *recorded);
    assert_eq!(serde_json::from_value::<Event>(recorded.clone()).unwrap(), event);
}

#[tokio::test(start_paused = true)]
async fn running_tasks_are_written_as_memos_writes_them() {
    let recorded = golden("running_task_item.json");
    let stores = in_memory();
    let (scheduler, seen, gate) = (scheduler(&stores, options()), Seen::default(), Arc::new(Semaphore::new(0)));
    scheduler.register_handlers([("query", gated(&seen, &gate))]).unwrap();
    let mut message = message(&golden("schedule_message_items.json")["full"]["model_dump_json"]);
    message.item_id = recorded["item_id"].as_str().unwrap().to_owned();
    scheduler.submit_messages(vec![message.clone()]).await.unwrap();
    scheduler.start();
    // Without a timer, so that the clock stands still.
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    let running = scheduler.running();
    assert_eq!(running.len(), 1);
    let mut written = json!(running[0]);
    // In words of our own, and with the ids of the messages.
    assert_eq!(written["messages"], json!([message.item_id]));
    written["messages"] = recorded["messages"].clone();
    written["task_info"] = recorded["task_info"].clone();
    assert_eq!(written, recorded);
    gate.add_permits(1);
    scheduler.stop().await;
}
