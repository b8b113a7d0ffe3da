//! The smallest pipeline: a cube that another encoder made is registered, embedded anew, added to, searched, dumped and loaded.
//!
//! Run `cargo run --release -- models pull` once, then
//! `cargo run --release --example minimal_pipeline [-- --config FILE] [--model NAME] [--data-dir FOLDER]`.
#![allow(clippy::print_stdout, reason = "an example shows its results")]

use mos::{Add, CubeSource, Error, Mos, Search};
use mos_core::{CubeId, MemoryError, Message, StoreError, UserId};
use mos_examples::{Arguments, data};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let house = Arguments::read("embedded.yaml", &[])?.open().await?;
    let mos = &house.mos;
    let (ann, cube) = (UserId::from("ann"), CubeId::from("tiny_cube"));
    mos.ensure_user(&ann).await?;
    mos.register_mem_cube(&ann, CubeSource::Directory(data("tiny_cube")), Some(&cube)).await?;
    println!("Registered `{cube}` with {} memories.", mos.get_all(&ann, Some(&cube)).await?.text_mem[0].memories.len());

    reembed_if_needed(mos, &ann, &cube).await?;
    search(mos, &ann, &cube, "Where is the spare key?").await?;

    let messages = vec![Message::user("I love playing football."), Message::assistant("That's awesome!")];
    let ids = mos.add(Add::messages(messages).user(ann.clone()).cube(cube.clone())).await?;
    println!("Added {} memories, one for each message.", ids.len());
    search(mos, &ann, &cube, "What do you love?").await?;

    let mut told = mos.get(&ann, Some(&cube), &ids[0]).await?;
    told.memory = "I love playing football on Sundays.".to_owned();
    let told = mos.update(&ann, Some(&cube), &ids[0], told).await?;
    println!("Updated it: {}", told.memory);

    let folder = house.cleared("my_mem_cube")?;
    mos.dump(&ann, Some(&cube), &folder).await?;
    println!("Dumped `{cube}` to {}.", folder.display());
    let (_, copy) = house.user_with_cube("ann", "copy").await?;
    println!("Loaded {} memories into `{copy}`.", mos.load(&ann, Some(&copy), &folder).await?);
    search(mos, &ann, &copy, "When do you play football?").await
}

/// Vectors of another encoder cannot be compared with those of the configured one: the texts are embedded anew.
async fn reembed_if_needed(mos: &Mos, user: &UserId, cube: &CubeId) -> anyhow::Result<()> {
    let question = Search::new("anything").user(user.clone()).cubes([cube.clone()]);
    match mos.search(question).await {
        Ok(_) => Ok(()),
        Err(error @ Error::Memory(MemoryError::Store(StoreError::EmbeddingSpace { .. }))) => {
            println!("It cannot be searched yet: {error}.");
            let done = mos.reembed_cube(user, cube, false, |_| ()).await?;
            println!("Embedded {} memories anew.", done.n_embedded);
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

async fn search(mos: &Mos, user: &UserId, cube: &CubeId, question: &str) -> anyhow::Result<()> {
    println!("Search: {question}");
    let found = mos.search(Search::new(question).user(user.clone()).cubes([cube.clone()]).top_k(2)).await?;
    for (_, memory) in found.best() {
        println!("  {:.2} {}", memory.relativity, memory.item.memory);
    }
    Ok(())
}
