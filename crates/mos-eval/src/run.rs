//! Storing conversations and asking about them.

use std::time::{Duration, Instant};

use anyhow::Context;
use mos::{Add, Mos, Search, Settings};
use mos_core::{CubeId, MemoryId, MemoryItem, Message, Role, UserId};

use crate::locomo::{Conversation, Question, Session, Turn};
use crate::measure::{CUTS, Counting, Outcome};
use crate::report::{Asked, Report};
use crate::variants::Variant;

pub(crate) const USER: &str = "evaluation";
pub(crate) const CUBE: &str = "conversation";

/// The most results that are looked at.
const TOP_K: usize = CUTS[CUTS.len() - 1];

/// Stores each conversation in a store of its own, in a folder that is removed afterwards, and asks its questions word for
/// word. The settings decide everything but where the data is; `said` hears what is being done.
///
/// Questions without evidence are not asked.
///
/// # Errors
/// Errors of stores and models.
pub async fn evaluate(
    settings: &Settings,
    conversations: &[Conversation],
    said: impl FnMut(&str),
) -> anyhow::Result<Report> {
    let variants = [Variant { name: "as configured", settings: settings.clone() }];
    let mut reports = evaluate_variants(&variants, conversations, said).await?;
    reports.pop().context("no report of the only variant")
}

/// As [`evaluate`], once per variant, over memories that were stored once, with the settings of the first. Returns the
/// reports in the order of the variants.
///
/// # Errors
/// As [`evaluate`].
pub async fn evaluate_variants(
    variants: &[Variant],
    conversations: &[Conversation],
    mut said: impl FnMut(&str),
) -> anyhow::Result<Vec<Report>> {
    let mut reports = vec![Report::default(); variants.len()];
    let Some(first) = variants.first() else { return Ok(reports) };
    for conversation in conversations {
        let (n_turns, n_questions) = (conversation.n_turns(), conversation.questions.len());
        said(&format!("{}: {n_turns} turns, {n_questions} questions", conversation.id));
        let folder = tempfile::tempdir().context("cannot make a folder for the conversation's memories")?;
        let open = |settings: &Settings| Mos::builder(settings.clone()).data_dir(folder.path()).build();
        let begun = Instant::now();
        store(&open(&first.settings).await?, conversation)
            .await
            .with_context(|| format!("storing {}", conversation.id))?;
        let ingest = begun.elapsed();
        for (variant, report) in variants.iter().zip(&mut reports) {
            let mos = open(&variant.settings).await?;
            warm(&mos).await?;
            report.times.ingest += ingest;
            report.times.n_turns += n_turns;
            for question in questions(conversation) {
                let answered = ask(&mos, conversation, question).await?;
                report.asked.push(answered.asked(conversation, question, Counting::NewTurns));
                report.times.searches.push(answered.took);
            }
        }
    }
    Ok(reports)
}

/// Loads the encoder and the indexes, as the first question of a program does; it is not one of those that are timed.
pub(crate) async fn warm(mos: &Mos) -> anyhow::Result<()> {
    let search = Search::new("hello").user(USER).cubes([CubeId::from(CUBE)]).top_k(1);
    mos.search(search).await.context("the first search")?;
    Ok(())
}

/// Makes the user and the cube that conversations are stored in.
pub(crate) async fn prepare(mos: &Mos) -> anyhow::Result<()> {
    let user = UserId::from(USER);
    mos.create_user(user.clone(), None).await?;
    mos.ensure_cube(&user, &CubeId::from(CUBE)).await?;
    Ok(())
}

/// Stores every turn as a memory, word for word.
pub(crate) async fn store(mos: &Mos, conversation: &Conversation) -> anyhow::Result<()> {
    prepare(mos).await?;
    for session in &conversation.sessions {
        let messages = messages(conversation, session);
        if !messages.is_empty() {
            mos.add(Add::messages(messages).user(USER).session(session.name.as_str())).await?;
        }
    }
    Ok(())
}

/// The turns as any chat client would send them. The person who speaks first in the conversation is the user.
pub(crate) fn messages(conversation: &Conversation, session: &Session) -> Vec<Message> {
    let first = conversation.speakers().first().copied().unwrap_or_default();
    let message = |turn: &Turn| {
        let role = if turn.speaker == first { Role::User } else { Role::Assistant };
        let text = match &turn.picture {
            None => turn.text.clone(),
            Some(picture) => format!("{}\n[picture: {picture}]", turn.text),
        };
        Message {
            name: Some(turn.speaker.clone()),
            chat_time: Some(session.began_at.clone()),
            message_id: Some(turn.id.clone()),
            ..Message::new(role, text)
        }
    };
    session.turns.iter().map(message).collect()
}

/// The questions that can be judged: those with evidence.
pub(crate) fn questions(conversation: &Conversation) -> impl Iterator<Item = &Question> {
    conversation.questions.iter().filter(|question| !question.evidence.is_empty())
}

/// What a question brought.
#[derive(Debug)]
pub(crate) struct Answered {
    /// The memories, best first.
    pub(crate) ids: Vec<MemoryId>,
    /// The turns that each of them names, each once.
    pub(crate) results: Vec<Vec<String>>,
    /// The text of the first ten, in bytes.
    bytes_of_ten: usize,
    /// How long it took.
    pub(crate) took: Duration,
}

impl Answered {
    /// Returns how the question did by a way of counting.
    pub(crate) fn asked(&self, conversation: &Conversation, question: &Question, counting: Counting) -> Asked {
        Asked {
            conversation: conversation.id.clone(),
            question: question.text.clone(),
            evidence: question.evidence.clone(),
            outcome: Outcome::counted(question.category, &question.evidence, &self.results, counting),
            bytes_of_ten: self.bytes_of_ten,
        }
    }
}

pub(crate) async fn ask(mos: &Mos, conversation: &Conversation, question: &Question) -> anyhow::Result<Answered> {
    let search = Search::new(question.text.as_str()).user(USER).cubes([CubeId::from(CUBE)]).top_k(TOP_K);
    let begun = Instant::now();
    let found = mos.search(search).await.with_context(|| format!("{}: `{}`", conversation.id, question.text))?;
    let took = begun.elapsed();
    let hits: Vec<&MemoryItem> = found.best().into_iter().map(|(_, hit)| &hit.item).collect();
    Ok(Answered {
        ids: hits.iter().map(|item| item.id.clone()).collect(),
        results: hits.iter().map(|item| message_ids(item)).collect(),
        bytes_of_ten: hits.iter().take(10).map(|item| item.memory.len()).sum(),
        took,
    })
}

/// The messages that a memory came from, each once: its sources, else the message it is.
pub(crate) fn message_ids(item: &MemoryItem) -> Vec<String> {
    let sources = item.metadata.tree().and_then(|fields| fields.sources.as_ref());
    let mut named: Vec<String> = Vec::new();
    for id in sources.into_iter().flatten().filter_map(|source| source.message_id.as_ref()) {
        if !named.contains(id) {
            named.push(id.clone());
        }
    }
    if !named.is_empty() {
        return named;
    }
    let info = item.metadata.info.as_ref();
    info.and_then(|info| info.get("message_id")?.as_str()).map(str::to_owned).into_iter().collect()
}
