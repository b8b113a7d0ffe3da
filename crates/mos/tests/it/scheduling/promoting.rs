//! Chats that begin with promoted memories, on the chat model that comes with the program.

use std::path::{Path, PathBuf};

use mos::kv::ExtractInput;
use mos::product::{App, DeleteMemoryByRecordIdRequest, DeleteMemoryRequest, ProductOptions};
use mos::scheduler::{HandlerContext, HandlerError, Registration, ScheduleMessage, label};
use mos::{Chat, Mos};
use mos_core::{MemoryId, Sampling, UserId};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{builder, furnish, idle, message, notes, tell};
use crate::{ann, bob};

const QUESTION: &str = "What is my dog called?";
const TOLD: &str = "My dog is called Max and loves peanut butter biscuits";

/// Promotes the texts that a message names.
fn promoter() -> Registration {
    Registration::new(|context: HandlerContext, messages: Vec<ScheduleMessage>| async move {
        let Some(activation) = context.cube.activation.clone() else {
            return Err(HandlerError::give_up("this cube has no activation memory"));
        };
        for message in &messages {
            let texts: Vec<String> = serde_json::from_str(&message.content).map_err(HandlerError::give_up)?;
            let id = activation.promote(&activation.beginning(&texts)).await?;
            activation.use_in_chats(Some(&id)).await?;
        }
        Ok(())
    })
}

fn more(promotes: bool) -> Value {
    let models = std::env::var_os("MOS_MODELS_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").or_else(|| std::env::var_os("USERPROFILE")).unwrap();
        Path::new(&home).join(".cache/mos/models")
    });
    json!({
        "models_dir": models,
        "enable_activation_memory": true,
        "mem_scheduler": {"backend": "general_scheduler", "config": {"enable_activation_memory": promotes}},
    })
}

/// Ann's cube `notes`, shared with bob, with one memory; questions move no memories.
async fn house() -> (TempDir, Mos, MemoryId) {
    let folder = tempfile::tempdir().unwrap();
    let quiet = Registration::new(|_: HandlerContext, _: Vec<ScheduleMessage>| async { Ok::<(), HandlerError>(()) });
    let handlers = [("promote", promoter()), (label::QUERY, quiet)];
    let mos = builder(folder.path(), more(true)).handlers(handlers).build().await.unwrap();
    furnish(&mos).await;
    mos.share_cube_with_user(&ann(), &notes(), &bob()).await.unwrap();
    let id = mos.add(tell(TOLD)).await.unwrap().remove(0);
    (folder, mos, id)
}

async fn promote(mos: &Mos, user: &UserId, texts: &[&str]) {
    let scheduler = mos.scheduler().unwrap();
    let content = json!(texts).to_string();
    scheduler.submit_messages(vec![message("promote", user, &notes(), &content)]).await.unwrap();
    idle(&scheduler).await;
}

fn ask(user: &UserId) -> Chat {
    let sampling = Sampling { max_tokens: 16, ..Sampling::default() };
    Chat::new(QUESTION).user(user.clone()).cubes([notes()]).sampling(sampling)
}

/// Every file below a folder.
fn n_files(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.map(|entry| entry.unwrap().path()).map(|path| if path.is_dir() { n_files(&path) } else { 1 }).sum()
}

#[tokio::test]
async fn a_chat_begins_with_what_was_promoted_for_its_user_and_answers_as_without_any_cache() {
    let (_folder, mos, _) = house().await;
    let (before, before_usage) = mos.chat(ask(&ann())).await.unwrap().complete().await.unwrap();
    assert!(before.contains("Max"), "{before}");
    mos.clear_messages(&ann()).await.unwrap();
    promote(&mos, &ann(), &[TOLD]).await;
    let promoted = mos.promoted(&ann(), Some(&notes())).await.unwrap();
    assert_eq!((promoted.len(), promoted[0].is_used, promoted[0].n_chats), (1, true, 0));
    assert_eq!(promoted[0].memories, [TOLD]);
    assert_eq!(promoted[0].recalls, [0], "no turn has retrieved it");
    // A listing shows it to its user, and to nobody else who reads the cube.
    let listed = mos.get_all(&ann(), Some(&notes())).await.unwrap();
    let ids: Vec<_> = listed.act_mem[0].memories.iter().map(|item| &item.id).collect();
    assert_eq!(ids, [&promoted[0].id]);
    assert!(mos.get_all(&bob(), Some(&notes())).await.unwrap().act_mem[0].memories.is_empty());

    let reply = mos.chat(ask(&ann())).await.unwrap();
    assert_eq!(reply.activation, [promoted[0].id.clone()]);
    assert_eq!(reply.memories[0].1.item.memory, TOLD, "it stands in the prompt, only earlier");
    let (answer, usage) = reply.complete().await.unwrap();
    let n_computed = usage.prompt_tokens - usage.cached_tokens;
    assert!(n_computed < before_usage.prompt_tokens / 2, "{usage:?}, before {before_usage:?}");
    mos.clear_messages(&ann()).await.unwrap();
    let (plain, plain_usage) = mos.chat(ask(&ann()).no_cache(true)).await.unwrap().complete().await.unwrap();
    assert_eq!((&answer, usage.prompt_tokens), (&plain, plain_usage.prompt_tokens));
    assert_eq!(plain_usage.cached_tokens, 0);
    mos.wait_for_sending().await;
    assert_eq!(mos.promoted(&ann(), Some(&notes())).await.unwrap()[0].n_chats, 2);

    // A chat with instructions of its own does not begin with those of others.
    mos.clear_messages(&ann()).await.unwrap();
    let own = mos.chat(ask(&ann()).base_prompt("Answer like a pirate.")).await.unwrap();
    assert!(own.activation.is_empty());
    // What follows from ann's questions is nothing to bob.
    assert!(mos.chat(ask(&bob())).await.unwrap().activation.is_empty());
    assert!(mos.promoted(&bob(), Some(&notes())).await.unwrap().is_empty());
    mos.stop().await;
}

