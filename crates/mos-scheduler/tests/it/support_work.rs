//! Two cubes in one record, a scheduler over them, and models that answer as they are told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use mos_core::state::{check_key, checked_text};
use mos_core::{
    ChatModel, Cube, CubeId, Document, Expected, LogEntry, MemReader, MemoryError, MemoryId, MemoryItem, Origin,
    Paging, PreferenceMemory, ReadInput, ReadMode, Reading, RecordStore, Scope, StateStore, StoreError, TextMemory,
    UserId, VectorStore,
};
use mos_memory::{
    AddMode, DEFAULT_FILE_NAME, PrefText, PrefTextParts, Recall, RecallOptions, Shelf, TreeMode, TreeOptions,
    TreeShelves, TreeText, TreeTextParts,
};
use mos_reader::chunk::{ChunkSize, EstimatedTokens, SentenceChunker};
use mos_reader::{Reader, ReaderKind, ReaderOptions, ReaderParts};
use mos_scheduler::handlers::refining::{WorkOptions, register_work};
use mos_scheduler::{
    CubeWork, Cubes, Event, ItemState, ItemStatus, OpenError, Organized, ScheduleMessage, Scheduler, SchedulerCube,
    SchedulerOptions, SchedulerParts, StoredReading,
};
use mos_stores::{ExactVectors, InMemoryStore, SqliteOptions, SqliteStore, TextAnalyzer};
use mos_testkit::chat::ScriptedChat;
use mos_testkit::clock::{CountingIds, SetClock};
use mos_testkit::embedder::WordEmbedder;
use serde_json::{Value, json};
use tempfile::TempDir;

type Name = (CubeId, String);

/// Documents and logs in memory.
#[derive(Debug, Default)]
pub(crate) struct MemoryState {
    documents: Mutex<BTreeMap<Name, (Option<Value>, u64)>>,
    logs: Mutex<BTreeMap<Name, (u64, VecDeque<LogEntry>)>>,
    /// Refuses the next entry of a log.
    pub(crate) breaks: AtomicBool,
    /// Refuses the next removal.
    pub(crate) breaks_removal: AtomicBool,
    /// A memory that somebody removes just before the next answer is written.
    pub(crate) removes: Mutex<Option<(Arc<dyn TextMemory>, MemoryId)>>,
}

fn name(scope: &Scope, key: &str) -> Name {
    (scope.cube.clone(), key.to_owned())
}

#[async_trait]
impl StateStore for MemoryState {
    async fn read(&self, scope: &Scope, key: &str) -> Result<Option<Document>, StoreError> {
        let documents = self.documents.lock().unwrap();
        let found = documents.get(&name(scope, key)).cloned();
        Ok(found.and_then(|(value, version)| Some(Document { value: value?, version })))
    }

    async fn write(&self, scope: &Scope, key: &str, value: &Value, expected: Expected) -> Result<u64, StoreError> {
        check_key(key)?;
        checked_text(value)?;
        let removed = if key.starts_with("scheduler/mix/") { self.removes.lock().unwrap().take() } else { None };
        if let Some((text, id)) = removed {
            text.delete(&[id], Origin::new("ann", "delete")).await.unwrap();
        }
        let mut documents = self.documents.lock().unwrap();
        let (present, version) = documents.entry(name(scope, key)).or_default();
        let fits = match expected {
            Expected::Anything => true,
            Expected::Absent => present.is_none(),
            Expected::Version(wanted) => present.is_some() && *version == wanted,
        };
        if !fits {
            return Err(StoreError::Conflict(format!("document `{key}` is not as expected")));
        }
        *present = Some(value.clone());
        *version += 1;
        Ok(*version)
    }

    async fn remove(&self, scope: &Scope, key: &str) -> Result<bool, StoreError> {
        if self.breaks_removal.swap(false, Ordering::SeqCst) {
            return Err(StoreError::Unavailable { backend: "memory", source: "the line broke".into() });
        }
        let mut documents = self.documents.lock().unwrap();
        Ok(documents.get_mut(&name(scope, key)).is_some_and(|(value, _)| value.take().is_some()))
    }

