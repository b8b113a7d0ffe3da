use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use mos::Mos;
use mos::product::{
    App, Caller, DiaryQueryRequest, DreamTriggerRequest, Product, ProductOptions, Request, SchedulerStatusRequest,
    SchedulerWaitRequest, TaskQueueRequest,
};
use mos::scheduler::{HandlerContext, HandlerError, Registration, ScheduleMessage, label};
use mos_core::{Access, RandomIds, Scope, SystemClock};
use mos_testkit::embedder::WordEmbedder;
use serde_json::{Value, json};

use super::{House, cube, house, house_with, model};
use crate::{ann, bob, settings_in};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn as_json<T: serde::Serialize>(told: &T) -> Value {
    json!(told)
}

/// A house with a scheduler that handles messages of `work`: those that say `bad` are given up. Unless it starts, all wait.
async fn working(more: Value, starts: bool) -> House {
    let mut all = json!({"enable_mem_scheduler": true});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let handler = |_: HandlerContext, messages: Vec<ScheduleMessage>| async move {
        match messages.iter().any(|message| message.content == "bad") {
            true => Err(HandlerError::give_up("this one cannot be done")),
            false => Ok(()),
        }
    };
    let parts =
        |builder: mos::MosBuilder| builder.handlers([("work", Registration::new(handler))]).start_scheduler(starts);
    house_with(all, |_| ProductOptions::default(), parts).await
}

fn message(task: Option<&str>, content: &str) -> ScheduleMessage {
    let mut message = ScheduleMessage::new("work", ann(), cube(), content, &SystemClock, &RandomIds);
    message.task_id = task.map(str::to_owned);
    message
}

impl House {
    async fn submit(&self, message: ScheduleMessage) {
        self.app.mos().scheduler().unwrap().submit_messages(vec![message]).await.unwrap();
    }

    async fn idle(&self) {
        assert!(self.app.mos().scheduler().unwrap().wait_until_idle(PATIENCE).await.unwrap());
    }
}

fn status_of(task: Option<&str>) -> SchedulerStatusRequest {
    SchedulerStatusRequest::from_part("query", &json!({"user_id": "ann", "task_id": task})).unwrap()
}

fn wait_for(seconds: &str) -> SchedulerWaitRequest {
    let query = json!({"user_name": "ann", "timeout_seconds": seconds, "poll_interval": "0.05"});
    SchedulerWaitRequest::from_part("query", &query).unwrap()
}

async fn status(product: &Product, task: Option<&str>) -> Value {
    as_json(&product.scheduler_status(status_of(task)).await.unwrap())["data"].clone()
}

#[tokio::test]
async fn tasks_and_messages_tell_where_they_stand() {
    // One message a batch: a batch is done as a whole, or its first message has failed.
    let one = json!({"mem_scheduler": {"backend": "general_scheduler", "config": {"consume_batch": 1}}});
    let house = working(one, true).await;
    let product = house.app.product();
    let done = message(Some("task-1"), "good");
    let alone = message(None, "good");
    let names = [done.item_id.clone(), alone.item_id.clone()];
    house.submit(done).await;
    house.submit(alone).await;
    house.submit(message(Some("task-2"), "bad")).await;
    house.idle().await;
    assert_eq!(status(&product, Some("task-1")).await, json!([{"task_id": "task-1", "status": "completed"}]));
    assert_eq!(status(&product, Some("task-2")).await, json!([{"task_id": "task-2", "status": "failed"}]));
    assert_eq!(status(&product, Some(names[1].as_str())).await, json!([{"task_id": names[1], "status": "completed"}]));
    let all = status(&product, None).await;
    let told: Vec<&str> = all.as_array().unwrap().iter().map(|one| one["task_id"].as_str().unwrap()).collect();
    assert!(told.len() == 3 && names.iter().all(|name| told.contains(&name.as_str())), "{told:?}");
    let error = product.scheduler_status(status_of(Some("task-9"))).await.unwrap_err();
    assert_eq!((error.status, error.message.as_str()), (404, "Task task-9 not found for user ann"));

    let all = as_json(&product.scheduler_allstatus().await.unwrap())["data"].clone();
    let messages = &all["scheduler_summary"];
    assert_eq!((&messages["completed"], &messages["failed"], &messages["total"]), (&json!(2), &json!(1), &json!(3)));
    assert_eq!(all["all_tasks_summary"]["total"], 3);
    let of_bob = house.app.product_as(Caller::user(bob())).scheduler_allstatus().await.unwrap();
    assert_eq!(of_bob.data.scheduler_summary.total, 0, "what others do is not counted");
}

