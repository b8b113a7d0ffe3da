//! One file: fetched, parsed, cut, and noted.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use futures::StreamExt;
use mos_core::memory::{SourceKind, SourceMessage};
use mos_core::reader::CHUNK;
use mos_core::{FileVersion, MemoryId, MemoryItem, MemoryType, Outcome};
use serde_json::{Map, Value, json};

use super::data::{Loaded, Loader, NotLoaded};
use super::pictures::{Looking, image_name, image_value};
use super::summary::{Summary, evidence, summary};
use super::version::{chunk_names, lasting_id};
use crate::chunk::{Chunk, Chunker};
use crate::fine::Asking;
use crate::fine::support;
use crate::identity::content_name;
use crate::image::media_type;
use crate::item::{Draft, FAST, Maker};
use crate::parse::{self, Document, DocumentImage, DocumentKind, ImageSource, ParseLimits, Position};
use crate::place::Log;
use crate::sorted::FilePart;

/// The tag of memories of files.
pub(super) const FILE: &str = "multimodal:file";

/// The tag of chunks that a model failed to refine.
const FALLBACK: &str = "fallback";

/// Reads files.
pub(crate) struct FileReader<'a> {
    pub(crate) loader: Loader<'a>,
    pub(crate) chunker: &'a Arc<dyn Chunker>,
    pub(crate) limits: &'a Arc<ParseLimits>,
    pub(crate) maker: &'a Maker<'a>,
    /// What refines chunks; `None` keeps them as they are.
    pub(crate) asking: Option<Asking<'a>>,
    pub(crate) save_raw_files: bool,
    /// Memories that were drawn before, by file and chunk.
    pub(crate) known_chunks: &'a HashMap<(String, String), MemoryId>,
    /// Hosts at which documents are Markdown, whatever they look like.
    pub(crate) direct_hosts: &'a [String],
    /// What looks at images in documents.
    pub(crate) looking: Looking<'a>,
}

/// What came of a file.
#[derive(Debug, Default)]
pub(crate) struct FileReading {
    pub(crate) raw: Vec<MemoryItem>,
    pub(crate) memories: Vec<MemoryItem>,
    pub(crate) raw_files: Vec<MemoryItem>,
    /// Names its content, when that could be read.
    pub(crate) content: Option<String>,
    /// What takes the place of its earlier versions.
    pub(crate) version: Option<FileVersion>,
}

/// What is known about a file that was read.
pub(super) struct Read {
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) url: Option<String>,
    content: String,
    pub(super) title: Option<String>,
    pub(super) chunks: Vec<Chunk>,
    /// The names of the chunks, in their order.
    names: Vec<String>,
    pub(super) images: Vec<DocumentImage>,
    /// Whether its id stays when its content changes.
    lasts: bool,
}

