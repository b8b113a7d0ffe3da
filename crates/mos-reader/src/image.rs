//! Images and recordings.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mos_core::ask::ask_json;
use mos_core::language::Language;
use mos_core::memory::{SourceKind, SourceMessage};
use mos_core::message::TextTag;
use mos_core::{Content, FileData, MemoryItem, MemoryType, Message, Outcome, Part, Role, answer};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::file::data::Loader;
use crate::fine::Asking;
use crate::identity::content_name;
use crate::item::{Draft, FAST, Maker};
use crate::place::Log;
use crate::prompts::Prompt;
use crate::sorted::{AudioPart, ImagePart};

/// The longest address that is kept; a data URL holds the whole image.
const MAX_URL_CHARS: usize = 2_048;

/// Why images are not looked at.
pub(crate) const NO_MODEL: &str = "no model looks at images; configure `image_parser_llm`";

/// Reads images.
pub(crate) struct ImageReader<'a> {
    pub(crate) loader: Loader<'a>,
    pub(crate) maker: &'a Maker<'a>,
    /// What looks at images; without it they are references.
    pub(crate) asking: Option<Asking<'a>>,
    /// The language in which images are described.
    pub(crate) language: Language,
}

impl ImageReader<'_> {
    /// Returns the reference to an image: where it is, not what it shows.
    pub(crate) fn reference(&self, image: &ImagePart) -> MemoryItem {
        let shown = shown_url(&image.url);
        let text = format!("[image_url]: {shown}");
        let id = self.maker.identity.memory("image", [image.url.as_str()]);
        let draft = Draft {
            memory_type: Some(MemoryType::User),
            tags: vec![FAST.to_owned(), "multimodal:image".to_owned()],
            sources: vec![source(image, &shown)],
            source: Some(SourceKind::Conversation),
            text,
            ..Draft::default()
        };
        self.maker.item(id, draft)
    }

    /// Returns what a model sees in an image; `None`, with the reason in the log, when it cannot be looked at.
    pub(crate) async fn described(&self, image: &ImagePart, log: &mut Log) -> Option<MemoryItem> {
        if self.asking.is_none() {
            log.set(image.place, Outcome::Reference, NO_MODEL);
            return None;
        }
        let loaded = match self.loader.load(&FileData::Text(image.url.clone())).await {
            Ok(loaded) => loaded,
            Err(error) => {
                log.set(image.place, Outcome::Reference, error.reason);
                return None;
            }
        };
        match self.look(&loaded.bytes, &image.detail).await {
            Ok(seen) => Some(self.item(image, &content_name(&loaded.bytes), seen)),
            Err(reason) => {
                log.set(image.place, Outcome::Reference, reason);
                None
            }
        }
    }

    /// Returns what a model sees in an image; without one, or when it cannot be looked at, the reason.
    pub(crate) async fn look(&self, bytes: &[u8], detail: &str) -> Result<Seen, String> {
        let asking = self.asking.ok_or_else(|| NO_MODEL.to_owned())?;
        let known = media_type(bytes);
        let media_type = known.ok_or("its content is no image: known are PNG, JPEG, GIF, WebP and BMP")?;
        let url = format!("data:{media_type};base64,{}", STANDARD.encode(bytes));
        self.ask(asking, &url, detail).await.map_err(|reason| format!("it could not be described: {reason}"))
    }

    async fn ask(&self, asking: Asking<'_>, url: &str, detail: &str) -> Result<Seen, String> {
        let instructions = Prompt::Image.instructions(self.language, asking.tags, asking.with_example);
        let mut part = Map::new();
        part.insert("type".to_owned(), json!("image_url"));
        part.insert("image_url".to_owned(), json!({"url": url, "detail": detail}));
        let parts = vec![Part::Text { kind: TextTag::Text, text: instructions }, Part::Other(part)];
        let question = Message { content: Some(Content::Parts(parts)), ..Message::new(Role::User, "") };
        let schema = Prompt::Image.schema();
        ask_json(asking.model, vec![question], Some(&schema), asking.attempts).await.map_err(|error| error.to_string())
    }

    fn item(&self, image: &ImagePart, content: &str, seen: Seen) -> MemoryItem {
        let (key, text, tags) = seen.into_parts();
        let id = self.maker.identity.memory("image description", [content, text.as_str()]);
        let draft = Draft {
            key,
            tags,
            sources: vec![source(image, &shown_url(&image.url))],
            source: Some(SourceKind::Conversation),
            text,
            ..Draft::default()
        };
        self.maker.item(id, draft)
    }
}