#[tokio::test]
async fn what_waits_is_told_by_queue() {
    let house = working(json!({}), false).await;
    let product = house.app.product();
    let asked = || TaskQueueRequest::new("ann".to_owned());
    assert_eq!(product.scheduler_task_queue_status(asked()).await.unwrap_err().status, 404);
    house.submit(message(None, "a")).await;
    house.submit(message(None, "b")).await;
    let queue = as_json(&product.scheduler_task_queue_status(asked()).await.unwrap())["data"].clone();
    let key = "scheduler:messages:stream:v2.0:ann:ann:work";
    assert_eq!((&queue["stream_keys"], &queue["mem_cube_id"]), (&json!([key]), &json!("ann")));
    assert_eq!((&queue["remaining_tasks_count"], &queue["pending_tasks_count"]), (&json!(2), &json!(0)));
    assert_eq!(queue["remaining_tasks_detail"], json!([format!("{key}:2")]));
    assert_eq!(status(&product, None).await.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn the_queue_is_not_asked_again_for_what_is_done() {
    let house = working(json!({}), true).await;
    let product = house.app.product();
    let mut done = Vec::new();
    for _ in 0..3 {
        let message = message(None, "good");
        done.push(message.item_id.clone());
        house.submit(message).await;
    }
    // A batch is done as a whole.
    house.idle().await;
    house.submit(message(None, "bad")).await;
    house.idle().await;
    assert_eq!(status(&product, None).await.as_array().unwrap().len(), 4);
    let scheduler = house.app.mos().scheduler().unwrap();
    scheduler.queue().remove_tenant(&Scope::of(&cube())).await.unwrap();
    let told = status(&product, None).await;
    let told: Vec<(&str, &str)> = told
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["task_id"].as_str().unwrap(), one["status"].as_str().unwrap()))
        .collect();
    let expected: Vec<(&str, &str)> = done.iter().map(|item| (item.as_str(), "completed")).collect();
    assert_eq!(told, expected, "what was given up was looked up again, and is not there");
}

#[tokio::test]
async fn what_waited_before_a_restart_is_told_and_counted_once() {
    let house = working(json!({}), false).await;
    house.submit(message(None, "a")).await;
    house.submit(message(Some("task"), "b")).await;
    drop(house.app);
    let folder = house._folder.path();
    let all = json!({"chat_model": model(&house.server, "scripted"), "enable_mem_scheduler": true});
    let builder = Mos::builder(settings_in(folder, &all)).data_dir(folder).start_scheduler(false);
    let mos = builder.embedder(Arc::new(WordEmbedder::new("words", 64))).build().await.unwrap();
    let app = App::new(mos, ProductOptions::default());
    let product = app.product();
    let asked = || TaskQueueRequest::new("ann".to_owned());
    let queue = as_json(&product.scheduler_task_queue_status(asked()).await.unwrap())["data"].clone();
    let key = "scheduler:messages:stream:v2.0:ann:ann:queued";
    assert_eq!((&queue["stream_keys"], &queue["mem_cube_id"]), (&json!([key]), &json!("ann")));
    assert_eq!((&queue["remaining_tasks_count"], &queue["users_count"]), (&json!(2), &json!(1)));
    for caller in [Caller::program(), Caller::user("ann")] {
        let all = as_json(&app.product_as(caller).scheduler_allstatus().await.unwrap())["data"].clone();
        assert_eq!((&all["scheduler_summary"]["waiting"], &all["scheduler_summary"]["total"]), (&json!(2), &json!(2)));
        assert_eq!(all["all_tasks_summary"]["waiting"], 2);
    }
    let of_bob = app.product_as(Caller::user("bob")).scheduler_allstatus().await.unwrap();
    assert_eq!(of_bob.data.scheduler_summary.total, 0);

    app.mos().scheduler().unwrap().submit_messages(vec![message(None, "c")]).await.unwrap();
    let queue = as_json(&product.scheduler_task_queue_status(asked()).await.unwrap())["data"].clone();
    assert_eq!(queue["remaining_tasks_count"], 3);
    let all = product.scheduler_allstatus().await.unwrap().data;
    assert_eq!((all.scheduler_summary.waiting, all.all_tasks_summary.waiting), (3, 3));
}

