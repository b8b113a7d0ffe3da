//! Two users, two cubes: what is shared and what stays behind the wall.
//!
//! Run `cargo run --release -- models pull` once, then `cargo run --release -p mos-examples --example sharing`.
#![allow(clippy::print_stdout, reason = "an example shows its results")]

use mos::{Add, Mos, NewCube, Search, Settings};
use mos_core::{CubeId, UserId};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mos = Mos::builder(Settings::default()).data_dir(folder.path()).build().await?;
    let (ann, bob) = (UserId::from("ann"), UserId::from("bob"));
    for (user, cube) in [(&ann, "family"), (&bob, "work")] {
        mos.create_user(user.clone(), None).await?;
        mos.create_cube(user, NewCube::new(cube)).await?;
    }
    mos.add(Add::text("The garage code is in the blue notebook").user("ann").cube("family")).await?;

    let family = CubeId::from("family");
    let ask = || Search::new("where is the garage code?").user("bob");
    let refused = mos.search(ask().cubes([family.clone()])).await;
    println!("before: {}", refused.err().map_or_else(String::new, |error| error.to_string()));

    mos.share_cube_with_user(&ann, &family, &bob).await?;
    for (cube, memory) in mos.search(ask()).await?.best() {
        println!("after:  {cube}: {}", memory.item.memory);
    }
    Ok(())
}
