//! Memories: found, added, read, changed, removed, brought back.

use mos::product::{ProductError, ProductResult};
use mos::{Add, CubeHits, Remember, Search};
use mos_core::memory::Quarantined;
use mos_core::{
    CubeId, FileData, Filter, MemoryItem, Message, RawFile, ReadInput, Role, SearchMode, SessionId, Sources,
    ValidationError,
};
use serde_json::{Value, json};

use super::super::answers::{Answer, hit_value, memory_value, version_value};
use super::super::call::{Call, Named};

/// The most states of a memory that are told, the newest ones.
const MAX_VERSIONS: usize = 100;

/// Returns what fits a question, cube by cube.
pub(super) async fn search(call: &Call<'_>) -> ProductResult<Answer> {
    let (arguments, user) = (&call.arguments, call.user()?);
    let mut search = Search::new(arguments.needed("query")?).user(user.clone());
    if let Some(cubes) = call.cubes(&user).await? {
        search = search.cubes(cubes);
    }
    if let Some(filter) = arguments.value("filter") {
        let refused = |error: ValidationError| ProductError::bad_value(format!("the filter cannot be used: {error}"));
        search = search.filter(Filter::from_value(filter).map_err(refused)?);
    }
    if let Some(top_k) = arguments.count("top_k") {
        search = search.top_k(top_k);
    }
    if let Some(mode) = arguments.text("mode").and_then(SearchMode::parse) {
        search = search.mode(mode);
    }
    let explains = arguments.flag("explain");
    let found = call.mos().search(search).await?;
    let mut answer = json!({
        "text_mem": buckets(&found.text_mem, explains),
        "act_mem": [],
        "para_mem": [],
        "pref_mem": buckets(&found.pref_mem, explains),
    });
    if !found.skipped.is_empty() {
        answer["skipped"] = json!(found.skipped);
    }
    Ok(Answer::object(answer))
}

fn buckets(cubes: &[CubeHits], explains: bool) -> Vec<Value> {
    let bucket = |cube: &CubeHits| {
        let memories: Vec<Value> = cube.memories.iter().map(|found| hit_value(found, explains)).collect();
        let mut bucket = json!({"cube_id": cube.cube_id, "memories": memories});
        if !cube.notes.is_empty() {
            bucket["notes"] = json!(cube.notes);
        }
        bucket
    };
    cubes.iter().map(bucket).collect()
}

/// Stores a text, messages or a document.
pub(super) async fn add(call: &Call<'_>) -> ProductResult<Answer> {
    let arguments = &call.arguments;
    let source = arguments.text("source");
    match (arguments.text("memory_content"), arguments.value("messages"), arguments.text("doc_path")) {
        (Some(text), None, None) => store(call, Add::text(text).said_by(speaker(source))).await,
        // Passed over, what somebody calls a page's would be trusted as the user's.
        (None, _, _) if source.is_some() => Err(ProductError::bad_value(
            "`source` goes with `memory_content`; messages tell by their `role` who speaks, and a document is the user's",
        )),
        (None, Some(messages), None) => {
            let refused =
                |error: serde_json::Error| ProductError::bad_value(format!("`messages` cannot be read: {error}"));
            let messages: Vec<Message> = serde_json::from_value(messages.clone()).map_err(refused)?;
            store(call, Add::messages(messages)).await
        }
        (None, None, Some(path)) => read_document(call, path).await,
        _ => Err(ProductError::bad_value("give exactly one of `memory_content`, `messages` and `doc_path`")),
    }
}

/// Whose words a text is: who calls a tool is a model, unless it says otherwise.
fn speaker(source: Option<&str>) -> Role {
    match source {
        Some("user") => Role::User,
        Some("tool" | "web") => Role::Tool,
        _ => Role::Assistant,
    }
}

async fn store(call: &Call<'_>, add: Add) -> ProductResult<Answer> {
    let user = call.writer().await?;
    let cube = call.cube_to_write(&user).await?;
    let mut add = add.user(user).cube(cube.clone());
    if let Some(session) = call.arguments.text("session_id") {
        add = add.session(SessionId::parse(session)?);
    }
    if let Some(key) = call.arguments.text("idempotency_key") {
        add = add.idempotency_key(key);
    }
    let added = call.mos().add_and_learn(add).await?;
    if added.preferences.is_err() {
        // The error may quote what a model said about the messages.
        tracing::warn!("memories are stored, but no preferences could be learned from them");
    }
    Ok(stored(&json!(added.ids), &cube, &added.quarantined))
}

