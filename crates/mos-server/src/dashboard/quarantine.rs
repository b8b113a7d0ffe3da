//! Memories that are kept apart: looking at them, releasing them.

use axum::Json;
use mos_core::MemoryId;
use serde_json::{Value, json};

use super::Answer;
use super::asking::Asking;
use super::memories::shown;
use crate::extract::InPath;

/// The most memories on a page.
const MAX_PAGE: usize = 100;
/// The most memories that can be looked at; who releases or deletes some sees further ones.
const MAX_APART: usize = 1_000;

/// Lists a page of the memories of a cube that are kept apart, oldest first; `quarantine` tells why of each.
pub(super) async fn list(asking: Asking) -> Answer {
    let cube = asking.cube()?;
    let (offset, limit) = (asking.number("offset", 0, MAX_APART)?, asking.number("limit", 25, MAX_PAGE)?);
    let mut apart = asking.mos.quarantined(&asking.user, Some(&cube), MAX_APART + 1).await?;
    let is_cut = apart.len() > MAX_APART;
    apart.truncate(MAX_APART);
    let memories: Vec<Value> = apart.iter().skip(offset).take(limit).map(shown).collect();
    Ok(Json(json!({
        "memories": memories, "total": apart.len(), "is_cut": is_cut, "offset": offset, "limit": limit,
    })))
}

/// Lets a memory that is kept apart take part in searches; undoing keeps it apart again.
pub(super) async fn release(asking: Asking, InPath(id): InPath) -> Answer {
    asking.to_write()?;
    let (cube, id) = (asking.cube()?, MemoryId::parse(id)?);
    let item = asking.mos.release(&asking.user, Some(&cube), &id).await?;
    Ok(Json(shown(&item)))
}
