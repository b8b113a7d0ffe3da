//! An input taken apart: turns of a conversation, texts, files, images, descriptions of tools.

mod message;

use mos_core::{Clock, FileData, Outcome, RawFile, RawItem, ReadInput};
use serde_json::{Map, Value};

use crate::options::ReaderKind;
use crate::place::{Log, Place};
use crate::turn::Turn;

/// The longest name, time or id that is kept, in bytes: it stands beside every part of a message or file.
const MAX_LABEL_BYTES: usize = 1_024;

/// Returns the beginning of a name, time or id, which is nearly always all of it.
fn label(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_LABEL_BYTES)].to_owned()
}

/// A file, and where it was given.
#[derive(Clone, Debug)]
pub(crate) struct FilePart {
    pub(crate) place: Place,
    pub(crate) file: RawFile,
    /// Whether it takes the place of its earlier versions: files that are given by themselves do, those of a message stay as
    /// they were when they were sent.
    pub(crate) replaces: bool,
}

/// An image, and where it was given.
#[derive(Clone, Debug)]
pub(crate) struct ImagePart {
    pub(crate) place: Place,
    /// A URL or data URL.
    pub(crate) url: String,
    pub(crate) detail: String,
}

/// A recording, and where it was given.
#[derive(Clone, Debug)]
pub(crate) struct AudioPart {
    pub(crate) place: Place,
    /// What is told about it: format and size, or its URL.
    pub(crate) what: String,
}

/// An input taken apart.
#[derive(Debug, Default)]
pub(crate) struct Sorted {
    pub(crate) turns: Vec<Turn>,
    pub(crate) texts: Vec<(Place, String)>,
    pub(crate) files: Vec<FilePart>,
    pub(crate) skills: Vec<FilePart>,
    pub(crate) images: Vec<ImagePart>,
    pub(crate) audio: Vec<AudioPart>,
    /// System prompts: their tool schemas are read, the rest is never remembered.
    pub(crate) systems: Vec<(Place, String)>,
    /// System prompts and recalled memories: what must not come back as a memory.
    pub(crate) hidden: Vec<String>,
}

/// Takes an input apart.
pub(crate) fn sort(input: &ReadInput, kind: ReaderKind, clock: &dyn Clock, log: &mut Log) -> Sorted {
    let mut sorted = Sorted::default();
    for (index, item) in input.items.iter().enumerate() {
        let place = Place::item(index);
        match item {
            RawItem::Text(text) => sorted.text(place, text, log),
            RawItem::Message(message) => sorted.message(place, message, kind, log),
            RawItem::Part(part) => match part.get("type").and_then(Value::as_str) {
                Some("text") => {
                    let text = part.get("text").and_then(Value::as_str).unwrap_or_default();
                    sorted.text(place, text, log);
                }
                _ => {
                    sorted.part(place, part, kind, log);
                }
            },
            RawItem::File(file) => {
                log.kept(place, Some(file_words(file)));
                sorted.files.push(FilePart { place, file: file.clone(), replaces: true });
            }
            RawItem::Skills(file) => {
                log.kept(place, Some(file_words(file)));
                sorted.skills.push(FilePart { place, file: file.clone(), replaces: false });
            }
            RawItem::Unreadable(reason) => log.set(place, Outcome::NotKept, reason.as_str()),
        }
    }
    if kind != ReaderKind::MultiModal {
        fill_times(&mut sorted.turns, clock);
    }
    sorted
}

impl Sorted {
    fn text(&mut self, place: Place, text: &str, log: &mut Log) {
        if text.trim().is_empty() {
            log.set(place, Outcome::NotKept, "it is empty");
        } else {
            log.kept(place, None);
            self.texts.push((place, text.to_owned()));
        }
    }

