//! Two plugins of a program: one masks card numbers and e-mail addresses before anything is stored, the other labels what was
//! masked. Settings switch them off by name.
//!
//! Run `cargo run --release -- models pull` once, then
//! `cargo run --release --example plugin [-- --config FILE] [--model NAME] [--data-dir FOLDER]`.
//! The plugins themselves are in `examples/src/redaction.rs`.
#![allow(clippy::print_stdout, reason = "an example shows its results")]

use std::sync::Arc;

use mos::{Add, Remember, Search};
use mos_core::{MemoryItem, Message, ReadInput};
use mos_examples::Arguments;
use mos_examples::redaction::{Redaction, Tagging};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read("embedded.yaml", &[])?;
    let house = arguments.open_with(|builder| builder.plugin(Arc::new(Tagging)).plugin(Arc::new(Redaction))).await?;
    let mos = &house.mos;
    println!("Plugins, in the order in which they are called:");
    for plugin in mos.plugins() {
        let state = if plugin.is_enabled { "on" } else { "off: the settings say so" };
        println!("  {} {}: {} ({state})", plugin.name, plugin.version, plugin.description);
    }

    let (ann, notes) = house.user_with_cube("ann", "notes").await?;
    let said = "You reach me at ann@example.org.";
    println!("Added: {said}");
    let ids = mos.add(Add::messages(vec![Message::user(said)]).user("ann").cube(notes.clone())).await?;
    show(&mos.get(&ann, Some(&notes), &ids[0]).await?);

    let read = "The hotel charges the card 4111 1111 1111 1111 in May.";
    println!("Read: {read}");
    let remembered = mos.remember(Remember::new(ReadInput::text(read)).user("ann").cube(notes.clone())).await?;
    for id in &remembered.ids {
        show(&mos.get(&ann, Some(&notes), id).await?);
    }

    let question = "Which card does the hotel charge?";
    println!("Search: {question}");
    let found = mos.search(Search::new(question).user("ann").cubes([notes])).await?;
    if let Some((_, best)) = found.best().first() {
        println!("  {}", best.item.memory);
    }
    let n_failed: u64 = mos.plugins().iter().map(|plugin| plugin.n_failed).sum();
    println!("{n_failed} hooks failed.");
    mos.stop().await;
    Ok(())
}

fn show(item: &MemoryItem) {
    let tags = item.metadata.tags.clone().unwrap_or_default();
    println!("  stored: {} [{}]", item.memory, tags.join(", "));
}
