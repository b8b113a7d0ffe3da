//! Finding evidence through what fine mode drew from conversations, beside the raw turns.

mod report;

use std::collections::HashSet;
use std::time::Instant;

use anyhow::Context;
use mos::{Mos, Settings};
use mos_core::{CubeId, MemoryId, Origin, Reading, UserId};

use crate::locomo::{Conversation, Question};
use crate::measure::Counting;
use crate::reading::{SessionReading, read_session};
use crate::run::{Answered, CUBE, USER, ask, message_ids, questions, store, warm};

pub use report::{Drawn, FineReport};

/// How many results are looked at when what they show is counted.
const SHOWN: usize = 10;

/// Stores the turns of each conversation as [`evaluate`](crate::evaluate) does and asks its questions; then reads the
/// conversation in fine mode, with the model that the settings name, stores what the model drew beside the turns, and asks
/// the same questions again. `said` hears what is being done.
///
/// The windows of raw turns that fine mode keeps too are not stored: the same turns are there already, one by one, so that
/// both halves of the report search the same words.
///
/// # Errors
/// Errors of stores and encoders. Windows that the model could not refine are in the report.
pub async fn evaluate_fine(
    settings: &Settings,
    conversations: &[Conversation],
    mut said: impl FnMut(&str),
) -> anyhow::Result<FineReport> {
    let mut report = FineReport::default();
    for conversation in conversations {
        let (n_turns, n_questions) = (conversation.n_turns(), conversation.questions.len());
        said(&format!("{}: {n_turns} turns, {n_questions} questions", conversation.id));
        let folder = tempfile::tempdir().context("cannot make a folder for the conversation's memories")?;
        let mos = Mos::builder(settings.clone()).data_dir(folder.path()).build().await?;
        let begun = Instant::now();
        store(&mos, conversation).await.with_context(|| format!("storing {}", conversation.id))?;
        report.raw.times.ingest += begun.elapsed();
        report.raw.times.n_turns += n_turns;
        warm(&mos).await?;
        for question in questions(conversation) {
            report.add_raw(conversation, question, &ask(&mos, conversation, question).await?);
        }
        said(&format!("{}: reading {} sessions in fine mode", conversation.id, conversation.sessions.len()));
        let begun = Instant::now();
        let drawn = draw(&mos, conversation, &mut report.drawn).await?;
        report.fine.times.ingest += begun.elapsed();
        report.fine.times.n_turns += n_turns;
        warm(&mos).await?;
        for question in questions(conversation) {
            report.add_fine(conversation, question, &ask(&mos, conversation, question).await?, &drawn);
        }
    }
    Ok(report)
}

/// Reads a conversation in fine mode, notes what came of it, and returns the ids of what was drawn and stored.
async fn draw(mos: &Mos, conversation: &Conversation, drawn: &mut Drawn) -> anyhow::Result<HashSet<MemoryId>> {
    let cube = mos.cube(&UserId::from(USER), &CubeId::from(CUBE)).await?;
    let origin = Origin::new(USER, "evaluation");
    let (mut ids, mut kept, mut named) = (HashSet::new(), HashSet::new(), HashSet::new());
    for session in &conversation.sessions {
        let Some(SessionReading { reading, failures }) = read_session(mos, conversation, session).await? else {
            continue;
        };
        drawn.failures.extend(failures);
        drawn.note(conversation, &reading, &mut kept, &mut named);
        let memories = Reading { raw: Vec::new(), ..reading };
        let stored = mos_reader::store(memories, cube.text_mem().as_ref(), &origin)
            .await
            .with_context(|| format!("storing what was drawn from {} of {}", session.name, conversation.id))?;
        ids.extend(stored.ids);
    }
    drawn.note_turns(conversation, &kept, &named);
    Ok(ids)
}

impl Drawn {
    /// Notes a reading, the turns that any of its memories names (`kept`), and those that a drawn one names (`named`).
    fn note(
        &mut self,
        conversation: &Conversation,
        reading: &Reading,
        kept: &mut HashSet<String>,
        named: &mut HashSet<String>,
    ) {
        let said: HashSet<&str> = conversation.turns().map(|turn| turn.id.as_str()).collect();
        self.n_windows += reading.raw.len();
        self.n_memories += reading.memories.len();
        self.dropped.extend(reading.report.dropped.iter().cloned());
        kept.extend(reading.raw.iter().flat_map(message_ids));
        for memory in &reading.memories {
            let turns = message_ids(memory);
            if !turns.iter().any(|turn| said.contains(turn.as_str())) {
                self.without_sources.push(memory.memory.clone());
            }
            kept.extend(turns.iter().cloned());
            named.extend(turns);
        }
    }

    /// Notes which turns of a conversation that has been read are named.
    fn note_turns(&mut self, conversation: &Conversation, kept: &HashSet<String>, named: &HashSet<String>) {
        self.n_turns += conversation.n_turns();
        self.n_turns_named += conversation.turns().filter(|turn| named.contains(&turn.id)).count();
        let lost = conversation.turns().filter(|turn| !kept.contains(&turn.id));
        self.lost.extend(lost.map(|turn| format!("{} {}", conversation.id, turn.id)));
        let evidence: HashSet<&String> = questions(conversation).flat_map(|question| &question.evidence).collect();
        self.n_evidence += evidence.len();
        self.n_evidence_named += evidence.into_iter().filter(|turn| named.contains(*turn)).count();
    }
}

impl FineReport {
    fn add_raw(&mut self, conversation: &Conversation, question: &Question, answered: &Answered) {
        self.raw.asked.push(answered.asked(conversation, question, Counting::Turns));
        self.raw.times.searches.push(answered.took);
    }

    fn add_fine(
        &mut self,
        conversation: &Conversation,
        question: &Question,
        answered: &Answered,
        drawn: &HashSet<MemoryId>,
    ) {
        let asked = |counting| answered.asked(conversation, question, counting);
        self.fine.asked.push(asked(Counting::Turns));
        self.by_results.asked.push(asked(Counting::Results));
        self.by_new_turns.asked.push(asked(Counting::NewTurns));
        self.fine.times.searches.push(answered.took);
        let shown: HashSet<&String> = answered.results.iter().take(SHOWN).flatten().collect();
        self.n_shown_turns += shown.len();
        self.n_shown_drawn += answered.ids.iter().take(SHOWN).filter(|id| drawn.contains(*id)).count();
    }
}
