//! How tools were used for a request, and what is learned from it.

use std::collections::{HashMap, HashSet};

use mos_core::ask::ask_json;
use mos_core::language::Language;
use mos_core::memory::SourceKind;
use mos_core::{MemoryItem, MemoryType, Message, Outcome, Role, answer};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::fine::Asking;
use crate::fine::support::{self, Evidence};
use crate::item::{Draft, Maker};
use crate::place::Log;
use crate::prompts::Prompt;
use crate::turn::{Turn, language_of};

/// The most characters of one call, result or message in a trajectory.
const MAX_STEP_CHARS: usize = 2_000;

/// The most steps of a trajectory.
const MAX_STEPS: usize = 60;

/// Notes results of calls that nobody made. They are kept as turns all the same.
pub(crate) fn check_calls(turns: &[Turn], log: &mut Log) {
    let mut made: HashSet<&str> = HashSet::new();
    for turn in turns {
        made.extend(turn.calls.iter().map(|call| call.id.as_str()));
        if turn.role != Role::Tool {
            continue;
        }
        match turn.answers.as_deref() {
            Some(id) if made.contains(id) => {}
            Some(id) => {
                log.set(turn.place, Outcome::Kept, format!("the result answers the call `{id}`, which is not there"));
            }
            None => {
                log.set(turn.place, Outcome::Kept, "the result does not say which call it answers (`tool_call_id`)")
            }
        }
    }
}

/// Reads the use of tools.
pub(crate) struct TrajectoryReader<'a> {
    pub(crate) maker: &'a Maker<'a>,
    pub(crate) asking: Asking<'a>,
}

impl TrajectoryReader<'_> {
    /// Returns one memory per request for which tools were called, with what a model learned from it. When the model fails,
    /// the memory tells how the tools were used and nothing else.
    pub(crate) async fn read(&self, turns: &[Turn], log: &mut Log) -> Vec<MemoryItem> {
        let mut items = Vec::new();
        for trajectory in trajectories(turns) {
            let text = text(&trajectory);
            let lesson = match self.lesson(&text, language_of(trajectory.iter().copied())).await {
                Ok(lesson) => supported(lesson, &text, log),
                Err(reason) => {
                    let place = trajectory.first().map(|turn| turn.place);
                    if let Some(place) = place {
                        log.set(place, Outcome::Raw, format!("no experience could be drawn from its tools: {reason}"));
                    }
                    Lesson::unknown()
                }
            };
            items.push(self.item(&trajectory, text, lesson));
        }
        items
    }

    async fn lesson(&self, text: &str, language: Language) -> Result<Lesson, String> {
        let instructions = Prompt::Trajectory.instructions(language, self.asking.tags, self.asking.with_example);
        let question = vec![Message::system(instructions), Message::user(text)];
        let schema = Prompt::Trajectory.schema();
        let asked = ask_json(self.asking.model, question, Some(&schema), self.asking.attempts).await;
        asked.map_err(|error| error.to_string())
    }

    fn item(&self, trajectory: &[&Turn], text: String, lesson: Lesson) -> MemoryItem {
        let names = tool_names(trajectory);
        let mut extra = Map::new();
        extra.insert("correctness".to_owned(), json!(lesson.correctness));
        extra.insert("experience".to_owned(), json!(lesson.experience.unwrap_or_default()));
        extra.insert("tool_used_status".to_owned(), Value::Array(lesson.tools));
        let id = self.maker.identity.memory("trajectory", trajectory.iter().flat_map(|turn| turn.identity()));
        let mut tags = vec!["mode:fine".to_owned(), "tool_trajectory".to_owned()];
        tags.extend(names.iter().map(|name| (*name).to_owned()));
        let request = trajectory.iter().find(|turn| turn.role == Role::User).map(|turn| turn.text.as_str());
        let draft = Draft {
            key: Some(crate::item::derived_key(request.unwrap_or(&names.join(", ")))),
            memory_type: Some(MemoryType::ToolTrajectory),
            kind: Some("procedure".to_owned()),
            tags,
            sources: trajectory.iter().flat_map(|turn| turn.sources.clone()).collect(),
            source: Some(SourceKind::Conversation),
            extra,
            text,
            ..Draft::default()
        };
        self.maker.item(id, draft)
    }
}

