//! What the model of a chat is asked.

use mos_core::{ChatModel, ChatRequest, MemoryItem, Message, Role, UserId};
use serde_json::Value;

use super::super::{FoundMemory, Mos, preferences};
use super::{Chat, Recalled};
use crate::error::Result;
use crate::plugin::{ContextHook, HookContext};
use crate::prompt;

/// What a memory was drawn from, in a few words; empty when that is not known.
fn source_of(found: &FoundMemory) -> String {
    let sources = found.sources();
    let Some(source) = sources.first() else { return String::new() };
    let said = |key: &str| source.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let kind = said("type").unwrap_or_default();
    let more = ["role", "doc_path", "url"].into_iter().find_map(said);
    match (kind, more) {
        ("", None) => String::new(),
        (kind, None) => kind.to_owned(),
        ("", Some(more)) => more.to_owned(),
        (kind, Some(more)) => format!("{kind}: {more}"),
    }
}

impl Mos {
    /// Has a plugin that renders the context say what is told of the memories.
    pub(super) async fn rendered(
        &self,
        place: Option<&HookContext>,
        query: &str,
        recalled: Recalled,
    ) -> Result<Recalled> {
        let Some(place) = place.filter(|_| self.parts.plugins.renders_context()) else { return Ok(recalled) };
        let notes = prompt::Notes::on(query, self.parts.clock.now_text());
        let memories = recalled.memories.iter().filter(|(_, found)| recalled.is_untold(&found.item, &notes));
        let found = ContextHook { query: query.to_owned(), memories: memories.cloned().collect() };
        let context = self.parts.plugins.render_context(place.clone(), found).await?;
        Ok(Recalled { context, ..recalled })
    }

    /// The request, and the question as it is sent (which is what the history keeps).
    pub(super) fn request(
        &self,
        chat: &Chat,
        user: &UserId,
        model: &dyn ChatModel,
        recalled: &Recalled,
        earlier: &[Message],
    ) -> (ChatRequest, Message) {
        let base = chat.base_prompt.as_deref().or(self.parts.settings.base_prompt.as_deref());
        let preferred: Vec<&MemoryItem> = recalled.preferences.iter().map(|(_, found)| &found.item).collect();
        let notes = prompt::Notes::on(&chat.query, self.parts.clock.now_text());
        let language = prompt::language_of(&chat.query, earlier);
        let parts = recalled.thought.told(language);
        let is_untold = |item: &&MemoryItem| recalled.is_untold(item, &notes);
        let memories = recalled.memories.iter().map(|(_, found)| &found.item).filter(is_untold);
        let told = |usual: String| recalled.context.clone().unwrap_or(usual);
        let messages = if let Some(conversation) = &chat.conversation {
            let preferences = if model.is_local() {
                preferences::told_briefly(&preferred, language)
            } else {
                preferences::told_in_full(&preferred, language)
            };
            let preferences = prompt::paragraphs(&[&preferences, &parts]);
            let usual = if model.is_local() {
                notes.dashed(memories)
            } else {
                let sourced = recalled.memories.iter().map(|(_, found)| (&found.item, source_of(found)));
                notes.sourced(sourced)
            };
            prompt::conversation(base, conversation, &told(usual), &preferences, model.is_local())
        } else if let Some(beginning) = &recalled.beginning {
            let preferences = prompt::paragraphs(&[&preferences::told_briefly(&preferred, language), &parts]);
            let brevity =
                if base.is_none() && model.is_local() { format!(" {}", prompt::BREVITY) } else { String::new() };
            let query = format!("{}{brevity}", chat.query);
            beginning.prompt(earlier, &told(notes.dashed(memories)), &preferences, &query)
        } else if model.is_local() {
            let preferences = prompt::paragraphs(&[&preferences::told_briefly(&preferred, language), &parts]);
            prompt::local(base, earlier, &told(notes.dashed(memories)), &preferences, &chat.query)
        } else {
            let preferences = prompt::paragraphs(&[&preferences::told_in_full(&preferred, language), &parts]);
            prompt::remote(base, earlier, &told(notes.numbered(memories)), &preferences, &chat.query)
        };
        let question = messages.last().cloned().unwrap_or_else(|| Message::user(chat.query.as_str()));
        let stable_messages = match &chat.conversation {
            Some(_) => messages.iter().take_while(|message| message.role == Role::System).count(),
            None => 1,
        };
        let request = ChatRequest {
            messages,
            sampling: chat.sampling.clone(),
            prefix: None,
            stable_messages,
            no_cache: chat.no_cache,
            cache_scope: user.to_string(),
            answer_schema: chat.answer_schema.clone(),
            tools: chat.tools.clone(),
        };
        (request, question)
    }
}
