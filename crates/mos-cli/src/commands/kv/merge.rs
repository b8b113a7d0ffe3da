//! `mos kv merge`.

use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use mos::kv::{KvCacheMemory, KvChatModel, KvChatOptions, MergeChoice};
use mos_core::{ActivationId, ChatEvent, ChatRequest, ChatStream, ChatUsage, Message};
use serde_json::{Value, json};

use super::{MergeArguments, check_known, memory_of, open, parse_ids, working};
use crate::context::Context;

pub(super) async fn run(context: &Context, arguments: MergeArguments) -> anyhow::Result<()> {
    let MergeArguments { ids, strategy, ask } = arguments;
    let ids = parse_ids(&ids)?;
    let (_mos, caches) = open(context).await?;
    check_known(&ids, caches.list().await?.iter().map(|item| &item.id))?;
    let memory = memory_of(&caches).await?;
    warn_unless_calibrated(context, &memory, strategy, ids.len());
    let (merging, wanted) = (Arc::clone(&memory), ids.clone());
    let (merged, ms) = working("merging", move || {
        // What is measured is the merge, not the reading of files.
        let items = merging.get_by_ids(&wanted)?;
        let started = Instant::now();
        let merged = merging.get_cache_with(&wanted, strategy)?;
        let ms = started.elapsed().as_secs_f64() * 1000.0;
        drop(items);
        Ok((merged, ms))
    })
    .await?;
    let Some(merged) = merged else { anyhow::bail!("the caches were removed meanwhile; try again") };
    let mut told = json!({
        "ids": ids,
        "strategy": strategy,
        "n_tokens": merged.len(),
        "exact": merged.is_exact(),
        "ms": ms,
    });
    if !context.output.json {
        let (n_tokens, exactness) = (merged.len(), if merged.is_exact() { "exact" } else { "not exact" });
        context.output.line(&format!("{n_tokens} tokens of {} caches, {exactness}, {ms:.2} ms", ids.len()))?;
    }
    if let Some(question) = ask {
        let stream = answer(memory, &ids, strategy, question).await?;
        let (answer, usage) = print(context, stream).await?;
        told["answer"] = Value::String(answer);
        told["usage"] = serde_json::to_value(usage)?;
    }
    if context.output.json { context.output.value(&told, |_| String::new()) } else { Ok(()) }
}

/// A way that was named is obeyed; whoever named it should know what it may do to answers.
fn warn_unless_calibrated(context: &Context, memory: &KvCacheMemory, choice: MergeChoice, n_caches: usize) {
    let MergeChoice::Named(strategy) = choice else { return };
    let has_passed = memory.calibration().is_some_and(|calibration| calibration.passed(strategy));
    if strategy.is_lossy() && n_caches > 1 && !has_passed {
        context.output.note(&format!(
            "warning: `{strategy}` is lossy and has not passed a calibration with this model; run `mos kv calibrate`, or \
             use prefix_tree"
        ));
    }
}

async fn answer(
    memory: Arc<KvCacheMemory>,
    ids: &[ActivationId],
    strategy: MergeChoice,
    question: String,
) -> anyhow::Result<ChatStream> {
    let model = KvChatModel::new(memory, KvChatOptions::default());
    let request = ChatRequest { messages: vec![Message::user(question)], ..ChatRequest::default() };
    Ok(model.stream_after(ids, Some(strategy), request).await?)
}

/// Prints the text of an answer as it comes (not for JSON), and returns it with what it took.
async fn print(context: &Context, mut stream: ChatStream) -> anyhow::Result<(String, ChatUsage)> {
    let is_shown = !context.output.json;
    let mut answer = String::new();
    while let Some(event) = stream.next().await {
        match event? {
            ChatEvent::Text(text) => {
                if is_shown {
                    context.output.raw(&text)?;
                }
                answer.push_str(&text);
            }
            ChatEvent::Done(usage) => {
                if is_shown {
                    context.output.raw("\n")?;
                }
                return Ok((answer, usage));
            }
        }
    }
    anyhow::bail!("the answer broke off before its end; try again")
}
