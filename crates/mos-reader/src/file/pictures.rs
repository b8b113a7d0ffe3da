//! The images of a document: described by a model, else kept as references at their places in its text.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use futures::StreamExt;
use mos_core::language::detect;
use mos_core::memory::{SourceKind, SourceMessage};
use mos_core::reader::CHUNK;
use mos_core::{FileData, MemoryItem};
use serde_json::{Map, Value, json};

use super::data::{Loader, url_of};
use super::read::{FILE, FileReader, Read, file_info, put_position};
use crate::fetch::percent_decoded;
use crate::identity::content_name;
use crate::image::{ImageReader, Seen};
use crate::item::Draft;
use crate::parse::{DocumentImage, ImageSource};
use crate::place::Log;
use crate::sorted::FilePart;

/// What looks at the images of documents.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Looking<'a> {
    /// This model does.
    With(crate::fine::Asking<'a>),
    /// Nothing does, for this reason.
    Not(&'static str),
}

/// Returns the name of an image in its file: what it is, or where it is.
pub(super) fn image_name(image: &DocumentImage) -> String {
    match &image.source {
        ImageSource::Bytes(bytes) => format!("image-{}", content_name(bytes)),
        ImageSource::Address(address) => format!("image-{}", content_name(address.as_bytes())),
    }
}

/// Returns what is told about an image where a chunk speaks of it.
pub(super) fn image_value(image: &DocumentImage) -> Value {
    let mut map = Map::new();
    if !image.alt.is_empty() {
        map.insert("alt".to_owned(), json!(image.alt));
    }
    let url = match &image.source {
        ImageSource::Address(address) => address.clone(),
        ImageSource::Bytes(_) => image_name(image),
    };
    map.insert("url".to_owned(), json!(url));
    Value::Object(map)
}

impl FileReader<'_> {
    /// Returns what a model sees in the images of a file. Images that it does not see are told of in the log; the text of the
    /// file holds their descriptions and places.
    pub(super) async fn pictures(&self, part: &FilePart, read: &Read, log: &mut Log) -> Vec<MemoryItem> {
        let images: Vec<&DocumentImage> = read.images.iter().filter(|image| !self.has_seen(read, image)).collect();
        if images.is_empty() {
            return Vec::new();
        }
        let asking = match self.looking {
            Looking::With(asking) => asking,
            Looking::Not(reason) => {
                log.warn(left_as_they_are(read, images.len(), reason));
                return Vec::new();
            }
        };
        let loader = Loader {
            fetcher: self.loader.fetcher,
            sources: self.loader.sources,
            max_bytes: self.loader.max_bytes.min(self.limits.max_image_bytes),
        };
        let language = detect(read.chunks.first().map_or("", |chunk| chunk.text.as_str()));
        let reader = ImageReader { loader, maker: self.maker, asking: Some(asking), language };
        let looks: Vec<_> = images.iter().map(|image| look(&reader, part, read, image)).collect();
        let seen: Vec<Result<Seen, String>> =
            futures::stream::iter(looks).buffered(asking.parallel.max(1)).collect().await;
        let mut items = Vec::new();
        let mut unseen: BTreeMap<String, usize> = BTreeMap::new();
        for (image, seen) in images.into_iter().zip(seen) {
            match seen {
                Ok(seen) => items.push(self.picture(read, image, seen)),
                Err(reason) => *unseen.entry(reason).or_default() += 1,
            }
        }
        for (reason, n) in unseen {
            log.warn(left_as_they_are(read, n, &reason));
        }
        items
    }

    /// Whether an image was described when the file was read before.
    pub(super) fn has_seen(&self, read: &Read, image: &DocumentImage) -> bool {
        self.known_chunks.contains_key(&(read.id.clone(), image_name(image)))
    }

    fn picture(&self, read: &Read, image: &DocumentImage, seen: Seen) -> MemoryItem {
        let (name, value) = (image_name(image), image_value(image));
        let mut extra = Map::new();
        extra.insert(CHUNK.to_owned(), json!(name));
        put_position(&image.position, &mut extra);
        let source = SourceMessage {
            kind: "image".to_owned(),
            content: Some(if image.mark.is_empty() { name.clone() } else { image.mark.clone() }),
            doc_path: Some(read.shown()),
            file_info: Some(file_info(Some(&read.id), read.name.as_deref(), read.url.as_deref())),
            image_info: Some(value),
            extra,
            ..SourceMessage::default()
        };
        let (key, text, mut tags) = seen.into_parts();
        tags.push(FILE.to_owned());
        let id = self.maker.identity.memory("document image", [read.id.as_str(), name.as_str(), text.as_str()]);
        let draft = Draft {
            key,
            tags,
            background: image.position.headings.join(" > "),
            sources: vec![source],
            source: Some(SourceKind::File),
            file_id: Some(read.id.clone()),
            text,
            ..Draft::default()
        };
        self.maker.item(id, draft)
    }
}

