//! The working memory of a user: what their turns chose, as it is in the cube now.

use std::collections::{HashMap, HashSet};

use mos_core::{MemoryError, MemoryId, MemoryItem, StateStore, Status, UserId};

use crate::cube::SchedulerCube;
use crate::handler::HandlerError;
use crate::monitor::{MAX_CAPACITY, MonitorKind, MonitorList, WorkingState, load};

/// The tag of raw memories in trees.
const FAST: &str = "mode:fast";

/// Returns the working memory of a user, the most important memories first. In a tree, what stands in its working memory and
/// belongs to the user comes after what the user's turns chose; what other users of a shared cube asked for does not.
///
/// # Errors
/// Store errors.
pub async fn working_memory(
    state: &dyn StateStore,
    cube: &SchedulerCube,
    user: &UserId,
) -> Result<Vec<MemoryItem>, HandlerError> {
    let stored = load::<WorkingState>(state, &cube.scope(), MonitorKind::Working.document(), user).await?;
    Ok(known(cube, &stored.value.list, user).await?)
}

/// The memories of a monitor as they are now, and behind them those of the user that a tree's working memory shows besides.
pub(super) async fn known(
    cube: &SchedulerCube,
    list: &MonitorList,
    user: &UserId,
) -> Result<Vec<MemoryItem>, MemoryError> {
    let mut ids: Vec<MemoryId> = list.items.iter().filter_map(|item| item.memory_id.clone()).collect();
    if let Some(tree) = cube.text.as_tree() {
        for item in tree.working_memory().await? {
            if belongs(&item, cube, user) {
                ids.push(original(&item));
            }
        }
    }
    let mut seen = HashSet::new();
    ids.retain(|id| seen.insert(id.clone()));
    ids.truncate(MAX_CAPACITY);
    living(cube, &ids).await
}

/// The memories that exist and take part in searches, in the order asked.
pub(crate) async fn living(cube: &SchedulerCube, ids: &[MemoryId]) -> Result<Vec<MemoryItem>, MemoryError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut items = cube.text.get_by_ids(ids).await?;
    items.retain(|item| item.metadata.status.is_none_or(|status| status == Status::Activated));
    Ok(items)
}

/// Whether a memory is raw: it is refined later, and stands there only until then.
pub(crate) fn is_raw(item: &MemoryItem) -> bool {
    let is_tagged = item.metadata.tags.as_ref().is_some_and(|tags| tags.iter().any(|tag| tag == FAST));
    item.metadata.is_fast == Some(true) || is_tagged
}

/// Takes out what is gone, and gives the others the texts that their memories have now.
pub(super) fn refresh(list: &mut MonitorList, living: &[MemoryItem]) {
    let texts: HashMap<&MemoryId, &str> = living.iter().map(|item| (&item.id, item.memory.as_str())).collect();
    list.items.retain_mut(|item| match item.memory_id.as_ref().and_then(|id| texts.get(id)) {
        Some(text) => {
            item.refresh(text);
            true
        }
        None => false,
    });
}

/// Memories that name nobody belong to the cube's owner.
fn belongs(item: &MemoryItem, cube: &SchedulerCube, user: &UserId) -> bool {
    match item.metadata.user_id.as_deref() {
        Some(of) => of == user.as_str(),
        None => cube.info.owner_id == *user,
    }
}

fn original(item: &MemoryItem) -> MemoryId {
    item.working_copy_of().map_or_else(|| item.id.clone(), MemoryId::new)
}
