//! Reading conversations in the format of the `LoCoMo` benchmark.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, ensure};
use jiff::civil::DateTime;
use serde_json::{Map, Value};

/// A conversation over several sessions, and questions about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    /// The conversation's name in the file.
    pub id: String,
    /// Every session, in order.
    pub sessions: Vec<Session>,
    /// Every question, in order.
    pub questions: Vec<Question>,
}

/// What was said on one occasion.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// `session_3`, for example.
    pub name: String,
    /// When it began, ISO 8601 without a zone.
    pub began_at: String,
    /// What was said, in order.
    pub turns: Vec<Turn>,
}

/// What one person said at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// `D3:12`: the twelfth turn of the third session.
    pub id: String,
    /// Who said it.
    pub speaker: String,
    /// The words.
    pub text: String,
    /// A description of the picture that was shown with it.
    pub picture: Option<String>,
}

/// A question, and the turns that answer it.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The words.
    pub text: String,
    /// 1 several hops, 2 time, 3 open domain, 4 one hop, 5 not answerable.
    pub category: u8,
    /// Ids of turns that exist, each once, in the order of the file; what the file names otherwise is left out.
    pub evidence: Vec<String>,
}

impl Conversation {
    /// Returns the number of turns.
    pub fn n_turns(&self) -> usize {
        self.sessions.iter().map(|session| session.turns.len()).sum()
    }

    /// Returns everything that was said, in order.
    pub fn turns(&self) -> impl Iterator<Item = &Turn> {
        self.sessions.iter().flat_map(|session| &session.turns)
    }

    /// Returns the names of those who speak, each once, in the order in which they first did.
    pub fn speakers(&self) -> Vec<&str> {
        let mut speakers: Vec<&str> = Vec::new();
        for turn in self.turns() {
            if !speakers.contains(&turn.speaker.as_str()) {
                speakers.push(&turn.speaker);
            }
        }
        speakers
    }
}

/// Reads a file: a JSON list of conversations.
///
/// # Errors
/// When the file cannot be read or is not of the format; the message says where.
pub fn read(path: &Path) -> anyhow::Result<Vec<Conversation>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let value = serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
    parse(value).with_context(|| format!("{} is not a file of LoCoMo conversations", path.display()))
}

/// Reads conversations from JSON.
///
/// # Errors
/// When it is not of the format; the message says where.
pub fn parse(value: Value) -> anyhow::Result<Vec<Conversation>> {
    let Value::Array(samples) = value else { anyhow::bail!("it is not a list of conversations") };
    ensure!(!samples.is_empty(), "it holds no conversation");
    let parsed = samples.iter().enumerate();
    parsed.map(|(index, sample)| conversation(index, sample).with_context(|| format!("conversation {index}"))).collect()
}

fn conversation(index: usize, sample: &Value) -> anyhow::Result<Conversation> {
    let id = sample["sample_id"].as_str().map_or_else(|| format!("conversation {index}"), str::to_owned);
    let told = sample["conversation"].as_object().context("`conversation` is missing")?;
    let mut numbers: Vec<u32> = told.keys().filter_map(|key| key.strip_prefix("session_")?.parse().ok()).collect();
    numbers.sort_unstable();
    let sessions: Vec<Session> = numbers.into_iter().map(|number| session(told, number)).collect::<Result<_, _>>()?;
    let known: HashSet<&str> =
        sessions.iter().flat_map(|session| session.turns.iter().map(|turn| turn.id.as_str())).collect();
    ensure!(!known.is_empty(), "nothing was said");
    let asked = sample["qa"].as_array().context("`qa` is missing")?;
    let questions =
        asked.iter().enumerate().map(|(index, one)| question(one, &known).with_context(|| format!("question {index}")));
    let questions = questions.collect::<Result<_, _>>()?;
    Ok(Conversation { id, sessions, questions })
}

fn session(told: &Map<String, Value>, number: u32) -> anyhow::Result<Session> {
    let name = format!("session_{number}");
    let field = format!("{name}_date_time");
    let began_at = told.get(&field).and_then(Value::as_str).with_context(|| format!("`{field}` is missing"))?;
    let began_at = moment(began_at).with_context(|| format!("`{field}`"))?;
    let turns = told[&name].as_array().with_context(|| format!("`{name}` is not a list"))?;
    let turns = turns.iter().enumerate().map(|(index, one)| turn(one).with_context(|| format!("{name}, turn {index}")));
    Ok(Session { began_at, turns: turns.collect::<Result<_, _>>()?, name })
}

