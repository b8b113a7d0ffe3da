//! What is known already: the same said again.
//!
//! Two memories are one when their texts are the same up to case, white space and the final point, or when they mean the
//! same (nearly the same vector) and say it in the same words up to articles and the like. So numbers, names, negations,
//! tenses and who does what to whom are equal. They must also be of the same type, user and speaker, speak of the same days
//! and still be true. Messages as they were said are one only if they are the same message: a person may say the same
//! twice.

use std::collections::{BTreeMap, HashMap};

use mos_core::language::is_ideograph;
use mos_core::{Analyzer, EmbeddingWrite, Filter, MemoryError, MemoryId, MemoryItem, MemoryType, Status};
use serde_json::Value;

use super::TreeText;
use super::shape::is_raw;
use crate::moments;
use crate::shelf::activated;
use crate::time::Days;

/// How many of the nearest memories are looked at.
const N_NEIGHBOURS: usize = 16;

/// How many sources a memory keeps: its first and the latest.
const MAX_SOURCES: usize = 100;

/// What names the template of a profile: profiles are told apart by it, however alike they read.
const PROFILE: &str = "profile_template_id";

/// Words that change nothing in what a text says.
const EMPTY_WORDS: &[&str] = &[
    "a", "an", "the", "is", "are", "am", "be", "been", "being", "that", "really", "very", "just", "also", "so", "too",
    "please", "well", "oh", "的", "啊", "吧", "呀", "哦", "嗯",
];

/// What a memory is the same as.
#[derive(Debug)]
pub(super) enum Twin {
    /// A memory of the record.
    Known(Box<MemoryItem>),
    /// The item at this place of the same call.
    Earlier(usize),
}

/// What must be equal for two memories to be one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Traits {
    kind: MemoryType,
    user: Option<String>,
    speaker: Option<String>,
    is_raw: bool,
    days: Option<Days>,
    words: Vec<String>,
}

impl Traits {
    /// Returns the traits of a memory; `None` for one that is never taken for another.
    fn of(item: &MemoryItem, analyzer: &dyn Analyzer) -> Option<Self> {
        let metadata = &item.metadata;
        let kind = metadata.memory_type()?;
        let is_one_of_its_kind = kind == MemoryType::RawFile
            || metadata.status != Some(Status::Activated)
            || moments::valid_to(item).is_some()
            || item.working_copy_of().is_some()
            || metadata.info.as_ref().is_some_and(|info| info.contains_key(PROFILE));
        if is_one_of_its_kind {
            return None;
        }
        Some(Self {
            kind,
            user: metadata.user_id.clone(),
            speaker: speaker(item).map(str::to_owned),
            is_raw: is_raw(item),
            days: moments::spoken_days(item),
            words: telling_words(&item.memory, analyzer),
        })
    }
}

impl TreeText {
    /// Returns for each new memory what it is the same as. Their vectors come in the same order.
    pub(super) async fn twins(
        &self,
        items: &[MemoryItem],
        embeddings: &EmbeddingWrite,
    ) -> Result<Vec<Option<Twin>>, MemoryError> {
        let analyzer = self.analyzer.as_ref();
        let traits: Vec<Option<Traits>> = items.iter().map(|item| Traits::of(item, analyzer)).collect();
        let near = self.near(&traits, embeddings).await?;
        let ids: Vec<MemoryId> = near.iter().flatten().map(|(id, _)| id.clone()).collect();
        let known = self.shelf().get_by_ids(&ids).await?;
        let known: HashMap<MemoryId, (MemoryItem, Option<Traits>)> = known
            .into_iter()
            .map(|item| {
                let traits = Traits::of(&item, analyzer);
                (item.id.clone(), (item, traits))
            })
            .collect();
        let mut earlier: HashMap<&Traits, Vec<usize>> = HashMap::new();
        let mut twins = Vec::with_capacity(items.len());
        for (place, item) in items.iter().enumerate() {
            let Some(own) = &traits[place] else {
                twins.push(None);
                continue;
            };
            let mut of_record = near[place].iter().filter_map(|(id, cosine)| {
                let (other, traits) = known.get(id)?;
                (traits.as_ref() == Some(own) && self.is_same(own, item, other, *cosine)).then_some(other)
            });
            let found = of_record.next().map(|known| Twin::Known(Box::new(known.clone())));
            let of_call = || {
                let same = |other: &&usize| {
                    let cosine = cosine(&embeddings.vectors[place].1, &embeddings.vectors[**other].1);
                    self.is_same(own, item, &items[**other], cosine)
                };
                earlier.get(own)?.iter().find(same).map(|other| Twin::Earlier(*other))
            };
            let twin = found.or_else(of_call);
            if twin.is_none() {
                earlier.entry(own).or_default().push(place);
            }
            twins.push(twin);
        }
        Ok(twins)
    }

