//! Keys and values of texts are computed once, kept, joined, removed, dumped and loaded, and a chat begins with them.
//!
//! Run `cargo run --release -- models pull` once, then
//! `cargo run --release --example kv_cache_memory [-- --config FILE] [--model NAME] [--data-dir FOLDER]`.
#![allow(clippy::print_stdout, reason = "an example shows its results")]

use std::path::Path;

use anyhow::Context;
use mos::Chat;
use mos::kv::{KvCacheItem, KvCacheMemory, KvSummary, MergeStrategy};
use mos_core::Message;
use mos_examples::Arguments;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let house = Arguments::read("hybrid.json", &[])?.open().await?;
    let mos = &house.mos;
    let (ann, cube) = house.user_with_cube("ann", "notes").await?;
    let memory = mos.cube(&ann, &cube).await?.caches()?.memory().await?;
    let folder = house.cleared("kv_mem")?;
    // The methods of a memory compute, read and write: they belong where blocking is allowed.
    tokio::task::spawn_blocking(move || keep(&memory, &folder)).await??;

    let question = "What is my dog called?";
    println!("Chat: {question}");
    let reply = mos.chat(Chat::new(question).user("ann").cubes([cube])).await?;
    println!("Kept caches that the chat begins with: {}", reply.activation.len());
    let (answer, usage) = reply.complete().await?;
    println!("{answer}");
    println!("{} of {} prompt tokens were not computed.", usage.cached_tokens, usage.prompt_tokens);
    Ok(())
}

fn keep(memory: &KvCacheMemory, folder: &Path) -> anyhow::Result<()> {
    memory.delete_all()?;
    let conversation = vec![
        Message::user("What is a memory operating system?"),
        Message::assistant("A program that keeps, finds and schedules what a language model should remember."),
    ];
    let talk = memory.extract(conversation)?;
    show("Extracted", &talk);
    memory.add([talk.clone()])?;
    let kept = memory.get(talk.id.as_str())?.context("what was added is not there")?;
    show("Got by its id", &kept);

    let dog = memory.extract("My dog is called Max and loves the beach.")?;
    show("Extracted", &dog);
    memory.add([dog.clone()])?;
    list("All caches", memory);

    let ids = [&talk.id, &dog.id];
    let joined = memory.get_cache(&ids)?.context("there is nothing to join")?;
    let shape = kept.segment().context("an item has its keys and values")?.shape();
    let size = KvSummary::new(shape, joined.len()).size_mb;
    println!("Joined as they are: {} tokens, {size:.2} MB, exact: {}", joined.len(), joined.is_exact());
    let merged = memory.get_cache_with(&ids, MergeStrategy::PrefixTree)?.context("there is nothing to merge")?;
    println!("Merged with the prefix tree: {} tokens, exact: {}", merged.len(), merged.is_exact());

    println!("Deleted {} cache.", memory.delete(&[&talk.id])?);
    list("After deleting", memory);
    memory.dump(folder)?;
    println!("Dumped to {}: {} bytes.", folder.display(), size_of_folder(folder)?);
    println!("Deleted {} cache, so that none is left.", memory.delete_all()?);
    println!("Loaded {} cache.", memory.load(folder)?);
    list("After loading", memory);
    Ok(())
}

fn list(what: &str, memory: &KvCacheMemory) {
    let items = memory.get_all();
    println!("{what}: {}", items.len());
    for item in &items {
        show("  -", item);
    }
}

fn show(what: &str, item: &KvCacheItem) {
    let (layers, size) = item.summary().map_or((0, 0.0), |summary| (summary.num_layers, summary.size_mb));
    println!("{what} {}: {} tokens, {layers} layers, {size:.2} MB", item.id, item.n_tokens());
}

/// Bytes of all files below a folder.
fn size_of_folder(folder: &Path) -> anyhow::Result<u64> {
    let mut n_bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        n_bytes += if about.is_dir() { size_of_folder(&entry.path())? } else { about.len() };
    }
    Ok(n_bytes)
}
