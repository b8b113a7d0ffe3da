//! The work in the background: what waits, what runs, what was given up, and what happened to memories.

use std::collections::HashSet;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use futures::stream::{self, StreamExt};
use mos::product::{Identity, ProductError, ProductResult, Scope as Right};
use mos::scheduler::{Event, Scheduler};
use mos_core::{CubeId, DeadJob, Paging, Scope, UserId};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::asking::{Asking, read};
use super::{Answer, Refused};
use crate::extract::JsonBody;
use crate::sse;
use crate::state::ServerState;

/// The most messages that were given up and are shown.
const MAX_GIVEN_UP: usize = 100;
/// How many events of a cube are looked at, which is how many are kept.
const MAX_READ: usize = 1_000;
/// The most events that are shown.
const MAX_EVENTS: usize = 200;
/// How long a stream of events lasts; who wants more asks again, and is checked again.
const LONGEST: Duration = Duration::from_secs(600);

/// Tells what the scheduler does for a cube.
pub(super) async fn status(asking: Asking) -> Answer {
    let cube = checked_cube(&asking).await?;
    let Some(scheduler) = asking.mos.scheduler() else {
        return Ok(Json(json!({"is_there": false, "is_running": false})));
    };
    let scope = Scope::of(&cube);
    let queue = scheduler.queue_status(&scope).await?;
    let is_own = |user: &UserId, of: &CubeId| *user == asking.user && *of == cube;
    let mut running = scheduler.running();
    running.retain(|task| is_own(&task.user_id, &task.mem_cube_id));
    let given_up: Vec<Value> = own_given_up(&asking, &scheduler, &scope).await?.iter().map(shown_dead).collect();
    let mut shown = json!({
        "is_there": true,
        "is_running": scheduler.is_running(),
        "handlers": scheduler.handlers(),
        "queue": {
            "waiting": queue.waiting, "claimed": queue.claimed, "dead": queue.dead,
            "oldest": queue.oldest.map(|moment| moment.to_string()),
        },
        "running": running,
        "given_up": given_up,
    });
    if administers(&asking).await? {
        shown["labels"] = json!(scheduler.metrics());
    }
    Ok(Json(shown))
}

/// Whether sums over everybody may be told. A key outlives the role that it was made for.
async fn administers(asking: &Asking) -> ProductResult<bool> {
    if asking.caller.check(Right::Admin).is_err() {
        return Ok(false);
    }
    let Identity::User(user) = &asking.caller.identity else { return Ok(true) };
    match asking.mos.check_administrator(user).await {
        Ok(()) => Ok(true),
        Err(mos::Error::NotAllowed { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The cube that is asked about; its user may read it.
async fn checked_cube(asking: &Asking) -> ProductResult<CubeId> {
    let cube = asking.cube()?;
    asking.mos.cube_access(&asking.user, &cube).await?;
    Ok(cube)
}

/// The messages of the user that were given up: in a shared cube others' are theirs.
async fn own_given_up(asking: &Asking, scheduler: &Scheduler, scope: &Scope) -> ProductResult<Vec<DeadJob>> {
    let mut dead = scheduler.given_up(scope, Paging { offset: 0, limit: MAX_READ }).await?.entries;
    let is_own = |dead: &DeadJob| dead.job.payload.get("user_id").and_then(Value::as_str) == Some(asking.user.as_str());
    dead.retain(is_own);
    dead.truncate(MAX_GIVEN_UP);
    Ok(dead)
}

fn shown_dead(dead: &DeadJob) -> Value {
    json!({
        "id": dead.job.id, "label": dead.job.kind, "attempts": dead.job.attempt,
        "reason": dead.reason, "at": dead.died_at.to_string(),
    })
}

#[derive(Debug, Deserialize)]
struct Again {
    ids: Vec<String>,
}

/// Has messages handled again that were given up.
pub(super) async fn retry(asking: Asking, JsonBody(body): JsonBody) -> Answer {
    asking.to_write()?;
    let cube = asking.cube()?;
    asking.mos.cube(&asking.user, &cube).await?;
    let Again { mut ids } = read(body)?;
    let scheduler = asking.mos.require_scheduler()?;
    let scope = Scope::of(&cube);
    let own = own_given_up(&asking, &scheduler, &scope).await?;
    let own: HashSet<&str> = own.iter().map(|dead| dead.job.id.as_str()).collect();
    ids.retain(|id| own.contains(id.as_str()));
    Ok(Json(json!({"retried": scheduler.retry(&scope, &ids).await?})))
}

/// Returns the newest events of the user in a cube, newest first.
pub(super) async fn events(asking: Asking) -> Answer {
    let cube = checked_cube(&asking).await?;
    let Some(scheduler) = asking.mos.scheduler() else { return Ok(Json(json!({"events": []}))) };
    let recorded = scheduler.events().events(&Scope::of(&cube), 0, MAX_READ).await?;
    let own = recorded.iter().rev().filter(|recorded| recorded.event.user_id == asking.user);
    let events: Vec<Value> = own.take(MAX_EVENTS).map(|recorded| shown_event(&recorded.event)).collect();
    Ok(Json(json!({ "events": events })))
}

fn shown_event(event: &Event) -> Value {
    json!({
        "type": "event",
        "id": event.item_id,
        "label": event.label,
        "text": event.log_content,
        "from": event.from_memory_type,
        "to": event.to_memory_type,
        "memories": event.memory_len,
        "status": event.status,
        "at": event.timestamp.to_string(),
    })
}

/// Streams the events of the user in a cube from now on: first `{"type": "open"}`, then each event, and
/// `{"type": "missed", "count"}` for those that came too fast. It ends when the server is about to stop.
pub(super) async fn stream(State(state): State<ServerState>, asking: Asking) -> Result<Response, Refused> {
    let cube = checked_cube(&asking).await?;
    let scheduler = asking.mos.scheduler().ok_or_else(|| {
        ProductError::new(
            503,
            "there is no scheduler, so nothing happens in the background; set `enable_mem_scheduler: true`",
        )
    })?;
    let receiver = scheduler.events().subscribe();
    let (user, end) = (asking.user, Instant::now() + LONGEST);
    let open = stream::once(async { json!({"type": "open"}) });
    let following = stream::unfold((receiver, user, cube), move |(mut receiver, user, cube)| async move {
        let told = next_event(&mut receiver, &user, &cube, end).await?;
        Some((told, (receiver, user, cube)))
    });
    Ok(sse::frames(open.chain(following).take_until(state.stopping())))
}

/// Waits for what is to be told next; `None` at the end.
async fn next_event(receiver: &mut Receiver<Event>, user: &UserId, cube: &CubeId, end: Instant) -> Option<Value> {
    loop {
        match tokio::time::timeout_at(end, receiver.recv()).await {
            Ok(Ok(event)) if event.user_id == *user && event.mem_cube_id == *cube => return Some(shown_event(&event)),
            Ok(Ok(_)) => {}
            Ok(Err(RecvError::Lagged(count))) => return Some(json!({"type": "missed", "count": count})),
            Ok(Err(RecvError::Closed)) | Err(_) => return None,
        }
    }
}
