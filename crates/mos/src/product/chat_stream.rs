//! Chats that are answered in pieces.

use futures::StreamExt;
use mos_core::{ChatEvent, ChatUsage, ModelError};

use super::app::Product;
use super::chat::{Prepared, told};
use super::chat_requests::{Asked, ChatBusinessRequest, ChatRequest};
use super::error::{ProductError, ProductResult};
use super::frames::{Frame, FrameStream, Out, frames};
use super::pieces::{Citations, Piece, ThinkSplitter};
use crate::error::Error;
use crate::facade::ChatReply;

impl Product {
    /// Answers a question with the memories of cubes, in pieces: frames `reasoning` and `text`, and `error` when it breaks off.
    ///
    /// # Errors
    /// [`ProductError`] before the stream begins: 503 where chats are not answered, 403 without rights, 400 for values that
    /// cannot be used. What the search and the model meet is a frame.
    pub async fn chat_stream(&self, request: ChatRequest) -> ProductResult<FrameStream> {
        let prepared = self.prepared(request.into()).await?;
        Ok(self.talking(prepared))
    }

    /// As [`Product::chat_stream`], for somebody with a business key; memories are looked for only when the request says so.
    ///
    /// # Errors
    /// As [`Product::chat_stream`]; 403 for a key that is not configured.
    pub async fn chat_stream_business_user(&self, mut request: ChatBusinessRequest) -> ProductResult<FrameStream> {
        self.check_chats()?;
        self.check_business_key(&request.business_key)?;
        let needs_search = std::mem::take(&mut request.need_search);
        let mut prepared = self.prepared(Asked::from(request)).await?;
        if !needs_search {
            prepared.chat = prepared.chat.cubes([]);
        }
        Ok(self.talking(prepared))
    }

    /// Refuses a key that is not configured. How long it takes tells nothing of how much of a key is right.
    fn check_business_key(&self, key: &str) -> ProductResult<()> {
        let given = blake3::hash(key.as_bytes());
        let keys = &self.app.options().business_chat_keys;
        // Hashes are compared in constant time, and every key is.
        let is_known = keys.iter().fold(false, |known, one| known | (blake3::hash(one.expose().as_bytes()) == given));
        if is_known && !key.is_empty() {
            return Ok(());
        }
        Err(ProductError::forbidden("this business key is not known here; use one of BUSINESS_CHAT_KEYS"))
    }

    fn talking(&self, prepared: Prepared) -> FrameStream {
        let this = self.clone();
        frames(move |out| async move {
            if let Err(error) = this.talk(prepared, &out).await {
                out.send(Frame::error(error.message)).await;
            }
        })
    }

    async fn talk(&self, prepared: Prepared, out: &Out<Frame>) -> ProductResult<()> {
        let Prepared { chat, turn, .. } = prepared;
        let reply = self.mos().chat(chat).await.map_err(told)?;
        let (answer, _) = Telling::new(out, false).tell(reply).await?;
        self.keep_turn(turn, &answer);
        Ok(())
    }
}

/// Tells an answer while it is made.
#[derive(Debug)]
pub(super) struct Telling<'a> {
    out: &'a Out<Frame>,
    think: ThinkSplitter,
    /// Where marks of sources must come as a whole, and thinking is announced.
    citations: Option<Citations>,
    is_thinking: bool,
    answer: String,
}

impl<'a> Telling<'a> {
    /// Tells answers of the playground with marks of sources as a whole, and with the states of thinking.
    pub(super) fn new(out: &'a Out<Frame>, is_playground: bool) -> Self {
        let citations = is_playground.then(Citations::default);
        Self { out, think: ThinkSplitter::default(), citations, is_thinking: false, answer: String::new() }
    }

    /// Tells the whole answer, and returns it without what was thought before, and what it took.
    pub(super) async fn tell(mut self, mut reply: ChatReply) -> ProductResult<(String, ChatUsage)> {
        while let Some(event) = reply.next().await {
            match event.map_err(|error| told(Error::from(error)))? {
                ChatEvent::Text(more) => {
                    let pieces = self.think.push(&more);
                    self.pieces(pieces).await;
                }
                ChatEvent::Done(usage) => {
                    let pieces = self.think.finish();
                    self.pieces(pieces).await;
                    self.end_thinking().await;
                    let rest = self.citations.as_mut().map(Citations::finish).unwrap_or_default();
                    self.text(rest).await;
                    return Ok((self.answer, usage));
                }
            }
        }
        let broken = ModelError::BadAnswer("the answer broke off before its end; try again".to_owned());
        Err(told(Error::from(broken)))
    }

    async fn pieces(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            match piece {
                Piece::Reasoning(more) => {
                    if self.citations.is_some() && !self.is_thinking {
                        self.out.send(Frame::status("reasoning")).await;
                    }
                    self.is_thinking = true;
                    self.out.send(Frame::reasoning(more)).await;
                }
                Piece::Text(more) => {
                    self.end_thinking().await;
                    self.answer.push_str(&more);
                    let more = match &mut self.citations {
                        Some(citations) => citations.push(&more),
                        None => more,
                    };
                    self.text(more).await;
                }
            }
        }
    }

    async fn end_thinking(&mut self) {
        if std::mem::take(&mut self.is_thinking) && self.citations.is_some() {
            self.out.send(Frame::status("2")).await;
        }
    }

    async fn text(&self, text: String) {
        if !text.is_empty() {
            self.out.send(Frame::text(text)).await;
        }
    }
}
