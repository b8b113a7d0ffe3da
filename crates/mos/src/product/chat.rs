//! Chats: what each of them is checked for and asked, and the answer as a whole.

use std::sync::Arc;
use std::time::Duration;

use mos_config::{ChatModelConfig, Secrets, Setting};
use mos_core::{ChatModel, CubeId, MemoryError, Message, ReadInput, ReadMode, Sampling, SearchMode, SessionId, UserId};
use serde::Serialize;
use serde_json::Value;

use super::app::Product;
use super::caller::Scope;
use super::chat_requests::{Asked, ChatCompleteRequest};
use super::error::{ProductError, ProductResult};
use super::filters::{PerCubeFilter, read_filter};
use super::pieces;
use super::read::RequestFields;
use super::reply::Reply;
use crate::error::Error;
use crate::facade::{Chat, Remember};

/// How many messages of a history are used, the last ones.
const MAX_HISTORY: usize = 20;

/// The most memories of a cube that a chat may ask for.
const MAX_TOP_K: usize = 100;

/// How often it is tried to remember a turn.
const ATTEMPTS: u32 = 3;

/// An answer as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ChatCompleted {
    /// The answer.
    pub response: String,
    /// What the model thought before, when it told.
    pub reasoning: Option<String>,
}

/// A chat that was checked.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) chat: Chat,
    pub(super) turn: Turn,
    /// The model that answers, when it is not that of the settings.
    pub(super) model: Option<Arc<dyn ChatModel>>,
    pub(super) system_prompt: Option<String>,
    pub(super) include_preference: bool,
    pub(super) internet_search: bool,
}

/// What is remembered of a chat.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    pub(super) user: UserId,
    pub(super) query: String,
    pub(super) session: Option<SessionId>,
    pub(super) asked_at: String,
    /// Where; empty when nothing is remembered.
    pub(super) cubes: Vec<CubeId>,
}

impl Product {
    /// Answers a question with the memories of cubes, as a whole.
    ///
    /// # Errors
    /// [`ProductError`]: 503 where chats are not answered, 403 without rights, 400 for values that cannot be used, and what the
    /// search and the model meet.
    pub async fn chat_complete(&self, request: ChatCompleteRequest) -> ProductResult<Reply<ChatCompleted>> {
        let Prepared { chat, turn, .. } = self.prepared(request.into()).await?;
        let reply = self.mos().chat(chat).await.map_err(told)?;
        let (answer, _) = reply.complete().await.map_err(told)?;
        let (reasoning, response) = pieces::split(&answer);
        self.keep_turn(turn, &response);
        Ok(Reply::new("Chat completed successfully", ChatCompleted { response, reasoning }))
    }

    /// Checks what a chat asks, and whether its caller may.
    pub(super) async fn prepared(&self, asked: Asked) -> ProductResult<Prepared> {
        self.check_chats()?;
        self.caller.check(Scope::Read)?;
        check_numbers(&asked)?;
        let history = asked.history.as_deref().map(history).transpose()?;
        let session = asked.session_id.as_deref().filter(|id| !id.is_empty()).map(SessionId::parse).transpose()?;
        let (model, config) = self.chat_model_of(asked.model.as_deref())?;
        let user = self.user(&asked.user_id)?;
        self.mos().ensure_user(&user).await?;
        let is_kept = asked.add_message_on_answer && self.caller.scopes.contains(&Scope::Write);
        let cubes = if is_kept { self.kept_in(&asked).await? } else { Vec::new() };
        let (user, readable) = self.to_read(&asked.user_id, asked.readable.as_deref()).await?;
        let filter = read_filter(asked.filter.as_ref(), &self.named(&user, asked.readable.as_deref())?)?;
        let mut chat = Chat::new(asked.query.as_str())
            .user(user.clone())
            .cubes(readable)
            .include_preference(asked.include_preference)
            .pref_top_k(asked.pref_top_k.min(MAX_TOP_K))
            .threshold(asked.threshold as f32);
        chat = searching(chat, &asked, &filter, session.as_ref());
        if let Some(sampling) = sampling(&config, &asked) {
            chat = chat.sampling(sampling);
        }
        if let Some(prompt) = &asked.system_prompt {
            chat = chat.base_prompt(prompt.as_str());
        }
        if let Some(model) = &model {
            chat = chat.model(Arc::clone(model));
        }
        // What was said elsewhere may tell of cubes that this caller may not use.
        let is_remembered = session.is_some() && self.caller.cubes.is_none();
        chat = match (history, &session) {
            (Some(history), _) => chat.history(history),
            (None, _) if !is_remembered => chat.history([]),
            (None, _) => chat,
        };
        if let Some(session) = &session {
            chat = chat.session(session.clone());
        }
        let asked_at = self.mos().parts.clock.now_text();
        Ok(Prepared {
            chat,
            turn: Turn { user, query: asked.query, session, asked_at, cubes },
            model,
            system_prompt: asked.system_prompt,
            include_preference: asked.include_preference,
            internet_search: asked.internet_search,
        })
    }

