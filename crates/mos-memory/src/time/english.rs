//! Expressions of time in English.

use std::sync::LazyLock;

use jiff::civil::{Date, Weekday};
use regex::{Captures, Regex};

use super::Expression;
use super::days::{Days, Season, Unit, weekday_after, weekday_before, weekday_of_week};

const MONTHS: &str = "january|february|march|april|may|june|july|august|september|october|november|december|jan|feb|mar|apr|\
                      jun|jul|aug|sept|sep|oct|nov|dec";
const WEEKDAYS: &str =
    "monday|tuesday|wednesday|thursday|friday|saturday|sunday|mon|tues|tue|wed|thurs|thur|thu|fri|sat|sun";
const COUNTS: &str = "[0-9]{1,4}|a few|several|a couple of|a couple|couple of|a|an|one|two|three|four|five|six|seven|eight|nine|\
                      ten|eleven|twelve";
const UNITS: &str = "days?|weeks?|weekends?|months?|years?";

/// What a match means; `None` when it is no time after all.
type Meaning = fn(&Captures<'_>, Date) -> Option<Days>;

/// Patterns over lower-case text, each with its meaning. Where several begin at the same place, the longest match counts.
static PATTERNS: LazyLock<Vec<(Regex, Meaning)>> = LazyLock::new(|| {
    let all: [(String, Meaning); 14] = [
        (r"\b(the day before yesterday|yesterday|last night|today|tonight|this (?:morning|afternoon|evening)|the day after tomorrow|tomorrow)\b".to_owned(), near_day),
        (format!(r"\b({COUNTS}) ({UNITS}) (ago|back|later|from now)\b"), counted),
        (format!(r"\bin ({COUNTS}) ({UNITS})\b"), ahead),
        (r"\b(last|past|previous|this|current|next|coming) (week|weekend|month|year)\b".to_owned(), neighbour),
        (format!(r"\b(?:(last|past|this|next|coming|on) )?({WEEKDAYS})\b"), weekday),
        (r"\b(last|past|this|next) (spring|summer|autumn|fall|winter)\b".to_owned(), season),
        (format!(r"\b(last|past|this|next) ({MONTHS})\b"), named_month),
        (r"\b(\d{4})-(\d{2})-(\d{2})\b".to_owned(), iso),
        (format!(r"\b(\d{{1,2}})(?:st|nd|rd|th)?(?: of)? ({MONTHS})\b\.?(?:,? (\d{{4}})\b)?"), |found, day| {
            calendar_day(&found[1], &found[2], found.get(3).map(|year| year.as_str()), day)
        }),
        (format!(r"\b({MONTHS})\b\.? (\d{{1,2}})(?:st|nd|rd|th)?\b(?:,? (\d{{4}})\b)?"), |found, day| {
            calendar_day(&found[2], &found[1], found.get(3).map(|year| year.as_str()), day)
        }),
        (format!(r"\b({MONTHS})\b\.?,?(?: of)? (\d{{4}})\b"), |found, _| Days::month(found[2].parse().ok()?, month(&found[1])?)),
        (format!(r"\b(?:in|since|during|early|late|mid|until|by) ({MONTHS})\b"), |found, day| nearest_month(&found[1], day)),
        (r"\b(spring|summer|autumn|fall|winter)(?: of)? (\d{4})\b".to_owned(), |found, _| {
            Days::season(season_named(&found[1])?, found[2].parse().ok()?)
        }),
        (r"\b(?:in|since|during|of|until|by|back in) ((?:19|20)\d{2})\b".to_owned(), |found, _| Days::year(found[1].parse().ok()?)),
    ];
    // The patterns are constants: a test compiles each of them.
    all.into_iter().filter_map(|(pattern, meaning)| Some((Regex::new(&pattern).ok()?, meaning))).collect()
});

/// Returns every expression that is found, also overlapping ones.
pub(super) fn find(text: &str, said_on: Date) -> Vec<Expression> {
    // Lower case of ASCII keeps every place in the text.
    let lower = text.to_ascii_lowercase();
    let mut found = Vec::new();
    for (pattern, meaning) in PATTERNS.iter() {
        for captures in pattern.captures_iter(&lower) {
            if let (Some(whole), Some(days)) = (captures.get(0), meaning(&captures, said_on)) {
                found.push(Expression { at: whole.range(), days });
            }
        }
    }
    found
}

fn near_day(found: &Captures<'_>, day: Date) -> Option<Days> {
    let offset = match &found[1] {
        "the day before yesterday" => -2,
        "yesterday" | "last night" => -1,
        "tomorrow" => 1,
        "the day after tomorrow" => 2,
        _ => 0,
    };
    Days::shifted(day, offset, Unit::Day)
}

/// "Two weeks ago", "three days later".
fn counted(found: &Captures<'_>, day: Date) -> Option<Days> {
    let direction = if ["ago", "back"].contains(&&found[3]) { -1 } else { 1 };
    at_distance(&found[1], &found[2], direction, day)
}

/// "In two weeks".
fn ahead(found: &Captures<'_>, day: Date) -> Option<Days> {
    at_distance(&found[1], &found[2], 1, day)
}

fn at_distance(count: &str, unit: &str, direction: i64, day: Date) -> Option<Days> {
    let (least, most) = count_range(count)?;
    let unit = unit_named(unit)?;
    let (near, far) = (Days::shifted(day, direction * least, unit)?, Days::shifted(day, direction * most, unit)?);
    Some(near.and_until(far))
}

/// "A few" is a range.
fn count_range(text: &str) -> Option<(i64, i64)> {
    const WORDS: [&str; 12] =
        ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];
    let exact = |count: i64| Some((count, count));
    match text {
        "a" | "an" => exact(1),
        "a few" | "several" => Some((2, 6)),
        "a couple of" | "a couple" | "couple of" => Some((2, 3)),
        _ => match WORDS.iter().position(|word| *word == text) {
            Some(place) => exact(place as i64 + 1),
            None => exact(text.parse().ok()?),
        },
    }
}

