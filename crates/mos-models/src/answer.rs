//! From the pieces that a server sends to the events that the caller sees.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use mos_core::{ChatEvent, ChatStream, ChatUsage, FinishReason, ModelError};
use reqwest::Response;
use serde_json::{Value, json};

use crate::http::{Refusal, Server};
use crate::text::estimate_tokens;
use crate::think::Think;

/// What one piece of an answer says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Delta {
    Text(String),
    Reasoning(String),
    /// A piece of a tool call.
    ToolCall(ToolCallPiece),
    Finish(FinishReason),
    Usage {
        prompt: Option<usize>,
        cached: Option<usize>,
        completion: Option<usize>,
    },
    /// The server says that nothing follows.
    End,
}

/// A piece of a tool call, or a whole one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ToolCallPiece {
    /// Which call it belongs to; `None` begins one more.
    pub(crate) index: Option<usize>,
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    /// More of the arguments, which are JSON as text.
    pub(crate) arguments: String,
}

/// The most tool calls of one answer.
const MAX_TOOL_CALLS: usize = 128;

pub(crate) type Deltas = BoxStream<'static, Result<Delta, Refusal>>;

/// Returns the bytes of an answer, ending in an error beyond the size that is allowed.
pub(crate) fn bounded_bytes(
    server: &Arc<Server>,
    response: Response,
) -> impl Stream<Item = Result<Vec<u8>, Refusal>> + Send + 'static {
    let server = Arc::clone(server);
    let limit = server.options.max_body_bytes;
    let mut n_bytes = 0_usize;
    response.bytes_stream().map(move |piece| match piece {
        Err(error) => Err(Refusal::passing(server.broken(&error))),
        Ok(bytes) => {
            n_bytes += bytes.len();
            if n_bytes > limit { Err(Refusal::lasting(server.too_large(limit))) } else { Ok(bytes.to_vec()) }
        }
    })
}

/// An answer on its way.
struct Answer {
    server: Arc<Server>,
    deltas: Deltas,
    ready: VecDeque<ChatEvent>,
    think: Think,
    started: Instant,
    first_text: Option<Duration>,
    finish: Option<FinishReason>,
    prompt: Option<usize>,
    cached: Option<usize>,
    completion: Option<usize>,
    tool_calls: Vec<ToolCallPiece>,
    /// Whether any piece came: until then the longer wait for the first one holds.
    has_begun: bool,
    is_done: bool,
    estimated_prompt: usize,
    estimated_answer: usize,
}

