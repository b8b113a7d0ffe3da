//! `mos add`, `get`, `list`, `history`, `undo`, `quarantine`, `delete`.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use indicatif::ProgressBar;
use mos::{Add, Added, Error, Mos};
use mos_core::{CubeId, MemoryError, MemoryId, MemoryItem, Version};
use serde_json::{Value, json};

use super::messages::Messages;
use super::{messages, reading};
use crate::arguments::{AddArguments, DeleteArguments};
use crate::context::Context;
use crate::progress;

/// How many messages are embedded and written at once; each batch is told as soon as it is durable.
const BATCH: usize = 16;

/// How many memories that are kept apart are printed.
const MAX_QUARANTINED: usize = 1_000;

pub(super) async fn add(context: &Context, mut arguments: AddArguments) -> anyhow::Result<()> {
    if arguments.text.as_deref() == Some("-") {
        arguments.text = Some(messages::read_standard_input()?);
    }
    if reading::is_meant(&arguments) {
        return reading::add(context, arguments).await;
    }
    let messages = arguments.messages.as_deref().map(messages::read).transpose()?;
    if let Some(text) = &arguments.text
        && text.trim().is_empty()
    {
        anyhow::bail!("the text is empty; give some words to remember");
    }
    let mos = context.open().await?;
    let cube = context.ensure_cube(&mos).await?;
    let session = arguments.session.as_deref();
    let of_content = || messages.as_ref().map(|messages| key_of_content(messages, session));
    let key = arguments.idempotency_key.clone().or_else(of_content);
    let is_own_key = arguments.idempotency_key.is_none();
    let batches: Vec<(Add, Option<String>)> = match &messages {
        None => vec![(Add::text(arguments.text.unwrap_or_default()), key)],
        Some(messages) => {
            messages.notes.iter().for_each(|note| context.output.note(note));
            let batches = messages.kept.chunks(BATCH).map(|batch| Add::messages(batch.to_vec())).enumerate();
            // Each batch is stored by itself, so each is known by itself.
            batches.map(|(index, add)| (add, key.as_deref().map(|key| format!("{key}/{index}")))).collect()
        }
    };
    let bar = progress::counter(messages.map_or(1, |messages| messages.kept.len()), "remembering");
    let mut n_gone = 0;
    for (mut add, key) in batches {
        if let Some(session) = session {
            add = add.session(session);
        }
        let add = add.user(context.user.clone()).cube(cube.clone());
        let batch = Batch { context, mos: &mos, cube: &cube, bar: &bar };
        n_gone += batch.add(add, key, is_own_key).await?;
    }
    if n_gone > 0 {
        bar.suspend(|| {
            context.output.note(&format!(
                "{n_gone} of these were added before and deleted since, and stay deleted; another --idempotency-key adds all of it \
                 once more"
            ));
        });
    }
    bar.finish_and_clear();
    super::organize::wait(context, &mos, Some(&cube)).await
}

/// Returns the key under which a file of messages is known: the same for the same text in the same conversation.
fn key_of_content(messages: &Messages, session: Option<&str>) -> String {
    let meant = format!("{BATCH}/{}/{}", messages.digest, session.unwrap_or_default());
    format!("messages-{}", blake3::hash(meant.as_bytes()).to_hex())
}

/// How often a batch that was deleted as a whole is looked for under the next key.
const MAX_RETURNS: usize = 100;

/// Where messages that are stored together go.
struct Batch<'a> {
    context: &'a Context,
    mos: &'a Mos,
    cube: &'a CubeId,
    bar: &'a ProgressBar,
}

