//! Ranges of whole days.

use jiff::civil::{Date, Weekday};
use jiff::{Span, ToSpan};

/// Whole days, the last one included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Days {
    first: Date,
    last: Date,
}

/// The seasons of the northern hemisphere, by whole months.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Season {
    /// March to May.
    Spring,
    /// June to August.
    Summer,
    /// September to November.
    Autumn,
    /// December to February.
    Winter,
}

/// A unit in which people count time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Days.
    Day,
    /// Weeks that begin on Monday.
    Week,
    /// Saturdays with their Sundays.
    Weekend,
    /// Calendar months.
    Month,
    /// Calendar years.
    Year,
}

impl Days {
    /// Returns the days from `first` to `last`; `None` when they end before they begin.
    pub fn new(first: Date, last: Date) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// Returns one day.
    pub fn one(day: Date) -> Self {
        Self { first: day, last: day }
    }

    /// The first day.
    pub fn first(self) -> Date {
        self.first
    }

    /// The last day.
    pub fn last(self) -> Date {
        self.last
    }

    /// Returns the days from the first of both to the last of both.
    #[must_use]
    pub fn and_until(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }

    /// Returns how many days lie between both; 0 when they touch or overlap.
    pub fn distance(self, other: Self) -> u32 {
        let between = |earlier: Date, later: Date| {
            earlier.until(later).map_or(0, |span| u32::try_from(span.get_days()).unwrap_or_default())
        };
        between(self.last, other.first).max(between(other.last, self.first))
    }

    /// Returns how many days later than the first the last one is; 0 for one day.
    pub fn length(self) -> u32 {
        Self::one(self.first).distance(Self::one(self.last))
    }

    /// Returns a day of the calendar in the year in which it is nearest to `to`; the earlier one of two as near.
    pub(crate) fn nearest(month: i8, day: i8, to: Date) -> Option<Self> {
        let near = (to.year() - 1..=to.year() + 1).filter_map(|year| Date::new(year, month, day).ok());
        near.map(Self::one).min_by_key(|days| days.distance(Self::one(to)))
    }

    /// A month of the calendar, from 1 to 12.
    pub(crate) fn month(year: i16, month: i8) -> Option<Self> {
        let first = Date::new(year, month, 1).ok()?;
        Self::new(first, first.last_of_month())
    }

    /// A year of the calendar.
    pub(crate) fn year(year: i16) -> Option<Self> {
        Self::new(Date::new(year, 1, 1).ok()?, Date::new(year, 12, 31).ok()?)
    }

    /// The season that begins in `year`.
    pub(super) fn season(season: Season, year: i16) -> Option<Self> {
        let month = match season {
            Season::Spring => 3,
            Season::Summer => 6,
            Season::Autumn => 9,
            Season::Winter => 12,
        };
        let first = Date::new(year, month, 1).ok()?;
        Self::new(first, later(first, 2, Unit::Month)?.last_of_month())
    }

    /// The unit in which `day` lies; for a weekend, that of the day's week.
    pub(super) fn around(day: Date, unit: Unit) -> Option<Self> {
        let monday = || day.checked_sub(i64::from(day.weekday().to_monday_zero_offset()).days()).ok();
        match unit {
            Unit::Day => Some(Self::one(day)),
            Unit::Week => Self::new(monday()?, later(monday()?, 6, Unit::Day)?),
            Unit::Weekend => {
                let saturday = later(monday()?, 5, Unit::Day)?;
                Self::new(saturday, later(saturday, 1, Unit::Day)?)
            }
            Unit::Month => Self::month(day.year(), day.month()),
            Unit::Year => Self::year(day.year()),
        }
    }

    /// The unit that lies `count` units after the one of `day` (before, when negative).
    pub(super) fn shifted(day: Date, count: i64, unit: Unit) -> Option<Self> {
        // From the first of a month or year: their lengths differ.
        let from = match unit {
            Unit::Day | Unit::Week | Unit::Weekend => day,
            Unit::Month | Unit::Year => Self::around(day, unit)?.first,
        };
        Self::around(later(from, count, unit)?, unit)
    }
}

/// The day that is `count` units later.
pub(super) fn later(day: Date, count: i64, unit: Unit) -> Option<Date> {
    let span = match unit {
        Unit::Day => Span::new().try_days(count),
        Unit::Week | Unit::Weekend => Span::new().try_weeks(count),
        Unit::Month => Span::new().try_months(count),
        Unit::Year => Span::new().try_years(count),
    };
    day.checked_add(span.ok()?).ok()
}

/// The latest such weekday before `day`.
pub(super) fn weekday_before(day: Date, weekday: Weekday) -> Option<Date> {
    day.nth_weekday(-1, weekday).ok()
}

/// The earliest such weekday after `day`.
pub(super) fn weekday_after(day: Date, weekday: Weekday) -> Option<Date> {
    day.nth_weekday(1, weekday).ok()
}

/// That weekday in the week of `day`, `weeks` weeks later.
pub(super) fn weekday_of_week(day: Date, weekday: Weekday, weeks: i64) -> Option<Date> {
    let monday = Days::shifted(day, weeks, Unit::Week)?.first;
    later(monday, i64::from(weekday.to_monday_zero_offset()), Unit::Day)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn days(first: Date, last: Date) -> Option<Days> {
        Days::new(first, last)
    }

    #[test]
    fn units_are_those_of_the_calendar() {
        let wednesday = date(2024, 1, 31);
        assert_eq!(Days::around(wednesday, Unit::Week), days(date(2024, 1, 29), date(2024, 2, 4)));
        assert_eq!(Days::around(wednesday, Unit::Weekend), days(date(2024, 2, 3), date(2024, 2, 4)));
        assert_eq!(Days::shifted(wednesday, 1, Unit::Month), days(date(2024, 2, 1), date(2024, 2, 29)));
        assert_eq!(Days::shifted(wednesday, -1, Unit::Year), Days::year(2023));
        assert_eq!(Days::season(Season::Winter, 2023), days(date(2023, 12, 1), date(2024, 2, 29)));
        assert_eq!(weekday_of_week(wednesday, Weekday::Sunday, -1), Some(date(2024, 1, 28)));
        assert_eq!(weekday_before(wednesday, Weekday::Wednesday), Some(date(2024, 1, 24)));
        assert_eq!(days(date(2024, 1, 2), date(2024, 1, 1)), None);
    }

    #[test]
    fn distances_count_days_in_both_directions() {
        let (may, june) = (Days::month(2023, 5).expect("May"), Days::month(2023, 6).expect("June"));
        assert_eq!((may.distance(june), june.distance(may), may.distance(may)), (1, 1, 0));
        assert_eq!(Days::one(date(2023, 5, 1)).distance(june), 31);
        assert_eq!(Days::one(date(2023, 5, 10)).distance(may), 0);
    }
}
