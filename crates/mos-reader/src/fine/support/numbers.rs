//! Numbers of a note that its source does not have.

use std::collections::HashSet;

use mos_core::language::is_ideograph;

/// Number words and their values.
const ENGLISH: &[(&str, u64)] = &[
    ("zero", 0),
    ("one", 1),
    ("two", 2),
    ("three", 3),
    ("four", 4),
    ("five", 5),
    ("six", 6),
    ("seven", 7),
    ("eight", 8),
    ("nine", 9),
    ("ten", 10),
    ("eleven", 11),
    ("twelve", 12),
    ("thirteen", 13),
    ("fourteen", 14),
    ("fifteen", 15),
    ("sixteen", 16),
    ("seventeen", 17),
    ("eighteen", 18),
    ("nineteen", 19),
    ("twenty", 20),
    ("thirty", 30),
    ("forty", 40),
    ("fifty", 50),
    ("sixty", 60),
    ("seventy", 70),
    ("eighty", 80),
    ("ninety", 90),
    ("hundred", 100),
    ("thousand", 1_000),
    ("million", 1_000_000),
    ("dozen", 12),
    ("once", 1),
    ("twice", 2),
    ("half", 50),
    ("couple", 2),
];

const CHINESE: [char; 11] = ['零', '一', '二', '三', '四', '五', '六', '七', '八', '九', '十'];

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// Returns the first number of a note, in digits, that its source has neither in digits nor in words.
///
/// Where the source has a time, numbers of dates are passed over: they may have been worked out from it.
pub(super) fn first_unknown(note: &str, source: &str, has_time: bool) -> Option<String> {
    let known = numbers_of(source);
    let pieces = pieces(note);
    for (index, piece) in pieces.iter().enumerate() {
        let Piece::Number(digits) = piece else { continue };
        if known.contains(&normal(digits)) || (has_time && is_of_date(&pieces, index)) {
            continue;
        }
        return Some((*digits).to_owned());
    }
    None
}

#[derive(Debug, PartialEq)]
enum Piece<'a> {
    /// Digits, also with points and commas between them.
    Number(&'a str),
    Word(&'a str),
    /// An ideograph, or a sign between two numbers.
    Sign(char),
}

/// Returns numbers, words and the signs that dates are written with.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if first.is_ascii_digit() {
            number_length(rest)
        } else if first.is_alphabetic() && !is_ideograph(first) {
            rest.find(|c: char| !c.is_alphabetic() || is_ideograph(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (piece, behind) = rest.split_at(length);
        if first.is_ascii_digit() {
            pieces.push(Piece::Number(piece));
        } else if first.is_alphabetic() && !is_ideograph(first) {
            pieces.push(Piece::Word(piece));
        } else if is_ideograph(first) || matches!(first, '-' | '/' | ':') {
            pieces.push(Piece::Sign(first));
        }
        rest = behind;
    }
    pieces
}

/// The bytes of the number that a text begins with: digits, and points or commas that digits follow.
fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut end = 0;
    while end < bytes.len() {
        let is_inside = matches!(bytes[end], b'.' | b',') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit);
        if !bytes[end].is_ascii_digit() && !is_inside {
            break;
        }
        end += 1;
    }
    end
}

/// `1,000` is 1000, `007` is 7, and `2.50` is 2.5.
fn normal(digits: &str) -> String {
    let plain = digits.replace(',', "");
    let plain = plain.trim_start_matches('0');
    let plain = if plain.contains('.') { plain.trim_end_matches('0').trim_end_matches('.') } else { plain };
    if plain.is_empty() || plain.starts_with('.') { format!("0{plain}") } else { plain.to_owned() }
}

fn numbers_of(text: &str) -> HashSet<String> {
    let mut numbers = HashSet::new();
    let mut tens = None;
    for piece in pieces(text) {
        let mut next_tens = None;
        match piece {
            Piece::Number(digits) => {
                numbers.insert(normal(digits));
                // Of 2.5 and 10,000 the parts count too, or a list such as 3,4 would be one number.
                numbers.extend(digits.split(['.', ',']).map(normal));
            }
            Piece::Word(word) => {
                let word = word.to_lowercase();
                if let Some((_, value)) = ENGLISH.iter().find(|(name, _)| *name == word) {
                    numbers.insert(value.to_string());
                    if let Some(tens) = tens
                        && *value < 10
                    {
                        let sum: u64 = tens + value;
                        numbers.insert(sum.to_string());
                    }
                    next_tens = (20..100).contains(value).then_some(*value);
                }
            }
            Piece::Sign('两') => {
                numbers.insert("2".to_owned());
            }
            Piece::Sign('-') => next_tens = tens,
            Piece::Sign(sign) => {
                if let Some(value) = CHINESE.iter().position(|digit| *digit == sign) {
                    numbers.insert(value.to_string());
                }
            }
        }
        tens = next_tens;
    }
    numbers.extend(chinese_tens(text));
    numbers
}

