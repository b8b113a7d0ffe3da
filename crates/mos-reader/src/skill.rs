//! Skills: procedures that can be followed again, found in conversations or uploaded as archives.

mod archive;
mod extract;
mod write;

use mos_core::memory::{SourceKind, SourceMessage};
use mos_core::{MemoryItem, MemoryType};
use serde_json::{Map, Value, json};

use crate::item::{Draft, Maker};

pub use archive::{SkillError, SkillLimits, read_archive};
pub(crate) use extract::SkillReader;
pub use write::write_archive;

/// A procedure for a kind of task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Skill {
    /// A short name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The steps.
    pub procedure: String,
    /// What to watch for.
    pub experience: Vec<String>,
    /// How the user wants it done.
    pub preference: Vec<String>,
    /// Examples.
    pub examples: Vec<String>,
    /// Labels.
    pub tags: Vec<String>,
    /// Programs that belong to it: path and text.
    pub scripts: Vec<(String, String)>,
    /// Other texts that belong to it: path and text.
    pub others: Vec<(String, String)>,
    /// Paths of files that belong to it and are no text, which a memory does not hold.
    pub left_out: Vec<String>,
}

impl Skill {
    /// Returns the memory of the skill. `origin` is noted as `skill_source`.
    pub(crate) fn into_item(self, maker: &Maker<'_>, origin: &str, sources: Vec<SourceMessage>) -> MemoryItem {
        let text = format!("{}: {}\n{}", self.name, self.description, self.procedure);
        let files = |files: &[(String, String)]| -> Value {
            Value::Object(files.iter().map(|(path, text)| (path.clone(), json!(text))).collect::<Map<_, _>>())
        };
        let fields = [
            ("name", json!(self.name)),
            ("description", json!(self.description)),
            ("procedure", json!(self.procedure)),
            ("experience", json!(self.experience)),
            ("preference", json!(self.preference)),
            ("examples", json!(self.examples)),
            ("scripts", files(&self.scripts)),
            ("others", files(&self.others)),
            ("skill_source", json!(origin)),
        ];
        let extra: Map<String, Value> = fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let identity = [text.clone(), Value::Object(extra.clone()).to_string()];
        let id = maker.identity.memory("skill", identity.iter().map(String::as_str));
        let draft = Draft {
            text,
            memory_type: Some(MemoryType::Skill),
            key: Some(self.name),
            kind: Some("skill".to_owned()),
            tags: self.tags,
            sources,
            source: Some(if origin == UPLOADED { SourceKind::File } else { SourceKind::Conversation }),
            extra,
            ..Draft::default()
        };
        maker.item(id, draft)
    }
}

/// Where skills of archives come from.
pub(crate) const UPLOADED: &str = "upload";

/// Where skills of conversations come from.
pub(crate) const CONVERSATION: &str = "conversation";
