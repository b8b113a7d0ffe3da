//! What takes part in searches beside recall.

use std::sync::Arc;

use mos_core::{ChatModel, Reranker};

use crate::web::WebSearch;

/// The models and services that a cube's searches may use; each of them may be missing.
#[derive(Clone, Debug, Default)]
pub struct Retrieval {
    /// Says what a question is after, splits it, and judges what was found, where a search asks for that.
    pub model: Option<Arc<dyn ChatModel>>,
    /// Orders what was found.
    pub reranker: Option<Arc<dyn Reranker>>,
    /// Searches the internet.
    pub web: Option<WebSearch>,
    /// Whether hard questions are split into easier ones although the search does not ask for that.
    pub splits_questions: bool,
}
