//! Chat with memory.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::{Stream, StreamExt};
use mos_core::{
    ActivationId, ChatEvent, ChatModel, ChatRequest, ChatStream, ChatUsage, CubeId, MemoryId, MemoryItem, Message,
    ModelError, PreferenceType, Role, Sampling, SessionId, UserId,
};
use serde_json::Value;
use tracing::instrument;

use super::pro::{SubAnswer, Thought};
use super::scheduling::Answering;
use super::{CubeHandle, FoundMemory, Mos, Search, SearchResult, SkippedCube, preferences};
use crate::error::{Error, Result};
use crate::plugin::{AnsweredChat, ChatHook, ContextHook, HookContext};
use crate::prompt;
use crate::scheduling::beginning::Beginning;
use crate::transcript::Trim;

/// A question to answer.
///
/// ```no_run
/// # use mos::{Chat, Mos};
/// # async fn run(mos: Mos) -> mos::Result<()> {
/// use futures::StreamExt;
/// use mos_core::ChatEvent;
///
/// let mut reply = mos.chat(Chat::new("What is my dog called?").user("ann").session("monday")).await?;
/// while let Some(event) = reply.next().await {
///     if let ChatEvent::Text(more) = event? {
///         print!("{more}");
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Chat {
    user: Option<UserId>,
    session: Option<SessionId>,
    cubes: Option<Vec<CubeId>>,
    query: String,
    base_prompt: Option<String>,
    sampling: Option<Sampling>,
    remember: bool,
    include_preference: Option<bool>,
    pro: Option<bool>,
    pref_top_k: Option<usize>,
    threshold: Option<f32>,
    history: Option<Vec<Message>>,
    conversation: Option<Vec<Message>>,
    answer_schema: Option<Value>,
    tools: Vec<Value>,
    model: Option<Arc<dyn ChatModel>>,
    no_cache: bool,
    search: Search,
}

/// How many of the best memories stand in a prompt however little they fit.
const MIN_TOLD: usize = 3;

impl Chat {
    /// A question, or anything else the user says.
    pub fn new(query: impl Into<String>) -> Self {
        let query = query.into();
        Self {
            user: None,
            session: None,
            cubes: None,
            search: Search::new(query.as_str()),
            query,
            base_prompt: None,
            sampling: None,
            remember: false,
            include_preference: None,
            pro: None,
            pref_top_k: None,
            threshold: None,
            history: None,
            conversation: None,
            answer_schema: None,
            tools: Vec::new(),
            model: None,
            no_cache: false,
        }
    }