    async fn keys(
        &self,
        scope: &Scope,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let documents = self.documents.lock().unwrap();
        let known = documents.iter().filter(|((cube, _), (value, _))| *cube == scope.cube && value.is_some());
        let keys = known.map(|((_, key), _)| key.clone());
        let meant = |key: &String| key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after);
        Ok(keys.filter(meant).take(limit).collect())
    }

    async fn append(&self, scope: &Scope, log: &str, entries: &[Value], keep: usize) -> Result<u64, StoreError> {
        check_key(log)?;
        if !entries.is_empty() && self.breaks.swap(false, Ordering::SeqCst) {
            return Err(StoreError::Unavailable { backend: "memory", source: "the line broke".into() });
        }
        for value in entries {
            checked_text(value)?;
        }
        let mut logs = self.logs.lock().unwrap();
        let (last, kept) = logs.entry(name(scope, log)).or_default();
        for value in entries {
            *last += 1;
            kept.push_back(LogEntry { sequence: *last, value: value.clone() });
        }
        while kept.len() > keep {
            kept.pop_front();
        }
        Ok(*last)
    }

    async fn entries(&self, scope: &Scope, log: &str, after: u64, limit: usize) -> Result<Vec<LogEntry>, StoreError> {
        let logs = self.logs.lock().unwrap();
        let all = logs.get(&name(scope, log)).map(|(_, kept)| kept.clone()).unwrap_or_default();
        Ok(all.into_iter().filter(|entry| entry.sequence > after).take(limit).collect())
    }

    async fn remove_scope(&self, scope: &Scope) -> Result<(), StoreError> {
        self.documents.lock().unwrap().retain(|(cube, _), _| *cube != scope.cube);
        self.logs.lock().unwrap().retain(|(cube, _), _| *cube != scope.cube);
        Ok(())
    }
}

/// Stores readings, and organises as it is told.
#[derive(Debug)]
pub(crate) struct Work {
    text: Arc<dyn TextMemory>,
    /// What runs will have done.
    pub(crate) organized: Mutex<VecDeque<Organized>>,
    /// What runs were asked for.
    pub(crate) asked: Mutex<Vec<Option<Vec<MemoryId>>>>,
    /// Fails once after it has stored a reading.
    pub(crate) breaks: AtomicBool,
}

#[async_trait]
impl CubeWork for Work {
    async fn store(&self, mut reading: Reading, key: &str) -> Result<StoredReading, MemoryError> {
        reading.idempotency_key = key.to_owned();
        let origin = Origin::new("scheduler", "mem_read");
        let stored = mos_reader::store(reading, self.text.as_ref(), &origin).await?;
        if self.breaks.swap(false, Ordering::SeqCst) {
            return Err(StoreError::Unavailable { backend: "memory", source: "the line broke".into() }.into());
        }
        Ok(StoredReading { ids: stored.ids, raw_files: stored.raw_files })
    }

    async fn looked_at(&self, known: Option<&MemoryItem>, next: MemoryItem) -> Result<MemoryItem, MemoryError> {
        mos_reader::keep_changed_apart(known.map_or("", |known| known.memory.as_str()), next).await
    }

    async fn organize(&self, ids: Option<&[MemoryId]>) -> Result<Organized, MemoryError> {
        self.asked.lock().unwrap().push(ids.map(<[MemoryId]>::to_vec));
        Ok(self.organized.lock().unwrap().pop_front().unwrap_or_default())
    }
}

#[derive(Debug)]
struct House {
    cubes: BTreeMap<CubeId, Arc<SchedulerCube>>,
}

#[async_trait]
impl Cubes for House {
    async fn open(&self, user: &UserId, cube: &CubeId) -> Result<Arc<SchedulerCube>, OpenError> {
        let found = self.cubes.get(cube).filter(|cube| cube.user == *user).cloned();
        found.ok_or_else(|| OpenError::Gone(format!("user `{user}` has no cube `{cube}`")))
    }
}

/// The models of a world, and how its trees add; `None`: there is none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Models {
    /// Reads.
    pub(crate) reader: Option<Arc<ScriptedChat>>,
    /// Judges and writes.
    pub(crate) judge: Option<Arc<ScriptedChat>>,
    /// Finds preferences; with it there is a preference memory.
    pub(crate) preferences: Option<Arc<ScriptedChat>>,
    /// Whether the trees mark what is added as raw.
    pub(crate) mode: TreeMode,
}

/// The cube `cube` of ann and the cube `other` of bob, in one SQLite record.
pub(crate) struct World {
    pub(crate) clock: Arc<SetClock>,
    pub(crate) state: Arc<MemoryState>,
    pub(crate) scheduler: Scheduler,
    pub(crate) cube: Arc<SchedulerCube>,
    pub(crate) other: Arc<SchedulerCube>,
    pub(crate) work: Arc<Work>,
    pub(crate) ids: Arc<CountingIds>,
    reader: Reader,
    _folder: TempDir,
}

fn as_model(model: Option<&Arc<ScriptedChat>>) -> Option<Arc<dyn ChatModel>> {
    model.map(|model| Arc::clone(model) as Arc<dyn ChatModel>)
}

