//! Names that follow from content: the same input has the same ids.

use blake3::Hasher;
use mos_core::{FileData, MemoryId, RawFile, RawItem, ReadInput, ReadMode};
use serde_json::json;
use uuid::Builder;

/// Separates what must not run together, and what is made of it from other uses of the hash.
const CONTEXT: &str = "mos reader 1";

/// Makes ids for one user, session and cube.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    base: Hasher,
}

impl Identity {
    pub(crate) fn of(input: &ReadInput) -> Self {
        let mut base = Hasher::new_derive_key(CONTEXT);
        put(&mut base, input.user.as_ref().map_or("", |id| id.as_str()));
        put(&mut base, input.session.as_ref().map_or("", |id| id.as_str()));
        put(&mut base, input.cube.as_ref().map_or("", |id| id.as_str()));
        Self { base }
    }

    /// Returns the id of the memory of this kind that is made of these texts.
    pub(crate) fn memory<'a>(&self, kind: &str, texts: impl IntoIterator<Item = &'a str>) -> MemoryId {
        let mut hasher = self.base.clone();
        put(&mut hasher, kind);
        for text in texts {
            put(&mut hasher, text);
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        MemoryId::new(Builder::from_custom_bytes(bytes).into_uuid().to_string())
    }
}

/// Texts of any content cannot be mistaken for others that are cut elsewhere.
fn put(hasher: &mut Hasher, text: &str) {
    put_bytes(hasher, text.as_bytes());
}

fn put_bytes(hasher: &mut Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

/// Returns a short name for the content of a file.
pub(crate) fn content_name(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].to_owned()
}

/// Returns a key that follows from everything that reading depends on, except what a model answers. `contents` names the
/// content of the files that the input speaks of, as far as they could be read.
pub(crate) fn request_key(backend: &str, input: &ReadInput, mode: ReadMode, contents: &[String]) -> String {
    let mut hasher = Identity::of(input).base;
    put(&mut hasher, backend);
    put(&mut hasher, mode.as_str());
    put(&mut hasher, &json!([input.info, input.custom_tags]).to_string());
    for item in &input.items {
        match item {
            RawItem::Text(text) => put(&mut hasher, &format!("text {text}")),
            // Messages are plain data, which JSON can always hold.
            RawItem::Message(message) => put(&mut hasher, &format!("message {}", json!(message))),
            RawItem::Part(part) => put(&mut hasher, &format!("part {}", json!(part))),
            RawItem::Unreadable(reason) => put(&mut hasher, &format!("unreadable {reason}")),
            RawItem::File(file) => put_file(&mut hasher, "file", file),
            RawItem::Skills(file) => put_file(&mut hasher, "skills", file),
        }
    }
    for content in contents {
        put(&mut hasher, content);
    }
    format!("read-{}", hasher.finalize().to_hex())
}

fn put_file(hasher: &mut Hasher, kind: &str, file: &RawFile) {
    put(hasher, &format!("{kind} {}", json!([file.id, file.name])));
    match &file.data {
        FileData::Bytes(bytes) => put_bytes(hasher, bytes),
        FileData::Text(text) => put(hasher, text),
        FileData::Path(path) => put(hasher, &path.to_string_lossy()),
        FileData::Absent => put(hasher, ""),
    }
}

#[cfg(test)]
mod tests {
    use mos_core::Message;

    use super::*;

    #[test]
    fn ids_follow_from_content_and_owner() {
        let input = ReadInput::text("x");
        let one = Identity::of(&input);
        let id = one.memory("window", ["ab", "c"]);
        assert_eq!(id, Identity::of(&input).memory("window", ["ab", "c"]));
        assert_ne!(id, one.memory("window", ["a", "bc"]));
        assert_ne!(id, one.memory("chunk", ["ab", "c"]));
        let other = ReadInput { user: Some("ann".into()), ..ReadInput::text("x") };
        assert_ne!(id, Identity::of(&other).memory("window", ["ab", "c"]));
        let uuid = uuid::Uuid::parse_str(id.as_str()).unwrap();
        assert_eq!(uuid.get_version_num(), 8);
    }

    #[test]
    fn keys_tell_inputs_and_modes_apart() {
        let key = |input: &ReadInput, mode| request_key("simple_struct", input, mode, &[]);
        let input = ReadInput::messages(vec![Message::user("hi")]);
        assert_eq!(key(&input, ReadMode::Fast), key(&input.clone(), ReadMode::Fast));
        assert_ne!(key(&input, ReadMode::Fast), key(&input, ReadMode::Fine));
        assert_ne!(key(&input, ReadMode::Fast), key(&ReadInput::text("hi"), ReadMode::Fast));
        let contents = ["a".to_owned()];
        let changed = request_key("simple_struct", &input, ReadMode::Fast, &contents);
        assert_ne!(key(&input, ReadMode::Fast), changed, "a file that has changed is another input");
    }
}