impl FileReader<'_> {
    /// Returns the memories of a file; of one that cannot be read, a reference when there is something to refer to.
    pub(crate) async fn read(&self, part: &FilePart, log: &mut Log) -> FileReading {
        let loaded = match self.loader.load(&part.file.data).await {
            Ok(loaded) => Loaded { url: loaded.url.or_else(|| part.file.url.clone()), ..loaded },
            Err(error) => return self.reference(part, error, log),
        };
        let url = loaded.url.clone();
        let read = match self.parsed(part, loaded).await {
            Ok((read, notes)) => {
                let name = read.name.clone().unwrap_or_else(|| read.id.clone());
                notes.iter().for_each(|note| log.warn(format!("{name}: {note}")));
                read
            }
            Err(reason) => return self.reference(part, NotLoaded { reason, url }, log),
        };
        let version = read.version();
        let pictures = self.pictures(part, &read, log).await;
        let has_seen = || read.images.iter().any(|image| self.has_seen(&read, image));
        if read.chunks.is_empty() && pictures.is_empty() && !has_seen() {
            let reason = "it holds no text, and none of its images could be described".to_owned();
            return self.reference(part, NotLoaded { reason, url: read.url.clone() }, log);
        }
        let mut reading = match &self.asking {
            None => {
                let n = read.chunks.len();
                let raw = (0..n).map(|index| self.raw_chunk(&read, index, &[FAST, FILE])).collect();
                FileReading { raw, content: Some(read.content), ..FileReading::default() }
            }
            Some(asking) => self.refined(*asking, part, read, log).await,
        };
        reading.memories.extend(pictures);
        FileReading { version, ..reading }
    }

    async fn parsed(&self, part: &FilePart, loaded: Loaded) -> Result<(Read, Vec<String>), String> {
        let file = &part.file;
        let name = file.name.clone().or(loaded.name);
        let (chunker, limits, parse_name) = (Arc::clone(self.chunker), Arc::clone(self.limits), name.clone());
        let bytes = loaded.bytes;
        let host = loaded.url.as_deref().and_then(host_of);
        let is_markdown = host.is_some_and(|host| self.direct_hosts.contains(&host));
        let is_image = is_image(&bytes);
        let may_look = match self.looking {
            Looking::With(_) => true,
            Looking::Not(reason) if is_image => return Err(format!("it is an image: {reason}")),
            Looking::Not(_) => false,
        };
        // Parsing takes seconds for large files, and parsers of damaged ones may panic.
        let parsed = tokio::task::spawn_blocking(move || {
            let content = content_name(&bytes);
            let parsed = if is_image {
                Ok(image_alone(bytes))
            } else if is_markdown {
                parse::parse_markdown(&bytes, &limits)
            } else {
                parse::parse(parse_name.as_deref(), &bytes, &limits)
            };
            let document: Document = parsed.map_err(|error| error.to_string())?;
            let mut chunks = chunker.chunk(&document);
            chunks.retain(|chunk| !chunk.text.trim().is_empty());
            let has_pictures = may_look && !document.images.is_empty();
            if chunks.is_empty() && !has_pictures {
                let may_be_scanned = document.kind == DocumentKind::Pdf;
                let remedy = if may_be_scanned {
                    "; scanned pages are read in fine mode with an `image_parser_llm`"
                } else {
                    ""
                };
                return Err(format!("it holds no text{remedy}"));
            }
            Ok((content, document, chunks))
        })
        .await;
        let (content, document, chunks) = match parsed {
            Ok(parsed) => parsed?,
            Err(_) => return Err("it is damaged in a way that its parser did not expect".to_owned()),
        };
        let lasting = if part.replaces { lasting_id(file, self.loader.sources).await } else { None };
        let lasts = lasting.is_some();
        let id = lasting.or_else(|| file.id.clone()).unwrap_or_else(|| format!("file_{content}"));
        let names = chunk_names(&chunks);
        let Document { title, images, notes, .. } = document;
        Ok((Read { id, name, url: loaded.url, content, title, chunks, names, images, lasts }, notes))
    }

    /// Notes a file whose content is not there.
    fn reference(&self, part: &FilePart, error: NotLoaded, log: &mut Log) -> FileReading {
        let file = &part.file;
        let marks = [
            error.url.as_deref().map(|url| format!("[File URL: {url}]")),
            file.id.as_deref().map(|id| format!("[File ID: {id}]")),
            file.name.as_deref().map(|name| format!("[Filename: {name}]")),
        ];
        let text = marks.into_iter().flatten().collect::<Vec<_>>().join(" ");
        if text.is_empty() {
            log.set(part.place, Outcome::NotKept, error.reason);
            return FileReading::default();
        }
        let mut extra = Map::new();
        extra.insert("not_read".to_owned(), json!(error.reason));
        let source = SourceMessage {
            kind: "file".to_owned(),
            content: Some(text.clone()),
            doc_path: file.name.clone().or_else(|| error.url.clone()),
            file_info: Some(file_info(file.id.as_deref(), file.name.as_deref(), error.url.as_deref())),
            extra,
            ..SourceMessage::default()
        };
        log.set(part.place, Outcome::Reference, error.reason);
        let draft = Draft {
            tags: vec![FAST.to_owned(), FILE.to_owned()],
            sources: vec![source],
            source: Some(SourceKind::File),
            file_id: file.id.clone(),
            text,
            ..Draft::default()
        };
        let id = self.maker.identity.memory("file reference", [draft.text.as_str()]);
        FileReading { raw: vec![self.maker.item(id, draft)], ..FileReading::default() }
    }

    /// Asks a model about every chunk; beside each summary the chunk is kept as it is.
    async fn refined(&self, asking: Asking<'_>, part: &FilePart, read: Read, log: &mut Log) -> FileReading {
        let failures = AtomicUsize::new(0);
        let known: Vec<Option<&MemoryId>> =
            read.names.iter().map(|name| self.known_chunks.get(&(read.id.clone(), name.clone()))).collect();
        let asked = read.chunks.iter().zip(&known).filter(|(_, known)| known.is_none());
        let questions: Vec<_> = asked.map(|(chunk, _)| summary(asking, &read, chunk, &failures)).collect();
        let answers: Vec<Result<Option<Summary>, String>> =
            futures::stream::iter(questions).buffered(asking.parallel.max(1)).collect().await;
        let mut answers = answers.into_iter();
        let mut reading = FileReading { content: Some(read.content.clone()), ..FileReading::default() };
        let mut noted: Vec<MemoryId> = Vec::with_capacity(read.chunks.len());
        for (index, chunk) in read.chunks.iter().enumerate() {
            if let Some(known) = known[index] {
                noted.push(known.clone());
                continue;
            }
            let Some(answer) = answers.next() else { break };
            let supported = match answer {
                Ok(None) => None,
                Ok(Some(summary)) => match support::check(&summary.value, &evidence(&read, chunk)) {
                    Ok(()) => Some(summary),
                    Err(reason) => {
                        log.dropped(summary.value, reason);
                        None
                    }
                },
                Err(reason) => {
                    let reason = format!("chunk {} could not be refined: {reason}", index + 1);
                    log.set(part.place, Outcome::Raw, reason);
                    None
                }
            };
            match supported {
                Some(summary) => {
                    let item = self.summary_item(&read, index, summary);
                    noted.push(item.id.clone());
                    reading.memories.push(item);
                }
                None => {
                    let item = self.raw_chunk(&read, index, &[FAST, FILE, FALLBACK]);
                    noted.push(item.id.clone());
                    reading.raw.push(item);
                }
            }
        }
        if self.save_raw_files {
            reading.raw_files = self.raw_files(&read, &noted);
        }
        reading
    }

    fn raw_chunk(&self, read: &Read, index: usize, tags: &[&str]) -> MemoryItem {
        let source = read.source(index);
        let mut tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
        // MemOS has it third.
        tags.insert(2, format!("chunk:{}/{}", index + 1, read.chunks.len()));
        let draft = Draft {
            text: source.content.clone().unwrap_or_default(),
            tags,
            sources: vec![source],
            source: Some(SourceKind::File),
            file_id: Some(read.id.clone()),
            ..Draft::default()
        };
        self.maker.item(self.chunk_id(read, "chunk", index), draft)
    }

    fn summary_item(&self, read: &Read, index: usize, summary: Summary) -> MemoryItem {
        let mut tags = summary.tags;
        tags.push(FILE.to_owned());
        let identity = [read.id.as_str(), read.names[index].as_str(), summary.value.as_str()];
        let id = self.maker.identity.memory("chunk summary", identity);
        let draft = Draft {
            text: summary.value,
            key: summary.key,
            tags,
            background: read.chunks[index].position.headings.join(" > "),
            sources: vec![read.source(index)],
            source: Some(SourceKind::File),
            file_id: Some(read.id.clone()),
            ..Draft::default()
        };
        self.maker.item(id, draft)
    }

    /// Returns the chunks as they are, each linked with its summary and its neighbours.
    fn raw_files(&self, read: &Read, noted: &[MemoryId]) -> Vec<MemoryItem> {
        let ids: Vec<MemoryId> = (0..noted.len()).map(|index| self.chunk_id(read, "raw file", index)).collect();
        let linked = noted.iter().enumerate().map(|(index, summary)| {
            let mut extra = Map::new();
            extra.insert("summary_ids".to_owned(), json!([summary.as_str()]));
            if let Some(before) = index.checked_sub(1).and_then(|before| ids.get(before)) {
                extra.insert("preceding_id".to_owned(), json!(before.as_str()));
            }
            if let Some(next) = ids.get(index + 1) {
                extra.insert("following_id".to_owned(), json!(next.as_str()));
            }
            let draft = Draft {
                text: read.chunks[index].text.clone(),
                memory_type: Some(MemoryType::RawFile),
                tags: vec![FILE.to_owned(), format!("chunk:{}/{}", index + 1, noted.len())],
                sources: vec![read.source(index)],
                source: Some(SourceKind::File),
                file_id: Some(read.id.clone()),
                extra,
                ..Draft::default()
            };
            self.maker.item(ids[index].clone(), draft)
        });
        linked.collect()
    }

    fn chunk_id(&self, read: &Read, kind: &str, index: usize) -> MemoryId {
        self.maker.identity.memory(kind, [read.id.as_str(), read.names[index].as_str()])
    }
}

