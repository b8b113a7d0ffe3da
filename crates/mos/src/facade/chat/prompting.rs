//! What the model of a chat is asked.

use mos_core::{ChatModel, ChatRequest, MemoryItem, Message, Role, UserId};

use super::super::{Mos, preferences};
use super::{Chat, Recalled};
use crate::error::Result;
use crate::plugin::{ContextHook, HookContext};
use crate::prompt;

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
        let is_dashed = model.is_local() || (recalled.beginning.is_some() && chat.conversation.is_none());
        let list = if is_dashed { notes.dashed(memories) } else { notes.numbered(memories) };
        let has_instructions = |told: &Vec<Message>| told.first().is_some_and(|first| first.role == Role::System);
        let is_base_ours = base.is_none() && !chat.conversation.as_ref().is_some_and(has_instructions);
        let told = recalled.context.clone().unwrap_or_else(|| notes.explained(list, is_base_ours));
        let preferences = if is_dashed {
            preferences::told_briefly(&preferred, language)
        } else {
            preferences::told_in_full(&preferred, language)
        };
        let preferences = prompt::paragraphs(&[&preferences, &parts]);
        let messages = if let Some(conversation) = &chat.conversation {
            prompt::conversation(base, conversation, &told, &preferences, model.is_local())
        } else if let Some(beginning) = &recalled.beginning {
            let brevity =
                if base.is_none() && model.is_local() { format!(" {}", prompt::BREVITY) } else { String::new() };
            let query = format!("{}{brevity}", chat.query);
            beginning.prompt(earlier, &told, &preferences, &query)
        } else if model.is_local() {
            prompt::local(base, earlier, &told, &preferences, &chat.query)
        } else {
            prompt::remote(base, earlier, &told, &preferences, &chat.query)
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
            tool_choice: chat.tool_choice.clone(),
        };
        (request, question)
    }
}
