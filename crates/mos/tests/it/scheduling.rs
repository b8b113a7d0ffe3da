//! The scheduler through the facade: SQLite on disk, handlers of the program's own, the models that come with it.

mod feedback;
mod promoting;
mod retrieving;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use mos::config::{GeneralMemCubeConfig, Setting};
use mos::scheduler::{
    Event, HandlerContext, HandlerError, ItemState, Registration, ScheduleMessage, Scheduler, UserContext, event, label,
};
use mos::{Add, Chat, Error, Mos, MosBuilder, NewCube, Settings};
use mos_core::{Access, CubeId, JobId, JobState, Message, Paging, RandomIds, Scope, StoreError, SystemClock, UserId};
use mos_testkit::embedder::WordEmbedder;
use mos_testkit::model_server::{ModelServer, Reply};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Notify, mpsc};

use crate::{ann, bob, scripted, settings_in};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Settings with a scheduler.
fn settings(folder: &Path, more: Value) -> Settings {
    let mut all = json!({"enable_mem_scheduler": true});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings_in(folder, &all)
}

fn builder(folder: &Path, more: Value) -> MosBuilder {
    let embedder = Arc::new(WordEmbedder::new("words", 64));
    Mos::builder(settings(folder, more)).data_dir(folder).embedder(embedder)
}

/// Ann and bob, and the cubes `notes` and `work` of ann's.
async fn furnish(mos: &Mos) {
    for user in ["ann", "bob"] {
        mos.create_user(user, None).await.unwrap();
    }
    for cube in ["notes", "work"] {
        mos.create_cube(&ann(), NewCube::new(cube)).await.unwrap();
    }
}

fn notes() -> CubeId {
    CubeId::from("notes")
}

fn scope() -> Scope {
    Scope::of(&notes())
}

fn tell(text: &str) -> Add {
    Add::text(text).user("ann").cube(notes())
}

/// A handler that only says what it got: the cube that it was given, and the messages.
type Seen = mpsc::UnboundedReceiver<(CubeId, UserId, Vec<ScheduleMessage>)>;

fn listening() -> (Registration, Seen) {
    let (sender, seen) = mpsc::unbounded_channel();
    let handler = move |context: HandlerContext, messages: Vec<ScheduleMessage>| {
        let sender = sender.clone();
        async move {
            let got = (context.cube.info.cube_id.clone(), context.cube.user.clone(), messages);
            sender.send(got).map_err(HandlerError::retry)
        }
    };
    (Registration::new(handler), seen)
}

/// A handler that never ends by itself, and what rings when it has begun.
fn endless() -> (Registration, Arc<Notify>) {
    let begun = Arc::new(Notify::new());
    let ringing = Arc::clone(&begun);
    let handler = move |_: HandlerContext, _: Vec<ScheduleMessage>| {
        let ringing = Arc::clone(&ringing);
        async move {
            ringing.notify_one();
            std::future::pending::<Result<(), HandlerError>>().await
        }
    };
    (Registration::new(handler), begun)
}

async fn idle(scheduler: &Scheduler) {
    assert!(scheduler.wait_until_idle(PATIENCE).await.unwrap(), "something is still to be done");
}

async fn given_up(scheduler: &Scheduler, scope: &Scope) -> Vec<String> {
    let page = scheduler.given_up(scope, Paging::ALL).await.unwrap();
    page.entries.into_iter().map(|dead| dead.reason).collect()
}

fn message(label: &str, user: &UserId, cube: &CubeId, content: &str) -> ScheduleMessage {
    ScheduleMessage::new(label, user.clone(), cube.clone(), content, &SystemClock, &RandomIds)
}

