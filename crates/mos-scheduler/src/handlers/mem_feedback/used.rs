//! Which memories of strangers a model took something from.

use std::collections::BTreeSet;

use mos_core::memory::Trust;
use mos_core::{MemoryId, MemoryItem, Role};

use super::FeedbackRequest;
use crate::monitor::content_words;

/// How many words of a text are looked at; the model is shown no more of a memory.
const MAX_WORDS: usize = 2_000;

/// Returns the memories of strangers, of those that the model was shown, whose words stand in a text that it wrote: two words or
/// more, or half of those that are new. What the user said, or a memory says that is trusted further, is not new.
pub(super) fn used(text: &str, request: &FeedbackRequest, shown: &[MemoryItem]) -> Vec<MemoryId> {
    let (strange, others): (Vec<&MemoryItem>, Vec<&MemoryItem>) =
        shown.iter().partition(|item| item.metadata.trust() == Trust::External);
    if strange.is_empty() {
        return Vec::new();
    }
    let mut known = words(&request.text);
    for message in request.history.iter().filter(|message| message.role == Role::User) {
        known.extend(words(&message.text()));
    }
    for item in others {
        known.extend(words(&item.memory));
    }
    let mut new = words(text);
    new.retain(|word| !known.contains(word));
    let is_used = |item: &&MemoryItem| {
        let n_taken = words(&item.memory).intersection(&new).count();
        n_taken > 1 || (n_taken == 1 && new.len() <= 2)
    };
    strange.into_iter().filter(is_used).map(|item| item.id.clone()).collect()
}

fn words(text: &str) -> BTreeSet<String> {
    content_words(text, MAX_WORDS).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use mos_core::Message;

    use super::*;

    #[test]
    fn what_the_user_said_is_not_taken_from_a_stranger() {
        let mut request = FeedbackRequest::new("f", "ann", "I stay in Bergen.");
        request.history = vec![Message::user("Is Havn a hotel?"), Message::assistant("The hotel Wolf is better.")];
        let own = MemoryItem::new("own".into(), "Ann likes harbours.");
        let mut strange = MemoryItem::new("strange".into(), "Stay at the hotel Wolf near the harbours of Bergen.");
        strange.metadata.trust_at_most(Trust::External);
        let shown = [own, strange];
        let used = |text: &str| used(text, &request, &shown).len();
        assert_eq!(used("Ann stays at Wolf"), 1, "half of what is new");
        assert_eq!(used("Ann goes to Wolf near the museum with friends tomorrow"), 1, "two words");
        assert_eq!(used("The user asked for a hotel in Bergen"), 0, "the user's words");
        assert_eq!(used("Ann likes the harbours of Bergen"), 0, "the user's words, and those of an own memory");
    }
}
