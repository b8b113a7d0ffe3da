//! Cubes over real memories, with documents in memory, a scripted model, and activation memory that only keeps names.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use mos_core::{
    ActivationId, ActivationStats, ChatModel, ChatRequest, Clock, Cube, CubeId, Document, Embedder, Expected, LogEntry,
    MemoryError, MemoryId, MemoryItem, Message, Origin, Reading, RecordStore, Scope, StateStore, StoreError,
    TextMemory, UserId, VectorStore,
};
use mos_memory::{
    DEFAULT_FILE_NAME, GeneralText, GeneralTextParts, Recall, RecallOptions, Shelf, TreeOptions, TreeShelves, TreeText,
    TreeTextParts,
};
use mos_scheduler::{
    CubeActivation, CubeWork, Cubes, OpenError, Organized, ScheduleMessage, SchedulerCube, StoredReading, label,
};
use mos_stores::{ExactVectors, InMemoryStore, TextAnalyzer};
use mos_testkit::chat::ScriptedChat;
use mos_testkit::clock::{CountingIds, SetClock};
use mos_testkit::embedder::WordEmbedder;
use serde_json::{Value, json};

pub(crate) const CUBE: &str = "cube";

/// The values and versions of documents, and logs.
#[derive(Debug, Default)]
struct Kept {
    documents: BTreeMap<(Scope, String), Document>,
    logs: HashMap<(Scope, String), Vec<LogEntry>>,
}

/// Documents and logs that end with the test.
#[derive(Debug, Default)]
pub(crate) struct States {
    kept: Mutex<Kept>,
    /// How many more writes succeed; `None`: all.
    writes_left: Mutex<Option<usize>>,
}

impl States {
    /// Lets only so many more writes succeed: the process ends then.
    pub(crate) fn end_after(&self, n_writes: Option<usize>) {
        *self.writes_left.lock().unwrap() = n_writes;
    }

