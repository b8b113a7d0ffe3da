//! Skills that a model finds in a conversation.

use mos_core::ask::ask_json;
use mos_core::{MemoryItem, Message, answer};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{CONVERSATION, Skill};
use crate::fine::Asking;
use crate::fine::support::{self, Evidence};
use crate::item::Maker;
use crate::place::Log;
use crate::prompts::Prompt;
use crate::turn::Turn;
use crate::window::Window;

/// The fewest turns that can show a procedure.
const MIN_TURNS: usize = 2;

/// Finds skills.
pub(crate) struct SkillReader<'a> {
    pub(crate) maker: &'a Maker<'a>,
    pub(crate) asking: Asking<'a>,
}

impl SkillReader<'_> {
    /// Returns the skills that the windows of a conversation show, each once. A failure is told as a warning: what the
    /// conversation says is kept elsewhere.
    pub(crate) async fn read(&self, windows: &[Window], log: &mut Log) -> Vec<MemoryItem> {
        let mut items: Vec<MemoryItem> = Vec::new();
        for window in windows.iter().filter(|window| window.turns.len() >= MIN_TURNS) {
            let found = match self.ask(window).await {
                Ok(found) => found,
                Err(reason) => {
                    log.warn(format!("no skills could be looked for in a part of the conversation: {reason}"));
                    continue;
                }
            };
            for found in found {
                let turns: Vec<&Turn> =
                    found.turns.iter().filter_map(|n| window.turns.get(n.checked_sub(1)?)).collect();
                let turns: Vec<&Turn> = if turns.is_empty() { window.turns.iter().collect() } else { turns };
                let evidence = Evidence {
                    text: turns.iter().map(|turn| turn.text.as_str()).collect::<Vec<_>>().join("\n"),
                    ..Evidence::default()
                };
                // Numbers of steps are no claims about the world.
                let claim = without_step_numbers(&found.skill.procedure);
                if let Err(reason) = support::check(&claim, &evidence) {
                    log.dropped(found.skill.name, reason);
                    continue;
                }
                let sources = turns.iter().flat_map(|turn| turn.sources.clone()).collect();
                let item = found.skill.into_item(self.maker, CONVERSATION, sources);
                if !items.iter().any(|known| known.metadata.key == item.metadata.key) {
                    items.push(item);
                }
            }
        }
        items
    }

    async fn ask(&self, window: &Window) -> Result<Vec<Found>, String> {
        let language = window.language();
        let instructions = Prompt::Skill.instructions(language, self.asking.tags, self.asking.with_example);
        let question = vec![Message::system(instructions), Message::user(window.numbered())];
        let schema = Prompt::Skill.schema();
        let answer: Answer = ask_json(self.asking.model, question, Some(&schema), self.asking.attempts)
            .await
            .map_err(|error| error.to_string())?;
        Ok(answer.0)
    }
}

/// Returns a text without the numbers that its lines and steps begin with.
fn without_step_numbers(text: &str) -> String {
    let words = text.split_whitespace().filter(|word| {
        let number = word.trim_end_matches(['.', ')', ':', '、']);
        number.len() == word.len() || number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit())
    });
    words.collect::<Vec<_>>().join(" ")
}

#[derive(Debug)]
struct Found {
    skill: Skill,
    turns: Vec<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "Value")]
struct Answer(Vec<Found>);

impl TryFrom<Value> for Answer {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        answer::read_elements(value, &["skills"], "a `name` and a `procedure`", |map| read_element(&map)).map(Self)
    }
}

fn read_element(map: &Map<String, Value>) -> Option<Found> {
    let procedure = match map.get("procedure")? {
        Value::Array(steps) => steps.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n"),
        _ => answer::text(map, &["procedure"])?,
    };
    let skill = Skill {
        name: answer::text(map, &["name"])?,
        description: answer::text(map, &["description"]).unwrap_or_default(),
        procedure,
        experience: sentences(map, "experience"),
        preference: sentences(map, "preference"),
        examples: sentences(map, "examples"),
        tags: answer::texts(map, "tags"),
        ..Skill::default()
    };
    Some(Found { skill, turns: answer::numbers(map, "messages") })
}

/// The texts of a list; a text alone is its only one, whatever commas it has.
fn sentences(map: &Map<String, Value>, name: &str) -> Vec<String> {
    match map.get(name) {
        Some(Value::Array(_)) => answer::texts(map, name),
        _ => answer::text(map, &[name]).into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use mos_core::{MemoryType, ReadInput, Role};
    use mos_testkit::chat::ScriptedChat;
    use mos_testkit::clock::SetClock;
    use serde_json::json;

    use super::*;
    use crate::turn::samples::turn;

    #[tokio::test]
    async fn procedures_that_the_turns_show_are_kept() {
        let answer = json!({"skills": [
            {"name": "Release", "description": "Publish a version.", "procedure": "1. Run the tests. 2. Tag the commit.",
             "experience": ["Tests take long, so start early."], "messages": [2]},
            {"name": "Invented", "procedure": "Call Siemens.", "messages": [1]},
        ]});
        let model = ScriptedChat::new([answer.to_string()]);
        let turns = vec![
            turn(0, Role::User, "How do I release?"),
            turn(1, Role::Assistant, "First run the tests, then tag the commit; start early."),
        ];
        let (clock, input, mut log) = (SetClock::default(), ReadInput::default(), Log::default());
        let maker = Maker::new(&input, &clock);
        let asking = Asking { model: &model, attempts: 1, with_example: false, tags: &[], parallel: 1 };
        let reader = SkillReader { maker: &maker, asking };
        let items = reader.read(&[Window { turns }], &mut log).await;
        assert_eq!(items.len(), 1);
        let metadata = &items[0].metadata;
        assert_eq!((metadata.memory_type(), metadata.key.as_deref()), (Some(MemoryType::Skill), Some("Release")));
        assert_eq!(metadata.extra["experience"], json!(["Tests take long, so start early."]));
        assert_eq!(metadata.tree().unwrap().sources.as_ref().unwrap().len(), 1);
        assert_eq!(log.into_report().dropped.len(), 1);
    }

    #[test]
    fn step_numbers_are_no_claims() {
        assert_eq!(without_step_numbers("1. Take 3 eggs 2) stir"), "Take 3 eggs stir");
    }
}
