//! Laws of chunks: nothing but space is lost, sizes hold, addresses stay whole, and chunkers always end.

use std::collections::BTreeSet;
use std::sync::Arc;

use mos_config::{ChunkerConfig, Setting};
use mos_reader::chunk::{
    CharacterTextChunker, Characters, Chunk, ChunkSize, Chunker, EstimatedTokens, MarkdownChunker, SentenceChunker,
    SimpleChunker, TokenCounter, open, open_within,
};
use mos_reader::parse::{Block, Document, DocumentKind, Position};
use proptest::prelude::*;
use serde_json::json;

use crate::read;

const ADDRESS: &str = "https://example.org/a/long/path?with=questions&and=answers";

/// Texts of words, signs, lines, other scripts and addresses.
fn texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-zA-Z]{1,12}",
        2 => Just(" ".to_owned()),
        1 => Just("\n".to_owned()),
        1 => Just("\n\n".to_owned()),
        2 => "[.!?,;:]{1,2} ",
        2 => "[一-龥]{1,6}[。！？，]?",
        1 => Just("e\u{301}👩‍👩‍👧 ".to_owned()),
        1 => Just(format!(" {ADDRESS} ")),
        1 => "# [a-z]{1,5}\n",
        1 => "\\PC{0,4}",
    ];
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

fn chunkers(counter: &Arc<dyn TokenCounter>, size: usize, overlap: usize) -> Vec<Arc<dyn Chunker>> {
    let size = || ChunkSize::new(Arc::clone(counter), size, overlap);
    vec![
        Arc::new(SentenceChunker::new(size())),
        Arc::new(SimpleChunker::new(size())),
        Arc::new(CharacterTextChunker::new(size())),
        Arc::new(MarkdownChunker { size: size(), levels: vec![1, 2, 3], strip_headers: false, recursive: true }),
    ]
}

/// The bytes of a text that are in some chunk.
fn covered(chunks: &[Chunk]) -> BTreeSet<usize> {
    chunks.iter().flat_map(|chunk| chunk.start..chunk.end).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn laws_hold_for_every_text(text in texts(), size in 1_usize..80, overlap in 0_usize..80, by_letters: bool) {
        let counter: Arc<dyn TokenCounter> =
            if by_letters { Arc::new(Characters) } else { Arc::new(EstimatedTokens) };
        for chunker in chunkers(&counter, size, overlap) {
            let chunks = chunker.chunk_text(&text);
            for chunk in &chunks {
                prop_assert_eq!(&text[chunk.start..chunk.end], chunk.text.as_str());
                prop_assert_eq!(chunk.text.trim(), chunk.text.as_str());
                prop_assert!(!chunk.text.is_empty());
                // Larger only when it cannot be cut: an address, or a letter.
                let fits = counter.count(&chunk.text) <= size;
                let is_whole = !chunk.text.contains(char::is_whitespace) && chunk.text.contains("://")
                    || chunk.text.chars().count() == 1;
                prop_assert!(fits || is_whole, "{chunker:?} {size}: {:?}", chunk.text);
            }
            // Always onwards.
            for pair in chunks.windows(2) {
                prop_assert!(pair[0].start < pair[1].start && pair[0].end < pair[1].end, "{pair:?}");
            }
            let covered = covered(&chunks);
            for (at, letter) in text.char_indices() {
                prop_assert!(letter.is_whitespace() || covered.contains(&at), "{chunker:?} lost {letter:?} at {at}");
            }
            // An address is in a chunk or not, never in part.
            for (at, _) in text.match_indices(ADDRESS) {
                let inside = at..at + ADDRESS.len();
                for chunk in &chunks {
                    let cuts = [chunk.start, chunk.end];
                    prop_assert!(cuts.iter().all(|cut| *cut <= inside.start || *cut >= inside.end), "{chunk:?}");
                }
            }
        }
    }

    #[test]
    fn without_overlap_no_byte_is_in_two_chunks(text in texts(), size in 1_usize..40) {
        let counter: Arc<dyn TokenCounter> = Arc::new(Characters);
        for chunker in chunkers(&counter, size, 0) {
            let chunks = chunker.chunk_text(&text);
            prop_assert!(chunks.windows(2).all(|pair| pair[0].end <= pair[1].start));
        }
    }
}

fn texts_of(chunks: &[Chunk]) -> Vec<&str> {
    chunks.iter().map(|chunk| chunk.text.as_str()).collect()
}