    /// The nearest memories of the record for each item, with their cosines: asked for together, those of a type at once.
    async fn near(
        &self,
        traits: &[Option<Traits>],
        embeddings: &EmbeddingWrite,
    ) -> Result<Vec<Vec<(MemoryId, f32)>>, MemoryError> {
        let mut near = vec![Vec::new(); traits.len()];
        if self.record().embedding_space(self.scope()).await?.is_none() {
            return Ok(near);
        }
        let mut by_kind: BTreeMap<MemoryType, Vec<usize>> = BTreeMap::new();
        for (place, traits) in traits.iter().enumerate() {
            if let Some(traits) = traits {
                by_kind.entry(traits.kind).or_default().push(place);
            }
        }
        for (kind, places) in by_kind {
            let filter = activated(&Filter::equals("memory_type", kind.as_str()));
            let queries: Vec<&[f32]> = places.iter().map(|place| embeddings.vectors[*place].1.as_slice()).collect();
            let space = &embeddings.space;
            let found = self.vectors.nearest_each(self.scope(), space, &queries, N_NEIGHBOURS, &filter).await?;
            for (place, found) in places.into_iter().zip(found) {
                near[place] = found.into_iter().map(|one| (one.id, one.score)).collect();
            }
        }
        Ok(near)
    }

    /// Whether two memories of the same traits are one.
    fn is_same(&self, own: &Traits, item: &MemoryItem, other: &MemoryItem, cosine: f32) -> bool {
        let is_near = !own.words.is_empty() && cosine >= self.options.near_duplicate;
        let says_the_same = is_near || normal_text(&item.memory) == normal_text(&other.memory);
        says_the_same && !(own.is_raw && are_two_messages(item, other))
    }
}

/// Joins what a new memory knows into a known one that says the same.
pub(super) fn join(known: &MemoryItem, new: &MemoryItem) -> MemoryItem {
    let mut joined = known.clone();
    if let Some(tags) = &new.metadata.tags {
        let known_tags = joined.metadata.tags.get_or_insert_default();
        known_tags
            .extend(tags.iter().filter(|tag| !known.metadata.tags.iter().flatten().any(|one| one == *tag)).cloned());
    }
    let (Some(fields), Some(more)) = (joined.metadata.tree_mut(), new.metadata.tree()) else { return joined };
    for file in &more.file_ids {
        if !fields.file_ids.contains(file) {
            fields.file_ids.push(file.clone());
        }
    }
    let sources = fields.sources.get_or_insert_default();
    for source in more.sources.iter().flatten() {
        if !sources.contains(source) {
            sources.push(source.clone());
        }
    }
    if sources.len() > MAX_SOURCES {
        sources.drain(1..=sources.len() - MAX_SOURCES);
    }
    // Sources that were left out for want of room still count.
    joined.metadata.trust_at_most(known.metadata.trust().max(new.metadata.trust()));
    joined
}

/// Who says it: a name, else a role.
fn speaker(item: &MemoryItem) -> Option<&str> {
    let info = |key: &str| item.metadata.info.as_ref()?.get(key)?.as_str();
    let of_source = || item.metadata.tree()?.sources.as_ref()?.first()?.role.as_deref();
    info("name").or_else(|| info("role")).or_else(of_source)
}

/// Whether two equal messages were said separately: they have different ids, else different times, else belong to different
/// conversations.
fn are_two_messages(one: &MemoryItem, other: &MemoryItem) -> bool {
    for marks in [message_ids, message_times] {
        let (left, right) = (marks(one), marks(other));
        if !left.is_empty() || !right.is_empty() {
            return !left.iter().any(|mark| right.contains(mark));
        }
    }
    one.metadata.session_id != other.metadata.session_id
}

fn message_ids(item: &MemoryItem) -> Vec<&str> {
    let of_info = item.metadata.info.as_ref().and_then(|info| info.get("message_id")).and_then(Value::as_str);
    let sources = item.metadata.tree().and_then(|fields| fields.sources.as_ref());
    let of_sources = sources.into_iter().flatten().filter_map(|source| source.message_id.as_deref());
    of_info.into_iter().chain(of_sources).collect()
}

fn message_times(item: &MemoryItem) -> Vec<&str> {
    let of_info = item.metadata.info.as_ref().and_then(|info| info.get("chat_time")).and_then(Value::as_str);
    let sources = item.metadata.tree().and_then(|fields| fields.sources.as_ref());
    let of_sources = sources.into_iter().flatten().filter_map(|source| source.chat_time.as_deref());
    of_info.into_iter().chain(of_sources).collect()
}

