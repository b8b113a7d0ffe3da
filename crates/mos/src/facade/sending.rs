//! What is sent to the scheduler: of memories, of chats, of preferences.

use mos_core::{CubeId, MemoryId, Message, NewJob, SessionId, StoreError, UserId};
use mos_scheduler::{ScheduleMessage, label};
use serde_json::{Map, Value, json};

use super::{CubeHandle, Mos};
use crate::error::Result;
use crate::scheduling::cubes::background_model;

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
            (label::MEM_ORGANIZE, self.is_organised(cube)),
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