impl Read {
    /// Returns what takes the place of earlier versions of the file.
    fn version(&self) -> Option<FileVersion> {
        let names = self.names.iter().cloned().chain(self.images.iter().map(image_name));
        self.lasts.then(|| FileVersion { file_id: self.id.clone(), chunks: names.collect() })
    }

    /// What it is called.
    pub(super) fn shown(&self) -> String {
        self.name.clone().or_else(|| self.url.clone()).unwrap_or_else(|| self.id.clone())
    }

    /// Where a chunk stands.
    fn source(&self, index: usize) -> SourceMessage {
        let chunk = &self.chunks[index];
        let mut text = chunk.text.clone();
        text.push_str(&format!(" [File ID: {}]", self.id));
        if let Some(name) = &self.name {
            text.push_str(&format!(" [Filename: {name}]"));
        }
        let mut extra = Map::new();
        extra.insert(CHUNK.to_owned(), json!(self.names[index]));
        extra.insert("chunk_index".to_owned(), json!(index));
        extra.insert("chunk_total".to_owned(), json!(self.chunks.len()));
        put_position(&chunk.position, &mut extra);
        let images: Vec<Value> = self.images.iter().filter(|image| is_in(image, chunk)).map(image_value).collect();
        if !images.is_empty() {
            extra.insert("images".to_owned(), json!(images));
        }
        if let Some(url) = &self.url {
            extra.insert("url".to_owned(), json!(url));
        }
        SourceMessage {
            kind: "file".to_owned(),
            content: Some(text),
            doc_path: Some(self.shown()),
            file_info: Some(file_info(Some(&self.id), self.name.as_deref(), self.url.as_deref())),
            extra,
            ..SourceMessage::default()
        }
    }
}

