//! Measures prefill and decode of a local model, one JSON document a line.
//!
//! `cargo run --release -p mos-engine --example decoder_speed -- MODEL [THREADS]`

use std::time::Instant;

use mos_core::ModelError;
use mos_engine::{CancelToken, ChatModelOptions, KvPrefix, LocalChatModel, LogitRows, cpu_path};

const CONTEXTS: [usize; 2] = [512, 2048];
const DECODED: usize = 64;
const RUNS: usize = 3;

#[allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program")]
fn main() -> Result<(), ModelError> {
    let mut arguments = std::env::args().skip(1);
    let Some(path) = arguments.next() else {
        eprintln!("usage: speed MODEL [THREADS]");
        std::process::exit(2);
    };
    let threads = arguments.next().and_then(|threads| threads.parse().ok());
    let start = Instant::now();
    let model = LocalChatModel::open(&ChatModelOptions { threads, ..ChatModelOptions::new(path) })?;
    let load_s = start.elapsed().as_secs_f64();
    let decoder = model.decoder();
    println!(
        "{}",
        serde_json::json!({
            "model": mos_core::ChatModel::name(&*model),
            "cpu": cpu_path(),
            "threads": decoder.threads(),
            "load_s": load_s,
            "weight_bytes": decoder.weight_bytes(),
        })
    );
    let text = model.tokenize(&"The quick brown fox jumps over the lazy dog. ".repeat(400))?;
    for context in CONTEXTS {
        if context + DECODED > decoder.spec().context_length {
            continue;
        }
        let mut prefill: Vec<f64> = Vec::new();
        let mut decode: Vec<f64> = Vec::new();
        for _ in 0..RUNS {
            let (prefix, mut tail) = (KvPrefix::default(), decoder.new_tail());
            let start = Instant::now();
            decoder.forward(&text[..context], &prefix, &mut tail, LogitRows::Last, &CancelToken::default())?;
            prefill.push(context as f64 / start.elapsed().as_secs_f64());
            let start = Instant::now();
            for token in &text[context..context + DECODED] {
                decoder.forward(&[*token], &prefix, &mut tail, LogitRows::Last, &CancelToken::default())?;
            }
            decode.push(DECODED as f64 / start.elapsed().as_secs_f64());
        }
        println!(
            "{}",
            serde_json::json!({
                "context": context,
                "prefill_tokens_per_s": best_and_median(prefill),
                "decode_tokens_per_s": best_and_median(decode),
            })
        );
    }
    Ok(())
}

fn best_and_median(mut rates: Vec<f64>) -> serde_json::Value {
    rates.sort_by(f64::total_cmp);
    serde_json::json!({"median": rates[rates.len() / 2], "best": rates[rates.len() - 1]})
}
