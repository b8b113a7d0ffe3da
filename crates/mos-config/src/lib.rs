//! Settings as plain data: files and environment in, typed structures out.
//!
//! [`Settings`] is a superset of MemOS' `MOSConfig`, so that MemOS' files load as they are; [`GeneralMemCubeConfig`]
//! is the `config.json` of a memory cube. Every backend's configuration parses in every build, whether or not the
//! build can open it: what can be opened is decided where constructors are known.
//!
//! Invariants: an unknown key, a wrong type or an unknown backend is an error that names the full path, where the
//! value came from and what is allowed; secrets are masked wherever they are not asked for by name.
//!
//! Not here: opening anything, reading clocks, minting ids (absent ids stay `None`).

#[macro_use]
mod macros;

pub mod agent;
mod automatic;
mod backends;
pub mod budget;
pub mod cube;
mod device;
pub mod embedder;
mod error;
pub mod fetch;
mod layers;
pub mod llm;
mod markdown;
pub mod memory;
pub mod plugins;
mod read;
pub mod reader;
pub mod reading;
pub mod recall;
mod references;
pub mod retrieval;
pub mod scheduler;
mod schema;
mod secret;
pub mod server;
mod settings;
pub mod store;
mod variables;
mod words;

pub use agent::{MemAgentConfig, MemChatConfig};
pub use automatic::{AUTOMATIC_VARIABLES, AutomaticVariable, FromEnvironment, Purpose, from_environment};
pub use backends::{BackendKind, backends};
pub use budget::BudgetConfig;
pub use cube::GeneralMemCubeConfig;
pub use device::{Device, UnknownDevice};
pub use embedder::EmbedderConfig;
pub use error::{ConfigError, Problem};
pub use fetch::FetchConfig;
pub use layers::load_file;
pub use llm::ChatModelConfig;
pub use markdown::settings_markdown;
pub use memory::MemoryConfig;
pub use plugins::PluginsConfig;
pub use read::{Fields, Reader, Setting};
pub use reader::{ChunkerConfig, MemReaderConfig, ParserConfig};
pub use reading::ReadingConfig;
pub use recall::{RecallConfig, RecallWeights};
pub use retrieval::{InternetRetrieverConfig, RerankerConfig};
pub use scheduler::SchedulerConfig;
pub use schema::{Definitions, cube_schema, settings_schema};
pub use secret::{Free, Headers, OneOrMany, Secret, Secrets};
pub use server::{OpentelemetryConfig, RateLimitConfig, ServerConfig};
pub use settings::{Loaded, Settings, process_environment};
pub use store::{GraphStoreConfig, QueueConfig, StoreConfig, UserManagerConfig, VectorStoreConfig};
pub use variables::{VARIABLES, Variable, VariableUse};
