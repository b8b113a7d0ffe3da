//! The constructor of tree memories.

use std::collections::BTreeMap;
use std::sync::Arc;

use mos_core::MemoryType;
use mos_memory::{TreeMode, TreeOptions, TreeText, TreeTextParts};
use mos_stores::TextAnalyzer;
use serde_json::Value;

use super::{Factories, shelf};

/// Adds `tree_text`.
pub(super) fn add_tree_memory(factories: &mut Factories) {
    let analyzer = Arc::new(TextAnalyzer::new());
    factories.add_text_memory(
        "tree_text",
        Arc::new(move |parts, file_name| {
            let shelf = shelf(&parts, file_name);
            let memory = TreeText::new(TreeTextParts {
                shelf,
                recall: parts.recall,
                vectors: parts.vectors,
                embedder: parts.embedder,
                analyzer: analyzer.clone(),
                ids: parts.ids,
                shelves: parts.shelves,
                options: options(&parts.config),
            });
            Arc::new(memory.with_retrieval(parts.retrieval))
        }),
    );
}

/// Reads what a cube's configuration says of its tree. It was checked when the cube was made.
fn options(config: &Value) -> TreeOptions {
    let mode = match config.get("mode").and_then(Value::as_str) {
        Some("async") => TreeMode::Async,
        _ => TreeMode::Sync,
    };
    let limits = config
        .get("memory_size")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(kind, limit)| Some((MemoryType::parse(kind)?, usize::try_from(limit.as_u64()?).ok()?)));
    TreeOptions {
        mode,
        limits: limits.collect::<BTreeMap<_, _>>(),
        include_embedding: config.get("include_embedding").and_then(Value::as_bool).unwrap_or_default(),
        ..TreeOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_and_memories_name_the_same_types() {
        assert_eq!(mos_config::memory::MEMORY_TYPES, MemoryType::WORDS);
    }

    #[test]
    fn a_configuration_says_mode_sizes_and_embeddings() {
        let config =
            json!({"mode": "async", "memory_size": {"WorkingMemory": 5, "UserMemory": 7}, "include_embedding": true});
        let options = options(&config);
        assert_eq!((options.mode, options.include_embedding), (TreeMode::Async, true));
        assert_eq!(options.limits, BTreeMap::from([(MemoryType::Working, 5), (MemoryType::User, 7)]));
        assert_eq!(super::options(&json!({"memory_size": null, "mode": "sync"})), TreeOptions::default());
        assert_eq!(super::options(&Value::Null), TreeOptions::default());
    }
}
