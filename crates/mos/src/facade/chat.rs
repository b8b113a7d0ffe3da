//! Chat with memory.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{Stream, StreamExt};
use mos_core::{
    ActivationId, ChatEvent, ChatModel, ChatRequest, ChatStream, ChatUsage, CubeId, Message, ModelError, Sampling,
    SessionId, UserId,
};
use tracing::instrument;

use super::{FoundMemory, Mos, Search, SkippedCube};
use crate::error::{Error, Result};
use crate::prompt;
use crate::transcript::Trim;

/// A question to answer.
#[derive(Clone, Debug)]
pub struct Chat {
    user: Option<UserId>,
    session: Option<SessionId>,
    cubes: Option<Vec<CubeId>>,
    query: String,
    base_prompt: Option<String>,
    sampling: Option<Sampling>,
    remember: bool,
    no_cache: bool,
}

impl Chat {
    /// A question, or anything else the user says.
    pub fn new(query: impl Into<String>) -> Self {
        Self {
            user: None,
            session: None,
            cubes: None,
            query: query.into(),
            base_prompt: None,
            sampling: None,
            remember: false,
            no_cache: false,
        }
    }

    /// Who speaks; without this the settings' user.
    #[must_use]
    pub fn user(mut self, user: impl Into<UserId>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// The conversation; without this the user's own one.
    #[must_use]
    pub fn session(mut self, session: impl Into<SessionId>) -> Self {
        self.session = Some(session.into());
        self
    }

    /// Only memories of these cubes; without this every registered cube of the user.
    #[must_use]
    pub fn cubes(mut self, cubes: impl IntoIterator<Item = CubeId>) -> Self {
        self.cubes = Some(cubes.into_iter().collect());
        self
    }

    /// Instructions for the model; `{memories}` marks where the memories go (remote models). Without this the
    /// settings' base prompt.
    #[must_use]
    pub fn base_prompt(mut self, base_prompt: impl Into<String>) -> Self {
        self.base_prompt = Some(base_prompt.into());
        self
    }

    /// How tokens are chosen; without this as the model is configured.
    #[must_use]
    pub fn sampling(mut self, sampling: Sampling) -> Self {
        self.sampling = Some(sampling);
        self
    }

    /// Stores what the user tells in the first cube of the chat, before the answer starts. Questions and single words
    /// are not stored.
    #[must_use]
    pub fn remember(mut self, remember: bool) -> Self {
        self.remember = remember;
        self
    }

    /// Computes the whole prompt anew, as if nothing had been kept (for measurements).
    #[must_use]
    pub fn no_cache(mut self, no_cache: bool) -> Self {
        self.no_cache = no_cache;
        self
    }
}

/// An answer as it is being made, and what it was made from. Dropping it cancels the generation; the turn then does
/// not enter the history.
pub struct ChatReply {
    /// The memories that stand in the prompt, best first.
    pub memories: Vec<(CubeId, FoundMemory)>,
    /// Cubes that could not be searched.
    pub skipped: Vec<SkippedCube>,
    /// The activation memory that stands before the conversation, in order.
    pub activation: Vec<ActivationId>,
    stream: ChatStream,
    text: String,
    finish: Option<FinishTurn>,
}

type FinishTurn = Box<dyn FnOnce(&str) + Send>;

impl std::fmt::Debug for ChatReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatReply").field("n_memories", &self.memories.len()).finish_non_exhaustive()
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

impl Mos {
    /// Answers with the help of the user's memories, token by token.
    ///
    /// # Errors
    /// Rights; [`Error::Invalid`] for an empty question or one that is too long for the model; store and model errors.
    #[instrument(skip_all, fields(n_memories), err(level = "debug"))]
    pub async fn chat(&self, chat: Chat) -> Result<ChatReply> {
        if chat.query.trim().is_empty() {
            return Err(Error::Invalid("the question is empty; say something".to_owned()));
        }
        let user = self.user_or_default(chat.user.as_ref());
        let (memories, skipped) = self.recall(&user, &chat).await?;
        if chat.remember && prompt::tells_something(&chat.query) {
            self.remember(&user, &chat).await?;
        }
        let (model, activation) = self.answering_model(&user, chat.cubes.as_deref()).await?;
        let (stream, question) = self.start(&user, &chat, model.as_ref(), &memories).await?;
        tracing::Span::current().record("n_memories", memories.len());
        let (this, session, is_local) = (self.clone(), chat.session, model.is_local());
        let finish: FinishTurn = Box::new(move |answer| {
            let trim = if is_local { Trim::OlderHalf } else { Trim::OldestTurn };
            let max_turns = this.parts.settings.max_turns_window;
            let answer = Message::assistant(answer);
            this.parts.transcripts.push(&user, session.as_ref(), question, answer, max_turns, trim);
        });
        Ok(ChatReply { memories, skipped, activation, stream, text: String::new(), finish: Some(finish) })
    }

