//! Made-up texts of a likely length. Those of different numbers differ.

const SUBJECTS: [&str; 10] =
    ["my dog", "the garden", "our team", "Tom", "the old car", "her sister", "the budget", "chess", "the lake", "work"];
const FACTS: [&str; 10] = [
    "needs attention on",
    "was mentioned on",
    "changed a lot since",
    "will be ready by",
    "made everybody laugh on",
    "was photographed on",
    "cost more than planned on",
    "is planned again for",
    "was repaired on",
    "starts early on",
];

/// Returns what is remembered.
pub(crate) fn memory(number: usize) -> String {
    let (subject, fact) = (SUBJECTS[number % 10], FACTS[number / 10 % 10]);
    format!("{subject} {fact} day {} of project {number}", number % 365)
}

/// Returns a question.
pub(crate) fn question(number: usize) -> String {
    format!("what about {} on day {} of project {number}", SUBJECTS[number % 10], number % 365)
}

/// Returns a word that stands in no other text.
pub(crate) fn marker(number: usize) -> String {
    format!("reference{number:09}")
}
