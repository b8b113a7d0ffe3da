//! Adding, reading, changing and removing memories.

use mos_core::memory::{Quarantined, SourceKind};
use mos_core::{
    AddRequest, CubeId, Edge, Filter, MemoryId, MemoryItem, Message, Origin, Paging, Role, SessionId, UserId, Version,
};
use mos_memory::NoText;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::{CubeHandle, CubeKept, Mos};
use crate::error::{Error, Result};
use crate::plugin::AddContent;

/// What is remembered.
///
/// ```no_run
/// # use mos::{Add, Mos};
/// # use mos_core::Message;
/// # async fn run(mos: Mos) -> mos::Result<()> {
/// mos.add(Add::text("My dog is called Max").user("ann").cube("notes")).await?;
/// let conversation = vec![Message::user("I moved to Berlin"), Message::assistant("How do you like it?")];
/// // The second call of the same key stores nothing and returns the same ids.
/// let ids = mos.add(Add::messages(conversation).user("ann").session("monday").idempotency_key("request-17")).await?;
/// assert_eq!(ids.len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Add {
    user: Option<UserId>,
    cube: Option<CubeId>,
    session: Option<SessionId>,
    idempotency_key: Option<String>,
    learns: bool,
    speaker: Option<Role>,
    content: AddContent,
}

impl Add {
    /// One memory of this text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::of(AddContent::Text(text.into()))
    }

    /// One memory per message of a conversation, word for word. System messages are instructions, not memories, and
    /// are passed over.
    pub fn messages(messages: Vec<Message>) -> Self {
        Self::of(AddContent::Messages(messages))
    }

    fn of(content: AddContent) -> Self {
        Self { user: None, cube: None, session: None, idempotency_key: None, learns: true, speaker: None, content }
    }

    /// Whose memory it is; without this the settings' user.
    #[must_use]
    pub fn user(mut self, user: impl Into<UserId>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// The cube; without this the user's default cube.
    #[must_use]
    pub fn cube(mut self, cube: impl Into<CubeId>) -> Self {
        self.cube = Some(cube.into());
        self
    }

    /// The conversation it arose in.
    #[must_use]
    pub fn session(mut self, session: impl Into<SessionId>) -> Self {
        self.session = Some(session.into());
        self
    }

    /// Whose words a text is, which tells how far it is trusted; without this the user's. Messages tell it themselves.
    #[must_use]
    pub fn said_by(mut self, role: Role) -> Self {
        self.speaker = Some(role);
        self
    }

    /// No preferences are learned from it.
    #[must_use]
    pub(super) fn without_preferences(mut self) -> Self {
        self.learns = false;
        self
    }

    /// Makes the request safe to repeat: a second one of the same user and cube with the same key stores nothing and
    /// returns the ids that the first one did. Keys are kept for a week, the newest 10,000 of a cube.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }
}

/// The longest idempotency key, in bytes.
const MAX_KEY_BYTES: usize = 512;

/// Users who share a cube do not share their keys.
fn key_of(user: &UserId, key: &str) -> Result<String> {
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        return Err(Error::Invalid(format!(
            "an idempotency key has 1 to {MAX_KEY_BYTES} bytes, this one {}",
            key.len()
        )));
    }
    Ok(format!("{}:{user}:{key}", user.as_str().len()))
}

/// What came of an [`Add`].
#[derive(Debug)]
pub struct Added {
    /// The ids of the memories, in order.
    pub ids: Vec<MemoryId>,
    /// The ids under which the preferences that show in the messages are known; none unless preference memory is enabled
    /// and the cube has one, and none when the scheduler learns them later. An error tells why they could not be learned: the
    /// memories are stored all the same.
    pub preferences: Result<Vec<MemoryId>>,
    /// The memories among them that no search finds until they are released: a tool returned them in the manner of
    /// instructions.
    pub quarantined: Vec<Quarantined>,
}

/// The memories of one cube.
#[derive(Clone, Debug)]
pub struct CubeMemories {
    /// The cube.
    pub cube_id: CubeId,
    /// Its memories, oldest first; those of a tree newest first.
    pub memories: Vec<MemoryItem>,
    /// What connects them, when the cube is a tree.
    pub graph: Option<CubeGraph>,
}