/// Whether a file is an image; `BM` is too little to tell a bitmap from a text.
fn is_image(bytes: &[u8]) -> bool {
    media_type(bytes).is_some_and(|media_type| media_type != "image/bmp")
}

/// Returns a file that is an image as a document that holds nothing else.
fn image_alone(bytes: Vec<u8>) -> Document {
    let (alt, mark) = (String::new(), String::new());
    let image = DocumentImage { alt, source: ImageSource::Bytes(bytes), position: Position::default(), mark };
    Document {
        title: None,
        kind: DocumentKind::Text,
        blocks: Vec::new(),
        images: vec![image],
        n_images_left_out: 0,
        notes: Vec::new(),
    }
}

/// Whether an image stands in a chunk: between its words, else on its page.
fn is_in(image: &DocumentImage, chunk: &Chunk) -> bool {
    if image.mark.is_empty() {
        image.position.page.is_some() && image.position.page == chunk.position.page
    } else {
        chunk.text.contains(&image.mark)
    }
}

pub(super) fn put_position(position: &Position, extra: &mut Map<String, Value>) {
    let numbers = [("page", position.page), ("slide", position.slide), ("row", position.row)];
    for (key, number) in numbers {
        if let Some(number) = number {
            extra.insert(key.to_owned(), json!(number));
        }
    }
    if let Some(sheet) = &position.sheet {
        extra.insert("sheet".to_owned(), json!(sheet));
    }
    if !position.headings.is_empty() {
        extra.insert("headings".to_owned(), json!(position.headings));
    }
}

/// What MemOS notes about a file. The content itself is not repeated.
pub(super) fn file_info(id: Option<&str>, name: Option<&str>, url: Option<&str>) -> Value {
    let mut info = Map::new();
    for (key, text) in [("file_id", id), ("filename", name), ("file_data", url)] {
        if let Some(text) = text {
            info.insert(key.to_owned(), json!(text));
        }
    }
    Value::Object(info)
}

/// Returns the name of the host of a URL, in lower case and without a port.
fn host_of(url: &str) -> Option<String> {
    let rest = url.split_once("://")?.1;
    let place = rest.split(['/', '?', '#']).next()?;
    let host = place.rsplit('@').next()?;
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    Some(name.map_or(host, |(name, _)| name).to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_no_images() {
        assert!(is_image(b"\x89PNG\r\n") && is_image(b"\xff\xd8\xff\xe0"));
        assert!(!is_image(b"BMW builds cars.") && !is_image(b"") && !is_image(b"# Title"));
    }

    #[test]
    fn hosts_are_read_out_of_urls() {
        for url in
            ["https://Docs.example.org/a?b=c:1", "http://docs.example.org:8080", "http://me:pw@docs.example.org#x"]
        {
            assert_eq!(host_of(url).as_deref(), Some("docs.example.org"), "{url}");
        }
        assert_eq!(host_of("docs.example.org"), None);
    }
}
