//! A fresh user with a cube of its own, and the scheduler at work behind the chat: after each answer, what stands in the working
//! memory and what the next chat begins with.
//!
//! Run `cargo run --release -- models pull` once, then
//! `cargo run --release --example multi_user_scheduling [-- --config FILE] [--model NAME] [--data-dir FOLDER]`.
//! Type what you like; `exit` or the end of the input ends. With a data folder each run is another user of the same installation.
#![allow(clippy::print_stdout, reason = "an example shows its results")]

use std::time::Duration;

use anyhow::Context;
use mos::{Add, Chat, CubeSource, Mos, NewCube};
use mos_core::{CubeId, IdSource, MemoryType, Message, RandomIds, UserId};
use mos_examples::{Arguments, House, ask};

/// How long the scheduler may work on one question.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let house = Arguments::read("multi-user-scheduling.yaml", &[])?.open().await?;
    let mos = &house.mos;
    let user = UserId::new(RandomIds.next_uuid());
    mos.create_user(user.clone(), None).await?;
    println!("[System] Created the user {user}; there are {} users.", mos.list_users().await?.len());
    let cube = register_dumped_cube(&house, &user).await?;

    let messages = vec![
        Message::user("I like playing football on Saturdays."),
        Message::assistant("I like playing football too."),
    ];
    let ids = mos.add(Add::messages(messages).user(user.clone()).cube(cube.clone())).await?;
    println!("[System] Added {} memories.", ids.len());
    settle(mos).await?;

    while let Some(line) = ask("[You] ").await? {
        match line.as_str() {
            "" => {}
            "exit" => break,
            line => {
                let chat = Chat::new(line).user(user.clone()).cubes([cube.clone()]);
                let (answer, _) = mos.chat(chat).await?.complete().await?;
                println!("\n[Assistant] {answer}");
                settle(mos).await?;
                show_memories(mos, &user, &cube).await?;
            }
        }
    }
    let stopped = mos.stop().await;
    println!("\n[System] Stopped; {} batches were broken off.", stopped.unfinished);
    Ok(())
}

/// Dumps an empty cube over what an earlier run left in the folder, and registers that folder for the user.
async fn register_dumped_cube(house: &House, user: &UserId) -> anyhow::Result<CubeId> {
    let mos = &house.mos;
    let cube = CubeId::new(format!("{user}/mem_cube_5"));
    let folder = house.cleared("mem_cube_5")?;
    mos.create_cube(user, NewCube::new(cube.clone())).await?;
    mos.dump(user, Some(&cube), &folder).await?;
    mos.delete_cube(user, &cube).await?;
    println!("[System] Dumped an empty cube to {}.", folder.display());
    mos.register_mem_cube(user, CubeSource::Directory(folder), Some(&cube)).await?;
    println!("[System] Registered it as `{cube}`.");
    Ok(cube)
}

/// Waits until everything is done that was sent to the scheduler, so that what is shown does not depend on chance.
async fn settle(mos: &Mos) -> anyhow::Result<()> {
    mos.wait_for_sending().await;
    let scheduler = mos.scheduler().context("the settings need `enable_mem_scheduler: true`")?;
    anyhow::ensure!(
        scheduler.wait_until_idle(PATIENCE).await?,
        "the scheduler has not come to an end after two minutes"
    );
    Ok(())
}

async fn show_memories(mos: &Mos, user: &UserId, cube: &CubeId) -> anyhow::Result<()> {
    let listing = mos.get_all(user, Some(cube)).await?;
    for memory in listing.text_mem.iter().flat_map(|cube| &cube.memories) {
        if memory.metadata.memory_type() == Some(MemoryType::Working) {
            println!("[WorkingMemory] {}", memory.memory);
        }
    }
    let promoted = mos.promoted(user, Some(cube)).await?;
    let used: Vec<&String> = promoted.iter().filter(|cache| cache.is_used).flat_map(|cache| &cache.memories).collect();
    for memory in &used {
        println!("[KVCache] {memory}");
    }
    if used.is_empty() {
        println!("[KVCache] none");
    }
    Ok(())
}
