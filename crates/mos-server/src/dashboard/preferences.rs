//! What a user prefers.

use axum::Json;
use serde_json::{Value, json};

use super::Answer;
use super::asking::Asking;
use super::memories::shown;

/// The most preferences on a page.
const MAX_PAGE: usize = 100;
/// The last page that can be asked for.
const MAX_NUMBER: usize = 100_000;

/// Lists a page of the preferences of a cube, oldest first. Pages count from 1.
pub(super) async fn list(asking: Asking) -> Answer {
    let cube = asking.cube()?;
    let (page, size) = (asking.number("page", 1, MAX_NUMBER)?.max(1), asking.number("limit", 50, MAX_PAGE)?.max(1));
    let found = asking.mos.preference_page(&asking.user, &cube, page, size).await?;
    let Some((items, total)) = found else {
        return Ok(Json(json!({"is_kept": false, "preferences": [], "total": 0})));
    };
    let preferences: Vec<Value> = items.iter().map(shown).collect();
    Ok(Json(json!({"is_kept": true, "preferences": preferences, "total": total, "page": page, "limit": size})))
}