    fn spend_a_write(&self) -> Result<(), StoreError> {
        match &mut *self.writes_left.lock().unwrap() {
            Some(0) => Err(StoreError::Unavailable { backend: "test", source: "the process has ended".into() }),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

#[async_trait]
impl StateStore for States {
    async fn read(&self, scope: &Scope, key: &str) -> Result<Option<Document>, StoreError> {
        Ok(self.kept.lock().unwrap().documents.get(&(scope.clone(), key.to_owned())).cloned())
    }

    async fn write(&self, scope: &Scope, key: &str, value: &Value, expected: Expected) -> Result<u64, StoreError> {
        mos_core::state::check_key(key)?;
        mos_core::state::checked_text(value)?;
        self.spend_a_write()?;
        let mut kept = self.kept.lock().unwrap();
        let place = (scope.clone(), key.to_owned());
        let version = kept.documents.get(&place).map_or(0, |document| document.version);
        let is_so = match expected {
            Expected::Anything => true,
            Expected::Absent => version == 0,
            Expected::Version(wanted) => version == wanted,
        };
        if !is_so {
            return Err(StoreError::Conflict(format!("`{key}` has version {version}")));
        }
        kept.documents.insert(place, Document { value: value.clone(), version: version + 1 });
        Ok(version + 1)
    }

    async fn remove(&self, scope: &Scope, key: &str) -> Result<bool, StoreError> {
        self.spend_a_write()?;
        Ok(self.kept.lock().unwrap().documents.remove(&(scope.clone(), key.to_owned())).is_some())
    }

    async fn keys(
        &self,
        scope: &Scope,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let kept = self.kept.lock().unwrap();
        let keys = kept.documents.keys().filter(|(of, _)| of == scope).map(|(_, key)| key);
        let wanted = keys.filter(|key| key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after));
        Ok(wanted.take(limit).cloned().collect())
    }

    async fn append(&self, scope: &Scope, log: &str, entries: &[Value], keep: usize) -> Result<u64, StoreError> {
        self.spend_a_write()?;
        let mut kept = self.kept.lock().unwrap();
        let log = kept.logs.entry((scope.clone(), log.to_owned())).or_default();
        let mut sequence = log.last().map_or(0, |entry| entry.sequence);
        for value in entries {
            mos_core::state::checked_text(value)?;
            sequence += 1;
            log.push(LogEntry { sequence, value: value.clone() });
        }
        let surplus = log.len().saturating_sub(keep);
        log.drain(..surplus);
        Ok(sequence)
    }

    async fn entries(&self, scope: &Scope, log: &str, after: u64, limit: usize) -> Result<Vec<LogEntry>, StoreError> {
        let kept = self.kept.lock().unwrap();
        let log = kept.logs.get(&(scope.clone(), log.to_owned()));
        let wanted = log.into_iter().flatten().filter(|entry| entry.sequence > after);
        Ok(wanted.take(limit).cloned().collect())
    }

    async fn remove_scope(&self, scope: &Scope) -> Result<(), StoreError> {
        let mut kept = self.kept.lock().unwrap();
        kept.documents.retain(|(of, _), _| of != scope);
        kept.logs.retain(|(of, _), _| of != scope);
        Ok(())
    }
}

/// Activation memory that keeps the messages its caches were made from.
#[derive(Debug, Default)]
pub(crate) struct Caches {
    kept: Mutex<BTreeMap<String, Vec<Message>>>,
    in_chats: Mutex<Option<ActivationId>>,
    /// How many caches were computed.
    computed: Mutex<usize>,
    is_of_one_user: Mutex<bool>,
}

impl Caches {
    fn name(messages: &[Message]) -> String {
        messages.iter().map(Message::text).collect::<Vec<_>>().join("\n")
    }

    /// What the chats of the cube begin with.
    pub(crate) fn beginning_of_chats(&self) -> Option<String> {
        let name = self.in_chats.lock().unwrap().clone()?;
        assert!(self.kept.lock().unwrap().contains_key(name.as_str()), "chats begin with a cache that is gone");
        Some(name.to_string())
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.kept.lock().unwrap().keys().cloned().collect()
    }

    pub(crate) fn computed(&self) -> usize {
        *self.computed.lock().unwrap()
    }

    /// A cache that a user adds.
    pub(crate) fn add(&self, name: &str) {
        self.kept.lock().unwrap().insert(name.to_owned(), vec![Message::system(name)]);
    }

    /// Says that every user has caches apart.
    pub(crate) fn keep_users_apart(&self) {
        *self.is_of_one_user.lock().unwrap() = true;
    }

    /// Loses every cache, as a disk does.
    pub(crate) fn lose_all(&self) {
        self.kept.lock().unwrap().clear();
    }
}

#[async_trait]
impl CubeActivation for Caches {
    async fn promote(&self, messages: &[Message]) -> Result<ActivationId, MemoryError> {
        let name = Self::name(messages);
        if self.kept.lock().unwrap().insert(name.clone(), messages.to_vec()).is_none() {
            *self.computed.lock().unwrap() += 1;
        }
        Ok(ActivationId::new(name))
    }

    fn beginning(&self, texts: &[String]) -> Vec<Message> {
        vec![Message::system(format!("You know: {}", texts.join("; ")))]
    }

    fn is_of_one_user(&self) -> bool {
        *self.is_of_one_user.lock().unwrap()
    }

    async fn use_in_chats(&self, id: Option<&ActivationId>) -> Result<(), MemoryError> {
        *self.in_chats.lock().unwrap() = id.cloned();
        Ok(())
    }

    async fn delete(&self, id: &ActivationId) -> Result<bool, MemoryError> {
        Ok(self.kept.lock().unwrap().remove(id.as_str()).is_some())
    }

    async fn stats(&self) -> Result<ActivationStats, MemoryError> {
        Ok(ActivationStats { n_items: self.kept.lock().unwrap().len(), ..ActivationStats::default() })
    }
}

/// Nothing of a turn reads or organises.
#[derive(Debug)]
struct NoWork {
    /// What was promoted to before promotion was switched off.
    former: Option<Arc<Caches>>,
}

#[async_trait]
impl CubeWork for NoWork {
    async fn store(&self, _reading: Reading, key: &str) -> Result<StoredReading, MemoryError> {
        Err(MemoryError::Unsupported(format!("a turn stores no reading, least of all `{key}`")))
    }

    async fn organize(&self, _ids: Option<&[MemoryId]>) -> Result<Organized, MemoryError> {
        Err(MemoryError::Unsupported("a turn organises nothing".to_owned()))
    }

    async fn former_activation(&self) -> Result<Option<Arc<dyn CubeActivation>>, MemoryError> {
        Ok(self.former.clone().map(|caches| -> Arc<dyn CubeActivation> { caches }))
    }
}

/// What a test works with: one record, and a cube in it.
pub(crate) struct House {
    pub(crate) clock: Arc<SetClock>,
    pub(crate) store: Arc<InMemoryStore>,
    pub(crate) states: Arc<States>,
    pub(crate) caches: Arc<Caches>,
    pub(crate) ids: CountingIds,
    recall: Arc<Recall>,
    vectors: Arc<dyn VectorStore>,
    shelves: Arc<TreeShelves>,
}

impl House {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(SetClock::default());
        let store = InMemoryStore::new(clock.clone());
        let record: Arc<dyn RecordStore> = store.clone();
        let vectors: Arc<dyn VectorStore> = ExactVectors::following(Arc::clone(&record));
        let index = Arc::clone(&vectors);
        let recall = Recall::following(record, index, Arc::new(TextAnalyzer::new()), RecallOptions::default());
        let (states, caches, shelves) = (Arc::default(), Arc::default(), Arc::default());
        Self { clock, store, states, caches, ids: CountingIds::default(), recall, vectors, shelves }
    }

    fn shelf(&self) -> Shelf {
        Shelf {
            scope: scope(),
            record: self.store.clone(),
            clock: self.clock.clone(),
            file_name: DEFAULT_FILE_NAME.to_owned(),
        }
    }

    pub(crate) fn tree(&self, options: TreeOptions) -> Arc<dyn TextMemory> {
        Arc::new(TreeText::new(TreeTextParts {
            shelf: self.shelf(),
            recall: Arc::clone(&self.recall),
            vectors: Arc::clone(&self.vectors),
            embedder: embedder(),
            analyzer: Arc::new(TextAnalyzer::new()),
            ids: Arc::new(mos_core::RandomIds),
            shelves: Arc::clone(&self.shelves),
            options,
        }))
    }

    pub(crate) fn general(&self) -> Arc<dyn TextMemory> {
        let recall = Arc::clone(&self.recall);
        Arc::new(GeneralText::new(GeneralTextParts { shelf: self.shelf(), recall, embedder: embedder() }))
    }

    /// The cube with this memory, opened for a user; Ann owns it.
    pub(crate) fn cube(
        &self,
        user: &str,
        text: Arc<dyn TextMemory>,
        model: Option<Arc<ScriptedChat>>,
    ) -> SchedulerCube {
        SchedulerCube {
            info: Cube {
                cube_id: CubeId::from(CUBE),
                cube_name: CUBE.to_owned(),
                cube_path: None,
                owner_id: UserId::from("ann"),
                created_at: self.clock.now_text(),
                is_registered: true,
                config: Value::Null,
            },
            user: UserId::from(user),
            text,
            preferences: None,
            activation: Some(self.caches.clone()),
            reader: None,
            work: Arc::new(NoWork { former: None }),
            model: model.map(|model| -> Arc<dyn ChatModel> { model }),
            embedder: embedder(),
        }
    }

    /// A cube where memories are promoted no more.
    pub(crate) fn switched_off(&self, cube: &SchedulerCube) -> SchedulerCube {
        let work = Arc::new(NoWork { former: Some(self.caches.clone()) });
        SchedulerCube { activation: None, work, ..cube.clone() }
    }

    pub(crate) fn question(&self, user: &str, text: &str) -> ScheduleMessage {
        ScheduleMessage::new(label::MEM_UPDATE, user, CUBE, text, &*self.clock, &self.ids)
    }
}

/// Opens the one cube there is.
#[derive(Debug)]
pub(crate) struct OneCube(pub(crate) SchedulerCube);

#[async_trait]
impl Cubes for OneCube {
    async fn open(&self, user: &UserId, cube: &CubeId) -> Result<Arc<SchedulerCube>, OpenError> {
        if *cube != self.0.info.cube_id {
            return Err(OpenError::Gone(format!("cube `{cube}` was deleted")));
        }
        Ok(Arc::new(SchedulerCube { user: user.clone(), ..self.0.clone() }))
    }
}

fn embedder() -> Arc<dyn Embedder> {
    Arc::new(WordEmbedder::new("words", 256))
}

pub(crate) fn scope() -> Scope {
    Scope::of(&CubeId::from(CUBE))
}

pub(crate) fn origin() -> Origin {
    Origin::new("test", "test")
}

/// A fact in long-term memory, which belongs to Ann.
pub(crate) fn fact(number: u32, text: &str) -> MemoryItem {
    let id = format!("0000000f-0000-4000-8000-{number:012}");
    let metadata = json!({"memory_type": "LongTermMemory", "user_id": "ann"});
    MemoryItem::from_value(json!({"id": id, "memory": text, "metadata": metadata}), String::new).unwrap()
}

/// What the story is about.
pub(crate) fn puppy() -> Vec<MemoryItem> {
    vec![
        fact(1, "The puppy of Ann is called Max"),
        fact(2, "Max is a golden retriever of two years"),
        fact(3, "Max loves salmon treats"),
        fact(4, "Ann lives in Oslo at Karl Johans gate"),
        fact(5, "Max has an allergy to peanuts"),
        fact(6, "the train to Bergen leaves at noon"),
    ]
}

/// Which question a model is asked, by the field that its answer must have.
pub(crate) fn asked_for(request: &ChatRequest) -> String {
    let schema = request.answer_schema.as_ref().unwrap();
    schema["required"][0].as_str().unwrap().to_owned()
}

/// The numbered memories that a model is shown, without their numbers.
pub(crate) fn shown_memories(request: &ChatRequest) -> Vec<String> {
    let text = request.messages[1].text();
    let lines = text.lines().skip_while(|line| *line != "Memories:").skip(1);
    lines.filter_map(|line| Some(line.split_once(". ")?.1.to_owned())).collect()
}
