//! Organising with a model over HTTP.

use std::sync::Arc;

use mos_core::graph::{Graph, Paging, kinds};
use mos_core::{
    CubeId, Embedder, EmbeddingWrite, Filter, GraphStore, MemoryId, MemoryItem, Origin, RandomIds, RecordStore, Scope,
    Status, SystemClock, WriteBatch,
};
use mos_memory::organize::{OrganizeOptions, Organizer, OrganizerParts};
use mos_models::{HttpOptions, OpenAiChat, OpenAiOptions, ServerOptions};
use mos_stores::{ExactVectors, SqliteOptions, SqliteStore, TextAnalyzer};
use mos_testkit::embedder::WordEmbedder;
use mos_testkit::model_server::{Fault, ModelServer, Reply};
use serde_json::{Value, json};
use tempfile::TempDir;

const PARIS: &str = "00000000-0000-4000-8000-000000000001";
const BERLIN: &str = "00000000-0000-4000-8000-000000000002";

struct Desk {
    _folder: TempDir,
    record: Arc<SqliteStore>,
    organizer: Organizer,
    scope: Scope,
}

impl Desk {
    /// A cube in which somebody lived in Paris and moved to Berlin, and a model that runs on `server`.
    async fn new(server: &ModelServer) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions::at(folder.path().join("mos.db"));
        let record = SqliteStore::open(options, Arc::new(SystemClock)).unwrap();
        let mut server = ServerOptions::new(server.openai_url());
        server.http = HttpOptions { max_retries: 0, ..HttpOptions::default() };
        let as_record: Arc<dyn RecordStore> = Arc::clone(&record) as _;
        let embedder = Arc::new(WordEmbedder::new("words", 256));
        let organizer = Organizer::new(OrganizerParts {
            vectors: ExactVectors::following(Arc::clone(&as_record)),
            record: as_record,
            embedder: Arc::clone(&embedder) as _,
            clock: Arc::new(SystemClock),
            ids: Arc::new(RandomIds),
            analyzer: Arc::new(TextAnalyzer::new()),
            model: Some(OpenAiChat::open(OpenAiOptions::new(server, "scripted")).unwrap()),
            check: None,
            options: OrganizeOptions::default(),
        });
        let desk = Self { _folder: folder, record, organizer, scope: Scope::of(&CubeId::from("cube")) };
        let texts = ["I live in Paris".to_owned(), "I live in Berlin".to_owned()];
        let vectors = embedder.embed(&texts).await.unwrap();
        let ids = [PARIS, BERLIN].map(MemoryId::from);
        let items = ids.iter().zip(&texts).zip(["2024-01-01", "2025-06-01"]).map(|((id, text), day)| {
            let metadata = json!({"memory_type": "UserMemory", "valid_from": day, "info": {"role": "user"}});
            MemoryItem::from_value(json!({"id": id, "memory": text, "metadata": metadata}), String::new).unwrap()
        });
        let space = embedder.space().await.unwrap();
        let vectors = ids.iter().cloned().zip(vectors).collect();
        let batch = WriteBatch {
            put: items.collect(),
            embeddings: Some(EmbeddingWrite { space, vectors, made_of: None, aside: false }),
            ..WriteBatch::new(Origin::new("ann", "add"))
        };
        desk.record.apply(&desk.scope, batch).await.unwrap();
        desk
    }

    async fn graph(&self) -> Graph {
        let nodes = self.record.list(&self.scope, &Filter::Everything, Paging::ALL).await.unwrap().entries;
        Graph { nodes, edges: self.record.all_edges(&self.scope).await.unwrap() }
    }
}

