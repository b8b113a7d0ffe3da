//! What hooks are given, and what they may answer.

use std::fmt;

use mos_core::{Content, CubeId, MemoryId, MemoryItem, Message, Part, RawItem, SearchRequest, SessionId, UserId};

use crate::facade::FoundMemory;

/// Why a hook did not return what it was to return.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HookError {
    /// On purpose: the operation fails with this reason, which the caller is shown.
    #[error("{0}")]
    Refuse(String),
    /// Something went wrong in the plugin: the operation goes on without the hook, and this reason is in the log. It should
    /// quote nothing of memories.
    #[error("{0}")]
    Failed(String),
}

impl HookError {
    /// The operation is not to be done.
    pub fn refuse(reason: impl fmt::Display) -> Self {
        Self::Refuse(reason.to_string())
    }

    /// The hook could not do its work.
    pub fn failed(reason: impl fmt::Display) -> Self {
        Self::Failed(reason.to_string())
    }
}

/// What a hook returns.
pub type HookResult<T> = std::result::Result<T, HookError>;

/// For whom and where an operation is done. Rights were checked before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookContext {
    /// Whose operation it is.
    pub user: UserId,
    /// The cubes: the one that is written to, those that are searched; of a chat those that were named.
    pub cubes: Vec<CubeId>,
    /// The conversation, when one was named.
    pub session: Option<SessionId>,
}

impl HookContext {
    pub(crate) fn new(user: &UserId, cubes: impl IntoIterator<Item = CubeId>, session: Option<&SessionId>) -> Self {
        Self { user: user.clone(), cubes: cubes.into_iter().collect(), session: session.cloned() }
    }
}

/// What is to be added.
#[derive(Clone, Debug, PartialEq)]
pub enum AddContent {
    /// One memory of this text.
    Text(String),
    /// One memory per message that is not of the system.
    Messages(Vec<Message>),
}

impl AddContent {
    /// Replaces every text by what `change` returns for it.
    pub fn change_texts(&mut self, change: impl Fn(&str) -> String) {
        match self {
            Self::Text(text) => *text = change(text),
            Self::Messages(messages) => messages.iter_mut().for_each(|message| change_texts(message, &change)),
        }
    }
}

/// Replaces every text of a message by what `change` returns for it; images and files stay.
pub fn change_texts(message: &mut Message, change: impl Fn(&str) -> String) {
    match &mut message.content {
        None => {}
        Some(Content::Text(text)) => *text = change(text),
        Some(Content::Parts(parts)) => {
            for part in parts {
                if let Part::Text { text, .. } = part {
                    *text = change(text);
                }
            }
        }
    }
}

/// Replaces every text of raw input by what `change` returns for it: texts and messages. What is in files and in other parts
/// is read later: see [`Plugin::before_store`](super::Plugin::before_store).
pub fn change_raw_texts(items: &mut [RawItem], change: impl Fn(&str) -> String) {
    for item in items {
        match item {
            RawItem::Text(text) => *text = change(text),
            RawItem::Message(message) => change_texts(message, &change),
            _ => {}
        }
    }
}

/// Memories that were added.
#[derive(Clone, Debug, PartialEq)]
pub struct AddedMemories {
    /// The ids under which they are known, in order; a tree knows some memories already.
    pub ids: Vec<MemoryId>,
    /// What was to be stored, in the same order.
    pub items: Vec<MemoryItem>,
}

/// A search that is about to begin.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchHook {
    /// The question, the filter, how many memories there may be for each cube, and how they are looked for. That only memories
    /// of one conversation are wanted is added to the filter afterwards.
    pub request: SearchRequest,
    /// The most preferences of each type.
    pub pref_top_k: usize,
}

/// A chat that is about to begin.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatHook {
    /// What the user says. What is changed is changed everywhere: in what is searched, kept and sent to the model.
    pub query: String,
    /// The instructions for the model; `None`: those of the settings.
    pub base_prompt: Option<String>,
}

/// What is to be told to a model of the memories.
#[derive(Clone, Debug)]
pub struct ContextHook {
    /// What the user says.
    pub query: String,
    /// The memories, best first, with their cubes; without those that the conversation begins with.
    pub memories: Vec<(CubeId, FoundMemory)>,
}

/// A chat that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnsweredChat {
    /// What the user said.
    pub query: String,
    /// The whole answer.
    pub answer: String,
    /// The memories that were found for it, best first.
    pub memories: Vec<MemoryId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_changed_and_nothing_else() {
        let shout = |text: &str| text.to_uppercase();
        let picture = Message::user_with_images("look", ["https://example.org/a.png"]);
        let mut content = AddContent::Messages(vec![Message::user("hi"), picture.clone()]);
        content.change_texts(shout);
        let AddContent::Messages(messages) = content else { panic!("messages stay messages") };
        assert_eq!((messages[0].text(), messages[1].text()), ("HI".to_owned(), "LOOK".to_owned()));
        let part = |message: &Message| match &message.content {
            Some(Content::Parts(parts)) => parts[1].clone(),
            _ => panic!("a message with an image has parts"),
        };
        assert_eq!(part(&messages[1]), part(&picture));
        let mut raw = [RawItem::Text("a".to_owned()), RawItem::Message(Message::user("b"))];
        change_raw_texts(&mut raw, shout);
        assert_eq!(raw, [RawItem::Text("A".to_owned()), RawItem::Message(Message::user("B"))]);
    }
}
