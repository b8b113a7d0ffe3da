//! What the full-text search of every [`RecordStore`] must do.

use mos_core::{Filter, RecordStore, WriteBatch};

use super::samples::{apply, deletes, item, names, puts, scope};

pub(super) async fn words_are_found_by_their_stems(store: &dyn RecordStore) {
    let scope = scope("c");
    let texts = [
        ("dog", "My dogs were running near Central Park"),
        ("chinese", "我喜欢在北京大学踢足球"),
        ("mail", "Write to ann.lee@example.com or see https://docs.rs/serde"),
        ("number", "The flat costs 1,250.50 a month"),
        ("accent", "We met at the Café Zoé"),
        ("empty", ""),
    ];
    apply(store, &scope, puts(&texts)).await;
    let best = async |query: &str| {
        let found = store.full_text(&scope, query, 10, &Filter::Everything).await.expect("full text");
        assert!(found.iter().all(|one| one.score > 0.0));
        found.first().map(|one| one.id.to_string())
    };
    let queries = [
        ("Where does the DOG run?", "dog"),
        ("足球", "chinese"),
        ("北京", "chinese"),
        ("ann.lee@example.com", "mail"),
        ("serde", "mail"),
        ("1250.50", "number"),
        ("cafe zoe", "accent"),
    ];
    for (query, expected) in queries {
        assert_eq!(best(query).await.as_deref(), Some(expected), "{query}");
    }
    for query in ["elephant", "", "the of and", "\" OR * ( ", "terms:dogma", "足"] {
        assert_eq!(best(query).await, None, "{query}");
    }
    apply(store, &scope, puts(&[("dog", "a cat instead")])).await;
    assert_eq!((best("dog").await, best("cat").await.as_deref()), (None, Some("dog")), "the index follows the text");
    apply(store, &scope, deletes(&["dog"])).await;
    assert_eq!(best("cat").await, None);
}

pub(super) async fn scores_are_bm25(store: &dyn RecordStore) {
    let scope = scope("c");
    let texts = [("1", "apple apple banana"), ("2", "apple cherry"), ("3", "durian elder fig grape")];
    apply(store, &scope, puts(&texts)).await;
    apply(store, &scope, puts(&[("3", "grape"), ("4", "to be removed apple")])).await;
    apply(store, &scope, deletes(&["4"])).await;
    let (n, average) = (3.0_f64, 6.0 / 3.0);
    let score = |n_containing: f64, frequency: f64, length: f64| {
        let weight = (1.0 + (n - n_containing + 0.5) / (n_containing + 0.5)).ln();
        weight * frequency * 2.2 / (frequency + 1.2 * (0.25 + 0.75 * length / average))
    };
    let expected = [("1", score(2.0, 2.0, 3.0) + score(1.0, 1.0, 3.0)), ("2", score(2.0, 1.0, 2.0))];
    let found = store.full_text(&scope, "bananas, apples", 10, &Filter::Everything).await.expect("full text");
    assert_eq!(names(&found), ["1", "2"]);
    for (one, (_, score)) in found.iter().zip(expected) {
        assert!((f64::from(one.score) - score).abs() < 1e-6, "{one:?} should have {score}");
    }
}

pub(super) async fn full_text_filters_inside_and_breaks_ties_by_id(store: &dyn RecordStore) {
    let scope = scope("c");
    let put = (0..60)
        .rev()
        .map(|number| {
            let mut one = item(&format!("{number:02}"), "same words");
            one.metadata.key = Some(if number % 10 == 9 { "wanted" } else { "other" }.to_owned());
            one
        })
        .collect();
    apply(store, &scope, WriteBatch { put, ..puts(&[]) }).await;
    let search =
        async |limit, filter: &Filter| store.full_text(&scope, "word", limit, filter).await.expect("full text");
    assert_eq!(names(&search(3, &Filter::Everything).await), ["00", "01", "02"], "ties break by id");
    assert_eq!(names(&search(4, &Filter::equals("key", "wanted")).await), ["09", "19", "29", "39"]);
    assert_eq!(search(100, &Filter::equals("key", "wanted")).await.len(), 6, "the filter is applied before the limit");
    assert_eq!(search(0, &Filter::Everything).await, []);
}