/// `十三` is 13, `二十` is 20, `二十五` is 25.
fn chinese_tens(text: &str) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    let digit = |at: Option<usize>| {
        let letter = letters.get(at?)?;
        CHINESE[1..10].iter().position(|one| one == letter).map(|place| place + 1)
    };
    let tens = letters.iter().enumerate().filter(|(_, letter)| **letter == '十');
    tens.map(|(at, _)| {
        let before = digit(at.checked_sub(1)).unwrap_or(1);
        let behind = digit(Some(at + 1)).unwrap_or(0);
        (before * 10 + behind).to_string()
    })
    .collect()
}

/// Whether the number at a place is part of a date: beside the name of a month, between dashes or slashes, before 年月日 or
/// 号, or a year behind such a number.
fn is_of_date(pieces: &[Piece<'_>], index: usize) -> bool {
    let Some(Piece::Number(digits)) = pieces.get(index) else { return false };
    let before = |n: usize| index.checked_sub(n).and_then(|at| pieces.get(at));
    let is_month = |piece: Option<&Piece<'_>>| {
        let Some(Piece::Word(word)) = piece else { return false };
        let word = word.to_lowercase();
        MONTHS.iter().any(|month| *month == word || ((3..=4).contains(&word.len()) && month.starts_with(&word)))
    };
    let is_ordinal = |piece: Option<&Piece<'_>>| matches!(piece, Some(Piece::Word("st" | "nd" | "rd" | "th" | "of")));
    let dashed = |sign: Option<&Piece<'_>>, other: Option<&Piece<'_>>| {
        matches!(sign, Some(Piece::Sign('-' | '/'))) && matches!(other, Some(Piece::Number(_)))
    };
    let next = pieces.get(index + 1);
    let is_year = digits.len() == 4 && (digits.starts_with("19") || digits.starts_with("20"));
    let is_beside_month = is_month(before(1))
        || is_month(next)
        || (is_ordinal(next)
            && (is_month(before(1)) || is_month(pieces.get(index + 2)) || is_month(pieces.get(index + 3))));
    let is_dashed = dashed(before(1), before(2)) || dashed(next, pieces.get(index + 2));
    let is_chinese = matches!(next, Some(Piece::Sign('年' | '月' | '日' | '号')));
    let is_year_of_date = is_year && (1..=3).any(|n| is_month(before(n)));
    is_beside_month || is_dashed || is_chinese || is_year_of_date
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(note: &str, source: &str) -> Option<String> {
        first_unknown(note, source, true)
    }

    #[test]
    fn digits_and_words_are_the_same_numbers() {
        for (note, source) in [
            ("3 dogs", "three dogs"),
            ("25 years", "twenty-five years"),
            ("25 years", "twenty five years"),
            ("1,000 and 2.5", "1000 and 2.50"),
            ("13个和25个", "十三个和二十五个"),
            ("2只猫", "两只猫"),
            ("7", "007"),
            ("none", ""),
        ] {
            assert_eq!(unknown(note, source), None, "{note} / {source}");
        }
        assert_eq!(unknown("4 dogs", "three dogs").as_deref(), Some("4"));
        assert_eq!(unknown("100 euros", "10 euros").as_deref(), Some("100"));
    }

    #[test]
    fn dates_may_be_worked_out_where_there_is_a_time() {
        for note in [
            "on 1 May 2026",
            "on May 1, 2026",
            "on the 1st of May 2026",
            "on 2026-05-01",
            "2026年5月1日",
            "in May 2026",
        ] {
            assert_eq!(unknown(note, "yesterday"), None, "{note}");
            assert!(first_unknown(note, "yesterday", false).is_some(), "{note}");
        }
        assert_eq!(unknown("maybe 5 of 7", "some").as_deref(), Some("5"));
        assert_eq!(unknown("room 2026", "a room").as_deref(), Some("2026"));
    }
}
