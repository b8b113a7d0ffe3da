//! What every [`VectorStore`] must do.

use std::sync::Arc;

use mos_core::{
    Condition, EmbeddingWrite, Filter, MemoryId, Operator, RecordStore, StoreError, VectorStore, WriteBatch,
};
use serde_json::json;

use super::samples::{apply, batch, deletes, embedded, item, names, puts, scope, space, vectors};

/// Runs the suite; `make` returns a fresh, empty record and an index that follows it.
///
/// # Panics
/// When a claim of the trait does not hold.
pub async fn run(make: impl AsyncFn() -> (Arc<dyn RecordStore>, Arc<dyn VectorStore>)) {
    let (record, index) = make().await;
    nearest_is_by_cosine_and_ties_by_id(&*record, &*index).await;
    let (record, index) = make().await;
    similarities_are_those_of_nearest(&*record, &*index).await;
    let (record, index) = make().await;
    several_queries_are_answered_as_each_alone(&*record, &*index).await;
    let (record, index) = make().await;
    writes_are_seen(&*record, &*index).await;
    let (record, index) = make().await;
    the_filter_is_applied_inside(&*record, &*index).await;
    let (record, index) = make().await;
    what_does_not_fit_is_refused(&*record, &*index).await;
    let (record, index) = make().await;
    a_new_space_is_followed(&*record, &*index).await;
    let (record, index) = make().await;
    scopes_are_walls(&*record, &*index).await;
    let (record, index) = make().await;
    large_scopes_are_read_page_by_page(&*record, &*index).await;
}

async fn nearest_is_by_cosine_and_ties_by_id(record: &dyn RecordStore, index: &dyn VectorStore) {
    let (scope, mini) = (scope("c"), space("mini", 3));
    let memories: [(&str, &str, &[f32]); 5] = [
        ("z", "same", &[5.0, 0.0, 0.0]),
        ("a", "same", &[0.5, 0.0, 0.0]),
        ("half", "between", &[1.0, 1.0, 0.0]),
        ("far", "across", &[0.0, 0.0, 2.0]),
        ("opposite", "behind", &[-3.0, 0.0, 0.0]),
    ];
    apply(record, &scope, embedded(&mini, &memories)).await;
    apply(record, &scope, puts(&[("bare", "without a vector")])).await;
    let nearest = async |limit| {
        index.nearest(&scope, &mini, &[9.0, 0.0, 0.0], limit, &Filter::Everything).await.expect("nearest")
    };
    let found = nearest(10).await;
    assert_eq!(names(&found), ["a", "z", "half", "far", "opposite"], "best first, ties by id");
    let expected = [1.0, 1.0, 0.5_f32.sqrt(), 0.0, -1.0];
    for (one, score) in found.iter().zip(expected) {
        assert!((one.score - score).abs() < 1e-6, "{one:?} should have {score}");
        assert!((-1.0..=1.0).contains(&one.score));
    }
    assert_eq!(names(&nearest(2).await), ["a", "z"]);
    assert_eq!(names(&nearest(1).await), ["a"], "the tie is broken before the list is cut");
    let ids: Vec<MemoryId> = found.iter().map(|one| one.id.clone()).collect();
    let stored = record.embeddings(&scope, &ids).await.expect("embeddings");
    for one in index.at_hand(&scope, &mini, &ids).await.expect("vectors at hand") {
        assert!(stored.contains(&one), "as the record has them");
    }
    assert_eq!(nearest(0).await, []);
    for limit in [0, 1, 4, 9] {
        let near = index.near(&scope, &mini, &[9.0, 0.0, 0.0], limit, &Filter::Everything).await.expect("near");
        let (mut near, nearest) = (names(&near), nearest(limit).await);
        let mut nearest = names(&nearest);
        near.sort_unstable();
        nearest.sort_unstable();
        assert_eq!(near, nearest, "the same, in any order");
    }
    assert_eq!(nearest(usize::MAX).await.len(), 5);
    assert_eq!(index.count(&scope).await.expect("count"), 5);
}

