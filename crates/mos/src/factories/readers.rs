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

/// Tokens are only estimated before a text is cut: this part of what an encoder reads is left free.
const SPARE_PART: usize = 8;

pub(super) fn add_mem_readers(factories: &mut Factories) {
    for key in MemReaderConfig::KEYS {
        factories.add_mem_reader(*key, Arc::new(mem_reader));
    }
}

fn mem_reader(config: MemReaderConfig, parts: MemReaderParts) -> std::result::Result<Arc<dyn MemReader>, MemoryError> {
    let (kind, mut options) = ReaderOptions::from_config(&config)
        .map_err(|error| MemoryError::Invalid(format!("mem_reader: {error}; correct it in the settings")))?;
    options.quarantine = parts.quarantine;
    let common = match &config {
        MemReaderConfig::Simple(reader) => &reader.common,
        MemReaderConfig::MultiModal(reader) => &reader.common,
        MemReaderConfig::Strategy(reader) => &reader.common,
    };
    let chunker = chunk::open_within(&common.chunker, Arc::new(EstimatedTokens), read_whole(&parts));
    Ok(Arc::new(Reader::new(kind, options, reader_parts(chunker, parts))))
}

/// Returns the reader of settings that name none: everything that can be read.
pub(super) fn default_reader(parts: MemReaderParts) -> Arc<dyn MemReader> {
    let (size, overlap) = CHUNK;
    let size = ChunkSize::new(Arc::new(EstimatedTokens), size, overlap).at_most(read_whole(&parts));
    let chunker = Arc::new(SentenceChunker::new(size));
    let options = ReaderOptions { quarantine: parts.quarantine, ..ReaderOptions::of(ReaderKind::MultiModal) };
    Arc::new(Reader::new(ReaderKind::MultiModal, options, reader_parts(chunker, parts)))
}

/// The most tokens of a piece that the encoder reads whole: what it does not read, nobody finds by its meaning.
fn read_whole(parts: &MemReaderParts) -> Option<usize> {
    parts.max_tokens.map(|most| most - most / SPARE_PART)
}

fn reader_parts(chunker: Arc<dyn Chunker>, parts: MemReaderParts) -> ReaderParts {
    ReaderParts {
        model: parts.model,
        document_model: parts.document_model,
        general_model: parts.general_model,
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

#[cfg(test)]
mod tests {
    use mos_config::Setting;
    use mos_core::{FetchError, Fetched};
    use mos_testkit::json_server::{Answer, JsonServer};
    use serde_json::{Value, json};

    use super::*;

    /// Fetches from the server with these settings over those that let it be asked.
    async fn fetched(at: &JsonServer, path: &str, changes: Value) -> std::result::Result<Fetched, FetchError> {
        let host = at.url("").trim_start_matches("http://").to_owned();
        let mut settings = json!({"enabled": true, "allow_schemes": ["http"], "allow_hosts": [host]});
        if let (Some(settings), Value::Object(changes)) = (settings.as_object_mut(), changes) {
            settings.extend(changes);
        }
        let fetcher = fetcher(&FetchConfig::from_json(&settings).unwrap()).unwrap().unwrap();
        fetcher.fetch(&at.url(path)).await
    }

    #[test]
    fn pieces_are_no_longer_than_what_the_encoder_reads() {
        let parts = |max_tokens| MemReaderParts {
            model: None,
            document_model: None,
            general_model: None,
            image_model: None,
            fetcher: None,
            max_tokens,
            quarantine: true,
            clock: Arc::new(mos_core::SystemClock),
        };
        let (size, overlap) = CHUNK;
        let sizes = |max_tokens| {
            let size = ChunkSize::new(Arc::new(EstimatedTokens), size, overlap).at_most(read_whole(&parts(max_tokens)));
            (size.size, size.overlap)
        };
        assert_eq!(sizes(None), (512, 128));
        assert_eq!(sizes(Some(8192)), (512, 128), "an encoder that reads more changes nothing");
        assert_eq!(sizes(Some(254)), (223, 55));
        assert_eq!(sizes(Some(0)), (1, 0));
    }

    #[tokio::test]
    async fn every_key_of_the_settings_has_its_effect() {
        let at = JsonServer::start().await;
        at.answer_with(|request| match request.path.as_str() {
            "/moved" => Answer::status(302, &json!(null)).with_header("location", "/note"),
            "/slow" => Answer::text("slow").after(Duration::from_secs(60)),
            _ => Answer::text("The key is under the mat."),
        });
        assert!(fetcher(&FetchConfig::default()).unwrap().is_none(), "enabled");
        for path in ["/note", "/moved"] {
            assert_eq!(fetched(&at, path, json!({})).await.unwrap().bytes, b"The key is under the mat.");
        }
        for (path, changes, told) in [
            ("/note", json!({"allow_schemes": ["https"]}), "fetch.allow_schemes"),
            ("/note", json!({"allow_hosts": ["example.org"]}), "fetch.allow_hosts"),
            ("/note", json!({"allow_hosts": []}), "leads to"),
            ("/note", json!({"max_bytes": 10}), "10 bytes"),
            ("/slow", json!({"timeout": 0.2}), "fetch.timeout"),
            ("/moved", json!({"max_redirects": 0}), "fetch.max_redirects"),
        ] {
            let error = fetched(&at, path, changes.clone()).await.unwrap_err().to_string();
            assert!(error.contains(told), "{changes}: {error}");
        }
    }
}
