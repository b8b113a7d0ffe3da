//! Points in time as Python packs them.

use super::value::{Heap, Object, Value};

/// Returns a packed `datetime.datetime`, or `datetime.date`, as Python's `isoformat` writes it; `None` when the
/// arguments are something else.
pub(super) fn point<'a>(is_date: bool, arguments: &[Value<'a>], heap: &Heap<'a>) -> Option<String> {
    let (packed, zone) = match arguments {
        [packed] => (*packed, None),
        [packed, zone] if !is_date => (*packed, Some(*zone)),
        _ => return None,
    };
    let packed = heap.source(packed)?;
    let text =
        if is_date { date(packed.bytes().try_into().ok()?)? } else { date_time(packed.bytes().try_into().ok()?)? };
    let zone = match zone.map(|zone| heap.of(zone)) {
        None => String::new(),
        Some(Some(Object::Seconds(seconds))) => offset(*seconds)?,
        Some(_) => return None,
    };
    Some(text + &zone)
}

fn date([high, low, month, day]: [u8; 4]) -> Option<String> {
    let year = u16::from_be_bytes([high, low]);
    let valid = (1..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    valid.then(|| format!("{year:04}-{month:02}-{day:02}"))
}

fn date_time([high, low, month, day, hour, minute, second, micro @ ..]: [u8; 10]) -> Option<String> {
    // The highest bit of the month tells the two readings of an hour that a clock change repeats.
    let date = date([high, low, month & 0x7f, day])?;
    let micro = u32::from_be_bytes([0, micro[0], micro[1], micro[2]]);
    if hour > 23 || minute > 59 || second > 59 || micro > 999_999 {
        return None;
    }
    let fraction = if micro == 0 { String::new() } else { format!(".{micro:06}") };
    Some(format!("{date}T{hour:02}:{minute:02}:{second:02}{fraction}"))
}

/// Returns an offset from UTC; `None` from a day on.
fn offset(seconds: i64) -> Option<String> {
    let (sign, size) = if seconds < 0 { ('-', seconds.checked_neg()?) } else { ('+', seconds) };
    if size >= 86_400 {
        return None;
    }
    let rest = if size % 60 == 0 { String::new() } else { format!(":{:02}", size % 60) };
    Some(format!("{sign}{:02}:{:02}{rest}", size / 3600, size / 60 % 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_written_as_python_writes_them() {
        assert_eq!(offset(0).unwrap(), "+00:00");
        assert_eq!(offset(19_800).unwrap(), "+05:30");
        assert_eq!(offset(-12_600).unwrap(), "-03:30");
        assert_eq!(offset(86_400), None);
        assert_eq!(offset(i64::MIN), None);
    }

    #[test]
    fn a_packed_time_that_no_clock_shows_is_refused() {
        assert_eq!(date_time([7, 234, 1, 2, 3, 4, 5, 0, 0, 0]).unwrap(), "2026-01-02T03:04:05");
        assert_eq!(date_time([7, 234, 0x81, 2, 3, 4, 5, 0x0a, 0x5b, 0xa5]).unwrap(), "2026-01-02T03:04:05.678821");
        assert_eq!(date_time([7, 234, 13, 2, 3, 4, 5, 0, 0, 0]), None);
        assert_eq!(date_time([7, 234, 1, 2, 24, 4, 5, 0, 0, 0]), None);
        assert_eq!(date_time([7, 234, 1, 2, 3, 4, 5, 255, 255, 255]), None);
    }
}
