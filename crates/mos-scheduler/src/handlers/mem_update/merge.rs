//! What was retrieved and what was there, as one list without repetitions.

use mos_core::MemoryItem;
use mos_core::language::is_ideograph;

use super::options::TurnOptions;
use super::working::is_raw;
use crate::monitor::distinct;

/// Returns the memories that a turn chooses from: what was retrieved, in its order, then what was in working memory before,
/// without raw memories. Repetitions and texts that are too short are left out.
pub(super) fn candidates(retrieved: &[MemoryItem], before: &[MemoryItem], options: &TurnOptions) -> Vec<MemoryItem> {
    let mut items: Vec<&MemoryItem> = Vec::new();
    for item in retrieved.iter().chain(before.iter().filter(|item| !is_raw(item))) {
        if length(&item.memory) >= options.least_length && !items.iter().any(|known| known.id == item.id) {
            items.push(item);
        }
    }
    let texts: Vec<&str> = items.iter().map(|item| item.memory.as_str()).collect();
    distinct(&texts, options.same_from).into_iter().map(|place| items[place].clone()).collect()
}

/// How long a text is; a Chinese character says as much as two letters.
fn length(text: &str) -> usize {
    text.trim().chars().map(|c| if is_ideograph(c) { 2 } else { 1 }).sum()
}

#[cfg(test)]
mod tests {
    use mos_core::MemoryId;

    use super::*;

    fn item(number: usize, text: &str) -> MemoryItem {
        MemoryItem::new(MemoryId::new(format!("00000000-0000-4000-8000-{number:012}")), text)
    }

    #[test]
    fn what_was_retrieved_comes_first_and_nothing_comes_twice() {
        let mut raw = item(5, "a raw memory of the last minute");
        raw.metadata.is_fast = Some(true);
        let before = [item(1, "Max is a golden retriever"), item(2, "he likes walks"), raw.clone()];
        let retrieved =
            [item(3, "Max eats  salmon treats"), item(4, "max eats salmon treats"), item(1, "x"), item(6, "no")];
        let merged = candidates(&retrieved, &before, &TurnOptions::default());
        let texts: Vec<&str> = merged.iter().map(|item| item.memory.as_str()).collect();
        assert_eq!(texts, ["Max eats  salmon treats", "Max is a golden retriever", "he likes walks"]);
        assert_eq!(candidates(&[raw], &[], &TurnOptions::default()).len(), 1, "a raw memory may answer a question");
        assert_eq!(candidates(&[item(7, "她爱喝茶"), item(8, "茶")], &[], &TurnOptions::default()).len(), 1);
    }
}
