//! `mos kv bench`: what kept caches gain.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use indicatif::ProgressBar;
use mos::config::Setting;
use mos::engine::{ChatModelOptions, Decoder, LocalChatModel, ModelIdentity, RandomWeights, cpu_path};
use mos::kv::KvError;
use mos::kv::bench::{
    BenchCell, BenchOptions, BenchReport, MergeBench, MergeBenchOptions, PreloadBenchOptions, PreloadCell, bench,
    bench_merge, bench_preload, bench_texts, picture, prose,
};
use mos::{Mos, Settings};
use serde::Serialize;
use serde_json::json;

use crate::context::Context;
use crate::progress;

/// English prose has at least this many tokens in ten bytes, by any tokenizer.
const BYTES_PER_TOKEN: usize = 8;

#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    /// A model of `mos models list`, or a path.
    #[arg(long, default_value = "smollm2-135m-instruct")]
    model: String,
    /// A shape with random weights instead of a model: qwen3-8b, qwen3-0.6b or llama-1b.
    #[arg(long, value_name = "SHAPE", conflicts_with_all = ["model", "vllm"])]
    random_weights: Option<String>,
    /// Tokens of the kept contexts.
    #[arg(long, value_delimiter = ',', value_name = "N,...")]
    contexts: Option<Vec<usize>>,
    /// Tokens of the queries after them.
    #[arg(long, value_delimiter = ',', value_name = "N,...", conflicts_with = "vllm")]
    queries: Option<Vec<usize>>,
    /// Times are medians of this many runs.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Texts over which the answers of both ways are compared.
    #[arg(long, default_value_t = 20)]
    prompts: usize,
    /// Threads that compute; all cores without it.
    #[arg(long)]
    threads: Option<usize>,
    /// Where it computes: auto, cpu or cuda:N.
    #[arg(long, default_value = "cpu", conflicts_with = "vllm")]
    device: String,
    /// Also write the table as a picture.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Only write the token ids of the texts as JSON, for measuring another engine on the same ones.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["svg", "vllm"])]
    write_prompts: Option<PathBuf>,
    /// Measure nothing: show (and draw) what an earlier call printed with --json.
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "model", "random_weights", "contexts", "queries", "runs", "prompts", "threads", "device", "vllm", "merge",
        "write_prompts",
    ])]
    from: Option<PathBuf>,
    /// Measure the merging of so many items of so many tokens with `shifted` instead, for example 30x200.
    #[arg(long, value_name = "ITEMSxTOKENS", value_parser = items_by_tokens, conflicts_with_all = [
        "contexts", "queries", "svg", "vllm", "write_prompts",
    ])]
    merge: Option<(usize, usize)>,
    /// Measure the prompt preload of an OpenAI-compatible server (vLLM) at this address instead.
    #[arg(long, value_name = "URL")]
    vllm: Option<String>,
    /// Tokens of the memories, for --vllm.
    #[arg(long, value_delimiter = ',', value_name = "N,...", requires = "vllm")]
    memories: Option<Vec<usize>>,
}

fn items_by_tokens(text: &str) -> Result<(usize, usize), String> {
    let numbers = text.split_once('x').map(|(items, tokens)| (items.parse(), tokens.parse()));
    match numbers {
        Some((Ok(items), Ok(tokens))) => Ok((items, tokens)),
        _ => Err("give items x tokens, for example 30x200".to_owned()),
    }
}

pub(crate) async fn run(context: &Context, arguments: BenchArguments) -> anyhow::Result<()> {
    if let Some(url) = &arguments.vllm {
        return preload(context, &arguments, url).await;
    }
    let output = context.output;
    if let Some(path) = &arguments.from {
        let report = read_report(path)?;
        draw(&arguments, &report)?;
        return output.value(&report, table);
    }
    let models_dir = mos::models_dir(&context.settings)?;
    let bar = progress::spinner("opening the model");
    let shown = bar.clone();
    let measuring = tokio::task::spawn_blocking(move || measure(&arguments, &models_dir, &shown)).await;
    bar.finish_and_clear();
    match measuring.context("the measurement broke off")?? {
        Measured::Cells(report) => output.value(&report, table),
        Measured::Merge(report) => output.value(&report, merge_line),
        Measured::Texts(texts) => output.value(&texts, |texts| {
            format!("wrote {} texts of {} tokens to {}", texts.texts, texts.tokens, texts.path.display())
        }),
    }
}

fn read_report(path: &Path) -> anyhow::Result<BenchReport> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no table of `mos kv bench --json`", path.display()))
}

