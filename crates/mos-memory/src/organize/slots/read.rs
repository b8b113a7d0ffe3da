//! Reading the statements of one clause.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::Statement;
use super::table::{CHINESE_STATE, CHINESE_WHO, FORMS, Form, Object, POSSESSOR, STATE, WHO};

/// The longest clause that is read, in bytes.
const MAX_CLAUSE: usize = 400;

/// The most words of an object.
const MAX_WORDS: usize = 6;

/// Words that stand for nobody who could be told from others.
const NOBODY: &[&str] = &[
    "he",
    "she",
    "they",
    "it",
    "you",
    "this",
    "that",
    "these",
    "those",
    "who",
    "which",
    "there",
    "everyone",
    "everybody",
    "someone",
    "somebody",
    "nobody",
    "people",
    "one",
    "if",
    "when",
    "unless",
    "would",
    "could",
    "should",
    "may",
    "might",
    "to",
    "not",
    "will",
];

/// Words before a subject that are none of it.
const LEADING: &[&str] = &["and", "but", "so", "then", "also", "now", "well", "today", "yes", "no", "because", "since"];

/// Words that end an object.
const ENDS: &[&str] = &[
    "and",
    "but",
    "or",
    "because",
    "since",
    "when",
    "while",
    "with",
    "for",
    "from",
    "last",
    "next",
    "this",
    "in",
    "on",
    "at",
    "after",
    "before",
    "until",
    "now",
    "recently",
    "currently",
    "yesterday",
    "today",
    "tomorrow",
    "ago",
    "as",
    "to",
    "these",
    "by",
    "so",
    "where",
    "which",
    "who",
    "anymore",
    "again",
    "right",
    "instead",
    "too",
    "there",
];

/// Words that an object does not begin with.
const ARTICLES: &[&str] = &["a", "an", "the", "my", "our", "now", "being", "called", "named", "new"];

/// What a name is not, where nobody writes capitals.
const NO_NAMES: &[&str] = &[
    "another",
    "different",
    "a",
    "an",
    "the",
    "my",
    "our",
    "his",
    "her",
    "their",
    "this",
    "that",
    "one",
    "night",
    "home",
    "it",
    "them",
    "us",
    "me",
    "new",
    "being",
];

/// Words that end an object in Chinese.
const CHINESE_ENDS: &[&str] =
    &["了", "的", "和", "并", "已经", "有", "很", "工作", "上班", "生活", "大概", "附近", "快", "从", "因为", "时候"];

/// What follows 叫 when it is no name.
const NO_CHINESE_NAMES: &[char] = &['他', '她', '它', '你', '了', '车', '外', '人', '做', '不'];

