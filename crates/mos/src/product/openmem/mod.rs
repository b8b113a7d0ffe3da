//! What the published SDK of MemOS asks for besides what the product API has: the messages of a conversation, changes of one
//! memory, reading without storing, ranking of documents, knowledge bases and profiles.
//!
//! A knowledge base is a cube of its own that files are read into. It belongs to a user; whoever may use the cube may use the
//! knowledge base.

mod extract;
mod knowledge_bases;
mod knowledge_files;
mod messages;
mod profiles;
mod rerank;
mod update;
mod with_knowledge;

pub use extract::{ExtractMemoryRequest, Extracted};
pub use knowledge_bases::{CreateKnowledgeBaseRequest, KnowledgeBase};
pub use knowledge_files::{GetKnowledgeFilesRequest, KnowledgeFile, KnowledgeFiles};
pub use messages::GetMessagesRequest;
pub use profiles::{DeleteProfileRequest, EditProfileRequest};
pub use rerank::RerankRequest;
pub use update::UpdateMemoryRequest;