fn draw(arguments: &BenchArguments, report: &BenchReport) -> anyhow::Result<()> {
    let Some(path) = &arguments.svg else { return Ok(()) };
    std::fs::write(path, picture(report)).with_context(|| format!("cannot write {}", path.display()))
}

/// What came out of a call.
enum Measured {
    Cells(BenchReport),
    Merge(MergeReport),
    Texts(WrittenTexts),
}

#[derive(Debug, Serialize)]
struct MergeReport {
    model: String,
    random_weights: bool,
    cpu: String,
    threads: usize,
    merge: MergeBench,
}

#[derive(Debug, Serialize)]
struct WrittenTexts {
    path: PathBuf,
    texts: usize,
    tokens: usize,
}

/// What is measured: a model with its texts, or a shape with tokens that mean nothing.
enum Subject {
    Model(Arc<LocalChatModel>),
    Shape(Box<Decoder>, ModelIdentity),
}

impl Subject {
    fn open(arguments: &BenchArguments, models_dir: &Path, bar: &ProgressBar) -> anyhow::Result<Self> {
        let device = mos::compute_device(&arguments.device)?;
        let Some(shape) = &arguments.random_weights else {
            let path = mos::fetch::resolve(&arguments.model, models_dir)?;
            let options = ChatModelOptions { threads: arguments.threads, device, ..ChatModelOptions::new(path) };
            return Ok(Self::Model(LocalChatModel::open(&options)?));
        };
        let shape: RandomWeights = shape.parse()?;
        bar.set_message(format!("filling {shape} with random weights"));
        let decoder = Decoder::with_random_weights(shape, arguments.threads)?.moved_to(device)?;
        let identity = ModelIdentity {
            weights: decoder.fingerprint(),
            tokenizer: [0; 32],
            template: [0; 32],
            rope_layout: decoder.spec().rope_layout,
            name: shape.to_string(),
        };
        Ok(Self::Shape(Box::new(decoder), identity))
    }

    fn decoder(&self) -> &Decoder {
        match self {
            Self::Model(model) => model.decoder(),
            Self::Shape(decoder, _) => decoder,
        }
    }

    fn identity(&self) -> &ModelIdentity {
        match self {
            Self::Model(model) => model.identity(),
            Self::Shape(_, identity) => identity,
        }
    }

    fn tokens(&self, number: usize, count: usize) -> Result<Vec<u32>, KvError> {
        match self {
            Self::Model(model) => Ok(model.tokenize(&prose(number, count.saturating_mul(BYTES_PER_TOKEN)))?),
            // Any tokens will do for weights that mean nothing.
            Self::Shape(decoder, _) => {
                let vocabulary = decoder.spec().vocabulary as u64;
                let token = |at: u64| ((at * 7919 + number as u64 * 104_729) % vocabulary) as u32;
                Ok((0..count as u64).map(token).collect())
            }
        }
    }
}

fn measure(arguments: &BenchArguments, models_dir: &Path, bar: &ProgressBar) -> anyhow::Result<Measured> {
    let subject = Subject::open(arguments, models_dir, bar)?;
    let tokens = |number: usize, count: usize| subject.tokens(number, count);
    let mut progress = |text: &str| bar.set_message(text.to_owned());
    let (model, random_weights) = (subject.identity().name.clone(), arguments.random_weights.is_some());
    let (cpu, threads) = (computing(subject.decoder()), subject.decoder().threads());
    if let Some((items, tokens_per_item)) = arguments.merge {
        let options = MergeBenchOptions { runs: arguments.runs, ..MergeBenchOptions::new(items, tokens_per_item) };
        let merge = bench_merge(subject.decoder(), &tokens, options, &mut progress)?;
        return Ok(Measured::Merge(MergeReport { model, random_weights, cpu, threads, merge }));
    }
    let folder = tempfile::tempdir().context("cannot make a folder for the files of the cold way")?;
    let mut options =
        BenchOptions { runs: arguments.runs, prompts: arguments.prompts, ..BenchOptions::new(folder.path()) };
    if let Some(contexts) = &arguments.contexts {
        options.contexts.clone_from(contexts);
    }
    if let Some(queries) = &arguments.queries {
        options.queries.clone_from(queries);
    }
    if let Some(path) = &arguments.write_prompts {
        let texts = bench_texts(subject.decoder(), &tokens, &options)?;
        let document = json!({"model": model, "texts": texts}).to_string();
        std::fs::write(path, document).with_context(|| format!("cannot write {}", path.display()))?;
        let tokens = texts.first().map_or(0, Vec::len);
        return Ok(Measured::Texts(WrittenTexts { path: path.clone(), texts: texts.len(), tokens }));
    }
    let cells = bench(subject.decoder(), subject.identity(), &tokens, &options, &mut progress)?;
    let report = BenchReport { model, random_weights, cpu, threads, cells };
    draw(arguments, &report)?;
    Ok(Measured::Cells(report))
}

