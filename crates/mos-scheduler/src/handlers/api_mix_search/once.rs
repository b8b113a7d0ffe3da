//! A question is prepared once: not again while its answer is fresh, or while it is being prepared.

use std::time::Duration;

use jiff::Timestamp;
use mos_core::{Expected, JobId, JobState, Scope, StateStore, StoreError, UserId};
use serde_json::{Value, json};

use super::{MAX_ATTEMPTS, is_older, request_of, sent_key, stored_mix};
use crate::message::ScheduleMessage;
use crate::scheduler::Scheduler;

/// How long a question whose answer has gone meanwhile (its memories were removed, or others took its place) waits until it is
/// prepared another time, in seconds.
const AGAIN_SECONDS: i64 = 60;

/// Questions of a user in a cube whose messages are known by what they ask; an older one that still waits may be queued again.
const KEPT_SENT: usize = 200;

/// Returns the name of a question with all its wishes: the same words with another `top_k` are another question.
pub(super) fn asked(user: &UserId, content: &str) -> String {
    blake3::hash(json!([user, content]).to_string().as_bytes()).to_hex()[..32].to_owned()
}

/// Submits an `api_mix_search` message unless the answer to it is at most `fresh` old, or is being prepared; returns whether it
/// did. Whoever asks the same at the same time, in this process or another, submits the same message.
///
/// # Errors
/// As [`Scheduler::submit_messages`]; store errors.
pub async fn prepare_once(
    scheduler: &Scheduler,
    mut message: ScheduleMessage,
    fresh: Duration,
) -> Result<bool, StoreError> {
    // What is wrong with another message, its status tells.
    if let Ok(request) = request_of(&message) {
        let (now, scope) = (message.timestamp, Scope::of(&message.mem_cube_id));
        let asked = asked(&message.user_id, &message.content);
        let stored = match stored_mix(&**scheduler.state(), &scope, &message.user_id, &request.query).await {
            // It is replaced by the next one.
            Err(StoreError::Corrupt { .. }) => None,
            stored => stored?,
        };
        if stored.is_some_and(|mix| mix.asked == asked && !is_older(mix.at, fresh, now)) {
            return Ok(false);
        }
        let state = &**scheduler.state();
        let (known, _) = sent(state, &scope, &message.user_id).await?;
        let before = known.iter().find(|(known, _)| *known == asked).map(|(_, name)| name.as_str());
        let Some(name) = name(scheduler, &scope, &asked, before, fresh, now).await? else { return Ok(false) };
        note_sent(state, &scope, &message.user_id, &asked, &name).await?;
        message.item_id = name;
    }
    let submitted = scheduler.submit_messages(vec![message]).await?;
    Ok(!submitted.new.is_empty())
}

/// Returns how a message is to be named; `None` when its answer is being prepared. `before` is the name of the last one that asked
/// the same: where nothing handles the queue, that one waits for as long as it takes.
async fn name(
    scheduler: &Scheduler,
    scope: &Scope,
    asked: &str,
    before: Option<&str>,
    fresh: Duration,
    now: Timestamp,
) -> Result<Option<String>, StoreError> {
    let seconds = i64::try_from(fresh.as_secs()).unwrap_or(i64::MAX).max(1);
    let usual = format!("mix-{asked}-{}", now.as_second().div_euclid(seconds));
    if let Some(before) = before.filter(|before| **before != *usual) {
        let before = scheduler.queue().find(scope, &JobId::new(before)).await?;
        if matches!(before, Some(JobState::Waiting | JobState::Claimed { .. })) {
            return Ok(None);
        }
    }
    Ok(match scheduler.queue().find(scope, &JobId::new(usual.as_str())).await? {
        None => Some(usual),
        // It was done: what was prepared has grown old within the period, or has gone.
        Some(JobState::Finished) => Some(format!("{usual}/{}", now.as_second().div_euclid(AGAIN_SECONDS))),
        // Trying again what was given up is for people.
        Some(JobState::Waiting | JobState::Claimed { .. } | JobState::Dead { .. }) => None,
    })
}

/// Returns what a user's questions in a cube were queued as last, `(asked, name)`, oldest first, and what a change of it expects.
async fn sent(
    state: &dyn StateStore,
    scope: &Scope,
    user: &UserId,
) -> Result<(Vec<(String, String)>, Expected), StoreError> {
    let Some(document) = state.read(scope, &sent_key(user)).await? else { return Ok((Vec::new(), Expected::Absent)) };
    let pair = |pair: &Value| Some((pair[0].as_str()?.to_owned(), pair[1].as_str()?.to_owned()));
    let pairs = document.value["sent"].as_array().into_iter().flatten();
    Ok((pairs.filter_map(pair).collect(), Expected::Version(document.version)))
}

/// Notes what a question is queued as, before it is: it waits once.
async fn note_sent(
    state: &dyn StateStore,
    scope: &Scope,
    user: &UserId,
    asked: &str,
    name: &str,
) -> Result<(), StoreError> {
    for _ in 0..MAX_ATTEMPTS {
        let (mut pairs, expected) = sent(state, scope, user).await?;
        pairs.retain(|(known, _)| known != asked);
        pairs.push((asked.to_owned(), name.to_owned()));
        let n_surplus = pairs.len().saturating_sub(KEPT_SENT);
        pairs.drain(..n_surplus);
        match state.write(scope, &sent_key(user), &json!({ "sent": pairs }), expected).await {
            Err(StoreError::Conflict(_)) => {}
            done => return done.map(drop),
        }
    }
    tracing::debug!("what a user asks is noted by too many at once; a question may be prepared twice");
    Ok(())
}
