//! The bare encoder: what a server could reach at most that embeds every text by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mos::{Factories, ModelContext, config};
use mos_core::Embedder;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::cores::Cores;
use crate::{Failure, arguments, texts};

/// How many texts are given at once where many are.
const BATCH: usize = 32;

/// Measures the encoder in a process of its own, where the server runs, and tells the figures. Returns how many single texts
/// it takes per second when many ask at the same time.
pub(crate) fn measure_in_child(cores: &Cores, seconds: f64, n_callers: usize, when: &str) -> Result<f64, Failure> {
    let mut command = cores.of_server(&std::env::current_exe()?);
    command.arg(arguments::ENCODER).arg(seconds.to_string()).arg(n_callers.to_string());
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("the encoder: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    let mut told: Value = serde_json::from_slice(&output.stdout)?;
    told["when"] = when.into();
    println!("{told}");
    told["single_texts_per_s"].as_f64().ok_or_else(|| "the encoder told no figure".into())
}

/// Measures the encoder of the settings: one caller with one text at a time, many such callers, and one caller with many
/// texts at a time. Prints a JSON line.
pub(crate) async fn measure(length: Duration, n_callers: usize) -> Result<(), Failure> {
    let settings = config::Settings::load(None, config::process_environment())?.settings;
    let context = ModelContext { models_dir: mos::models_dir(&settings)? };
    let encoder = Factories::default().embedder(settings.embedder.clone(), context).await?;
    let next = Arc::new(AtomicUsize::new(0));
    // What is made at the first use is made now.
    rate(&encoder, &next, length / 5, n_callers, 1).await?;
    let alone = rate(&encoder, &next, length, 1, 1).await?;
    let together = rate(&encoder, &next, length, n_callers, 1).await?;
    let batched = rate(&encoder, &next, length, 1, BATCH).await?;
    println!(
        "{{\"what\": \"encoder\", \"one_caller_texts_per_s\": {alone:.1}, \"single_texts_per_s\": {together:.1}, \
         \"batches_of_{BATCH}_texts_per_s\": {batched:.1}}}"
    );
    Ok(())
}

/// Returns how many texts are embedded per second for callers that give `n_texts` at a time.
async fn rate(
    encoder: &Arc<dyn Embedder>,
    next: &Arc<AtomicUsize>,
    length: Duration,
    n_callers: usize,
    n_texts: usize,
) -> Result<f64, Failure> {
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..n_callers {
        let (encoder, next) = (Arc::clone(encoder), Arc::clone(next));
        callers.spawn(async move {
            let mut n_done = 0;
            while begun.elapsed() < length {
                let first = next.fetch_add(n_texts, Ordering::Relaxed);
                let questions: Vec<String> = (first..first + n_texts).map(texts::question).collect();
                n_done += encoder.embed_queries(&questions).await?.len();
            }
            Ok::<usize, Failure>(n_done)
        });
    }
    let mut n_done = 0;
    while let Some(of_caller) = callers.join_next().await {
        n_done += of_caller??;
    }
    Ok(n_done as f64 / begun.elapsed().as_secs_f64())
}