fn unit_named(text: &str) -> Option<Unit> {
    match text.trim_end_matches('s') {
        "day" => Some(Unit::Day),
        "week" => Some(Unit::Week),
        "weekend" => Some(Unit::Weekend),
        "month" => Some(Unit::Month),
        "year" => Some(Unit::Year),
        _ => None,
    }
}

/// -1, 0 or 1.
fn direction(word: &str) -> i64 {
    match word {
        "last" | "past" | "previous" => -1,
        "next" | "coming" => 1,
        _ => 0,
    }
}

/// "Last week", "this month".
fn neighbour(found: &Captures<'_>, day: Date) -> Option<Days> {
    let unit = unit_named(&found[2])?;
    // The coming weekend is that of this week until it has begun.
    let has_begun = day.weekday().to_monday_zero_offset() >= 5;
    if unit == Unit::Weekend && &found[1] == "coming" && !has_begun {
        return Days::around(day, unit);
    }
    Days::shifted(day, direction(&found[1]), unit)
}

/// "Last Friday" and "on Friday" are behind, "next Friday" is ahead, "this Friday" is in the same week. A weekday alone may be
/// any, so it is no time.
fn weekday(found: &Captures<'_>, day: Date) -> Option<Days> {
    let weekday = weekday_named(&found[2])?;
    let named = match found.get(1)?.as_str() {
        "next" | "coming" => weekday_after(day, weekday),
        "this" => weekday_of_week(day, weekday, 0),
        _ => weekday_before(day, weekday),
    };
    named.map(Days::one)
}

fn weekday_named(text: &str) -> Option<Weekday> {
    Some(match text.get(..3)? {
        "mon" => Weekday::Monday,
        "tue" => Weekday::Tuesday,
        "wed" => Weekday::Wednesday,
        "thu" => Weekday::Thursday,
        "fri" => Weekday::Friday,
        "sat" => Weekday::Saturday,
        "sun" => Weekday::Sunday,
        _ => return None,
    })
}

fn season_named(text: &str) -> Option<Season> {
    match text {
        "spring" => Some(Season::Spring),
        "summer" => Some(Season::Summer),
        "autumn" | "fall" => Some(Season::Autumn),
        "winter" => Some(Season::Winter),
        _ => None,
    }
}

/// "Last summer" is the latest that is over, "next summer" the first that has not begun.
fn season(found: &Captures<'_>, day: Date) -> Option<Days> {
    let season = season_named(&found[2])?;
    let year = day.year();
    let mut near = (year - 2..=year + 2).filter_map(|year| Days::season(season, year));
    match direction(&found[1]) {
        -1 => near.rev().find(|days| days.last() < day),
        1 => near.find(|days| days.first() > day),
        _ => near.find(|days| days.last() >= day),
    }
}

/// The number of the month that a word names in English, whole or by its first three letters, in lower case.
pub(crate) fn month(text: &str) -> Option<i8> {
    const STEMS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let stem = text.get(..3)?;
    STEMS.iter().position(|known| *known == stem).map(|place| place as i8 + 1)
}

/// "Last May" is the latest that is over, "this May" that of the year, "next May" the first that has not begun.
fn named_month(found: &Captures<'_>, day: Date) -> Option<Days> {
    let (month, year) = (month(&found[2])?, day.year());
    let mut near = (year - 2..=year + 2).filter_map(|year| Days::month(year, month));
    match direction(&found[1]) {
        -1 => near.rev().find(|days| days.last() < day),
        1 => near.find(|days| days.first() > day),
        _ => Days::month(year, month),
    }
}