/// Returns the reference to a recording.
pub(crate) fn audio_reference(audio: &AudioPart, maker: &Maker<'_>, log: &mut Log) -> MemoryItem {
    log.set(audio.place, Outcome::Reference, "recordings are not listened to; give their words as text");
    let shown = shown_url(&audio.what);
    let text = format!("[audio]: {shown}");
    let place = format!("{:?}", audio.place);
    let id = maker.identity.memory("audio", [audio.what.as_str(), place.as_str()]);
    let source = SourceMessage { kind: "audio".to_owned(), content: Some(shown), ..SourceMessage::default() };
    let draft = Draft {
        tags: vec![FAST.to_owned(), "multimodal:audio".to_owned()],
        sources: vec![source],
        source: Some(SourceKind::Conversation),
        text,
        ..Draft::default()
    };
    maker.item(id, draft)
}

/// Returns a URL as memories show it: a data URL without its data.
fn shown_url(url: &str) -> String {
    match url.split_once(',') {
        Some((kind, data)) if kind.starts_with("data:") => {
            format!("{kind}, about {} bytes ({})", data.len() / 4 * 3, content_name(data.as_bytes()))
        }
        _ => url.chars().take(MAX_URL_CHARS).collect(),
    }
}

fn source(image: &ImagePart, shown: &str) -> SourceMessage {
    let mut extra = Map::new();
    extra.insert("url".to_owned(), json!(shown));
    extra.insert("detail".to_owned(), json!(image.detail));
    SourceMessage {
        kind: "image".to_owned(),
        content: Some(shown.to_owned()),
        image_info: Some(json!({"url": shown})),
        extra,
        ..SourceMessage::default()
    }
}

/// Returns the type of an image by its first bytes.
pub(crate) fn media_type(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        [b'B', b'M', ..] => Some("image/bmp"),
        _ => None,
    }
}

/// What a model sees.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Value")]
pub(crate) struct Seen {
    key: Option<String>,
    description: String,
    text: Option<String>,
    tags: Vec<String>,
}

impl Seen {
    /// Returns title, text and tags of the memory of it.
    pub(crate) fn into_parts(self) -> (Option<String>, String, Vec<String>) {
        let text = match &self.text {
            Some(words) => format!("{}\n{words}", self.description),
            None => self.description,
        };
        let mut tags = vec!["image".to_owned(), "visual".to_owned()];
        tags.extend(self.tags.into_iter().filter(|tag| tag != "image" && tag != "visual"));
        (self.key, text, tags)
    }
}

impl TryFrom<Value> for Seen {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let elements = answer::elements(value, answer::MEMORY_LIST)?;
        let map = elements.first().ok_or("it describes nothing")?;
        Ok(Self {
            key: answer::text(map, &["key"]),
            description: answer::text(map, &["description", "value"]).ok_or("it has no `description`")?,
            text: answer::text(map, &["text"]),
            tags: answer::texts(map, "tags"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_known_by_their_first_bytes() {
        assert_eq!(media_type(b"\x89PNG\r\n"), Some("image/png"));
        assert_eq!(media_type(b"RIFF\0\0\0\0WEBPVP8 "), Some("image/webp"));
        assert_eq!(media_type(b"<html>"), None);
    }

    #[test]
    fn a_data_url_is_not_repeated() {
        let shown = shown_url(&format!("data:image/png;base64,{}", "A".repeat(4_000)));
        assert!(shown.starts_with("data:image/png;base64, about 3000 bytes") && shown.len() < 100, "{shown}");
        assert_eq!(shown_url("https://example.org/a,b.png"), "https://example.org/a,b.png");
    }
}
