//! Remember, find, and chat, on embedded stores and small local models.
//!
//! Run `cargo run --release -- models pull` once, then
//! `cargo run --release --example quickstart [-- --config FILE] [--model NAME] [--data-dir FOLDER]`.
#![allow(clippy::print_stdout, reason = "an example shows its results")]

use mos::{Add, Chat, Search};
use mos_core::Message;
use mos_examples::Arguments;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let house = Arguments::read("embedded.yaml", &[])?.open().await?;
    let mos = &house.mos;
    let (ann, _) = house.user_with_cube("ann", "notes").await?;

    let messages = vec![Message::user("I love playing football."), Message::assistant("That's awesome!")];
    mos.add(Add::messages(messages).user("ann")).await?;
    mos.add(Add::text("My dog is called Max and lives near Central Park").user("ann")).await?;

    let found = mos.search(Search::new("what is the name of my pet?").user("ann")).await?;
    for (cube, memory) in found.best() {
        println!("{:.2} {cube}: {}", memory.score, memory.item.memory);
    }
    let (answer, usage) = mos.chat(Chat::new("What is my dog called?").user("ann")).await?.complete().await?;
    println!("{answer}\n({} ms to the first token)", usage.time_to_first_token.as_millis());

    let folder = house.cleared("my_mem_cube")?;
    mos.dump(&ann, None, &folder).await?;
    println!("loaded {} memories", mos.load(&ann, None, &folder).await?);
    Ok(())
}
