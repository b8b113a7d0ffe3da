//! Tokens that models took for the user.

use axum::Json;
use mos::UsageEntry;
use serde_json::json;

use super::Answer;
use super::asking::Asking;

/// The most entries that are shown, the newest days.
const MAX_ENTRIES: usize = 1_000;

/// Returns what models took for the user. A key for some cubes is told of those only, without the user's sums.
pub(super) async fn usage(asking: Asking) -> Answer {
    if !asking.mos.has_user(&asking.user).await? {
        return Ok(Json(json!({"user_id": asking.user, "entries": [], "is_cut": false})));
    }
    let usage = asking.mos.usage(&asking.user).await?;
    let is_restricted = asking.caller.cubes.is_some();
    let may_see = |entry: &&UsageEntry| match &entry.cube_id {
        Some(cube) => asking.caller.check_cube(cube).is_ok(),
        None => !is_restricted,
    };
    let seen: Vec<&UsageEntry> = usage.entries.iter().filter(may_see).collect();
    let entries = &seen[seen.len().saturating_sub(MAX_ENTRIES)..];
    let is_cut = entries.len() < seen.len();
    let mut shown = json!({"user_id": usage.user_id, "entries": entries, "is_cut": is_cut});
    if !is_restricted {
        shown["today"] = json!(usage.today);
        shown["total"] = json!(usage.total);
        shown["left_today"] = json!(usage.left_today);
        shown["left_in_all"] = json!(usage.left_in_all);
    }
    Ok(Json(shown))
}
