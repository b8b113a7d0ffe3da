//! Activation memory that the scheduler promoted: what chats begin with, and when it is forgotten.

use std::collections::HashMap;
use std::sync::Arc;

use mos_core::{ActivationId, ChatModel, Cube, CubeId, MemoryId, Scope, StateStore, UserId};
use mos_scheduler::promote::is_as_promoted;
use serde::Serialize;

use super::{CubeActivation, CubeHandle, Mos};
use crate::error::Result;
use crate::factories::as_configured;
use crate::prompt;
use crate::scheduling::beginning::{self, Beginning};
use crate::scheduling::{options, promoted};

/// What answers a chat, and what stands before the conversation.
#[derive(Debug)]
pub(crate) struct Answering {
    pub(crate) model: Arc<dyn ChatModel>,
    /// The activation memory that is before the conversation, in order.
    pub(crate) activation: Vec<ActivationId>,
    /// What the conversation must begin with, word for word.
    pub(crate) beginning: Option<Beginning>,
}

/// Activation memory that the scheduler promoted for a user of a cube.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PromotedCache {
    /// Its name.
    pub id: ActivationId,
    /// The memories in it.
    pub memories: Vec<String>,
    /// How many turns have retrieved each of them since it came into working memory, in their order; 0 for what the scheduler did
    /// not choose itself.
    pub recalls: Vec<u64>,
    /// How many chats began with it.
    pub n_chats: u64,
    /// When it was promoted, ISO 8601.
    pub promoted_at: String,
    /// Whether chats begin with it now.
    pub is_used: bool,
}

impl Mos {
    /// Returns the activation memory that the scheduler promoted for a user of a cube (without an id the default one), by name.
    /// What is promoted for others of a shared cube is theirs: it follows from their questions.
    ///
    /// # Errors
    /// Rights; store errors.
    pub async fn promoted(&self, user: &UserId, cube: Option<&CubeId>) -> Result<Vec<PromotedCache>> {
        let cube = self.target_to_read(user, cube).await?;
        let Some(state) = &self.parts.state else { return Ok(Vec::new()) };
        let Some(kept) = promoted::read(state.as_ref(), &cube.scope(), user).await? else { return Ok(Vec::new()) };
        let base = self.parts.settings.base_prompt.as_deref();
        let counted = mos_scheduler::promote::promoted(state.as_ref(), &cube.scope(), user).await?;
        let counted: HashMap<String, u64> = counted
            .into_iter()
            .flat_map(|promoted| promoted.memories)
            .map(|memory| (prompt::one_line(&memory.text), memory.recalls))
            .collect();
        let used = kept.used;
        let caches = kept.states.into_iter().map(|(name, state)| {
            let id = ActivationId::new(name);
            let memories = beginning::memories(base, &state.messages).unwrap_or_default();
            PromotedCache {
                is_used: used.as_ref() == Some(&id),
                recalls: memories.iter().map(|memory| counted.get(memory).copied().unwrap_or(0)).collect(),
                memories,
                n_chats: state.n_chats,
                promoted_at: state.promoted_at,
                id,
            }
        });
        Ok(caches.collect())
    }

    /// Returns what answers a chat of a user that begins with what was promoted for them in a cube; `None` when nothing is, the
    /// chat has other instructions than those that it was computed with, or a memory in it is not what it was.
    pub(super) async fn promoted_answering(
        &self,
        user: &UserId,
        cube: &CubeHandle,
        base: Option<&str>,
        model: &Arc<dyn ChatModel>,
    ) -> Result<Option<Answering>> {
        // Without a scheduler nothing would follow the memories any more.
        if self.parts.scheduler.get().is_none() || !options::promotes(&self.parts.settings) {
            return Ok(None);
        }
        let (Some(state), Some(backend)) = (&self.parts.state, cube.act_mem().map(CubeActivation::backend)) else {
            return Ok(None);
        };
        let scope = cube.scope();
        let Some(kept) = promoted::read(state.as_ref(), &scope, user).await? else { return Ok(None) };
        let Some(id) = kept.used else { return Ok(None) };
        let Some(found) = kept.states.get(id.as_str()) else { return Ok(None) };
        let base = base.or(self.parts.settings.base_prompt.as_deref());
        let Some(memories) = beginning::memories(base, &found.messages) else { return Ok(None) };
        // Handlers, organising and other programs change memories too, and a change can overtake a promotion.
        let text = cube.text_mem().as_ref();
        if is_as_promoted(state.as_ref(), &scope, user, &id, text).await? == Some(false) {
            tracing::debug!(cube = %cube.info().cube_id, "a memory was changed since it was promoted; the chat begins without");
            return Ok(None);
        }
        let tenant = crate::activation::promoted_tenant(cube.info(), user);
        let Some(model) = backend.0.continuing(&tenant, &id, model).await? else { return Ok(None) };
        let model = as_configured(&self.parts.settings.chat_model, model);
        self.count_chat(scope, user.clone(), id.clone());
        let beginning = Beginning { messages: found.messages.clone(), memories };
        Ok(Some(Answering { model, activation: vec![id], beginning: Some(beginning) }))
    }

