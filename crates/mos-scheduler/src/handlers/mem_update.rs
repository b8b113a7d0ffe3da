//! `mem_update`: working memory follows what a user asks.
//!
//! A [`turn`] finds what the questions are about, asks whether the working memory is enough, retrieves what is missing, and
//! makes the memories that help most the working memory. Every part that asks a language model has an answer without it:
//! without a model the questions themselves are searched for, and the order is that of the search.
//!
//! Not here: activation memory ([`crate::promote`]), the arithmetic ([`crate::monitor`]).

mod ask;
mod judge;
mod merge;
mod options;
mod prompts;
mod report;
mod retrieve;
mod working;

use std::collections::HashSet;
use std::sync::Arc;

use mos_core::{Clock, MemoryError, MemoryId, MemoryItem, Origin, Scope, StateStore, UserId};

use crate::cube::SchedulerCube;
use crate::handler::{HandlerContext, HandlerError};
use crate::message::ScheduleMessage;
use crate::monitor::{
    MAX_QUERY, MonitorItem, MonitorKind, QUERIES, QueryItem, QueryMonitor, Stored, WorkingState, clipped,
    keywords_score, load, save,
};
use crate::promote::{self, PromotionParts};

use judge::Judge;
pub use options::TurnOptions;
pub use report::{Trigger, Turn, TurnMemory};
pub use working::working_memory;
pub(crate) use working::{is_raw, living};

/// What a turn works with.
#[derive(Clone, Copy, Debug)]
pub struct TurnParts<'a> {
    /// The cube of the messages.
    pub cube: &'a SchedulerCube,
    /// Where monitors are kept.
    pub state: &'a dyn StateStore,
    /// The time.
    pub clock: &'a dyn Clock,
    /// How it works.
    pub options: &'a TurnOptions,
}

/// Handles questions: a turn, and what follows from it for activation memory.
///
/// # Errors
/// Store errors, errors of the encoder, and those of computing activation memory. A language model that fails is no error.
pub async fn mem_update(
    context: HandlerContext,
    messages: Vec<ScheduleMessage>,
    options: Arc<TurnOptions>,
) -> Result<(), HandlerError> {
    let Some(last) = messages.last() else { return Ok(()) };
    let (cube, state, clock) = (&*context.cube, &*context.state, &*context.clock);
    let turn = turn(TurnParts { cube, state, clock, options: &options }, &messages).await?;
    if turn.trigger.is_a_turn() {
        context.record(vec![report::turn_event(last, &turn, clock.now())]).await?;
    }
    let parts = PromotionParts { cube, state, clock, options: &options.promotion };
    let promotion = promote::run(parts, &last.user_id).await?;
    context.record(report::promotion_events(last, &promotion, clock.now())).await
}

/// Lets the working memory of the messages' user follow their questions, and returns what was done. The messages are of one user
/// and cube, in their order; those whose turn was done before are passed over.
///
/// # Errors
/// Store errors and errors of the encoder; [`HandlerError::Retry`] when somebody else changes the same things at the same
/// time. A language model that fails is a note of the turn.
pub async fn turn(parts: TurnParts<'_>, messages: &[ScheduleMessage]) -> Result<Turn, HandlerError> {
    let Some(first) = messages.first() else { return Ok(Turn::default()) };
    let (user, scope) = (&first.user_id, parts.cube.scope());
    let document = MonitorKind::Working.document();
    let mut stored: Stored<WorkingState> = load(parts.state, &scope, document, user).await?;
    let before = working::known(parts.cube, &stored.value.list, user).await?;
    let fresh: Vec<&ScheduleMessage> = messages
        .iter()
        .filter(|message| !message.content.trim().is_empty() && !stored.value.is_done(&message.item_id))
        .collect();
    let Some(last) = fresh.last() else { return Ok(Turn::of_nothing(&before)) };
    let queries: Vec<String> = fresh.iter().map(|message| clipped(message.content.trim(), MAX_QUERY)).collect();
    let mut judge = Judge::new(parts.cube.model.clone());
    let counts = note_queries(parts, &scope, user, &fresh, &mut judge).await?;
    let (trigger, evidences) = decide(parts, &mut judge, &queries, &before, &stored.value).await;
    let retrieved = if trigger.retrieves() {
        retrieve::retrieve(&*parts.cube.text, &evidences, parts.options.top_k).await?
    } else {
        Vec::new()
    };
    working::refresh(&mut stored.value.list, &before);
    let mut is_reranked = false;
    let has_list = !stored.value.list.items.is_empty();
    if trigger.retrieves() {
        let candidates = merge::candidates(&retrieved, &before, parts.options);
        let (chosen, by_model) = judge.choose(&queries, candidates, parts.options.top_k).await;
        is_reranked = by_model;
        take_in(&mut stored.value, &chosen, &retrieved, &counts, parts.options);
        stored.value.retrieved_at = Some(parts.clock.now());
    } else if !has_list {
        take_in(&mut stored.value, &before, &[], &counts, parts.options);
    }
    stored.value.list.items.iter_mut().for_each(|item| item.turns += 1);
    let is_changed = trigger.retrieves() || !has_list;
    let after = replace(parts.cube, &mut stored.value, last, is_changed).await?;
    fresh.iter().for_each(|message| stored.value.note_done(&message.item_id));
    save(parts.state, &scope, document, user, &mut stored).await?;
    let keywords = counts.into_iter().map(|(keyword, _)| keyword).collect();
    let (retrieved, before) = (report::shown(&retrieved), report::shown(&before));
    let after = report::shown(&after);
    let notes = judge.into_notes();
    Ok(Turn { queries, keywords, trigger, evidences, retrieved, before, after, is_reranked, notes })
}