async fn several_queries_are_answered_as_each_alone(record: &dyn RecordStore, index: &dyn VectorStore) {
    let (scope, mini) = (scope("c"), space("mini", 2));
    let angles: Vec<[f32; 2]> = (0..70).map(|n| (n as f32 / 11.0).sin_cos().into()).collect();
    let queries: Vec<&[f32]> = angles.iter().map(<[f32; 2]>::as_slice).collect();
    let each = async |limit: usize, filter: &Filter| {
        index.nearest_each(&scope, &mini, &queries, limit, filter).await.expect("nearest of each")
    };
    assert_eq!(each(2, &Filter::Everything).await, vec![Vec::new(); 70], "nothing is there yet");
    let memories: [(&str, &str, &[f32]); 4] =
        [("a", "east", &[1.0, 0.0]), ("b", "north", &[0.0, 1.0]), ("c", "west", &[-1.0, 0.0]), ("d", "x", &[0.5, 0.5])];
    apply(record, &scope, embedded(&mini, &memories)).await;
    for filter in [Filter::Everything, Filter::Not(Box::new(Filter::equals("memory", "x")))] {
        let found = each(2, &filter).await;
        assert_eq!(found.len(), queries.len());
        for (query, found) in queries.iter().zip(found) {
            let alone = index.nearest(&scope, &mini, query, 2, &filter).await.expect("nearest");
            assert_eq!(found, alone, "{query:?} {filter:?}");
        }
    }
    assert_eq!(
        index.nearest_each(&scope, &mini, &[], 2, &Filter::Everything).await.expect("nothing"),
        Vec::<Vec<_>>::new()
    );
    let long: [&[f32]; 2] = [&[1.0, 0.0], &[1.0, 0.0, 0.0]];
    let error = index.nearest_each(&scope, &mini, &long, 2, &Filter::Everything).await.expect_err("too long");
    assert!(matches!(error, StoreError::Dimension { got: 3, want: 2 }), "{error}");
}

async fn similarities_are_those_of_nearest(record: &dyn RecordStore, index: &dyn VectorStore) {
    let (scope, mini) = (scope("c"), space("mini", 2));
    let query = [3.0, 0.0];
    let ids: Vec<MemoryId> = ["b", "bare", "unknown", "a", "b"].map(MemoryId::from).to_vec();
    let similarities = async || index.similarities(&scope, &mini, &query, &ids).await.expect("similarities");
    assert_eq!(similarities().await, [None; 5], "nothing is there yet");
    apply(record, &scope, embedded(&mini, &[("a", "one", &[2.0, 2.0]), ("b", "two", &[-1.0, 0.0])])).await;
    apply(record, &scope, puts(&[("bare", "without a vector")])).await;
    let found = similarities().await;
    assert!((found[3].expect("`a` has a vector") - 0.5_f32.sqrt()).abs() < 1e-6, "{found:?}");
    assert_eq!((found[0], found[1], found[2], found[4]), (Some(-1.0), None, None, Some(-1.0)), "in the order asked");
    apply(record, &scope, deletes(&["b"])).await;
    assert_eq!(similarities().await[0], None, "writes are seen");
    assert!(index.similarities(&scope, &mini, &query, &[]).await.expect("similarities").is_empty());
    let error = index.similarities(&scope, &space("maxi", 2), &query, &ids).await.expect_err("another model");
    assert!(matches!(error, StoreError::EmbeddingSpace { .. }), "{error}");
    let error = index.similarities(&scope, &mini, &[1.0], &ids).await.expect_err("too short");
    assert!(matches!(error, StoreError::Dimension { got: 1, want: 2 }), "{error}");
}

