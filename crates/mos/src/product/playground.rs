//! Chats whose answers come with what they were made from: memories, preferences, pages and what to ask next.

use std::sync::Arc;
use std::time::Instant;

use mos_core::language::detect;
use mos_core::{ChatModel, MemoryItem, Message};
use serde_json::{Map, Value, json};

use super::app::Product;
use super::chat::{Prepared, told};
use super::chat_requests::ChatPlaygroundRequest;
use super::chat_stream::Telling;
use super::error::ProductResult;
use super::frames::{Frame, FrameStream, Out, frames};
use super::suggestions;
use crate::facade::{FoundMemory, preference_lists};
use crate::prompt;

/// How many memories are told first.
const FIRST: usize = 5;

/// How many memories are told at most.
const ALL: usize = 50;

/// What a model is told about the marks that stand before memories.
const CITING: &str = "Each memory begins with a mark in square brackets. When a sentence of your answer rests on a memory, \
repeat its mark as it is behind the sentence. Use no other marks.";

impl Product {
    /// Answers a question in pieces as [`Product::chat_stream`] does, with marks `[n:ref]` of the memories that the answer
    /// rests on, and tells beside it what was found, how long it took and what might be asked next. The last frame is `end`.
    ///
    /// # Errors
    /// As [`Product::chat_stream`].
    pub async fn chat_stream_playground(&self, request: ChatPlaygroundRequest) -> ProductResult<FrameStream> {
        let prepared = self.prepared(request.into()).await?;
        let this = self.clone();
        Ok(frames(move |out| async move {
            if let Err(error) = this.play(prepared, &out).await {
                out.send(Frame::error(error.message)).await;
            }
        }))
    }

    async fn play(&self, prepared: Prepared, out: &Out<Frame>) -> ProductResult<()> {
        let begun = Instant::now();
        let Prepared { chat, turn, model, system_prompt, include_preference, internet_search } = prepared;
        out.send(Frame::status("0")).await;
        let (mut chat, mut recalled) = self.mos().recalled(chat).await.map_err(told)?;
        out.send(Frame::status("1")).await;
        let references: Vec<Value> = recalled.memories.iter().take(ALL).map(|(_, found)| reference(found)).collect();
        out.send(Frame::new("reference", references.iter().take(FIRST).cloned().collect::<Vec<_>>())).await;
        if include_preference {
            let preferred: Vec<&MemoryItem> = recalled.preferences.iter().map(|(_, found)| &found.item).collect();
            let text = preference_lists(&preferred, detect(&turn.query)).unwrap_or_default();
            out.send(Frame::new("pref_md_string", text)).await;
        }
        if internet_search {
            out.send(Frame::status("start_internet_search")).await;
        }
        out.send(Frame::new("reference", references.clone())).await;
        // The memories stand in the instructions, with their marks.
        let memories: Vec<MemoryItem> =
            std::mem::take(&mut recalled.memories).into_iter().map(|(_, one)| one.item).collect();
        if !memories.is_empty() {
            chat = chat.base_prompt(self.citing_prompt(&turn.query, system_prompt.as_deref(), &memories));
        }
        let answered = async {
            let reply = self.mos().answered(chat, recalled).await.map_err(told)?;
            Telling::new(out, true).tell(reply).await
        };
        let (answer, usage) = match answered.await {
            Ok(answered) => answered,
            Err(error) => {
                out.send(Frame::new("error", error.message.as_str())).await;
                return Err(error);
            }
        };
        self.keep_turn(turn.clone(), &answer);
        if internet_search {
            out.send(Frame::new("internet_reference", pages(&references))).await;
        }
        out.send(Frame::new(
            "time",
            json!({
                "total_time": begun.elapsed().as_secs_f64(),
                "speed_improvement": percent(usage.cached_tokens, usage.prompt_tokens),
            }),
        ))
        .await;
        let next = self.next_questions(model, &turn.query, &answer, &turn.user).await;
        out.send(Frame::new("suggestion", next)).await;
        out.send(Frame::end()).await;
        Ok(())
    }