/// The forms, compiled. A form that cannot be compiled is left out; a test sees that there is none.
static COMPILED: LazyLock<Vec<(&'static Form, Regex)>> =
    LazyLock::new(|| FORMS.iter().filter_map(|form| Some((form, compile(form).ok()?))).collect());

fn compile(form: &Form) -> Result<Regex, regex::Error> {
    let pattern = form
        .pattern
        .replace("{who}", WHO)
        .replace("{state}", STATE)
        .replace("{poss}", POSSESSOR)
        .replace("{cwho}", CHINESE_WHO)
        .replace("{cstate}", CHINESE_STATE);
    Regex::new(&pattern)
}

/// Adds the statements of a clause that `speaker` says.
pub(super) fn clause(text: &str, speaker: &str, found: &mut Vec<Statement>) {
    let text = text.trim().replace('’', "'");
    if text.len() > MAX_CLAUSE {
        return;
    }
    // Only ASCII letters, so that bytes stay where they are.
    let lower = text.to_ascii_lowercase();
    for (form, pattern) in COMPILED.iter() {
        let Some(groups) = pattern.captures(&lower) else { continue };
        let Some(statement) = statement(form, &groups, &text, speaker) else { continue };
        if !found.contains(&statement) {
            found.push(statement);
        }
    }
}

fn statement(form: &Form, groups: &Captures<'_>, text: &str, speaker: &str) -> Option<Statement> {
    let (who, what) = (groups.name("who")?, groups.name("what")?);
    let subject = subject(&text[who.range()], speaker)?;
    let written = &text[what.range()];
    let object = match form.object {
        Object::Name => name(written, text)?,
        Object::Phrase => phrase(written)?,
        Object::Exact => what.as_str().to_owned(),
    };
    let is_name_of_nobody = form.slot == "name" && object.starts_with(NO_CHINESE_NAMES);
    if is_name_of_nobody {
        return None;
    }
    let slot = match groups.name("attr") {
        Some(attribute) => attribute_slot(attribute.as_str()),
        None => form.slot.to_owned(),
    };
    Some(Statement { slot, subject, object: object.to_lowercase(), is_denied: groups.name("not").is_some() })
}

fn attribute_slot(attribute: &str) -> String {
    if attribute.starts_with(|letter: char| !letter.is_ascii()) {
        return format!("favourite {attribute}");
    }
    attribute.replace("favorite", "favourite")
}

/// Whom the words before a verb mean; `None` when that cannot be told.
fn subject(who: &str, speaker: &str) -> Option<String> {
    let lower = who.to_lowercase();
    if let Some(relative) = lower.strip_prefix('我') {
        let relative = relative.trim_start_matches('的');
        let is_self = relative.is_empty() || relative == "们";
        return Some(if is_self { speaker.to_owned() } else { format!("{speaker}/{relative}") });
    }
    if lower == "用户" {
        return Some("user".to_owned());
    }
    if let Some(relative) = lower.strip_prefix("my ") {
        return Some(format!("{speaker}/{relative}"));
    }
    let is_possessive = lower.ends_with("'s");
    let words: Vec<&str> =
        who.strip_suffix("'s").or_else(|| who.strip_suffix("'S")).unwrap_or(who).split(' ').collect();
    let last = words.last()?.to_lowercase();
    if words.iter().any(|word| NOBODY.contains(&word.to_lowercase().as_str())) {
        return None;
    }
    match last.as_str() {
        "i" | "we" => return Some(speaker.to_owned()),
        "my" | "our" if !is_possessive => return Some(speaker.to_owned()),
        "user" => return Some("user".to_owned()),
        _ => {}
    }
    let is_name =
        |word: &&&str| word.starts_with(char::is_uppercase) && !LEADING.contains(&word.to_lowercase().as_str());
    words.iter().rfind(is_name).map(|name| name.to_lowercase())
}

/// The words with a capital that an object begins with.
fn name(written: &str, text: &str) -> Option<String> {
    let words = written.split_whitespace().skip_while(|word| ["the", "the new", "now"].contains(word));
    // Who writes "i" writes names small as well.
    let is_written_small = text.split(|c: char| !c.is_alphanumeric()).any(|word| word == "i");
    let mut kept: Vec<&str> = Vec::new();
    for word in words.take(MAX_WORDS) {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        let begins_name = bare.starts_with(|c: char| c.is_uppercase() || (!c.is_ascii() && c.is_alphabetic()));
        let is_small_name = is_written_small
            && kept.len() < 2
            && !ENDS.contains(&bare)
            && !(kept.is_empty() && NO_NAMES.contains(&bare))
            && bare.starts_with(char::is_alphabetic);
        if !(begins_name || is_small_name) {
            break;
        }
        kept.push(bare);
    }
    (!kept.is_empty()).then(|| kept.join(" "))
}

/// The words of an object up to one that begins something else.
fn phrase(written: &str) -> Option<String> {
    let written = cut_chinese(written.trim());
    let words = written
        .split_whitespace()
        .skip_while(|word| ARTICLES.contains(&word.to_lowercase().as_str()))
        .take_while(|word| !ENDS.contains(&word.to_lowercase().as_str()))
        .take(MAX_WORDS);
    let object = words.collect::<Vec<&str>>().join(" ");
    let object = object.trim_matches(|c: char| !c.is_alphanumeric()).to_owned();
    (!object.is_empty()).then_some(object)
}

fn cut_chinese(text: &str) -> &str {
    let end = CHINESE_ENDS.iter().filter_map(|word| text.find(word)).min().unwrap_or(text.len());
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_can_be_compiled_and_names_its_groups() {
        for form in FORMS {
            let pattern = compile(form).unwrap_or_else(|error| panic!("{}: {error}", form.pattern));
            for group in ["who", "what"] {
                assert!(pattern.capture_names().flatten().any(|name| name == group), "{}", form.pattern);
            }
            let has_attribute = pattern.capture_names().flatten().any(|name| name == "attr");
            assert_eq!(has_attribute, form.slot == "attribute", "{}", form.pattern);
        }
        assert_eq!(COMPILED.len(), FORMS.len());
    }

    #[test]
    fn who_cannot_be_told_states_nothing() {
        for who in ["he", "Everyone", "If I", "the brother", "people"] {
            assert_eq!(subject(who, "ann"), None, "{who}");
        }
        for (who, expected) in [
            ("I", "ann"),
            ("When we", ""),
            ("And I", "ann"),
            ("The user", "user"),
            ("the user's", "user"),
            ("my", "ann"),
            ("my older brother", "ann/older brother"),
            ("Tom", "tom"),
            ("Tom's", "tom"),
            ("Tom recently", "tom"),
            ("So Tom", "tom"),
            ("我的妹妹", "ann/妹妹"),
        ] {
            assert_eq!(subject(who, "ann").unwrap_or_default(), expected, "{who}");
        }
    }

    #[test]
    fn names_end_where_capitals_do() {
        assert_eq!(name("New York in 2020", "I live in New York in 2020").as_deref(), Some("New York"));
        assert_eq!(name("night", "I work at night"), None);
        assert_eq!(name("paris now", "i live in paris now").as_deref(), Some("paris"));
        assert_eq!(name("another team", "i moved to another team"), None);
    }
}
