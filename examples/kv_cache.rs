//! A cache is computed once, kept, joined with others, dumped and loaded, and answers start sooner.
//!
//! Run `cargo run --release -- models pull` once, then `cargo run --release -p mos-examples --example kv_cache`.
#![allow(clippy::print_stdout, reason = "an example shows its results")]

use mos::kv::MergeStrategy;
use mos::{Chat, Mos, NewCube, Settings};
use mos_core::{CubeId, UserId};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let settings = Settings { enable_activation_memory: true, ..Settings::default() };
    let mos = Mos::builder(settings).data_dir(folder.path()).build().await?;
    let (ann, notes) = (UserId::from("ann"), CubeId::from("notes"));
    mos.create_user("ann", None).await?;
    mos.create_cube(&ann, NewCube::new("notes")).await?;

    let memory = mos.cube(&ann, &notes).await?.caches()?.memory().await?;
    let dumped = folder.path().join("activation");
    // The methods of a memory compute, read and write: they belong where blocking is allowed.
    tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
        let paris = memory.extract("The capital of France is Paris.")?;
        let rome = memory.extract("The capital of Italy is Rome.")?;
        memory.add([paris.clone(), rome.clone()])?;

        let joined = memory.get_cache(&[&paris.id, &rome.id])?.map_or(0, |cache| cache.len());
        println!("{} and {} tokens, joined {joined}", paris.n_tokens(), rome.n_tokens());
        let exact = memory.get_cache_with(&[&paris.id, &rome.id], MergeStrategy::PrefixTree)?;
        println!("exact: {}", exact.is_some_and(|cache| cache.is_exact()));

        memory.dump(&dumped)?;
        println!("loaded {} caches", memory.load(&dumped)?);
        Ok(())
    })
    .await??;

    let (answer, usage) = mos.chat(Chat::new("What is the capital of Italy?").user("ann")).await?.complete().await?;
    println!("{answer}\n({} of {} prompt tokens were not computed)", usage.cached_tokens, usage.prompt_tokens);
    Ok(())
}