/// What connects the memories of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CubeGraph {
    /// The edges.
    pub edges: Vec<Edge>,
    /// How many memories there are.
    pub n_nodes: usize,
    /// How many edges there are.
    pub n_edges: usize,
}

/// As MemOS writes it: `memories` is a list, that of a tree an object with `nodes`, `edges`, `total_nodes`, `total_edges`.
impl Serialize for CubeMemories {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let memories = match &self.graph {
            None => json!(self.memories),
            Some(CubeGraph { edges, n_nodes, n_edges }) => {
                json!({"nodes": self.memories, "edges": edges, "total_nodes": n_nodes, "total_edges": n_edges})
            }
        };
        json!({"cube_id": self.cube_id, "memories": memories}).serialize(serializer)
    }
}

/// Everything a cube holds, in the shape of MemOS' `get_all`.
#[derive(Clone, Debug)]
pub struct MemoryListing {
    /// Textual memories by cube; none when the settings switch textual memory off (`enable_textual_memory`).
    pub text_mem: Vec<CubeMemories>,
    /// Activation memory by cube, where there is one and the settings switch it on (`enable_activation_memory`).
    pub act_mem: Vec<CubeKept>,
}

impl Serialize for MemoryListing {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        json!({"para_mem": [], "act_mem": self.act_mem, "text_mem": self.text_mem}).serialize(serializer)
    }
}

impl Mos {
    /// The user that is meant when none is named.
    pub(crate) fn user_or_default(&self, user: Option<&UserId>) -> UserId {
        user.cloned().unwrap_or_else(|| UserId::new(self.parts.settings.user_id.as_str()))
    }

    /// Stores memories and returns their ids, in order, once they are durable; a tree returns the id of a memory that it
    /// knows already. When there is nothing to store (only
    /// system messages), no id is returned.
    ///
    /// With a scheduler, what is to be done about the memories is in its queue exactly when they are stored.
    ///
    /// Preferences are learned from messages as by [`Mos::add_and_learn`]; a failure of that is told of in the log only.
    ///
    /// # Errors
    /// Rights; [`Error::Invalid`] for an empty text or message, and when the settings switch textual memory off;
    /// [`MemoryError::Unsupported`](mos_core::MemoryError::Unsupported) for a cube without one; store and model errors. Nothing is
    /// stored then.
    pub async fn add(&self, add: Add) -> Result<Vec<MemoryId>> {
        let added = self.add_and_learn(add).await?;
        if added.preferences.is_err() {
            // The error may quote what a model said about the messages.
            tracing::warn!(
                "memories are stored, but no preferences could be learned from them; `add_and_learn` tells why"
            );
        }
        Ok(added.ids)
    }