    /// The cubes that the turn is added to, which the user must be allowed to use.
    async fn kept_in(&self, asked: &Asked) -> ProductResult<Vec<CubeId>> {
        let (user, cubes) = self.to_write(&asked.user_id, asked.writable.as_deref()).await?;
        for cube in &cubes {
            self.mos().check_reads(&user, cube).await?;
        }
        Ok(cubes)
    }

    /// Returns the model of this name, else the first one, and its configuration. `None` is the model of the settings.
    fn chat_model_of(&self, name: Option<&str>) -> ProductResult<(Option<Arc<dyn ChatModel>>, ChatModelConfig)> {
        let (mos, listed) = (self.mos(), &self.app.options().chat_models);
        let of_settings = &mos.settings().chat_model;
        let found = match name.filter(|name| !name.is_empty()) {
            None => listed.first(),
            Some(name) => match listed.iter().find(|(known, _)| known == name) {
                Some(found) => Some(found),
                None if model_name(of_settings).as_deref() == Some(name) => None,
                None => return Err(unknown_model(name, listed, of_settings)),
            },
        };
        Ok(match found {
            Some((_, config)) => (Some(mos.parts.reading.of_config(config)), config.clone()),
            None => (None, of_settings.clone()),
        })
    }

    /// Adds a turn to the cubes that it belongs to, off the path of the answer. What goes wrong is told in the log;
    /// [`App::stop`](super::App::stop) waits for it.
    pub(super) fn keep_turn(&self, turn: Turn, answer: &str) {
        if turn.cubes.is_empty() || !self.mos().settings().enable_textual_memory {
            return;
        }
        let Some(task) = self.mos().parts.sending.begin() else {
            tracing::warn!("a turn of a chat is not remembered: too many are being remembered at this moment");
            return;
        };
        let mos = self.mos().clone();
        let mut answer = Message::assistant(answer);
        answer.chat_time = Some(mos.parts.clock.now_text());
        let mut question = Message::user(turn.query.as_str());
        question.chat_time = Some(turn.asked_at.clone());
        tokio::spawn(async move {
            for cube in &turn.cubes {
                let messages = vec![question.clone(), answer.clone()];
                let mut remember =
                    Remember::new(ReadInput::messages(messages)).user(turn.user.clone()).cube(cube.clone());
                if let Some(session) = &turn.session {
                    remember = remember.session(session.clone());
                }
                remember_turn(&mos, remember.mode(ReadMode::Fast), cube).await;
            }
            drop(task);
        });
    }
}

/// Remembers a turn; reading the same again changes nothing, so that it can be tried again.
async fn remember_turn(mos: &crate::Mos, remember: Remember, cube: &CubeId) {
    for attempt in 1..=ATTEMPTS {
        match mos.remember(remember.clone()).await {
            Ok(_) => return,
            // A cube without textual memory has none the next time, either.
            Err(error) if attempt == ATTEMPTS || matches!(&error, Error::Memory(MemoryError::Unsupported(_))) => {
                tracing::warn!(%cube, error = error.without_quotes(), "a turn of a chat could not be remembered");
                return;
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200) * attempt).await,
        }
    }
}

/// What the caller is told when a search or a model fails: nothing of addresses, or of what a model said.
pub(super) fn told(error: Error) -> ProductError {
    if let Error::Memory(MemoryError::Model(model)) = &error
        && model.is_away()
    {
        tracing::warn!(%error, "a model cannot be reached");
        return ProductError::new(503, "the model cannot be reached at the moment; try again later");
    }
    error.into()
}

fn check_numbers(asked: &Asked) -> ProductResult<()> {
    if asked.query.trim().is_empty() {
        return Err(ProductError::bad_value("the question is empty; say something"));
    }
    let at_most_one = |name: &str, value: f64| {
        if value <= 1.0 {
            return Ok(());
        }
        Err(ProductError::bad_value(format!("`{name}` is {value}; it is at most 1")))
    };
    at_most_one("relativity", asked.relativity)?;
    at_most_one("top_p", asked.top_p.unwrap_or(1.0))?;
    match asked.temperature {
        Some(temperature) if temperature > 2.0 => {
            Err(ProductError::bad_value(format!("`temperature` is {temperature}; it is at most 2")))
        }
        _ => Ok(()),
    }
}

/// Has a chat look for memories as it was asked to.
fn searching(chat: Chat, asked: &Asked, filter: &PerCubeFilter, session: Option<&SessionId>) -> Chat {
    chat.searching(|search| {
        let search = filter.narrow(search);
        let search = search
            .mode(SearchMode::from(asked.mode))
            .top_k(asked.top_k.clamp(1, MAX_TOP_K))
            .relevance(asked.relativity as f32)
            .internet(asked.internet_search);
        match session {
            Some(session) => search.prefer_session(session.clone()),
            None => search,
        }
    })
}

