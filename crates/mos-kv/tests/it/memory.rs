//! Every method of the memory, on tiny models.

use std::sync::Arc;

use mos_core::{MemoryId, MemoryItem, Message};
use mos_engine::LogitRows;
use mos_kv::{DEFAULT_LEAD_IN, ExtractInput, KvCacheItem, KvCacheMemory, KvCacheMemoryOptions, KvError};
use serde_json::json;

use crate::support::{memory, options, rows, tiny, words};

#[test]
fn an_item_is_made_as_upstream_describes_it() {
    let tiny = tiny(1);
    let memory = memory(&tiny.model);
    let item = memory.extract("w1 w2 w3").unwrap();
    assert_eq!(item.id.as_str(), "00000000-0000-4000-8000-000000000001");
    let segment = item.segment().unwrap();
    let text = tiny.model.render(&[Message::system(format!("{DEFAULT_LEAD_IN}\nw1 w2 w3"))], false).unwrap();
    assert_eq!(segment.tokens(), tiny.model.tokenize(&text).unwrap());
    assert_eq!(
        serde_json::to_value(&item).unwrap(),
        json!({
            "id": "00000000-0000-4000-8000-000000000001",
            "memory": {"num_layers": 2, "size_bytes": 2 * 2 * 2 * 16 * 2 * segment.len(),
                       "size_mb": (2 * 2 * 2 * 16 * 2 * segment.len()) as f64 / 1_048_576.0},
            "metadata": {"source_text": "w1 w2 w3", "extracted_at": "2026-01-02T03:04:05.000000+00:00"},
            "records": {"text_memories": ["w1 w2 w3"], "composed_text_memory": "w1 w2 w3",
                        "timestamp": "2026-01-02T03:04:05.000000+00:00"},
        })
    );
}

#[test]
fn texts_are_joined_and_messages_taken_as_they_are() {
    let tiny = tiny(1);
    let memory = memory(&tiny.model);
    let joined = memory.extract(vec!["w1 w2".to_owned(), "w3".to_owned()]).unwrap();
    let whole = memory.extract("w1 w2 w3").unwrap();
    assert_eq!(rows(joined.segment().unwrap()), rows(whole.segment().unwrap()));
    assert_eq!(joined.metadata["source_text"], json!(["w1 w2", "w3"]));
    let messages = vec![Message::user("w4"), Message::assistant("w5")];
    let item = memory.extract(messages.clone()).unwrap();
    let tokens = tiny.model.tokenize(&tiny.model.render(&messages, false).unwrap()).unwrap();
    assert_eq!(item.segment().unwrap().tokens(), tokens);
    assert_eq!(
        item.metadata["source_text"],
        json!([{"role": "user", "content": "w4"}, {"role": "assistant", "content": "w5"}])
    );
}

#[test]
fn the_lead_in_can_be_changed() {
    let tiny = tiny(1);
    let options = KvCacheMemoryOptions { lead_in: "w9 w8".to_owned(), ..options() };
    let memory = KvCacheMemory::open(Arc::clone(&tiny.model), options).unwrap();
    let text = tiny.model.render(&[Message::system("w9 w8\nw1")], false).unwrap();
    assert_eq!(memory.extract("w1").unwrap().segment().unwrap().tokens(), tiny.model.tokenize(&text).unwrap());
}

#[test]
fn what_cannot_be_computed_is_refused() {
    let tiny = tiny(1);
    let memory = memory(&tiny.model);
    assert!(matches!(memory.extract("  "), Err(KvError::Empty(_))));
    assert!(matches!(memory.extract(Vec::<String>::new()), Err(KvError::Empty(_))));
    let error = memory.extract(words(1, 400)).unwrap_err();
    assert!(matches!(error, KvError::TooLong { limit: 256, .. }), "{error}");
    let item: KvCacheItem = serde_json::from_value(json!({"id": "a"})).unwrap();
    assert!(matches!(memory.add([item]), Err(KvError::NoState(_))));
    let options = KvCacheMemoryOptions { memory_filename: "../x".to_owned(), ..options() };
    assert!(matches!(KvCacheMemory::open(Arc::clone(&tiny.model), options), Err(KvError::Invalid(_))));
}

#[test]
fn several_items_in_one_run_are_those_of_single_runs() {
    let tiny = tiny(1);
    let memory = memory(&tiny.model);
    let inputs: Vec<ExtractInput> = (0..20).map(|at| words(at, 1 + at * 3).into()).collect();
    let together = memory.extract_many(&inputs).unwrap();
    for (input, item) in inputs.iter().zip(&together) {
        let alone = memory.extract(input.clone()).unwrap();
        assert_eq!(rows(alone.segment().unwrap()), rows(item.segment().unwrap()));
        assert!(item.segment().unwrap().context().is_some());
    }
}