    /// Stores memories as [`Mos::add`] does, then learns the preferences that show in the messages when the settings'
    /// `enable_preference_memory` is on and the cube has a preference memory.
    ///
    /// # Errors
    /// As [`Mos::add`]. What goes wrong with the preferences is told in the result.
    pub async fn add_and_learn(&self, mut add: Add) -> Result<Added> {
        let user = self.user_or_default(add.user.as_ref());
        let cube = self.target(&user, add.cube.as_ref()).await?;
        self.check_remembering(&cube)?;
        let place = self.hook_context_of(&user, &cube, add.session.as_ref());
        if let Some(place) = &place {
            add.content = self.parts.plugins.before_add(place.clone(), add.content).await?;
        }
        let items = match &add.content {
            AddContent::Text(text) => {
                let said = add.speaker.map(|role| Message::new(role, text.clone()));
                vec![self.new_item(&user, add.session.as_ref(), text.clone(), said.as_ref())]
            }
            AddContent::Messages(messages) => {
                if messages.is_empty() {
                    return Err(Error::Invalid("there are no messages to remember; give at least one".to_owned()));
                }
                let kept = messages.iter().filter(|message| message.role != Role::System);
                kept.map(|message| self.new_item(&user, add.session.as_ref(), message.text(), Some(message))).collect()
            }
        };
        let mut items = self.before_store(place.as_ref(), items).await?;
        let mut quarantined = self.quarantine_new(&mut items).await?;
        if items.is_empty() {
            return Ok(Added { ids: Vec::new(), preferences: Ok(Vec::new()), quarantined: Vec::new() });
        }
        let idempotency_key = add.idempotency_key.as_deref().map(|key| key_of(&user, key)).transpose()?;
        let origin = Origin::new(user.as_str(), "add");
        let new_ids: Vec<MemoryId> = items.iter().map(|item| item.id.clone()).collect();
        let mut jobs = self.jobs_of_added(&cube, &user, add.session.as_ref(), &new_ids)?;
        let mut conversation = match &add.content {
            AddContent::Messages(messages) if add.learns && self.parts.settings.enable_preference_memory => {
                Some(messages)
            }
            _ => None,
        };
        if let Some(messages) = conversation
            && let Some(job) = self.job_of_preferences(&cube, &user, add.session.as_ref(), messages)?
        {
            jobs.push(job);
            conversation = None;
        }
        let request = AddRequest { origin, idempotency_key: idempotency_key.clone(), jobs };
        let hooked = place.map(|place| (place, items.clone()));
        let ids = cube.text_mem().add(items, request).await?;
        for one in &mut quarantined {
            // A request that is repeated returns the ids of the first one.
            let place = new_ids.iter().position(|id| *id == one.id);
            if let Some(known) = place.and_then(|place| ids.get(place)) {
                one.id = known.clone();
            }
        }
        self.has_changed(&cube.info().cube_id);
        self.wake_scheduler();
        self.organize_added(&cube, &ids);
        let preferences = match conversation {
            Some(messages) => self.learn(&cube, &user, add.session.as_ref(), messages, idempotency_key).await,
            None => Ok(Vec::new()),
        };
        if let Some((place, items)) = hooked {
            self.after_add(place, &ids, items).await;
        }
        Ok(Added { ids, preferences, quarantined })
    }

    /// Refuses where what is told would be lost: when the settings switch textual memory off, and in a cube without one.
    pub(crate) fn check_remembering(&self, cube: &CubeHandle) -> Result<()> {
        if !self.parts.settings.enable_textual_memory {
            let why = "textual memory is off, so nothing can be remembered; set `enable_textual_memory: true`";
            return Err(Error::Invalid(why.to_owned()));
        }
        if cube.has_texts() { Ok(()) } else { Err(NoText::new(cube.info().cube_id.clone()).refused().into()) }
    }

    fn new_item(
        &self,
        user: &UserId,
        session: Option<&SessionId>,
        text: String,
        message: Option<&Message>,
    ) -> MemoryItem {
        let mut item = MemoryItem::new(MemoryId::new(self.parts.ids.next_uuid()), text);
        item.metadata.user_id = Some(user.to_string());
        item.metadata.session_id =
            session.map_or_else(|| self.parts.settings.session_id.clone(), |id| Some(id.to_string()));
        item.metadata.source = Some(SourceKind::Conversation);
        item.metadata.updated_at = Some(self.parts.clock.now_text());
        item.metadata.info = message.map(message_info);
        item
    }

    /// Returns one memory.
    ///
    /// # Errors
    /// Rights; an error for an unknown id.
    pub async fn get(&self, user: &UserId, cube: Option<&CubeId>, id: &MemoryId) -> Result<MemoryItem> {
        Ok(self.target_to_read(user, cube).await?.text_mem().get(id).await?)
    }

    /// Returns every memory of a cube (without an id the default one): texts, and what is kept of the model's state. Of a tree,
    /// the memories that are not marked as deleted, working copies too, and the edges between them.
    ///
    /// # Errors
    /// Rights.
    pub async fn get_all(&self, user: &UserId, cube: Option<&CubeId>) -> Result<MemoryListing> {
        let cube = self.target_to_read(user, cube).await?;
        let text_mem =
            if self.parts.settings.enable_textual_memory { vec![texts_of(&cube).await?] } else { Vec::new() };
        let act_mem = self.kept_of(user, &cube).await?.into_iter().collect();
        Ok(MemoryListing { text_mem, act_mem })
    }

