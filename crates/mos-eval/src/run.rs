//! Storing conversations and asking about them.

use std::time::{Duration, Instant};

use anyhow::Context;
use mos::{Add, Mos, Search, Settings};
use mos_core::{CubeId, MemoryItem, Message, Role, UserId};

use crate::locomo::{Conversation, Question, Session};
use crate::measure::{CUTS, Outcome};
use crate::report::{Asked, Report};
use crate::variants::Variant;

const USER: &str = "evaluation";
const CUBE: &str = "conversation";

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
            for question in conversation.questions.iter().filter(|question| !question.evidence.is_empty()) {
                let (one, took) = ask(&mos, conversation, question).await?;
                report.asked.push(one);
                report.times.searches.push(took);
            }
        }
    }
    Ok(reports)
}

/// Loads the encoder and the indexes, as the first question of a program does; it is not one of those that are timed.
async fn warm(mos: &Mos) -> anyhow::Result<()> {
    let search = Search::new("hello").user(USER).cubes([CubeId::from(CUBE)]).top_k(1);
    mos.search(search).await.context("the first search")?;
    Ok(())
}

async fn store(mos: &Mos, conversation: &Conversation) -> anyhow::Result<()> {
    let user = UserId::from(USER);
    mos.create_user(user.clone(), None).await?;
    mos.ensure_cube(&user, &CubeId::from(CUBE)).await?;
    let first = conversation.sessions.iter().flat_map(|session| &session.turns).next();
    let first = first.map_or("", |turn| turn.speaker.as_str());
    for session in &conversation.sessions {
        let messages: Vec<Message> = messages(session, first).collect();
        if !messages.is_empty() {
            mos.add(Add::messages(messages).user(USER).session(session.name.as_str())).await?;
        }
    }
    Ok(())
}

/// The turns as any chat client would send them. The person who speaks first is the user.
fn messages<'a>(session: &'a Session, first: &'a str) -> impl Iterator<Item = Message> + 'a {
    session.turns.iter().map(move |turn| {
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
    })
}

async fn ask(mos: &Mos, conversation: &Conversation, question: &Question) -> anyhow::Result<(Asked, Duration)> {
    let search = Search::new(question.text.as_str()).user(USER).cubes([CubeId::from(CUBE)]).top_k(TOP_K);
    let begun = Instant::now();
    let found = mos.search(search).await.with_context(|| format!("{}: `{}`", conversation.id, question.text))?;
    let took = begun.elapsed();
    let hits: Vec<&MemoryItem> = found.best().into_iter().map(|(_, hit)| &hit.item).collect();
    let ids: Vec<String> = hits.iter().flat_map(|item| message_ids(item)).collect();
    let returned = hits.iter().take(10).map(|item| item.memory.len()).sum();
    let asked = Asked {
        conversation: conversation.id.clone(),
        question: question.text.clone(),
        evidence: question.evidence.clone(),
        outcome: Outcome::of(question.category, &question.evidence, &ids),
        bytes_of_ten: returned,
    };
    Ok((asked, took))
}

/// The messages that a memory came from: its sources, else the message it is.
fn message_ids(item: &MemoryItem) -> Vec<String> {
    let sources = item.metadata.tree().and_then(|fields| fields.sources.as_ref());
    let of_sources: Vec<String> = sources.into_iter().flatten().filter_map(|one| one.message_id.clone()).collect();
    if !of_sources.is_empty() {
        return of_sources;
    }
    let info = item.metadata.info.as_ref();
    info.and_then(|info| info.get("message_id")?.as_str()).map(str::to_owned).into_iter().collect()
}
