//! Measures how many sentences a second the local encoder turns into vectors, as a JSON line.
//!
//! `cargo run --release -p mos-engine --example encoder_speed -- DIRECTORY`

use std::time::Instant;

use mos_core::{Embedder, ModelError};
use mos_engine::{EmbedderOptions, LocalEmbedder};

const SENTENCES: usize = 512;

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program")]
async fn main() -> Result<(), ModelError> {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: encoder_speed DIRECTORY");
        std::process::exit(2);
    };
    let embedder = LocalEmbedder::open(&EmbedderOptions::new(path))?;
    let sentence = |number: usize| {
        let more = "and then walked home along the river ".repeat(number % 4);
        format!("On day {number} Ann met her friend near Central Park {more}before it rained.")
    };
    let sentences: Vec<String> = (0..SENTENCES).map(sentence).collect();
    embedder.embed(&sentences[..32]).await?;
    let start = Instant::now();
    embedder.embed(&sentences).await?;
    let all_s = start.elapsed().as_secs_f64();
    let start = Instant::now();
    for sentence in &sentences[..32] {
        embedder.embed(std::slice::from_ref(sentence)).await?;
    }
    let one_ms = start.elapsed().as_secs_f64() * 1000.0 / 32.0;
    println!("{}", serde_json::json!({"sentences_per_s": SENTENCES as f64 / all_s, "single_sentence_ms": one_ms}));
    Ok(())
}