fn reader_of(model: Option<&Arc<ScriptedChat>>, clock: &Arc<SetClock>) -> Reader {
    let size = ChunkSize::new(Arc::new(EstimatedTokens), 120, 20);
    let mut parts = ReaderParts::new(Arc::new(SentenceChunker::new(size)), clock.clone());
    parts.model = as_model(model);
    Reader::new(ReaderKind::Simple, ReaderOptions::of(ReaderKind::Simple), parts)
}

/// What the cubes of a record share.
struct Shared {
    record: Arc<dyn RecordStore>,
    vectors: Arc<dyn VectorStore>,
    recall: Arc<Recall>,
    shelves: Arc<TreeShelves>,
    clock: Arc<SetClock>,
    ids: Arc<CountingIds>,
}

impl Shared {
    fn shelf(&self, cube: &str, file_name: &str) -> Shelf {
        Shelf {
            scope: Scope { cube: cube.into() },
            record: Arc::clone(&self.record),
            clock: self.clock.clone(),
            file_name: file_name.to_owned(),
        }
    }

    fn tree(&self, cube: &str, mode: TreeMode) -> Arc<dyn TextMemory> {
        Arc::new(TreeText::new(TreeTextParts {
            shelf: self.shelf(cube, DEFAULT_FILE_NAME),
            recall: Arc::clone(&self.recall),
            vectors: Arc::clone(&self.vectors),
            embedder: Arc::new(WordEmbedder::new("words", 256)),
            analyzer: Arc::new(TextAnalyzer::new()),
            ids: self.ids.clone(),
            shelves: Arc::clone(&self.shelves),
            options: TreeOptions { mode, ..TreeOptions::default() },
        }))
    }

    fn preferences(&self, cube: &str, model: &Arc<ScriptedChat>) -> Arc<dyn PreferenceMemory> {
        Arc::new(PrefText::new(PrefTextParts {
            shelf: self.shelf(cube, "preferences.json"),
            vectors: Arc::clone(&self.vectors),
            embedder: Arc::new(WordEmbedder::new("words", 256)),
            reranker: None,
            model: as_model(Some(model)),
            mode: AddMode::Fast,
            ids: self.ids.clone(),
            locks: Arc::default(),
        }))
    }

    fn cube(&self, cube: &str, user: &str, models: &Models) -> (Arc<SchedulerCube>, Arc<Work>) {
        let text = self.tree(cube, models.mode);
        let work = Arc::new(Work {
            text: Arc::clone(&text),
            organized: Mutex::default(),
            asked: Mutex::default(),
            breaks: AtomicBool::new(false),
        });
        let reader = reader_of(models.reader.as_ref(), &self.clock);
        let opened = SchedulerCube {
            info: Cube {
                cube_id: cube.into(),
                cube_name: cube.to_owned(),
                cube_path: None,
                owner_id: user.into(),
                created_at: "2026-01-02T03:04:05.000000+00:00".to_owned(),
                is_registered: true,
                config: json!({}),
            },
            user: user.into(),
            text,
            preferences: models.preferences.as_ref().map(|model| self.preferences(cube, model)),
            activation: None,
            reader: Some(Arc::new(reader)),
            work: work.clone(),
            model: as_model(models.judge.as_ref()),
            embedder: Arc::new(WordEmbedder::new("words", 256)),
        };
        (Arc::new(opened), work)
    }
}

