//! Which memories are promoted.

use std::cmp::Reverse;
use std::collections::HashSet;

use mos_core::memory::Trust;
use mos_core::{MemoryError, MemoryId, MemoryItem};

use super::options::PromotionOptions;
use super::{Kept, Source};
use crate::cube::SchedulerCube;
use crate::handlers::mem_update::{is_raw, living};
use crate::monitor::{MonitorItem, MonitorList};

/// Returns the memories that are stable and used most, as they are now, in an order that depends on nothing but which they are.
/// What strangers wrote is not among them: before a conversation it would stand without its source.
/// What is promoted already goes before what is not, so that memories of like use do not take turns.
pub(super) async fn choose(
    cube: &SchedulerCube,
    working: &MonitorList,
    current: Option<&Kept>,
    options: &PromotionOptions,
) -> Result<Vec<Source>, MemoryError> {
    let known: HashSet<&MemoryId> =
        current.into_iter().flat_map(|kept| kept.sources.iter().map(|source| &source.id)).collect();
    let mut stable: Vec<(&MonitorItem, &MemoryId)> = working
        .items
        .iter()
        .filter(|item| item.turns >= options.stable_turns || item.recalls >= options.stable_recalls)
        .filter_map(|item| Some((item, item.memory_id.as_ref()?)))
        .collect();
    let key = |item: &MonitorItem, id: &MemoryId| (!known.contains(id), Reverse(item.recalls), Reverse(item.turns));
    stable.sort_by(|(one, one_id), (other, other_id)| {
        key(one, one_id).cmp(&key(other, other_id)).then_with(|| one_id.cmp(other_id))
    });
    let ids: Vec<MemoryId> = stable.into_iter().map(|(_, id)| id.clone()).collect();
    let mut room = options.byte_limit();
    let mut sources = Vec::new();
    for item in living(cube, &ids).await? {
        if sources.len() < options.max_texts && !is_raw(&item) && is_trusted(&item) && item.memory.len() <= room {
            room -= item.memory.len();
            sources.push(Source { id: item.id, text: item.memory });
        }
    }
    sources.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(sources)
}

fn is_trusted(item: &MemoryItem) -> bool {
    item.metadata.trust() != Trust::External
}
