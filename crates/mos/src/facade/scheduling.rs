//! Work in the background: the scheduler, what is sent to it, and what chats begin with because of it.

use std::sync::Arc;

use mos_config::StoreConfig;
use mos_core::{
    ActivationId, ChatModel, CubeId, MemoryId, Message, NewJob, Scope, SessionId, StateStore, StoreError, UserId,
};
use mos_scheduler::promote::is_as_promoted;
use mos_scheduler::{ScheduleMessage, Scheduler, Stopped, label};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{CubeActivation, CubeHandle, Mos};
use crate::error::{Error, Result};
use crate::factories::as_configured;
use crate::scheduling::beginning::{self, Beginning};
use crate::scheduling::cubes::background_model;
use crate::scheduling::{new_scheduler, options, promoted};

/// The longest conversation that a job holds, in bytes of JSON; preferences of a longer one are learned at once.
pub(super) const MAX_CONVERSATION: usize = 256 * 1024;

/// The most memories that one job names; it stays far below what queues take.
const MAX_IDS: usize = 5_000;

/// What a reader made, for the handlers that are told of it.
#[derive(Debug)]
pub(super) struct Told<'a> {
    pub(super) session: Option<&'a SessionId>,
    /// The ids of the memories.
    pub(super) ids: &'a [MemoryId],
    /// Names what was read.
    pub(super) key: &'a str,
    /// Whether the memories are to be refined; without this as the cube is configured.
    pub(super) refined: Option<bool>,
    /// The task of the application that it belongs to.
    pub(super) task: Option<&'a str>,
    /// Labels that a model should prefer.
    pub(super) tags: &'a [String],
    /// What preferences are to be learned from.
    pub(super) conversation: &'a [Message],
}

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
    /// How many chats began with it.
    pub n_chats: u64,
    /// When it was promoted, ISO 8601.
    pub promoted_at: String,
    /// Whether chats begin with it now.
    pub is_used: bool,
}

/// Starting and stopping.
impl Mos {
    /// Returns the scheduler; `None` unless `enable_mem_scheduler` is on, or [`Mos::mem_scheduler_on`] was called.
    pub fn scheduler(&self) -> Option<Scheduler> {
        self.parts.scheduler.get().cloned()
    }

    /// Starts to handle messages in this program; makes the scheduler first when there is none. A second call changes nothing.
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the store keeps no jobs.
    pub fn mem_scheduler_on(&self) -> Result<()> {
        self.open_scheduler()?.start();
        Ok(())
    }

    /// Stops to handle messages in this program, when what is being handled has ended; see [`Scheduler::stop`]. Messages are
    /// still taken, and handled after [`Mos::mem_scheduler_on`] or by another program.
    pub async fn mem_scheduler_off(&self) -> Stopped {
        match self.parts.scheduler.get() {
            Some(scheduler) => scheduler.stop().await,
            None => Stopped::default(),
        }
    }

    /// Ends the work in the background in good order: what was to be sent is sent, what is being handled may end, what is
    /// being learned or organised beside is waited for, and events reach their sinks. Dropping every [`Mos`] without this loses nothing either: what
    /// is in a durable queue is handled after the next start.
    pub async fn stop(&self) -> Stopped {
        self.parts.sending.wait().await;
        let stopped = self.mem_scheduler_off().await;
        self.wait_for_learning().await;
        self.wait_for_organizing().await;
        for sink in &self.parts.event_sinks {
            sink.flush().await;
        }
        self.parts.plugins.shut_down().await;
        stopped
    }

    /// Waits until every message is in the queue that answers of chats lead to.
    pub async fn wait_for_sending(&self) {
        self.parts.sending.wait().await;
    }

    /// Returns the scheduler, making it first when needed.
    pub(crate) fn open_scheduler(&self) -> Result<&Scheduler> {
        if let Some(scheduler) = self.parts.scheduler.get() {
            return Ok(scheduler);
        }
        let scheduler = new_scheduler(&self.parts)?;
        Ok(self.parts.scheduler.get_or_init(|| scheduler))
    }