/// Returns a text in lower case, with single spaces, without the point at its end.
fn normal_text(text: &str) -> String {
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    words.join(" ").trim_end_matches(['.', '!', '。', '！']).trim_end().to_owned()
}

/// Returns the words of a text that tell something, in order: stems of words that searches know, with the endings that
/// tell tenses; small words and signs as they are; Chinese by characters.
fn telling_words(text: &str, analyzer: &dyn Analyzer) -> Vec<String> {
    let mut words = Vec::new();
    for word in plain_words(text) {
        if EMPTY_WORDS.contains(&word.as_str()) {
            continue;
        }
        let is_word = word.chars().all(|c| c.is_alphanumeric() && !is_ideograph(c));
        let stems = if is_word { analyzer.terms(&word) } else { Vec::new() };
        if stems.is_empty() {
            words.push(word);
            continue;
        }
        let ending = ["ed", "ing"].into_iter().find(|ending| word.ends_with(ending)).unwrap_or_default();
        words.push(format!("{}~{ending}", stems.join(" ")));
    }
    words
}

/// Returns words, signs that mean something and single Chinese characters in lower case, contractions written out.
fn plain_words(text: &str) -> Vec<String> {
    let text = text.to_lowercase().replace('’', "'");
    let mut words = Vec::new();
    let mut word = String::new();
    let mut characters = text.chars().peekable();
    let mut before = ' ';
    while let Some(c) = characters.next() {
        let is_of_word = c.is_alphanumeric() && !is_ideograph(c) || c == '\'' && before.is_alphanumeric();
        if is_of_word {
            word.push(c);
        } else {
            finish_word(&mut word, &mut words);
            let is_sign = c == '-' && !before.is_alphanumeric() && characters.peek().is_some_and(char::is_ascii_digit);
            if is_sign || !(c.is_whitespace() || is_punctuation(c)) {
                words.push(c.to_string());
            }
        }
        before = c;
    }
    finish_word(&mut word, &mut words);
    words
}

/// Question marks are not among them: a question is no statement.
fn is_punctuation(c: char) -> bool {
    ".,;:!\"'()[]{}…-–—_*/\\`~“”‘’、。，！；：（）《》「」·".contains(c)
}

fn finish_word(word: &mut String, words: &mut Vec<String>) {
    let whole = std::mem::take(word);
    let whole = whole.trim_matches('\'');
    if whole.is_empty() {
        return;
    }
    if let Some(verb) = whole.strip_suffix("n't") {
        let verb = match verb {
            "ca" => "can",
            "wo" => "will",
            "sha" => "shall",
            other => other,
        };
        words.extend([verb.to_owned(), "not".to_owned()]);
        return;
    }
    let (stem, more) = match whole.split_once('\'') {
        Some((stem, "ll")) => (stem, Some("will")),
        Some((stem, "ve")) => (stem, Some("have")),
        Some((stem, "d")) => (stem, Some("would")),
        // `is`, `are`, `am` and possession tell nothing here.
        Some((stem, "s" | "re" | "m")) => (stem, None),
        _ => (whole, None),
    };
    words.push(stem.to_owned());
    words.extend(more.map(str::to_owned));
}

