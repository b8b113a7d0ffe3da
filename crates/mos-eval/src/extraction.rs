//! How much of what a model draws from conversations their turns support.

mod claims;
mod judge;
mod report;

use std::sync::Arc;

use anyhow::Context;
use futures::StreamExt;
use mos::config::MemReaderConfig;
use mos::{ModelContext, Mos, Settings};
use mos_core::memory::SourceMessage;
use mos_core::{ChatModel, MemoryItem};
use serde::Serialize;

use crate::counted::{self, Counter};
use crate::locomo::Conversation;
use crate::reading::{SessionReading, read_session};
use crate::run::prepare;

pub use judge::Verdict;
pub use report::{DroppedMemory, ExtractionReport, JudgeFailure};

/// How many questions go to the judging model at once; as many as a reader asks.
const PARALLEL: usize = 4;

/// A message that a memory names as its source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    /// The turn's id; empty when the memory does not tell it.
    pub id: String,
    /// Who said it: a name, else a role.
    pub speaker: String,
    /// When it was said.
    pub time: Option<String>,
    /// The words.
    pub text: String,
}

/// One claim of a memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The words.
    pub text: String,
    /// What the model says; `None` when it could not be asked or passed the claim over.
    pub by_model: Option<Verdict>,
    /// What the check without a model finds missing in the sources; `Ok` when nothing is.
    pub by_check: Result<(), String>,
}

/// A memory, its claims and what they were drawn from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgedMemory {
    /// The conversation's name.
    pub conversation: String,
    /// The text.
    pub memory: String,
    /// The messages that it names.
    pub sources: Vec<Source>,
    /// What it claims, in order.
    pub claims: Vec<Claim>,
}

/// Draws memories from conversations in fine mode, with the reader and the model that the settings name, takes each apart
/// into claims, and finds out which of them the memory's source turns support: by asking the same model, and by the check
/// without a model that fine mode itself makes of whole memories. `limit`: only so many sessions, over all conversations.
/// Nothing is kept. `said` hears what is being done.
///
/// # Errors
/// Errors of stores, and a model that cannot be opened. Windows that the model could not refine and claims that it could not
/// judge are in the report.
pub async fn evaluate_extraction(
    settings: &Settings,
    conversations: &[Conversation],
    limit: Option<usize>,
    mut said: impl FnMut(&str),
) -> anyhow::Result<ExtractionReport> {
    let (drawing, judging) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
    let model = judging_model(settings, &judging).await?;
    let mut report = ExtractionReport { model: model.name().to_owned(), ..ExtractionReport::default() };
    let mut n_left = limit.unwrap_or(usize::MAX);
    for conversation in conversations {
        if n_left == 0 {
            break;
        }
        let folder = tempfile::tempdir().context("cannot make a folder for the conversation's memories")?;
        let factories = counted::factories(&drawing);
        let mos = Mos::builder(settings.clone()).data_dir(folder.path()).factories(factories).build().await?;
        prepare(&mos).await?;
        report.n_conversations += 1;
        for session in &conversation.sessions {
            if n_left == 0 {
                break;
            }
            said(&format!("{}: {}, {} turns", conversation.id, session.name, session.turns.len()));
            let Some(read) = read_session(&mos, conversation, session).await? else { continue };
            n_left -= 1;
            report.n_turns += session.turns.len();
            report.take(conversation, read, model.as_ref()).await;
        }
    }
    report.drawing = drawing.tokens();
    report.judging = judging.tokens();
    Ok(report)
}

/// The model that reads conversations: the reader's own, else that of the settings.
async fn judging_model(settings: &Settings, counter: &Arc<Counter>) -> anyhow::Result<Arc<dyn ChatModel>> {
    let config = match &settings.mem_reader {
        None => &settings.chat_model,
        Some(MemReaderConfig::Simple(reader)) => &reader.common.llm,
        Some(MemReaderConfig::MultiModal(reader)) => &reader.common.llm,
        Some(MemReaderConfig::Strategy(reader)) => &reader.common.llm,
    };
    let context = ModelContext { models_dir: mos::models_dir(settings)? };
    let model = counted::factories(counter).chat_model(config.clone(), context).await;
    model.context("cannot open the model that reads conversations and judges what it drew")
}

impl ExtractionReport {
    /// Takes in what came of a session, with a verdict on each claim.
    async fn take(&mut self, conversation: &Conversation, read: SessionReading, model: &dyn ChatModel) {
        let SessionReading { reading, failures } = read;
        self.n_sessions += 1;
        self.n_windows += reading.raw.len();
        self.failures.extend(failures);
        self.dropped.extend(reading.report.dropped.into_iter().map(|dropped| DroppedMemory {
            conversation: conversation.id.clone(),
            memory: dropped.memory,
            reason: dropped.reason,
        }));
        let speakers = conversation.speakers();
        let unjudged: Vec<JudgedMemory> =
            reading.memories.iter().map(|item| checked(&conversation.id, item, &speakers)).collect();
        let questions: Vec<_> = unjudged.into_iter().map(|memory| judged(memory, model)).collect();
        let answers: Vec<_> = futures::stream::iter(questions).buffered(PARALLEL).collect().await;
        for (memory, failure) in answers {
            self.judge_failures.extend(failure);
            self.memories.push(memory);
        }
    }
}

/// A memory with what the check without a model says of its claims.
fn checked(conversation: &str, item: &MemoryItem, speakers: &[&str]) -> JudgedMemory {
    let messages: &[SourceMessage] =
        item.metadata.tree().and_then(|fields| fields.sources.as_deref()).unwrap_or_default();
    let claim =
        |text: String| Claim { by_check: mos_reader::check_support(&text, messages, speakers), by_model: None, text };
    JudgedMemory {
        conversation: conversation.to_owned(),
        memory: item.memory.clone(),
        sources: messages.iter().map(source).collect(),
        claims: claims::claims(&item.memory).into_iter().map(claim).collect(),
    }
}

fn source(message: &SourceMessage) -> Source {
    let name = message.extra.get("name").and_then(serde_json::Value::as_str);
    Source {
        id: message.message_id.clone().unwrap_or_default(),
        speaker: name.or(message.role.as_deref()).unwrap_or("somebody").to_owned(),
        time: message.chat_time.clone(),
        text: message.content.clone().unwrap_or_default(),
    }
}

/// Returns a memory with what the model says of its claims, and why it does not say it of all of them.
async fn judged(mut memory: JudgedMemory, model: &dyn ChatModel) -> (JudgedMemory, Option<JudgeFailure>) {
    if memory.claims.is_empty() {
        return (memory, None);
    }
    let texts: Vec<String> = memory.claims.iter().map(|claim| claim.text.clone()).collect();
    let reason = match judge::verdicts(model, &memory.sources, &texts).await {
        Err(error) => Some(error.to_string()),
        Ok(verdicts) => {
            let passed_over = verdicts.iter().position(Option::is_none);
            for (claim, verdict) in memory.claims.iter_mut().zip(verdicts) {
                claim.by_model = verdict;
            }
            passed_over.map(|place| format!("the model gave no verdict on claim {} of {}", place + 1, texts.len()))
        }
    };
    let failure = reason.map(|reason| JudgeFailure {
        conversation: memory.conversation.clone(),
        memory: memory.memory.clone(),
        reason,
    });
    (memory, failure)
}
