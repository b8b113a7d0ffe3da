//! The time that a text speaks of: dates and expressions such as "last Friday", resolved against the moment at which it was
//! said.
//!
//! A resolved time is a range of whole days. "Last week" is the week before from Monday to Sunday (ISO 8601), "last
//! summer" the latest June to August that is over; a month without a year is the one nearest to the moment, the past one
//! unless the expression looks ahead. What cannot be dated ("recently", "soon") is left out.

mod chinese;
mod days;
mod english;

use jiff::civil::Date;

pub use days::Days;
pub(crate) use english::month;

/// The most expressions of one text that are resolved.
const MAX_EXPRESSIONS: usize = 32;

/// An expression of time in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    /// The bytes of the text that it takes.
    pub at: std::ops::Range<usize>,
    /// The days that are meant.
    pub days: Days,
}

/// Returns the expressions of time in a text that was said on the day `said_on`, in the order of the text, at most 32.
/// Expressions do not overlap: of two that begin in the same word, the longer one counts.
pub fn expressions(text: &str, said_on: Date) -> Vec<Expression> {
    let mut found = english::find(text, said_on);
    found.extend(chinese::find(text, said_on));
    found.sort_by(|left, right| left.at.start.cmp(&right.at.start).then(right.at.end.cmp(&left.at.end)));
    let mut kept: Vec<Expression> = Vec::new();
    for expression in found {
        if kept.last().is_none_or(|last| last.at.end <= expression.at.start) {
            kept.push(expression);
        }
    }
    kept.truncate(MAX_EXPRESSIONS);
    kept
}

/// Returns the days that all expressions of a text cover together, from the first to the last; `None` without one.
pub fn days_of(text: &str, said_on: Date) -> Option<Days> {
    let all = expressions(text, said_on).into_iter().map(|expression| expression.days);
    all.reduce(Days::and_until)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn expressions_come_in_order_and_do_not_overlap() {
        let text = "Yesterday we met; the day before yesterday it rained. 上周五下雨了。";
        let found = expressions(text, date(2023, 5, 10));
        let words: Vec<&str> = found.iter().map(|one| &text[one.at.clone()]).collect();
        assert_eq!(words, ["Yesterday", "the day before yesterday", "上周五"]);
        assert_eq!(found[1].days, Days::one(date(2023, 5, 8)));
        assert_eq!(found[2].days, Days::one(date(2023, 5, 5)));
        assert_eq!(days_of(text, date(2023, 5, 10)), Days::new(date(2023, 5, 5), date(2023, 5, 9)));
        assert_eq!(days_of("nothing here", date(2023, 5, 10)), None);
    }

    #[test]
    fn a_text_of_many_expressions_is_bounded() {
        assert_eq!(expressions(&"yesterday ".repeat(500), date(2023, 5, 10)).len(), MAX_EXPRESSIONS);
    }

    #[test]
    fn the_ends_of_the_calendar_are_no_trouble() {
        for day in [Date::MIN, Date::MAX] {
            for text in [
                "yesterday",
                "tomorrow",
                "9999999999 years ago",
                "900000 weeks ago",
                "in 9999 months",
                "last week",
                "next year",
                "32 May 2023",
                "2023-13-40",
                "last winter",
                "前年",
                "99999天前",
            ] {
                expressions(text, day);
            }
        }
    }
}
