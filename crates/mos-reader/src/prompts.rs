//! What models are asked, in English and Chinese, and the form in which they answer.

use mos_core::language::Language;
use serde_json::{Value, json};

/// A question to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prompt {
    /// Memories of a window of a conversation.
    Conversation,
    /// What a chunk of a document says.
    Document,
    /// What an image shows.
    Image,
    /// What is learned from the use of tools.
    Trajectory,
    /// Procedures that are worth keeping.
    Skill,
    /// Which memories their sources support.
    Check,
}

impl Prompt {
    fn text(self, language: Language) -> &'static str {
        match (self, language) {
            (Self::Conversation, Language::English) => include_str!("prompts/conversation_english.txt"),
            (Self::Conversation, Language::Chinese) => include_str!("prompts/conversation_chinese.txt"),
            (Self::Document, Language::English) => include_str!("prompts/document_english.txt"),
            (Self::Document, Language::Chinese) => include_str!("prompts/document_chinese.txt"),
            (Self::Image, Language::English) => include_str!("prompts/image_english.txt"),
            (Self::Image, Language::Chinese) => include_str!("prompts/image_chinese.txt"),
            (Self::Trajectory, Language::English) => include_str!("prompts/trajectory_english.txt"),
            (Self::Trajectory, Language::Chinese) => include_str!("prompts/trajectory_chinese.txt"),
            (Self::Skill, Language::English) => include_str!("prompts/skill_english.txt"),
            (Self::Skill, Language::Chinese) => include_str!("prompts/skill_chinese.txt"),
            (Self::Check, Language::English) => include_str!("prompts/check_english.txt"),
            (Self::Check, Language::Chinese) => include_str!("prompts/check_chinese.txt"),
        }
    }

    fn example(self, language: Language) -> Option<&'static str> {
        match (self, language) {
            (Self::Conversation, Language::English) => Some(include_str!("prompts/conversation_english_example.txt")),
            (Self::Conversation, Language::Chinese) => Some(include_str!("prompts/conversation_chinese_example.txt")),
            _ => None,
        }
    }

    /// Returns the instructions: rules, preferred labels, an example when there is one and it is wanted, and last the form of
    /// the answer.
    pub(crate) fn instructions(self, language: Language, tags: &[String], with_example: bool) -> String {
        let text = self.text(language).trim_end();
        let (rules, form) = text.rsplit_once("\n\n").unwrap_or(("", text));
        let mut parts = vec![rules.to_owned()];
        if !tags.is_empty() {
            let list = tags.join(", ");
            parts.push(match language {
                Language::English => format!("Prefer these tags where they fit: {list}."),
                Language::Chinese => format!("合适时优先使用这些标签：{list}。"),
            });
        }
        if with_example && let Some(example) = self.example(language) {
            parts.push(example.trim_end().to_owned());
        }
        parts.push(form.to_owned());
        parts.join("\n\n")
    }

    /// Returns the JSON schema of the answer.
    pub(crate) fn schema(self) -> Value {
        let (text, texts) = (json!({"type": "string"}), json!({"type": "array", "items": {"type": "string"}}));
        let numbers = json!({"type": "array", "items": {"type": "integer"}});
        match self {
            Self::Conversation => object(&[
                (
                    "memory list",
                    list(object(&[
                        ("key", text.clone()),
                        ("memory_type", json!({"type": "string", "enum": ["UserMemory", "LongTermMemory"]})),
                        ("type", json!({"type": "string", "enum": ["fact", "event", "opinion", "plan", "relation"]})),
                        ("value", text.clone()),
                        ("tags", texts),
                        ("background", text.clone()),
                        ("messages", numbers),
                    ])),
                ),
                ("summary", text),
            ]),
            Self::Document => object(&[("key", text.clone()), ("value", text), ("tags", texts)]),
            Self::Image => {
                object(&[("key", text.clone()), ("description", text.clone()), ("text", text), ("tags", texts)])
            }
            Self::Trajectory => object(&[
                ("correctness", json!({"type": "string", "enum": ["success", "failed", "unknown"]})),
                ("experience", text.clone()),
                (
                    "tool_used_status",
                    list(object(&[
                        ("used_tool", text.clone()),
                        ("success_rate", json!({"type": "number"})),
                        ("error_type", text.clone()),
                        ("tool_experience", text),
                    ])),
                ),
            ]),
            Self::Skill => object(&[(
                "skills",
                list(object(&[
                    ("name", text.clone()),
                    ("description", text.clone()),
                    ("procedure", text.clone()),
                    ("experience", texts.clone()),
                    ("preference", texts.clone()),
                    ("examples", texts.clone()),
                    ("tags", texts),
                    ("messages", numbers),
                ])),
            )]),
            Self::Check => object(&[(
                "results",
                list(object(&[
                    ("number", json!({"type": "integer"})),
                    ("keep", json!({"type": "boolean"})),
                    ("corrected", text),
                ])),
            )]),
        }
    }
}

/// Every field is required and none besides is allowed, which is what servers with strict schemas ask for.
fn object(fields: &[(&str, Value)]) -> Value {
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    let properties: serde_json::Map<String, Value> =
        fields.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    json!({"type": "object", "properties": properties, "required": names, "additionalProperties": false})
}

fn list(element: Value) -> Value {
    json!({"type": "array", "items": element})
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Prompt; 6] =
        [Prompt::Conversation, Prompt::Document, Prompt::Image, Prompt::Trajectory, Prompt::Skill, Prompt::Check];

    #[test]
    fn the_form_that_a_prompt_shows_has_the_fields_of_its_schema() {
        for prompt in ALL {
            for language in [Language::English, Language::Chinese] {
                let text = prompt.instructions(language, &[], true);
                let form: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
                let mut wanted = prompt.schema()["required"].clone();
                let mut shown: Vec<&String> = form.as_object().unwrap().keys().collect();
                shown.sort();
                wanted.as_array_mut().unwrap().sort_by_key(Value::to_string);
                assert_eq!(json!(shown), wanted, "{prompt:?} {language:?}");
            }
        }
    }

    #[test]
    fn tags_and_examples_stand_before_the_form() {
        let tags = ["work".to_owned(), "家庭".to_owned()];
        let text = Prompt::Conversation.instructions(Language::English, &tags, true);
        let (tags_at, form_at) = (text.find("work, 家庭").unwrap(), text.rfind("\"memory list\"").unwrap());
        assert!(tags_at < form_at && text.contains("Example"));
        assert!(!Prompt::Conversation.instructions(Language::English, &[], false).contains("Example"));
        assert!(Prompt::Conversation.instructions(Language::Chinese, &[], true).contains("示例"));
    }
}
