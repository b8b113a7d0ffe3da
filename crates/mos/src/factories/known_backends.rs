//! Which backends settings may name, and which of them this build has.

use serde::Serialize;

use super::{Factories, users, vectors};

/// A backend that settings may name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Backend {
    /// The kind of part, for example `chat_model`.
    pub kind: String,
    /// Its key.
    pub key: String,
    /// Whether this build can run it; otherwise its settings are read and checked only.
    pub is_built: bool,
}

/// Returns every backend that settings may name, and which of them this build can run.
pub fn backends() -> Vec<Backend> {
    let factories = Factories::default();
    let is_built = |kind: &str, key: &str| match kind {
        "chat_model" => factories.chat_models.contains_key(key),
        "embedder" => factories.embedders.contains_key(key),
        "reranker" => factories.rerankers.contains_key(key),
        "internet_retriever" => factories.internet_retrievers.contains_key(key),
        "mem_reader" => factories.mem_readers.contains_key(key),
        "memory" => {
            key == "uninitialized"
                || factories.text_memories.contains_key(key)
                || factories.preference_memories.contains_key(key)
                || factories.parametric_memories.contains_key(key)
                || factories.activation_memories.contains_key(key)
        }
        "vector_db" => vectors::is_built(key),
        // Every build has them; the terminal chat becomes settings of ordinary ones.
        "store" | "queue" | "chunker" | "mem_scheduler" | "mem_chat" => true,
        "mem_agent" => key == "deep_search",
        "user_manager" => users::is_built(key),
        _ => false,
    };
    let mut table = Vec::new();
    for kind in mos_config::backends() {
        let row = |key: &&str| Backend {
            kind: kind.kind.to_owned(),
            key: (*key).to_owned(),
            is_built: is_built(kind.kind, key),
        };
        table.extend(kind.keys.iter().map(row));
    }
    table
}