/// Reads a file of this machine.
async fn read_document(call: &Call<'_>, path: &str) -> ProductResult<Answer> {
    call.check_path("doc_path")?;
    let user = call.writer().await?;
    let cube = call.cube_to_write(&user).await?;
    let file = RawFile { id: None, name: None, url: None, data: FileData::Path(path.into()) };
    let input = ReadInput { sources: Sources::of_owner(), ..ReadInput::file(file) };
    let mut remember = Remember::new(input).user(user).cube(cube.clone());
    if let Some(session) = call.arguments.text("session_id") {
        remember = remember.session(SessionId::parse(session)?);
    }
    let done = call.mos().remember(remember).await?;
    let ids: Vec<_> = done.ids.iter().chain(&done.raw_files).collect();
    if ids.is_empty() {
        let reasons: Vec<&str> = done.report.items.iter().filter_map(|item| item.reason.as_deref()).collect();
        let reasons = if reasons.is_empty() { "it holds no text".to_owned() } else { reasons.join("; ") };
        return Err(ProductError::bad_value(format!("nothing of the document could be remembered: {reasons}")));
    }
    Ok(stored(&json!(ids), &cube, &done.report.quarantined))
}

/// Tells what was stored, and what of it no search finds until somebody releases it.
fn stored(ids: &Value, cube: &CubeId, quarantined: &[Quarantined]) -> Answer {
    let mut more = json!({"memory_ids": ids, "cube_id": cube});
    if quarantined.is_empty() {
        return Answer::sentence("Memory added successfully", more);
    }
    more["quarantined"] = json!(quarantined);
    let n = quarantined.len();
    Answer::sentence(format!("Memory added successfully; {n} kept apart until released, see `quarantined`"), more)
}

/// Returns one memory.
pub(super) async fn get(call: &Call<'_>) -> ProductResult<Answer> {
    let Named { user, cube, id } = call.memory().await?;
    let item = call.mos().get(&user, Some(&cube), &id).await?;
    Ok(Answer::object(memory_value(&item)))
}

/// Gives a memory another text.
pub(super) async fn update(call: &Call<'_>) -> ProductResult<Answer> {
    let content = call.arguments.needed("memory_content")?;
    let Named { user, cube, id } = call.memory().await?;
    let known = call.mos().get(&user, Some(&cube), &id).await?;
    let change = |item: &mut MemoryItem| -> ProductResult<()> {
        content.clone_into(&mut item.memory);
        Ok(())
    };
    let item = call.mos().update_with(&user, Some(&cube), known, change).await?;
    Ok(Answer::sentence(format!("Memory updated successfully: {id}"), json!({"memory": memory_value(&item)})))
}

/// Removes one memory.
pub(super) async fn delete(call: &Call<'_>) -> ProductResult<Answer> {
    let Named { user, cube, id } = call.memory().await?;
    call.mos().delete(&user, Some(&cube), &id).await?;
    Ok(Answer::sentence(format!("Memory deleted successfully: {id}"), json!({"memory_id": id, "cube_id": cube})))
}

/// Removes every memory of a cube.
pub(super) async fn delete_all(call: &Call<'_>) -> ProductResult<Answer> {
    let user = call.user()?;
    let cube = call.cube(&user).await?;
    let n_deleted = call.mos().delete_all(&user, Some(&cube)).await?;
    let told = format!("All memories deleted successfully from cube: {cube}");
    Ok(Answer::sentence(told, json!({"cube_id": cube, "n_deleted": n_deleted})))
}

/// Returns what a memory said before.
pub(super) async fn history(call: &Call<'_>) -> ProductResult<Answer> {
    let Named { user, cube, id } = call.memory().await?;
    let versions = call.mos().history(&user, Some(&cube), &id).await?;
    let n_left_out = versions.len().saturating_sub(MAX_VERSIONS);
    let told: Vec<Value> = versions.iter().skip(n_left_out).map(version_value).collect();
    Ok(Answer::object(json!({"memory_id": id, "cube_id": cube, "versions": told, "n_left_out": n_left_out})))
}

/// Takes back the last change of a memory.
pub(super) async fn undo(call: &Call<'_>) -> ProductResult<Answer> {
    let Named { user, cube, id } = call.memory().await?;
    let item = call.mos().undo(&user, Some(&cube), &id).await?;
    Ok(Answer::object(memory_value(&item)))
}
