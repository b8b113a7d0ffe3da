//! Which items begin with which tokens.

use std::collections::HashMap;
use std::sync::Arc;

use mos_core::ActivationId;

use crate::radix::RadixTree;

/// The items of one tenant and one model by their tokens.
#[derive(Debug, Default)]
pub(crate) struct TokenIndex {
    /// Several items may have the same tokens.
    tree: RadixTree<Vec<ActivationId>>,
    tokens: HashMap<ActivationId, Arc<[u32]>>,
}

/// The index is one tenant's; trees know several.
const SALT: &str = "";

impl TokenIndex {
    pub(crate) fn insert(&mut self, tokens: Arc<[u32]>, id: ActivationId) {
        self.remove(&id);
        let mut ids = self.tree.remove(SALT, &tokens).unwrap_or_default();
        ids.push(id.clone());
        self.tree.insert(SALT, &tokens, ids);
        self.tokens.insert(id, tokens);
    }

    pub(crate) fn remove(&mut self, id: &ActivationId) {
        let Some(tokens) = self.tokens.remove(id) else { return };
        let mut ids = self.tree.remove(SALT, &tokens).unwrap_or_default();
        ids.retain(|other| other != id);
        if !ids.is_empty() {
            self.tree.insert(SALT, &tokens, ids);
        }
    }

    /// The item that shares most tokens with the beginning of a sequence, and how many those are; of items with the
    /// same tokens one that `is_near`, when there is one.
    pub(crate) fn longest(
        &self,
        tokens: &[u32],
        is_near: impl Fn(&ActivationId) -> bool,
    ) -> Option<(usize, ActivationId)> {
        let found = self.tree.longest_prefix(SALT, tokens);
        let ids = found.covering?;
        let id = ids.iter().find(|id| is_near(id)).or_else(|| ids.first())?;
        Some((found.matched, id.clone()))
    }
}
