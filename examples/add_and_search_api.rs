//! Adding, searching and correcting with the requests and answers of MemOS' product API, in this process and without HTTP.
//!
//! Run `cargo run --release -- models pull` once, then
//! `cargo run --release --example add_and_search_api [-- --config FILE] [--model NAME] [--data-dir FOLDER]`.
#![allow(clippy::print_stdout, reason = "an example shows its results")]

use mos::product::{
    AddRequest, App, Caller, ExistMemCubeIdRequest, Product, ProductOptions, ProductResult, Request, SearchRequest,
};
use mos_examples::Arguments;
use serde::Serialize;
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let house = Arguments::read("embedded.yaml", &[])?.open().await?;
    let app = App::new(house.mos.clone(), ProductOptions::default());
    // A backend acts for all of its users.
    let backend = app.product();

    let add = json!({
        "user_id": "test_user_1",
        "writable_cube_ids": ["cube_test_user_1"],
        "messages": [
            {"role": "user", "content": "We spend a week in Lisbon in June. Which chain hotels are there?"},
            {"role": "assistant", "content": "Among others Ibis, Novotel and Holiday Inn."},
            {"role": "user", "content": "Then I take the Ibis hotel near the river."},
            {"role": "assistant", "content": "Good choice, the breakfast there is fine."},
        ],
        "session_id": "holidays",
        "async_mode": "sync",
        "mode": "fast",
    });
    println!("add request:\n{}", serde_json::to_string_pretty(&add)?);
    show("add", backend.add(AddRequest::from_json(&add)?).await)?;

    let search = json!({
        "user_id": "test_user_1",
        "readable_cube_ids": ["cube_test_user_1"],
        "query": "Which hotel did I choose?",
        "relativity": 0.0,
    });
    println!("search request:\n{}", serde_json::to_string_pretty(&search)?);
    show("search", backend.search(SearchRequest::from_json(&search)?).await)?;

    println!("A request with faults is told all of them:");
    let faulty = json!({"query": "Which hotel?", "top_k": 0, "mode": "quick"});
    if let Err(error) = SearchRequest::from_json(&faulty) {
        println!("{}", serde_json::to_string_pretty(&error)?);
    }

    // A user of the backend sees what is theirs.
    let stranger = app.product_as(Caller::user("test_user_2"));
    println!("Another user asks for the cube:");
    match stranger.search(asking("test_user_2")).await {
        Ok(_) => anyhow::bail!("a cube was open to a stranger"),
        Err(error) => println!("  refused with {}: {error}", error.status),
    }
    is_there(&stranger).await
}

fn asking(user: &str) -> SearchRequest {
    let cubes = Some(vec!["cube_test_user_1".to_owned()]);
    SearchRequest { readable_cube_ids: cubes, ..SearchRequest::new("Which hotel?".to_owned(), user.to_owned()) }
}

/// Asks whether there is a cube of this id; those of others are not told of.
async fn is_there(product: &Product) -> anyhow::Result<()> {
    let asked = ExistMemCubeIdRequest::new("cube_test_user_1".to_owned());
    show("exist_mem_cube_id", product.exist_mem_cube_id(asked).await)
}

fn show<T: Serialize>(operation: &str, answer: ProductResult<T>) -> anyhow::Result<()> {
    let answer: Value = serde_json::to_value(answer?)?;
    println!("{operation} response:\n{}", serde_json::to_string_pretty(&answer)?);
    Ok(())
}
