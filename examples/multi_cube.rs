//! Two users and three cubes: what is shared is found beside one's own, with the cube that it is in; the rest stays behind its wall.
//!
//! Run `cargo run --release -- models pull` once, then
//! `cargo run --release --example multi_cube [-- --config FILE] [--model NAME] [--data-dir FOLDER]`.
#![allow(clippy::print_stdout, reason = "an example shows its results")]

use mos::{Add, Mos, Search};
use mos_core::CubeId;
use mos_examples::Arguments;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let house = Arguments::read("embedded.yaml", &[])?.open().await?;
    let mos = &house.mos;
    let (ann, travel) = house.user_with_cube("ann", "ann/travel").await?;
    let (_, diary) = house.user_with_cube("ann", "ann/diary").await?;
    let (bob, home) = house.user_with_cube("bob", "bob/home").await?;
    tell(mos, "ann", &travel, "We take the night train to Vienna on Friday.").await?;
    tell(mos, "ann", &diary, "I am afraid of trains at night.").await?;
    tell(mos, "bob", &home, "My night shift at the train station ends on Thursday.").await?;

    println!("Bob asks for `{travel}`, which is Ann's:");
    match mos.search(Search::new("night train").user("bob").cubes([travel.clone()])).await {
        Ok(_) => println!("  he may: it was shared in an earlier run"),
        Err(error) => println!("  refused: {error}"),
    }
    mos.share_cube_with_user(&ann, &travel, &bob).await?;
    println!("Ann shares `{travel}` with Bob.");

    println!("Bob searches two cubes at once:");
    let both = Search::new("Which night train is it about?").user("bob").cubes([home.clone(), travel.clone()]);
    show(mos, both).await?;
    println!("Without naming cubes, all that he may use are searched:");
    show(mos, Search::new("Which night train is it about?").user("bob")).await?;

    let cubes = mos.list_cubes(&bob).await?;
    let names: Vec<&str> = cubes.iter().map(|cube| cube.cube_id.as_str()).collect();
    println!("Bob may use {}; `{diary}` is not among them.", names.join(" and "));
    mos.unshare_cube(&ann, &travel, &bob).await?;
    println!("Ann takes `{travel}` back; Bob has {} cube left.", mos.list_cubes(&bob).await?.len());
    Ok(())
}

async fn tell(mos: &Mos, user: &str, cube: &CubeId, text: &str) -> anyhow::Result<()> {
    mos.add(Add::text(text).user(user).cube(cube.clone())).await?;
    println!("{user} tells `{cube}`: {text}");
    Ok(())
}

async fn show(mos: &Mos, search: Search) -> anyhow::Result<()> {
    for (cube, memory) in mos.search(search).await?.best() {
        println!("  {:.2} [{cube}] {}", memory.relativity, memory.item.memory);
    }
    Ok(())
}