/// Returns the uses of tools: from what the user asked to what the assistant said at the end.
fn trajectories(turns: &[Turn]) -> Vec<Vec<&Turn>> {
    let mut all = Vec::new();
    let mut current: Vec<&Turn> = Vec::new();
    let mut is_answered = false;
    for turn in turns {
        if turn.role == Role::User && is_answered {
            all.push(std::mem::take(&mut current));
            is_answered = false;
        }
        is_answered |= turn.role != Role::User;
        current.push(turn);
    }
    all.push(current);
    all.retain(|trajectory| trajectory.iter().any(|turn| !turn.calls.is_empty()));
    all
}

/// The names of the tools, each once, in the order of their first calls.
fn tool_names<'a>(trajectory: &[&'a Turn]) -> Vec<&'a str> {
    let mut seen = HashSet::new();
    let calls = trajectory.iter().flat_map(|turn| turn.calls.iter());
    calls.map(|call| call.name.as_str()).filter(|name| seen.insert(*name)).collect()
}

/// Returns a trajectory as text, one step a line.
fn text(trajectory: &[&Turn]) -> String {
    let calls = trajectory.iter().flat_map(|turn| turn.calls.iter());
    let names: HashMap<&str, &str> = calls.map(|call| (call.id.as_str(), call.name.as_str())).collect();
    let answered: HashSet<&str> = trajectory.iter().filter_map(|turn| turn.answers.as_deref()).collect();
    let mut steps = Vec::new();
    for turn in trajectory {
        if turn.calls.is_empty() {
            let who = match (turn.role, &turn.answers) {
                (Role::Tool, Some(id)) => format!("{} returned", names.get(id.as_str()).unwrap_or(&"a tool")),
                (role, _) => role.as_str().to_owned(),
            };
            steps.push(format!("{who}: {}", shortened(&turn.text)));
            continue;
        }
        // The calls stand behind what was said with them, which MemOS quotes in one text.
        let said =
            turn.sources.iter().find(|source| source.kind == "chat").and_then(|source| source.content.as_deref());
        if let Some(said) = said {
            steps.push(format!("{}: {}", turn.role.as_str(), shortened(said)));
        }
        for call in &turn.calls {
            let open = if answered.contains(call.id.as_str()) { "" } else { " (no result)" };
            steps.push(format!("assistant calls {}({}){open}", call.name, shortened(&call.arguments)));
        }
    }
    if steps.len() > MAX_STEPS {
        let n_left_out = steps.len() - MAX_STEPS;
        let end = steps.split_off(steps.len() - MAX_STEPS / 2);
        steps.truncate(MAX_STEPS / 2);
        steps.push(format!("({n_left_out} steps left out)"));
        steps.extend(end);
    }
    steps.join("\n")
}

fn shortened(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(MAX_STEP_CHARS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{} …", &text[..end]),
    }
}

/// Leaves out of a lesson what the trajectory does not show.
fn supported(mut lesson: Lesson, text: &str, log: &mut Log) -> Lesson {
    let evidence = Evidence { text: text.to_owned(), ..Evidence::default() };
    if let Some(experience) = lesson.experience.take() {
        match support::check(&experience, &evidence) {
            Ok(()) => lesson.experience = Some(experience),
            Err(reason) => log.dropped(experience, reason),
        }
    }
    lesson
}

/// What a model learned.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Value")]
struct Lesson {
    correctness: String,
    experience: Option<String>,
    tools: Vec<Value>,
}

impl Lesson {
    fn unknown() -> Self {
        Self { correctness: "unknown".to_owned(), experience: None, tools: Vec::new() }
    }
}

impl TryFrom<Value> for Lesson {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let map = match value {
            Value::Object(map) => map,
            Value::Array(mut values) if !values.is_empty() => match values.swap_remove(0) {
                Value::Object(map) => map,
                _ => return Err("it must be an object".to_owned()),
            },
            _ => return Err("it must be an object".to_owned()),
        };
        let correctness = answer::text(&map, &["correctness"]).ok_or("it has no `correctness`")?;
        if !["success", "failed", "unknown"].contains(&correctness.as_str()) {
            return Err("`correctness` must be success, failed or unknown".to_owned());
        }
        let tools = match map.get("tool_used_status") {
            Some(Value::Array(tools)) => tools.iter().filter(|tool| tool.is_object()).cloned().collect(),
            _ => Vec::new(),
        };
        Ok(Self { correctness, experience: answer::text(&map, &["experience"]), tools })
    }
}

