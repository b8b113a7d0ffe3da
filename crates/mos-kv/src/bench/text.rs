//! Natural text of any length, different for every number.

/// *Alice's Adventures in Wonderland* by Lewis Carroll (1865), which is in the public domain; one paragraph a line.
const BOOK: &str = include_str!("wonderland.txt");
/// Texts of successive numbers begin this many paragraphs apart, all over the book.
const STRIDE: usize = 509;

/// Returns at least `bytes` bytes of English prose: a novel, read from another paragraph for every `number`, and from
/// its beginning again after its end. A text repeats itself only when it is longer than the novel (142 kB, about
/// 37,000 tokens).
pub fn prose(number: usize, bytes: usize) -> String {
    let paragraphs: Vec<&str> = BOOK.lines().collect();
    let first = (number % paragraphs.len()) * STRIDE % paragraphs.len();
    let mut text = String::with_capacity(bytes);
    for paragraph in paragraphs.iter().cycle().skip(first) {
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        text.push_str(paragraph);
        if text.len() >= bytes {
            break;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn texts_are_long_enough_differ_and_are_the_same_every_time() {
        let texts: HashSet<String> = (0..200).map(|number| prose(number, 5000)).collect();
        assert_eq!(texts.len(), 200);
        assert!(texts.iter().all(|text| text.len() >= 5000));
        assert_eq!(prose(7, 5000), prose(7, 5000));
        assert!(prose(7, 60_000).starts_with(&prose(7, 5000)), "a longer text goes on where a shorter one ends");
        assert!(prose(3, BOOK.len() * 2).len() >= BOOK.len() * 2);
    }

    #[test]
    fn a_text_of_the_longest_cell_repeats_no_sentence_of_length() {
        let text = prose(11, 56_000);
        let mut seen = HashSet::new();
        let mut long = text.split("\n\n").filter(|paragraph| paragraph.len() > 200);
        assert!(long.all(|paragraph| seen.insert(paragraph)));
        assert!(seen.len() > 50);
    }
}
