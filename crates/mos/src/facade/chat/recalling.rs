//! What is found for a chat, before anything is answered.

use mos_core::{CubeId, MemoryItem, Message, PreferenceType, UserId};

use super::super::pro::Thought;
use super::super::{FoundMemory, Mos, SearchResult, SkippedCube, preferences};
use super::Chat;
use crate::error::{Error, Result};
use crate::plugin::{ChatHook, HookContext};
use crate::prompt;
use crate::scheduling::beginning::Beginning;

/// How many of the best memories stand in a prompt however little they fit.
const MIN_TOLD: usize = 3;

/// What was found for a chat.
#[derive(Debug, Default)]
pub(crate) struct Recalled {
    /// Best first.
    pub(crate) memories: Vec<(CubeId, FoundMemory)>,
    /// The stated ones of each cube first.
    pub(crate) preferences: Vec<(CubeId, FoundMemory)>,
    pub(super) skipped: Vec<SkippedCube>,
    pub(super) notes: Vec<(CubeId, String)>,
    /// The parts of a question that was split.
    pub(super) thought: Thought,
    /// What the conversation begins with, when memories were promoted.
    pub(super) beginning: Option<Beginning>,
    /// What a plugin has the prompt say of the memories.
    pub(super) context: Option<String>,
    /// What plugins are told of where it happens, when there are any.
    pub(super) place: Option<HookContext>,
}

impl Recalled {
    /// Whether the conversation does not begin with a memory.
    pub(super) fn is_untold(&self, item: &MemoryItem, notes: &prompt::Notes) -> bool {
        self.beginning.as_ref().is_none_or(|told| !told.tells(item, notes))
    }

    /// Adds the parts of the question, and what was found for them only.
    fn add_parts(&mut self, thought: Thought) {
        for (cube, found) in thought.sub_answers.iter().flat_map(|part| &part.memories) {
            if !self.memories.iter().any(|(_, known)| known.item.id == found.item.id) {
                self.memories.push((cube.clone(), found.clone()));
            }
        }
        self.thought = thought;
    }
}

/// How well a memory fits, to be compared with others of the same search: what gave the order.
fn fit(found: &FoundMemory) -> f32 {
    if found.reranked.is_some() { found.relativity } else { found.score }
}

/// The least score that still belongs into a prompt beside the best one; scores below zero have one below them.
fn least_score(best: f32) -> f32 {
    best - best.abs() * (1.0 - prompt::MIN_RELATIVE_SCORE)
}

/// The preferences of all cubes that fit the question about as well as the best of their type does, the stated ones first.
/// Those that the user has stated are not measured by what was concluded.
fn fitting_preferences(found: &SearchResult) -> Vec<(CubeId, FoundMemory)> {
    let mut fitting = Vec::new();
    for kind in [PreferenceType::Explicit, PreferenceType::Implicit] {
        let all = found.pref_mem.iter().flat_map(|cube| cube.memories.iter().map(move |one| (&cube.cube_id, one)));
        let of_type: Vec<_> = all.filter(|(_, one)| preferences::is_of_type(&one.item, kind)).collect();
        let best = of_type.iter().map(|(_, one)| one.score).max_by(f32::total_cmp);
        let least = best.map_or(0.0, least_score);
        let kept = of_type.into_iter().filter(|(_, one)| one.score >= least);
        fitting.extend(kept.map(|(cube, one)| (cube.clone(), one.clone())));
    }
    fitting
}

impl Mos {
    /// Returns a question as plugins leave it and what is found for it, as the first half of [`Mos::chat`].
    pub(crate) async fn recalled(&self, chat: Chat) -> Result<(Chat, Recalled)> {
        if chat.query.trim().is_empty() {
            if chat.conversation.is_some() {
                return Ok((chat, Recalled::default()));
            }
            return Err(Error::Invalid("the question is empty; say something".to_owned()));
        }
        let user = self.user_or_default(chat.user.as_ref());
        let (mut chat, place) = self.before_chat(&user, chat).await?;
        if chat.remember {
            self.check_remembers(&user, chat.cubes.as_deref()).await?;
        }
        let mut recalled = self.recall(&user, &chat).await?;
        recalled.place = place;
        if chat.pro.unwrap_or(self.parts.settings.pro_mode) {
            let search = chat.search_in_cubes();
            recalled.add_parts(self.think_in_parts(&chat.query, &search, &user, chat.only_cube()).await);
        }
        // Thought about once.
        chat.pro = Some(false);
        Ok((chat, recalled))
    }

    /// Lets plugins see what the user says.
    async fn before_chat(&self, user: &UserId, mut chat: Chat) -> Result<(Chat, Option<HookContext>)> {
        let cubes = chat.cubes.iter().flatten().cloned();
        let Some(place) = self.hook_context(user, cubes, chat.session.as_ref()) else { return Ok((chat, None)) };
        self.checked_user(user).await?;
        for cube in &place.cubes {
            self.checked_cube(user, cube).await?;
        }
        let hook = ChatHook { query: chat.query.clone(), base_prompt: chat.base_prompt.take() };
        let ChatHook { query, base_prompt } = self.parts.plugins.before_chat(place.clone(), hook).await?;
        if query.trim().is_empty() {
            return Err(Error::Invalid("a plugin has left nothing of the question; say something else".to_owned()));
        }
        chat.search = chat.search.asking_instead_of(&chat.query, &query);
        if let Some(messages) = chat.conversation.as_mut().filter(|_| query != chat.query) {
            prompt::ask_instead(messages, &query);
        }
        (chat.query, chat.base_prompt) = (query, base_prompt);
        Ok((chat, Some(place)))
    }

    /// What was said before a question, oldest first.
    pub(super) fn earlier(&self, user: &UserId, chat: &Chat) -> Vec<Message> {
        match &chat.history {
            Some(history) => history.clone(),
            None => self.parts.transcripts.get(user, chat.session.as_ref()),
        }
    }

    async fn recall(&self, user: &UserId, chat: &Chat) -> Result<Recalled> {
        let settings = &self.parts.settings;
        let include_preference = chat.include_preference.unwrap_or(settings.enable_preference_memory);
        if !settings.enable_textual_memory && !include_preference {
            self.checked_user(user).await?;
            return Ok(Recalled::default());
        }
        let search = chat
            .search_in_cubes()
            .user(user.clone())
            .include_preference(include_preference)
            .pref_top_k(chat.pref_top_k.unwrap_or(preferences::CHAT_TOP_K))
            .after(|| self.earlier(user, chat));
        let n_wanted = search.n_wanted(settings.top_k);
        let found = self.search(search).await?;
        let mut recalled = Recalled { preferences: fitting_preferences(&found), ..Recalled::default() };
        if settings.enable_textual_memory {
            let best = found.best();
            let least = best.first().map_or(0.0, |(_, first)| least_score(fit(first)));
            let threshold = chat.threshold.unwrap_or(f32::MIN);
            let kept = best.into_iter().take(n_wanted).filter(|(_, memory)| fit(memory) >= least);
            let kept =
                kept.enumerate().filter(|(place, (_, memory))| *place < MIN_TOLD || memory.relativity >= threshold);
            recalled.memories = kept.map(|(_, (cube, memory))| (cube.clone(), memory.clone())).collect();
        }
        recalled.notes = found.notes().map(|(cube, note)| (cube.clone(), note.to_owned())).collect();
        recalled.skipped = found.skipped;
        Ok(recalled)
    }
}