#[cfg(test)]
mod tests {
    use mos_core::ReadInput;
    use mos_testkit::chat::ScriptedChat;
    use mos_testkit::clock::SetClock;

    use super::*;
    use crate::turn::ToolCall;
    use crate::turn::samples::turn;

    fn turns() -> Vec<Turn> {
        let mut call = turn(1, Role::Assistant, "[tool_calls]: []");
        call.sources.clear();
        let read =
            ToolCall { id: "c1".to_owned(), name: "file_reader".to_owned(), arguments: "{\"id\": 7}".to_owned() };
        call.calls = vec![read, ToolCall { id: "c2".to_owned(), name: "clock".to_owned(), arguments: String::new() }];
        let mut result = turn(2, Role::Tool, "{\"text\": \"poor contact\"}");
        result.answers = Some("c1".to_owned());
        let mut orphan = turn(5, Role::Tool, "{}");
        orphan.answers = Some("c9".to_owned());
        vec![
            turn(0, Role::User, "Read file 7."),
            call,
            result,
            turn(3, Role::Assistant, "The file says: poor contact."),
            turn(4, Role::User, "Thanks!"),
            orphan,
        ]
    }

    async fn read(model: &ScriptedChat) -> (Vec<MemoryItem>, mos_core::ReadReport) {
        let (clock, input, mut log) = (SetClock::default(), ReadInput::default(), Log::default());
        let maker = Maker::new(&input, &clock);
        let asking = Asking { model, attempts: 1, with_example: false, tags: &[], parallel: 1 };
        let items = TrajectoryReader { maker: &maker, asking }.read(&turns(), &mut log).await;
        (items, log.into_report())
    }

    #[tokio::test]
    async fn calls_and_results_become_one_trajectory_with_experience() {
        let lesson = json!({"correctness": "success", "experience": "file_reader gives the text of a file.",
            "tool_used_status": [{"used_tool": "file_reader", "success_rate": 1.0}]});
        let (items, _) = read(&ScriptedChat::new([lesson.to_string()])).await;
        assert_eq!(items.len(), 1);
        assert_eq!(
            items[0].memory,
            "user: Read file 7.\nassistant calls file_reader({\"id\": 7})\nassistant calls clock() (no result)\n\
             file_reader returned: {\"text\": \"poor contact\"}\nassistant: The file says: poor contact."
        );
        let metadata = &items[0].metadata;
        assert_eq!(metadata.memory_type(), Some(MemoryType::ToolTrajectory));
        assert_eq!(metadata.extra["correctness"], "success");
        assert_eq!(metadata.extra["experience"], "file_reader gives the text of a file.");
        assert_eq!(metadata.extra["tool_used_status"][0]["used_tool"], "file_reader");
        assert_eq!(metadata.key.as_deref(), Some("Read file 7."));
    }

    #[tokio::test]
    async fn without_an_answer_the_trajectory_stays_and_the_failure_is_told() {
        let (items, report) = read(&ScriptedChat::new(["prose"])).await;
        assert_eq!((items.len(), items[0].metadata.extra["correctness"].as_str()), (1, Some("unknown")));
        assert!(report.items[0].reason.as_deref().unwrap().contains("no experience"));
        let invented = json!({"correctness": "failed", "experience": "Ask Siemens for help."});
        let (items, report) = read(&ScriptedChat::new([invented.to_string()])).await;
        assert_eq!(items[0].metadata.extra["experience"], "");
        assert_eq!(report.dropped.len(), 1);
    }

    #[test]
    fn a_result_without_its_call_is_told() {
        let mut log = Log::default();
        check_calls(&turns(), &mut log);
        let report = log.into_report();
        assert_eq!(report.items.len(), 1);
        assert!(report.items[0].reason.as_deref().unwrap().contains("`c9`"));
    }
}
