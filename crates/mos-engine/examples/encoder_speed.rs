//! Measures how fast the local encoder turns sentences into vectors, and candle's BERT with the same weights in the same
//! run, as a JSON line.
//!
//! `cargo run --release -p mos-engine --example encoder_speed -- DIRECTORY [BATCH_TOKENS]`
//!
//! `callers_per_s` is what a crowd of callers gets together, each with one sentence at a time. `ratio` is candle's time by ours
//! for the question; candle's times are without pooling and missing for models that are no BERT.

use std::path::Path;
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use mos_core::{BoxError, Embedder};
use mos_engine::{EmbedderOptions, LocalEmbedder};
use serde_json::{Value, json};
use tokenizers::Tokenizer;

const SENTENCES: usize = 512;
/// Callers at once, and how many sentences each gives one after another.
const CALLERS: usize = 64;
const SENTENCES_OF_A_CALLER: usize = 16;
/// Times that a single text is embedded in each of the rounds.
const SINGLES: usize = 32;
/// Ours and candle's in turn, so that a machine that slows down slows both.
const ROUNDS: usize = 5;
/// A dozen tokens.
const QUESTION: &str = "Where did Ann meet her friend last Sunday?";

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program")]
async fn main() -> Result<(), BoxError> {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: encoder_speed DIRECTORY [BATCH_TOKENS]");
        std::process::exit(2);
    };
    let mut options = EmbedderOptions::new(&path);
    if let Some(batch_tokens) = std::env::args().nth(2) {
        options.batch_tokens = batch_tokens.parse()?;
    }
    let embedder = LocalEmbedder::open(&options)?;
    let candle = Candle::open(Path::new(&path))?;
    let sentence = |number: usize| {
        let more = "and then walked home along the river ".repeat(number % 4);
        format!("On day {number} Ann met her friend near Central Park {more}before it rained.")
    };
    let sentences: Vec<String> = (0..SENTENCES).map(sentence).collect();
    embedder.embed(&sentences[..SINGLES]).await?;
    let start = Instant::now();
    embedder.embed(&sentences).await?;
    let all_s = start.elapsed().as_secs_f64();
    let questions = vec![QUESTION.to_owned(); SINGLES];
    let mut report = json!({
        "batch_tokens": options.batch_tokens,
        "sentences_per_s": SENTENCES as f64 / all_s,
        "callers_per_s": crowd(&embedder, &sentences).await?,
    });
    for (name, texts) in [("sentence", &sentences[..SINGLES]), ("question", &questions[..])] {
        let (ours_ms, candle_ms) = singles(&embedder, candle.as_ref(), texts).await?;
        report[format!("single_{name}_ms")] = json!(ours_ms);
        if let Some(candle_ms) = candle_ms {
            report[format!("candle_{name}_ms")] = json!(candle_ms);
            report["ratio"] = json!(candle_ms / ours_ms);
        }
    }
    println!("{report}");
    Ok(())
}

/// Returns how many sentences a second a crowd of callers gets, who each give one and wait for its vector.
async fn crowd(embedder: &LocalEmbedder, sentences: &[String]) -> Result<f64, BoxError> {
    let caller = |number: usize| async move {
        for turn in 0..SENTENCES_OF_A_CALLER {
            let at = (number * SENTENCES_OF_A_CALLER + turn) % sentences.len();
            embedder.embed(std::slice::from_ref(&sentences[at])).await?;
        }
        Ok::<(), BoxError>(())
    };
    let start = Instant::now();
    futures::future::try_join_all((0..CALLERS).map(caller)).await?;
    Ok((CALLERS * SENTENCES_OF_A_CALLER) as f64 / start.elapsed().as_secs_f64())
}

/// Returns the milliseconds for a text alone, ours and candle's: the fastest of some rounds.
async fn singles(
    embedder: &LocalEmbedder,
    candle: Option<&Candle>,
    texts: &[String],
) -> Result<(f64, Option<f64>), BoxError> {
    let (mut ours, mut theirs) = (Duration::MAX, None);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for text in texts {
            embedder.embed(std::slice::from_ref(text)).await?;
        }
        ours = ours.min(start.elapsed());
        if let Some(candle) = candle {
            let start = Instant::now();
            for text in texts {
                candle.embed(text)?;
            }
            theirs = Some(theirs.unwrap_or(Duration::MAX).min(start.elapsed()));
        }
    }
    let each_ms = |time: Duration| time.as_secs_f64() * 1000.0 / texts.len() as f64;
    Ok((each_ms(ours), theirs.map(each_ms)))
}

/// candle's model on the same files.
struct Candle {
    model: BertModel,
    tokenizer: Tokenizer,
}

impl Candle {
    /// Loads the model in a folder; `None` when it is no BERT.
    fn open(folder: &Path) -> Result<Option<Self>, BoxError> {
        let config: Value = serde_json::from_slice(&std::fs::read(folder.join("config.json"))?)?;
        if config["model_type"] != "bert" {
            return Ok(None);
        }
        let config: Config = serde_json::from_value(config)?;
        let weights = candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu)?;
        let model = BertModel::load(VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu), &config)?;
        let mut tokenizer = Tokenizer::from_file(folder.join("tokenizer.json"))?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None)?;
        Ok(Some(Self { model, tokenizer }))
    }

    /// Returns the vectors of a text's tokens, `f32[1, tokens, dimension]`.
    fn embed(&self, text: &str) -> Result<Tensor, BoxError> {
        let tokens = self.tokenizer.encode(text, true)?;
        let ids = Tensor::new(tokens.get_ids(), &Device::Cpu)?.unsqueeze(0)?;
        Ok(self.model.forward(&ids, &ids.zeros_like()?, None)?)
    }
}