/// `1:56 pm on 8 May, 2023` as ISO 8601.
fn moment(text: &str) -> anyhow::Result<String> {
    let moment = DateTime::strptime("%I:%M %p on %d %B, %Y", text)
        .with_context(|| format!("`{text}` is no time like `1:56 pm on 8 May, 2023`"))?;
    Ok(moment.to_string())
}

fn turn(value: &Value) -> anyhow::Result<Turn> {
    let text = |field: &str| value[field].as_str().map(str::to_owned);
    let id = text("dia_id").context("`dia_id` is missing")?;
    let id = ids(&id).pop().with_context(|| format!("`{id}` is no id like `D1:3`"))?;
    let speaker = text("speaker").context("`speaker` is missing")?;
    Ok(Turn { id, speaker, text: text("text").context("`text` is missing")?, picture: text("blip_caption") })
}

fn question(value: &Value, known: &HashSet<&str>) -> anyhow::Result<Question> {
    let text = value["question"].as_str().context("`question` is missing")?.to_owned();
    let category = value["category"].as_u64().and_then(|number| u8::try_from(number).ok());
    let category = category.filter(|number| (1..=5).contains(number)).context("`category` is not 1 to 5")?;
    let named = value["evidence"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut evidence = Vec::new();
    for id in named.flat_map(ids) {
        if known.contains(id.as_str()) && !evidence.contains(&id) {
            evidence.push(id);
        }
    }
    Ok(Question { text, category, evidence })
}

/// The ids in a text, in their usual form: `D8:06; D:9:17` names `D8:6` and `D9:17`.
fn ids(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices('D') {
        let rest = &text[at + 1..];
        let rest = rest.strip_prefix(':').unwrap_or(rest);
        let Some((session, rest)) = number(rest) else { continue };
        let Some((turn, _)) = rest.strip_prefix(':').and_then(number) else { continue };
        found.push(format!("D{session}:{turn}"));
    }
    found
}

/// The number that a text begins with, and what follows.
fn number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use serde_json::json;

    use super::*;

    #[test]
    fn ids_are_read_however_they_are_written() {
        assert_eq!(ids("D8:6; D9:17"), ["D8:6", "D9:17"]);
        assert_eq!(ids("D:11:26"), ["D11:26"]);
        assert_eq!(ids("D30:05"), ["D30:5"]);
        assert_eq!(ids("D1:3 D1:3"), ["D1:3", "D1:3"]);
        assert!(ids("D").is_empty() && ids("D1").is_empty() && ids("D99999999999:1").is_empty() && ids("").is_empty());
    }

    #[test]
    fn sessions_come_in_the_order_of_their_numbers_with_times() {
        let said = |id: &str| json!([{"speaker": "Ann", "dia_id": id, "text": "hello", "blip_caption": "a dog"}]);
        let sample = json!([{"sample_id": "s", "conversation": {
            "speaker_a": "Ann",
            "session_10": said("D10:1"), "session_10_date_time": "12:05 am on 1 January, 2024",
            "session_2": said("D2:01"), "session_2_date_time": "1:56 pm on 8 May, 2023",
        }, "qa": [{"question": "who?", "category": 1, "evidence": ["D2:1; D10:1", "D2:1", "D3:1"]}]}]);
        let conversations = parse(sample).unwrap();
        let [conversation] = conversations.as_slice() else { panic!("{conversations:?}") };
        let times: Vec<&str> = conversation.sessions.iter().map(|session| session.began_at.as_str()).collect();
        assert_eq!(times, ["2023-05-08T13:56:00", "2024-01-01T00:05:00"]);
        assert_eq!((conversation.n_turns(), conversation.sessions[0].turns[0].id.as_str()), (2, "D2:1"));
        assert_eq!(conversation.questions[0].evidence, ["D2:1", "D10:1"]);
    }

    #[test]
    fn what_is_not_of_the_format_is_told_with_its_place() {
        let error = |value| format!("{:#}", parse(value).unwrap_err());
        assert!(error(json!({})).contains("not a list"));
        assert!(error(json!([])).contains("no conversation"));
        assert!(error(json!([{"qa": []}])).contains("conversation 0: `conversation` is missing"));
        let sample = json!([{"conversation": {"session_1": [], "session_1_date_time": "yesterday"}, "qa": []}]);
        assert!(error(sample).contains("`yesterday` is no time like"));
    }
}
