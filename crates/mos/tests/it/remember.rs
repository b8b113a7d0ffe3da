//! Raw input through the facade.

use std::sync::Arc;

use async_trait::async_trait;
use mos::{Mos, NewCube, Remember, Search, Settings};
use mos_core::{Embedder, EmbeddingSpace, FileData, ModelError, Outcome, RawFile, ReadInput, ReadMode, Sources};
use mos_testkit::embedder::WordEmbedder;
use serde_json::json;

use crate::{ann, house};

fn chat() -> ReadInput {
    ReadInput::from_value(json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "My dog Max is three years old.", "chat_time": "2 May 2026"},
        {"role": "assistant", "content": "Nice!"},
    ]))
}

async fn n_memories(mos: &Mos) -> usize {
    mos.get_all(&ann(), None).await.unwrap().text_mem[0].memories.len()
}

#[tokio::test]
async fn a_conversation_is_remembered_once_and_found() {
    let (_folder, mos) = house().await;
    let first = mos.remember(Remember::new(chat()).user("ann")).await.unwrap();
    assert_eq!((first.ids.len(), first.n_known, n_memories(&mos).await), (1, 0, 1));
    assert_eq!(first.report.count(Outcome::NotKept), 1, "the system prompt");
    let again = mos.remember(Remember::new(chat()).user("ann")).await.unwrap();
    assert_eq!((&again.ids, n_memories(&mos).await), (&first.ids, 1));
    let found = mos.search(Search::new("how old is the dog Max?").user("ann")).await.unwrap();
    let (_, best) = found.best()[0];
    assert_eq!(best.item.id, first.ids[0]);
    let sources = best.item.metadata.tree().unwrap().sources.as_ref().unwrap();
    assert_eq!(sources[0].chat_time.as_deref(), Some("2 May 2026"));
}

#[tokio::test]
async fn what_would_be_remembered_can_be_seen_before() {
    let (folder, mos) = house().await;
    let path = folder.path().join("note.md");
    std::fs::write(&path, "# Note\n\nThe key is under the mat.").unwrap();
    let file = RawFile { id: None, name: None, url: None, data: FileData::Path(path) };
    let owner = ReadInput { sources: Sources::of_owner(), ..ReadInput::file(file.clone()) };
    let reading = mos.read(Remember::new(owner).user("ann")).await.unwrap();
    assert!(reading.raw[0].memory.contains("under the mat"), "{:?}", reading.report);
    assert_eq!(n_memories(&mos).await, 0);
    let refused = mos.read(Remember::new(ReadInput::file(file)).user("ann")).await.unwrap();
    assert_eq!((refused.n_memories(), refused.report.count(Outcome::NotKept)), (0, 1));
}

async fn remember_file(mos: &Mos, path: &std::path::Path) -> mos::Remembered {
    let file = RawFile { id: None, name: None, url: None, data: FileData::Path(path.to_owned()) };
    let input = ReadInput { sources: Sources::of_owner(), ..ReadInput::file(file) };
    mos.remember(Remember::new(input).user("ann")).await.unwrap()
}

/// An encoder that reads little of a text.
#[derive(Debug)]
struct ShortReader(WordEmbedder);

#[async_trait]
impl Embedder for ShortReader {
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        self.0.embed(texts).await
    }

    async fn space(&self) -> Result<EmbeddingSpace, ModelError> {
        self.0.space().await
    }

    async fn max_tokens(&self) -> Result<Option<usize>, ModelError> {
        Ok(Some(40))
    }
}

#[tokio::test]
async fn a_file_is_cut_into_pieces_that_the_encoder_reads_whole() {
    let (folder, mos) = house().await;
    let path = folder.path().join("long.txt");
    let sentences: Vec<String> = (0..40).map(|n| format!("Box {n} has a lid and a label.")).collect();
    std::fs::write(&path, sentences.join(" ")).unwrap();
    assert_eq!(remember_file(&mos, &path).await.ids.len(), 1, "an encoder that does not tell changes nothing");
    let embedder = Arc::new(ShortReader(WordEmbedder::new("short", 64)));
    let other = tempfile::tempdir().unwrap();
    let mos = Mos::builder(Settings::default()).data_dir(other.path()).embedder(embedder).build().await.unwrap();
    mos.create_user("ann", None).await.unwrap();
    mos.create_cube(&ann(), NewCube::new("notes")).await.unwrap();
    let pieces = remember_file(&mos, &path).await;
    assert!(pieces.ids.len() > 10, "{pieces:?}");
}

