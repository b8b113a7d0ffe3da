//! Two plugins: one masks card numbers and e-mail addresses before anything is stored, the other labels what was masked.

use mos::plugin::{AddContent, ChatHook, HookContext, HookResult, Plugin, SearchHook, async_trait, change_raw_texts};
use mos_core::{MemoryItem, RawItem};

/// What stands for an e-mail address.
const EMAIL: &str = "[e-mail]";
/// How what stands for a card begins.
const CARD: &str = "[card ending in ";
/// The label of memories in which something was masked.
const TAG: &str = "redacted";

/// Masks card numbers and e-mail addresses in all that is added, read, asked and said in chats.
#[derive(Debug)]
pub struct Redaction;

#[async_trait]
impl Plugin for Redaction {
    fn name(&self) -> &str {
        "redaction"
    }

    fn version(&self) -> &str {
        "1.0"
    }

    fn description(&self) -> &str {
        "masks card numbers and e-mail addresses before anything is stored"
    }

    /// Before all others: they need not see what is masked.
    fn priority(&self) -> i32 {
        100
    }

    async fn before_add(&self, _: &HookContext, mut content: AddContent) -> HookResult<AddContent> {
        content.change_texts(masked);
        Ok(content)
    }

    async fn before_remember(&self, _: &HookContext, mut items: Vec<RawItem>) -> HookResult<Vec<RawItem>> {
        change_raw_texts(&mut items, masked);
        Ok(items)
    }

    /// Files are read before their text is known, and memories are replaced.
    async fn before_store(&self, _: &HookContext, mut items: Vec<MemoryItem>) -> HookResult<Vec<MemoryItem>> {
        for item in &mut items {
            item.memory = masked(&item.memory);
        }
        Ok(items)
    }

    /// What is asked is kept too: in the conversation, and by the scheduler.
    async fn before_chat(&self, _: &HookContext, mut chat: ChatHook) -> HookResult<ChatHook> {
        chat.query = masked(&chat.query);
        Ok(chat)
    }

    /// A question is masked as the memories are, so that it finds them.
    async fn before_search(&self, _: &HookContext, mut search: SearchHook) -> HookResult<SearchHook> {
        search.request.query = masked(&search.request.query);
        Ok(search)
    }
}

/// Labels memories in which something was masked.
#[derive(Debug)]
pub struct Tagging;

#[async_trait]
impl Plugin for Tagging {
    fn name(&self) -> &str {
        "tagging"
    }

    fn version(&self) -> &str {
        "1.0"
    }

    fn description(&self) -> &str {
        "labels memories in which something was masked"
    }

    async fn before_store(&self, _: &HookContext, mut items: Vec<MemoryItem>) -> HookResult<Vec<MemoryItem>> {
        for item in items.iter_mut().filter(|item| item.memory.contains(EMAIL) || item.memory.contains(CARD)) {
            let tags = item.metadata.tags.get_or_insert_default();
            if !tags.iter().any(|tag| tag == TAG) {
                tags.push(TAG.to_owned());
            }
        }
        Ok(items)
    }
}

/// Returns a text without card numbers and e-mail addresses.
pub fn masked(text: &str) -> String {
    without_cards(&without_emails(text))
}

fn without_emails(text: &str) -> String {
    let is_of_name = |c: char| c.is_alphanumeric() || "._%+-".contains(c);
    let is_of_host = |c: char| c.is_alphanumeric() || ".-".contains(c);
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('@') {
        let (before, after) = (&rest[..at], &rest[at + 1..]);
        let name = before.len() - before.trim_end_matches(is_of_name).len();
        let host = after.find(|c: char| !is_of_host(c)).unwrap_or(after.len());
        // A full stop after an address ends the sentence.
        let host = after[..host].trim_end_matches(['.', '-']).len();
        if name > 0 && after[..host].contains('.') {
            out.push_str(&before[..at - name]);
            out.push_str(EMAIL);
        } else {
            out.push_str(&rest[..at + 1 + host]);
        }
        rest = &after[host..];
    }
    out + rest
}

fn without_cards(text: &str) -> String {
    let groups = digit_groups(text);
    let (mut out, mut written, mut first) = (String::with_capacity(text.len()), 0, 0);
    while first < groups.len() {
        // The longest card that begins here; its groups follow each other with one space or hyphen between them.
        let n_joined = 1 + groups[first..].windows(2).take_while(|pair| are_joined(text, pair[0], pair[1])).count();
        let card = (first..first + n_joined).rev().find_map(|last| {
            let digits: String = groups[first..=last].iter().map(|&(start, end)| &text[start..end]).collect();
            is_card(&digits).then_some((last, digits))
        });
        if let Some((last, digits)) = card {
            out.push_str(&text[written..groups[first].0]);
            out.push_str(&format!("{CARD}{}]", &digits[digits.len() - 4..]));
            written = groups[last].1;
            first = last;
        }
        first += 1;
    }
    out + &text[written..]
}

/// Where digits stand that follow each other.
fn digit_groups(text: &str) -> Vec<(usize, usize)> {
    let (mut groups, mut place) = (Vec::new(), 0);
    while let Some(start) = text[place..].find(|c: char| c.is_ascii_digit()).map(|found| place + found) {
        let end = text[start..].find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |found| start + found);
        groups.push((start, end));
        place = end;
    }
    groups
}

fn are_joined(text: &str, left: (usize, usize), right: (usize, usize)) -> bool {
    matches!(&text[left.1..right.0], " " | "-")
}

/// Whether digits can be the number of a card: 13 to 19 of them, whose last one checks the others (Luhn).
fn is_card(digits: &str) -> bool {
    let sum: u32 = digits
        .chars()
        .rev()
        .filter_map(|digit| digit.to_digit(10))
        .enumerate()
        .map(|(place, digit)| match (place % 2, digit * 2) {
            (0, _) => digit,
            (_, doubled) => doubled / 10 + doubled % 10,
        })
        .sum();
    (13..=19).contains(&digits.len()) && sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_cards_are_masked_and_nothing_else() {
        for (text, expected) in [
            ("write to ann.b+c@mail.example.org.", "write to [e-mail]."),
            ("a@b.org, c@d.org", "[e-mail], [e-mail]"),
            ("card 4111 1111 1111 1111, please", "card [card ending in 1111], please"),
            ("5500-0000-0000-0004", "[card ending in 0004]"),
            ("room 12 4111111111111111", "room 12 [card ending in 1111]"),
            ("写给 ann@例子.org 吧", "写给 [e-mail] 吧"),
        ] {
            assert_eq!(masked(text), expected);
        }
        for text in ["meet @ noon", "@ann", "4111 1111 1111 1112", "call 030 1234567", "2026-01-31 at 18:00", "a@b", ""]
        {
            assert_eq!(masked(text), text);
        }
    }
}