    /// The instructions of a chat with memories that have marks.
    fn citing_prompt(&self, query: &str, asked: Option<&str>, memories: &[MemoryItem]) -> String {
        let base = asked.or(self.mos().settings().base_prompt.as_deref()).unwrap_or(prompt::BASE_PROMPT);
        let now = self.mos().parts.clock.now_text();
        let is_base_ours = base == prompt::BASE_PROMPT;
        let notes = prompt::Notes::on(query, now);
        let cited =
            |(place, item): (usize, &MemoryItem)| format!("[{}:{}] {}", place + 1, short_id(item), notes.line(item));
        let lines: Vec<String> = memories.iter().enumerate().map(cited).collect();
        let lines = format!("{}\n\n{CITING}", notes.explained(lines.join("\n"), is_base_ours));
        if base.contains(prompt::MEMORIES_PLACEHOLDER) {
            base.replace(prompt::MEMORIES_PLACEHOLDER, &lines)
        } else {
            format!("{base}\n\n## Memories:\n{lines}")
        }
    }

    /// What the user might ask next; nothing when the model cannot say.
    async fn next_questions(
        &self,
        model: Option<Arc<dyn ChatModel>>,
        query: &str,
        answer: &str,
        user: &mos_core::UserId,
    ) -> Vec<String> {
        let model = model.unwrap_or_else(|| self.mos().parts.reading.of_settings());
        let model = self.mos().metered(model, user, None);
        let talk = [Message::user(query), Message::assistant(answer)];
        match suggestions::after_talk(model.as_ref(), &talk, detect(query)).await {
            Ok(next) => next,
            Err(_) => {
                tracing::debug!("the model did not say what might be asked next");
                Vec::new()
            }
        }
    }
}

/// The first block of a memory's id.
fn short_id(item: &MemoryItem) -> String {
    let id = item.id.as_str();
    let first = id.split('-').next().unwrap_or(id);
    first.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

/// A memory as frames name it.
fn reference(found: &FoundMemory) -> Value {
    let mut metadata = match found.item.to_value()["metadata"].take() {
        Value::Object(metadata) => metadata,
        _ => Map::new(),
    };
    let fields = [
        ("id", json!(found.item.id)),
        ("memory", json!(found.item.memory)),
        ("ref_id", json!(short_id(&found.item))),
        ("relativity", json!(found.relativity)),
        ("embedding", json!([])),
        ("usage", json!([])),
        ("sources", Value::Array(found.sources())),
    ];
    metadata.extend(fields.map(|(key, value)| (key.to_owned(), value)));
    json!({"metadata": metadata})
}

/// Where the pages of the internet are that were found.
fn pages(references: &[Value]) -> Vec<Value> {
    let is_page = |one: &&Value| one["metadata"]["memory_type"] == "OuterMemory";
    let page = |one: &Value| {
        let (metadata, source) = (&one["metadata"], &one["metadata"]["sources"][0]);
        json!({"ref_id": metadata["ref_id"], "title": source["title"], "url": source["url"]})
    };
    references.iter().filter(is_page).map(page).collect()
}

/// Which part of the prompt did not have to be computed.
#[allow(clippy::cast_precision_loss, reason = "tokens of a prompt are few")]
fn percent(cached: usize, prompt: usize) -> String {
    format!("{:.1}%", 100.0 * cached as f64 / prompt.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use mos_core::MemoryId;

    use super::*;

    #[test]
    fn marks_are_the_first_block_of_ids() {
        let item = |id: &str| MemoryItem::new(MemoryId::new(id), "likes tea");
        assert_eq!(short_id(&item("9f2c11aa-0000-4000-8000-000000000001")), "9f2c11aa");
        assert_eq!(short_id(&item("my note]")), "mynote");
        assert_eq!(percent(1, 4), "25.0%");
        assert_eq!(percent(0, 0), "0.0%");
    }

    #[test]
    fn only_pages_of_the_internet_are_told_as_such() {
        let page = json!({"metadata": {"ref_id": "a", "memory_type": "OuterMemory",
            "sources": [{"type": "web", "title": "Tea", "url": "https://example.org/"}]}});
        let note = json!({"metadata": {"ref_id": "b", "memory_type": "UserMemory", "sources": []}});
        let expected = json!({"ref_id": "a", "title": "Tea", "url": "https://example.org/"});
        assert_eq!(pages(&[page, note]), [expected]);
    }
}