    /// Forgets what a user said in chats; memories stay.
    ///
    /// # Errors
    /// [`Error::UnknownUser`].
    pub async fn clear_messages(&self, user: &UserId) -> Result<()> {
        self.checked_user(user).await?;
        self.parts.transcripts.clear(user);
        Ok(())
    }

    /// Returns what was said in a user's chat, as it was sent to the model, oldest first.
    ///
    /// # Errors
    /// [`Error::UnknownUser`].
    pub async fn chat_history(&self, user: &UserId, session: Option<&SessionId>) -> Result<Vec<Message>> {
        self.checked_user(user).await?;
        Ok(self.parts.transcripts.get(user, session))
    }

    async fn recall(&self, user: &UserId, chat: &Chat) -> Result<(Vec<(CubeId, FoundMemory)>, Vec<SkippedCube>)> {
        if !self.parts.settings.enable_textual_memory {
            self.checked_user(user).await?;
            return Ok((Vec::new(), Vec::new()));
        }
        let mut search = Search::new(chat.query.as_str()).user(user.clone()).include_preference(false);
        if let Some(cubes) = &chat.cubes {
            search = search.cubes(cubes.iter().cloned());
        }
        let found = self.search(search).await?;
        let best = found.best();
        let least = best.first().map_or(0.0, |(_, first)| first.score * prompt::MIN_RELATIVE_SCORE);
        let kept = best.into_iter().take(self.parts.settings.top_k).filter(|(_, memory)| memory.score >= least);
        let kept = kept.map(|(cube, memory)| (cube.clone(), memory.clone())).collect();
        Ok((kept, found.skipped))
    }

    async fn remember(&self, user: &UserId, chat: &Chat) -> Result<()> {
        let mut add = super::Add::messages(vec![Message::user(chat.query.as_str())]).user(user.clone());
        if let Some(cube) = chat.cubes.as_ref().and_then(|cubes| cubes.first()) {
            add = add.cube(cube.clone());
        }
        if let Some(session) = &chat.session {
            add = add.session(session.clone());
        }
        self.add(add).await.map(drop)
    }

    /// The request, and the question as it is sent (which is what the history keeps).
    fn request(
        &self,
        chat: &Chat,
        user: &UserId,
        model: &dyn ChatModel,
        memories: &[(CubeId, FoundMemory)],
        earlier: &[Message],
    ) -> (ChatRequest, Message) {
        let base = chat.base_prompt.as_deref().or(self.parts.settings.base_prompt.as_deref());
        let items = memories.iter().map(|(_, found)| &found.item);
        let messages = if model.is_local() {
            prompt::local(base, earlier, &prompt::dashed(items), &chat.query)
        } else {
            prompt::remote(base, earlier, &prompt::numbered(items), &chat.query)
        };
        let question = messages.last().cloned().unwrap_or_else(|| Message::user(chat.query.as_str()));
        let request = ChatRequest {
            messages,
            sampling: chat.sampling.clone(),
            prefix: None,
            stable_messages: 1,
            no_cache: chat.no_cache,
            cache_scope: user.to_string(),
        };
        (request, question)
    }

    /// Starts the answer; a conversation that outgrew the model's context forgets its older half, as often as it
    /// takes. When the question does not fit even alone, nothing is forgotten.
    async fn start(
        &self,
        user: &UserId,
        chat: &Chat,
        model: &dyn ChatModel,
        memories: &[(CubeId, FoundMemory)],
    ) -> Result<(ChatStream, Message)> {
        let session = chat.session.as_ref();
        let mut earlier = self.parts.transcripts.get(user, session);
        let mut n_forgotten = 0;
        loop {
            let (request, question) = self.request(chat, user, model, memories, &earlier);
            match model.stream(request).await {
                Ok(stream) => {
                    self.parts.transcripts.forget_oldest(user, session, n_forgotten);
                    return Ok((stream, question));
                }
                Err(ModelError::TooLong { .. }) if !earlier.is_empty() => {
                    let n_older = (earlier.len() / 2).div_ceil(2) * 2;
                    n_forgotten += n_older;
                    earlier.drain(..n_older);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