async fn writes_are_seen(record: &dyn RecordStore, index: &dyn VectorStore) {
    let (scope, mini) = (scope("c"), space("mini", 2));
    let nearest = async || index.nearest(&scope, &mini, &[1.0, 0.0], 10, &Filter::Everything).await.expect("nearest");
    assert_eq!(nearest().await, [], "a scope without vectors has no nearest ones");
    assert_eq!(index.count(&scope).await.expect("count"), 0);
    apply(record, &scope, embedded(&mini, &[("a", "one", &[1.0, 0.0]), ("b", "two", &[1.0, 1.0])])).await;
    assert_eq!(names(&nearest().await), ["a", "b"]);
    apply(record, &scope, embedded(&mini, &[("a", "changed", &[-1.0, 0.0])])).await;
    assert_eq!(names(&nearest().await), ["b", "a"], "a changed vector");
    apply(record, &scope, puts(&[("b", "text without a vector")])).await;
    assert_eq!(names(&nearest().await), ["a"], "a lost vector");
    apply(record, &scope, WriteBatch { embeddings: Some(vectors(&mini, &[("b", &[1.0, 0.0])])), ..batch() }).await;
    assert_eq!(names(&nearest().await), ["b", "a"], "a vector that came later");
    apply(record, &scope, deletes(&["b"])).await;
    assert_eq!(names(&nearest().await), ["a"]);
    apply(record, &scope, WriteBatch { clear: true, ..batch() }).await;
    assert_eq!(nearest().await, []);
    assert_eq!(index.count(&scope).await.expect("count"), 0);
}

async fn the_filter_is_applied_inside(record: &dyn RecordStore, index: &dyn VectorStore) {
    let (scope, mini) = (scope("c"), space("mini", 2));
    let mut write = batch();
    let mut pairs = Vec::new();
    for number in 0..200 {
        let mut one = item(&format!("{number:03}"), &format!("text {number}"));
        one.metadata.key = Some(if number % 50 == 49 { "wanted" } else { "other" }.to_owned());
        one.metadata.info = json!({"n": number}).as_object().cloned();
        pairs.push((one.id.clone(), vec![1.0, number as f32 / 100.0]));
        write.put.push(one);
    }
    write.embeddings = Some(EmbeddingWrite { space: mini.clone(), vectors: pairs, made_of: None, aside: false });
    apply(record, &scope, write).await;
    let nearest =
        async |limit, filter: &Filter| index.nearest(&scope, &mini, &[1.0, 0.0], limit, filter).await.expect("nearest");
    let wanted = Filter::equals("key", "wanted");
    assert_eq!(names(&nearest(3, &wanted).await), ["049", "099", "149"]);
    assert_eq!(nearest(10, &wanted).await.len(), 4, "fewer only when fewer pass");
    assert!(index.may_find(&scope, &mini, &wanted).await.expect("may find"), "what is found may be found");
    let at_least = Filter::Is(Condition { field: "n".to_owned(), operator: Operator::Gte, value: json!(100) });
    assert_eq!(names(&nearest(9, &wanted.and(at_least)).await), ["149", "199"], "`info` is looked into");
    assert_eq!(names(&nearest(9, &Filter::equals("memory", "text 7")).await), ["007"], "the text too");
    let mut changed = item("000", "text 0");
    changed.metadata.key = Some("wanted".to_owned());
    apply(record, &scope, WriteBatch { put: vec![changed], ..batch() }).await;
    assert_eq!(names(&nearest(1, &Filter::equals("key", "wanted")).await), ["000"], "metadata that changed");
}

async fn what_does_not_fit_is_refused(record: &dyn RecordStore, index: &dyn VectorStore) {
    let (scope, mini) = (scope("a cube"), space("mini", 2));
    let others = [space("other", 2), space("mini", 4)];
    apply(record, &scope, embedded(&mini, &[("a", "one", &[1.0, 0.0])])).await;
    let nearest = async |space, query: &[f32]| {
        index.nearest(&scope, space, query, 5, &Filter::Everything).await.expect_err("it does not fit")
    };
    let error = nearest(&mini, &[1.0, 0.0, 0.0]).await;
    assert!(matches!(error, StoreError::Dimension { got: 3, want: 2 }), "{error}");
    for other in &others {
        let error = nearest(other, &vec![1.0; other.dimension]).await;
        assert!(matches!(&error, StoreError::EmbeddingSpace { cube, .. } if cube == "a cube"), "{error}");
    }
    for query in [[f32::NAN, 1.0], [0.0, 0.0]] {
        let error = nearest(&mini, &query).await;
        assert!(matches!(error, StoreError::Invalid(_)), "{error}");
    }
}

