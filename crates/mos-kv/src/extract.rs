//! From texts or messages to caches.
//!
//! A text, or several texts joined by spaces, becomes one system turn that begins with a lead-in; messages are taken
//! as they are. The cache ends where the next turn begins: no generation prompt is part of it.
//!
//! A model without a chat template has no turns. Texts then stand as they are, one to a line after the lead-in, behind
//! what the model's texts begin with; messages are an error.
//!
//! Control tokens that a text or a message spells out stay words.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use mos_core::{ActivationId, ChatModel, Clock, IdSource, MemoryItem, Message};
use mos_engine::{CancelToken, KvPrefix, KvSegment, LocalChatModel, LogitRows, Sequence};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::KvError;
use crate::item::{KvCacheItem, KvRecords};

/// What stands before a text in its system turn.
pub const DEFAULT_LEAD_IN: &str = "What is known so far, to be used when it helps to answer:";
/// Sequences that are computed in one run.
const BATCH_SEQUENCES: usize = 16;
/// Tokens that are computed in one run; a single longer sequence goes alone.
const BATCH_TOKENS: usize = 4096;

/// What a cache is made from. As JSON it is what was given: a text, a list of texts, or a list of messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ExtractInput {
    /// One text.
    Text(String),
    /// Several texts, joined by spaces.
    Texts(Vec<String>),
    /// Messages, taken as they are.
    Messages(Vec<Message>),
}

impl From<&str> for ExtractInput {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for ExtractInput {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<String>> for ExtractInput {
    fn from(texts: Vec<String>) -> Self {
        Self::Texts(texts)
    }
}

impl From<&[&str]> for ExtractInput {
    fn from(texts: &[&str]) -> Self {
        Self::Texts(texts.iter().map(|&text| text.to_owned()).collect())
    }
}

impl From<Vec<Message>> for ExtractInput {
    fn from(messages: Vec<Message>) -> Self {
        Self::Messages(messages)
    }
}

impl ExtractInput {
    /// Returns the messages that the model is shown.
    ///
    /// # Errors
    /// [`KvError::Empty`] when there is no text at all.
    pub fn messages(&self, lead_in: &str) -> Result<Vec<Message>, KvError> {
        let text = self.composed();
        if text.trim().is_empty() {
            return Err(KvError::Empty(match self {
                Self::Text(_) => "the text is empty",
                Self::Texts(_) => "all texts are empty",
                Self::Messages(_) => "the messages have no text",
            }));
        }
        Ok(match self {
            Self::Messages(messages) => messages.clone(),
            _ if lead_in.is_empty() => vec![Message::system(text)],
            _ => vec![Message::system(format!("{lead_in}\n{text}"))],
        })
    }

    /// Returns what a model without a chat template is shown: the lead-in and the texts, one to a line; `None` for
    /// messages, which need a template.
    ///
    /// # Errors
    /// [`KvError::Empty`] when there is no text at all.
    pub fn plain_text(&self, lead_in: &str) -> Result<Option<String>, KvError> {
        self.messages(lead_in)?;
        if matches!(self, Self::Messages(_)) {
            return Ok(None);
        }
        let lead_in = (!lead_in.is_empty()).then(|| lead_in.to_owned());
        Ok(Some(lead_in.into_iter().chain(self.texts()).collect::<Vec<_>>().join("\n")))
    }

    /// Returns the texts one by one.
    pub fn texts(&self) -> Vec<String> {
        match self {
            Self::Text(text) => vec![text.clone()],
            Self::Texts(texts) => texts.clone(),
            Self::Messages(messages) => messages.iter().map(Message::text).collect(),
        }
    }

    fn composed(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Texts(texts) => texts.join(" "),
            Self::Messages(messages) => messages.iter().map(Message::text).collect::<Vec<_>>().join("\n"),
        }
    }

    /// Returns the records of an item that is made from this at the clock's time.
    pub(crate) fn records(&self, clock: &dyn Clock) -> KvRecords {
        KvRecords { text_memories: self.texts(), composed_text_memory: self.composed(), timestamp: clock.now_text() }
    }

    /// Returns the metadata of an item that is made from this at the clock's time.
    pub(crate) fn metadata(&self, clock: &dyn Clock) -> Result<Map<String, Value>, KvError> {
        let source = serde_json::to_value(self).map_err(|error| KvError::internal("keeping a source text", error))?;
        let mut metadata = Map::new();
        metadata.insert("source_text".to_owned(), source);
        metadata.insert("extracted_at".to_owned(), Value::String(clock.now_text()));
        Ok(metadata)
    }