    /// Who speaks; without this the settings' user.
    #[must_use]
    pub fn user(mut self, user: impl Into<UserId>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// The conversation; without this the user's own one.
    #[must_use]
    pub fn session(mut self, session: impl Into<SessionId>) -> Self {
        self.session = Some(session.into());
        self
    }

    /// Only memories of these cubes; without this every registered cube of the user.
    #[must_use]
    pub fn cubes(mut self, cubes: impl IntoIterator<Item = CubeId>) -> Self {
        self.cubes = Some(cubes.into_iter().collect());
        self
    }

    /// Instructions for the model; `{memories}` marks where the memories go (remote models). Without this the
    /// settings' base prompt.
    #[must_use]
    pub fn base_prompt(mut self, base_prompt: impl Into<String>) -> Self {
        self.base_prompt = Some(base_prompt.into());
        self
    }

    /// How tokens are chosen; without this as the model is configured.
    #[must_use]
    pub fn sampling(mut self, sampling: Sampling) -> Self {
        self.sampling = Some(sampling);
        self
    }

    /// Stores what the user tells in the first cube of the chat, before the answer starts. Questions and single words
    /// are not stored. With the settings' `enable_preference_memory` the preferences that show in what is told and in the
    /// answer are learned afterwards; [`Mos::wait_for_learning`] waits for that.
    #[must_use]
    pub fn remember(mut self, remember: bool) -> Self {
        self.remember = remember;
        self
    }

    /// Whether the user's preferences stand in the prompt, of the cubes that have a memory of them; without this as the
    /// settings' `enable_preference_memory` says.
    #[must_use]
    pub fn include_preference(mut self, include_preference: bool) -> Self {
        self.include_preference = Some(include_preference);
        self
    }

    /// The cube, when it is one alone.
    fn only_cube(&self) -> Option<&CubeId> {
        self.cubes.as_deref().and_then(|cubes| if let [only] = cubes { Some(only) } else { None })
    }

    /// Whether a hard question is split, its parts are answered from memories and the answer is made of them; without this as
    /// the settings' `PRO_MODE` says. That asks the model once more for each part, and once to split. When a question cannot
    /// be split it is answered as it stands, and [`ChatReply::pro_note`] tells why.
    #[must_use]
    pub fn pro(mut self, pro: bool) -> Self {
        self.pro = Some(pro);
        self
    }

    /// The most preferences of each type (stated, concluded) per cube in the prompt; without this 3.
    #[must_use]
    pub fn pref_top_k(mut self, pref_top_k: usize) -> Self {
        self.pref_top_k = Some(pref_top_k);
        self
    }

    /// The least relativity of memories in the prompt, from 0 to 1; the best three stand there however little they fit.
    /// Without this all that fit about as well as the best one.
    #[must_use]
    pub fn threshold(mut self, threshold: f32) -> Self {
        self.threshold = Some(threshold);
        self
    }

    /// What was said before, oldest first, instead of what this facade has kept of the conversation. It then keeps nothing of
    /// this turn either: who gives the history keeps it.
    #[must_use]
    pub fn history(mut self, messages: impl IntoIterator<Item = Message>) -> Self {
        self.history = Some(messages.into_iter().collect());
        self
    }

    /// A model that answers instead of the one that the settings name. Activation memory, which is of that one, does not
    /// stand before the conversation then.
    #[must_use]
    pub fn model(mut self, model: Arc<dyn ChatModel>) -> Self {
        self.model = Some(model);
        self
    }

    /// How memories are looked for, for example
    /// `Chat::new("and hers?").searching(|search| search.mode(SearchMode::Fine).top_k(3))`: mode, number, least relevance,
    /// moment, filter, session, reranker, internet ... Without this as [`Search::new`] does. Whose memories and of which
    /// cubes, and whether preferences are looked for, the chat says. In modes that ask a model, it is shown what was said
    /// before in the conversation.
    #[must_use]
    pub fn searching(mut self, options: impl FnOnce(Search) -> Search) -> Self {
        self.search = options(self.search);
        self
    }

    /// The whole conversation, question included, as it is to be sent: what is remembered is put in, and nothing else is
    /// changed. It may end with something else than a question, which is then looked for nowhere. As with
    /// [`Chat::history`], nothing is kept of it.
    #[must_use]
    pub(crate) fn conversation(mut self, messages: Vec<Message>) -> Self {
        let question = messages.iter().rposition(|message| message.role == Role::User).unwrap_or(messages.len());
        self.history = Some(messages[..question].to_vec());
        self.conversation = Some(messages);
        self
    }

    /// The JSON schema that the answer should fit, for models that can be made to.
    #[must_use]
    pub(crate) fn answer_schema(mut self, schema: Option<Value>) -> Self {
        self.answer_schema = schema;
        self
    }

    /// Tools that the model may call, in OpenAI's form.
    #[must_use]
    pub(crate) fn tools(mut self, tools: Vec<Value>) -> Self {
        self.tools = tools;
        self
    }

    /// Computes the whole prompt anew, as if nothing had been kept (for measurements).
    #[must_use]
    pub fn no_cache(mut self, no_cache: bool) -> Self {
        self.no_cache = no_cache;
        self
    }

    /// The search of the chat, in its cubes.
    fn search_in_cubes(&self) -> Search {
        match &self.cubes {
            Some(cubes) => self.search.clone().cubes(cubes.iter().cloned()),
            None => self.search.clone(),
        }
    }
}

/// An answer as it is being made, and what it was made from. Dropping it cancels the generation; the turn then does
/// not enter the history.
pub struct ChatReply {
    /// The memories that stand in the prompt, best first.
    pub memories: Vec<(CubeId, FoundMemory)>,
    /// The preferences that stand in the prompt: of each cube the stated ones first, each best first.
    pub preferences: Vec<(CubeId, FoundMemory)>,
    /// Cubes that could not be searched.
    pub skipped: Vec<SkippedCube>,
    /// What the search for memories could not do, and why nothing was found, with the cube.
    pub notes: Vec<(CubeId, String)>,
    /// The parts of a question that was split, with their answers, in order.
    pub sub_answers: Vec<SubAnswer>,
    /// Why a question was not split although it was to be looked at for that.
    pub pro_note: Option<String>,
    /// The activation memory that stands before the conversation, in order.
    pub activation: Vec<ActivationId>,
    stream: ChatStream,
    text: String,
    finish: Option<FinishTurn>,
}

type FinishTurn = Box<dyn FnOnce(&str) + Send>;

impl std::fmt::Debug for ChatReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatReply")
            .field("n_memories", &self.memories.len())
            .field("n_preferences", &self.preferences.len())
            .finish_non_exhaustive()
    }
}