async fn a_new_space_is_followed(record: &dyn RecordStore, index: &dyn VectorStore) {
    let (scope, old) = (scope("c"), space("old", 2));
    apply(record, &scope, embedded(&old, &[("a", "one", &[1.0, 0.0]), ("b", "two", &[0.0, 1.0])])).await;
    assert_eq!(index.count(&scope).await.expect("count"), 2);
    for (new, a, b) in [
        (space("same length", 2), vec![0.0, 1.0], vec![1.0, 0.0]),
        (space("longer", 3), vec![0.0, 0.0, 1.0], vec![1.0, 0.0, 0.0]),
    ] {
        let mut query = vec![0.0; new.dimension];
        query[0] = 1.0;
        let aside = EmbeddingWrite { aside: true, ..vectors(&new, &[("a", &a), ("b", &b)]) };
        apply(record, &scope, WriteBatch { embeddings: Some(aside), ..batch() }).await;
        let early = index.nearest(&scope, &new, &query, 5, &Filter::Everything).await;
        assert!(matches!(early, Err(StoreError::EmbeddingSpace { .. })), "not searched before it is adopted");
        record.adopt_space(&scope, &new).await.expect("adopt");
        let found = index.nearest(&scope, &new, &query, 5, &Filter::Everything).await.expect("nearest");
        assert_eq!(names(&found), ["b", "a"], "{new}");
    }
    apply(record, &scope, WriteBatch { clear: true, ..batch() }).await;
    let fresh = space("fresh", 4);
    apply(record, &scope, embedded(&fresh, &[("a", "one", &[0.0, 0.0, 0.0, 1.0])])).await;
    let found = index.nearest(&scope, &fresh, &[0.0, 0.0, 0.0, 1.0], 5, &Filter::Everything).await;
    assert_eq!(names(&found.expect("nearest")), ["a"], "a cleared cube may take another model");
}

async fn scopes_are_walls(record: &dyn RecordStore, index: &dyn VectorStore) {
    let (ours, theirs, mini) = (scope("c"), scope("c/"), space("mini", 2));
    apply(record, &ours, embedded(&mini, &[("a", "one", &[1.0, 1.0])])).await;
    let nearest = async || index.nearest(&ours, &mini, &[1.0, 0.0], 10, &Filter::Everything).await.expect("nearest");
    let before = nearest().await;
    apply(record, &theirs, embedded(&mini, &[("a", "theirs", &[1.0, 0.0]), ("b", "theirs", &[1.0, 0.0])])).await;
    assert_eq!(nearest().await, before, "another tenant's vectors are never seen");
    apply(record, &theirs, WriteBatch { clear: true, ..batch() }).await;
    assert_eq!(nearest().await, before);
    assert_eq!(index.count(&theirs).await.expect("count"), 0);
}

async fn large_scopes_are_read_page_by_page(record: &dyn RecordStore, index: &dyn VectorStore) {
    let (scope, mini) = (scope("c"), space("mini", 2));
    let n = 2500;
    let mut write = batch();
    let mut pairs = Vec::new();
    for number in 0..n {
        let one = item(&format!("{number:04}"), "text");
        pairs.push((one.id.clone(), vec![1.0, number as f32]));
        write.put.push(one);
    }
    write.embeddings = Some(EmbeddingWrite { space: mini.clone(), vectors: pairs, made_of: None, aside: false });
    apply(record, &scope, write).await;
    assert_eq!(index.count(&scope).await.expect("count"), n);
    let found = index.nearest(&scope, &mini, &[1.0, 0.0], 3, &Filter::Everything).await.expect("nearest");
    assert_eq!(names(&found), ["0000", "0001", "0002"]);
}