#[tokio::test]
async fn waiting_ends_when_all_is_done_or_the_time_is_up() {
    let house = working(json!({}), false).await;
    let product = house.app.product();
    let idle = as_json(&product.scheduler_wait(wait_for("5")).await.unwrap());
    assert_eq!((&idle["message"], &idle["data"]["timed_out"]), (&json!("idle"), &json!(false)));
    house.submit(message(None, "a")).await;
    let late = as_json(&product.scheduler_wait(wait_for("0")).await.unwrap());
    assert_eq!((&late["code"], &late["message"]), (&json!(200), &json!("timeout")));
    assert_eq!((&late["data"]["running_tasks"], &late["data"]["user_name"]), (&json!(1), &json!("ann")));
    let frames: Vec<Value> =
        product.scheduler_wait_stream(wait_for("0.1")).await.unwrap().map(|one| json!(one)).collect().await;
    assert_eq!(frames.len(), 2, "it is not looked as often as the request says");
    assert_eq!((&frames[0]["status"], &frames[0]["active_tasks"]), (&json!("running"), &json!(1)));
    let last = frames.last().unwrap();
    assert_eq!((&last["status"], &last["timed_out"]), (&json!("timeout"), &json!(true)));

    house.app.mos().mem_scheduler_on().unwrap();
    let frames: Vec<Value> =
        product.scheduler_wait_stream(wait_for("60")).await.unwrap().map(|one| json!(one)).collect().await;
    let last = frames.last().unwrap();
    assert_eq!(
        (&last["status"], &last["active_tasks"], &last["timed_out"]),
        (&json!("idle"), &json!(0), &json!(false))
    );
}

#[tokio::test]
async fn the_work_of_others_is_not_told() {
    let house = working(json!({}), false).await;
    let product = house.app.product_as(Caller::user(bob()));
    assert_eq!(product.scheduler_status(status_of(None)).await.unwrap_err().status, 403);
    let queue = TaskQueueRequest::new("ann".to_owned());
    assert_eq!(product.scheduler_task_queue_status(queue).await.unwrap_err().status, 403);
    assert_eq!(product.scheduler_wait(wait_for("0")).await.unwrap_err().status, 403);
    assert_eq!(product.scheduler_wait_stream(wait_for("0")).await.err().unwrap().status, 403);
}

#[tokio::test]
async fn without_a_scheduler_nothing_is_to_be_done() {
    let house = house().await;
    let product = house.app.product();
    assert_eq!(status(&product, None).await, json!([]));
    assert_eq!(product.scheduler_status(status_of(Some("t"))).await.unwrap_err().status, 404);
    let queue = TaskQueueRequest::new("ann".to_owned());
    assert_eq!(product.scheduler_task_queue_status(queue).await.unwrap_err().status, 503);
    assert_eq!(product.scheduler_wait(wait_for("5")).await.unwrap().message, "idle");
    let bad = SchedulerWaitRequest::from_part("query", &json!({"timeout_seconds": "soon"})).unwrap_err();
    assert_eq!((bad.status, bad.detail.len()), (422, 2));
}

