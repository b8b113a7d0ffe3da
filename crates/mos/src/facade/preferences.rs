//! Preferences of users: learned from conversations, told beside what a search finds.

use mos_core::memory::PreferenceType;
use mos_core::{AddRequest, ConversationInfo, CubeId, MemoryId, MemoryItem, Message, Origin, SessionId, UserId};
use serde_json::Value;

use super::{CubeHandle, Mos, SearchResult};
use crate::error::{Error, Result};

/// The most preferences of each type that a search returns per cube, unless it says how many.
pub(super) const DEFAULT_TOP_K: usize = 6;

/// How a model is told to treat [`SearchResult::pref_string`].
pub const PREFERENCE_NOTE: &str = "These are preferences of the user. Follow those that matter for the request, the stated \
before the concluded ones; what the user asks for now goes before both. Do not mention them unless asked.";

impl Mos {
    /// Looks for preferences in a conversation, stores them in the preference memory of a cube (without an id the default
    /// one) and returns the ids under which they are known, in the order in which they were found.
    ///
    /// # Errors
    /// Rights; [`Error::Invalid`] for a cube without preference memory; store and model errors.
    pub async fn learn_preferences(
        &self,
        user: &UserId,
        cube: Option<&CubeId>,
        session: Option<&SessionId>,
        messages: &[Message],
    ) -> Result<Vec<MemoryId>> {
        let cube = self.target(user, cube).await?;
        if cube.pref_mem().is_none() {
            return Err(Error::Invalid(format!(
                "cube `{}` has no preference memory; set pref_mem in its configuration to `pref_text`",
                cube.info().cube_id
            )));
        }
        self.learn(&cube, user, session, messages, None).await
    }

    /// As [`Mos::learn_preferences`], with rights checked; a cube without preference memory learns none.
    pub(super) async fn learn(
        &self,
        cube: &CubeHandle,
        user: &UserId,
        session: Option<&SessionId>,
        messages: &[Message],
        idempotency_key: Option<String>,
    ) -> Result<Vec<MemoryId>> {
        let Some(memory) = cube.pref_mem() else { return Ok(Vec::new()) };
        let info = ConversationInfo { user: Some(user.clone()), session: session.cloned() };
        let found = memory.extract(messages, &info).await?;
        let request = AddRequest { origin: Origin::new(user.as_str(), "learn_preferences"), idempotency_key };
        let ids = memory.add(found, request).await?;
        self.has_changed(&cube.info().cube_id);
        Ok(ids)
    }
}

impl SearchResult {
    /// Returns the preferences that were found as text for a prompt, the stated ones first; `None` without any.
    pub fn pref_string(&self) -> Option<String> {
        let all = || self.pref_mem.iter().flat_map(|cube| cube.memories.iter().map(|found| &found.item));
        let lists =
            [("Stated preferences", PreferenceType::Explicit), ("Concluded preferences", PreferenceType::Implicit)];
        let lists: Vec<String> = lists
            .into_iter()
            .filter_map(|(heading, kind)| {
                let of_kind = all().filter(|item| said(item, "preference_type") == Some(kind.as_str()));
                let list = crate::prompt::numbered(of_kind);
                (!list.is_empty()).then(|| format!("## {heading}:\n{list}"))
            })
            .collect();
        (!lists.is_empty()).then(|| lists.join("\n\n"))
    }
}

fn said<'a>(item: &'a MemoryItem, key: &str) -> Option<&'a str> {
    item.metadata.extra.get(key).and_then(Value::as_str)
}