    /// Sorts a part that is no text and returns what stands for it in its message.
    fn part(&mut self, place: Place, part: &Map<String, Value>, kind: ReaderKind, log: &mut Log) -> Option<String> {
        let name = part.get("type").and_then(Value::as_str).unwrap_or("part without a type");
        if kind != ReaderKind::MultiModal {
            let reason = format!("`{}` reads text alone; configure `multimodal_struct` for `{name}` parts", kind.key());
            log.set(place, Outcome::NotKept, reason);
            return None;
        }
        match name {
            "file" | "input_file" => {
                let file = read_file(part);
                log.kept(place, Some(file_words(&file)));
                self.files.push(FilePart { place, file, replaces: false });
            }
            "image_url" | "image" | "input_image" => match read_image(part, place) {
                Some(image) => {
                    log.kept(place, Some("image".to_owned()));
                    self.images.push(image);
                }
                None => log.set(place, Outcome::NotKept, "the image has no `url`; give a URL or a data URL"),
            },
            "input_audio" | "audio" | "audio_url" => {
                log.kept(place, Some("audio".to_owned()));
                self.audio.push(AudioPart { place, what: audio_words(part) });
            }
            other => {
                let known = "text, file, image_url and input_audio";
                log.set(place, Outcome::NotKept, format!("parts of type `{other}` are not known; known are {known}"));
                return Some(format!("[{other}]"));
            }
        }
        None
    }
}

fn file_words(file: &RawFile) -> String {
    match file.name.as_deref().or(file.id.as_deref()) {
        Some(name) => format!("file {name}"),
        None => "file".to_owned(),
    }
}

/// Reads a file part; its fields stand under `file` or beside the type.
fn read_file(part: &Map<String, Value>) -> RawFile {
    let inner = part.get("file").and_then(Value::as_object).unwrap_or(part);
    let text = |names: &[&str]| names.iter().find_map(|name| inner.get(*name)?.as_str()).map(str::to_owned);
    let data = text(&["file_data", "file_url", "url", "data"]).filter(|data| !data.trim().is_empty());
    let path = text(&["path", "file_path"]);
    RawFile {
        id: text(&["file_id", "id"]).filter(|id| !id.trim().is_empty()).map(|id| label(&id)),
        name: text(&["filename", "file_name", "name"]).filter(|name| !name.trim().is_empty()).map(|name| label(&name)),
        url: None,
        data: match (data, path) {
            (Some(data), _) => FileData::Text(data),
            (None, Some(path)) => FileData::Path(path.into()),
            (None, None) => FileData::Absent,
        },
    }
}

fn read_image(part: &Map<String, Value>, place: Place) -> Option<ImagePart> {
    let inner = part.get("image_url").or_else(|| part.get("image")).unwrap_or(&Value::Null);
    let url = match inner {
        Value::String(url) => Some(url.as_str()),
        Value::Object(map) => map.get("url").and_then(Value::as_str),
        _ => part.get("url").and_then(Value::as_str),
    };
    let url = url.map(|url| url.trim().trim_start_matches('@')).filter(|url| !url.is_empty())?;
    let detail = inner.get("detail").or_else(|| part.get("detail")).and_then(Value::as_str).unwrap_or("auto");
    Some(ImagePart { place, url: url.to_owned(), detail: detail.to_owned() })
}

fn audio_words(part: &Map<String, Value>) -> String {
    let inner = ["input_audio", "audio", "audio_url"].iter().find_map(|name| part.get(*name)).unwrap_or(&Value::Null);
    let text = |name: &str| inner.get(name).and_then(Value::as_str);
    if let Some(url) = inner.as_str().or_else(|| text("url")) {
        return url.to_owned();
    }
    let format = text("format").unwrap_or("unknown format");
    match (text("id"), text("data")) {
        (Some(id), _) => id.to_owned(),
        (None, Some(data)) => format!("{format}, about {} bytes", data.len() / 4 * 3),
        (None, None) => format.to_owned(),
    }
}

/// Every message has a time: that of the first one that has one, else now.
fn fill_times(turns: &mut [Turn], clock: &dyn Clock) {
    let given = turns.iter().find_map(|turn| turn.time.clone());
    let time = given.unwrap_or_else(|| clock.now().strftime("%I:%M %p on %d %B, %Y").to_string());
    for turn in turns.iter_mut().filter(|turn| turn.time.is_none()) {
        turn.time = Some(time.clone());
        for source in &mut turn.sources {
            source.chat_time = Some(time.clone());
        }
    }
}