#[tokio::test]
async fn the_job_of_a_new_memory_is_stored_with_it_and_done_by_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    let mos = builder(folder.path(), json!({})).start_scheduler(false).build().await.unwrap();
    furnish(&mos).await;
    let ids = mos.add(tell("the garage code is 7391").idempotency_key("once")).await.unwrap();
    let again = mos.add(tell("the garage code is 7391").idempotency_key("once")).await.unwrap();
    assert_eq!(ids, again);
    let scheduler = mos.require_scheduler().unwrap();
    let waiting = scheduler.queue_status(&scope()).await.unwrap();
    assert_eq!((waiting.waiting, waiting.claimed), (1, 0), "one write, one job, whatever is repeated");
    drop((mos, scheduler));

    let (handler, mut seen) = listening();
    let mos = builder(folder.path(), json!({})).handlers([(label::ADD, handler)]).build().await.unwrap();
    let (cube, user, messages) = seen.recv().await.unwrap();
    assert_eq!((cube, user, messages.len()), (notes(), ann(), 1));
    assert_eq!(messages[0].content, json!(ids).to_string());
    idle(&mos.scheduler().unwrap()).await;
    let scheduler = mos.scheduler().unwrap();
    let status = scheduler.item_status(&scope(), &messages[0].item_id).await.unwrap().unwrap();
    assert_eq!(status.status, ItemState::Completed);
    assert_eq!(scheduler.metrics()["add"].completed, 1);
}

#[tokio::test]
async fn a_job_whose_process_went_away_in_the_middle_is_done_by_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let (handler, begun) = endless();
    let mos = builder(folder.path(), json!({})).handlers([(label::ADD, handler)]).build().await.unwrap();
    furnish(&mos).await;
    mos.add(tell("the spare key is under the pot")).await.unwrap();
    begun.notified().await;
    // Nobody said goodbye.
    drop(mos);

    let (handler, mut seen) = listening();
    let mos = builder(folder.path(), json!({})).handlers([(label::ADD, handler)]).build().await.unwrap();
    let (cube, ..) = tokio::time::timeout(PATIENCE * 2, seen.recv()).await.unwrap().unwrap();
    assert_eq!(cube, notes());
    idle(&mos.scheduler().unwrap()).await;
    assert!(seen.recv().now_or_never().is_none(), "it had effect once");
}

#[tokio::test]
async fn a_handler_gets_the_cube_of_its_message() {
    let folder = tempfile::tempdir().unwrap();
    let (handler, mut seen) = listening();
    let mos = builder(folder.path(), json!({})).build().await.unwrap();
    furnish(&mos).await;
    let scheduler = mos.scheduler().unwrap();
    scheduler.register_handlers([("greet", handler)]).unwrap();
    let cubes = [notes(), CubeId::from("work")];
    let messages = cubes.iter().map(|cube| message("greet", &ann(), cube, cube.as_str())).collect();
    scheduler.submit_messages(messages).await.unwrap();
    for _ in &cubes {
        let (cube, user, messages) = seen.recv().await.unwrap();
        assert_eq!(user, ann());
        assert!(messages.iter().all(|message| message.mem_cube_id == cube && message.content == cube.as_str()));
    }
    idle(&scheduler).await;
    assert!(scheduler.handlers().contains(&"greet".to_owned()));
    assert!(scheduler.unregister_handlers(&["greet".to_owned()])["greet"]);
}

