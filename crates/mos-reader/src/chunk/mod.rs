//! Texts cut into chunks of bounded size that overlap.
//!
//! Chunks are ranges of the text ([`Document::text`] for a document), so that their source can be shown. Nothing but
//! space is lost between chunks, except headings where a chunker leaves them out and keeps them in the position. A cut
//! never falls into an address (`https://...`) or a letter.
//!
//! Sizes are what a [`TokenCounter`] counts. A chunk is larger only when a single address or letter is, or when it needs
//! the least number of sentences that is configured (then it has at most twice the size).

mod boundary;
mod count;
mod markdown;
mod pack;
mod protect;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use mos_config::ChunkerConfig;
use mos_config::reader::CommonChunker;

use crate::parse::{BLOCK_SEPARATOR, Document, Position};

pub use count::{Characters, EstimatedTokens, TokenCounter};
pub use markdown::MarkdownChunker;

use boundary::Level;
use pack::Packer;

/// A piece of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its text, without space around it.
    pub text: String,
    /// Where it begins in the document.
    pub position: Position,
    /// Its first byte in the text.
    pub start: usize,
    /// The byte after its last.
    pub end: usize,
}

/// Cuts texts.
pub trait Chunker: fmt::Debug + Send + Sync {
    /// Returns the chunks of a document in order; offsets are bytes of [`Document::text`]. No chunk has parts of two
    /// sheets or slides.
    fn chunk(&self, document: &Document) -> Vec<Chunk>;

    /// Returns the chunks of a text in order; offsets are its bytes.
    fn chunk_text(&self, text: &str) -> Vec<Chunk>;
}

/// How large chunks are.
#[derive(Clone, Debug)]
pub struct ChunkSize {
    /// What is counted.
    pub counter: Arc<dyn TokenCounter>,
    /// The size of a chunk; at least 1.
    pub size: usize,
    /// How much of its end a chunk shares with the next; less than `size`.
    pub overlap: usize,
    /// Sentences of a chunk, at least, where there are so many.
    pub min_sentences: usize,
}

impl ChunkSize {
    /// Returns a size of so many tokens. What cannot be is brought into its bounds.
    pub fn new(counter: Arc<dyn TokenCounter>, size: usize, overlap: usize) -> Self {
        let size = size.max(1);
        Self { counter, size, overlap: overlap.min(size - 1), min_sentences: 1 }
    }

    /// Returns the size brought down to so many tokens when it is larger; chunks then share as large a part of themselves as
    /// before.
    #[must_use]
    pub fn at_most(self, max_tokens: Option<usize>) -> Self {
        let Some(size) = max_tokens.map(|most| most.max(1)).filter(|most| *most < self.size) else { return self };
        let overlap = self.overlap.saturating_mul(size) / self.size;
        Self { size, overlap: overlap.min(size - 1), ..self }
    }

    fn from_config(config: &CommonChunker, counter: Arc<dyn TokenCounter>) -> Self {
        let mut size = Self::new(counter, config.chunk_size, config.chunk_overlap);
        size.min_sentences = config.min_sentences_per_chunk.max(1);
        size
    }
}

/// Returns the chunker that the settings name. `counter` counts tokens for `sentence` and `markdown`; sizes of the others
/// are characters.
pub fn open(config: &ChunkerConfig, counter: Arc<dyn TokenCounter>) -> Arc<dyn Chunker> {
    open_within(config, counter, None)
}

