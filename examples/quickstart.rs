//! Remember, find, and chat, on embedded stores and small local models.
//!
//! Run `cargo run --release -- models pull` once, then `cargo run --release -p mos-examples --example quickstart`.
#![allow(clippy::print_stdout, reason = "an example shows its results")]

use mos::{Add, Chat, Mos, NewCube, Search, Settings};
use mos_core::{Message, UserId};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mos = Mos::builder(Settings::default()).data_dir(folder.path()).build().await?;
    let ann = UserId::from("ann");
    mos.create_user("ann", None).await?;
    mos.create_cube(&ann, NewCube::new("notes")).await?;

    let messages = vec![Message::user("I love playing football."), Message::assistant("That's awesome!")];
    mos.add(Add::messages(messages).user("ann")).await?;
    mos.add(Add::text("My dog is called Max and lives near Central Park").user("ann")).await?;

    let found = mos.search(Search::new("what is the name of my pet?").user("ann")).await?;
    for (cube, memory) in found.best() {
        println!("{:.2} {cube}: {}", memory.score, memory.item.memory);
    }
    let (answer, usage) = mos.chat(Chat::new("What is my dog called?").user("ann")).await?.complete().await?;
    println!("{answer}\n({} ms to the first token)", usage.time_to_first_token.as_millis());

    mos.dump(&ann, None, &folder.path().join("my_mem_cube")).await?;
    println!("loaded {} memories", mos.load(&ann, None, &folder.path().join("my_mem_cube")).await?);
    Ok(())
}