impl Answer {
    /// Reads until an event is ready. `None` once `Done` was handed out.
    async fn next(&mut self) -> Option<Result<ChatEvent, Refusal>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            if self.is_done {
                return None;
            }
            if let Err(refusal) = self.read().await {
                self.is_done = true;
                return Some(Err(refusal));
            }
        }
    }

    async fn read(&mut self) -> Result<(), Refusal> {
        let options = &self.server.options;
        let wait = if self.has_begun { options.idle_timeout } else { options.first_byte_timeout };
        let patience = self.server.patience(self.started, wait).map_err(Refusal::lasting)?;
        let piece = tokio::time::timeout(patience, self.deltas.next())
            .await
            .map_err(|_| Refusal::lasting(self.server.silent(patience)))?;
        self.has_begun = true;
        match piece.transpose()? {
            Some(Delta::Text(text)) => {
                self.estimated_answer += estimate_tokens(&text);
                let shown = self.think.text(&text);
                self.show(shown);
            }
            Some(Delta::Reasoning(text)) => {
                self.estimated_answer += estimate_tokens(&text);
                let shown = self.think.reasoning(&text);
                self.show(shown);
            }
            Some(Delta::ToolCall(piece)) => self.collect(piece)?,
            Some(Delta::Finish(reason)) => self.finish = Some(reason),
            Some(Delta::Usage { prompt, cached, completion }) => {
                self.prompt = prompt.or(self.prompt);
                self.cached = cached.or(self.cached);
                self.completion = completion.or(self.completion);
            }
            Some(Delta::End) => self.end(FinishReason::Stop),
            None => match self.finish {
                Some(reason) => self.end(reason),
                None => {
                    return Err(Refusal::lasting(ModelError::BadAnswer(format!(
                        "the answer of {} broke off before its end; try again",
                        self.server.place()
                    ))));
                }
            },
        }
        Ok(())
    }

    /// Adds a piece to the tool call that it belongs to.
    fn collect(&mut self, piece: ToolCallPiece) -> Result<(), Refusal> {
        self.estimated_answer += estimate_tokens(&piece.arguments);
        // Servers that number nothing begin one more call by another id.
        let has_id = |call: &ToolCallPiece| call.id == piece.id;
        let is_other = |call: &ToolCallPiece| call.id.is_some() && piece.id.is_some() && !has_id(call);
        let at = match piece.index {
            Some(place) if !self.tool_calls.get(place).is_some_and(is_other) => place,
            Some(_) => self.tool_calls.iter().position(has_id).unwrap_or(self.tool_calls.len()),
            None => self.tool_calls.len(),
        };
        if at >= MAX_TOOL_CALLS {
            return Err(Refusal::lasting(ModelError::BadAnswer(format!(
                "the answer of {} calls more than {MAX_TOOL_CALLS} tools",
                self.server.place()
            ))));
        }
        if at >= self.tool_calls.len() {
            self.tool_calls.resize_with(at + 1, ToolCallPiece::default);
        }
        let call = &mut self.tool_calls[at];
        call.id = call.id.take().or(piece.id);
        call.name = call.name.take().or(piece.name);
        call.arguments.push_str(&piece.arguments);
        Ok(())
    }

    fn show(&mut self, text: String) {
        if !text.is_empty() {
            self.first_text.get_or_insert_with(|| self.started.elapsed());
            self.ready.push_back(ChatEvent::Text(text));
        }
    }

    fn end(&mut self, reason: FinishReason) {
        let rest = self.think.finish();
        self.show(rest);
        self.is_done = true;
        // Some servers tell of no tokens where they have not counted.
        let told = |count: Option<usize>| count.filter(|count| *count > 0);
        let prompt_tokens = told(self.prompt).unwrap_or(self.estimated_prompt);
        self.ready.push_back(ChatEvent::Done(ChatUsage {
            prompt_tokens,
            cached_tokens: self.cached.unwrap_or(0).min(prompt_tokens),
            completion_tokens: told(self.completion).unwrap_or(self.estimated_answer),
            time_to_first_token: self.first_text.unwrap_or_else(|| self.started.elapsed()),
            finish: self.finish.unwrap_or(reason),
            tool_calls: tool_calls(std::mem::take(&mut self.tool_calls)),
        }));
    }
}

/// Returns calls in the form of OpenAI's chat format. Servers that name no ids get some: results must name their call.
fn tool_calls(calls: Vec<ToolCallPiece>) -> Vec<Value> {
    let named = calls.into_iter().enumerate().filter(|(_, call)| call.name.is_some());
    named
        .map(|(at, call)| {
            let id = call.id.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("call_{at}"));
            let arguments = if call.arguments.trim().is_empty() { "{}".to_owned() } else { call.arguments };
            json!({"id": id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
        })
        .collect()
}

/// Asks by `open` until the first event is there, with retries until then, and returns the stream of events.
///
/// Usage that the server does not tell is estimated from the length of the texts.
pub(crate) async fn answer<'a>(
    server: &'a Arc<Server>,
    is_reasoning_removed: bool,
    estimated_prompt: usize,
    open: impl Fn() -> BoxFuture<'a, Result<Deltas, Refusal>> + Send,
) -> Result<ChatStream, ModelError> {
    let started = Instant::now();
    let mut retries = server.retries(started);
    let answer = loop {
        match begin(server, is_reasoning_removed, estimated_prompt, started, open()).await {
            Ok(answer) => break answer,
            Err(refusal) => retries.wait_after(refusal).await?,
        }
    };
    let events = stream::unfold(answer, |mut answer| async move {
        let event = answer.next().await?;
        Some((event.map_err(|refusal| refusal.error), answer))
    });
    Ok(events.boxed())
}

/// Opens an answer and reads until its first event. Errors until then are still worth a repetition; those after it
/// never are, because text was delivered.
async fn begin(
    server: &Arc<Server>,
    is_reasoning_removed: bool,
    estimated_prompt: usize,
    started: Instant,
    deltas: BoxFuture<'_, Result<Deltas, Refusal>>,
) -> Result<Answer, Refusal> {
    let mut answer = Answer {
        server: Arc::clone(server),
        deltas: deltas.await?,
        ready: VecDeque::new(),
        think: Think::new(is_reasoning_removed),
        started,
        first_text: None,
        finish: None,
        prompt: None,
        cached: None,
        completion: None,
        tool_calls: Vec::new(),
        has_begun: false,
        is_done: false,
        estimated_prompt,
        estimated_answer: 0,
    };
    if let Some(first) = answer.next().await.transpose()? {
        answer.ready.push_front(first);
    }
    Ok(answer)
}