#[tokio::test]
async fn a_move_closes_the_former_home_and_keeps_it() {
    let server = ModelServer::start().await;
    let desk = Desk::new(&server).await;
    server.reply(Reply::text("contradictory"));
    let report = desk.organizer.organize(&desk.scope, None).await.unwrap();
    assert_eq!((report.n_closed, report.n_model_calls, report.n_failures), (1, 1, 0), "{report:?}");
    let graph = desk.graph().await;
    let [paris, berlin] = graph.nodes.as_slice() else { panic!("both stay: {graph:?}") };
    assert_eq!(paris.metadata.extra["valid_to"], "2025-06-01");
    assert_eq!((paris.metadata.status, berlin.metadata.status), (Some(Status::Activated), Some(Status::Activated)));
    let [edge] = graph.edges.as_slice() else { panic!("one edge: {graph:?}") };
    assert_eq!((edge.source.as_str(), edge.kind.as_str(), edge.target.as_str()), (BERLIN, kinds::SUPERSEDES, PARIS));
    assert!(!desk.organizer.organize(&desk.scope, None).await.unwrap().has_changes());
    assert_eq!((desk.graph().await, server.requests().len()), (graph, 1));
}

#[tokio::test]
async fn a_server_that_fails_answers_noise_or_breaks_off_changes_nothing() {
    let cut = Reply { is_cut: true, ..Reply::text("contradictory") };
    let faults = [
        Fault::Status(500, json!({"error": {"message": "out of memory"}})),
        Fault::RateLimited(None),
        Fault::Garbage,
        Fault::CutOff(2),
        Fault::ErrorInStream(2),
    ];
    for fault in faults {
        let server = ModelServer::start().await;
        let desk = Desk::new(&server).await;
        let before = desk.graph().await;
        server.fault(fault.clone());
        let report = desk.organizer.conflicts(&desk.scope, &[MemoryId::from(BERLIN)]).await.unwrap();
        assert_eq!((report.n_failures, report.left.conflicts.len()), (1, 1), "{fault:?}: {report:?}");
        assert_eq!(desk.graph().await, before, "{fault:?}");
        // The next run does it.
        server.reply(Reply::text("contradictory"));
        assert_eq!(desk.organizer.go_on(&desk.scope, &report.left).await.unwrap().n_closed, 1);
    }
    let server = ModelServer::start().await;
    let desk = Desk::new(&server).await;
    let before = desk.graph().await;
    server.answer_with(move |_| cut.clone());
    let report = desk.organizer.conflicts(&desk.scope, &[MemoryId::from(BERLIN)]).await.unwrap();
    assert_eq!((report.n_model_calls, report.n_failures), (3, 1), "an answer that was cut off is asked for again");
    assert_eq!(desk.graph().await, before);
}

#[tokio::test]
async fn what_the_model_is_asked_holds_both_memories_and_the_cube_s_words_only() {
    let server = ModelServer::start().await;
    let desk = Desk::new(&server).await;
    server.reply(Reply::text("independent"));
    desk.organizer.conflicts(&desk.scope, &[MemoryId::from(PARIS)]).await.unwrap();
    let requests = server.requests();
    let messages = requests[0].body["messages"].as_array().unwrap();
    let roles: Vec<&Value> = messages.iter().map(|message| &message["role"]).collect();
    assert_eq!(roles, ["system", "user"]);
    let shown = messages[1]["content"].as_str().unwrap();
    for part in ["I live in Paris", "I live in Berlin", "2024-01-01", "2025-06-01"] {
        assert!(shown.contains(part), "{shown}");
    }
}

/// 25 memories in the order in which somebody may have told them: a dog, a kitchen, a journey.
pub(crate) const TOLD: [&str; 25] = [
    "My puppy Rex chewed up another pair of slippers",
    "I baked a loaf of sourdough bread on Sunday",
    "We booked flights to Japan for the spring",
    "The vet said Rex needs his vaccinations",
    "I am trying a new recipe for tomato soup",
    "Our hotel in Kyoto is close to the old temples",
    "Rex learned to sit and give his paw",
    "The oven burns everything on the left side",
    "I bought a rail pass for the bullet trains in Japan",
    "I take the dog for a walk in the park every morning",
    "My grandmother showed me how to make pasta by hand",
    "We want to see the cherry blossoms in Tokyo",
    "Rex barked at the postman again",
    "I cooked a curry with chickpeas and spinach",
    "I am learning some Japanese phrases for the trip",
    "The dog sleeps at the foot of my bed",
    "The cake did not rise because I forgot the baking powder",
    "The flight home from Osaka leaves at noon",
    "Rex plays with the neighbour's poodle",
    "I chopped onions and garlic for the sauce",
    "We plan a day trip from Tokyo to Mount Fuji",
    "I bought a new leash and collar for Rex",
    "Fresh basil makes the best pesto",
    "My passport has to be renewed before the journey to Japan",
    "The dog food with chicken upsets his stomach",
];

