//! `mos kv extract`, `list`, `show`, `rm`.

use std::time::Instant;

use mos::PromotedCache;
use mos::kv::{ExtractInput, KvCacheItem, UnreadableFile};
use mos_core::ActivationId;
use serde_json::{Value, json};

use super::super::messages;
use super::{ExtractArguments, check_known, meant, memory_of, open, open_or_create, parse_ids, working};
use crate::context::Context;

/// Characters of a text that a list shows.
const SHOWN_CHARACTERS: usize = 60;

pub(super) async fn extract(context: &Context, arguments: ExtractArguments) -> anyhow::Result<()> {
    let ExtractArguments { mut text, messages, id } = arguments;
    let input: ExtractInput = match messages {
        Some(path) => messages::read_as_given(&path)?.into(),
        None if text.len() == 1 => text.remove(0).into(),
        None => text.into(),
    };
    anyhow::ensure!(
        input.texts().iter().any(|text| !text.trim().is_empty()),
        "there is no text to compute a cache from; give some words"
    );
    let id = id.map(ActivationId::parse).transpose()?;
    let (_mos, caches) = open_or_create(context).await?;
    let memory = memory_of(&caches).await?;
    let (item, seconds) = working("computing the cache", move || {
        let started = Instant::now();
        let mut item = memory.extract(input)?;
        let seconds = started.elapsed().as_secs_f64();
        item.id = id.unwrap_or(item.id);
        memory.add([item.clone()])?;
        Ok((item, seconds))
    })
    .await?;
    let size_bytes = item.summary().map_or(0, |summary| summary.size_bytes);
    let told = json!({"id": item.id, "n_tokens": item.n_tokens(), "size_bytes": size_bytes, "seconds": seconds});
    context.output.value(&told, |_| {
        let size = size_of(&item);
        format!("kept {}: {} tokens, {size}, computed in {seconds:.2} s", item.id, item.n_tokens())
    })
}

pub(super) async fn list(context: &Context) -> anyhow::Result<()> {
    let (mos, caches) = open(context).await?;
    let items = caches.list().await?;
    let promoted = mos.promoted(&context.user, context.cube.as_ref()).await?;
    let damaged = mos.unreadable_caches().await?;
    let rows = items.iter().map(row).chain(promoted.iter().map(promoted_row)).chain(damaged.iter().map(damaged_row));
    let rows: Vec<Value> = rows.collect();
    let lines = || {
        let known = items.iter().map(line).chain(promoted.iter().map(promoted_line));
        known.chain(damaged.iter().map(damaged_line))
    };
    context.output.value(&rows, |rows| match rows.is_empty() {
        true => "no caches yet; `mos kv extract` keeps one".to_owned(),
        false => lines().collect::<Vec<_>>().join("\n"),
    })
}

/// A file that does not say whose cache it is.
fn damaged_row(file: &UnreadableFile) -> Value {
    json!({"id": file.name, "damaged": file.detail, "removable": file.is_removable})
}

fn damaged_line(file: &UnreadableFile) -> String {
    format!("{}\tcannot be read: {}", file.name, file.detail)
}

/// What the scheduler promoted for the user: other users of a shared cube have their own.
fn promoted_row(cache: &PromotedCache) -> Value {
    let mut row = json!(cache);
    row["promoted"] = Value::Bool(true);
    row
}

fn promoted_line(cache: &PromotedCache) -> String {
    let PromotedCache { id, memories, recalls, n_chats, promoted_at, is_used } = cache;
    let use_of_it = if *is_used { "chats begin with it" } else { "not in use" };
    let told = |(memory, recalls): (&String, &u64)| format!("\n  - {memory} (recalled by {recalls} turns)");
    let told = memories.iter().zip(recalls).map(told).collect::<String>();
    format!("{id}\tpromoted {promoted_at}\t{use_of_it}\t{n_chats} chats\t{} memories{told}", memories.len())
}

pub(super) async fn show(context: &Context, id: &str) -> anyhow::Result<()> {
    let (_mos, caches) = open(context).await?;
    let id = ActivationId::parse(id)?;
    let items = caches.list().await?;
    check_known(std::slice::from_ref(&id), items.iter().map(|item| &item.id))?;
    for item in items.iter().filter(|item| item.id == id) {
        context.output.value(item, describe)?;
    }
    Ok(())
}

pub(super) async fn remove(context: &Context, ids: &[String]) -> anyhow::Result<()> {
    let ids = parse_ids(ids)?;
    let mos = context.open().await?;
    let (mut n_removed, mut others) = (0, Vec::new());
    for id in &ids {
        // Damaged files belong to no cube, and nobody misses them.
        if is_file_name(id) && mos.remove_unreadable_cache(id.as_str()).await? {
            n_removed += 1;
        } else {
            others.push(id.clone());
        }
    }
    if !others.is_empty() {
        let caches = meant(context, &mos).await?;
        // All or none: a misspelt id must not cost the others.
        check_known(&others, caches.list().await?.iter().map(|item| &item.id))?;
        n_removed += caches.remove(others).await?;
    }
    context.output.value(&json!({"removed": ids, "n_removed": n_removed}), |_| format!("removed {n_removed}"))
}

/// Whether an id looks like the name of a cache's file.
fn is_file_name(id: &ActivationId) -> bool {
    id.as_str().len() == 64 && id.as_str().bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn row(item: &KvCacheItem) -> Value {
    json!({
        "id": item.id,
        "n_tokens": item.n_tokens(),
        "memory": item.summary(),
        "model": item.identity().map(|identity| &identity.name),
        "text": item.records.composed_text_memory,
    })
}

fn line(item: &KvCacheItem) -> String {
    let one_line = item.records.composed_text_memory.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut text: String = one_line.chars().take(SHOWN_CHARACTERS).collect();
    if text.len() < one_line.len() {
        text.push('…');
    }
    format!("{}\t{} tokens\t{}\t{text}", item.id, item.n_tokens(), size_of(item))
}

fn describe(item: &KvCacheItem) -> String {
    let model = item.identity().map_or("unknown", |identity| identity.name.as_str());
    let layers = item.summary().map_or(0, |summary| summary.num_layers);
    let mut text =
        format!("{}\nmodel\t{model}\nsize\t{} tokens, {layers} layers, {}\n", item.id, item.n_tokens(), size_of(item));
    for (key, value) in &item.metadata {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text.push_str(&format!("{key}\t{value}\n"));
    }
    text
}

pub(super) fn size_of(item: &KvCacheItem) -> String {
    item.summary().map_or_else(|| "no keys and values".to_owned(), |summary| format!("{:.2} MB", summary.size_mb))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_promoted_is_listed_with_its_memories_and_how_often_they_are_of_use() {
        let cache = PromotedCache {
            id: ActivationId::new("c1"),
            memories: vec!["Max is a puppy".to_owned(), "Max likes biscuits".to_owned()],
            recalls: vec![7, 0],
            n_chats: 12,
            promoted_at: "2026-01-02T03:04:05Z".to_owned(),
            is_used: true,
        };
        let expected = "c1\tpromoted 2026-01-02T03:04:05Z\tchats begin with it\t12 chats\t2 memories\n  - Max is a puppy \
                        (recalled by 7 turns)\n  - Max likes biscuits (recalled by 0 turns)";
        assert_eq!(promoted_line(&cache), expected);
        let row = promoted_row(&cache);
        assert_eq!((&row["promoted"], &row["n_chats"], &row["recalls"]), (&json!(true), &json!(12), &json!([7, 0])));
    }
}
