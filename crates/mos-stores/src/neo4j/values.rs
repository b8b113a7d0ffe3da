//! From our values to those of the driver, and from JSON to what a property can hold.

use neo4rs::{BoltList, BoltMap, BoltNull, BoltType};
use serde_json::{Map, Value};

/// The most bytes of one statement's rows: the server holds them in memory.
const MAX_CHUNK_BYTES: usize = 8 << 20;
/// The most rows of one statement.
const MAX_CHUNK_ROWS: usize = 1000;

/// Returns a map of these entries.
pub(super) fn map<const N: usize>(entries: [(&str, BoltType); N]) -> BoltMap {
    entries.into_iter().map(|(key, value)| (key.into(), value)).collect()
}

/// Returns a row of a statement that is given many.
pub(super) fn row<const N: usize>(entries: [(&str, BoltType); N]) -> BoltType {
    BoltType::Map(map(entries))
}

/// Returns a list of these values.
pub(super) fn list(values: impl IntoIterator<Item = BoltType>) -> BoltType {
    BoltType::List(BoltList { value: values.into_iter().collect() })
}

/// Returns a list of these texts.
pub(super) fn texts<'a>(values: impl IntoIterator<Item = &'a str>) -> BoltType {
    list(values.into_iter().map(BoltType::from))
}

/// Returns a vector as a list of numbers, exactly.
pub(super) fn vector(values: &[f32]) -> BoltType {
    list(values.iter().map(|number| BoltType::from(*number)))
}

/// Returns a count as the server's integer; those beyond it become the largest.
pub(super) fn integer(number: impl TryInto<i64>) -> BoltType {
    BoltType::from(number.try_into().unwrap_or(i64::MAX))
}

/// Splits rows so that no statement gets too many or too much; keeps their order.
pub(super) fn chunks(rows: Vec<BoltType>) -> Vec<BoltType> {
    let (mut chunks, mut chunk, mut n_bytes) = (Vec::new(), Vec::new(), 0);
    for row in rows {
        let size = size_of_value(&row);
        if chunk.len() >= MAX_CHUNK_ROWS || (n_bytes + size > MAX_CHUNK_BYTES && !chunk.is_empty()) {
            chunks.push(list(std::mem::take(&mut chunk)));
            n_bytes = 0;
        }
        n_bytes += size;
        chunk.push(row);
    }
    if !chunk.is_empty() {
        chunks.push(list(chunk));
    }
    chunks
}

fn size_of_value(value: &BoltType) -> usize {
    match value {
        BoltType::String(text) => text.value.len() + 5,
        BoltType::List(values) => values.iter().map(size_of_value).sum::<usize>() + 5,
        BoltType::Map(map) => map.value.iter().map(|(key, value)| key.value.len() + size_of_value(value)).sum(),
        _ => 9,
    }
}

/// Returns the property that holds a JSON value; `None` for null. What the server cannot hold (objects, lists of lists
/// or of unlike values) becomes JSON text, as MemOS writes it.
pub(super) fn property(value: &Value) -> Option<BoltType> {
    match value {
        Value::Null => None,
        Value::Array(values) => Some(uniform_list(values).unwrap_or_else(|| value.to_string().into())),
        Value::Object(_) => Some(value.to_string().into()),
        simple => Some(simple_value(simple)),
    }
}

fn simple_value(value: &Value) -> BoltType {
    match value {
        Value::Bool(value) => BoltType::from(*value),
        Value::Number(number) => match number.as_i64() {
            Some(number) => BoltType::from(number),
            None => number.as_f64().map_or(BoltType::Null(BoltNull), BoltType::from),
        },
        Value::String(text) => BoltType::from(text.as_str()),
        other => BoltType::from(other.to_string()),
    }
}

/// Lists of the server hold values of one kind.
fn uniform_list(values: &[Value]) -> Option<BoltType> {
    let is_uniform = values.iter().all(Value::is_string)
        || values.iter().all(Value::is_boolean)
        || values.iter().all(|value| value.as_i64().is_some());
    if is_uniform {
        return Some(list(values.iter().map(simple_value)));
    }
    let numbers: Option<Vec<f64>> = values.iter().map(|value| value.as_f64().filter(|_| value.is_number())).collect();
    Some(list(numbers?.into_iter().map(BoltType::from)))
}

/// Returns the JSON value of a property; `None` for one that JSON has no form for.
pub(super) fn json(value: &BoltType) -> Option<Value> {
    match value {
        BoltType::Null(_) => Some(Value::Null),
        BoltType::Boolean(value) => Some(Value::Bool(value.value)),
        BoltType::Integer(number) => Some(Value::from(number.value)),
        BoltType::Float(number) => serde_json::Number::from_f64(number.value).map(Value::Number),
        BoltType::String(text) => Some(Value::String(text.value.clone())),
        BoltType::List(values) => values.iter().map(json).collect::<Option<Vec<_>>>().map(Value::Array),
        BoltType::Map(map) => {
            let entries = map.value.iter().map(|(key, value)| Some((key.value.clone(), json(value)?)));
            entries.collect::<Option<Map<_, _>>>().map(Value::Object)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_server_can_hold_comes_back_as_it_was() {
        for value in [json!("text"), json!(true), json!(-7), json!(0.1), json!([]), json!(["a", "b"]), json!([1, 2])] {
            assert_eq!(json(&property(&value).unwrap()), Some(value));
        }
        assert_eq!(json(&property(&json!([1, 2.5])).unwrap()), Some(json!([1.0, 2.5])), "numbers become of one kind");
        assert_eq!(property(&Value::Null), None);
    }

    #[test]
    fn what_the_server_cannot_hold_becomes_text() {
        for value in [json!({"a": 1}), json!([{"a": 1}]), json!([[1]]), json!(["a", 1]), json!([null])] {
            assert_eq!(property(&value), Some(BoltType::from(value.to_string())));
        }
    }

    #[test]
    fn chunks_are_bounded_in_rows_and_bytes_and_keep_everything() {
        let lengths = |rows: Vec<BoltType>| -> Vec<usize> {
            let of = |chunk: BoltType| match chunk {
                BoltType::List(rows) => rows.len(),
                other => panic!("{other:?}"),
            };
            chunks(rows).into_iter().map(of).collect()
        };
        assert_eq!(lengths((0..2500).map(|number: i64| integer(number)).collect()), [1000, 1000, 500]);
        let large = BoltType::from("x".repeat(MAX_CHUNK_BYTES / 2));
        assert_eq!(lengths(vec![large; 3]), [1, 1, 1]);
        assert_eq!(lengths(Vec::new()), Vec::<usize>::new());
    }
}
