//! States that a person has one of at a time (where they live, where they work, what they are called), recognised by
//! words, in English and Chinese.
//!
//! Two statements about the same state of the same person with different objects cannot both be true at one time. The
//! table looks for few forms of words and misses many; what it finds is a hint for somebody to judge, never a verdict.

mod read;
mod table;

use std::collections::BTreeSet;

use mos_core::{Analyzer, MemoryItem};

use super::facts::speaker;

/// The most statements that are read from one memory.
const MAX_STATEMENTS: usize = 16;

/// What a memory says about one state of one person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    /// The state, for example `residence`.
    pub(super) slot: String,
    /// Whose it is: a speaker, a name, or a relative of one (`user/brother`).
    pub(super) subject: String,
    /// What it is, in lower case.
    pub(super) object: String,
    /// Whether the memory says that it is not so.
    pub(super) is_denied: bool,
}

/// Returns the statements of a memory in the order of its text, at most 16.
pub(super) fn statements(item: &MemoryItem) -> Vec<Statement> {
    let mut found = Vec::new();
    let speaker = speaker(item);
    for line in item.memory.lines() {
        let (said_by, line) = spoken(line, &speaker);
        for clause in clauses(line) {
            read::clause(clause, said_by, &mut found);
            if found.len() >= MAX_STATEMENTS {
                found.truncate(MAX_STATEMENTS);
                return found;
            }
        }
    }
    found
}

/// Words by which memories about a state are found.
pub(super) fn cues(slot: &str) -> &str {
    table::CUES.iter().find(|(known, _)| *known == slot).map_or(slot, |(_, cues)| *cues)
}

/// Whether two statements are about the same state of the same person.
pub(super) fn is_same_state(left: &Statement, right: &Statement) -> bool {
    left.slot == right.slot && left.subject == right.subject
}

/// Whether two statements cannot both be true at one time.
pub(super) fn clash(left: &Statement, right: &Statement, analyzer: &dyn Analyzer) -> bool {
    is_same_state(left, right)
        && match (left.is_denied, right.is_denied) {
            (false, false) => !is_same_object(left, right, analyzer),
            (true, true) => false,
            _ => is_same_object(left, right, analyzer),
        }
}

/// Whether one object names the other, perhaps more exactly ("Berlin", "Berlin Mitte").
fn is_same_object(left: &Statement, right: &Statement, analyzer: &dyn Analyzer) -> bool {
    if left.object.contains(&right.object) || right.object.contains(&left.object) {
        return true;
    }
    let terms = |statement: &Statement| analyzer.terms(&statement.object).into_iter().collect::<BTreeSet<String>>();
    let (left, right) = (terms(left), terms(right));
    !left.is_empty() && !right.is_empty() && (left.is_subset(&right) || right.is_subset(&left))
}

/// Takes the `user: [2026-01-02]:` off a line of a transcript, and returns who speaks.
fn spoken<'a>(line: &'a str, speaker: &'a str) -> (&'a str, &'a str) {
    for role in ["user", "assistant", "system", "tool"] {
        let Some(rest) = line.trim_start().strip_prefix(role).and_then(|rest| rest.strip_prefix(": ")) else {
            continue;
        };
        let rest = match rest.strip_prefix('[').and_then(|rest| rest.split_once("]: ")) {
            Some((_, said)) => said,
            None => rest,
        };
        // A name tells more than the role of the one who has it.
        let is_named = !["user", "assistant", "system", "tool"].contains(&speaker);
        return (if role == "user" && is_named { speaker } else { role }, rest);
    }
    (speaker, line)
}

/// The parts of a line between signs; a full stop inside a number or an address is none.
fn clauses(line: &str) -> Vec<&str> {
    let mut clauses = Vec::new();
    let mut start = 0;
    let mut signs = line.char_indices().peekable();
    while let Some((at, sign)) = signs.next() {
        let is_followed_by_blank = signs.peek().is_none_or(|(_, next)| next.is_whitespace());
        let ends =
            matches!(sign, '!' | '?' | ';' | '。' | '！' | '？' | '；' | '，' | '、' | '"' | '“' | '”' | '(' | ')')
                || (matches!(sign, '.' | ',' | ':') && is_followed_by_blank);
        if ends {
            clauses.push(&line[start..at]);
            start = at + sign.len_utf8();
        }
    }
    clauses.push(&line[start..]);
    clauses.retain(|clause| !clause.trim().is_empty());
    clauses
}

#[cfg(test)]
mod tests {
    use mos_core::MemoryId;
    use mos_stores::TextAnalyzer;
    use serde_json::{Value, json};

    use super::*;

    fn item(memory: &str, info: Value) -> MemoryItem {
        let id = MemoryId::new("00000000-0000-4000-8000-000000000001");
        MemoryItem::from_value(json!({"id": id, "memory": memory, "metadata": {"info": info}}), String::new).unwrap()
    }

    fn read(memory: &str) -> Vec<(String, String, String)> {
        let statements = statements(&item(memory, json!({"role": "user"})));
        statements.into_iter().map(|one| (one.slot, one.subject, one.object)).collect()
    }

