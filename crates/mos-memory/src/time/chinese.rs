//! Expressions of time in Chinese.

use std::sync::LazyLock;

use jiff::civil::{Date, Weekday};
use regex::{Captures, Regex};

use super::Expression;
use super::days::{Days, Unit, weekday_of_week};

const COUNTS: &str = "[0-9]{1,4}|[一二两三四五六七八九十]|十[一二]|几";

type Meaning = fn(&Captures<'_>, Date) -> Option<Days>;

static PATTERNS: LazyLock<Vec<(Regex, Meaning)>> = LazyLock::new(|| {
    let all: [(String, Meaning); 7] = [
        ("(前天|昨天|昨晚|昨夜|今天|今晚|今早|今晨|明天|明晚|后天)".to_owned(), near_day),
        ("(上上|上|这|本|下)个?(?:周|星期|礼拜)([一二三四五六日天末])?".to_owned(), week),
        ("(上|这|本|下)个?月".to_owned(), |found, day| Days::shifted(day, direction(&found[1]), Unit::Month)),
        ("(前年|去年|今年|明年|后年)".to_owned(), year),
        (format!("({COUNTS})个?(天|日|周|星期|礼拜|月|年)(之前|以前|前|之后|以后|后)"), counted),
        ("([0-9]{4})年(?:([0-9]{1,2})月(?:([0-9]{1,2})[日号])?)?".to_owned(), calendar),
        ("([0-9]{1,2})月([0-9]{1,2})[日号]".to_owned(), calendar_day),
    ];
    // The patterns are constants: a test compiles each of them.
    all.into_iter().filter_map(|(pattern, meaning)| Some((Regex::new(&pattern).ok()?, meaning))).collect()
});

/// Returns every expression that is found, also overlapping ones.
pub(super) fn find(text: &str, said_on: Date) -> Vec<Expression> {
    let mut found = Vec::new();
    for (pattern, meaning) in PATTERNS.iter() {
        for captures in pattern.captures_iter(text) {
            if let (Some(whole), Some(days)) = (captures.get(0), meaning(&captures, said_on)) {
                found.push(Expression { at: whole.range(), days });
            }
        }
    }
    found
}

fn near_day(found: &Captures<'_>, day: Date) -> Option<Days> {
    let offset = match &found[1] {
        "前天" => -2,
        "昨天" | "昨晚" | "昨夜" => -1,
        "明天" | "明晚" => 1,
        "后天" => 2,
        _ => 0,
    };
    Days::shifted(day, offset, Unit::Day)
}

fn direction(word: &str) -> i64 {
    match word {
        "上上" => -2,
        "上" => -1,
        "下" => 1,
        _ => 0,
    }
}

/// 上周, 上周五, 下周末.
fn week(found: &Captures<'_>, day: Date) -> Option<Days> {
    let weeks = direction(&found[1]);
    let Some(part) = found.get(2) else { return Days::shifted(day, weeks, Unit::Week) };
    let weekday = match part.as_str() {
        "末" => return Days::shifted(day, weeks, Unit::Weekend),
        "一" => Weekday::Monday,
        "二" => Weekday::Tuesday,
        "三" => Weekday::Wednesday,
        "四" => Weekday::Thursday,
        "五" => Weekday::Friday,
        "六" => Weekday::Saturday,
        _ => Weekday::Sunday,
    };
    weekday_of_week(day, weekday, weeks).map(Days::one)
}

fn year(found: &Captures<'_>, day: Date) -> Option<Days> {
    let offset = match &found[1] {
        "前年" => -2,
        "去年" => -1,
        "明年" => 1,
        "后年" => 2,
        _ => 0,
    };
    Days::shifted(day, offset, Unit::Year)
}

/// 三天前, 两周后. 几 is a range.
fn counted(found: &Captures<'_>, day: Date) -> Option<Days> {
    let (least, most) = match &found[1] {
        "几" => (2, 6),
        count => number(count).map(|count| (count, count))?,
    };
    let unit = match &found[2] {
        "天" | "日" => Unit::Day,
        "月" => Unit::Month,
        "年" => Unit::Year,
        _ => Unit::Week,
    };
    let direction = if found[3].contains('前') { -1 } else { 1 };
    let (near, far) = (Days::shifted(day, direction * least, unit)?, Days::shifted(day, direction * most, unit)?);
    Some(near.and_until(far))
}

fn number(text: &str) -> Option<i64> {
    const DIGITS: &str = "一二三四五六七八九十";
    let digit = |character: char| DIGITS.chars().position(|known| known == character).map(|place| place as i64 + 1);
    let mut characters = text.chars();
    match (characters.next()?, characters.next()) {
        ('两', None) => Some(2),
        ('十', Some(second)) => Some(10 + digit(second)?),
        (first, None) if !first.is_ascii_digit() => digit(first),
        _ => text.parse().ok(),
    }
}

/// 2023年, 2023年5月, 2023年5月8日.
fn calendar(found: &Captures<'_>, _: Date) -> Option<Days> {
    let year = found[1].parse().ok()?;
    let Some(month) = found.get(2) else { return Days::year(year) };
    let month = month.as_str().parse().ok()?;
    let Some(day) = found.get(3) else { return Days::month(year, month) };
    Date::new(year, month, day.as_str().parse().ok()?).ok().map(Days::one)
}

/// 5月8日 of the nearest year.
fn calendar_day(found: &Captures<'_>, said_on: Date) -> Option<Days> {
    let (month, day) = (found[1].parse().ok()?, found[2].parse().ok()?);
    Days::nearest(month, day, said_on)
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

    #[test]
    fn every_pattern_is_one() {
        assert_eq!(PATTERNS.len(), 7);
    }

    #[test]
    fn expressions_are_resolved() {
        let day = |year, month, day| Some((date(year, month, day), date(year, month, day)));
        for (text, expected) in [
            ("我昨天去了公园", day(2023, 5, 9)),
            ("前天下雨", day(2023, 5, 8)),
            ("上周五见面", day(2023, 5, 5)),
            ("下星期天", day(2023, 5, 21)),
            ("三天前", day(2023, 5, 7)),
            ("2023年5月8日", day(2023, 5, 8)),
            ("12月24号", day(2022, 12, 24)),
            ("上周", Some((date(2023, 5, 1), date(2023, 5, 7)))),
            ("上个月", Some((date(2023, 4, 1), date(2023, 4, 30)))),
            ("去年", Some((date(2022, 1, 1), date(2022, 12, 31)))),
            ("十二年前", Some((date(2011, 1, 1), date(2011, 12, 31)))),
            ("几天前", Some((date(2023, 5, 4), date(2023, 5, 8)))),
            ("2021年6月", Some((date(2021, 6, 1), date(2021, 6, 30)))),
            ("两个月后", Some((date(2023, 7, 1), date(2023, 7, 31)))),
            ("2023年13月", None),
            ("没有时间", None),
        ] {
            assert_eq!(days(text), expected, "{text}");
        }
    }
}