/// The last messages of a history.
fn history(given: &[Value]) -> ProductResult<Vec<Message>> {
    let mut issues = Vec::new();
    let mut fields = RequestFields::at("body", &mut issues);
    let mut messages = Vec::new();
    for (place, value) in given.iter().enumerate().skip(given.len().saturating_sub(MAX_HISTORY)) {
        match serde_json::from_value::<Message>(value.clone()) {
            Ok(message) => messages.push(message),
            Err(error) => {
                let msg = format!("Input should be a message of a chat: {error}");
                fields.within("history", |fields| {
                    fields.within(place, |fields| fields.refuse("value_error", msg, value));
                });
            }
        }
    }
    if issues.is_empty() { Ok(messages) } else { Err(ProductError::refused(issues)) }
}

/// The name by which the settings know a model.
fn model_name(config: &ChatModelConfig) -> Option<String> {
    let written = config.to_json(Secrets::Omitted);
    written.pointer("/config/model_name_or_path").and_then(Value::as_str).map(str::to_owned)
}

fn unknown_model(name: &str, listed: &[(String, ChatModelConfig)], of_settings: &ChatModelConfig) -> ProductError {
    let mut known: Vec<String> = listed.iter().map(|(name, _)| name.clone()).collect();
    known.extend(model_name(of_settings).filter(|name| !known.contains(name)));
    ProductError::bad_value(format!("the model `{name}` is not configured here; use one of: {}", known.join(", ")))
}

/// How words are chosen: as the model is configured, but for what the request says; `None` when it says nothing.
fn sampling(config: &ChatModelConfig, asked: &Asked) -> Option<Sampling> {
    if asked.max_tokens.is_none() && asked.temperature.is_none() && asked.top_p.is_none() {
        return None;
    }
    let usual = configured_sampling(config);
    Some(Sampling {
        temperature: asked.temperature.unwrap_or(usual.temperature),
        top_p: asked.top_p.unwrap_or(usual.top_p),
        max_tokens: asked.max_tokens.unwrap_or(usual.max_tokens),
        ..usual
    })
}

/// How words are chosen as a model is configured.
pub(super) fn configured_sampling(config: &ChatModelConfig) -> Sampling {
    let (written, usual) = (config.to_json(Secrets::Omitted), Sampling::default());
    let configured = |key: &str| written.get("config").and_then(|config| config.get(key));
    let number = |key: &str| configured(key).and_then(Value::as_f64);
    let whole = |key: &str| configured(key).and_then(Value::as_u64);
    let count = |key: &str| whole(key).and_then(|count| usize::try_from(count).ok());
    let stop = configured("stop")
        .and_then(Value::as_array)
        .map(|texts| texts.iter().filter_map(Value::as_str).map(str::to_owned).collect());
    Sampling {
        temperature: number("temperature").unwrap_or(usual.temperature),
        top_p: number("top_p").unwrap_or(usual.top_p),
        top_k: count("top_k").unwrap_or(usual.top_k),
        seed: whole("seed").unwrap_or(usual.seed),
        max_tokens: count("max_tokens").unwrap_or(usual.max_tokens),
        stop: stop.unwrap_or(usual.stop),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::chat_requests::ChatRequest;
    use super::super::read::Request;
    use super::*;

    #[test]
    fn the_last_twenty_messages_of_a_history_are_used() {
        let given: Vec<Value> = (0..25).map(|n| json!({"role": "user", "content": n.to_string()})).collect();
        let used: Vec<String> = history(&given).unwrap().iter().map(Message::text).collect();
        assert_eq!((used.len(), used[0].as_str()), (MAX_HISTORY, "5"));
        let error = history(&[json!({"role": "user", "content": "hi"}), json!({"content": "hi"})]).unwrap_err();
        assert_eq!((error.status, error.detail[0].loc.clone()), (422, vec![json!("body"), json!("history"), json!(1)]));
    }

    #[test]
    fn sampling_is_that_of_the_model_but_for_what_is_asked() {
        let config = json!({"backend": "openai", "config": {
            "model_name_or_path": "m", "api_key": "k", "temperature": 0.3, "max_tokens": 77, "top_p": 0.5}});
        let config = ChatModelConfig::from_json(&config).unwrap();
        let asked = |more: Value| {
            let mut body = json!({"user_id": "ann", "query": "hi"});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            Asked::from(ChatRequest::from_json(&body).unwrap())
        };
        assert_eq!(sampling(&config, &asked(json!({}))), None);
        let sampled = sampling(&config, &asked(json!({"top_p": 0.9}))).unwrap();
        assert_eq!((sampled.temperature, sampled.top_p, sampled.max_tokens), (0.3, 0.9, 77));
        assert_eq!(check_numbers(&asked(json!({"top_p": 1.5}))).unwrap_err().status, 400);
    }
}
