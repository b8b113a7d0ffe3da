//! Chats: who speaks, what is recalled, which model answers, and what is remembered.

use std::fmt;

use mos_core::{CubeId, SessionId, UserId};
use serde_json::Value;

use super::super::app::Product;
use super::super::caller::{Identity, Scope};
use super::super::chat::{Turn, configured_sampling};
use super::super::error::ProductResult;
use super::super::pieces;
use super::answer::{Head, explained};
use super::context::{About, CompletionContext, MemoryUse};
use super::error::{OpenAiError, OpenAiResult};
use super::models::NamedModel;
use super::request::Asked;
use super::stream::{CompletionStream, Telling};
use crate::facade::{Chat, ChatReply};

/// An answer in OpenAI's shape.
pub enum ChatCompletion {
    /// As a whole: a `chat.completion`.
    Whole(Value),
    /// In pieces, for requests with `stream`.
    Stream(CompletionStream),
}

impl fmt::Debug for ChatCompletion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole(_) => "Whole",
            Self::Stream(_) => "Stream",
        })
    }
}

/// An answer on its way, and what belongs to it.
pub(super) struct Answering {
    pub(super) reply: ChatReply,
    pub(super) head: Head,
    /// What is told of how memory took part, where it is.
    pub(super) explained: Option<Value>,
    pub(super) turn: Turn,
}

impl Product {
    /// Answers a conversation in OpenAI's shape. Memories that fit its last question are put into it, and the question and the
    /// answer are remembered once that is whole, as `add` does in fast mode.
    ///
    /// # Errors
    /// [`OpenAiError`]: 503 where chats are not answered, 404 for a model that is not configured, 403 without rights, 400 for
    /// values that cannot be used, and what the search and the model meet before the first word. What the model meets later is
    /// the last event of a stream.
    pub async fn chat_completion(&self, body: &Value, context: CompletionContext) -> OpenAiResult<ChatCompletion> {
        self.check_chats()?;
        self.caller.check(Scope::Read)?;
        let asked = Asked::read(body, context)?;
        let (is_streamed, includes_usage) = (asked.is_streamed, asked.includes_usage);
        let answering = self.answering(asked).await?;
        if is_streamed {
            return Ok(ChatCompletion::Stream(Telling::new(self.clone(), answering, includes_usage).stream()));
        }
        let Answering { reply, head, explained, turn } = answering;
        let (answer, usage) = reply.complete().await?;
        let (reasoning, answer) = pieces::split(&answer);
        let whole = head.whole(&answer, reasoning.as_deref(), &usage, explained);
        if usage.tool_calls.is_empty() {
            self.keep_completion(turn, &answer);
        }
        Ok(ChatCompletion::Whole(whole))
    }

    /// Checks a request and has a model begin with its answer.
    async fn answering(&self, mut asked: Asked) -> OpenAiResult<Answering> {
        if asked.about.cubes.is_none() {
            asked.about.cubes = self.caller.only_cube().map(|cube| vec![cube.to_string()]);
        }
        let NamedModel { name, model, config } = self.named_model(&asked.model)?;
        if model.is_local() {
            asked.check_local(&name)?;
        }
        let mut notes = Vec::new();
        let question = asked.question();
        let user = self.payer(&asked.about)?;
        self.mos().ensure_user(&user).await?;
        let session = session_of(&asked.about)?;
        // Without a question there is nothing to look for, and nothing to remember.
        let about = if question.trim().is_empty() {
            About { memory: MemoryUse::Off, ..asked.about.clone() }
        } else {
            asked.about.clone()
        };
        let kept_in = self.kept_in_first(&about, &user, &mut notes).await?;
        let readable = self.recalled_from(&about, &user).await?;
        let mut chat = Chat::new(question.as_str())
            .user(user.clone())
            .cubes(readable)
            .include_preference(about.memory.recalls())
            .pro(false)
            .model(model)
            .conversation(asked.messages)
            .answer_schema(asked.answer_schema)
            .tools(asked.tools, asked.tool_choice);
        if let Some(sampling) = asked.sampling.over(configured_sampling(&config)) {
            chat = chat.sampling(sampling);
        }
        if let Some(session) = &session {
            let preferred = session.clone();
            chat = chat.session(session.clone()).searching(|search| search.prefer_session(preferred));
        }
        let parts = &self.mos().parts;
        let (created, asked_at) = (parts.clock.now().as_second(), parts.clock.now_text());
        let id = format!("chatcmpl-{}", parts.ids.next_uuid().replace('-', ""));
        let reply = self.mos().chat(chat).await?;
        let explained = about.explains.then(|| explained(&reply, &notes));
        let turn = Turn { user, query: question, session, asked_at, cubes: kept_in };
        Ok(Answering { reply, head: Head { id, created, model: name }, explained, turn })
    }

    /// Who speaks, and on whose account it is: the user of the key, or the one that a program names. Without memory a program
    /// needs to name none.
    pub(super) fn payer(&self, about: &About) -> OpenAiResult<UserId> {
        let named = match &self.caller.identity {
            Identity::User(own) => about.named_user.as_deref().unwrap_or(own.as_str()),
            Identity::Program => {
                let named = about.named_user.as_deref().or(about.user.as_deref());
                let of_settings = self.mos().settings().user_id.as_str();
                match named {
                    Some(named) => named,
                    None if about.memory == MemoryUse::Off => of_settings,
                    None => {
                        let message = "say whose memories are meant: in the field `user`, in the header `X-Mos-User`, or by a \
                                       key of that user; or turn memory off with `X-Mos-Memory: off`";
                        return Err(OpenAiError::field("user", message));
                    }
                }
            }
        };
        Ok(self.user(named)?)
    }

    /// The cubes whose memories are recalled.
    async fn recalled_from(&self, about: &About, user: &UserId) -> OpenAiResult<Vec<CubeId>> {
        if !about.memory.recalls() {
            return Ok(Vec::new());
        }
        Ok(self.to_read(user.as_str(), about.cubes.as_deref()).await?.1)
    }

    /// The cube in which the turn is remembered: the first one that is named. Whoever may not write there has the answer
    /// without it, and a note, unless the request insists.
    async fn kept_in_first(&self, about: &About, user: &UserId, notes: &mut Vec<String>) -> OpenAiResult<Vec<CubeId>> {
        if !about.memory.remembers() {
            return Ok(Vec::new());
        }
        let first = about.cubes.as_ref().and_then(|cubes| cubes.first()).map(std::slice::from_ref);
        match self.writable(user, first).await {
            Ok(cubes) => Ok(cubes),
            Err(error) if error.status == 403 && about.memory == MemoryUse::Usual => {
                notes.push(format!("the turn is not remembered: {}", error.message));
                Ok(Vec::new())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn writable(&self, user: &UserId, cubes: Option<&[String]>) -> ProductResult<Vec<CubeId>> {
        let (user, cubes) = self.to_write(user.as_str(), cubes).await?;
        self.check_all(&user, &cubes).await?;
        Ok(cubes)
    }

    /// Remembers a turn whose answer says something.
    pub(super) fn keep_completion(&self, turn: Turn, answer: &str) {
        if !answer.trim().is_empty() {
            self.keep_turn(turn, answer);
        }
    }
}

fn session_of(about: &About) -> OpenAiResult<Option<SessionId>> {
    Ok(about.session.as_deref().map(SessionId::parse).transpose()?)
}
