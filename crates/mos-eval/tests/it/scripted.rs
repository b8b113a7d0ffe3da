//! What the scripted model answers: notes on conversations that follow from the turns that it is shown.

use jiff::civil::Date;
use mos_testkit::model_server::{Reply, schema_of};
use serde_json::{Value, json};

/// The fewest words of a turn that is worth noting.
const MIN_WORDS: usize = 4;

/// A turn as the model is shown it.
#[derive(Debug)]
struct Shown {
    number: usize,
    name: String,
    day: Date,
    text: String,
}

/// Whether the question asks for the memories of a conversation.
pub(crate) fn asks_for_memories(body: &Value) -> bool {
    schema_of(body).is_some_and(|schema| schema["properties"]["memory list"].is_object())
}

/// What the model is asked: the first message of the user. Those after it say what was wrong with an answer.
pub(crate) fn question(body: &Value) -> String {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let asked = messages.iter().find(|message| message["role"] == "user").unwrap();
    match &asked["content"] {
        Value::String(text) => text.clone(),
        parts => parts.as_array().unwrap().iter().filter_map(|part| part["text"].as_str()).collect(),
    }
}

/// One memory for each turn that says something, with the turn's number. Questions and greetings are passed over, as a careful
/// model does.
pub(crate) fn notes(body: &Value) -> Reply {
    let turns = shown(&question(body));
    let worth = turns.iter().filter(|turn| is_worth_noting(turn));
    answer(&worth.map(|turn| memory(&note(turn), &[turn.number])).collect::<Vec<_>>())
}

/// The answer with these memories.
pub(crate) fn answer(memories: &[Value]) -> Reply {
    Reply::text(json!({"memory list": memories, "summary": "A talk between friends."}).to_string())
}

/// A memory that names these messages.
pub(crate) fn memory(text: &str, messages: &[usize]) -> Value {
    let key: Vec<&str> = text.split_whitespace().take(5).collect();
    json!({"key": key.join(" "), "memory_type": "LongTermMemory", "type": "event", "value": text, "tags": ["talk"],
           "background": "Friends talk.", "messages": messages})
}

fn is_worth_noting(turn: &Shown) -> bool {
    turn.text.split_whitespace().count() >= MIN_WORDS && !turn.text.trim_end().ends_with('?')
}

/// Who said what, in the third person, and with the days that "yesterday" and its like mean.
fn note(turn: &Shown) -> String {
    let Shown { name, day, text, .. } = turn;
    let words = text.split(' ').map(|word| {
        let core = word.trim_matches(|letter: char| !letter.is_alphanumeric() && letter != '\'');
        let other = match core {
            "I" | "me" => name.clone(),
            "I'm" => format!("{name} is"),
            "I've" => format!("{name} has"),
            "I'll" => format!("{name} will"),
            "I'd" => format!("{name} would"),
            "my" | "My" | "mine" => format!("{name}'s"),
            "today" | "Today" => format!("on {day}"),
            "yesterday" | "Yesterday" => format!("on {}", day.yesterday().unwrap()),
            "tomorrow" | "Tomorrow" => format!("on {}", day.tomorrow().unwrap()),
            _ => return word.to_owned(),
        };
        word.replacen(core, &other, 1)
    });
    format!("{name} said: {}", words.collect::<Vec<_>>().join(" "))
}

/// Reads `[1] user Anna (2023-05-08T13:56:00): text`; indented lines go on with the turn before them.
fn shown(question: &str) -> Vec<Shown> {
    let mut turns: Vec<Shown> = Vec::new();
    for line in question.lines() {
        let Some(more) = line.strip_prefix("    ") else {
            turns.extend(read_turn(line));
            continue;
        };
        if let Some(turn) = turns.last_mut() {
            turn.text.push(' ');
            turn.text.push_str(more);
        }
    }
    turns
}

fn read_turn(line: &str) -> Option<Shown> {
    let (number, rest) = line.strip_prefix('[')?.split_once("] ")?;
    let (who, text) = rest.split_once("): ")?;
    let (who, time) = who.rsplit_once(" (")?;
    let (_role, name) = who.split_once(' ')?;
    Some(Shown {
        number: number.parse().ok()?,
        name: name.to_owned(),
        day: time.get(.."2023-05-08".len())?.parse().ok()?,
        text: text.to_owned(),
    })
}

/// Verdicts on the claims of a judging question; `reason` tells of a claim what the messages do not say.
pub(crate) fn verdicts(question: &str, reason: impl Fn(&str) -> Option<&'static str>) -> Reply {
    let (_, claims) = question.split_once("\n\nClaims:\n").unwrap();
    let results = claims.lines().enumerate().map(|(index, line)| {
        let (number, claim) = line.strip_prefix('(').unwrap().split_once(") ").unwrap();
        assert_eq!(number, (index + 1).to_string());
        let missing = reason(claim);
        json!({"number": index + 1, "supported": missing.is_none(), "reason": missing.unwrap_or_default()})
    });
    Reply::text(json!({"results": results.collect::<Vec<_>>()}).to_string())
}

#[test]
fn turns_are_read_as_they_are_shown() {
    let turns = shown(
        "[1] user Anna (2023-05-08T13:56:00): I came yesterday with my dog.\n    [picture: a dog]\n[2] user Tom: no",
    );
    let [turn] = turns.as_slice() else { panic!("{turns:?}") };
    assert_eq!(note(turn), "Anna said: Anna came on 2023-05-07 with Anna's dog. [picture: a dog]");
    assert!(is_worth_noting(turn));
}