impl Batch<'_> {
    /// Stores messages, once for each key. What was deleted as a whole is told anew, when the key is made of its content: then it is
    /// no repetition, and gets a key of its own. Returns how many memories the key stands for that are gone.
    async fn add(&self, add: Add, key: Option<String>, is_own_key: bool) -> anyhow::Result<usize> {
        let Some(mut key) = key else {
            let added = self.mos.add_and_learn(add).await?;
            return self.tell(&added).map(|()| 0);
        };
        for _ in 0..MAX_RETURNS {
            let added = self.mos.add_and_learn(add.clone().idempotency_key(key.clone())).await?;
            let mut n_gone = 0;
            for id in &added.ids {
                n_gone += usize::from(is_gone(self.context, self.mos, self.cube, id).await?);
            }
            let Some(first) = added.ids.first().filter(|_| is_own_key && n_gone == added.ids.len()) else {
                return self.tell(&added).map(|()| n_gone);
            };
            key = format!("messages-after-{first}");
        }
        anyhow::bail!("these messages were added and deleted {MAX_RETURNS} times; choose an --idempotency-key")
    }

    /// Tells what is durable at once.
    fn tell(&self, added: &Added) -> anyhow::Result<()> {
        if added.preferences.is_err() {
            // The error may quote what a model said about the messages.
            tracing::warn!("memories are stored, but no preferences could be learned from them");
        }
        self.bar.inc(added.ids.len() as u64);
        let output = &self.context.output;
        let reason = |id: &MemoryId| added.quarantined.iter().find(|one| one.id == *id).map(|one| one.reason.as_str());
        self.bar.suspend(|| {
            added.ids.iter().try_for_each(|id| match (output.json, reason(id)) {
                (true, None) => output.json_line(&json!({"memory_id": id})),
                (true, Some(reason)) => output.json_line(&json!({"memory_id": id, "quarantine": reason})),
                (false, None) => output.line(&format!("remembered {id}")),
                (false, Some(reason)) => output.line(&format!("remembered {id}, quarantined: it {reason}")),
            })
        })
    }
}