#[tokio::test]
async fn a_dream_is_asked_for_where_something_dreams() {
    let dreams = json!({"mem_scheduler": {"backend": "general_scheduler", "config": {"enable_dream": true}}});
    let house = working(dreams, false).await;
    let product = house.app.product();
    let told = as_json(&product.dream_trigger_cube(DreamTriggerRequest::new("ann".to_owned())).await.unwrap());
    assert_eq!(told, json!({"accepted": true, "plugin": "dream", "scope": "cube", "mem_cube_id": "ann"}));
    let sent = house.app.mos().scheduler().unwrap().recent();
    assert_eq!((sent.len(), sent[0].label.as_str(), sent[0].user_id.as_str()), (1, label::MEM_DREAM, "ann"));
    let unknown = product.dream_trigger_cube(DreamTriggerRequest::new("nowhere".to_owned())).await.unwrap_err();
    assert_eq!(unknown.status, 404);
    let as_bob = house.app.product_as(Caller::user(bob()));
    assert_eq!(as_bob.dream_trigger_cube(DreamTriggerRequest::new("ann".to_owned())).await.unwrap_err().status, 403);
    house.app.mos().share_cube_with(&ann(), &cube(), &bob(), Access::Reader).await.unwrap();
    let reading = as_bob.dream_trigger_cube(DreamTriggerRequest::new("ann".to_owned())).await.unwrap_err();
    assert_eq!(reading.status, 403, "what comes of a dream is written: {reading}");
    as_bob.dream_diary(DiaryQueryRequest::new("ann".to_owned())).await.expect("a diary is only read");
    assert_eq!(house.app.mos().scheduler().unwrap().recent().len(), 1, "nothing else was sent");
    house.app.mos().share_cube_with(&ann(), &cube(), &bob(), Access::Member).await.unwrap();
    as_bob.dream_trigger_cube(DreamTriggerRequest::new("ann".to_owned())).await.expect("who writes may");
    house.app.mos().unregister_mem_cube(&ann(), &cube()).await.unwrap();
    let gone = product.dream_trigger_cube(DreamTriggerRequest::new("ann".to_owned())).await.unwrap_err();
    assert_eq!(gone.status, 400, "nothing is written to a cube that is not registered: {gone}");
    let health = as_json(&product.dream_diary_health().unwrap());
    assert_eq!(
        (&health["plugin"], &health["scheduler_connected"]),
        (&json!("dream"), &json!(false)),
        "it does not run"
    );

    let plain = working(json!({}), false).await;
    let off = plain.app.product().dream_trigger_cube(DreamTriggerRequest::new("ann".to_owned())).await.unwrap_err();
    assert_eq!(off.status, 503);
    assert!(off.message.contains("enable_dream"), "{}", off.message);
}

#[tokio::test]
async fn a_diary_is_read_newest_first_by_those_who_may() {
    let house = working(json!({}), false).await;
    let entry = |day: usize| {
        json!({
        "diary_id": format!("d{day}"), "task_id": (day == 2).then_some("task"), "title": format!("day {day}"),
        "summary": "s", "dream_entry": "e", "themes": ["tea"], "created_at": format!("2026-01-0{day}T08:00:00+00:00"),
        "memories": ["m"], "insights": []})
    };
    let scheduler = house.app.mos().scheduler().unwrap();
    scheduler.state().append(&Scope::of(&cube()), "scheduler/diary", &[entry(1), entry(2), entry(3)], 9).await.unwrap();
    let product = house.app.product();
    let titles = async |filter: Value| -> Vec<String> {
        let request = DiaryQueryRequest::from_json(&json!({"cube_id": "ann", "filter": filter})).unwrap();
        product.dream_diary(request).await.unwrap().data.into_iter().map(|one| one.title).collect()
    };
    assert_eq!(titles(Value::Null).await, ["day 3", "day 2", "day 1"]);
    assert_eq!(titles(json!({"limit": 1})).await, ["day 3"]);
    assert_eq!(titles(json!({"task_id": "task"})).await, ["day 2"]);
    assert_eq!(
        titles(json!({"created_after": "2026-01-02T00:00:00Z", "created_before": "2026-01-02T12:00:00Z"})).await,
        ["day 2"]
    );
    let ask = |cube: &str| DiaryQueryRequest::new(cube.to_owned());
    let told = as_json(&product.dream_diary(ask("ann")).await.unwrap())["data"][1].clone();
    let expected = json!({"task_id": "task", "status": "completed", "created_at": "2026-01-02T08:00:00+00:00",
        "title": "day 2", "summary": "s", "dream_entry": "e", "motive": null, "context_events": ["m"], "themes": ["tea"]});
    assert_eq!(told, expected);
    assert!(product.dream_diary(ask("nowhere")).await.unwrap().data.is_empty());
    let as_bob = house.app.product_as(Caller::user(bob()));
    assert_eq!(as_bob.dream_diary(ask("ann")).await.unwrap_err().status, 403);
}
