//! A chat in the terminal that remembers what it is told.
//!
//! Run `cargo run --release -- models pull` once, then
//! `cargo run --release --example chatbot [-- --config FILE] [--model NAME] [--data-dir FOLDER]`. With a data folder it knows the
//! next time what it was told.
//!
//! Commands: `mem` shows what is remembered, `export [FILE]` writes the conversation, `clear` forgets the conversation (not the
//! memories), `bye` or the end of the input ends.
#![allow(clippy::print_stdout, reason = "an example shows its results")]

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use futures::StreamExt;
use mos::{Chat, Mos};
use mos_core::{ChatEvent, CubeId, UserId};
use mos_examples::{Arguments, ask};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let house = Arguments::read("embedded.yaml", &[])?.open().await?;
    let mos = &house.mos;
    let (user, cube) = house.user_with_cube("you", "you/chat").await?;
    println!("Talking to {}. Commands: mem, export [FILE], clear, bye.", mos.chat_model().await?.name());
    while let Some(line) = ask("you> ").await? {
        match line.split_once(' ').unwrap_or((line.as_str(), "")) {
            ("", _) => {}
            ("bye", "") => break,
            ("clear", "") => {
                mos.clear_messages(&user).await?;
                println!("mos> I have forgotten what we said, not what I remember.");
            }
            ("mem", "") => show_memories(mos, &user, &cube).await?,
            ("export", "") => export(mos, &user, &house.folder.join("chat-history.json")).await?,
            ("export", file) if !file.contains(char::is_whitespace) => export(mos, &user, Path::new(file)).await?,
            _ => answer(mos, &user, &cube, &line).await?,
        }
    }
    println!("\nmos> Bye!");
    Ok(())
}

/// Answers word by word. A line that cannot be answered is told, and the conversation goes on.
async fn answer(mos: &Mos, user: &UserId, cube: &CubeId, line: &str) -> anyhow::Result<()> {
    let chat = Chat::new(line).user(user.clone()).cubes([cube.clone()]).remember(true);
    let mut reply = match mos.chat(chat).await {
        Ok(reply) => reply,
        Err(error) => {
            println!("mos> I cannot answer that: {error}");
            return Ok(());
        }
    };
    print!("mos> ");
    while let Some(event) = reply.next().await {
        match event {
            Ok(ChatEvent::Text(more)) => {
                print!("{more}");
                std::io::stdout().flush()?;
            }
            Ok(ChatEvent::Done(_)) => break,
            Err(error) => print!(" ... the answer broke off: {error}"),
        }
    }
    println!();
    Ok(())
}

async fn show_memories(mos: &Mos, user: &UserId, cube: &CubeId) -> anyhow::Result<()> {
    let listing = mos.get_all(user, Some(cube)).await?;
    // None where the settings switch textual memory off.
    let memories: Vec<_> = listing.text_mem.iter().flat_map(|cube| &cube.memories).collect();
    println!("mos> I remember {}:", memories.len());
    for memory in memories {
        println!("  - {}", memory.memory);
    }
    Ok(())
}

async fn export(mos: &Mos, user: &UserId, file: &Path) -> anyhow::Result<()> {
    let history = mos.chat_history(user, None).await?;
    let text = serde_json::to_string_pretty(&history)?;
    std::fs::write(file, text).with_context(|| format!("{} cannot be written", file.display()))?;
    println!("mos> I have written {} messages to {}.", history.len(), file.display());
    Ok(())
}
