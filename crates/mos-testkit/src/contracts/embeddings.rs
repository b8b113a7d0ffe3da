//! What a record must do with embeddings.

use mos_core::{EmbeddingWrite, RecordStore, StoreError, WriteBatch};

use super::samples::{apply, batch, deletes, embedded, ids, item, puts, refused, scope, space, vectors};

pub(super) async fn embeddings_are_kept_at_unit_length(store: &dyn RecordStore) {
    let (scope, mini) = (scope("c"), space("mini", 2));
    assert_eq!(store.embedding_space(&scope).await.expect("space"), None, "none before the first");
    apply(store, &scope, embedded(&mini, &[("a", "one", &[3.0, 4.0]), ("b", "two", &[0.6, 0.8])])).await;
    apply(store, &scope, puts(&[("c", "three")])).await;
    assert_eq!(store.embedding_space(&scope).await.expect("space"), Some(mini.clone()));
    let found = store.embeddings(&scope, &ids(&["b", "c", "unknown", "a"])).await.expect("embeddings");
    assert_eq!(found, [("b".into(), vec![0.6, 0.8]), ("a".into(), vec![0.6, 0.8])], "in the order asked");
    let missing = store.without_embedding(&scope, &mini, 10).await.expect("without embedding");
    assert_eq!(missing, [item("c", "three")]);
    let all = store.without_embedding(&scope, &space("never used", 9), 2).await.expect("without embedding");
    assert_eq!(all, [item("a", "one"), item("b", "two")], "at most `limit`, oldest first");
    apply(store, &scope, WriteBatch { embeddings: Some(vectors(&mini, &[("c", &[0.0, 1.0])])), ..batch() }).await;
    assert_eq!(store.without_embedding(&scope, &mini, 10).await.expect("without embedding"), []);
}

pub(super) async fn embeddings_follow_the_text(store: &dyn RecordStore) {
    let (scope, mini) = (scope("c"), space("mini", 2));
    apply(store, &scope, embedded(&mini, &[("a", "one", &[1.0, 0.0]), ("b", "two", &[1.0, 0.0])])).await;
    let mut retitled = item("a", "one");
    retitled.metadata.key = Some("title".to_owned());
    apply(store, &scope, WriteBatch { put: vec![retitled], ..puts(&[("b", "two changed")]) }).await;
    apply(store, &scope, puts(&[("b", "two changed")])).await;
    let found = store.embeddings(&scope, &ids(&["a", "b"])).await.expect("embeddings");
    assert_eq!(found.len(), 1, "a memory keeps its embedding while its text stays");
    apply(store, &scope, embedded(&mini, &[("a", "one changed", &[0.0, 1.0])])).await;
    let found = store.embeddings(&scope, &ids(&["a"])).await.expect("embeddings");
    assert_eq!(found, [("a".into(), vec![0.0, 1.0])]);
    apply(store, &scope, deletes(&["a"])).await;
    assert_eq!(store.embeddings(&scope, &ids(&["a"])).await.expect("embeddings"), []);
    assert_eq!(store.embedding_space(&scope).await.expect("space"), Some(mini), "removing memories keeps the space");
}

pub(super) async fn bad_embeddings_are_refused(store: &dyn RecordStore) {
    let (scope, mini) = (scope("c"), space("mini", 2));
    apply(store, &scope, embedded(&mini, &[("a", "one", &[1.0, 0.0])])).await;
    let others = [space("other", 2), space("mini", 3)];
    let write = |space, vector: &[f32]| WriteBatch { embeddings: Some(vectors(space, &[("a", vector)])), ..batch() };
    for vector in [[f32::NAN, 0.0], [f32::INFINITY, 0.0], [0.0, 0.0]] {
        let error = refused(store, &scope, write(&mini, &vector)).await;
        assert!(matches!(error, StoreError::Invalid(_)), "{error}");
    }
    let error = refused(store, &scope, write(&mini, &[1.0, 0.0, 0.0])).await;
    assert!(matches!(error, StoreError::Dimension { got: 3, want: 2 }), "{error}");
    for other in &others {
        let error = refused(store, &scope, write(other, &vec![1.0; other.dimension])).await;
        assert!(matches!(&error, StoreError::EmbeddingSpace { have, got, .. } if *have == mini && got == other));
        assert!(error.to_string().contains("mos cube reembed"), "the remedy is named: {error}");
    }
    let found = store.embeddings(&scope, &ids(&["a"])).await.expect("embeddings");
    assert_eq!(found, [("a".into(), vec![1.0, 0.0])]);
}

