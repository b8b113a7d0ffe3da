//! The memories of a cube.
//!
//! Models and stores are optional here: an absent one means the one of the [`Settings`](crate::Settings). A cube that
//! names none works on every machine and carries no credentials.

use std::collections::BTreeMap;

use crate::embedder::EmbedderConfig;
use crate::llm::ChatModelConfig;
use crate::read::Fields;
use crate::reader::MemReaderConfig;
use crate::retrieval::{InternetRetrieverConfig, RerankerConfig};
use crate::store::{GraphStoreConfig, VectorStoreConfig};

const TEXT_FILE: &str = "textual_memory.json";
const ACTIVATION_FILE: &str = "activation_memory.pickle";
const PARAMETRIC_FILE: &str = "parametric_memory.adapter";

/// The types of memories of a graph.
pub const MEMORY_TYPES: &[&str] = &[
    "WorkingMemory",
    "LongTermMemory",
    "UserMemory",
    "OuterMemory",
    "ToolSchemaMemory",
    "ToolTrajectoryMemory",
    "RawFileMemory",
    "SkillMemory",
    "PreferenceMemory",
    "Context",
];

section! {
    /// No memory.
    pub struct NoMemory {
        /// The cube.
        default cube_id: Option<String> = None,
    }
}

section! {
    /// Texts that are searched by common words.
    pub struct NaiveTextMemory {
        /// The cube.
        default cube_id: Option<String> = None,
        /// Name of the file in a dumped cube.
        default memory_filename: String = TEXT_FILE.to_owned(),
        /// The model that extracts memories.
        omitted extractor_llm: Option<ChatModelConfig>,
    }
    check: check_naive;
}

section! {
    /// Texts that are searched by vectors.
    pub struct GeneralTextMemory {
        /// The cube.
        default cube_id: Option<String> = None,
        /// Name of the file in a dumped cube.
        default memory_filename: String = TEXT_FILE.to_owned(),
        /// The model that extracts memories.
        omitted extractor_llm: Option<ChatModelConfig>,
        /// Where the vectors are.
        omitted vector_db: Option<VectorStoreConfig>,
        /// The encoder.
        omitted embedder: Option<EmbedderConfig>,
    }
    check: check_general;
}

section! {
    /// Memories as a graph.
    pub struct TreeTextMemory {
        /// The cube.
        default cube_id: Option<String> = None,
        /// Name of the file in a dumped cube.
        default memory_filename: String = TEXT_FILE.to_owned(),
        /// The model that extracts memories.
        omitted extractor_llm: Option<ChatModelConfig>,
        /// The model that plans searches.
        omitted dispatcher_llm: Option<ChatModelConfig>,
        /// The encoder.
        omitted embedder: Option<EmbedderConfig>,
        /// How found memories are ordered.
        default reranker: Option<RerankerConfig> = None,
        /// Where nodes and edges are.
        omitted graph_db: Option<GraphStoreConfig>,
        /// How the internet is searched.
        default internet_retriever: Option<InternetRetrieverConfig> = None,
        /// Groups and links memories in the background.
        default reorganize: Option<bool> = Some(false),
        /// The most memories of each kind.
        default memory_size: Option<BTreeMap<String, usize>> = None,
        /// Which ways of recall are used.
        default search_strategy: Option<BTreeMap<String, bool>> = None,
        /// `sync`: a memory is refined before `add` returns; `async`: afterwards.
        default mode: Option<String> = Some("sync".to_owned()),
        /// Returns vectors with memories.
        default include_embedding: Option<bool> = Some(false),
    }
    check: check_tree;
}

section! {
    /// A part of the preference memory; it has no settings.
    pub struct NaivePart {}
}

backends! {
    /// A part of the preference memory.
    pub enum PreferencePartConfig {
        /// The only one.
        Naive(NaivePart) = "naive",
    }
}

section! {
    /// What the user likes and how.
    pub struct PreferenceTextMemory {
        /// The cube.
        default cube_id: Option<String> = None,
        /// Name of the file in a dumped cube.
        default memory_filename: String = TEXT_FILE.to_owned(),
        /// The model that finds preferences.
        omitted extractor_llm: Option<ChatModelConfig>,
        /// Where the vectors are.
        omitted vector_db: Option<VectorStoreConfig>,
        /// The encoder.
        omitted embedder: Option<EmbedderConfig>,
        /// How found preferences are ordered.
        default reranker: Option<RerankerConfig> = None,
        /// How preferences are found.
        omitted extractor: Option<PreferencePartConfig>,
        /// How preferences are stored.
        omitted adder: Option<PreferencePartConfig>,
        /// How preferences are recalled.
        omitted retriever: Option<PreferencePartConfig>,
    }
    check: check_preference;
}

section! {
    /// Corrections by the user.
    pub struct FeedbackMemory {
        /// The cube.
        default cube_id: Option<String> = None,
        /// The model that judges.
        omitted extractor_llm: Option<ChatModelConfig>,
        /// The encoder.
        omitted embedder: Option<EmbedderConfig>,
        /// How found memories are ordered.
        default reranker: Option<RerankerConfig> = None,
        /// Where nodes and edges are.
        omitted graph_db: Option<GraphStoreConfig>,
        /// Groups and links memories in the background.
        default reorganize: Option<bool> = Some(false),
        /// The most memories of each kind.
        default memory_size: Option<BTreeMap<String, usize>> = None,
        /// How raw input becomes memories.
        omitted mem_reader: Option<MemReaderConfig>,
    }
}

