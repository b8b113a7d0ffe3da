//! MemOS' product API as plain functions: requests, answers and what happens in between.
//!
//! An [`App`] is a facade with this API on top, an in-process SaaS backend. [`App::product`] gives the operations to a
//! trusted program, [`App::product_as`] to a [`Caller`] whose rights are checked in every one of them. A server maps them
//! to HTTP and adds nothing of its own:
//!
//! ```no_run
//! use mos::product::{AddRequest, App, SearchRequest};
//! # async fn run() -> Result<(), mos::product::ProductError> {
//! let app = App::from_env().await?;
//! let product = app.product();
//! let add = AddRequest { messages: Some(serde_json::json!("We meet on Friday")), ..AddRequest::new("ann".to_owned()) };
//! product.add(add).await?;
//! let found = product.search(SearchRequest::new("When do we meet?".to_owned(), "ann".to_owned())).await?;
//! println!("{}", serde_json::json!(found));
//! # Ok(())
//! # }
//! ```
//!
//! As in MemOS users need no registration: a user and the cube of its name are made when something is first written there.
//! Unlike in MemOS a cube belongs to the user who was the first to write to it; others need a share.

#[macro_use]
mod read;

mod add;
mod app;
mod caller;
mod chat;
mod chat_requests;
mod chat_stream;
mod cubes;
mod dashboard;
mod delete;
mod dream;
mod error;
mod feedback;
mod filters;
mod frames;
mod hits;
mod listing;
mod memories;
mod memory_by_id;
mod openai;
mod openmem;
mod pieces;
mod playground;
mod reach;
mod records;
mod reply;
mod scheduler;
mod search;
mod shared_types;
mod suggestions;
mod targets;
mod tree_structure;
mod wait;

pub use add::{AddMode, AddRequest};
pub use app::{App, Product, ProductOptions};
pub use caller::{Caller, Identity, Scope};
pub use chat::ChatCompleted;
pub use chat_requests::{ChatBusinessRequest, ChatCompleteRequest, ChatPlaygroundRequest, ChatRequest};
pub use cubes::{CreateCubeRequest, ExistMemCubeIdRequest, GetUserNamesByMemoryIdsRequest, RegisterCubeRequest};
pub use dashboard::{MemoryDashboard, MemoryStatistics};
pub use delete::{DeleteMemoryRequest, Deletion, DeletionStatus};
pub use dream::{Diary, DiaryFilter, DiaryQueryRequest, DreamHealth, DreamTriggerRequest, DreamTriggered};
pub use error::{ProductError, ProductResult};
pub use feedback::FeedbackRequest;
pub use frames::{Frame, FrameStream};
pub use listing::{GetMemoryDashboardRequest, GetMemoryRequest, MemoryList, MemoryLists};
pub use memories::{DrawnBy, DrawnCube, DrawnMemories, DrawnMemory, GetMemoryPlaygroundRequest};
pub use memory_by_id::MemoriesById;
pub use openai::{ChatCompletion, CompletionContext, CompletionEvent, CompletionStream, OpenAiError, OpenAiResult};
pub use openmem::{
    CreateKnowledgeBaseRequest, DeleteProfileRequest, EditProfileRequest, ExtractMemoryRequest, Extracted,
    GetKnowledgeFilesRequest, GetMessagesRequest, KnowledgeBase, KnowledgeFile, KnowledgeFiles, RerankRequest,
    UpdateMemoryRequest,
};
pub use pieces::split as split_reasoning;
pub use read::{Field, Issue, Request, RequestFields};
pub use records::{DeleteMemoryByRecordIdRequest, RecoverMemoryByRecordIdRequest};
pub use reply::Reply;
pub use scheduler::{AllStatus, SchedulerStatusRequest, TaskQueue, TaskQueueRequest, TaskState, TaskSummary};
pub use search::{Dedup, SearchRequest};
pub use shared_types::{AsyncMode, SearchMode};
pub use suggestions::{SuggestionLanguage, SuggestionRequest, Suggestions};
pub use wait::{SchedulerWaitRequest, WaitFrame, WaitStream, Waited};