    /// The scheduler, when it handles a label.
    pub(super) fn scheduler_of(&self, label: &str) -> Option<&Scheduler> {
        let scheduler = self.parts.scheduler.get()?;
        let is_disabled = options::is_disabled(&self.parts.settings, label);
        (!is_disabled && scheduler.handlers().iter().any(|known| known == label)).then_some(scheduler)
    }

    /// Whether messages of a label are handled in the background.
    pub(super) fn is_scheduled(&self, label: &str) -> bool {
        self.scheduler_of(label).is_some()
    }
}

/// What is sent.
impl Mos {
    /// Returns a message with a new name.
    pub(super) fn message(
        &self,
        label: &str,
        user: &UserId,
        cube: &CubeId,
        session: Option<&SessionId>,
        content: String,
    ) -> ScheduleMessage {
        let (clock, ids) = (self.parts.clock.as_ref(), self.parts.ids.as_ref());
        let mut message = ScheduleMessage::new(label, user.clone(), cube.clone(), content, clock, ids);
        message.user_name = user.to_string();
        if let Some(trace_id) = crate::trace::trace_id() {
            message.trace_id = trace_id;
        }
        let session = session.map(SessionId::as_str).or(self.parts.settings.session_id.as_deref());
        message.session_id = session.unwrap_or_default().to_owned();
        message
    }

    /// Returns the jobs that new memories lead to, for the write that stores them: `add`, `mem_read` when they are to be
    /// refined, and `mem_organize` when the cube keeps itself organised.
    pub(super) fn jobs_of_added(
        &self,
        cube: &CubeHandle,
        user: &UserId,
        session: Option<&SessionId>,
        ids: &[MemoryId],
    ) -> Result<Vec<NewJob>> {
        let Some(scheduler) = self.parts.scheduler.get() else { return Ok(Vec::new()) };
        let messages = self.messages_of_added(cube, user, session, ids, None);
        messages.iter().map(|message| Ok(scheduler.job(message)?)).collect()
    }

    /// As [`Mos::jobs_of_added`], as messages. `refined` says whether the memories are to be refined; without it the cube's
    /// configuration does.
    fn messages_of_added(
        &self,
        cube: &CubeHandle,
        user: &UserId,
        session: Option<&SessionId>,
        ids: &[MemoryId],
        refined: Option<bool>,
    ) -> Vec<ScheduleMessage> {
        let is_refined = match refined {
            Some(refined) => refined && cube.text_mem().as_tree().is_some(),
            None => is_to_be_refined(cube),
        };
        let labels = [
            (label::ADD, true),
            (label::MEM_READ, is_refined && background_model(self, user, cube).is_some()),
            (label::MEM_ORGANIZE, is_organised(cube)),
        ];
        let mut messages = Vec::new();
        for (label, _) in labels.into_iter().filter(|(label, is_due)| *is_due && self.is_scheduled(label)) {
            for ids in ids.chunks(MAX_IDS) {
                messages.push(self.message(label, user, &cube.info().cube_id, session, json!(ids).to_string()));
            }
        }
        messages
    }

    /// Returns the job that learns the preferences in a conversation; `None` when they are to be learned at once: nothing
    /// learns in the background, or it is too long for a job.
    pub(super) fn job_of_preferences(
        &self,
        cube: &CubeHandle,
        user: &UserId,
        session: Option<&SessionId>,
        conversation: &[Message],
    ) -> Result<Option<NewJob>> {
        let message = self.message_of_preferences(cube, user, session, conversation);
        let (Some(scheduler), Some(message)) = (self.parts.scheduler.get(), message) else { return Ok(None) };
        Ok(Some(scheduler.job(&message)?))
    }

    /// As [`Mos::job_of_preferences`], as a message.
    fn message_of_preferences(
        &self,
        cube: &CubeHandle,
        user: &UserId,
        session: Option<&SessionId>,
        conversation: &[Message],
    ) -> Option<ScheduleMessage> {
        self.scheduler_of(label::PREF_ADD).filter(|_| cube.pref_mem().is_some())?;
        let content = conversation_of_job(conversation)?;
        Some(self.message(label::PREF_ADD, user, &cube.info().cube_id, session, content))
    }