fn left_as_they_are(read: &Read, n: usize, reason: &str) -> String {
    let images =
        if n == 1 { "1 image is kept as a reference".to_owned() } else { format!("{n} images are kept as references") };
    format!("{}: {images}, with what the text says about it and where: {reason}", read.shown())
}

/// Gets at an image and asks the model what it shows.
async fn look(reader: &ImageReader<'_>, part: &FilePart, read: &Read, image: &DocumentImage) -> Result<Seen, String> {
    match &image.source {
        ImageSource::Bytes(bytes) => reader.look(bytes, "auto").await,
        ImageSource::Address(address) => {
            let data = content_of(reader.loader.sources.local_paths, part, read, address).await?;
            let loaded = reader.loader.load(&data).await.map_err(|error| error.reason)?;
            reader.look(&loaded.bytes, "auto").await
        }
    }
}

/// Returns where the content of an image is whose address a document gives. A document can name no file of this machine but
/// those beside it and below, and these only when it is itself read from there.
async fn content_of(local_paths: bool, part: &FilePart, read: &Read, address: &str) -> Result<FileData, String> {
    if let Some(url) = url_of(address) {
        return Ok(FileData::Text(url.to_owned()));
    }
    if let Some(url) = read.url.as_deref().and_then(|base| against(base, address)) {
        return Ok(FileData::Text(url));
    }
    let FileData::Path(document) = &part.file.data else {
        return Err("its address is relative, and nothing says to what".to_owned());
    };
    let outside = || "its address leads out of the folder of the document".to_owned();
    let named = String::from_utf8_lossy(&percent_decoded(address)).into_owned();
    let is_below = Path::new(&named).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let folder = document.parent().filter(|_| local_paths && is_below).ok_or_else(outside)?;
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let missing = |_| format!("there is no {named} beside the document");
    let folder = tokio::fs::canonicalize(folder).await.map_err(missing)?;
    let path = tokio::fs::canonicalize(folder.join(&named)).await.map_err(missing)?;
    // A link may lead anywhere.
    if path.starts_with(&folder) { Ok(FileData::Path(path)) } else { Err(outside()) }
}

/// Returns the URL that a document at the URL `base` means with an address.
fn against(base: &str, address: &str) -> Option<String> {
    let (scheme, rest) = base.split_once("://")?;
    if address.contains(':') && !address.starts_with('/') {
        return None;
    }
    if let Some(host) = address.strip_prefix("//") {
        return Some(format!("{scheme}://{host}"));
    }
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let folder = if address.starts_with('/') { "" } else { path.rsplit_once('/').map_or("", |(folder, _)| folder) };
    let mut names: Vec<&str> = folder.split('/').filter(|name| !name.is_empty()).collect();
    for name in address.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            _ => names.push(name),
        }
    }
    Some(format!("{scheme}://{host}/{}", names.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_where_the_document_is() {
        let base = "https://example.org/docs/guide/a.md?raw=1";
        for (address, url) in [
            ("img/x.png", "https://example.org/docs/guide/img/x.png"),
            ("../x.png", "https://example.org/docs/x.png"),
            ("../../../../x.png", "https://example.org/x.png"),
            ("/x.png", "https://example.org/x.png"),
            ("//cdn.example.org/x.png?v=2", "https://cdn.example.org/x.png?v=2"),
        ] {
            assert_eq!(against(base, address).as_deref(), Some(url), "{address}");
        }
        assert_eq!(against("https://example.org", "x.png").as_deref(), Some("https://example.org/x.png"));
        assert_eq!(against(base, "file:///etc/passwd"), None);
    }
}
