//! Memories by their ids, whatever cube they are in.

use std::collections::HashMap;

use mos_core::{CubeId, MemoryId, MemoryItem};
use serde::Serialize;
use serde_json::Value;

use super::app::Product;
use super::caller::Scope;
use super::error::ProductResult;
use super::hits::node_value;
use super::reach::memory_ids;
use super::reply::Reply;

/// Memories that were asked for by their ids.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MemoriesById {
    /// The memories as `{"id", "memory", "metadata"}`, in the order asked.
    pub memories: Vec<Value>,
}

impl Product {
    /// Returns a memory of any cube that the caller may read, whatever its status; without data when there is none of this id,
    /// or only one of others.
    ///
    /// # Errors
    /// Status 403 without the right to read.
    pub async fn get_memory_by_id(&self, memory_id: &str) -> ProductResult<Reply<Option<Value>>> {
        let found = self.by_ids(&memory_ids(&[memory_id.to_owned()])?).await?;
        let node = found.iter().map(|(_, (cube, item))| node_value(item, cube)).next();
        let message = match node {
            Some(_) => "Memory retrieved successfully".to_owned(),
            None => format!("Memory with ID {memory_id} not found"),
        };
        Ok(Reply::new(message, node))
    }

    /// As [`Product::get_memory_by_id`], for at most 1000 ids; unknown ones are left out.
    ///
    /// # Errors
    /// Status 400 for too many ids, 403 without the right to read.
    pub async fn get_memory_by_ids(&self, memory_ids: Vec<String>) -> ProductResult<Reply<MemoriesById>> {
        let ids = self::memory_ids(&memory_ids)?;
        let found = self.by_ids(&ids).await?;
        let nodes = ids.iter().filter_map(|id| found.get(id)).map(|(cube, item)| node_value(item, cube));
        Ok(Reply::new("Memories retrieved successfully", MemoriesById { memories: nodes.collect() }))
    }

    async fn by_ids(&self, ids: &[MemoryId]) -> ProductResult<HashMap<MemoryId, (CubeId, MemoryItem)>> {
        self.caller.check(Scope::Read)?;
        let mut found = HashMap::new();
        if ids.is_empty() {
            return Ok(found);
        }
        for (cube, items) in self.holding(self.within_reach().await?, ids, true).await? {
            for item in items {
                found.entry(item.id.clone()).or_insert_with(|| (cube.cube_id.clone(), item));
            }
        }
        Ok(found)
    }
}