section! {
    /// Computed model state.
    pub struct KvCacheMemory {
        /// The cube.
        default cube_id: Option<String> = None,
        /// Name of the file in a dumped cube.
        default memory_filename: String = ACTIVATION_FILE.to_owned(),
        /// The model whose state is kept.
        omitted extractor_llm: Option<ChatModelConfig>,
    }
    check: check_kv_cache;
}

section! {
    /// State that a vLLM server keeps.
    pub struct VllmKvCacheMemory {
        /// The cube.
        default cube_id: Option<String> = None,
        /// Name of the file in a dumped cube.
        default memory_filename: String = ACTIVATION_FILE.to_owned(),
        /// The model of the server.
        omitted extractor_llm: Option<ChatModelConfig>,
    }
    check: check_vllm_kv_cache;
}

section! {
    /// Adapters of model weights.
    pub struct LoraMemory {
        /// The cube.
        default cube_id: Option<String> = None,
        /// Name of the file in a dumped cube.
        default memory_filename: String = PARAMETRIC_FILE.to_owned(),
        /// The model that the adapter belongs to.
        omitted extractor_llm: Option<ChatModelConfig>,
    }
    check: check_lora;
}

/// A memory's file lies in the cube's folder and nowhere else.
fn check_filename(name: &str, fields: &mut Fields<'_, '_>) {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\\', '\0']) {
        fields.refuse("memory_filename", "must be the plain name of a file, without a folder");
    }
}

fn check_naive(memory: &NaiveTextMemory, fields: &mut Fields<'_, '_>) {
    check_filename(&memory.memory_filename, fields);
}

fn check_general(memory: &GeneralTextMemory, fields: &mut Fields<'_, '_>) {
    check_filename(&memory.memory_filename, fields);
}

fn check_tree(memory: &TreeTextMemory, fields: &mut Fields<'_, '_>) {
    check_filename(&memory.memory_filename, fields);
    if memory.mode.as_deref().is_some_and(|mode| !["sync", "async"].contains(&mode)) {
        fields.refuse("mode", "must be \"sync\" or \"async\"");
    }
    for kind in memory.memory_size.iter().flat_map(BTreeMap::keys) {
        if !MEMORY_TYPES.contains(&kind.as_str()) {
            let allowed = MEMORY_TYPES.join(", ");
            fields.refuse(&format!("memory_size.{kind}"), format!("is no type of memory (allowed: {allowed})"));
        }
    }
}

fn check_preference(memory: &PreferenceTextMemory, fields: &mut Fields<'_, '_>) {
    check_filename(&memory.memory_filename, fields);
}

fn check_lora(memory: &LoraMemory, fields: &mut Fields<'_, '_>) {
    check_filename(&memory.memory_filename, fields);
}

fn check_kv_cache(memory: &KvCacheMemory, fields: &mut Fields<'_, '_>) {
    check_filename(&memory.memory_filename, fields);
    require_backend(
        memory.extractor_llm.as_ref(),
        &["local", "huggingface", "huggingface_singleton"],
        "only a model that runs in this process shows its state",
        fields,
    );
}

fn check_vllm_kv_cache(memory: &VllmKvCacheMemory, fields: &mut Fields<'_, '_>) {
    check_filename(&memory.memory_filename, fields);
    require_backend(
        memory.extractor_llm.as_ref(),
        &["vllm", "huggingface", "huggingface_singleton"],
        "the state is kept by a vLLM server",
        fields,
    );
}

fn require_backend(model: Option<&ChatModelConfig>, allowed: &[&str], why: &str, fields: &mut Fields<'_, '_>) {
    let Some(backend) = model.map(ChatModelConfig::backend).filter(|backend| !allowed.contains(backend)) else {
        return;
    };
    fields.refuse(
        "extractor_llm.backend",
        format!("`{backend}` cannot be used here: {why} (allowed: {})", allowed.join(", ")),
    );
}

backends! {
    /// One memory of a cube.
    pub enum MemoryConfig {
        /// Texts, searched by common words.
        NaiveText(NaiveTextMemory) = "naive_text",
        /// Texts, searched by vectors.
        GeneralText(GeneralTextMemory) = "general_text",
        /// A graph.
        TreeText(TreeTextMemory) = "tree_text",
        /// The graph, built from parts by a program.
        SimpleTreeText(TreeTextMemory) = "simple_tree_text",
        /// Preferences.
        PreferenceText(PreferenceTextMemory) = "pref_text",
        /// Computed model state.
        KvCache(KvCacheMemory) = "kv_cache",
        /// State at a vLLM server.
        VllmKvCache(VllmKvCacheMemory) = "vllm_kv_cache",
        /// Adapters.
        Lora(LoraMemory) = "lora",
        /// Corrections.
        Feedback(FeedbackMemory) = "mem_feedback",
        /// None.
        Uninitialized(NoMemory) = "uninitialized",
    }
    absent backend: "uninitialized";
}

impl MemoryConfig {
    /// Returns no memory.
    pub fn none() -> Self {
        Self::Uninitialized(Box::new(NoMemory { cube_id: None }))
    }
}
