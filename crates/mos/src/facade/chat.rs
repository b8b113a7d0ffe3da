//! Chat with memory.

mod answering;
mod prompting;
mod recalling;
mod reply;

use std::sync::Arc;

use mos_core::{ChatModel, CubeId, Message, Role, Sampling, SessionId, ToolChoice, UserId};
use serde_json::Value;

use super::Search;

use recalling::Recalled;
pub use reply::ChatReply;

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
    tool_choice: Option<ToolChoice>,
    model: Option<Arc<dyn ChatModel>>,
    no_cache: bool,
    search: Search,
}

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
            tool_choice: None,
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
    /// answer are learned afterwards; [`Mos::wait_for_learning`](super::Mos::wait_for_learning) waits for that.
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

    /// Tools that the model may call, in OpenAI's form, and what of them it must call.
    #[must_use]
    pub(crate) fn tools(mut self, tools: Vec<Value>, choice: Option<ToolChoice>) -> Self {
        (self.tools, self.tool_choice) = (tools, choice);
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
