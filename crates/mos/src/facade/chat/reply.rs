//! An answer as it is being made.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{Stream, StreamExt};
use mos_core::{ActivationId, ChatEvent, ChatStream, ChatUsage, CubeId, ModelError};

use super::super::pro::SubAnswer;
use super::super::{FoundMemory, SkippedCube};
use crate::error::Result;

/// An answer as it is being made, and what it was made from. Dropping it cancels the generation; the turn then does
/// not enter the history.
pub struct ChatReply {
    /// The memories that stand in the prompt, best first.
    pub memories: Vec<(CubeId, FoundMemory)>,
    /// The preferences that stand in the prompt: of each cube the stated ones first, each best first.
    pub preferences: Vec<(CubeId, FoundMemory)>,
    /// Cubes that could not be searched.
    pub skipped: Vec<SkippedCube>,
    /// What the search for memories could not do, and why nothing was found, with the cube.
    pub notes: Vec<(CubeId, String)>,
    /// The parts of a question that was split, with their answers, in order.
    pub sub_answers: Vec<SubAnswer>,
    /// Why a question was not split although it was to be looked at for that.
    pub pro_note: Option<String>,
    /// The activation memory that stands before the conversation, in order.
    pub activation: Vec<ActivationId>,
    pub(super) stream: ChatStream,
    pub(super) text: String,
    pub(super) finish: Option<FinishTurn>,
}

pub(super) type FinishTurn = Box<dyn FnOnce(&str) + Send>;

impl std::fmt::Debug for ChatReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatReply")
            .field("n_memories", &self.memories.len())
            .field("n_preferences", &self.preferences.len())
            .finish_non_exhaustive()
    }
}

impl Stream for ChatReply {
    type Item = std::result::Result<ChatEvent, ModelError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.stream.poll_next_unpin(context);
        match &next {
            Poll::Ready(Some(Ok(ChatEvent::Text(more)))) => self.text.push_str(more),
            Poll::Ready(Some(Ok(ChatEvent::Done(_)))) => {
                let text = std::mem::take(&mut self.text);
                if let Some(finish) = self.finish.take() {
                    finish(&text);
                }
            }
            _ => {}
        }
        next
    }
}

impl ChatReply {
    /// Returns the whole answer.
    ///
    /// # Errors
    /// Any error of the model; a part of an answer is never returned as a whole.
    pub async fn complete(mut self) -> Result<(String, ChatUsage)> {
        let mut answer = String::new();
        while let Some(event) = self.next().await {
            match event? {
                ChatEvent::Text(more) => answer.push_str(&more),
                ChatEvent::Done(usage) => return Ok((answer, usage)),
            }
        }
        Err(ModelError::BadAnswer("the answer broke off before its end; try again".to_owned()).into())
    }
}