#[tokio::test]
async fn a_memory_that_is_removed_is_not_told_any_more() {
    let (_folder, mos, id) = house().await;
    promote(&mos, &ann(), &["I live near the river"]).await;
    promote(&mos, &bob(), &[TOLD]).await;
    mos.delete(&ann(), Some(&notes()), &id).await.unwrap();
    assert!(mos.promoted(&bob(), Some(&notes())).await.unwrap().is_empty(), "also for whom ann shares the cube with");
    assert_eq!(mos.promoted(&ann(), Some(&notes())).await.unwrap().len(), 1, "what does not tell of it stays");
    mos.delete_all(&ann(), Some(&notes())).await.unwrap();
    assert!(mos.promoted(&ann(), Some(&notes())).await.unwrap().is_empty());
    assert!(mos.chat(ask(&ann())).await.unwrap().activation.is_empty());
    mos.stop().await;
}

#[tokio::test]
async fn what_the_product_api_deletes_is_not_told_any_more() {
    let (_folder, mos, id) = house().await;
    let product = App::new(mos.clone(), ProductOptions::default()).product();
    promote(&mos, &ann(), &["I live near the river"]).await;
    promote(&mos, &bob(), &[TOLD]).await;
    let one = DeleteMemoryRequest { memory_ids: Some(vec![id.to_string()]), ..DeleteMemoryRequest::new() };
    product.delete_memory(one).await.unwrap();
    assert!(mos.promoted(&bob(), Some(&notes())).await.unwrap().is_empty(), "also for whom ann shares the cube with");
    assert_eq!(mos.promoted(&ann(), Some(&notes())).await.unwrap().len(), 1, "what does not tell of it stays");
    let all = DeleteMemoryByRecordIdRequest::new("notes".to_owned(), "r1".to_owned());
    product.delete_memory_by_record_id(all).await.unwrap();
    assert!(mos.promoted(&ann(), Some(&notes())).await.unwrap().is_empty());
    mos.stop().await;
}

#[tokio::test]
async fn caches_of_users_come_first_and_a_deleted_cube_leaves_nothing() {
    let (folder, mos, _) = house().await;
    let caches = folder.path().join("activation").join("caches");
    let n_before = n_files(&caches);
    promote(&mos, &ann(), &[TOLD]).await;
    promote(&mos, &bob(), &[TOLD]).await;
    let memory = mos.cube(&ann(), &notes()).await.unwrap().caches().unwrap().memory().await.unwrap();
    assert!(memory.get_all().is_empty(), "what was promoted is not among the caches of the cube");
    let input = ExtractInput::from("The rocket is called Heron.");
    let kept = tokio::task::spawn_blocking(move || {
        let item = memory.extract(input)?;
        memory.add([item.clone()]).map(|()| item.id)
    });
    let kept = kept.await.unwrap().unwrap();
    assert_eq!(mos.chat(ask(&ann())).await.unwrap().activation, [kept]);
    assert!(n_files(&caches) > n_before);
    mos.stop().await;
    mos.delete_cube(&ann(), &notes()).await.unwrap();
    assert_eq!(n_files(&caches), n_before);
    mos.create_cube(&ann(), mos::NewCube::new(notes())).await.unwrap();
    assert!(mos.promoted(&ann(), Some(&notes())).await.unwrap().is_empty());
}

#[tokio::test]
async fn nothing_is_promoted_where_the_settings_do_not_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let mos = builder(folder.path(), more(false)).handlers([("promote", promoter())]).build().await.unwrap();
    furnish(&mos).await;
    promote(&mos, &ann(), &[TOLD]).await;
    let reasons = super::given_up(&mos.scheduler().unwrap(), &super::scope()).await;
    assert_eq!(reasons, ["this cube has no activation memory"]);
}
