//! Cubes between this program and MemOS' own package: what one dumps, the other loads, and both say the same.
//!
//! The package `MemoryOS` is looked for in the Python that `MOS_PYTHON` names, else in `python3`. Where it is not installed
//! nothing is compared, and each test says so; `MOS_REQUIRE_PYTHON=1` makes that a failure. No model and no server is asked.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use mos::config::{GeneralMemCubeConfig, Setting};
use mos::{Add, CubeSource, Mos, NewCube, Settings};
use mos_core::{CubeId, Message, UserId};
use mos_testkit::embedder::WordEmbedder;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// The length of our stand-in's vectors.
const DIMENSION: usize = 64;

/// What `cubes.py` ends with when the package cannot be imported.
const NOT_INSTALLED: i32 = 3;

/// A Python that has the package, and a folder of its own.
struct Upstream {
    program: String,
    folder: TempDir,
}

impl Upstream {
    /// Returns a Python with the package; `None` where there is none, which was told then.
    fn find() -> Option<Self> {
        let program = std::env::var("MOS_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let upstream = Self { program, folder: tempfile::tempdir().unwrap() };
        match upstream.start(&["version"]) {
            Ok(output) if output.status.success() => {
                told(&format!("compared with MemoryOS {}", upstream.answer()["version"].as_str().unwrap()));
                Some(upstream)
            }
            Ok(output) if output.status.code() != Some(NOT_INSTALLED) => panic!("{}", complaint(&output)),
            Ok(output) => missing(&complaint(&output)),
            Err(error) => missing(&format!("{} cannot be run: {error}", upstream.program)),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self, arguments: &[&str]) -> std::io::Result<Output> {
        let script = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("python/cubes.py");
        Command::new(&self.program)
            .arg(script)
            .args(arguments)
            .arg(self.path("answer.json"))
            .current_dir(self.folder.path())
            // Where the package keeps its logs and databases.
            .env("MEMOS_BASE_PATH", self.folder.path())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONIOENCODING", "utf-8")
            .output()
    }

    fn answer(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.path("answer.json")).unwrap()).unwrap()
    }

    /// Runs a command of `cubes.py` and returns what it answers.
    fn ask(&self, arguments: &[&str]) -> Value {
        let output = self.start(arguments).unwrap();
        assert!(output.status.success(), "{}", complaint(&output));
        self.answer()
    }

    /// The configuration of a cube that both sides can open: it names every part that MemOS wants named.
    fn config(&self, backend: &str, dimension: usize, qdrant: &str) -> Value {
        // Nothing listens there, and nothing is asked.
        let server =
            json!({"backend": "ollama", "config": {"model_name_or_path": "none", "api_base": "http://127.0.0.1:9"}});
        let mut memory = json!({"memory_filename": "textual_memory.json", "extractor_llm": server});
        if backend == "general_text" {
            memory["embedder"] = server;
            memory["vector_db"] = json!({"backend": "qdrant", "config": {
                "collection_name": "notes", "vector_dimension": dimension, "distance_metric": "cosine",
                "path": self.path(qdrant),
            }});
        }
        json!({"user_id": "ann", "cube_id": "notes", "text_mem": {"backend": backend, "config": memory}})
    }
}

fn complaint(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().rev().take(5).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// Says something that is also seen when the test passes.
fn told(what: &str) {
    // Past the test harness, which keeps what a test prints to itself.
    let mut notice = std::io::stderr();
    writeln!(notice, "python: {what}").unwrap();
}

fn missing(why: &str) -> Option<Upstream> {
    assert!(
        std::env::var_os("MOS_REQUIRE_PYTHON").is_none_or(|value| value != "1"),
        "MOS_REQUIRE_PYTHON is set and MemoryOS is not there: {why}"
    );
    told(&format!("skipped: nothing was compared, MemoryOS is not there: {why}"));
    None
}

fn ann() -> UserId {
    UserId::from("ann")
}

fn notes() -> CubeId {
    CubeId::from("notes")
}

async fn open(folder: &Path) -> Mos {
    let embedder = Arc::new(WordEmbedder::new("words", DIMENSION));
    let mos = Mos::builder(Settings::default()).data_dir(folder).embedder(embedder).build().await.unwrap();
    mos.create_user("ann", None).await.unwrap();
    mos
}

/// What our cube holds, as `cubes.py` tells it of MemOS': vectors are read from a dump.
async fn seen(mos: &Mos, cube: &CubeId, folder: &Path) -> Vec<Value> {
    mos.dump(&ann(), Some(cube), folder).await.unwrap();
    let dumped: Value = serde_json::from_slice(&std::fs::read(folder.join("textual_memory.json")).unwrap()).unwrap();
    let vector_of = |id: &Value| {
        let entry = dumped.as_array().unwrap().iter().find(|entry| entry["id"] == *id).unwrap();
        entry["vector"].clone()
    };
    let listing = mos.get_all(&ann(), Some(cube)).await.unwrap();
    let items = listing.text_mem[0].memories.iter().map(mos_core::MemoryItem::to_value);
    items
        .map(|mut item| {
            item["vector"] = vector_of(&item["id"]);
            item
        })
        .collect()
}

/// Everything that is said is said on the other side, too, which may know more keys.
fn assert_said(expected: &[Value], found: &[Value]) {
    assert_eq!(expected.len(), found.len(), "{expected:#?}\n{found:#?}");
    for item in expected {
        let other = found
            .iter()
            .find(|other| other["id"] == item["id"])
            .unwrap_or_else(|| panic!("{} is not there", item["id"]));
        assert_eq!(item["memory"], other["memory"]);
        let known = said(&item["metadata"]);
        assert!(known.len() >= 3, "there is something to compare: {known:?}");
        for (key, value) in &known {
            assert!(
                is_same(value, &other["metadata"][key]),
                "{}: {key}: {value} and {}",
                item["id"],
                other["metadata"][key]
            );
        }
        assert!(is_same(&item["vector"], &other["vector"]), "vectors of {}", item["id"]);
    }
}

/// The entries that say something.
fn said(metadata: &Value) -> Map<String, Value> {
    let entries = metadata.as_object().unwrap().iter().filter(|(_, value)| !value.is_null());
    entries.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Equal, where numbers may differ by what single precision loses.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => (one.as_f64().unwrap() - other.as_f64().unwrap()).abs() < 1e-6,
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        _ => one == other,
    }
}