#[tokio::test]
async fn rights_are_those_of_the_moment_in_which_a_message_is_handled() {
    let folder = tempfile::tempdir().unwrap();
    let (handler, mut seen) = listening();
    let mos =
        builder(folder.path(), json!({})).handlers([("greet", handler)]).start_scheduler(false).build().await.unwrap();
    furnish(&mos).await;
    mos.share_cube_with_user(&ann(), &notes(), &bob()).await.unwrap();
    let scheduler = mos.scheduler().unwrap();
    let hello = message("greet", &bob(), &notes(), "hello");
    scheduler.submit_messages(vec![hello.clone()]).await.unwrap();
    mos.unshare_cube(&ann(), &notes(), &bob()).await.unwrap();
    mos.mem_scheduler_on().unwrap();
    idle(&scheduler).await;
    let reasons = given_up(&scheduler, &scope()).await;
    assert!(reasons.len() == 1 && reasons[0].contains("does not have access"), "{reasons:?}");
    let status = scheduler.item_status(&scope(), &hello.item_id).await.unwrap().unwrap();
    assert_eq!((status.status, status.error.as_deref()), (ItemState::Failed, Some(reasons[0].as_str())));
    assert!(seen.recv().now_or_never().is_none());

    // With the right again, it is done.
    mos.share_cube_with_user(&ann(), &notes(), &bob()).await.unwrap();
    assert_eq!(scheduler.retry(&scope(), std::slice::from_ref(&hello.item_id)).await.unwrap(), 1);
    assert_eq!(seen.recv().await.unwrap().2, [hello]);
    idle(&scheduler).await;

    mos.unregister_mem_cube(&ann(), &notes()).await.unwrap();
    scheduler.submit_messages(vec![message("greet", &ann(), &notes(), "hello")]).await.unwrap();
    idle(&scheduler).await;
    assert!(given_up(&scheduler, &scope()).await[0].contains("not registered"));
}

#[tokio::test]
async fn a_deleted_cube_has_no_jobs_and_takes_none() {
    let folder = tempfile::tempdir().unwrap();
    let mos = builder(folder.path(), json!({})).start_scheduler(false).build().await.unwrap();
    furnish(&mos).await;
    mos.add(tell("the safe is behind the picture")).await.unwrap();
    let scheduler = mos.scheduler().unwrap();
    assert_eq!(scheduler.queue_status(&scope()).await.unwrap().waiting, 1);
    mos.delete_cube(&ann(), &notes()).await.unwrap();
    let left = scheduler.queue_status(&scope()).await.unwrap();
    assert_eq!((left.waiting, left.claimed, left.dead), (0, 0, 0));
    let late = scheduler.submit_messages(vec![message(label::QUERY, &ann(), &notes(), "where?")]).await;
    assert!(matches!(late, Err(StoreError::NotFound { .. })), "{late:?}");
    mos.mem_scheduler_on().unwrap();
    idle(&scheduler).await;
}

#[tokio::test]
async fn stopping_lets_what_is_being_handled_end_and_keeps_what_waits() {
    let folder = tempfile::tempdir().unwrap();
    let (begun, may_end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (ringing, waiting) = (Arc::clone(&begun), Arc::clone(&may_end));
    let handler = move |_: HandlerContext, _: Vec<ScheduleMessage>| {
        let (ringing, waiting) = (Arc::clone(&ringing), Arc::clone(&waiting));
        async move {
            ringing.notify_one();
            waiting.notified().await;
            Ok::<(), HandlerError>(())
        }
    };
    let mos = builder(
        folder.path(),
        json!({"mem_scheduler": {"backend": "general_scheduler", "config": {
        "enable_parallel_dispatch": false, "consume_batch": 1}}}),
    )
    .handlers([("slow", Registration::new(handler))])
    .build()
    .await
    .unwrap();
    furnish(&mos).await;
    let scheduler = mos.scheduler().unwrap();
    let messages: Vec<ScheduleMessage> = (0..2).map(|_| message("slow", &ann(), &notes(), "")).collect();
    let ids: Vec<String> = messages.iter().map(|message| message.item_id.clone()).collect();
    scheduler.submit_messages(messages).await.unwrap();
    begun.notified().await;
    assert_eq!(scheduler.running()[0].messages, [ids[0].clone()]);
    let stopping = mos.clone();
    let mut stop = tokio::spawn(async move { stopping.stop().await });
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut stop).await.is_err(), "it waits for the handler");
    may_end.notify_one();
    assert_eq!(stop.await.unwrap().unfinished, 0);
    assert!(!scheduler.is_running());
    let first = scheduler.item_status(&scope(), &ids[0]).await.unwrap().unwrap();
    let second = scheduler.item_status(&scope(), &ids[1]).await.unwrap().unwrap();
    assert_eq!((first.status, second.status), (ItemState::Completed, ItemState::Waiting));
    may_end.notify_one();
    mos.mem_scheduler_on().unwrap();
    idle(&scheduler).await;
    let queue = mos.queue().unwrap();
    let found = queue.find(&scope(), &JobId::new(ids[1].as_str())).await.unwrap();
    assert_eq!(found, Some(JobState::Finished));
}

