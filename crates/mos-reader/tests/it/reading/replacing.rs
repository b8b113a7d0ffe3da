//! Files that have changed since they were read.

use std::collections::BTreeMap;
use std::sync::Arc;

use mos_core::{FileData, Filter, MemoryId, MemoryItem, MemoryType, Paging, RawFile, ReadInput, ReadMode, TextMemory};
use mos_memory::TreeText;
use mos_reader::{Held, REPLACED, Reader, ReaderKind, Stored, store, store_over};
use mos_testkit::chat::ScriptedChat;
use serde_json::json;

use super::stored::{origin, tree};
use super::{model, parts, read, reader};

const N_SENTENCES: usize = 60;

/// A report of which one sentence may say something else.
fn report(changed: Option<usize>) -> String {
    let sentence = |n: usize| match changed {
        Some(one) if one == n => format!("Station {n} of the line was abandoned and ended. "),
        _ => format!("Station {n} of the line was inspected and works. "),
    };
    (0..N_SENTENCES).map(sentence).collect()
}

fn input(text: String, held: &Held) -> ReadInput {
    let file = RawFile {
        id: Some("line".to_owned()),
        name: Some("line.txt".to_owned()),
        url: None,
        data: FileData::Text(text),
    };
    ReadInput { user: Some("ann".into()), known_chunks: held.known_chunks(), ..ReadInput::file(file) }
}

/// Every memory that is no working copy.
async fn memories(tree: &TreeText) -> Vec<MemoryItem> {
    let page = tree.as_tree().unwrap().graph(&Filter::Everything, Paging::ALL).await.unwrap();
    page.graph.nodes.into_iter().filter(|item| item.working_copy_of().is_none()).collect()
}

async fn texts(tree: &TreeText) -> BTreeMap<MemoryId, String> {
    memories(tree).await.into_iter().map(|item| (item.id, item.memory)).collect()
}

async fn remember(tree: &TreeText, reader: &Reader, mode: ReadMode, text: String) -> Stored {
    let held = Held::new(memories(tree).await, &"ann".into());
    let reading = read(reader, input(text, &held), mode).await;
    store_over(reading, tree, &held, &origin()).await.unwrap()
}

#[tokio::test]
async fn what_a_file_no_longer_says_goes_and_the_rest_keeps_its_ids() {
    let (_folder, tree) = tree();
    let reader = reader(ReaderKind::MultiModal, parts());
    let first = remember(&tree, &reader, ReadMode::Fast, report(None)).await;
    assert!(first.ids.len() > 3 && first.removed.is_empty(), "{first:?}");
    let before = texts(&tree).await;
    let last = N_SENTENCES - 1;
    let second = remember(&tree, &reader, ReadMode::Fast, report(Some(last))).await;
    assert_eq!((second.removed.len(), second.ids.len() - second.n_known), (1, 1), "{second:?}");
    assert_eq!(second.ids[..first.ids.len() - 1], first.ids[..first.ids.len() - 1]);
    let after = texts(&tree).await;
    assert!(after.values().any(|text| text.contains("abandoned and ended")));
    assert!(!after.values().any(|text| text.contains(&format!("Station {last} of the line was inspected"))));
    let history = tree.history(&second.removed[0]).await.unwrap();
    assert_eq!(history.last().unwrap().origin.reason, REPLACED);
    let third = remember(&tree, &reader, ReadMode::Fast, report(None)).await;
    assert_eq!(third.ids, first.ids);
    assert_eq!(texts(&tree).await, before, "the earlier content is back");
}

#[tokio::test]
async fn an_interrupted_replacement_is_finished_by_the_next_one() {
    let (_folder, tree) = tree();
    let reader = reader(ReaderKind::MultiModal, parts());
    remember(&tree, &reader, ReadMode::Fast, report(None)).await;
    // The new chunk is stored, the old one is still there.
    let held = Held::default();
    let reading = read(&reader, input(report(Some(0)), &held), ReadMode::Fast).await;
    let half = store(reading, &tree, &origin()).await.unwrap();
    assert!(
        half.removed.is_empty()
            && texts(&tree).await.values().any(|text| text.contains("Station 0 of the line was inspected"))
    );
    let done = remember(&tree, &reader, ReadMode::Fast, report(Some(0))).await;
    assert_eq!((done.n_known, &done.ids), (half.ids.len(), &half.ids));
    assert!(!done.removed.is_empty());
    let after = texts(&tree).await;
    assert_eq!(after.len(), half.ids.len());
    assert!(!after.values().any(|text| text.contains("Station 0 of the line was inspected")));
}

#[tokio::test]
async fn a_model_is_asked_about_new_chunks_alone() {
    let (_folder, tree) = tree();
    let asked: Arc<ScriptedChat> = model(|_, text| {
        let last = text.split(". ").last().unwrap_or_default().trim_end_matches('.').to_owned();
        json!({"key": "Station", "value": format!("{last}."), "tags": ["line"]}).to_string()
    });
    let mut parts = parts();
    parts.model = Some(asked.clone());
    let reader = reader(ReaderKind::MultiModal, parts);
    let first = remember(&tree, &reader, ReadMode::Fine, report(None)).await;
    let n_asked = asked.requests().len();
    assert_eq!((n_asked, first.raw_files.len()), (first.ids.len(), first.ids.len()));
    let again = remember(&tree, &reader, ReadMode::Fine, report(None)).await;
    assert_eq!((asked.requests().len(), again.raw_files), (n_asked, first.raw_files.clone()));
    let changed = remember(&tree, &reader, ReadMode::Fine, report(Some(N_SENTENCES - 1))).await;
    assert_eq!(asked.requests().len(), n_asked + 1);
    assert_eq!(changed.removed.len(), 2, "a chunk and what was drawn from it");
    let all = memories(&tree).await;
    let chunks: Vec<&MemoryItem> =
        all.iter().filter(|item| item.metadata.memory_type() == Some(MemoryType::RawFile)).collect();
    assert_eq!(chunks.len(), first.raw_files.len());
    let new = chunks.iter().find(|chunk| chunk.memory.contains("abandoned and ended")).unwrap();
    let summary = new.metadata.extra["summary_ids"][0].as_str().unwrap();
    assert!(all.iter().any(|item| item.id.as_str() == summary && item.memory.contains("abandoned and ended")));
    let edges = tree.as_tree().unwrap().graph(&Filter::Everything, Paging::ALL).await.unwrap().graph.edges;
    for kind in ["FOLLOWING", "PRECEDING"] {
        let n_edges = edges.iter().filter(|edge| edge.kind == kind).count();
        assert_eq!(n_edges, chunks.len() - 1, "{kind}");
    }
    let preceding = new.metadata.extra["preceding_id"].as_str().unwrap();
    assert!(chunks.iter().any(|chunk| chunk.id.as_str() == preceding));
}