/// Which of the three a memory is about, by its place.
fn subject(text: &str) -> usize {
    TOLD.iter().position(|known| *known == text).map_or(usize::MAX, |place| place % 3)
}

/// The encoder that comes with the program.
pub(crate) fn minilm() -> Arc<dyn Embedder> {
    let models = std::env::var_os("MOS_MODELS_DIR").map(std::path::PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").or_else(|| std::env::var_os("USERPROFILE")).unwrap();
        std::path::Path::new(&home).join(".cache/mos/models")
    });
    mos_engine::LocalEmbedder::open(&mos_engine::EmbedderOptions::new(models.join("all-minilm-l6-v2"))).unwrap()
}

/// The encoder that comes with the program finds the topics without any model that could name them.
#[tokio::test]
async fn a_real_encoder_tells_a_dog_a_kitchen_and_a_journey_apart() {
    let embedder = minilm();
    let record: Arc<dyn RecordStore> = mos_stores::InMemoryStore::new(Arc::new(SystemClock));
    let scope = Scope::of(&CubeId::from("cube"));
    let texts = TOLD.map(str::to_owned);
    let vectors = embedder.embed(&texts).await.unwrap();
    let items: Vec<MemoryItem> = (1..)
        .zip(&texts)
        .map(|(number, text)| {
            let id = format!("10000000-0000-4000-8000-{number:012}");
            let metadata = json!({"memory_type": "LongTermMemory"});
            MemoryItem::from_value(json!({"id": id, "memory": text, "metadata": metadata}), String::new).unwrap()
        })
        .collect();
    let vectors = items.iter().map(|item| item.id.clone()).zip(vectors).collect();
    let space = embedder.space().await.unwrap();
    let batch = WriteBatch {
        put: items,
        embeddings: Some(EmbeddingWrite { space, vectors, made_of: None, aside: false }),
        ..WriteBatch::new(Origin::new("ann", "add"))
    };
    record.apply(&scope, batch).await.unwrap();
    let organizer = Organizer::new(OrganizerParts {
        vectors: ExactVectors::following(Arc::clone(&record)),
        record: Arc::clone(&record),
        embedder,
        clock: Arc::new(SystemClock),
        ids: Arc::new(RandomIds),
        analyzer: Arc::new(TextAnalyzer::new()),
        model: None,
        check: None,
        options: OrganizeOptions::default(),
    });
    organizer.organize(&scope, None).await.unwrap();
    let topics = record.list(&scope, &Filter::equals("type", "topic"), Paging::ALL).await.unwrap().entries;
    let told: Vec<Vec<usize>> = topics
        .iter()
        .map(|topic| {
            let sources = topic.metadata.tree().unwrap().sources.as_deref().unwrap();
            sources.iter().map(|source| subject(source.content.as_deref().unwrap())).collect()
        })
        .collect();
    let keys: Vec<Option<&str>> = topics.iter().map(|topic| topic.metadata.key.as_deref()).collect();
    assert_eq!(topics.len(), 3, "{told:?} {keys:?}");
    let majority = |of_topic: &[usize]| (0..3).max_by_key(|one| of_topic.iter().filter(|other| *other == one).count());
    let subjects: std::collections::BTreeSet<Option<usize>> = told.iter().map(|of_topic| majority(of_topic)).collect();
    assert_eq!(subjects.len(), 3, "{told:?} {keys:?}");
    // Food that upsets a dog may stand with the kitchen; nothing else is out of place.
    let strangers = told.iter().flat_map(|of_topic| of_topic.iter().filter(|one| Some(**one) != majority(of_topic)));
    assert!(strangers.count() <= 1, "{told:?} {keys:?}");
    assert!(told.iter().map(Vec::len).sum::<usize>() >= 20, "{told:?} {keys:?}");
    assert!(!organizer.organize(&scope, None).await.unwrap().has_changes());
}
