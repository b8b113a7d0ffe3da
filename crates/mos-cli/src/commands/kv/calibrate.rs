//! `mos kv calibrate`.

use std::sync::Arc;

use mos::kv::{Calibration, CalibrationCase, CalibrationLimits, KvCacheMemory, KvError, MergeStrategy, calibrate};
use mos::{CancelToken, Mos};
use mos_core::SystemClock;

use super::super::messages;
use super::{CalibrateArguments, memory_of, open_or_create, working};
use crate::context::Context;

/// Cases when nothing else is given.
const CASES: &str = include_str!("calibration.json");
/// What a file of cases must hold.
const WANTED: &str = "a JSON list of cases such as {\"memories\": [\"...\", \"...\"], \"question\": \"...\"}";
/// Memories that stand together in a case of the cube's texts, and the most cases of them.
const TEXTS_PER_CASE: usize = 3;
const MAX_CASES: usize = 8;
/// What is asked about the cube's texts.
const QUESTION: &str = "Which facts do these notes state? Name each of them once.";

pub(super) async fn run(context: &Context, arguments: CalibrateArguments) -> anyhow::Result<()> {
    let given = match &arguments.memories {
        Some(path) => {
            let cases: Vec<CalibrationCase> = messages::read_json(path, WANTED)?;
            anyhow::ensure!(!cases.is_empty(), "{} holds no case; give {WANTED}", path.display());
            Some(cases)
        }
        None => None,
    };
    let defaults = CalibrationLimits::default();
    let limits = CalibrationLimits {
        max_mean_kl: arguments.max_kl.unwrap_or(defaults.max_mean_kl),
        min_top1: arguments.min_top1.unwrap_or(defaults.min_top1),
        ..defaults
    };
    let (mos, caches) = open_or_create(context).await?;
    let cases = match given {
        Some(cases) => cases,
        None if arguments.cube_texts => cases_of_cube(context, &mos).await?,
        None => serde_json::from_str(CASES)?,
    };
    let memory = memory_of(&caches).await?;
    let message = format!("measuring {} cases", cases.len());
    let calibration = working(message, move || measure(&memory, &cases, limits)).await?;
    context.output.value(&calibration, table)
}

fn measure(
    memory: &Arc<KvCacheMemory>,
    cases: &[CalibrationCase],
    limits: CalibrationLimits,
) -> Result<Calibration, KvError> {
    let strategies = MergeStrategy::LOSSY;
    let calibration = calibrate(memory.extractor(), cases, &strategies, limits, &SystemClock, &CancelToken::default())?;
    memory.set_calibration(calibration.clone())?;
    Ok(calibration)
}

async fn cases_of_cube(context: &Context, mos: &Mos) -> anyhow::Result<Vec<CalibrationCase>> {
    let listing = mos.get_all(&context.user, context.cube.as_ref()).await?;
    let memories = listing.text_mem.into_iter().flat_map(|cube| cube.memories);
    // What working memory only shows would be there twice.
    let memories = memories.filter(|item| item.working_copy_of().is_none());
    let texts: Vec<String> = memories.map(|item| item.memory).collect();
    let groups = texts.chunks(TEXTS_PER_CASE).filter(|group| group.len() > 1).take(MAX_CASES);
    let cases: Vec<CalibrationCase> =
        groups.map(|group| CalibrationCase { memories: group.to_vec(), question: QUESTION.to_owned() }).collect();
    anyhow::ensure!(
        !cases.is_empty(),
        "the cube holds {} memories; add at least two, or leave --cube-texts out",
        texts.len()
    );
    Ok(cases)
}

fn table(calibration: &Calibration) -> String {
    let mut text = format!(
        "{}: {} tokens of {} cases against full prefill; a way passes with KL at most {} and the same token at least {}\n",
        calibration.model.name,
        calibration.n_tokens,
        calibration.n_cases,
        calibration.limits.max_mean_kl,
        calibration.limits.min_top1
    );
    text.push_str("strategy          KL    same token\n");
    for verdict in &calibration.verdicts {
        let passed = if verdict.passed { "passed" } else { "failed" };
        let name = verdict.strategy.to_string();
        text.push_str(&format!("{name:<14}{:>7.4}{:>10.2}    {passed}\n", verdict.mean_kl, verdict.top1));
    }
    let (kl, top1) = calibration.without_memories;
    text.push_str(&format!("{:<14}{kl:>7.4}{top1:>10.2}", "no memories"));
    text
}