/// What computes: the processor's instructions, or a device and its type of numbers.
fn computing(decoder: &Decoder) -> String {
    let device = decoder.device();
    if device == "cpu" { cpu_path().to_owned() } else { device }
}

fn merge_line(report: &MergeReport) -> String {
    let MergeBench { items, tokens_per_item, query, merge_s, merged_ttft_s, single_ttft_s, ratio } = report.merge;
    format!(
        "{} on {} threads ({}): {items} items of {tokens_per_item} tokens merged with shifted in {:.3} ms; first token \
         of {query} more {merged_ttft_s:.3} s, after one item of that length {single_ttft_s:.3} s (ratio {ratio:.2})",
        report.model,
        report.threads,
        report.cpu,
        1000.0 * merge_s,
    )
}

fn table(report: &BenchReport) -> String {
    let mut text = format!(
        "{} on {} threads ({}); times in seconds, medians\n\n{:>7} {:>6} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7} {:>6} {:>9} {:>7} {:>7}\n",
        report.model,
        report.threads,
        report.cpu,
        "context",
        "query",
        "direct",
        "kept",
        "cold",
        "build",
        "speed-up",
        "bound",
        "%",
        "identical",
        "fill/s",
        "next/s",
    );
    for cell in &report.cells {
        let BenchCell { context, query, direct_ttft_s, kv_ttft_s, kv_cold_ttft_s, build_s, speedup, bound, .. } = cell;
        text.push_str(&format!(
            "{context:>7} {query:>6} {direct_ttft_s:>8.3} {kv_ttft_s:>8.3} {kv_cold_ttft_s:>8.3} {build_s:>8.3} \
             {speedup:>8.2} {bound:>7.2} {:>6.1} {:>9} {:>7.0} {:>7.1}\n",
            cell.pct_of_bound,
            if cell.identical { "yes" } else { "NO" },
            cell.prefill_tokens_per_s,
            cell.decode_tokens_per_s,
        ));
    }
    if report.random_weights {
        let largest = |value: fn(&BenchCell) -> f64| report.cells.iter().map(value).fold(0.0, f64::max);
        text.push_str(&format!(
            "\nrandom weights: largest logit difference {:.2e}, largest KL {:.2e}\n",
            largest(|cell| cell.max_logit_difference),
            largest(|cell| cell.kl)
        ));
    }
    text
}

async fn preload(context: &Context, arguments: &BenchArguments, url: &str) -> anyhow::Result<()> {
    // Only the server's address counts; nothing of the user's data is opened.
    let settings = Settings::from_json(&json!({
        "store": {"backend": "memory"},
        "chat_model": {"backend": "vllm", "config": {"model_name_or_path": arguments.model, "api_base": url}},
    }))?;
    let folder = tempfile::tempdir()?;
    let model = Mos::builder(settings).data_dir(folder.path()).build().await?.chat_model().await?;
    let options = PreloadBenchOptions {
        memories: arguments.memories.clone().unwrap_or_else(|| vec![500, 1000, 2000]),
        contexts: arguments.contexts.clone().unwrap_or_else(|| vec![500, 1000, 2000, 4000]),
        runs: arguments.runs,
        // Another one each time: a server that is asked again must not remember.
        salt: folder.path().display().to_string(),
    };
    let bar = progress::spinner(format!("asking {url}"));
    let measured = bench_preload(&model, &options, &mut |text| bar.set_message(text.to_owned())).await;
    bar.finish_and_clear();
    let cells = measured?;
    context.output.value(&json!({"model": arguments.model, "cells": cells}), |_| preload_table(&cells))
}

fn preload_table(cells: &[PreloadCell]) -> String {
    let mut text = format!(
        "{:>8} {:>8} {:>10} {:>10} {:>9} {:>11}\n",
        "memories", "context", "without", "with", "speed-up", "difference"
    );
    for PreloadCell { memory, context, without_s, with_s, speedup, difference_s } in cells {
        text.push_str(&format!(
            "{memory:>8} {context:>8} {without_s:>9.3}s {with_s:>9.3}s {speedup:>9.2} {difference_s:>10.3}s\n"
        ));
    }
    text
}