#[tokio::test]
async fn memos_reads_what_we_dump() {
    let Some(upstream) = Upstream::find() else { return };
    for backend in ["general_text", "naive_text"] {
        let data = tempfile::tempdir().unwrap();
        let mos = open(data.path()).await;
        let config = upstream.config(backend, DIMENSION, "ours.qdrant");
        let config = Some(GeneralMemCubeConfig::from_json(&config).unwrap());
        mos.create_cube(&ann(), NewCube { cube_id: notes(), name: None, config }).await.unwrap();
        let said = vec![Message::user("My dog is called Max"), Message::assistant("猫も好きですか？ \"Yes\" — or no?")];
        mos.add(Add::messages(said).user("ann").session("monday")).await.unwrap();
        mos.add(Add::text("The sea is cold\nin winter").user("ann")).await.unwrap();

        let place = upstream.path(&format!("ours-{backend}"));
        let ours = seen(&mos, &notes(), &place).await;
        assert_eq!(ours.len(), 3);
        let theirs = upstream.ask(&["read", place.to_str().unwrap()]);
        assert_said(&ours, theirs["memories"].as_array().unwrap());
        assert_eq!(theirs["config"]["cube_id"], "notes");
        let has_vectors = backend == "general_text";
        assert!(
            ours.iter()
                .all(|item| item["vector"].as_array().is_some_and(|vector| vector.len() == DIMENSION) == has_vectors)
        );
    }
}

#[tokio::test]
async fn we_read_what_memos_dumps() {
    let Some(upstream) = Upstream::find() else { return };
    for backend in ["general_text", "naive_text"] {
        let memories = [("a dog called Max", 1.0), ("猫 — and \"quotes\"", -1.0), ("the sea\nis cold", 0.25)];
        let memories = memories.iter().enumerate().map(|(number, (text, last))| {
            json!({
                "id": format!("0191b5a0-0000-4000-8000-{number:012}"), "memory": text, "vector": [0.5, 0.5, 0.5, last],
                "metadata": {
                    "user_id": "ann", "session_id": "monday", "type": "fact", "key": "a key", "tags": ["one", "zwei"],
                    "source": "conversation", "confidence": 99.0, "visibility": "private", "info": {"topic": "pets"},
                    "updated_at": "2026-01-31T18:00:00.123456", "colour": "red",
                },
            })
        });
        let wanted =
            json!({"config": upstream.config(backend, 4, "theirs.qdrant"), "memories": memories.collect::<Value>()});
        let file = upstream.path("wanted.json");
        std::fs::write(&file, wanted.to_string()).unwrap();
        let place = upstream.path(&format!("theirs-{backend}"));
        let theirs = upstream.ask(&["write", file.to_str().unwrap(), place.to_str().unwrap()]);

        let data = tempfile::tempdir().unwrap();
        let mos = open(data.path()).await;
        let id = CubeId::from("theirs");
        mos.register_mem_cube(&ann(), CubeSource::Directory(place), Some(&id)).await.unwrap();
        let ours = seen(&mos, &id, &data.path().join("again")).await;
        let theirs = theirs["memories"].as_array().unwrap();
        assert_eq!(theirs.len(), 3);
        assert_said(theirs, &ours);
        assert_eq!(ours[0]["metadata"]["colour"], "red", "keys that MemOS does not know stay");
    }
}

#[test]
fn we_read_the_caches_that_memos_dumps() {
    let Some(upstream) = Upstream::find() else { return };
    let folder = upstream.path("activation");
    std::fs::create_dir(&folder).unwrap();
    let theirs = upstream.ask(&["activation", folder.to_str().unwrap()]);
    if let Some(why) = theirs["skipped"].as_str() {
        told(&format!("skipped: no caches were compared: {why}"));
        return;
    }
    told(&format!("caches compared with {}", theirs["versions"]));
    let bytes = std::fs::read(theirs["file"].as_str().unwrap()).unwrap();
    let ours = mos::kv::read_upstream_items(&bytes).unwrap();
    let theirs = theirs["items"].as_array().unwrap();
    assert_eq!((ours.len(), theirs.len()), (2, 2));
    for (item, other) in ours.iter().zip(theirs) {
        assert_eq!(item.id, other["id"].as_str().unwrap());
        assert_eq!(item.metadata["source_text"], other["text"]);
        let layers = other["layers"].as_array().unwrap();
        assert_eq!((item.layers.len(), layers.len()), (3, 3));
        for (layer, numbers) in item.layers.iter().zip(layers) {
            assert_eq!(json!(layer.keys.shape()), other["shape"]);
            for (tensor, name) in [(&layer.keys, "keys"), (&layer.values, "values")] {
                let expected = numbers[name].as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32);
                assert_eq!(tensor.to_f32(), expected.collect::<Vec<_>>(), "{name}");
            }
        }
    }
}
