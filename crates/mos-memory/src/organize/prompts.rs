//! The instructions for models, in English and Chinese.

use mos_core::language::Language;

macro_rules! prompt {
    ($language:expr, $name:literal) => {
        match $language {
            Language::English => include_str!(concat!("prompts/", $name, ".en.txt")),
            Language::Chinese => include_str!(concat!("prompts/", $name, ".zh.txt")),
        }
    };
}

/// Whether two memories contradict or repeat each other.
pub(super) fn verdict(language: Language) -> &'static str {
    prompt!(language, "verdict")
}

/// One memory made of two, which contradict or repeat each other.
pub(super) fn merge(language: Language, is_contradiction: bool) -> &'static str {
    if is_contradiction { prompt!(language, "resolve") } else { prompt!(language, "merge") }
}

/// Which of some memories belong together.
pub(super) fn clusters(language: Language) -> &'static str {
    prompt!(language, "clusters")
}

/// What some memories are about.
pub(super) fn topic(language: Language) -> &'static str {
    prompt!(language, "topic")
}

/// How two memories are related.
pub(super) fn relation(language: Language) -> &'static str {
    prompt!(language, "relation")
}

/// What follows from two memories.
pub(super) fn inference(language: Language) -> &'static str {
    prompt!(language, "inference")
}

/// What some related memories say together.
pub(super) fn aggregate(language: Language) -> &'static str {
    prompt!(language, "aggregate")
}
