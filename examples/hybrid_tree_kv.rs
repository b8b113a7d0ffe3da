//! One cube with two memories: facts in a tree, found for each question, and a text whose keys and values begin every chat.
//!
//! Run `cargo run --release -- models pull` once, then
//! `cargo run --release --example hybrid_tree_kv [-- --config FILE] [--model NAME] [--data-dir FOLDER]`.
//! Type what you like; `exit` or the end of the input ends.
#![allow(clippy::print_stdout, reason = "an example shows its results")]

use mos::{Add, Chat, Mos};
use mos_core::{CubeId, UserId};
use mos_examples::{Arguments, ask};

/// What stands before every chat of the cube.
const STABLE: &str = "The user likes football.";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let house = Arguments::read("hybrid.json", &[])?.open().await?;
    let mos = &house.mos;
    let (root, cube) = house.user_with_cube("root", "root/mem_cube_kv_cache").await?;
    let handle = mos.cube(&root, &cube).await?;
    let caches = handle.caches()?;
    println!("Cube `{cube}`: text memory {}, activation memory kv_cache.", handle.text_mem().backend());

    if caches.list().await?.is_empty() {
        let memory = caches.memory().await?;
        let n_tokens = tokio::task::spawn_blocking(move || -> anyhow::Result<usize> {
            let item = memory.extract(STABLE)?;
            let n_tokens = item.n_tokens();
            memory.add([item])?;
            Ok(n_tokens)
        })
        .await??;
        println!("[KVCache] {n_tokens} tokens: {STABLE}");
        // MemOS' settings for this story switch texts off: chats then begin with the cache and nothing else.
        if mos.settings().enable_textual_memory {
            mos.add(Add::text("My sister Mia lives in Lisbon.").user(root.clone()).cube(cube.clone())).await?;
            println!("[Tree] My sister Mia lives in Lisbon.");
        }
    }

    while let Some(line) = ask("[You] ").await? {
        match line.as_str() {
            "" => {}
            "exit" => break,
            line => answer(mos, &root, &cube, line).await?,
        }
    }
    println!("\n[System] Goodbye.");
    Ok(())
}

/// What you tell is remembered in the tree, what you ask is not.
async fn answer(mos: &Mos, user: &UserId, cube: &CubeId, line: &str) -> anyhow::Result<()> {
    let reply = mos.chat(Chat::new(line).user(user.clone()).cubes([cube.clone()]).remember(true)).await?;
    let (n_memories, n_caches) = (reply.memories.len(), reply.activation.len());
    let (answer, usage) = reply.complete().await?;
    println!("\n[Assistant] {answer}");
    println!(
        "[System] {n_memories} memories of the tree, {n_caches} cache; {} of {} prompt tokens were not computed.",
        usage.cached_tokens, usage.prompt_tokens
    );
    Ok(())
}