#[tokio::test]
async fn a_changed_file_takes_the_place_of_what_it_said() {
    let (folder, mos) = house().await;
    let (path, other) = (folder.path().join("note.md"), folder.path().join("sub/note.md"));
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    std::fs::write(&path, "The key is under the mat.").unwrap();
    std::fs::write(&other, "The cellar is dry.").unwrap();
    let first = remember_file(&mos, &path).await;
    remember_file(&mos, &other).await;
    std::fs::write(&path, "The key is in the flower pot.").unwrap();
    let second = remember_file(&mos, &path).await;
    assert_eq!((&second.removed, second.n_known, n_memories(&mos).await), (&first.ids, 0, 2));
    assert_eq!(remember_file(&mos, &path).await.n_known, 1, "it is known now");
    let history = mos.history(&ann(), None, &first.ids[0]).await.unwrap();
    assert_eq!(history.last().unwrap().origin.reason, mos_reader::REPLACED);
    let back = mos.undo(&ann(), None, &first.ids[0]).await.unwrap();
    assert!(back.memory.contains("under the mat"));
    std::fs::write(&path, "The key is under the mat.").unwrap();
    let third = remember_file(&mos, &path).await;
    assert_eq!((&third.ids, &third.removed, n_memories(&mos).await), (&first.ids, &second.ids, 2));
    mos.delete(&ann(), None, &first.ids[0]).await.unwrap();
    assert_eq!(n_memories(&mos).await, 1);
    remember_file(&mos, &path).await;
    assert_eq!(n_memories(&mos).await, 1, "what the user removed does not come back by itself");
}

#[tokio::test]
async fn strangers_and_empty_input_are_refused() {
    let (_folder, mos) = house().await;
    assert!(mos.remember(Remember::new(chat()).user("bob").cube("notes")).await.is_err());
    let empty = Remember::new(ReadInput::default()).user("ann").mode(ReadMode::Fast);
    assert!(mos.remember(empty).await.is_err());
}

#[tokio::test]
async fn documents_of_a_folder_are_remembered_each_by_itself_by_who_may_write() {
    let (folder, mos) = house().await;
    let documents = folder.path().join("documents");
    std::fs::create_dir_all(documents.join("sub")).unwrap();
    std::fs::write(documents.join("a.md"), "# Keys\n\nThe key is under the mat.").unwrap();
    std::fs::write(documents.join("broken.pdf"), "%PDF-1.4 garbage").unwrap();
    std::fs::write(documents.join("sub/garden.txt"), "The tulips stand behind the house.").unwrap();
    let paths = [documents];
    let read = mos.remember_documents(&paths, Remember::default().user("ann")).await.unwrap();
    let names: Vec<_> = read.documents.iter().map(|one| one.path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["a.md", "broken.pdf", "garden.txt"]);
    let stored: Vec<&mos::Remembered> = read.documents.iter().map(|one| one.stored.as_ref().unwrap()).collect();
    let kept: Vec<bool> = stored.iter().map(|one| !one.ids.is_empty() || !one.raw_files.is_empty()).collect();
    assert_eq!(kept, [true, false, true], "what is damaged does not keep the others out");
    assert_eq!(stored[1].report.count(Outcome::NotKept), 1);
    let found = mos.search(Search::new("where do the tulips stand?").user("ann")).await.unwrap();
    assert!(found.best()[0].1.item.memory.contains("tulips"));

    let before = n_memories(&mos).await;
    mos.remember_documents(&paths, Remember::default().user("ann")).await.unwrap();
    assert_eq!(n_memories(&mos).await, before, "what is known stays as it is");
    let refused = mos.remember_documents(&paths, Remember::default().user("bob").cube("notes")).await.unwrap_err();
    assert!(matches!(refused, mos::Error::NoAccess { .. }), "{refused}");
    let nothing = [folder.path().join("none")];
    let missing = mos.remember_documents(&nothing, Remember::default().user("ann")).await.unwrap_err();
    assert!(missing.to_string().contains("none"), "{missing}");
}