#[test]
fn items_are_stored_found_replaced_and_removed() {
    let tiny = tiny(1);
    let memory = memory(&tiny.model);
    let items: Vec<_> = (0..3).map(|at| memory.extract(words(at, 5)).unwrap()).collect();
    let ids: Vec<String> = items.iter().map(|item| item.id.to_string()).collect();
    assert!(memory.get(&ids[0]).unwrap().is_none(), "extracting stores nothing");
    memory.add(items.clone()).unwrap();
    let stored = memory.get(&ids[1]).unwrap().unwrap();
    assert!(Arc::ptr_eq(stored.segment().unwrap(), items[1].segment().unwrap()));
    let found = memory.get_by_ids(&[ids[2].as_str(), "unknown", ids[0].as_str()]).unwrap();
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
    let mut replaced = memory.extract(words(9, 4)).unwrap();
    replaced.id = items[1].id.clone();
    memory.add([replaced]).unwrap();
    assert_eq!(memory.get_all().iter().map(|item| item.id.to_string()).collect::<Vec<_>>(), ids);
    assert_eq!(memory.get(&ids[1]).unwrap().unwrap().metadata["source_text"], words(9, 4));
    assert_eq!(memory.delete(&[ids[1].as_str(), "unknown"]).unwrap(), 1);
    assert!(memory.get(&ids[1]).unwrap().is_none());
    assert_eq!(memory.delete_all().unwrap(), 2);
    assert!(memory.get_all().is_empty());
    assert_eq!(memory.tiers().usage(), mos_kv::TierUsage::default());
}

#[test]
fn unknown_ids_are_skipped_and_nothing_is_none() {
    let tiny = tiny(1);
    let memory = memory(&tiny.model);
    assert!(memory.get_cache(&["unknown"]).unwrap().is_none());
    assert!(memory.get_cache(&Vec::<String>::new()).unwrap().is_none());
    let item = memory.extract("w1 w2").unwrap();
    memory.add([item.clone()]).unwrap();
    let cache = memory.get_cache(&["unknown", item.id.as_str()]).unwrap().unwrap();
    assert_eq!(cache.len(), item.n_tokens());
    assert!(cache.is_exact());
}

#[test]
fn a_textual_memory_gives_its_metadata() {
    let tiny = tiny(1);
    let memory = memory(&tiny.model);
    let mut text = MemoryItem::new(MemoryId::new("t1"), "w3 w4");
    text.metadata.tags = Some(vec!["travel".to_owned()]);
    let item = memory.from_textual_memory(&text).unwrap();
    assert_eq!(item.metadata, text.metadata.to_map());
    assert_eq!(item.records.text_memories, ["w3 w4"]);
    assert_eq!(rows(item.segment().unwrap()), rows(memory.extract("w3 w4").unwrap().segment().unwrap()));
    // Its text is kept, so another model can compute it again.
    assert_eq!(ExtractInput::of_item(&item).unwrap(), "w3 w4".into());
}

#[test]
fn any_stored_beginning_is_found_and_only_the_rest_computed() {
    let tiny = tiny(1);
    let memory = memory(&tiny.model);
    let decoder = tiny.model.decoder();
    let items: Vec<_> = (0..4).map(|at| memory.extract(words(at, 20)).unwrap()).collect();
    memory.add(items.clone()).unwrap();
    let mut tokens = items[2].segment().unwrap().tokens().to_vec();
    let shared = tokens.len() - 6;
    tokens[shared] = if tokens[shared] == 7 { 8 } else { 7 };
    let found = memory.longest_exact_prefix(&tokens).unwrap();
    assert_eq!(found.len(), shared);
    let cancel = mos_engine::CancelToken::default();
    let exact = memory.exact_prefix(&tokens, &cancel).unwrap();
    let mut tail = decoder.new_tail();
    let all = [tokens.clone(), vec![9, 10]].concat();
    let whole = decoder.forward(&all, &mos_engine::KvPrefix::default(), &mut tail, LogitRows::Last, &cancel).unwrap();
    let mut tail = decoder.new_tail();
    let after = decoder.forward(&[9, 10], &exact, &mut tail, LogitRows::Last, &cancel).unwrap();
    assert_eq!(whole, after);
    // It is there the next time, and gone with the items.
    assert_eq!(memory.longest_exact_prefix(&tokens).unwrap().len(), tokens.len());
    memory.delete_all().unwrap();
    assert_eq!(memory.longest_exact_prefix(&tokens).unwrap().len(), 0);
}

#[test]
fn tenants_see_neither_items_nor_prefixes_of_others() {
    let tiny = tiny(1);
    let tiers = mos_kv::KvTiers::open(mos_kv::TierOptions::default()).unwrap();
    let open = |scope: &str| {
        let options = KvCacheMemoryOptions { scope: scope.to_owned(), ..options() };
        KvCacheMemory::with_tiers(Arc::clone(&tiny.model), options, Arc::clone(&tiers)).unwrap()
    };
    let (a, b) = (open("a"), open("b"));
    let item = a.extract("w1 w2 w3").unwrap();
    a.add([item.clone()]).unwrap();
    assert!(b.get(item.id.as_str()).unwrap().is_none());
    assert!(b.get_all().is_empty());
    assert_eq!(b.longest_exact_prefix(item.segment().unwrap().tokens()).unwrap().len(), 0);
    assert_eq!(b.delete(&[item.id.as_str()]).unwrap(), 0);
    assert_eq!(a.get_all().len(), 1);
}