/// Whether a memory that a key stands for is no longer there.
async fn is_gone(context: &Context, mos: &Mos, cube: &CubeId, id: &MemoryId) -> anyhow::Result<bool> {
    match mos.get(&context.user, Some(cube), id).await {
        Ok(_) => Ok(false),
        Err(Error::Memory(MemoryError::NotFound(_))) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn get(context: &Context, id: &str) -> anyhow::Result<()> {
    let mos = context.open().await?;
    let item = mos.get(&context.user, context.cube.as_ref(), &MemoryId::parse(id)?).await?;
    context.output.value(&item, ToString::to_string)
}

/// Writes a skill to a new file.
pub(super) async fn get_skill(context: &Context, id: &str, file: &Path) -> anyhow::Result<()> {
    let mos = context.open().await?;
    let archive = mos.skill_archive(&context.user, context.cube.as_ref(), &MemoryId::parse(id)?).await?;
    let shown = file.display().to_string();
    let mut target = std::fs::File::create_new(file).with_context(|| format!("{shown} cannot be made"))?;
    target.write_all(&archive).with_context(|| format!("{shown} cannot be written"))?;
    let told = json!({"memory_id": id, "file": shown, "n_bytes": archive.len()});
    context.output.value(&told, |_| format!("wrote the skill to {shown} ({} bytes)", archive.len()))
}

pub(super) async fn list(context: &Context) -> anyhow::Result<()> {
    list_of(context, &context.open().await?).await
}

/// Prints every memory of the cube that is meant, from memories that are open already.
pub(super) async fn list_of(context: &Context, mos: &Mos) -> anyhow::Result<()> {
    let listing = mos.get_all(&context.user, context.cube.as_ref()).await?;
    context.output.value(&listing, |listing| {
        let memories = listing.text_mem.iter().flat_map(|cube| &cube.memories);
        // What working memory only shows would stand here twice.
        let memories = memories.filter(|item| item.working_copy_of().is_none());
        let told = |item: &MemoryItem| {
            let apart = if item.quarantine_reason().is_some() { "(quarantined) " } else { "" };
            format!("{}  {apart}{}", item.id, item.memory)
        };
        memories.map(told).collect::<Vec<_>>().join("\n")
    })
}

pub(super) async fn history(context: &Context, id: &str) -> anyhow::Result<()> {
    let mos = context.open().await?;
    let versions = mos.history(&context.user, context.cube.as_ref(), &MemoryId::parse(id)?).await?;
    let states: Vec<Value> = versions.iter().map(state).collect();
    context.output.value(&states, |_| versions.iter().map(told).collect::<Vec<_>>().join("\n"))
}

/// A state for programs.
fn state(version: &Version) -> Value {
    let Version { number, item, origin, at, .. } = version;
    json!({"number": number, "at": at, "origin": origin, "memory": item})
}

/// A state for people: when, who and why, what it said, and from which messages.
fn told(version: &Version) -> String {
    let Version { number, item, origin, at, .. } = version;
    let Some(item) = item else {
        return format!("{number}  {at}  {} ({})  removed", origin.actor, origin.reason);
    };
    let sources = item.metadata.tree().and_then(|fields| fields.sources.as_ref());
    let ids = sources.into_iter().flatten().filter_map(|source| source.message_id.as_deref());
    let ids: Vec<&str> = ids.collect();
    let messages = if ids.is_empty() { String::new() } else { format!("  [messages: {}]", ids.join(", ")) };
    format!("{number}  {at}  {} ({})  {}{messages}", origin.actor, origin.reason, item.memory)
}

pub(super) async fn undo(context: &Context, id: &str) -> anyhow::Result<()> {
    let mos = context.open().await?;
    let item = mos.undo(&context.user, context.cube.as_ref(), &MemoryId::parse(id)?).await?;
    context.output.value(&item, |item| format!("{} is now: {}", item.id, item.memory))
}

/// Prints what is kept apart, or lets one of it take part in searches.
pub(super) async fn quarantine(context: &Context, release: Option<&str>) -> anyhow::Result<()> {
    let mos = context.open().await?;
    let cube = context.cube.as_ref();
    if let Some(id) = release {
        let item = mos.release(&context.user, cube, &MemoryId::parse(id)?).await?;
        return context.output.value(&item, |item| format!("released {}", item.id));
    }
    let mut items = mos.quarantined(&context.user, cube, MAX_QUARANTINED + 1).await?;
    if let Some(note) = cut(&mut items, MAX_QUARANTINED) {
        context.output.note(&note);
    }
    context.output.value(&items, |items| {
        let told = |item: &MemoryItem| {
            let line = item.memory.split_whitespace().collect::<Vec<_>>().join(" ");
            format!("{}  it {}: {line}", item.id, item.quarantine_reason().unwrap_or_default())
        };
        items.iter().map(told).collect::<Vec<_>>().join("\n")
    })
}

/// Leaves the first `limit` of what was found; returns what to say when there were more.
fn cut<T>(found: &mut Vec<T>, limit: usize) -> Option<String> {
    if found.len() <= limit {
        return None;
    }
    found.truncate(limit);
    Some(format!("there are more than these {limit}; release or delete some of them to see the others"))
}

pub(super) async fn delete(context: &Context, arguments: DeleteArguments) -> anyhow::Result<()> {
    let mos = context.open().await?;
    let cube = context.cube.as_ref();
    let n_deleted = match arguments.id {
        Some(id) => {
            mos.delete(&context.user, cube, &MemoryId::parse(id)?).await?;
            1
        }
        None => mos.delete_all(&context.user, cube).await?,
    };
    context.output.value(&json!({"n_deleted": n_deleted}), |_| format!("deleted {n_deleted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_known_by_their_text_and_conversation() {
        let of = |digest: &str, session: Option<&str>| {
            let messages = Messages { kept: Vec::new(), notes: Vec::new(), digest: digest.to_owned() };
            key_of_content(&messages, session)
        };
        assert_eq!(of("a", Some("s")), of("a", Some("s")));
        let other = [of("a", None), of("a", Some("s")), of("b", None), of("a", Some(&"s".repeat(600)))];
        assert_eq!(other.iter().collect::<std::collections::HashSet<_>>().len(), other.len());
        assert!(other.iter().all(|key| key.len() < 100));
    }

    #[test]
    fn what_is_not_shown_is_told() {
        let mut found = vec![1, 2, 3];
        assert_eq!(cut(&mut found, 3), None);
        assert!(cut(&mut found, 2).is_some_and(|note| note.contains("more than these 2")));
        assert_eq!(found, [1, 2]);
    }
}