#[tokio::test]
async fn tasks_and_events_tell_what_became_of_messages() {
    let folder = tempfile::tempdir().unwrap();
    let handler = |context: HandlerContext, messages: Vec<ScheduleMessage>| async move {
        for message in &messages {
            if message.content == "bad" {
                return Err(HandlerError::give_up("this one cannot be done"));
            }
            let said = format!("did {}", message.content);
            let event = Event::of(message, event::UPDATE_MEMORY, "done", said, context.clock.now());
            context.record(vec![event]).await?;
        }
        Ok(())
    };
    // One message a batch: a batch is done as a whole, or its first message has failed.
    let one = json!({"mem_scheduler": {"backend": "general_scheduler", "config": {"consume_batch": 1}}});
    let mos = builder(folder.path(), one).handlers([("work", Registration::new(handler))]).build().await.unwrap();
    furnish(&mos).await;
    let scheduler = mos.scheduler().unwrap();
    let mut listener = scheduler.events().subscribe();
    let messages: Vec<ScheduleMessage> = ["good", "bad"]
        .map(|content| {
            let mut message = message("work", &ann(), &notes(), content);
            message.task_id = Some("task-1".to_owned());
            message.user_context = Some(UserContext { project_id: Some("p".to_owned()), ..UserContext::default() });
            message
        })
        .into();
    scheduler.submit_messages(messages).await.unwrap();
    idle(&scheduler).await;
    let task = scheduler.task_status(&scope(), "task-1").await.unwrap().unwrap();
    let states: Vec<ItemState> = task.items.iter().map(|item| item.status).collect();
    assert_eq!((task.status, states), (ItemState::Failed, vec![ItemState::Completed, ItemState::Failed]));
    assert_eq!(given_up(&scheduler, &scope()).await, ["this one cannot be done"]);

    let told = listener.recv().await.unwrap();
    assert_eq!((told.label.as_str(), told.log_content.as_str()), (event::UPDATE_MEMORY, "did good"));
    drop((mos, scheduler));
    let mos = builder(folder.path(), json!({})).start_scheduler(false).build().await.unwrap();
    let events = mos.scheduler().unwrap().events().events(&scope(), 0, 100).await.unwrap();
    assert!(events.iter().any(|event| event.event == told), "events outlive the process: {events:?}");
    assert!(events.iter().any(|event| event.event.label == event::TASK_STATUS), "{events:?}");
    let after = events.last().unwrap().sequence;
    assert!(mos.scheduler().unwrap().events().events(&scope(), after, 100).await.unwrap().is_empty());
}