/// As [`open`], with chunks of `sentence` and `markdown` that have at most `max_tokens` tokens, whatever the settings say: for
/// texts that something else reads only so far.
pub fn open_within(
    config: &ChunkerConfig,
    counter: Arc<dyn TokenCounter>,
    max_tokens: Option<usize>,
) -> Arc<dyn Chunker> {
    match config {
        ChunkerConfig::Sentence(config) => {
            Arc::new(SentenceChunker::new(ChunkSize::from_config(&config.common, counter).at_most(max_tokens)))
        }
        ChunkerConfig::Markdown(config) => {
            let marks: Vec<&str> =
                config.headers_to_split_on.iter().filter_map(|pair| pair.first()).map(String::as_str).collect();
            Arc::new(MarkdownChunker {
                size: ChunkSize::from_config(&config.common, counter).at_most(max_tokens),
                levels: markdown::levels(&marks),
                strip_headers: config.strip_headers,
                recursive: config.recursive,
            })
        }
        ChunkerConfig::Simple(config) => {
            Arc::new(SimpleChunker::new(ChunkSize::from_config(&config.common, Arc::new(Characters))))
        }
        ChunkerConfig::CharacterText(config) => {
            Arc::new(CharacterTextChunker::new(ChunkSize::from_config(&config.common, Arc::new(Characters))))
        }
    }
}

/// Cuts at the ends of sentences, English and Chinese; a sentence that is too long is cut between words.
#[derive(Clone, Debug)]
pub struct SentenceChunker {
    size: ChunkSize,
}

/// Cuts between words, as evenly as the size allows.
#[derive(Clone, Debug)]
pub struct SimpleChunker {
    size: ChunkSize,
}

/// Cuts between paragraphs; what is too long between lines, then sentences, then words.
#[derive(Clone, Debug)]
pub struct CharacterTextChunker {
    size: ChunkSize,
}

macro_rules! by_levels {
    ($($name:ident: $levels:expr;)*) => {$(
        impl $name {
            /// Returns a chunker of this size.
            pub fn new(size: ChunkSize) -> Self {
                Self { size }
            }

            fn ranges(&self, text: &str, breaks: &[usize]) -> Vec<Range<usize>> {
                Packer::new(text, &self.size).ranges(0..text.len(), $levels, breaks)
            }
        }

        impl Chunker for $name {
            fn chunk(&self, document: &Document) -> Vec<Chunk> {
                let joined = Joined::new(document);
                let ranges = self.ranges(&joined.text, &joined.breaks);
                ranges.into_iter().map(|range| joined.chunk(range)).collect()
            }

            fn chunk_text(&self, text: &str) -> Vec<Chunk> {
                self.ranges(text, &[]).into_iter().map(|range| chunk_of(text, range, Position::default())).collect()
            }
        }
    )*};
}

by_levels! {
    SentenceChunker: &[Level::Sentence, Level::Word, Level::Letter];
    SimpleChunker: &[Level::Word, Level::Letter];
    CharacterTextChunker: &[Level::Paragraph, Level::Line, Level::Sentence, Level::Word, Level::Letter];
}

fn chunk_of(text: &str, range: Range<usize>, position: Position) -> Chunk {
    Chunk { text: text[range.clone()].to_owned(), position, start: range.start, end: range.end }
}

/// A document as one text.
struct Joined<'a> {
    document: &'a Document,
    text: String,
    /// Where each block begins.
    starts: Vec<usize>,
    /// Where the first blocks of sheets and slides begin.
    breaks: Vec<usize>,
}

impl<'a> Joined<'a> {
    fn new(document: &'a Document) -> Self {
        let (mut starts, mut breaks, mut at) = (Vec::with_capacity(document.blocks.len()), Vec::new(), 0);
        let mut last: Option<&Position> = None;
        for block in &document.blocks {
            let position = &block.position;
            if last.is_some_and(|last| last.sheet != position.sheet || last.slide != position.slide) {
                breaks.push(at);
            }
            last = Some(position);
            starts.push(at);
            at += block.text.len() + BLOCK_SEPARATOR.len();
        }
        Self { document, text: document.text(), starts, breaks }
    }

    /// Returns the position of the block in which a byte lies.
    fn position(&self, at: usize) -> Position {
        let index = self.starts.partition_point(|start| *start <= at).saturating_sub(1);
        self.document.blocks.get(index).map(|block| block.position.clone()).unwrap_or_default()
    }

    fn chunk(&self, range: Range<usize>) -> Chunk {
        chunk_of(&self.text, range.clone(), self.position(range.start))
    }
}
