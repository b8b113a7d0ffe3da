//! Preferences as a file.

use mos_core::{EmbeddingSpace, Filter, MemoryId, PreferenceMemory, PreferenceType, TextMemory};
use mos_memory::NaiveText;
use serde_json::{Value, json};

use crate::preference::{concluded, preferences, scope, stated};
use crate::{item, origin, shelf, store};

const FILE: &str = "preferences.json";

#[tokio::test]
async fn dump_then_load_is_the_identity_in_memos_shape() {
    let (folder, record) = store();
    let memory = preferences(&record);
    let mut tagged = stated(1, "prefers tea");
    tagged.metadata.tags = Some(vec!["food".to_owned()]);
    tagged.metadata.extra.insert("original_text".to_owned(), json!("tea please"));
    memory.add(vec![tagged, concluded(2, "hates maps")], origin().into()).await.unwrap();
    memory.add(vec![stated(3, "prefers tea!")], origin().into()).await.unwrap();
    let ids: Vec<MemoryId> = vec![item(1, "").id, item(2, "").id];
    let before = (memory.get_all().await.unwrap(), record.embeddings(&scope(), &ids).await.unwrap());
    memory.dump(folder.path()).await.unwrap();
    let dumped: Value = serde_json::from_slice(&std::fs::read(folder.path().join(FILE)).unwrap()).unwrap();
    let lists: Vec<&String> = dumped.as_object().unwrap().keys().collect();
    assert_eq!(lists, ["explicit_preference", "implicit_preference"]);
    let entry = &dumped["explicit_preference"][0];
    assert_eq!((&entry["id"], &entry["memory"]), (&json!(ids[0]), &json!("prefers tea")));
    assert_eq!((&entry["original_text"], &entry["payload"]["tags"]), (&json!("tea please"), &json!(["food"])));
    assert_eq!(entry["vector"].as_array().unwrap().len(), 256);
    let space = EmbeddingSpace { model: "words".to_owned(), dimension: 256 };
    let manifest = json!({"embedding_space": space}).to_string();
    std::fs::write(folder.path().join("manifest.json"), manifest).unwrap();
    memory.delete_all(origin()).await.unwrap();
    assert_eq!(memory.load(folder.path(), origin()).await.unwrap(), 2);
    let after = (memory.get_all().await.unwrap(), record.embeddings(&scope(), &ids).await.unwrap());
    assert_eq!(after, before);
    let hits = memory.search("tea", 1, &Filter::Everything).await.unwrap().hits;
    assert_eq!(hits[0].item.memory, "prefers tea");
}

#[tokio::test]
async fn a_file_of_memos_is_read_and_embedded_anew() {
    let (folder, record) = store();
    let memory = preferences(&record);
    assert_eq!(memory.load(folder.path(), origin()).await.unwrap(), 0, "no file, no preferences");
    let id = item(7, "").id;
    let file = json!({
        "explicit_preference": [],
        "implicit_preference": [{"id": id, "vector": [0.5, 0.5], "score": null, "payload": {
            "dialog_id": "d1", "dialog_str": "The user asked for tea twice.", "preference": "likes tea",
            "embedding": [0.5, 0.5], "user_id": "ann", "status": "activated", "created_at": "2025-10-01T10:00:00"}}],
    });
    std::fs::write(folder.path().join(FILE), file.to_string()).unwrap();
    assert_eq!(memory.load(folder.path(), origin()).await.unwrap(), 1);
    let kept = memory.get(&id).await.unwrap();
    assert_eq!(kept.memory, "The user asked for tea twice.");
    assert_eq!(kept.metadata.extra["preference"], "likes tea");
    assert_eq!(kept.metadata.user_id.as_deref(), Some("ann"));
    assert_eq!(kept.metadata.tree().unwrap().created_at.as_deref(), Some("2025-10-01T10:00:00"));
    assert_eq!(memory.get_all().await.unwrap()[&PreferenceType::Implicit].len(), 1);
    assert_eq!(memory.search("tea", 1, &Filter::Everything).await.unwrap().hits.len(), 1);
    assert_eq!(memory.load(folder.path(), origin()).await.unwrap(), 1, "known ids are replaced");
    assert_eq!(memory.get_all().await.unwrap()[&PreferenceType::Implicit].len(), 1);
}

#[tokio::test]
async fn files_that_are_none_are_refused_and_nothing_is_stored() {
    let (folder, record) = store();
    let memory = preferences(&record);
    NaiveText::new(shelf(&record, "cube")).add(vec![item(1, "a fact")], origin().into()).await.unwrap();
    let list = |entry: Value| json!({"explicit_preference": [entry]}).to_string();
    let id = item(5, "").id;
    for (text, reason) in [
        ("[]".to_owned(), "must hold a JSON object"),
        ("{".to_owned(), "EOF"),
        (json!({"explicit_preference": {}}).to_string(), "must hold a list"),
        (json!({"notes": []}).to_string(), "has a list `notes`"),
        (list(json!({"id": id})), "has no `payload`"),
        (list(json!({"id": id, "payload": {}})), "has no text"),
        (list(json!({"id": "x", "memory": "tea", "payload": {}})), "not a UUID"),
        (list(json!({"id": id, "memory": "tea", "vector": "x", "payload": {}})), "not a list of numbers"),
        (list(json!({"id": item(1, "").id, "memory": "tea", "payload": {}})), "is no preference"),
    ] {
        std::fs::write(folder.path().join(FILE), &text).unwrap();
        let error = memory.load(folder.path(), origin()).await.unwrap_err().to_string();
        assert!(error.contains(FILE) && error.contains(reason), "{text}: {error}");
    }
    assert!(memory.get_all().await.unwrap().values().all(Vec::is_empty));
}
