use mos_core::{MemoryError, SearchRequest, StoreError, TextMemory};
use mos_memory::NaiveText;

use crate::{item, origin, shelf, store, texts};

async fn sample() -> (tempfile::TempDir, NaiveText) {
    let (folder, record) = store();
    let memory = NaiveText::new(shelf(&record, "cube"));
    let items = vec![item(1, "I like red apples"), item(2, "blue sky today"), item(3, "red sky at night")];
    memory.add(items, origin().into()).await.unwrap();
    (folder, memory)
}

#[tokio::test]
async fn the_most_shared_words_come_first_and_ties_keep_their_order() {
    let (_folder, memory) = sample().await;
    let hits = memory.search(&SearchRequest::new("red sky", 2)).await.unwrap().hits;
    assert_eq!(texts(hits.iter().map(|hit| &hit.item)), ["red sky at night", "I like red apples"]);
    assert_eq!(hits[0].score, 2.0);
    let all = memory.search(&SearchRequest::new("red sky", 9)).await.unwrap().hits;
    assert_eq!(texts(all.iter().map(|hit| &hit.item))[2], "blue sky today");
    assert_eq!((hits[0].relativity, hits[1].relativity), (1.0, 0.5), "the share of the question's words");
    let none = memory.search(&SearchRequest::new("RED nothing", 9)).await.unwrap();
    assert!(none.hits.is_empty(), "case matters");
    assert_eq!(none.notes, ["none of the 3 memories shares a word with the question"]);
}

#[tokio::test]
async fn update_keeps_the_id_counts_the_version_and_remembers_the_old_text() {
    let (_folder, memory) = sample().await;
    let id = item(2, "").id;
    memory.update(&id, item(9, "green sky"), origin()).await.unwrap();
    let now = memory.get(&id).await.unwrap();
    assert_eq!((now.id, now.memory.as_str(), now.metadata.version), (id, "green sky", 2));
    assert_eq!(now.metadata.history[0].memory, "blue sky today");
}

#[tokio::test]
async fn bad_input_is_refused_and_changes_nothing() {
    let (_folder, memory) = sample().await;
    for bad in [vec![item(4, "  ")], vec![item(4, "new"), item(1, "taken")], vec![item(5, "a"), item(5, "b")]] {
        let before = memory.get_all().await.unwrap();
        let error = memory.add(bad, origin().into()).await.unwrap_err();
        let is_expected = matches!(error, MemoryError::Invalid(_) | MemoryError::Store(StoreError::Conflict(_)));
        assert!(is_expected, "{error}");
        assert_eq!(memory.get_all().await.unwrap(), before);
    }
    assert!(matches!(memory.search(&SearchRequest::new(" ", 1)).await, Err(MemoryError::Invalid(_))));
    assert!(matches!(memory.get(&item(7, "").id).await, Err(MemoryError::NotFound(_))));
    assert_eq!(memory.get_all().await.unwrap().len(), 3);
}

#[tokio::test]
async fn dump_then_load_is_the_identity() {
    let (folder, memory) = sample().await;
    let before = memory.get_all().await.unwrap();
    memory.dump(folder.path()).await.unwrap();
    assert_eq!(memory.delete_all(origin()).await.unwrap(), 3);
    assert_eq!(memory.load(folder.path(), origin()).await.unwrap(), 3);
    assert_eq!(memory.get_all().await.unwrap(), before);
}

#[tokio::test]
async fn a_file_that_is_no_dump_is_named_and_changes_nothing() {
    let (folder, memory) = sample().await;
    for bad in ["not json", "{}", "[{\"id\": \"x\", \"memory\": \"y\"}]", "[1]"] {
        std::fs::write(folder.path().join("textual_memory.json"), bad).unwrap();
        let error = memory.load(folder.path(), origin()).await.unwrap_err();
        assert!(error.to_string().contains("textual_memory.json"), "{error}");
    }
    assert_eq!(memory.get_all().await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_text_that_could_not_be_added_cannot_be_loaded_either() {
    let (folder, memory) = sample().await;
    for (text, reason) in [(" \n".to_owned(), "is empty"), ("x".repeat((1 << 20) + 1), "has 1048577 bytes")] {
        let entries = serde_json::json!([item(8, "fine").to_value(), item(9, &text).to_value()]);
        std::fs::write(folder.path().join("textual_memory.json"), entries.to_string()).unwrap();
        let error = memory.load(folder.path(), origin()).await.unwrap_err().to_string();
        for part in ["textual_memory.json", "entry 1", reason] {
            assert!(error.contains(part), "{error}");
        }
    }
    assert_eq!(memory.get_all().await.unwrap().len(), 3);
}