impl Stream for ChatReply {
    type Item = std::result::Result<ChatEvent, ModelError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.stream.poll_next_unpin(context);
        match &next {
            Poll::Ready(Some(Ok(ChatEvent::Text(more)))) => self.text.push_str(more),
            Poll::Ready(Some(Ok(ChatEvent::Done(_)))) => {
                let text = std::mem::take(&mut self.text);
                if let Some(finish) = self.finish.take() {
                    finish(&text);
                }
            }
            _ => {}
        }
        next
    }
}

impl ChatReply {
    /// Returns the whole answer.
    ///
    /// # Errors
    /// Any error of the model; a part of an answer is never returned as a whole.
    pub async fn complete(mut self) -> Result<(String, ChatUsage)> {
        let mut answer = String::new();
        while let Some(event) = self.next().await {
            match event? {
                ChatEvent::Text(more) => answer.push_str(&more),
                ChatEvent::Done(usage) => return Ok((answer, usage)),
            }
        }
        Err(ModelError::BadAnswer("the answer broke off before its end; try again".to_owned()).into())
    }
}

/// What was found for a chat.
#[derive(Debug, Default)]
pub(crate) struct Recalled {
    /// Best first.
    pub(crate) memories: Vec<(CubeId, FoundMemory)>,
    /// The stated ones of each cube first.
    pub(crate) preferences: Vec<(CubeId, FoundMemory)>,
    skipped: Vec<SkippedCube>,
    notes: Vec<(CubeId, String)>,
    /// The parts of a question that was split.
    thought: Thought,
    /// What the conversation begins with, when memories were promoted.
    beginning: Option<Beginning>,
    /// What a plugin has the prompt say of the memories.
    context: Option<String>,
    /// What plugins are told of where it happens, when there are any.
    place: Option<HookContext>,
}

impl Recalled {
    /// Whether the conversation does not begin with a memory.
    fn is_untold(&self, item: &MemoryItem, notes: &prompt::Notes) -> bool {
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
    /// Answers with the help of the user's memories, token by token.
    ///
    /// # Errors
    /// Rights ([`Error::NotWriter`] when what is told is to be remembered in a cube that the user only reads);
    /// [`Error::Invalid`] for an empty question or one that is too long for the model; store and model errors.
    #[instrument(skip_all, fields(n_memories), err(level = "debug"))]
    pub async fn chat(&self, chat: Chat) -> Result<ChatReply> {
        let (chat, recalled) = self.recalled(chat).await?;
        tracing::Span::current().record("n_memories", recalled.memories.len());
        self.answered(chat, recalled).await
    }

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

    /// Has a plugin that renders the context say what is told of the memories.
    async fn rendered(&self, place: Option<&HookContext>, query: &str, recalled: Recalled) -> Result<Recalled> {
        let Some(place) = place.filter(|_| self.parts.plugins.renders_context()) else { return Ok(recalled) };
        let notes = prompt::Notes::on(query, self.parts.clock.now_text());
        let memories = recalled.memories.iter().filter(|(_, found)| recalled.is_untold(&found.item, &notes));
        let found = ContextHook { query: query.to_owned(), memories: memories.cloned().collect() };
        let context = self.parts.plugins.render_context(place.clone(), found).await?;
        Ok(Recalled { context, ..recalled })
    }

    /// What was said before a question, oldest first.
    fn earlier(&self, user: &UserId, chat: &Chat) -> Vec<Message> {
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

    /// Refuses when what is told would go into a cube that the user only reads, whether or not there is something to store.
    async fn check_remembers(&self, user: &UserId, cubes: Option<&[CubeId]>) -> Result<()> {
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
        let mut add =
            super::Add::messages(vec![Message::user(chat.query.as_str())]).user(user.clone()).without_preferences();
        let cube = chat.cubes.as_ref().and_then(|cubes| cubes.first());
        if let Some(cube) = cube {
            add = add.cube(cube.clone());
        }
        if let Some(session) = &chat.session {
            add = add.session(session.clone());
        }
        self.add(add).await?;
        if !self.parts.settings.enable_preference_memory {
            return Ok(None);
        }
        let cube = self.target(user, cube).await?;
        Ok(Some(cube).filter(|cube| cube.pref_mem().is_some()))
    }

    /// The request, and the question as it is sent (which is what the history keeps).
    fn request(
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
