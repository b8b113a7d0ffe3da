//! What can go wrong with a server, and what is said then.

use std::sync::Arc;
use std::time::Duration;

use mos_core::{Condition, Filter, Operator, RecordStore, StoreError, VectorStore};
use mos_stores::{InMemoryStore, QdrantOptions, QdrantVectors};
use mos_testkit::clock::SetClock;
use qdrant_client::qdrant::vectors_config::Config;
use qdrant_client::qdrant::{CreateCollection, DeleteCollection, Distance, VectorParams, VectorsConfig};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::server::{KEY, TestQdrant, assert_as_exact, embedded, memory, names, scope, space};
use crate::support::full_text;

/// A record with one memory, of cube `c`.
async fn record() -> Arc<dyn RecordStore> {
    let record = InMemoryStore::new(Arc::new(SetClock::default()));
    record.apply(&scope("c"), embedded(&space("mini", 2), vec![memory("a", "text", &[1.0, 0.0])])).await.unwrap();
    record
}

async fn search(index: &QdrantVectors) -> Result<usize, StoreError> {
    let found = index.nearest(&scope("c"), &space("mini", 2), &[1.0, 0.0], 5, &Filter::Everything).await?;
    Ok(found.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_of_other_vectors_is_refused() {
    let (server, record) = (TestQdrant::new(), record().await);
    let index = server.index(&record);
    assert_eq!(search(&index).await.unwrap(), 1);
    let name = server.collections().await.remove(0);
    for (size, distance) in [(3, Distance::Cosine), (2, Distance::Dot)] {
        let mut client = server.collections_client();
        client.delete(DeleteCollection { collection_name: name.clone(), ..DeleteCollection::default() }).await.unwrap();
        let vectors = VectorParams { size, distance: distance as i32, ..VectorParams::default() };
        let request = CreateCollection {
            collection_name: name.clone(),
            vectors_config: Some(VectorsConfig { config: Some(Config::Params(vectors)) }),
            ..CreateCollection::default()
        };
        client.create(request).await.unwrap();
        let error = search(&server.index(&record)).await.unwrap_err();
        let text = full_text(&error);
        assert!(matches!(error, StoreError::Invalid(_)), "{text}");
        assert!(text.contains(&name) && text.contains(&format!("{size} dimensions")), "{text}");
        assert!(text.contains("collection_name") && text.contains("filled again"), "the remedies: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_refused_and_never_shown() {
    let (server, record) = (TestQdrant::new(), record().await);
    if server.options().api_key.is_none() {
        return;
    }
    for key in [None, Some("a-wrong-hunter2".to_owned())] {
        let options = QdrantOptions { api_key: key, ..server.options() };
        let index = QdrantVectors::following(Arc::clone(&record), &options).unwrap();
        for error in [search(&index).await.unwrap_err(), index.facts().await.unwrap_err()] {
            let text = format!("{} {index:?} {options:?}", full_text(&error));
            assert!(matches!(error, StoreError::Refused { backend: "qdrant", .. }), "{text}");
            assert!(text.contains("api_key") && !text.contains("hunter2"), "{text}");
        }
    }
    assert!(!format!("{:?} {:?}", server.options(), server.index(&record)).contains(KEY));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_server_is_refused_before_anything_is_made_there() {
    let (server, record) = (TestQdrant::own(), record().await);
    let own = server.own.as_ref().unwrap();
    own.tell_version("1.15.4");
    let index = server.index(&record);
    for error in [search(&index).await.unwrap_err(), index.facts().await.unwrap_err()] {
        let text = full_text(&error);
        assert!(matches!(error, StoreError::Invalid(_)), "{text}");
        assert!(text.contains("1.15.4") && text.contains("1.16"), "{text}");
    }
    assert!(server.collections().await.is_empty());
    own.tell_version("1.16.0");
    assert_eq!(search(&index).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_server_is_told_in_words() {
    let record = record().await;
    // Nobody listens on port 9.
    let options = QdrantOptions { api_key: Some("hunter2".to_owned()), ..QdrantOptions::at("http://127.0.0.1:9") };
    let index = QdrantVectors::following(Arc::clone(&record), &options).unwrap();
    index.notice(&scope("c"));
    for error in [search(&index).await.unwrap_err(), index.facts().await.unwrap_err()] {
        let text = full_text(&error);
        assert!(matches!(error, StoreError::Unavailable { backend: "qdrant", .. }), "{text}");
        assert!(text.contains("127.0.0.1:9") && text.contains("6334") && !text.contains("hunter2"), "{text}");
    }
    // What needs no server has an answer.
    assert_eq!(index.count(&scope("empty")).await.unwrap(), 0);
    record.apply(&scope("c"), embedded(&space("mini", 2), vec![memory("b", "text", &[1.0, 0.0])])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_qdrant_server_is_told_in_words() {
    let record = record().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
            // The other side may have gone already.
            let _ = stream.write_all(answer).await;
        }
    });
    let index = QdrantVectors::following(Arc::clone(&record), &QdrantOptions::at(format!("http://{address}"))).unwrap();
    let text = full_text(&search(&index).await.unwrap_err());
    assert!(text.contains(&address.to_string()) && text.contains("6334"), "{text}");
    serving.abort();
    // One that takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let limits = Duration::from_millis(200);
    let options = QdrantOptions { answer_timeout: limits, connect_timeout: limits, ..QdrantOptions::at(url) };
    let error = search(&QdrantVectors::following(record, &options).unwrap()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{}", full_text(&error));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_texts_are_only_data() {
    let server = TestQdrant::new();
    let record: Arc<dyn RecordStore> = InMemoryStore::new(Arc::new(SetClock::default()));
    let index = server.index(&record);
    let mini = space("a/\"model\" 记", 3);
    let long = "long text 记忆 ".repeat(100_000);
    let ids = ["it's", "\"quoted\"", "a/../b", "记忆 🧠", "x' OR 1=1", "{\"$ne\": 1}", " "];
    for cube in ["c", "c/", "\"c\"", "it's a cube 记"] {
        let ours = scope(cube);
        let memories = ids.iter().enumerate().map(|(at, id)| {
            let (mut item, vector) = memory(id, if at == 0 { &long } else { id }, &[1.0, at as f32, 0.5]);
            item.metadata.key = Some((*id).to_owned());
            item.metadata.extra.insert("odd \"name\"".to_owned(), json!(at));
            (item, vector)
        });
        record.apply(&ours, embedded(&mini, memories.collect())).await.unwrap();
        assert_as_exact(&index, &record, &ours, &mini).await;
        for (at, id) in ids.iter().enumerate() {
            let odd =
                Filter::Is(Condition { field: "odd \"name\"".to_owned(), operator: Operator::Eq, value: json!(at) });
            for filter in [Filter::equals("key", *id), odd] {
                let found = index.nearest(&ours, &mini, &[1.0, 0.0, 0.0], 9, &filter).await.unwrap();
                assert_eq!(names(&found), [*id], "{filter:?}");
            }
        }
        assert!(index.reconcile(&ours, false).await.unwrap().is_empty());
    }
    assert_eq!(index.scopes().await.unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_equal_vectors_are_told_apart_by_id() {
    let server = TestQdrant::new();
    let record: Arc<dyn RecordStore> = InMemoryStore::new(Arc::new(SetClock::default()));
    let (ours, mini) = (scope("c"), space("mini", 2));
    let memories = (0..600).map(|number| memory(&format!("{number:03}"), "same", &[1.0, 1.0])).collect();
    record.apply(&ours, embedded(&mini, memories)).await.unwrap();
    let index = server.index(&record);
    for limit in [1, 5, 599, 600, usize::MAX] {
        let found = index.nearest(&ours, &mini, &[1.0, 0.0], limit, &Filter::Everything).await.unwrap();
        let expected: Vec<String> = (0..600.min(limit)).map(|number| format!("{number:03}")).collect();
        assert_eq!(names(&found), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_may_make_a_collection_at_once() {
    let (server, record) = (TestQdrant::new(), record().await);
    let searches = (0..6).map(|_| {
        let index = server.index(&record);
        tokio::spawn(async move { search(&index).await })
    });
    for search in searches.collect::<Vec<_>>() {
        assert_eq!(search.await.unwrap().unwrap(), 1);
    }
    assert_eq!(server.collections().await.len(), 1);
    let facts = server.index(&record).facts().await.unwrap();
    assert!(facts[0].1.starts_with("Qdrant "), "{facts:?}");
    assert_eq!(facts[2], ("points", "2".to_owned()), "a memory and a cursor");
}