    /// Returns every state of a memory, oldest first: what it said, who changed it, when and why. Also of a memory that was
    /// removed.
    ///
    /// # Errors
    /// Rights; an error for an id that never was.
    pub async fn history(&self, user: &UserId, cube: Option<&CubeId>, id: &MemoryId) -> Result<Vec<Version>> {
        Ok(self.target_to_read(user, cube).await?.text_mem().history(id).await?)
    }

    /// Takes back the last change of a memory and returns what it is now; a removed memory comes back under its id.
    ///
    /// ```no_run
    /// # async fn run(mos: mos::Mos) -> mos::Result<()> {
    /// let ann = mos_core::UserId::from("ann");
    /// let ids = mos.add(mos::Add::text("Max is a cat").user("ann")).await?;
    /// mos.delete(&ann, None, &ids[0]).await?;
    /// println!("there again: {}", mos.undo(&ann, None, &ids[0]).await?.memory);
    /// for version in mos.history(&ann, None, &ids[0]).await? {
    ///     println!("{} by {}: {}", version.at, version.origin.actor, version.origin.reason);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Rights; an error for an id that never was, and when there is nothing to go back to.
    pub async fn undo(&self, user: &UserId, cube: Option<&CubeId>, id: &MemoryId) -> Result<MemoryItem> {
        let cube = self.target(user, cube).await?;
        let item = cube.text_mem().undo(id, Origin::new(user.as_str(), "undo")).await?;
        self.has_changed(&cube.info().cube_id);
        Ok(item)
    }

    /// Removes one memory.
    ///
    /// # Errors
    /// Rights; an error for an unknown id.
    pub async fn delete(&self, user: &UserId, cube: Option<&CubeId>, id: &MemoryId) -> Result<()> {
        let cube = self.target(user, cube).await?;
        let ids = std::slice::from_ref(id);
        self.forget_promoted_memories(&cube, Some(ids)).await?;
        match cube.text_mem().delete(ids, Origin::new(user.as_str(), "delete")).await? {
            0 => Err(mos_core::MemoryError::NotFound(id.clone()).into()),
            _ => {
                self.has_changed(&cube.info().cube_id);
                self.forget_in_monitors(&cube, Some(ids)).await;
                Ok(())
            }
        }
    }

    /// Removes every memory of a cube (without an id the default one) and returns how many there were.
    ///
    /// # Errors
    /// Rights.
    pub async fn delete_all(&self, user: &UserId, cube: Option<&CubeId>) -> Result<usize> {
        let cube = self.target(user, cube).await?;
        self.forget_promoted_memories(&cube, None).await?;
        let n_deleted = cube.text_mem().delete_all(Origin::new(user.as_str(), "delete_all")).await?;
        self.has_changed(&cube.info().cube_id);
        self.forget_in_monitors(&cube, None).await;
        Ok(n_deleted)
    }
}

/// The textual memories of a cube that may be read.
async fn texts_of(cube: &CubeHandle) -> Result<CubeMemories> {
    let cube_id = cube.info().cube_id.clone();
    let Some(tree) = cube.text_mem().as_tree() else {
        return Ok(CubeMemories { cube_id, memories: cube.text_mem().get_all().await?, graph: None });
    };
    let page = tree.graph(&Filter::Everything, Paging::ALL).await?;
    let graph = CubeGraph { edges: page.graph.edges, n_nodes: page.n_nodes, n_edges: page.n_edges };
    Ok(CubeMemories { cube_id, memories: page.graph.nodes, graph: Some(graph) })
}

/// Which message a memory came from: who spoke, when, and its id.
fn message_info(message: &Message) -> Map<String, Value> {
    let mut info = Map::new();
    info.insert("role".to_owned(), json!(message.role));
    for (key, value) in
        [("name", &message.name), ("chat_time", &message.chat_time), ("message_id", &message.message_id)]
    {
        if let Some(text) = value {
            info.insert(key.to_owned(), json!(text));
        }
    }
    info
}
