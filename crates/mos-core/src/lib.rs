//! What every room of the house agrees on: ids, messages, memory items, errors and traits.
//!
//! Invariant: this crate does no I/O, reads no clock and no environment, and knows no backend. The one
//! exception is [`clock::SystemClock`] and [`id::RandomIds`], which exist to be injected elsewhere.
//!
//! Not here: any implementation of a store or a model, prompts, settings.

pub mod activation;
pub mod analyzer;
pub mod answer;
pub mod archive;
pub mod ask;
pub mod chat;
pub mod clock;
pub mod embed;
pub mod error;
pub mod fetch;
pub mod filter;
pub mod graph;
pub mod id;
pub mod json_repair;
pub mod keys;
pub mod language;
pub mod memory;
pub mod message;
pub mod parametric;
pub mod preference;
pub mod queue;
pub mod queue_archive;
pub mod reader;
pub mod record;
pub mod rerank;
pub mod search;
pub mod state;
pub mod text;
pub mod text_memory;
pub mod tree_memory;
pub mod users;
pub mod validate;
pub mod vector;
pub mod web;

pub use activation::{ActivationMemory, ActivationStats};
pub use analyzer::Analyzer;
pub use archive::{ArchiveBatch, ArchivedMemory, ArchivedReceipt, PastVersion, RecordArchive, UserArchive};
pub use chat::{ChatEvent, ChatModel, ChatRequest, ChatStream, ChatUsage, FinishReason, Sampling, ToolChoice};
pub use clock::{Clock, SystemClock};
pub use embed::{EmbedUse, Embedded, Embedder, EmbeddingSpace};
pub use error::{BoxError, MemoryError, ModelError, ServerWords, StoreError};
pub use fetch::{FetchError, Fetched, Fetcher};
pub use filter::{Condition, Filter, Operator, field_value, is_moment_field, moment};
pub use graph::{Direction, Edge, Graph, GraphPage, GraphStore, GroupCount, Page, Paging, Subgraph, Tagged};
pub use id::{ActivationId, CubeId, IdSource, JobId, KeyId, MemoryId, RandomIds, SessionId, UserId};
pub use keys::{ApiKey, KeyHash, KeyScope, KeyStore};
pub use memory::{MemoryItem, MemoryType, Metadata, MetadataForm, PreferenceType, Status};
pub use message::{Content, Message, Part, Role};
pub use parametric::ParametricMemory;
pub use preference::{ConversationInfo, PreferenceMemory};
pub use queue::{
    ClaimRequest, Claimed, DeadJob, Failed, Job, JobQueue, JobState, NewJob, PushReceipt, QueueStats, Ticket, Weights,
};
pub use queue_archive::{ArchivedJob, Death, FinishedJob, JobPlace, QueueArchive};
pub use reader::{
    Dropped, FileData, FileVersion, ItemReport, MemReader, Outcome, RawFile, RawItem, ReadInput, ReadMode, ReadReport,
    Reading, Sources,
};
pub use record::{
    Change, ChangedFields, EmbeddingWrite, FieldsOf, News, Origin, Receipt, RecordStore, Scope, ScopeLifecycle,
    Version, WriteBatch,
};
pub use rerank::{Ranked, Ranking, RerankCandidate, RerankQuery, Reranker};
pub use search::{Duplicates, Found, Hit, KindLimits, QueryPath, Reranked, SearchMode, SearchRequest, Signal};
pub use state::{ArchivedLog, Document, Expected, LogEntry, StateArchive, StateStore};
pub use text_memory::{AddRequest, TextMemory};
pub use tree_memory::{BackUp, FoundBy, RelevantSubgraph, SubgraphRequest, TreeMemory};
pub use users::{Access, Cube, Standing, User, UserRole, UserStore};
pub use validate::{FieldError, ValidationError};
pub use vector::{Scored, VectorPoint, VectorStore};
pub use web::{InternetRetriever, WebPage};
