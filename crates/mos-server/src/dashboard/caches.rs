//! What is kept computed of a cube.

use axum::Json;
use serde_json::json;

use super::Answer;
use super::asking::Asking;

/// Lists the kept caches of a cube with what they take and save.
pub(super) async fn list(asking: Asking) -> Answer {
    let cube = asking.cube()?;
    Ok(Json(json!(asking.mos.kept_caches(&asking.user, &cube).await?)))
}
