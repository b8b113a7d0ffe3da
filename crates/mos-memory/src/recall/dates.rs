//! Days that a question asks about, and how near a memory's days are to them.

use std::ops::Range;
use std::sync::LazyLock;

use jiff::civil::Date;
use regex::{Captures, Regex};

use crate::time::{Days, month};

const MONTHS: &str = "january|february|march|april|may|june|july|august|september|october|november|december|jan|feb|mar|apr|\
                      jun|jul|aug|sept|sep|oct|nov|dec";
/// The most years that are tried for a date without one.
const MAX_YEARS: i16 = 60;
/// The most ranges of days of one question.
const MAX_ASKED: usize = 256;

/// What a match means in a year, which matters for dates without one.
type Meaning = fn(&Captures<'_>, i16) -> Option<Days>;

struct Pattern {
    regex: Regex,
    /// Whether the year must be guessed.
    is_without_year: bool,
    meaning: Meaning,
}

/// Patterns over lower-case text. What an earlier one took is not looked at by later ones.
static PATTERNS: LazyLock<Vec<Pattern>> = LazyLock::new(|| {
    let all: [(String, bool, Meaning); 11] = [
        (r"\b(\d{4})-(\d{1,2})-(\d{1,2})".to_owned(), false, |found, _| day(&found[1], number(&found[2])?, &found[3])),
        (format!(r"\b(\d{{1,2}})(?:st|nd|rd|th)?(?: of)? ({MONTHS})\.?,? ?(\d{{4}})\b"), false, |found, _| {
            day(&found[3], month(&found[2])?, &found[1])
        }),
        (format!(r"\b({MONTHS})\.? (\d{{1,2}})(?:st|nd|rd|th)?,? (\d{{4}})\b"), false, |found, _| {
            day(&found[3], month(&found[1])?, &found[2])
        }),
        (r"(\d{4})年(\d{1,2})月(\d{1,2})[日号]".to_owned(), false, |found, _| {
            day(&found[1], number(&found[2])?, &found[3])
        }),
        (format!(r"\b({MONTHS})\.?,?(?: of)? (\d{{4}})\b"), false, |found, _| {
            Days::month(found[2].parse().ok()?, month(&found[1])?)
        }),
        (r"(\d{4})年(\d{1,2})月".to_owned(), false, |found, _| {
            Days::month(found[1].parse().ok()?, number(&found[2])?)
        }),
        (format!(r"\b(\d{{1,2}})(?:st|nd|rd|th)?(?: of)? ({MONTHS})\b"), true, |found, year| {
            Date::new(year, month(&found[2])?, number(&found[1])?).ok().map(Days::one)
        }),
        (format!(r"\b({MONTHS})\.? (\d{{1,2}})(?:st|nd|rd|th)?\b"), true, |found, year| {
            Date::new(year, month(&found[1])?, number(&found[2])?).ok().map(Days::one)
        }),
        (format!(r"\b(?:in|last|next|this|early|late|mid|since|of|until|by|for) ({MONTHS})\b"), true, |found, year| {
            Days::month(year, month(&found[1])?)
        }),
        (r"(\d{1,2})月(?:(\d{1,2})[日号])?".to_owned(), true, |found, year| match found.get(2) {
            None => Days::month(year, number(&found[1])?),
            Some(day) => Date::new(year, number(&found[1])?, number(day.as_str())?).ok().map(Days::one),
        }),
        (r"(?:\b|[^\d])((?:19|20)\d{2})(?:\b|年)".to_owned(), false, |found, _| Days::year(found[1].parse().ok()?)),
    ];
    // The patterns are constants: a test compiles each of them.
    let pattern = |(text, is_without_year, meaning): (String, bool, Meaning)| {
        Some(Pattern { regex: Regex::new(&text).ok()?, is_without_year, meaning })
    };
    all.into_iter().filter_map(pattern).collect()
});

fn number(text: &str) -> Option<i8> {
    text.parse().ok()
}

fn day(year: &str, month: i8, day: &str) -> Option<Days> {
    Date::new(year.parse().ok()?, month, number(day)?).ok().map(Days::one)
}

/// Returns the days that a question names. A date without a year is tried in each year of `span`, the days on which
/// memories were said, from two years before to one after; without a span such dates are left out.
pub(super) fn asked(text: &str, span: Option<Days>) -> Vec<Days> {
    // Lower case of ASCII keeps every place in the text.
    let lower = text.to_ascii_lowercase();
    let mut taken: Vec<Range<usize>> = Vec::new();
    let mut asked: Vec<Days> = Vec::new();
    for pattern in PATTERNS.iter() {
        for found in pattern.regex.captures_iter(&lower) {
            let Some(at) = found.get(0).map(|whole| whole.range()) else { continue };
            if taken.iter().any(|other| at.start < other.end && other.start < at.end) {
                continue;
            }
            let before = asked.len();
            if pattern.is_without_year {
                asked.extend(years(span).filter_map(|year| (pattern.meaning)(&found, year)));
            } else {
                asked.extend((pattern.meaning)(&found, 0));
            }
            if asked.len() > before {
                taken.push(at);
            }
        }
    }
    asked.truncate(MAX_ASKED);
    asked
}

/// The years in which memories may have happened, at most the last 60.
fn years(span: Option<Days>) -> impl Iterator<Item = i16> {
    let (first, last) = span.map_or((1, 0), |span| (span.first().year() - 2, span.last().year() + 1));
    first.max(last - MAX_YEARS)..=last
}

/// Returns the day that a time of the application (`info.chat_time`) or of a memory means: ISO 8601, or a text with a whole
/// date in it such as "1:56 pm on 8 May, 2023". `None` for others, such as "09:00".
pub(super) fn day_of(time: &str) -> Option<Date> {
    let iso = time.get(..10).and_then(|text| text.parse::<Date>().ok());
    let single = || asked(time, None).into_iter().find(|days| days.length() == 0).map(Days::first);
    iso.or_else(single)
}

/// Returns how near a memory's days are to those asked for: 1 where they touch, less with every day between, 0.3 where the
/// memory speaks of a much longer time than was asked for.
pub(super) fn nearness(own: impl Iterator<Item = Days>, asked: &[Days]) -> f32 {
    let mut best = 0.0_f32;
    for own in own {
        for asked in asked {
            best = best.max(nearness_of_one(own, *asked));
        }
    }
    best
}

/// From so many days on, a time is long.
const LONG: u32 = 40;
/// Below so many days, what was asked for is short.
const SHORT: u32 = 10;

fn nearness_of_one(own: Days, asked: Days) -> f32 {
    match own.distance(asked) {
        0 if own.length() > LONG && asked.length() < LONG => 0.3,
        0 => 1.0,
        gap => {
            let patience = if asked.length() < SHORT { 3.0 } else { 10.0 };
            (-(gap as f32) / patience).exp()
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn span() -> Option<Days> {
        Days::new(date(2022, 3, 1), date(2023, 5, 10))
    }

    fn one(year: i16, month: i8, day: i8) -> Days {
        Days::one(date(year, month, day))
    }

    #[test]
    fn every_pattern_is_one() {
        assert_eq!(PATTERNS.len(), 11);
    }

    #[test]
    fn whole_dates_are_one_day() {
        for text in
            ["on 8 May, 2023?", "on May 8th, 2023", "the 8th of May 2023", "on 2023-05-08", "2023年5月8日做了什么"]
        {
            assert_eq!(asked(text, span()), [one(2023, 5, 8)], "{text}");
        }
    }

    #[test]
    fn months_and_years_are_ranges() {
        assert_eq!(asked("in June 2023", None), [Days::new(date(2023, 6, 1), date(2023, 6, 30)).unwrap()]);
        assert_eq!(asked("2023年6月去了哪里", None), [Days::new(date(2023, 6, 1), date(2023, 6, 30)).unwrap()]);
        assert_eq!(asked("what happened in 2022?", None), [Days::new(date(2022, 1, 1), date(2022, 12, 31)).unwrap()]);
        assert_eq!(asked("2022年去了哪里", None), [Days::new(date(2022, 1, 1), date(2022, 12, 31)).unwrap()]);
    }

    #[test]
    fn a_missing_year_is_every_year_of_the_memories() {
        let days = asked("on 8 May", span());
        assert_eq!(days.iter().map(|days| days.first().year()).collect::<Vec<_>>(), [2020, 2021, 2022, 2023, 2024]);
        assert!(days.contains(&one(2022, 5, 8)));
        assert_eq!(asked("in July", span()).len(), 5);
        assert_eq!(asked("5月8日", span()).len(), 5);
        assert!(asked("in July", None).is_empty());
        let wide = Days::new(date(1, 1, 1), date(2023, 1, 1));
        assert!(asked("in July", wide).len() <= MAX_YEARS as usize + 1);
        assert!(asked("on 30 February", span()).is_empty());
    }

    #[test]
    fn what_names_no_day_asks_for_none() {
        for text in ["who may sing?", "room 2016b", "march on", "99 red balloons", ""] {
            assert!(asked(text, span()).is_empty(), "{text}");
        }
    }

    #[test]
    fn times_of_messages_have_a_day() {
        for text in ["2023-05-08T13:56:00", "2023-05-08 13:56", "1:56 pm on 8 May, 2023", "2023年5月8日"] {
            assert_eq!(day_of(text), Some(date(2023, 5, 8)), "{text}");
        }
        for text in ["09:00", "yesterday", "", "May 2023"] {
            assert_eq!(day_of(text), None, "{text}");
        }
    }

    #[test]
    fn nearness_falls_with_the_days_between() {
        let may = Days::new(date(2023, 5, 1), date(2023, 5, 31)).unwrap();
        let near = |own: Days, asked: Days| nearness([own].into_iter(), &[asked]);
        assert_eq!(near(one(2023, 5, 8), may), 1.0);
        assert!((near(one(2023, 5, 11), one(2023, 5, 8)) - (-1.0_f32).exp()).abs() < 1e-6);
        assert!((near(one(2023, 6, 10), may) - (-1.0_f32).exp()).abs() < 1e-6);
        let year = Days::new(date(2023, 1, 1), date(2023, 12, 31)).unwrap();
        assert_eq!(near(year, may), 0.3);
        assert_eq!(near(year, year), 1.0);
        assert_eq!(nearness([year, one(2023, 5, 8)].into_iter(), &[may]), 1.0, "the best counts");
        assert_eq!(nearness(std::iter::empty(), &[may]), 0.0);
    }
}