/// Puts the questions into the monitor of questions; returns the keywords of all that are in it, with their counts.
async fn note_queries(
    parts: TurnParts<'_>,
    scope: &Scope,
    user: &UserId,
    messages: &[&ScheduleMessage],
    judge: &mut Judge,
) -> Result<Vec<(String, u64)>, HandlerError> {
    let mut stored: Stored<QueryMonitor> = load(parts.state, scope, QUERIES, user).await?;
    stored.value.resize(parts.options.context_window_size);
    for message in messages {
        let query_text = clipped(message.content.trim(), MAX_QUERY);
        let keywords = judge.keywords(&query_text, parts.options.keywords).await;
        stored.value.put(QueryItem {
            item_id: message.item_id.clone(),
            user_id: user.clone(),
            mem_cube_id: scope.cube.clone(),
            query_text,
            keywords,
            timestamp: message.timestamp,
        });
    }
    save(parts.state, scope, QUERIES, user, &mut stored).await?;
    Ok(stored.value.keywords())
}

/// Decides whether memories are retrieved, and what is searched for.
async fn decide(
    parts: TurnParts<'_>,
    judge: &mut Judge,
    queries: &[String],
    before: &[MemoryItem],
    state: &WorkingState,
) -> (Trigger, Vec<String>) {
    if before.is_empty() {
        return (Trigger::NothingKnown, queries.to_vec());
    }
    let shown: Vec<&str> = before.iter().take(parts.options.top_k.max(1)).map(|item| item.memory.as_str()).collect();
    let (trigger, missing) = judge.enough(queries, &shown).await;
    if trigger != Trigger::NotNeeded {
        return (trigger, if missing.is_empty() { queries.to_vec() } else { missing });
    }
    let is_overdue = parts
        .options
        .retrieve_after
        .is_some_and(|after| state.retrieved_at.is_none_or(|at| promote::has_passed(at, after, parts.clock.now())));
    if is_overdue { (Trigger::Overdue, queries.to_vec()) } else { (Trigger::NotNeeded, Vec::new()) }
}

/// Takes the chosen memories, the best first, into the monitor.
fn take_in(
    state: &mut WorkingState,
    chosen: &[MemoryItem],
    retrieved: &[MemoryItem],
    counts: &[(String, u64)],
    options: &TurnOptions,
) {
    let recalled: HashSet<&MemoryId> = retrieved.iter().map(|item| &item.id).collect();
    let new = chosen.iter().enumerate().map(|(place, item)| {
        #[allow(clippy::cast_precision_loss, reason = "there are at most some dozens")]
        let points = (chosen.len() - place) as f64;
        let mut monitored =
            MonitorItem::new(Some(item.id.clone()), &item.memory, points, keywords_score(&item.memory, counts));
        monitored.recalls = u64::from(recalled.contains(&item.id));
        monitored
    });
    state.list.update(new.collect(), options.retention, options.working_capacity());
}

/// Makes the monitor's memories the working memory, unless they are that already, and returns them; what is gone meanwhile
/// leaves the monitor too.
async fn replace(
    cube: &SchedulerCube,
    state: &mut WorkingState,
    message: &ScheduleMessage,
    is_changed: bool,
) -> Result<Vec<MemoryItem>, HandlerError> {
    let ids: Vec<MemoryId> = state.list.items.iter().filter_map(|item| item.memory_id.clone()).collect();
    let items = living(cube, &ids).await?;
    working::refresh(&mut state.list, &items);
    let Some(tree) = cube.text.as_tree().filter(|_| is_changed && !items.is_empty()) else { return Ok(items) };
    let origin = Origin {
        actor: "scheduler".to_owned(),
        reason: message.label.clone(),
        message_id: Some(message.item_id.clone()),
    };
    match tree.replace_working_memory(items.clone(), origin).await {
        Ok(_) => Ok(items),
        // It was there a moment ago.
        Err(error @ MemoryError::NotFound(_)) => Err(HandlerError::retry(error)),
        Err(error) => Err(error.into()),
    }
}