/// A facade whose chat model is a scripted server.
async fn talking(server: &ModelServer, more: Value, handlers: Vec<(&'static str, Registration)>) -> (TempDir, Mos) {
    let folder = tempfile::tempdir().unwrap();
    let mut all = json!({"chat_model": scripted(server)});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mos = builder(folder.path(), all).handlers(handlers).build().await.unwrap();
    furnish(&mos).await;
    (folder, mos)
}

#[tokio::test]
async fn a_chat_sends_its_question_before_and_its_answer_after() {
    let server = ModelServer::start().await;
    server.answer_with(|_| Reply::text("Max."));
    let ((query, mut queries), (answer, mut answers)) = (listening(), listening());
    let handlers = vec![(label::QUERY, query), (label::ANSWER, answer)];
    let (_folder, mos) = talking(&server, json!({}), handlers).await;
    let chat = Chat::new("what is my dog called?").user("ann").cubes([notes()]).session("s1");
    mos.chat(chat).await.unwrap().complete().await.unwrap();
    let (cube, _, asked) = queries.recv().await.unwrap();
    let (_, _, answered) = answers.recv().await.unwrap();
    assert_eq!((cube, asked[0].content.as_str()), (notes(), "what is my dog called?"));
    assert_eq!((answered[0].content.as_str(), answered[0].session_id.as_str()), ("Max.", "s1"));
    // Somebody without a cube has no memory to move, and gets an answer.
    mos.chat(Chat::new("hello there").user("bob")).await.unwrap().complete().await.unwrap();
    mos.stop().await;
    assert!(queries.recv().now_or_never().is_none_or(|more| more.is_none()));
}

#[tokio::test]
async fn who_only_reads_a_cube_has_nothing_done_in_it() {
    let server = ModelServer::start().await;
    server.answer_with(|_| Reply::text("Max."));
    let ((query, mut queries), (answer, mut answers)) = (listening(), listening());
    let (_folder, mos) = talking(&server, json!({}), vec![(label::QUERY, query), (label::ANSWER, answer)]).await;
    let scheduler = mos.scheduler().unwrap();
    let chat = async || {
        let chat = Chat::new("what is ann's dog called?").user("bob").cubes([notes()]);
        mos.chat(chat).await.unwrap().complete().await.unwrap();
        mos.wait_for_sending().await;
        idle(&scheduler).await;
    };
    mos.share_cube_with(&ann(), &notes(), &bob(), Access::Reader).await.unwrap();
    chat().await;
    assert!(queries.recv().now_or_never().is_none() && answers.recv().now_or_never().is_none(), "nothing was sent");
    mos.share_cube_with(&ann(), &notes(), &bob(), Access::Member).await.unwrap();
    chat().await;
    assert_eq!((queries.recv().await.unwrap().1, answers.recv().await.unwrap().1), (bob(), bob()));
    // What was sent with the right to write is not done without it.
    mos.share_cube_with(&ann(), &notes(), &bob(), Access::Reader).await.unwrap();
    let late = message(label::QUERY, &bob(), &notes(), "and the cat?");
    scheduler.submit_messages(vec![late]).await.unwrap();
    idle(&scheduler).await;
    let reasons = given_up(&scheduler, &scope()).await;
    assert!(reasons.len() == 1 && reasons[0].contains("not write to it"), "{reasons:?}");
    assert!(queries.recv().now_or_never().is_none());
    mos.stop().await;
}

#[tokio::test]
async fn preferences_are_learned_by_the_scheduler() {
    let server = ModelServer::start().await;
    let (handler, mut seen) = listening();
    let more = json!({"enable_preference_memory": true});
    let (_folder, mos) = talking(&server, more, vec![(label::PREF_ADD, handler)]).await;
    let conversation = vec![Message::user("I always book window seats")];
    let added = mos.add_and_learn(Add::messages(conversation.clone()).user("ann").cube(notes())).await.unwrap();
    assert_eq!((added.ids.len(), added.preferences.unwrap().len()), (1, 0));
    let (_, _, messages) = seen.recv().await.unwrap();
    let learned: Vec<Vec<Message>> = serde_json::from_str(&messages[0].content).unwrap();
    assert_eq!(learned, [conversation]);
    idle(&mos.scheduler().unwrap()).await;
    assert!(server.requests().is_empty(), "nobody waited for a model");
}

#[tokio::test]
async fn a_tree_that_organises_itself_leaves_it_to_the_scheduler() {
    let folder = tempfile::tempdir().unwrap();
    let (handler, mut seen) = listening();
    let mos = builder(folder.path(), json!({})).handlers([(label::MEM_ORGANIZE, handler)]).build().await.unwrap();
    furnish(&mos).await;
    let config = json!({"user_id": "ann", "text_mem": {"backend": "tree_text", "config": {"reorganize": true}}});
    let config = GeneralMemCubeConfig::from_json(&config).unwrap();
    let tree = CubeId::from("tree");
    mos.create_cube(&ann(), NewCube { cube_id: tree.clone(), name: None, config: Some(config) }).await.unwrap();
    let ids = mos.add(Add::text("I moved to Berlin").user("ann").cube(tree.clone())).await.unwrap();
    let (cube, _, messages) = seen.recv().await.unwrap();
    assert_eq!((cube, messages[0].content.clone()), (tree.clone(), json!(ids).to_string()));
    idle(&mos.scheduler().unwrap()).await;
    assert_eq!(mos.organize_status(&ann(), Some(&tree)).await.unwrap().n_runs, 0, "nothing else organised it");
}

#[tokio::test]
async fn a_scheduler_is_there_when_it_is_asked_for_and_where_it_can_be() {
    let folder = tempfile::tempdir().unwrap();
    let mos = builder(folder.path(), json!({"enable_mem_scheduler": false})).build().await.unwrap();
    assert!(mos.scheduler().is_none());
    let error = mos.require_scheduler().unwrap_err().to_string();
    assert!(error.contains("enable_mem_scheduler"), "{error}");
    assert_eq!(mos.mem_scheduler_off().await.unfinished, 0);
    mos.mem_scheduler_on().unwrap();
    assert!(mos.scheduler().unwrap().is_running());
    mos.mem_scheduler_off().await;
    assert!(!mos.scheduler().unwrap().is_running());

    let process = json!({"mem_scheduler": {"backend": "optimized_scheduler",
        "config": {"scheduler_startup_mode": "process"}}});
    let mos = builder(folder.path(), process).build().await.unwrap();
    assert!(!mos.scheduler().unwrap().is_running(), "another program handles what this one sends");

    let redis = json!({"mem_scheduler": {"backend": "general_scheduler", "config": {"use_redis_queue": true}}});
    let refused = builder(folder.path(), redis).build().await;
    assert!(matches!(&refused, Err(Error::Invalid(text)) if text.contains("use_redis_queue")), "{refused:?}");
}

#[tokio::test]
async fn a_label_that_is_switched_off_is_refused_and_does_not_stop_an_add() {
    let folder = tempfile::tempdir().unwrap();
    let off = json!({"mem_scheduler": {"backend": "general_scheduler", "config": {"disabled_handlers": ["add"]}}});
    let mos = builder(folder.path(), off).start_scheduler(false).build().await.unwrap();
    furnish(&mos).await;
    assert_eq!(mos.add(tell("the meter is in the cellar")).await.unwrap().len(), 1);
    let scheduler = mos.scheduler().unwrap();
    assert_eq!(scheduler.queue_status(&scope()).await.unwrap().waiting, 0);
    let refused = scheduler.submit_messages(vec![message(label::ADD, &ann(), &notes(), "[]")]).await;
    assert!(matches!(&refused, Err(StoreError::Invalid(text)) if text.contains("disabled_handlers")), "{refused:?}");
}

#[tokio::test]
async fn work_that_follows_from_a_message_is_counted_and_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
    let depths = Arc::clone(&seen);
    let handler = move |context: HandlerContext, messages: Vec<ScheduleMessage>| {
        depths.lock().unwrap().extend(messages.iter().map(|message| message.depth));
        async move {
            let following = messages.iter().map(|message| message.with_label("again")).collect();
            context.submit(following).await.map(drop)
        }
    };
    let mos =
        builder(folder.path(), json!({})).handlers([("again", Registration::new(handler))]).build().await.unwrap();
    furnish(&mos).await;
    let scheduler = mos.scheduler().unwrap();
    scheduler.submit_messages(vec![message("again", &ann(), &notes(), "")]).await.unwrap();
    idle(&scheduler).await;
    let reasons = given_up(&scheduler, &scope()).await;
    assert!(reasons.len() == 1 && reasons[0].contains("follows from"), "{reasons:?}");
    assert_eq!(*seen.lock().unwrap(), (0..=mos::scheduler::message::MAX_DEPTH).collect::<Vec<u8>>());
}