    /// Returns what an item was made from: its `source_text` as it was given, or else its records.
    ///
    /// # Errors
    /// [`KvError::NoText`] when neither holds a text.
    pub fn of_item(item: &KvCacheItem) -> Result<Self, KvError> {
        let given = item.metadata.get("source_text").and_then(|value| serde_json::from_value(value.clone()).ok());
        let kept = given.or_else(|| {
            let KvRecords { text_memories, composed_text_memory, .. } = &item.records;
            match (composed_text_memory.is_empty(), text_memories.is_empty()) {
                (false, _) => Some(Self::Text(composed_text_memory.clone())),
                (true, false) => Some(Self::Texts(text_memories.clone())),
                (true, true) => None,
            }
        });
        kept.ok_or_else(|| KvError::NoText(item.id.to_string()))
    }
}

/// Computes caches with one model.
#[derive(Clone)]
pub struct KvExtractor {
    model: Arc<LocalChatModel>,
    lead_in: String,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
}

impl fmt::Debug for KvExtractor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvExtractor")
            .field("model", &self.model)
            .field("lead_in", &self.lead_in)
            .finish_non_exhaustive()
    }
}

impl KvExtractor {
    /// Returns an extractor; `lead_in` stands before every text.
    pub fn new(model: Arc<LocalChatModel>, lead_in: String, clock: Arc<dyn Clock>, ids: Arc<dyn IdSource>) -> Self {
        Self { model, lead_in, clock, ids }
    }

    /// Returns the model.
    pub fn model(&self) -> &Arc<LocalChatModel> {
        &self.model
    }

    /// Returns what stands before every text.
    pub fn lead_in(&self) -> &str {
        &self.lead_in
    }

    /// Returns the messages that an item was made from.
    ///
    /// # Errors
    /// [`KvError::NoText`] when its text was not kept, [`KvError::Empty`] when it is empty.
    pub fn messages_of(&self, item: &KvCacheItem) -> Result<Vec<Message>, KvError> {
        ExtractInput::of_item(item)?.messages(&self.lead_in)
    }

    /// Computes an item; nothing is stored.
    ///
    /// # Errors
    /// [`KvError::Empty`]; [`KvError::TooLong`]; [`KvError::Model`], also for messages when the model has no chat
    /// template.
    pub fn extract(&self, input: &ExtractInput, cancel: &CancelToken) -> Result<KvCacheItem, KvError> {
        let tokens = self.tokens(input)?;
        let started = Instant::now();
        let segment = self.compute(&tokens, cancel)?;
        self.item(input, segment, started.elapsed().as_secs_f64())
    }

    /// Computes several items in common runs, in the order given; nothing is stored. Each is what [`Self::extract`]
    /// returns for it, bit by bit.
    ///
    /// # Errors
    /// As [`Self::extract`], for the first input that is refused; then nothing is computed.
    pub fn extract_many(&self, inputs: &[ExtractInput], cancel: &CancelToken) -> Result<Vec<KvCacheItem>, KvError> {
        let all = inputs.iter().map(|input| self.tokens(input)).collect::<Result<Vec<_>, _>>()?;
        let mut items = Vec::with_capacity(inputs.len());
        while items.len() < inputs.len() {
            let first = items.len();
            let count = batch_len(&all[first..]);
            let started = Instant::now();
            let segments = self.compute_batch(&all[first..first + count], cancel)?;
            let total: usize = segments.iter().map(KvSegment::len).sum();
            let per_token = started.elapsed().as_secs_f64() / total as f64;
            for (input, segment) in inputs[first..].iter().zip(segments) {
                let seconds = per_token * segment.len() as f64;
                items.push(self.item(input, segment, seconds)?);
            }
        }
        Ok(items)
    }

    /// Computes the item of a textual memory; its metadata is the memory's.
    ///
    /// # Errors
    /// As [`Self::extract`].
    pub fn from_textual_memory(&self, memory: &MemoryItem, cancel: &CancelToken) -> Result<KvCacheItem, KvError> {
        let mut item = self.extract(&ExtractInput::Text(memory.memory.clone()), cancel)?;
        item.metadata = memory.metadata.to_map();
        Ok(item)
    }

    /// Computes an item again with this model, from its kept text; id, metadata and records stay.
    ///
    /// # Errors
    /// [`KvError::NoText`] when its text was not kept; else as [`Self::extract`].
    pub fn recompute(&self, item: &KvCacheItem, cancel: &CancelToken) -> Result<KvCacheItem, KvError> {
        let again = self.extract(&ExtractInput::of_item(item)?, cancel)?;
        Ok(KvCacheItem { id: item.id.clone(), metadata: item.metadata.clone(), records: item.records.clone(), ..again })
    }

    /// Returns the tokens of an input as the model is shown it.
    pub(crate) fn tokens(&self, input: &ExtractInput) -> Result<Vec<u32>, KvError> {
        let plain = if self.model.has_template() { None } else { input.plain_text(&self.lead_in)? };
        let tokens = match plain {
            Some(text) => self.model.text_tokens(&text)?,
            None => {
                let messages = input.messages(&self.lead_in)?;
                self.check_shown(input, &messages)?;
                self.model.prompt_tokens(&messages, false)?
            }
        };
        if tokens.is_empty() {
            return Err(KvError::Empty("the model's chat template makes no text of it"));
        }
        let most = self.model.decoder().spec().context_length;
        let limit = self.model.context_length().map_or(most, |limit| limit.min(most));
        if tokens.len() > limit {
            return Err(KvError::TooLong { n_tokens: tokens.len(), limit });
        }
        Ok(tokens)
    }