    fn clashes(left: &str, right: &str) -> bool {
        let (left, right) = (item(left, json!({"role": "user"})), item(right, json!({"role": "user"})));
        let analyzer = TextAnalyzer::new();
        statements(&left).iter().any(|one| statements(&right).iter().any(|other| clash(one, other, &analyzer)))
    }

    #[test]
    fn states_are_read_with_whose_they_are() {
        for (text, slot, subject, object) in [
            ("I live in Paris", "residence", "user", "paris"),
            ("I've just moved from Paris to Berlin last month.", "residence", "user", "berlin"),
            ("We relocated to New York in 2020", "residence", "user", "new york"),
            ("The user lives in Lyon, France", "residence", "user", "lyon"),
            ("Caroline recently moved to Boston", "residence", "caroline", "boston"),
            ("My brother lives in Berlin", "residence", "user/brother", "berlin"),
            ("i live in paris now", "residence", "user", "paris"),
            ("I work at Google as an engineer", "employer", "user", "google"),
            ("I got a job at Acme Corp", "employer", "user", "acme corp"),
            ("I work as a nurse in a hospital", "occupation", "user", "nurse"),
            ("My job is teaching maths", "occupation", "user", "teaching maths"),
            ("My name is Ann", "name", "user", "ann"),
            ("I'm 31 years old", "age", "user", "31"),
            ("I just turned 32", "age", "user", "32"),
            ("My wife is called Eva", "partner", "user", "eva"),
            ("I'm married to Tom", "partner", "user", "tom"),
            ("My favorite color is dark blue", "favourite color", "user", "dark blue"),
            ("Caroline's favourite food is sushi", "favourite food", "caroline", "sushi"),
            ("I drive a red Volvo", "car", "user", "red volvo"),
            ("I became a vegetarian", "diet", "user", "vegetarian"),
            ("My email is ann@example.org", "email", "user", "ann@example.org"),
            ("我现在住在北京", "residence", "user", "北京"),
            ("我搬到了上海，很喜欢", "residence", "user", "上海"),
            ("我哥哥住在广州", "residence", "user/哥哥", "广州"),
            ("我在腾讯工作", "employer", "user", "腾讯"),
            ("我是一名老师", "occupation", "user", "老师"),
            ("我叫小明", "name", "user", "小明"),
            ("我今年30岁", "age", "user", "30"),
            ("我最喜欢的颜色是蓝色", "favourite 颜色", "user", "蓝色"),
            ("我吃素", "diet", "user", "素"),
        ] {
            let found = read(text);
            let expected = (slot.to_owned(), subject.to_owned(), object.to_owned());
            assert!(found.contains(&expected), "{text}: {found:?}");
        }
    }

    #[test]
    fn events_wishes_and_the_past_are_no_states() {
        for text in [
            "I visited Berlin",
            "I want to move to Berlin",
            "I used to live in Rome",
            "He lives in Berlin",
            "Everyone lives in Berlin",
            "If I live in Berlin",
            "I moved to another team",
            "I work at night",
            "My wife is tired",
            "My car is broken",
            "I was in Berlin",
            "I am 30 minutes late",
            "我去了柏林",
            "我以前住在北京",
            "我住院了",
            "",
        ] {
            assert!(read(text).is_empty(), "{text}: {:?}", read(text));
        }
    }

    #[test]
    fn only_different_objects_of_one_person_clash() {
        assert!(clashes("I live in Paris", "I moved to Berlin"));
        assert!(clashes("我住在北京", "我搬到了上海"));
        assert!(clashes("I live in Paris", "I no longer live in Paris"));
        assert!(clashes("My favourite colour is blue", "my favourite colour is red"));
        assert!(!clashes("I live in Paris", "My brother lives in Berlin"));
        assert!(!clashes("I live in Paris", "I visited Berlin"));
        assert!(!clashes("I live in Berlin", "I moved to Berlin Mitte"));
        assert!(!clashes("I live in Paris", "I don't live in Rome"));
        assert!(!clashes("I live in Paris", "I work at Google"));
    }

    #[test]
    fn the_speaker_of_a_line_is_who_says_i() {
        let transcript = "user: [2026-01-02]: I live in Paris.\nassistant: I live in Mountain View.";
        let subjects: Vec<String> =
            statements(&item(transcript, json!({"name": "Ann"}))).into_iter().map(|one| one.subject).collect();
        assert_eq!(subjects, ["ann", "assistant"]);
    }

    #[test]
    fn much_text_gives_a_bounded_number_of_statements() {
        let many: Vec<String> = (0..1000).map(|number| format!("I live in City{number}")).collect();
        assert_eq!(read(&many.join(". ")).len(), MAX_STATEMENTS);
        assert_eq!(read(&many.join("\n")).len(), MAX_STATEMENTS);
        assert_eq!(read(&"I live in Paris. ".repeat(1000)).len(), 1, "what is repeated is one statement");
        assert!(read(&"x".repeat(50_000)).is_empty());
    }
}
