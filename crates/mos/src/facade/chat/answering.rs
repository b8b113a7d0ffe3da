//! Answering with what was found, and what follows from an answer.

use std::sync::Arc;

use mos_core::{ChatModel, ChatStream, CubeId, MemoryId, Message, ModelError, SessionId, UserId};
use tracing::instrument;

use super::super::pro::Thought;
use super::super::promoting::Answering;
use super::super::{Add, CubeHandle, Mos};
use super::reply::FinishTurn;
use super::{Chat, ChatReply, Recalled};
use crate::error::{Error, Result};
use crate::plugin::AnsweredChat;
use crate::prompt;
use crate::transcript::Trim;

impl Mos {
    /// Answers with the help of the user's memories, token by token.
    ///
    /// # Errors
    /// Rights ([`Error::NotWriter`] when what is told is to be remembered in a cube that the user only reads);
    /// [`Error::Invalid`] for an empty question or one that is too long for the model; store and model errors.
    #[instrument(skip_all, fields(n_memories))]
    pub async fn chat(&self, chat: Chat) -> Result<ChatReply> {
        let (chat, recalled) = self.recalled(chat).await?;
        tracing::Span::current().record("n_memories", recalled.memories.len());
        self.answered(chat, recalled).await
    }

    /// Answers a question with what was found for it, as the second half of [`Mos::chat`].
    pub(crate) async fn answered(&self, chat: Chat, mut recalled: Recalled) -> Result<ChatReply> {
        let user = self.user_or_default(chat.user.as_ref());
        let place = recalled.place.take();
        let is_told = chat.remember && prompt::tells_something(&chat.query);
        let learner = if is_told { self.remember_query(&user, &chat).await? } else { None };
        let told = self.tell_query(&user, chat.cubes.as_deref(), chat.session.as_ref(), &chat.query).await;
        let answering = match &chat.model {
            Some(model) => Answering { model: Arc::clone(model), activation: Vec::new(), beginning: None },
            None => self.answering_model(&user, chat.cubes.as_deref(), chat.base_prompt.as_deref()).await?,
        };
        let Answering { model, activation, beginning } = answering;
        let recalled = Recalled { beginning, ..recalled };
        let recalled = self.rendered(place.as_ref(), &chat.query, recalled).await?;
        let model = self.metered(model, &user, chat.only_cube());
        let (stream, question) = self.start(&user, &chat, model.as_ref(), &recalled).await?;
        let (this, is_local) = (self.clone(), model.is_local());
        let hooked = place.map(|place| {
            let ids: Vec<MemoryId> = recalled.memories.iter().map(|(_, found)| found.item.id.clone()).collect();
            (place, ids)
        });
        let finish: FinishTurn = Box::new(move |answer| {
            let trim = if is_local { Trim::OlderHalf } else { Trim::OldestTurn };
            let max_turns = this.parts.settings.max_turns_window;
            if let Some(cube) = &told {
                this.tell_answer(cube, &user, chat.session.as_ref(), answer);
            }
            if let Some((place, memories)) = hooked {
                let (query, answer) = (chat.query.clone(), answer.to_owned());
                this.after_chat(place, AnsweredChat { query, answer, memories });
            }
            let answer = Message::assistant(answer);
            if let Some(cube) = learner {
                let turn = vec![Message::user(chat.query.as_str()), answer.clone()];
                this.learn_later(cube, user.clone(), chat.session.clone(), turn);
            }
            if chat.history.is_none() {
                this.parts.transcripts.push(&user, chat.session.as_ref(), question, answer, max_turns, trim);
            }
        });
        let Recalled { memories, preferences, skipped, notes, thought, .. } = recalled;
        let Thought { sub_answers, note: pro_note } = thought;
        let (text, finish) = (String::new(), Some(finish));
        Ok(ChatReply { memories, preferences, skipped, notes, sub_answers, pro_note, activation, stream, text, finish })
    }

    /// Forgets what a user said in chats; memories stay.
    ///
    /// # Errors
    /// [`Error::UnknownUser`].
    pub async fn clear_messages(&self, user: &UserId) -> Result<()> {
        self.checked_user(user).await?;
        self.parts.transcripts.clear(user);
        Ok(())
    }

    /// Returns what was said in a user's chat, as it was sent to the model, oldest first.
    ///
    /// # Errors
    /// [`Error::UnknownUser`].
    pub async fn chat_history(&self, user: &UserId, session: Option<&SessionId>) -> Result<Vec<Message>> {
        self.checked_user(user).await?;
        Ok(self.parts.transcripts.get(user, session))
    }

    /// Refuses when what is told would go into a cube that the user only reads, whether or not there is something to store.
    pub(super) async fn check_remembers(&self, user: &UserId, cubes: Option<&[CubeId]>) -> Result<()> {
        let cube = match cubes.and_then(<[CubeId]>::first) {
            Some(cube) => cube.clone(),
            None => match self.default_cube(user).await {
                Ok(cube) => cube,
                // Questions are answered without a cube, too.
                Err(Error::NoCube(_)) => return Ok(()),
                Err(error) => return Err(error),
            },
        };
        self.writable_cube(user, &cube).await.map(drop)
    }

    /// Stores what the user tells, and returns the cube whose preferences are to be learned from the turn, if any.
    async fn remember_query(&self, user: &UserId, chat: &Chat) -> Result<Option<CubeHandle>> {
        let mut add = Add::messages(vec![Message::user(chat.query.as_str())]).user(user.clone()).without_preferences();
        let cube = chat.cubes.as_ref().and_then(|cubes| cubes.first());
        if let Some(cube) = cube {
            add = add.cube(cube.clone());
        }
        if let Some(session) = &chat.session {
            add = add.session(session.clone());
        }
        let (is_textual, learns) =
            (self.parts.settings.enable_textual_memory, self.parts.settings.enable_preference_memory);
        if !is_textual && !learns {
            return Ok(None);
        }
        let cube = self.target(user, cube).await?;
        // Without textual memory a chat goes on; it may learn preferences all the same.
        if is_textual && cube.has_texts() {
            self.add(add).await?;
        }
        Ok(Some(cube).filter(|cube| learns && cube.pref_mem().is_some()))
    }

    /// Starts the answer; a conversation that outgrew the model's context forgets its older half, as often as it
    /// takes. When the question does not fit even alone, nothing is forgotten.
    async fn start(
        &self,
        user: &UserId,
        chat: &Chat,
        model: &dyn ChatModel,
        recalled: &Recalled,
    ) -> Result<(ChatStream, Message)> {
        let session = chat.session.as_ref();
        let mut earlier = self.earlier(user, chat);
        let mut n_forgotten = 0;
        loop {
            let (request, question) = self.request(chat, user, model, recalled, &earlier);
            match model.stream(request).await {
                Ok(stream) => {
                    if chat.history.is_none() {
                        self.parts.transcripts.forget_oldest(user, session, n_forgotten);
                    }
                    return Ok((stream, question));
                }
                Err(ModelError::TooLong { .. }) if !earlier.is_empty() && chat.conversation.is_none() => {
                    // Whole turns of what was kept; a history that was given may be a single message.
                    let n_older = ((earlier.len() / 2).div_ceil(2) * 2).clamp(1, earlier.len());
                    n_forgotten += n_older;
                    earlier.drain(..n_older);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