fn cosine(left: &[f32], right: &[f32]) -> f32 {
    let dot = |left: &[f32], right: &[f32]| left.iter().zip(right).map(|(a, b)| a * b).sum::<f32>();
    let lengths = (dot(left, left) * dot(right, right)).sqrt();
    if lengths > 0.0 { dot(left, right) / lengths } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Lower-case words without a plural `s`; none for the smallest words.
    #[derive(Debug)]
    struct Plain;

    impl Analyzer for Plain {
        fn terms(&self, text: &str) -> Vec<String> {
            let words = text.split_whitespace().filter(|word| !["i", "to", "from", "not", "was"].contains(word));
            words.map(|word| word.trim_end_matches('s').to_owned()).collect()
        }
    }

    fn says_the_same(left: &str, right: &str) -> bool {
        telling_words(left, &Plain) == telling_words(right, &Plain)
    }

    #[test]
    fn articles_and_endings_of_number_tell_nothing() {
        for (left, right) in [
            ("The user likes green tea.", "User likes the green tea"),
            ("Max is a dog", "Max, the dog!"),
            ("I'm from Oslo", "I am from Oslo"),
            ("I don’t smoke", "I do not smoke."),
            ("我喜欢喝绿茶。", "我喜欢喝绿茶啊"),
        ] {
            assert!(says_the_same(left, right), "{left} / {right}");
        }
    }

    #[test]
    fn numbers_names_negations_tenses_directions_and_roles_tell_something() {
        for (left, right) in [
            ("I have 2 dogs", "I have 3 dogs"),
            ("It costs 3.5", "It costs 35"),
            ("It was -5 outside", "It was 5 outside"),
            ("costs $5", "costs €5"),
            ("Ann lives in Paris", "Eva lives in Paris"),
            ("I do smoke", "I don't smoke"),
            ("I can swim", "I can't swim"),
            ("I worked there", "I work there"),
            ("I was a teacher", "I am a teacher"),
            ("the flight to Rome", "the flight from Rome"),
            ("Ann likes Bob", "Bob likes Ann"),
            ("You came", "You came?"),
            ("我喜欢喝茶", "我不喜欢喝茶"),
        ] {
            assert!(!says_the_same(left, right), "{left} / {right}");
        }
    }

    #[test]
    fn texts_are_the_same_up_to_case_space_and_final_point() {
        assert_eq!(normal_text("  I like\n Tea. "), "i like tea");
        assert_eq!(normal_text("我喜欢茶。"), normal_text("我喜欢茶"));
        assert_ne!(normal_text("You like tea?"), normal_text("You like tea"));
    }

    #[test]
    fn profiles_are_never_one_however_alike_they_read() {
        let with = |info: Value| {
            let metadata = json!({"memory_type": "UserMemory", "status": "activated", "info": info});
            let value = json!({"id": "00000000-0000-4000-8000-000000000001", "memory": "yes", "metadata": metadata});
            Traits::of(&MemoryItem::from_value(value, String::new).unwrap(), &Plain)
        };
        assert!(with(json!({"profile_template_id": "basic"})).is_none());
        assert!(with(json!({"city": "Bonn"})).is_some());
    }

    fn message(info: Value, session: &str) -> MemoryItem {
        let metadata = json!({"memory_type": "LongTermMemory", "info": info, "session_id": session});
        let value = json!({"id": "00000000-0000-4000-8000-000000000001", "memory": "yes", "metadata": metadata});
        MemoryItem::from_value(value, String::new).unwrap()
    }

    #[test]
    fn messages_are_told_apart_by_id_then_by_time_then_by_conversation() {
        let with = |info: Value| message(info, "s");
        let id = |id: &str| with(json!({"role": "user", "message_id": id, "chat_time": "1"}));
        assert!(are_two_messages(&id("m1"), &id("m2")) && !are_two_messages(&id("m1"), &id("m1")));
        let at = |time: &str| with(json!({"role": "user", "chat_time": time}));
        assert!(are_two_messages(&at("1"), &at("2")) && !are_two_messages(&at("1"), &at("1")));
        assert!(are_two_messages(&id("m1"), &at("1")), "one without an id is another");
        let plain = |session: &str| message(json!({"role": "user"}), session);
        assert!(are_two_messages(&plain("s"), &plain("t")) && !are_two_messages(&plain("s"), &plain("s")));
    }

    #[test]
    fn sources_tags_and_files_are_joined_and_bounded() {
        let with = |number: usize| {
            let sources = [json!({"type": "chat", "message_id": format!("m{number}")})];
            let metadata = json!({"memory_type": "UserMemory", "sources": sources, "tags": [format!("t{}", number % 2)],
                "file_ids": ["f"]});
            let value = json!({"id": "00000000-0000-4000-8000-000000000001", "memory": "x", "metadata": metadata});
            MemoryItem::from_value(value, String::new).unwrap()
        };
        let joined = (1..300).fold(with(0), |known, number| join(&known, &with(number)));
        let ids = message_ids(&joined);
        assert_eq!((ids.len(), ids[0], ids[1], ids[99]), (100, "m0", "m201", "m299"));
        assert_eq!(joined.metadata.tags.as_deref(), Some(&["t0".to_owned(), "t1".to_owned()][..]));
        assert_eq!(joined.metadata.tree().unwrap().file_ids, ["f"]);
        assert_eq!(join(&joined, &with(299)), joined, "nothing new changes nothing");
    }

    #[test]
    fn a_strangers_source_that_was_left_out_still_counts() {
        let with = |role: &str, number: usize| {
            let source = json!({"type": "chat", "role": role, "message_id": format!("m{number}")});
            let metadata = json!({"memory_type": "LongTermMemory", "sources": [source]});
            let value = json!({"id": "00000000-0000-4000-8000-000000000001", "memory": "x", "metadata": metadata});
            MemoryItem::from_value(value, String::new).unwrap()
        };
        let known = join(&with("user", 0), &with("tool", 1));
        let joined = (2..300).fold(known, |known, number| join(&known, &with("user", number)));
        assert!(!message_ids(&joined).contains(&"m1"), "its place was needed");
        assert_eq!(joined.metadata.trust(), mos_core::memory::Trust::External);
    }
}