    /// Counts that a chat begins with what was promoted, while the chat goes on: no answer waits for a disk.
    fn count_chat(&self, scope: Scope, user: UserId, id: ActivationId) {
        let (Some(state), Some(task)) = (self.parts.state.clone(), self.parts.sending.begin()) else { return };
        tokio::spawn(async move {
            let counted = promoted::change_known(state.as_ref(), &scope, &user, |kept| {
                if let Some(state) = kept.states.get_mut(id.as_str()) {
                    state.n_chats += 1;
                }
            });
            if let Err(error) = counted.await {
                tracing::warn!(%error, "it could not be counted that a chat began with promoted memories");
            }
            drop(task);
        });
    }

    /// Forgets what was promoted with memories of a cube that are about to change or go (all with `None`): no chat tells of a
    /// memory that was removed.
    pub(super) async fn forget_promoted_memories(&self, cube: &CubeHandle, ids: Option<&[MemoryId]>) -> Result<()> {
        let Some(state) = &self.parts.state else { return Ok(()) };
        let scope = cube.scope();
        let all = promoted::read_all(state.as_ref(), &scope).await?;
        if all.iter().all(|kept| kept.states.is_empty()) {
            return Ok(());
        }
        let lines: Option<Vec<String>> = match ids {
            None => None,
            Some(ids) => {
                let items = cube.text_mem().get_by_ids(ids).await?;
                Some(items.iter().map(|item| format!("- {}", prompt::one_line(&item.memory))).collect())
            }
        };
        for kept in all {
            for (name, found) in &kept.states {
                // A long memory may stand there with its beginning only.
                let tells = |one: &str, line: &str| one.starts_with("- ") && line.starts_with(one);
                let is_told =
                    |line: &String| found.messages.iter().any(|told| told.text().lines().any(|one| tells(one, line)));
                if lines.as_ref().is_none_or(|lines| lines.iter().any(is_told)) {
                    self.forget_promoted_state(cube, state, &kept.user, &ActivationId::new(name.as_str())).await?;
                }
            }
        }
        Ok(())
    }

    /// Takes removed memories (all with `None`) out of what the scheduler keeps of its users' working memory.
    pub(super) async fn forget_in_monitors(&self, cube: &CubeHandle, ids: Option<&[MemoryId]>) {
        let Some(state) = &self.parts.state else { return };
        if let Err(error) = mos_scheduler::monitor::forget(state.as_ref(), &cube.scope(), ids).await {
            // The memories are gone: what is left goes with the next turns.
            tracing::warn!(%error, "removed memories could not be taken out of the scheduler's monitors");
        }
    }

    async fn forget_promoted_state(
        &self,
        cube: &CubeHandle,
        state: &Arc<dyn StateStore>,
        user: &UserId,
        id: &ActivationId,
    ) -> Result<()> {
        promoted::change_known(state.as_ref(), &cube.scope(), user, |kept| {
            kept.states.remove(id.as_str());
            if kept.used.as_ref() == Some(id) {
                kept.used = None;
            }
        })
        .await?;
        let Some((backend, _)) = cube.act_mem().map(CubeActivation::backend) else { return Ok(()) };
        backend.memory().delete(&crate::activation::promoted_tenant(cube.info(), user), id).await?;
        Ok(())
    }

    /// Forgets all that was promoted for any user of a cube that goes away.
    pub(super) async fn forget_promoted(&self, cube: &Cube) -> Result<()> {
        let Some(state) = &self.parts.state else { return Ok(()) };
        let scope = Scope::of(&cube.cube_id);
        for kept in promoted::read_all(state.as_ref(), &scope).await? {
            self.parts.activation.forget_promoted(cube, &kept.user).await?;
            promoted::remove(state.as_ref(), &scope, &kept.user).await?;
        }
        Ok(())
    }
}
