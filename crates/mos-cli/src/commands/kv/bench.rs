//! `mos kv bench`: what kept caches gain.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use indicatif::ProgressBar;
use mos::config::Setting;
use mos::engine::{ChatModelOptions, Decoder, LocalChatModel, ModelIdentity, RandomWeights, cpu_path};
use mos::kv::bench::{
    BenchCell, BenchOptions, BenchReport, PreloadBenchOptions, PreloadCell, bench, bench_preload, picture, prose,
};
use mos::{Mos, Settings};
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
    /// Also write the table as a picture.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Measure the prompt preload of an OpenAI-compatible server (vLLM) at this address instead.
    #[arg(long, value_name = "URL")]
    vllm: Option<String>,
    /// Tokens of the memories, for --vllm.
    #[arg(long, value_delimiter = ',', value_name = "N,...", requires = "vllm")]
    memories: Option<Vec<usize>>,
}

pub(crate) async fn run(context: &Context, arguments: BenchArguments) -> anyhow::Result<()> {
    if let Some(url) = &arguments.vllm {
        return preload(context, &arguments, url).await;
    }
    let models_dir = mos::models_dir(&context.settings)?;
    let bar = progress::spinner("opening the model");
    let output = context.output;
    let shown = bar.clone();
    let (svg, report) = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
        let svg = arguments.svg.clone();
        Ok((svg, measure(&arguments, &models_dir, &shown)?))
    })
    .await
    .context("the measurement broke off")??;
    bar.finish_and_clear();
    if let Some(path) = svg {
        std::fs::write(&path, picture(&report)).with_context(|| format!("cannot write {}", path.display()))?;
    }
    output.value(&report, table)
}

fn measure(arguments: &BenchArguments, models_dir: &std::path::Path, bar: &ProgressBar) -> anyhow::Result<BenchReport> {
    let folder = tempfile::tempdir().context("cannot make a folder for the files of the cold way")?;
    let mut options =
        BenchOptions { runs: arguments.runs, prompts: arguments.prompts, ..BenchOptions::new(folder.path()) };
    if let Some(contexts) = &arguments.contexts {
        options.contexts.clone_from(contexts);
    }
    if let Some(queries) = &arguments.queries {
        options.queries.clone_from(queries);
    }
    let mut progress = |text: &str| bar.set_message(text.to_owned());
    let report = |decoder: &Decoder, model: &str, cells| BenchReport {
        model: model.to_owned(),
        random_weights: arguments.random_weights.is_some(),
        cpu: cpu_path().to_owned(),
        threads: decoder.threads(),
        cells,
    };
    if let Some(shape) = &arguments.random_weights {
        let shape: RandomWeights = shape.parse()?;
        bar.set_message(format!("filling {shape} with random weights"));
        let decoder = Decoder::with_random_weights(shape, arguments.threads)?;
        let identity = ModelIdentity {
            weights: decoder.fingerprint(),
            tokenizer: [0; 32],
            template: [0; 32],
            rope_layout: decoder.spec().rope_layout,
            name: shape.to_string(),
        };
        let vocabulary = decoder.spec().vocabulary as u64;
        // Any tokens will do for weights that mean nothing.
        let tokens = |number: usize, count: usize| {
            Ok((0..count as u64).map(|at| ((at * 7919 + number as u64 * 104_729) % vocabulary) as u32).collect())
        };
        let cells = bench(&decoder, &identity, &tokens, &options, &mut progress)?;
        return Ok(report(&decoder, shape.name(), cells));
    }
    let path = mos::fetch::resolve(&arguments.model, models_dir)?;
    let model = LocalChatModel::open(&ChatModelOptions { threads: arguments.threads, ..ChatModelOptions::new(path) })?;
    let tokens = |number: usize, count: usize| {
        let tokens = model.tokenize(&prose(number, count * BYTES_PER_TOKEN))?;
        Ok(tokens)
    };
    let cells = bench(model.decoder(), model.identity(), &tokens, &options, &mut progress)?;
    Ok(report(model.decoder(), &model.identity().name, cells))
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