/// A month without a year: of the last one, this one and the next one, the nearest; the past one of two as near.
fn nearest_month(name: &str, day: Date) -> Option<Days> {
    let month = month(name)?;
    let near = (day.year() - 1..=day.year() + 1).filter_map(|year| Days::month(year, month));
    near.min_by_key(|days| days.distance(Days::one(day)))
}

fn calendar_day(number: &str, name: &str, year: Option<&str>, said_on: Date) -> Option<Days> {
    let (number, month) = (number.parse().ok()?, month(name)?);
    if let Some(year) = year {
        return Date::new(year.parse().ok()?, month, number).ok().map(Days::one);
    }
    Days::nearest(month, number, said_on)
}

fn iso(found: &Captures<'_>, _: Date) -> Option<Days> {
    Date::new(found[1].parse().ok()?, found[2].parse().ok()?, found[3].parse().ok()?).ok().map(Days::one)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;
    use crate::time::expressions;

    /// Said on Wednesday, 10 May 2023.
    fn days(text: &str) -> Option<(Date, Date)> {
        let found = expressions(text, date(2023, 5, 10));
        assert!(found.len() <= 1, "{text}: {found:?}");
        found.first().map(|one| (one.days.first(), one.days.last()))
    }

    fn day(text: &str) -> Date {
        let (first, last) = days(text).unwrap_or_else(|| panic!("`{text}` is no time"));
        assert_eq!(first, last, "{text}");
        first
    }

    #[test]
    fn every_pattern_is_one() {
        assert_eq!(PATTERNS.len(), 14);
    }

    #[test]
    fn days_near_the_moment() {
        assert_eq!(day("I saw her Yesterday."), date(2023, 5, 9));
        assert_eq!(day("last night was fun"), date(2023, 5, 9));
        assert_eq!(day("the day after tomorrow"), date(2023, 5, 12));
        assert_eq!(day("this morning"), date(2023, 5, 10));
        assert_eq!(day("three days ago"), date(2023, 5, 7));
        assert_eq!(day("in 2 days"), date(2023, 5, 12));
        assert_eq!(days("a few days ago"), Some((date(2023, 5, 4), date(2023, 5, 8))));
    }

    #[test]
    fn weekdays_look_back_unless_they_look_ahead() {
        assert_eq!(day("we met last Friday"), date(2023, 5, 5));
        assert_eq!(day("on Wednesday"), date(2023, 5, 3));
        assert_eq!(day("next Wednesday"), date(2023, 5, 17));
        assert_eq!(day("this Sunday"), date(2023, 5, 14));
        assert_eq!(days("Fridays are best, every Friday"), None);
        assert_eq!(days("the sun and the sat nav"), None);
    }

    #[test]
    fn weeks_months_years_and_seasons() {
        assert_eq!(days("last week"), Some((date(2023, 5, 1), date(2023, 5, 7))));
        assert_eq!(days("next weekend"), Some((date(2023, 5, 20), date(2023, 5, 21))));
        assert_eq!(days("two weekends ago"), Some((date(2023, 4, 29), date(2023, 4, 30))));
        assert_eq!(days("last month"), Some((date(2023, 4, 1), date(2023, 4, 30))));
        assert_eq!(days("10 years ago"), Some((date(2013, 1, 1), date(2013, 12, 31))));
        assert_eq!(days("last summer"), Some((date(2022, 6, 1), date(2022, 8, 31))));
        assert_eq!(days("last winter"), Some((date(2022, 12, 1), date(2023, 2, 28))));
        assert_eq!(days("this summer"), Some((date(2023, 6, 1), date(2023, 8, 31))));
        assert_eq!(days("last May"), Some((date(2022, 5, 1), date(2022, 5, 31))));
        assert_eq!(days("a couple of months ago"), Some((date(2023, 2, 1), date(2023, 3, 31))));
    }

    #[test]
    fn dates_of_the_calendar() {
        for text in ["8 May, 2023", "8th of May 2023", "May 8th, 2023", "may 8", "2023-05-08", "the 8th of May"] {
            assert_eq!(day(text), date(2023, 5, 8), "{text}");
        }
        assert_eq!(day("on December 24"), date(2022, 12, 24));
        assert_eq!(days("in December"), Some((date(2022, 12, 1), date(2022, 12, 31))));
        assert_eq!(days("in June"), Some((date(2023, 6, 1), date(2023, 6, 30))));
        assert_eq!(days("June 2021"), Some((date(2021, 6, 1), date(2021, 6, 30))));
        assert_eq!(days("31 April 2023"), Some((date(2023, 4, 1), date(2023, 4, 30))));
        assert_eq!(days("since 2016"), Some((date(2016, 1, 1), date(2016, 12, 31))));
        assert_eq!(days("summer of 2021"), Some((date(2021, 6, 1), date(2021, 8, 31))));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in ["I may go", "march on", "room 2016", "a week", "it takes 2 days", "sometime", ""] {
            assert_eq!(days(text), None, "{text}");
        }
    }
}
