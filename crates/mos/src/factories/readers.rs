//! Constructors of readers, from settings to options.

use std::sync::Arc;
use std::time::Duration;

use mos_config::{FetchConfig, MemReaderConfig};
use mos_core::{Fetcher, MemReader, MemoryError};
use mos_models::{HttpFetcher, HttpFetcherOptions};
use mos_reader::chunk::{self, ChunkSize, Chunker, EstimatedTokens, SentenceChunker};
use mos_reader::{Reader, ReaderKind, ReaderOptions, ReaderParts};

use super::{Factories, MemReaderParts};
use crate::error::{Error, Result};

/// Tokens of a chunk, and how many of them the next one repeats, unless configured otherwise; MemOS' numbers.
const CHUNK: (usize, usize) = (512, 128);

pub(super) fn add_mem_readers(factories: &mut Factories) {
    for key in MemReaderConfig::KEYS {
        factories.add_mem_reader(*key, Arc::new(mem_reader));
    }
}

fn mem_reader(config: MemReaderConfig, parts: MemReaderParts) -> std::result::Result<Arc<dyn MemReader>, MemoryError> {
    let (kind, options) = ReaderOptions::from_config(&config)
        .map_err(|error| MemoryError::Invalid(format!("mem_reader: {error}; correct it in the settings")))?;
    let common = match &config {
        MemReaderConfig::Simple(reader) => &reader.common,
        MemReaderConfig::MultiModal(reader) => &reader.common,
        MemReaderConfig::Strategy(reader) => &reader.common,
    };
    let chunker = chunk::open(&common.chunker, Arc::new(EstimatedTokens));
    Ok(Arc::new(Reader::new(kind, options, reader_parts(chunker, parts))))
}

/// Returns the reader of settings that name none: everything that can be read.
pub(super) fn default_reader(parts: MemReaderParts) -> Arc<dyn MemReader> {
    let (size, overlap) = CHUNK;
    let size = ChunkSize::new(Arc::new(EstimatedTokens), size, overlap);
    let chunker = Arc::new(SentenceChunker::new(size));
    let options = ReaderOptions::of(ReaderKind::MultiModal);
    Arc::new(Reader::new(ReaderKind::MultiModal, options, reader_parts(chunker, parts)))
}

fn reader_parts(chunker: Arc<dyn Chunker>, parts: MemReaderParts) -> ReaderParts {
    ReaderParts {
        model: parts.model,
        document_model: parts.document_model,
        image_model: parts.image_model,
        fetcher: parts.fetcher,
        ..ReaderParts::new(chunker, parts.clock)
    }
}

/// Returns what fetches files at addresses; `None` unless the settings allow it.
pub(crate) fn fetcher(config: &FetchConfig) -> Result<Option<Arc<dyn Fetcher>>> {
    if !config.enabled {
        return Ok(None);
    }
    let options = HttpFetcherOptions {
        allow_schemes: config.allow_schemes.clone(),
        allow_hosts: config.allow_hosts.clone(),
        max_bytes: config.max_bytes,
        timeout: Duration::from_secs_f64(config.timeout),
        max_redirects: config.max_redirects,
    };
    HttpFetcher::open(options).map(Some).map_err(|error| Error::Invalid(format!("fetch: {error}")))
}
