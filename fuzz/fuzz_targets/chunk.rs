//! Chunkers: for any text and any size, chunks are pieces of the text, in order, and nothing but space is lost.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use mos_reader::chunk::{
    CharacterTextChunker, Characters, ChunkSize, Chunker, EstimatedTokens, MarkdownChunker, SentenceChunker,
    SimpleChunker, TokenCounter,
};

fuzz_target!(|input: (u8, u8, bool, String)| {
    let (size, overlap, by_letters, text) = input;
    let text = text.as_str();
    let counter: Arc<dyn TokenCounter> = if by_letters { Arc::new(Characters) } else { Arc::new(EstimatedTokens) };
    let size = || ChunkSize::new(Arc::clone(&counter), usize::from(size), usize::from(overlap));
    let chunkers: [Arc<dyn Chunker>; 4] = [
        Arc::new(SentenceChunker::new(size())),
        Arc::new(SimpleChunker::new(size())),
        Arc::new(CharacterTextChunker::new(size())),
        Arc::new(MarkdownChunker { size: size(), levels: vec![1, 2, 3], strip_headers: false, recursive: true }),
    ];
    for chunker in chunkers {
        let mut covered = 0;
        for chunk in chunker.chunk_text(text) {
            assert_eq!(text[chunk.start..chunk.end], chunk.text);
            assert!(chunk.end > covered, "chunks go on");
            if chunk.start > covered {
                assert!(text[covered..chunk.start].trim().is_empty(), "nothing but space is lost");
            }
            covered = chunk.end;
        }
        assert!(text[covered..].trim().is_empty(), "the end is there");
    }
});
