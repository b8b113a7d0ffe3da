//! `mos kv import`.

use std::path::PathBuf;

use anyhow::Context as _;
use mos::CancelToken;
use mos::kv::{KvCacheItem, import_pickle};
use serde_json::{Value, json};

use super::items::size_of;
use super::{memory_of, open_or_create, working};
use crate::context::Context;

pub(super) async fn run(context: &Context, file: PathBuf, raw: bool) -> anyhow::Result<()> {
    let shown = file.display().to_string();
    // Read before anything is made: a bad file leaves nothing behind.
    let found = working(format!("reading {shown}"), move || import_pickle(&file)).await?;
    anyhow::ensure!(!found.is_empty(), "{shown} holds no caches");
    let (_mos, caches) = open_or_create(context).await?;
    let memory = memory_of(&caches).await?;
    let kept = working(format!("importing {} caches", found.len()), move || {
        let kept: Vec<KvCacheItem> = if raw {
            found
        } else {
            let extractor = memory.extractor();
            found.iter().map(|item| extractor.recompute(item, &CancelToken::default())).collect::<Result<_, _>>()?
        };
        memory.add(kept.iter().cloned())?;
        Ok(kept)
    });
    let kept = kept.await.with_context(|| {
        let other = if raw { "import it without --raw" } else { "--raw keeps tensors without a text" };
        format!("cannot import {shown} ({other})")
    })?;
    let rows: Vec<Value> = kept
        .iter()
        .map(|item| {
            json!({
                "id": item.id,
                "n_tokens": item.n_tokens(),
                "memory": item.summary(),
                "recomputed": !raw,
                "text": item.records.composed_text_memory,
            })
        })
        .collect();
    context.output.value(&rows, |_| {
        let how = if raw { "kept as they were" } else { "computed anew from its text" };
        let lines =
            kept.iter().map(|item| format!("{}\t{} tokens\t{}\t{how}", item.id, item.n_tokens(), size_of(item)));
        lines.collect::<Vec<_>>().join("\n")
    })
}
