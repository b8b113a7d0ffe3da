//! `mos kv ...`: the caches of a cube's activation memory.

mod bench;
mod calibrate;
mod import;
mod items;
mod merge;

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use mos::kv::{KvCacheMemory, KvError, MergeChoice};
use mos::{CubeCaches, Mos};
use mos_core::{ActivationId, CubeId};

use crate::context::Context;
use crate::progress;

#[derive(Debug, Subcommand)]
pub(crate) enum KvCommand {
    /// Compute a cache of texts, or of the messages of a file, and keep it.
    Extract(ExtractArguments),
    /// Print the caches of a cube, and files that do not say whose cache they are, because they are damaged.
    List,
    /// Print one cache: its texts and what it takes, never its tensors.
    Show {
        /// The cache's id.
        id: String,
    },
    /// Join caches to one, and answer a question after it.
    Merge(MergeArguments),
    /// Remove caches.
    Rm {
        /// Their ids, or the names of damaged files.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Read a MemOS `activation_memory.pickle`; nothing in it is executed.
    ///
    /// Its caches belong to a model that the file does not name, so they are computed anew from the texts kept with
    /// them.
    Import {
        /// The file.
        file: PathBuf,
        /// Keep the file's own tensors instead: they can be shown and removed, but not used by this model.
        #[arg(long)]
        raw: bool,
    },
    /// Measure how far each lossy way of merging is from the truth with the configured model, and keep the verdict.
    Calibrate(CalibrateArguments),
    /// Measure how much sooner an answer starts with a kept cache, next to the bound by operations.
    Bench(Box<bench::BenchArguments>),
}

#[derive(Debug, Args)]
pub(crate) struct ExtractArguments {
    /// The texts; several are joined by spaces.
    #[arg(required_unless_present = "messages", conflicts_with = "messages")]
    text: Vec<String>,

    /// A file with a JSON list of messages, taken as they are; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    messages: Option<PathBuf>,

    /// The cache's id; one of this id is replaced. Default: a new one.
    #[arg(long)]
    id: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct MergeArguments {
    /// The caches' ids, in order.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,

    /// How they are joined: prefix_tree (exact), concat, shifted, lego:TOKENS, blend:RATIO, or auto, which is exact
    /// unless a lossy way passed `mos kv calibrate`.
    #[arg(long, default_value = "auto", value_parser = |text: &str| text.parse::<MergeChoice>())]
    strategy: MergeChoice,

    /// Answer this question after the joined caches.
    #[arg(long, value_name = "QUESTION")]
    ask: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CalibrateArguments {
    /// A JSON list of cases, `{"memories": ["...", "..."], "question": "..."}`; `-` reads standard input. Default:
    /// built-in cases.
    #[arg(long, value_name = "FILE", conflicts_with = "cube_texts")]
    memories: Option<PathBuf>,

    /// Use the textual memories of the cube.
    #[arg(long)]
    cube_texts: bool,

    /// The most KL divergence (nats, mean over all tokens) with which a way passes.
    #[arg(long, value_name = "NATS")]
    max_kl: Option<f64>,

    /// The least share of tokens whose likeliest token is the same with which a way passes.
    #[arg(long, value_name = "SHARE")]
    min_top1: Option<f64>,
}

pub(super) async fn run(context: &Context, command: KvCommand) -> anyhow::Result<()> {
    match command {
        KvCommand::Extract(arguments) => items::extract(context, arguments).await,
        KvCommand::List => items::list(context).await,
        KvCommand::Show { id } => items::show(context, &id).await,
        KvCommand::Merge(arguments) => merge::run(context, arguments).await,
        KvCommand::Rm { ids } => items::remove(context, &ids).await,
        KvCommand::Import { file, raw } => import::run(context, file, raw).await,
        KvCommand::Calibrate(arguments) => calibrate::run(context, arguments).await,
        KvCommand::Bench(arguments) => bench::run(context, *arguments).await,
    }
}

/// The caches of the cube that is meant, which must exist; rights are checked.
async fn open(context: &Context) -> anyhow::Result<(Mos, CubeCaches)> {
    let mos = context.open().await?;
    let caches = meant(context, &mos).await?;
    Ok((mos, caches))
}

async fn meant(context: &Context, mos: &Mos) -> anyhow::Result<CubeCaches> {
    let cube = match &context.cube {
        Some(cube) => cube.clone(),
        None => mos.default_cube(&context.user).await?,
    };
    caches_of(context, mos, &cube).await
}

/// As [`open`], and makes user and cube when they do not exist yet.
async fn open_or_create(context: &Context) -> anyhow::Result<(Mos, CubeCaches)> {
    let mos = context.open().await?;
    let cube = context.ensure_cube(&mos).await?;
    let caches = caches_of(context, &mos, &cube).await?;
    Ok((mos, caches))
}

async fn caches_of(context: &Context, mos: &Mos, cube: &CubeId) -> anyhow::Result<CubeCaches> {
    Ok(mos.cube(&context.user, cube).await?.caches()?)
}

/// The cube's memory with its model.
async fn memory_of(caches: &CubeCaches) -> anyhow::Result<Arc<KvCacheMemory>> {
    Ok(progress::spinning("loading the model", caches.memory()).await?)
}

/// Computes, reads or writes while a spinner shows what.
async fn working<T: Send + 'static>(
    message: impl Into<String>,
    work: impl FnOnce() -> Result<T, KvError> + Send + 'static,
) -> anyhow::Result<T> {
    Ok(progress::spinning(message, tokio::task::spawn_blocking(work)).await??)
}

/// Refuses ids that are not among the known ones, and names them.
fn check_known<'a>(ids: &[ActivationId], known: impl Iterator<Item = &'a ActivationId>) -> anyhow::Result<()> {
    let known: std::collections::HashSet<&ActivationId> = known.collect();
    let unknown: Vec<String> = ids.iter().filter(|id| !known.contains(id)).map(|id| format!("`{id}`")).collect();
    anyhow::ensure!(
        unknown.is_empty(),
        "there is no cache {} in this cube; `mos kv list` prints those that are",
        unknown.join(", ")
    );
    Ok(())
}

fn parse_ids(ids: &[String]) -> anyhow::Result<Vec<ActivationId>> {
    Ok(ids.iter().map(ActivationId::parse).collect::<Result<_, _>>()?)
}
