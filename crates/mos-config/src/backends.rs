//! The table of all backend keys that parse.

use crate::*;

/// One kind of part, with the keys of its backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendKind {
    /// The kind, by the key under which it usually stands in a file.
    pub kind: &'static str,
    /// The keys, in the order of the documentation.
    pub keys: &'static [&'static str],
}

/// Returns every kind of part with every backend key that parses, whether or not this build can open it.
pub fn backends() -> Vec<BackendKind> {
    [
        ("chat_model", ChatModelConfig::KEYS),
        ("embedder", EmbedderConfig::KEYS),
        ("store", StoreConfig::KEYS),
        ("queue", QueueConfig::KEYS),
        ("vector_db", VectorStoreConfig::KEYS),
        ("graph_db", GraphStoreConfig::KEYS),
        ("memory", MemoryConfig::KEYS),
        ("mem_reader", MemReaderConfig::KEYS),
        ("chunker", ChunkerConfig::KEYS),
        ("parser", ParserConfig::KEYS),
        ("reranker", RerankerConfig::KEYS),
        ("internet_retriever", InternetRetrieverConfig::KEYS),
        ("mem_scheduler", SchedulerConfig::KEYS),
        ("user_manager", UserManagerConfig::KEYS),
        ("mem_chat", MemChatConfig::KEYS),
        ("mem_agent", MemAgentConfig::KEYS),
    ]
    .into_iter()
    .map(|(kind, keys)| BackendKind { kind, keys })
    .collect()
}
