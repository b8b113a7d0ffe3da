//! Instructions that push a number, a text or bytes.

use super::budget::Budget;
use super::cursor::Cursor;
use super::error::PickleError;
use super::value::Value;

/// What such an instruction pushes.
pub(super) enum Literal<'a> {
    Value(Value<'a>),
    /// A text that had to be unescaped.
    Text(String),
}

/// Runs an instruction that pushes a literal; `None` when `opcode` is another one. `at` is where it stands.
///
/// # Errors
/// The literal is cut off or is none.
pub(super) fn read<'a>(
    opcode: u8,
    cursor: &mut Cursor<'a>,
    at: usize,
    budget: &mut Budget,
) -> Result<Option<Literal<'a>>, PickleError> {
    let value = match opcode {
        b'N' => Value::None,
        0x88 => Value::Bool(true),
        0x89 => Value::Bool(false),
        b'J' => Value::Int(i64::from(i32::from_le_bytes(cursor.array("a number")?))),
        b'K' => Value::Int(i64::from(cursor.u8("a number")?)),
        b'M' => Value::Int(i64::from(u16::from_le_bytes(cursor.array("a number")?))),
        0x8a => long(cursor.counted_u8("a number")?),
        0x8b => long(cursor.counted_u32("a number")?),
        b'G' => Value::Float(f64::from_be_bytes(cursor.array("a number")?)),
        b'I' | b'L' | b'F' => number_line(opcode, cursor.line("a number")?, at)?,
        0x8c => text(cursor.counted_u8("a text")?, at, budget)?,
        b'X' => text(cursor.counted_u32("a text")?, at, budget)?,
        0x8d => text(cursor.counted_u64("a text")?, at, budget)?,
        b'V' => {
            let line = cursor.line("a text")?;
            if !line.is_ascii() || line.contains(&b'\\') {
                budget.memory(line.len().saturating_mul(2), at)?;
                return Ok(Some(Literal::Text(unescape(line, at)?)));
            }
            text(line, at, budget)?
        }
        b'C' => Value::Bytes(cursor.counted_u8("bytes")?),
        b'B' => Value::Bytes(cursor.counted_u32("bytes")?),
        0x8e | 0x96 => Value::Bytes(cursor.counted_u64("bytes")?),
        _ => return Ok(None),
    };
    Ok(Some(Literal::Value(value)))
}

fn text<'a>(bytes: &'a [u8], at: usize, budget: &mut Budget) -> Result<Value<'a>, PickleError> {
    budget.steps(bytes.len(), at)?;
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Value::Text(text)),
        Err(_) => Err(PickleError::malformed(at, "a text is not UTF-8")),
    }
}

/// Reads two's complement, lowest byte first; no bytes are zero.
fn long(bytes: &[u8]) -> Value<'_> {
    let Some(top) = bytes.last() else { return Value::Int(0) };
    if let [low @ .., 0] = bytes
        && let Ok(low) = <[u8; 8]>::try_from(low)
    {
        return Value::Unsigned(u64::from_le_bytes(low));
    }
    if bytes.len() > 8 {
        return Value::Long(bytes);
    }
    let mut wide = [if *top >= 0x80 { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(wide))
}

fn number_line<'a>(opcode: u8, line: &[u8], at: usize) -> Result<Value<'a>, PickleError> {
    let text = std::str::from_utf8(line).unwrap_or_default();
    let value = match (opcode, text) {
        (b'I', "00") => Some(Value::Bool(false)),
        (b'I', "01") => Some(Value::Bool(true)),
        (b'F', text) => text.parse().ok().map(Value::Float),
        (_, text) => {
            let digits = text.strip_suffix('L').unwrap_or(text);
            digits.parse().map(Value::Int).or_else(|_| digits.parse().map(Value::Unsigned)).ok()
        }
    };
    value.ok_or_else(|| PickleError::malformed(at, "a number cannot be read, or has more than 64 bits"))
}

/// Reads Latin-1 in which `\u` and four digits, or `\U` and eight, stand for a character.
fn unescape(line: &[u8], at: usize) -> Result<String, PickleError> {
    let mut result = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((first, after)) = rest.split_first() {
        let digits = match (first, after.first()) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => {
                result.push(char::from(*first));
                rest = after;
                continue;
            }
        };
        let escaped = after.get(1..=digits).filter(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        let character = escaped
            .and_then(|hex| u32::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok())
            .and_then(char::from_u32)
            .ok_or_else(|| PickleError::malformed(at, "a text has an escape that is no character"))?;
        result.push(character);
        rest = &after[1 + digits..];
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(bytes: &[u8]) -> i64 {
        match long(bytes) {
            Value::Int(number) => number,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn integers_are_twos_complement_of_any_length() {
        assert_eq!(value(&[]), 0);
        assert_eq!(value(&[0xff]), -1);
        assert_eq!(value(&[0xff, 0]), 255);
        assert_eq!(value(&i64::MIN.to_le_bytes()), i64::MIN);
        assert!(matches!(long(&[0, 0, 0, 0, 0, 0, 0, 0x80, 0]), Value::Unsigned(0x8000_0000_0000_0000)));
        assert!(matches!(long(&[0, 0, 0, 0, 0, 0, 0, 0x80, 1]), Value::Long(_)));
    }

    #[test]
    fn escaped_texts_are_read_as_python_writes_them() {
        assert_eq!(unescape(br"a\u005cb\u00e9\U0001f600", 0).unwrap(), "a\\bé😀");
        assert_eq!(unescape(b"\xe9\\x", 0).unwrap(), "é\\x");
        assert!(unescape(br"\ud800", 0).is_err());
        assert!(unescape(br"\u12", 0).is_err());
        assert!(unescape(br"\U00110000", 0).is_err());
    }
}