    /// Has the dispatcher look into the queue: a write has put jobs there.
    pub(super) fn wake_scheduler(&self) {
        if let Some(scheduler) = self.parts.scheduler.get() {
            scheduler.wake();
        }
    }

    /// Sends what follows from memories that a reader made. Reading the same again sends the same messages, which have
    /// effect once.
    pub(super) async fn tell_of_remembered(&self, cube: &CubeHandle, user: &UserId, told: Told<'_>) -> Result<()> {
        let Some(scheduler) = self.parts.scheduler.get().filter(|_| !told.ids.is_empty()) else { return Ok(()) };
        let mut messages = self.messages_of_added(cube, user, told.session, told.ids, told.refined);
        if !told.conversation.is_empty() {
            messages.extend(self.message_of_preferences(cube, user, told.session, told.conversation));
        }
        if messages.is_empty() {
            return Ok(());
        }
        let hash = blake3::hash(told.key.as_bytes()).to_hex();
        let name = &hash[..32];
        for (place, message) in messages.iter_mut().enumerate() {
            message.item_id = format!("remembered-{name}/{place}/{}", message.label);
            message.task_id = told.task.map(str::to_owned);
            if !told.tags.is_empty() {
                message.info = Some(Map::from_iter([("custom_tags".to_owned(), json!(told.tags))]));
            }
        }
        scheduler.submit_messages(messages).await?;
        Ok(())
    }

    /// Sends a user's question to the scheduler and returns the cube that it was sent for; none for a cube that the user only
    /// reads. A question is answered all the same when it could not be sent.
    pub(super) async fn tell_query(
        &self,
        user: &UserId,
        cubes: Option<&[CubeId]>,
        session: Option<&SessionId>,
        query: &str,
    ) -> Option<CubeId> {
        self.parts.scheduler.get()?;
        let cube = match cubes {
            Some(cubes) => cubes.first()?.clone(),
            // Who has no cube of their own has no memory to move.
            None => self.default_cube(user).await.ok()?,
        };
        // Nobody fills the queue of a cube that they may not use, and who only reads a cube moves nothing in it.
        let cube = self.writable_cube(user, &cube).await.ok()?.0.cube_id;
        if let Some(scheduler) = self.scheduler_of(label::QUERY) {
            let message = self.message(label::QUERY, user, &cube, session, query.to_owned());
            told(scheduler.submit_messages(vec![message]).await.map(drop));
        }
        Some(cube)
    }

    /// Sends the answer to a question, off the path of the chat.
    pub(super) fn tell_answer(&self, cube: &CubeId, user: &UserId, session: Option<&SessionId>, answer: &str) {
        if self.is_scheduled(label::ANSWER) {
            self.send_later(self.message(label::ANSWER, user, cube, session, answer.to_owned()));
        }
    }

    /// Sends a turn of a chat whose preferences are to be learned; returns false when they are to be learned at once: nothing
    /// learns in the background, or the turn is too long for a job.
    pub(super) fn tell_preferences(
        &self,
        cube: &CubeHandle,
        user: &UserId,
        session: Option<&SessionId>,
        turn: &[Message],
    ) -> bool {
        let Some(content) = conversation_of_job(turn).filter(|_| self.is_scheduled(label::PREF_ADD)) else {
            return false;
        };
        self.send_later(self.message(label::PREF_ADD, user, &cube.info().cube_id, session, content));
        true
    }

    pub(super) fn send_later(&self, message: ScheduleMessage) {
        let (Some(scheduler), Some(task)) = (self.scheduler(), self.parts.sending.begin()) else { return };
        tokio::spawn(async move {
            told(scheduler.submit_messages(vec![message]).await.map(drop));
            drop(task);
        });
    }
}

/// The chat goes on when its question or answer could not be sent.
fn told(sent: std::result::Result<(), StoreError>) {
    if let Err(error) = sent {
        tracing::warn!(%error, "a message of a chat could not be put into the queue; the chat goes on");
    }
}