#[test]
fn neighbours_share_whole_sentences() {
    let chunker = SentenceChunker::new(ChunkSize::new(Arc::new(Characters), 24, 10));
    let chunks = chunker.chunk_text("One is. Two is. Three is. Four is. Five is.");
    assert_eq!(texts_of(&chunks), ["One is. Two is.", "Two is. Three is.", "Three is. Four is.", "Four is. Five is."]);
    let chinese = SentenceChunker::new(ChunkSize::new(Arc::new(EstimatedTokens), 12, 0));
    let chunks = chinese.chunk_text("今天天气很好。我们去公园。晚上回家。");
    assert_eq!(texts_of(&chunks), ["今天天气很好。", "我们去公园。晚上回家。"]);
}

#[test]
fn the_least_number_of_sentences_wins_up_to_twice_the_size() {
    let mut size = ChunkSize::new(Arc::new(Characters), 10, 0);
    size.min_sentences = 2;
    let chunks = SentenceChunker::new(size).chunk_text("One is it. Two is it. Three.");
    assert_eq!(texts_of(&chunks), ["One is it.", "Two is it. Three."]);
}

#[test]
fn chunks_know_their_place_in_the_document() {
    let document = read("a.md", b"# A\n\nFirst of it.\n\n## B\n\nSecond of it.\n");
    let text = document.text();
    for chunker in chunkers(&(Arc::new(Characters) as Arc<dyn TokenCounter>), 14, 0) {
        for chunk in chunker.chunk(&document) {
            assert_eq!(&text[chunk.start..chunk.end], chunk.text);
            let expected: &[&str] = if chunk.text.contains("Second") { &["A", "B"] } else { &["A"] };
            if chunk.text.contains("of it") {
                assert_eq!(chunk.position.headings, expected, "{chunker:?}");
            }
        }
    }
}

#[test]
fn sheets_and_slides_are_not_mixed() {
    let block = |text: &str, slide| Block {
        text: text.to_owned(),
        position: Position { slide: Some(slide), ..Position::default() },
        is_heading: false,
    };
    let blocks = vec![block("One.", 1), block("More of one.", 1), block("Two.", 2), block("Three.", 3)];
    let document = Document {
        title: None,
        kind: DocumentKind::Pptx,
        blocks,
        images: Vec::new(),
        n_images_left_out: 0,
        notes: Vec::new(),
    };
    for chunker in chunkers(&(Arc::new(Characters) as Arc<dyn TokenCounter>), 1000, 100) {
        let chunks = chunker.chunk(&document);
        let slides: Vec<Option<u32>> = chunks.iter().map(|chunk| chunk.position.slide).collect();
        assert_eq!(slides, [Some(1), Some(2), Some(3)], "{chunker:?}");
        assert_eq!(chunks[0].text, "One.\n\nMore of one.");
    }
}

#[test]
fn pieces_have_no_more_tokens_than_is_allowed() {
    let text = "One two three. Four five six. Seven eight nine. ".repeat(20);
    let value = json!({"backend": "sentence", "config": {"chunk_size": 60, "chunk_overlap": 20}});
    let config = ChunkerConfig::from_json(&value).unwrap();
    let largest = |max_tokens: Option<usize>| {
        let chunker = open_within(&config, Arc::new(EstimatedTokens), max_tokens);
        chunker.chunk_text(&text).iter().map(|chunk| EstimatedTokens.count(&chunk.text)).max().unwrap()
    };
    assert!(largest(Some(12)) <= 12);
    assert!((13..=60).contains(&largest(None)));
    assert_eq!(largest(Some(1000)), largest(None));
}

#[test]
fn settings_choose_the_chunker() {
    for (key, text, expected) in [
        ("sentence", "One is. Two is.", vec!["One is.", "Two is."]),
        ("simple", "One is. Two is.", vec!["One", "is.", "Two", "is."]),
        ("charactertext", "One\n\nTwo two", vec!["One", "Two", "two"]),
        ("markdown", "# A\nlong text stays whole", vec!["long text stays whole"]),
    ] {
        let value = json!({"backend": key, "config": {"chunk_size": 4, "chunk_overlap": 0}});
        let chunker = open(&ChunkerConfig::from_json(&value).unwrap(), Arc::new(EstimatedTokens));
        assert_eq!(texts_of(&chunker.chunk_text(text)), expected, "{key}");
    }
}
