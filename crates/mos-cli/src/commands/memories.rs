//! `mos add`, `search`, `get`, `list`, `delete`.

use std::path::Path;

use anyhow::Context as _;
use mos::{Add, Mos, Search};
use mos_core::{CubeId, MemoryId, MemoryItem, Message};
use serde_json::json;

use crate::arguments::{AddArguments, DeleteArguments, SearchArguments};
use crate::context::Context;
use crate::progress;

/// How many messages are embedded and written at once; each batch is told as soon as it is durable.
const BATCH: usize = 16;

/// The largest file of messages that is read.
const MAX_FILE_BYTES: u64 = 256 << 20;

pub(super) async fn add(context: &Context, arguments: AddArguments) -> anyhow::Result<()> {
    let messages = arguments.messages.as_deref().map(read_messages).transpose()?;
    if let Some(text) = &arguments.text
        && text.trim().is_empty()
    {
        anyhow::bail!("the text is empty; give some words to remember");
    }
    let mos = context.open().await?;
    let cube = context.ensure_cube(&mos).await?;
    let session = arguments.session.as_deref();
    let Some(messages) = messages else {
        return add_batch(context, &mos, &cube, session, Add::text(arguments.text.unwrap_or_default())).await;
    };
    let bar = progress::counter(messages.len(), "remembering");
    for batch in messages.chunks(BATCH) {
        add_batch(context, &mos, &cube, session, Add::messages(batch.to_vec())).await?;
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    Ok(())
}

async fn add_batch(
    context: &Context,
    mos: &Mos,
    cube: &CubeId,
    session: Option<&str>,
    mut add: Add,
) -> anyhow::Result<()> {
    add = add.user(context.user.clone()).cube(cube.clone());
    if let Some(session) = session {
        add = add.session(session);
    }
    for id in mos.add(add).await? {
        if context.output.json {
            context.output.json_line(&json!({"memory_id": id}))?;
        } else {
            context.output.line(&format!("remembered {id}"))?;
        }
    }
    Ok(())
}

/// Reads and checks a whole file before anything is stored.
fn read_messages(path: &Path) -> anyhow::Result<Vec<Message>> {
    let shown = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let text = if path == Path::new("-") {
        std::io::read_to_string(std::io::Read::take(std::io::stdin(), MAX_FILE_BYTES))
    } else {
        let size = std::fs::metadata(path).with_context(|| format!("cannot read {shown}"))?.len();
        anyhow::ensure!(size <= MAX_FILE_BYTES, "{shown} has {size} bytes; split it into files of at most 256 MiB");
        std::fs::read_to_string(path)
    };
    let text = text.with_context(|| format!("cannot read {shown}"))?;
    let wanted = "a JSON list of messages such as {\"role\": \"user\", \"content\": \"...\"}";
    let messages: Vec<Message> =
        serde_json::from_str(&text).with_context(|| format!("{shown} does not hold {wanted}"))?;
    anyhow::ensure!(!messages.is_empty(), "{shown} holds no message; give {wanted}");
    for (index, message) in messages.iter().enumerate() {
        anyhow::ensure!(
            !message.text().trim().is_empty(),
            "message {index} of {shown} has no text; remove it or give it some words"
        );
    }
    Ok(messages)
}

pub(super) async fn search(context: &Context, arguments: SearchArguments) -> anyhow::Result<()> {
    let mos = context.open().await?;
    let mut search = Search::new(arguments.query).user(context.user.clone());
    if let Some(cube) = &context.cube {
        search = search.cubes([cube.clone()]);
    }
    if let Some(top_k) = arguments.top_k {
        search = search.top_k(top_k);
    }
    if let Some(session) = arguments.session {
        search = search.session(session.as_str());
    }
    let found = mos.search(search).await?;
    context.output.value(&found, |found| {
        let lines: Vec<String> = found
            .best()
            .into_iter()
            .map(|(cube, hit)| {
                let signals: Vec<String> =
                    hit.signals.iter().map(|signal| format!("{} {:.3}", signal.name, signal.score)).collect();
                format!(
                    "{:.3}  {}\n       {} in {cube} ({})",
                    hit.score,
                    hit.item.memory,
                    hit.item.id,
                    signals.join(", ")
                )
            })
            .collect();
        if lines.is_empty() { "nothing found".to_owned() } else { lines.join("\n") }
    })
}

pub(super) async fn get(context: &Context, id: &str) -> anyhow::Result<()> {
    let mos = context.open().await?;
    let item = mos.get(&context.user, context.cube.as_ref(), &MemoryId::parse(id)?).await?;
    context.output.value(&item, ToString::to_string)
}

pub(super) async fn list(context: &Context) -> anyhow::Result<()> {
    let mos = context.open().await?;
    let listing = mos.get_all(&context.user, context.cube.as_ref()).await?;
    context.output.value(&listing, |listing| {
        let memories = listing.text_mem.iter().flat_map(|cube| &cube.memories);
        memories.map(|item: &MemoryItem| format!("{}  {}", item.id, item.memory)).collect::<Vec<_>>().join("\n")
    })
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