/// Returns a conversation as a job holds it; `None` when it is too long for one.
fn conversation_of_job(conversation: &[Message]) -> Option<String> {
    Some(json!([conversation]).to_string()).filter(|content| content.len() <= MAX_CONVERSATION)
}

/// Whether the memories of a tree come raw and are to be refined later.
fn is_to_be_refined(cube: &CubeHandle) -> bool {
    let mode = cube.info().config.pointer("/text_mem/config/mode").and_then(Value::as_str);
    cube.text_mem().as_tree().is_some() && mode == Some("async")
}

/// Whether a tree is organised after memories were added.
fn is_organised(cube: &CubeHandle) -> bool {
    let configured = cube.info().config.pointer("/text_mem/config/reorganize").and_then(Value::as_bool);
    cube.text_mem().as_tree().is_some() && configured == Some(true)
}

/// What is promoted.
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
        let used = kept.used;
        let caches = kept.states.into_iter().map(|(name, state)| {
            let id = ActivationId::new(name);
            PromotedCache {
                is_used: used.as_ref() == Some(&id),
                memories: beginning::memories(base, &state.messages).unwrap_or_default(),
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
                Some(items.iter().map(|item| format!("- {}", crate::prompt::one_line(&item.memory))).collect())
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
    pub(super) async fn forget_promoted(&self, cube: &mos_core::Cube) -> Result<()> {
        let Some(state) = &self.parts.state else { return Ok(()) };
        let scope = Scope::of(&cube.cube_id);
        for kept in promoted::read_all(state.as_ref(), &scope).await? {
            self.parts.activation.forget_promoted(cube, &kept.user).await?;
            promoted::remove(state.as_ref(), &scope, &kept.user).await?;
        }
        Ok(())
    }

    /// Makes a cube whose work begins with nothing: what an earlier one of its id left behind is forgotten.
    pub(super) async fn make_cube(&self, cube: &mos_core::Cube) -> Result<()> {
        let Some(state) = self.state_that_knows_no_cubes() else {
            return Ok(self.parts.users.create_cube(cube).await?);
        };
        // Nobody finds that there is no such cube, and forgets its work, when there is one.
        let _forgetting = self.parts.forgetting.lock().await;
        self.forget_unless_known(state, &cube.cube_id).await?;
        Ok(self.parts.users.create_cube(cube).await?)
    }

    /// Forgets the work for a cube when there is no such cube: documents and events that are kept beside the record, which erases
    /// its own (and all jobs); also what a handler wrote while the cube was deleted.
    pub(crate) async fn forget_work_of_deleted(&self, cube: &CubeId) -> Result<()> {
        let Some(state) = self.state_that_knows_no_cubes() else { return Ok(()) };
        let _forgetting = self.parts.forgetting.lock().await;
        self.forget_unless_known(state, cube).await
    }

    /// The caller lets nobody else make or forget meanwhile.
    async fn forget_unless_known(&self, state: &Arc<dyn StateStore>, cube: &CubeId) -> Result<()> {
        if self.parts.users.cube(cube).await?.is_some() {
            return Ok(());
        }
        Ok(state.remove_scope(&Scope::of(cube)).await?)
    }

    /// Documents on a server, which take what is written for a cube that is gone; embedded stores do not.
    fn state_that_knows_no_cubes(&self) -> Option<&Arc<dyn StateStore>> {
        let is_embedded = matches!(self.parts.settings.store, StoreConfig::Sqlite(_) | StoreConfig::Memory(_));
        self.parts.state.as_ref().filter(|_| !is_embedded)
    }

    /// Refuses when the scheduler is not there, and says how to get it.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn require_scheduler(&self) -> Result<Scheduler> {
        self.scheduler().ok_or_else(|| {
            Error::Invalid("there is no scheduler; set `enable_mem_scheduler: true` in the settings".to_owned())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversations_that_are_too_long_for_a_job_become_none() {
        let short = [Message::user("I always book window seats")];
        let content = conversation_of_job(&short).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Vec<Message>>>(&content).unwrap(), [short.to_vec()]);
        assert!(conversation_of_job(&[Message::user("x".repeat(MAX_CONVERSATION))]).is_none());
    }
}