impl World {
    /// Returns a world whose scheduler runs; a message has one attempt, so that what fails can be seen at once.
    pub(crate) fn new(options: WorkOptions, models: &Models) -> Self {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Arc::new(SetClock::default()));
        let record: Arc<dyn RecordStore> =
            SqliteStore::open(SqliteOptions::at(folder.path().join("mos.db")), clock.clone()).unwrap();
        let vectors: Arc<dyn VectorStore> = ExactVectors::following(Arc::clone(&record));
        let (follows, index) = (Arc::clone(&record), Arc::clone(&vectors));
        let recall = Recall::following(follows, index, Arc::new(TextAnalyzer::new()), RecallOptions::default());
        let ids = Arc::new(CountingIds::default());
        let shared =
            Shared { record, vectors, recall, shelves: Arc::default(), clock: clock.clone(), ids: ids.clone() };
        let (cube, work) = shared.cube("cube", "ann", models);
        let (other, _) = shared.cube("other", "bob", models);
        let cubes = [&cube, &other].map(|cube| (cube.info.cube_id.clone(), Arc::clone(cube)));
        let state = Arc::new(MemoryState::default());
        let scheduler = Scheduler::new(SchedulerParts {
            queue: InMemoryStore::new(clock.clone()),
            state: state.clone(),
            cubes: Arc::new(House { cubes: BTreeMap::from(cubes) }),
            clock: clock.clone(),
            ids: ids.clone(),
            sinks: Vec::new(),
            options: SchedulerOptions { max_attempts: 1, ..SchedulerOptions::default() },
        });
        register_work(&scheduler, options).unwrap();
        scheduler.start();
        let reader = reader_of(None, &clock);
        Self { clock, state, scheduler, cube, other, work, ids, reader, _folder: folder }
    }

    /// A message of ann for her cube.
    pub(crate) fn message(&self, label: &str, content: impl Into<String>) -> ScheduleMessage {
        ScheduleMessage::new(label, "ann", "cube", content, &*self.clock, &*self.ids)
    }

    /// Submits a message, waits until nothing is to be done any more, and returns where it stands.
    pub(crate) async fn run(&self, message: ScheduleMessage) -> ItemStatus {
        let id = message.item_id.clone();
        self.scheduler.submit_messages(vec![message]).await.unwrap();
        self.status(&id).await
    }

    /// Has a message handled again that was given up.
    pub(crate) async fn retry(&self, id: &str) -> ItemStatus {
        assert_eq!(self.scheduler.retry(&self.cube.scope(), &[id.to_owned()]).await.unwrap(), 1);
        self.status(id).await
    }

    async fn status(&self, id: &str) -> ItemStatus {
        assert!(self.scheduler.wait_until_idle(Duration::from_secs(60)).await.unwrap(), "the work came to an end");
        self.scheduler.item_status(&self.cube.scope(), id).await.unwrap().unwrap()
    }

    /// Runs a message that is done.
    pub(crate) async fn done(&self, label: &str, content: impl Into<String>) {
        let status = self.run(self.message(label, content)).await;
        assert_eq!((status.status, status.error), (ItemState::Completed, None));
    }

    /// Runs a message that is given up, and returns why.
    pub(crate) async fn given_up(&self, label: &str, content: impl Into<String>) -> (String, String) {
        let message = self.message(label, content);
        let id = message.item_id.clone();
        let status = self.run(message).await;
        assert_eq!(status.status, ItemState::Failed);
        (id, status.error.unwrap())
    }

    /// Stores a conversation of ann as it is and returns the ids.
    pub(crate) async fn raw(&self, conversation: Value) -> Vec<MemoryId> {
        self.raw_input(ReadInput::from_value(conversation)).await
    }

    /// Stores what ann gives as it is and returns the ids.
    pub(crate) async fn raw_input(&self, mut input: ReadInput) -> Vec<MemoryId> {
        input.user = Some("ann".into());
        input.session = Some("s".into());
        input.cube = Some("cube".into());
        let reading = self.reader.read(input, ReadMode::Fast).await.unwrap();
        mos_reader::store(reading, self.cube.text.as_ref(), &Origin::new("ann", "add")).await.unwrap().ids
    }

    /// Stores facts of ann and returns their ids; each is a second newer than the one before.
    pub(crate) async fn facts(&self, texts: &[&str]) -> Vec<MemoryId> {
        let mut ids = Vec::new();
        for text in texts {
            ids.push(add(&self.cube, "ann", text).await);
            self.clock.advance(Duration::from_secs(1));
        }
        ids
    }

    /// What happened in the cube.
    pub(crate) async fn events(&self) -> Vec<Event> {
        let all = self.scheduler.events().events(&self.cube.scope(), 0, 1_000).await.unwrap();
        all.into_iter().map(|recorded| recorded.event).collect()
    }
}

/// Stores a fact of a user.
pub(crate) async fn add(cube: &SchedulerCube, user: &str, text: &str) -> MemoryId {
    let number = own(cube).await.len();
    let id = format!("{:08x}-0000-4000-8000-{:012x}", cube.info.cube_id.as_str().len(), 0xfac7_0000 + number);
    let metadata = json!({"user_id": user, "type": "fact", "key": "fact", "memory_type": "UserMemory"});
    let item = json!({"id": id, "memory": text, "metadata": metadata});
    let item = MemoryItem::from_value(item, String::new).unwrap();
    cube.text.add(vec![item], Origin::new(user, "add").into()).await.unwrap().remove(0)
}

/// The memories of a cube that are no working copies, in the order of their making.
pub(crate) async fn own(cube: &SchedulerCube) -> Vec<MemoryItem> {
    let all = cube.text.get_all().await.unwrap();
    all.into_iter().filter(|item| item.working_copy_of().is_none()).collect()
}

/// Their texts.
pub(crate) async fn texts(cube: &SchedulerCube) -> Vec<String> {
    own(cube).await.into_iter().map(|item| item.memory).collect()
}

/// A list of ids as messages hold it.
pub(crate) fn list(ids: &[MemoryId]) -> String {
    json!(ids).to_string()
}

/// How many entries a log has.
pub(crate) async fn n_entries(world: &World, log: &str) -> usize {
    world.state.entries(&world.cube.scope(), log, 0, Paging::ALL.limit).await.unwrap().len()
}