    /// Refuses to compute a cache of a text that the template leaves out.
    fn check_shown(&self, input: &ExtractInput, messages: &[Message]) -> Result<(), KvError> {
        // Of whole conversations a template may leave something out on purpose: earlier thoughts, for example.
        if matches!(input, ExtractInput::Messages(_)) {
            return Ok(());
        }
        let shown = self.model.render(messages, false)?;
        if messages.iter().all(|message| shown.contains(message.text().trim())) {
            return Ok(());
        }
        Err(KvError::Empty("the model's chat template does not show a text by itself; give messages instead"))
    }

    fn compute(&self, tokens: &[u32], cancel: &CancelToken) -> Result<KvSegment, KvError> {
        let decoder = self.model.decoder();
        let mut tail = decoder.new_tail();
        decoder.forward(tokens, &KvPrefix::default(), &mut tail, LogitRows::None, cancel)?;
        Ok(tail.freeze()?)
    }

    fn compute_batch(&self, all: &[Vec<u32>], cancel: &CancelToken) -> Result<Vec<KvSegment>, KvError> {
        if let [tokens] = all {
            return Ok(vec![self.compute(tokens, cancel)?]);
        }
        let decoder = self.model.decoder();
        let prefix = KvPrefix::default();
        let mut tails: Vec<_> = all.iter().map(|_| decoder.new_tail()).collect();
        let mut sequences: Vec<_> =
            all.iter().zip(&mut tails).map(|(tokens, tail)| Sequence { tokens, prefix: &prefix, tail }).collect();
        decoder.forward_batch(&mut sequences, LogitRows::None, cancel)?;
        drop(sequences);
        Ok(tails.into_iter().map(mos_engine::KvTail::freeze).collect::<Result<_, _>>()?)
    }

    fn item(&self, input: &ExtractInput, segment: KvSegment, seconds: f64) -> Result<KvCacheItem, KvError> {
        let id = ActivationId::new(self.ids.next_uuid());
        let mut item = KvCacheItem::new(id, self.model.identity().clone(), Arc::new(segment));
        item.metadata = input.metadata(&*self.clock)?;
        item.records = input.records(&*self.clock);
        item.saved_seconds = seconds;
        Ok(item)
    }
}

/// How many of the next sequences go into one run; at least one.
fn batch_len(all: &[Vec<u32>]) -> usize {
    let mut total = 0;
    let fits = all.iter().take(BATCH_SEQUENCES).take_while(|tokens| {
        total += tokens.len();
        total <= BATCH_TOKENS
    });
    fits.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn inputs_are_read_as_they_were_given() {
        for value in [json!("a"), json!(["a", "b"]), json!([{"role": "user", "content": "a"}])] {
            let input: ExtractInput = serde_json::from_value(value.clone()).unwrap();
            assert_eq!(serde_json::to_value(&input).unwrap(), value);
        }
    }

    #[test]
    fn texts_become_one_system_turn_and_messages_stay() {
        let texts = ExtractInput::from(["a", "b"].as_slice());
        assert_eq!(texts.messages("Lead").unwrap(), [Message::system("Lead\na b")]);
        assert_eq!(texts.messages("").unwrap(), [Message::system("a b")]);
        let messages = vec![Message::user("q"), Message::assistant("a")];
        assert_eq!(ExtractInput::from(messages.clone()).messages("Lead").unwrap(), messages);
    }

    #[test]
    fn without_turns_the_texts_stand_line_by_line() {
        let texts = ExtractInput::from(["a", "b c"].as_slice());
        assert_eq!(texts.plain_text("Lead").unwrap().unwrap(), "Lead\na\nb c");
        assert_eq!(texts.plain_text("").unwrap().unwrap(), "a\nb c");
        assert_eq!(ExtractInput::from("a").plain_text("Lead").unwrap().unwrap(), "Lead\na");
        assert_eq!(ExtractInput::from(vec![Message::user("a")]).plain_text("Lead").unwrap(), None);
        assert!(matches!(ExtractInput::from(" ").plain_text("Lead"), Err(KvError::Empty(_))));
    }

    #[test]
    fn nothing_is_an_error() {
        let nothing: [ExtractInput; 5] = [
            "".into(),
            " \n".into(),
            Vec::<String>::new().into(),
            Vec::<Message>::new().into(),
            vec![Message::user(" ")].into(),
        ];
        for input in nothing {
            assert!(matches!(input.messages("Lead"), Err(KvError::Empty(_))), "{input:?}");
        }
    }

    #[test]
    fn runs_hold_at_least_one_and_at_most_so_many() {
        assert_eq!(batch_len(&[vec![0; 9000], vec![0; 1]]), 1);
        assert_eq!(batch_len(&[vec![0; 4000], vec![0; 96], vec![0; 1]]), 2);
        assert_eq!(batch_len(&vec![vec![0; 1]; 40]), 16);
    }
}
