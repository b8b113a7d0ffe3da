//! A conversation is read, becomes nodes of a tree with their sources, is found again, and the tree is dumped and emptied.
//!
//! Run `cargo run --release -- models pull` once, then
//! `cargo run --release --example tree_text_memory [-- --config FILE] [--model NAME] [--data-dir FOLDER] [--fine]`.
//! `--fine` lets the chat model draw memories from the conversation too, which takes a larger one than the default.
#![allow(clippy::print_stdout, reason = "an example shows its results")]

use mos::{Remember, Search};
use mos_core::{MemoryItem, Message, ReadInput, ReadMode};
use mos_examples::Arguments;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read("embedded.yaml", &["--fine"])?;
    let mode = if arguments.has("--fine") { ReadMode::Fine } else { ReadMode::Fast };
    let house = arguments.open().await?;
    let mos = &house.mos;
    let (ann, cube) = house.user_with_tree("ann", "childhood").await?;

    let scene = Remember::new(ReadInput::messages(scene())).user("ann").cube(cube.clone()).session("2222").mode(mode);
    let reading = mos.read(scene.clone()).await?;
    println!("The reader would remember {} memories: {}.", reading.n_memories(), reading.report.summary());
    for item in reading.raw.iter().chain(&reading.memories) {
        println!("  {}: {}", kind(item), one_line(&item.memory));
    }

    let stored = mos.remember(scene).await?;
    println!("Stored {} of them in the tree `{cube}`, {} were known.", stored.ids.len(), stored.n_known);
    let listed = mos.get_all(&ann, Some(&cube)).await?;
    let graph = listed.text_mem[0].graph.as_ref().map_or((0, 0), |graph| (graph.n_nodes, graph.n_edges));
    println!("The tree has {} nodes and {} edges.", graph.0, graph.1);

    let question = "What did I do as a child?";
    println!("Search: {question}");
    let found = mos.search(Search::new(question).user("ann").cubes([cube.clone()]).top_k(10)).await?;
    for (_, memory) in found.best() {
        println!("  {:.2} {}", memory.relativity, one_line(&memory.item.memory));
        for source in memory.sources() {
            println!("       drawn from {source}");
        }
    }

    let folder = house.cleared("my_tree_textual_memory")?;
    mos.dump(&ann, Some(&cube), &folder).await?;
    println!("Dumped the tree to {}.", folder.display());
    println!("Removed {} memories.", mos.delete_all(&ann, Some(&cube)).await?);
    println!("Loaded {} memories from the dump.", mos.load(&ann, Some(&cube), &folder).await?);
    Ok(())
}

fn scene() -> Vec<Message> {
    vec![
        Message::user("When I was a child I climbed the old cherry tree behind our house every summer."),
        Message::assistant("Did you eat the cherries up there?"),
        Message::user("Yes, and my brother threw the stones at me. Once I fell and broke my left arm."),
        Message::assistant("I hope it healed well."),
    ]
}

fn kind(item: &MemoryItem) -> &'static str {
    item.metadata.memory_type().map_or("memory", |kind| kind.as_str())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
