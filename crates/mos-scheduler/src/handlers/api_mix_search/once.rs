//! A question is prepared once: not again while its answer is fresh, or while it is being prepared.

use std::time::Duration;

use jiff::Timestamp;
use mos_core::{JobId, JobState, Scope, StoreError, UserId};
use serde_json::json;

use super::{is_older, request_of, stored_mix};
use crate::message::ScheduleMessage;
use crate::scheduler::Scheduler;

/// How long a question whose answer has gone meanwhile (its memories were removed, or others took its place) waits until it is
/// prepared another time, in seconds.
const AGAIN_SECONDS: i64 = 60;

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
        match name(scheduler, &scope, &asked, fresh, now).await? {
            Some(name) => message.item_id = name,
            None => return Ok(false),
        }
    }
    let submitted = scheduler.submit_messages(vec![message]).await?;
    Ok(!submitted.new.is_empty())
}

/// Returns how a message is to be named; `None` when its answer is being prepared.
async fn name(
    scheduler: &Scheduler,
    scope: &Scope,
    asked: &str,
    fresh: Duration,
    now: Timestamp,
) -> Result<Option<String>, StoreError> {
    let seconds = i64::try_from(fresh.as_secs()).unwrap_or(i64::MAX).max(1);
    let period = now.as_second().div_euclid(seconds);
    let usual = |period: i64| format!("mix-{asked}-{period}");
    let before = scheduler.queue().find(scope, &JobId::new(usual(period - 1))).await?;
    if matches!(before, Some(JobState::Waiting | JobState::Claimed { .. })) {
        return Ok(None);
    }
    Ok(match scheduler.queue().find(scope, &JobId::new(usual(period))).await? {
        None => Some(usual(period)),
        // It was done: what was prepared has grown old within the period, or has gone.
        Some(JobState::Finished) => Some(format!("{}/{}", usual(period), now.as_second().div_euclid(AGAIN_SECONDS))),
        // Trying again what was given up is for people.
        Some(JobState::Waiting | JobState::Claimed { .. } | JobState::Dead { .. }) => None,
    })
}