pub(super) async fn a_cube_can_be_embedded_anew(store: &dyn RecordStore) {
    let (scope, old, new) = (scope("c"), space("old", 2), space("new", 3));
    apply(store, &scope, embedded(&old, &[("a", "one", &[1.0, 0.0]), ("b", "two", &[0.0, 1.0])])).await;
    apply(store, &scope, puts(&[("bare", "never embedded")])).await;
    let after = store.changes(&scope, 0, 100).await.expect("changes");
    let aside = |id: &str, vector: &[f32]| WriteBatch {
        embeddings: Some(EmbeddingWrite { aside: true, ..vectors(&new, &[(id, vector)]) }),
        ..batch()
    };
    apply(store, &scope, aside("a", &[0.0, 0.0, 5.0])).await;
    assert_eq!(store.embedding_space(&scope).await.expect("space"), Some(old.clone()));
    let seen = store.embeddings(&scope, &ids(&["a"])).await.expect("embeddings");
    assert_eq!(seen, [("a".into(), vec![1.0, 0.0])], "what is written aside is not seen");
    assert_eq!(store.changes(&scope, 0, 100).await.expect("changes"), after, "and not told");
    let left = store.without_embedding(&scope, &new, 10).await.expect("without embedding");
    assert_eq!(left, [item("b", "two"), item("bare", "never embedded")]);
    let error = store.adopt_space(&scope, &new).await.expect_err("`b` has none yet");
    assert!(matches!(error, StoreError::Conflict(_)), "{error}");
    apply(store, &scope, aside("b", &[0.0, 1.0, 0.0])).await;
    apply(store, &scope, puts(&[("a", "one changed")])).await;
    let left = store.without_embedding(&scope, &new, 10).await.expect("without embedding");
    assert_eq!(left.len(), 2, "a changed text loses what was written aside too");
    apply(store, &scope, aside("a", &[1.0, 0.0, 0.0])).await;
    store.adopt_space(&scope, &new).await.expect("every memory that had an embedding has a new one");
    assert_eq!(store.embedding_space(&scope).await.expect("space"), Some(new.clone()));
    let found = store.embeddings(&scope, &ids(&["a", "b", "bare"])).await.expect("embeddings");
    assert_eq!(found, [("a".into(), vec![1.0, 0.0, 0.0]), ("b".into(), vec![0.0, 1.0, 0.0])]);
    let last = after.len() as u64 + 1;
    let told = store.changes(&scope, last, 100).await.expect("changes");
    assert_eq!(told.len(), 2, "the feed tells every vector that changed: {told:?}");
    let left = store.without_embedding(&scope, &old, 10).await.expect("without embedding");
    assert_eq!(left.len(), 3, "the old embeddings are gone");
    store.adopt_space(&scope, &new).await.expect("adopting a second time is no error");
}

pub(super) async fn late_embeddings_are_passed_over(store: &dyn RecordStore) {
    let (scope, mini) = (scope("c"), space("mini", 2));
    apply(store, &scope, puts(&[("a", "one"), ("b", "two changed")])).await;
    let told: [(&str, &[f32]); 3] = [("a", &[1.0, 0.0]), ("b", &[0.0, 1.0]), ("gone", &[0.0, 1.0])];
    let made_of = Some(["one", "two", "three"].map(str::to_owned).to_vec());
    let write = EmbeddingWrite { made_of: made_of.clone(), ..vectors(&mini, &told) };
    apply(store, &scope, WriteBatch { embeddings: Some(write), ..batch() }).await;
    let found = store.embeddings(&scope, &ids(&["a", "b", "gone"])).await.expect("embeddings");
    assert_eq!(found, [("a".into(), vec![1.0, 0.0])], "only the text that was embedded is there as it was");
    let uneven = EmbeddingWrite { made_of, ..vectors(&mini, &told[..2]) };
    let error = refused(store, &scope, WriteBatch { embeddings: Some(uneven), ..batch() }).await;
    assert!(matches!(error, StoreError::Invalid(_)), "{error}");
}
