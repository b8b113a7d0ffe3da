//! A memory operating system for LLM applications.
//!
//! ```no_run
//! use mos::{Add, Chat, Mos, Search, Settings};
//! use mos_core::{CubeId, UserId};
//!
//! # async fn run() -> mos::Result<()> {
//! let mos = Mos::builder(Settings::default()).build().await?;
//! let ann = UserId::from("ann");
//! mos.ensure_user(&ann).await?;
//! mos.ensure_cube(&ann, &CubeId::from("notes")).await?;
//! mos.add(Add::text("My dog is called Max").user("ann")).await?;
//! let found = mos.search(Search::new("what is the name of my pet?").user("ann")).await?;
//! if let Some((_, best)) = found.best().first() {
//!     println!("{}", best.item.memory);
//! }
//! let (answer, _) = mos.chat(Chat::new("What is my dog called?").user("ann")).await?.complete().await?;
//! println!("{answer}");
//! # Ok(())
//! # }
//! ```
//!
//! This crate is the only place where parts are put together: [`Factories`] maps backend keys to constructors, and
//! [`MosBuilder`] takes parts of your own instead.

mod activation;
pub mod agent;
mod asking;
pub mod backup;
mod builder;
mod byte_search;
mod cubes;
mod database_files;
mod doctor;
mod embed_cache;
pub mod environment;
mod erasures;
mod error;
mod facade;
mod factories;
mod folders;
mod held_files;
pub mod keys;
mod lazy;
mod masking;
pub mod migrate;
mod organizing;
pub mod plugin;
pub mod product;
pub mod prompt;
mod reading;
mod retrieving;
mod scheduling;
mod services;
mod tasks;
pub mod trace;
mod transcript;
mod usage;
mod view;

pub use activation::{ActivationBackend, ActivationParts, KvCaches, ServerPrompts};
pub use builder::MosBuilder;
pub use builder::stores::database_path;
pub use byte_search::{Holding, files_holding};
pub use cubes::{Exported, GitSource, HubSource, Imported, RegisterOptions};
pub use database_files::database_files;
pub use doctor::{Finding, Report};
pub use environment::Environment;
pub use error::{Error, Result};
pub use facade::{
    AccessibleCube, Add, Added, Chat, ChatReply, CubeActivation, CubeCaches, CubeGraph, CubeHandle, CubeHits, CubeKept,
    CubeMemories, CubeShare, CubeSource, Decomposition, DocumentFiles, EraseOptions, Erased, FoundMemory, InShared,
    KeptCache, KeptCaches, KeptItem, KeptState, MAX_SUB_QUESTIONS, MemoryListing, Mos, NewCube, Organize,
    OrganizeModel, PREFERENCE_NOTE, PromotedCache, ReadDocument, ReadDocuments, Remember, Remembered, RewrittenQuery,
    Search, SearchResult, SkippedCube, SubAnswer, UserInfo, default_cube_id, document_files,
};
pub use factories::{
    ActivationMemoryFactory, Backend, ChatModelFactory, EmbedderFactory, Factories, InternetRetrieverFactory,
    MemReaderFactory, MemReaderParts, ModelContext, ParametricMemoryFactory, PreferenceMemoryFactory,
    PreferenceMemoryParts, RerankerFactory, RerankerParts, TextMemoryFactory, TextMemoryParts, UserStoreFactory,
    UserStoreParts, backends, compute_device,
};
pub use folders::{data_dir, models_dir, usage_dir};
pub use mos_config::{self as config, Settings};
pub use mos_core as core;
pub use mos_cube::{Manifest as CubeManifest, MemoryKind};
pub use mos_engine as engine;
pub use mos_engine::{CancelToken, cpu_path};
pub use mos_kv as kv;
pub use mos_memory::organize::{
    Failure as OrganizeFailure, LeftOver, OrganizeOptions, Report as OrganizeReport, Step as OrganizeStep,
};
pub use mos_models::fetch;
pub use mos_scheduler as scheduler;
pub use organizing::OrganizeStatus;
pub use plugin::{Plugin, PluginInfo};
pub use services::check_services;
pub use usage::{TokenSums, Usage, UsageEntry, UsageTotals};
pub use view::{CubeView, ViewWrite};

/// Returns the optional parts of this build.
pub fn features() -> Vec<&'static str> {
    let mut features = vec!["cpu", "sqlite"];
    if cfg!(feature = "postgres") {
        features.push("postgres");
    }
    if cfg!(feature = "rabbitmq") {
        features.push("rabbitmq");
    }
    if cfg!(feature = "cuda") {
        features.push("cuda");
    }
    features
}

/// Refuses a processor that lacks instructions this program was compiled for.
///
/// # Errors
/// What is missing and what to do; anything else would end in an illegal instruction.
pub fn check_cpu() -> std::result::Result<(), String> {
    if cfg!(all(target_arch = "x86_64", target_feature = "avx2")) && cpu_path() == "portable" {
        return Err("this program was compiled for processors with AVX2 and FMA (x86-64-v3), which this one lacks; \
                    build it with RUSTFLAGS=\"-C target-cpu=x86-64\""
            .to_owned());
    }
    Ok(())
}
