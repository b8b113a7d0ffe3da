//! Which points meet a filter.

use std::collections::HashMap;

use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::r#match::MatchValue;
use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::value::Kind;
use qdrant_client::qdrant::{Condition, FieldCondition, Filter, Range, Value};
use tonic::Status;

use super::unknown;

/// A payload.
pub(super) type Payload = HashMap<String, Value>;

/// Whether a point meets a filter.
///
/// # Errors
/// For conditions that this server does not know.
pub(super) fn meets(filter: &Filter, id: &str, payload: &Payload) -> Result<bool, Status> {
    if filter.min_should.is_some() {
        return Err(unknown("min_should"));
    }
    for condition in &filter.must {
        if !meets_one(condition, id, payload)? {
            return Ok(false);
        }
    }
    for condition in &filter.must_not {
        if meets_one(condition, id, payload)? {
            return Ok(false);
        }
    }
    for condition in &filter.should {
        if meets_one(condition, id, payload)? {
            return Ok(true);
        }
    }
    Ok(filter.should.is_empty())
}

fn meets_one(condition: &Condition, id: &str, payload: &Payload) -> Result<bool, Status> {
    match condition.condition_one_of.as_ref() {
        Some(ConditionOneOf::Filter(filter)) => meets(filter, id, payload),
        Some(ConditionOneOf::HasId(ids)) => Ok(ids.has_id.iter().any(|one| point_name(one) == Some(id))),
        Some(ConditionOneOf::IsEmpty(empty)) => Ok(values(&empty.key, payload).iter().all(|value| is_null(value))),
        Some(ConditionOneOf::Field(field)) => meets_field(field, payload),
        _ => Err(unknown("this condition")),
    }
}

/// Returns the id of a point as text; only UUIDs are known.
pub(super) fn point_name(id: &qdrant_client::qdrant::PointId) -> Option<&str> {
    match &id.point_id_options {
        Some(PointIdOptions::Uuid(name)) => Some(name),
        _ => None,
    }
}

fn meets_field(field: &FieldCondition, payload: &Payload) -> Result<bool, Status> {
    let values = values(&field.key, payload);
    if let Some(range) = &field.range {
        return Ok(values.iter().any(|value| number(value).is_some_and(|number| lies_in(range, number))));
    }
    let wanted = field.r#match.as_ref().and_then(|one| one.match_value.as_ref());
    let matches: Box<dyn Fn(&Kind) -> bool> = match wanted {
        Some(MatchValue::Keyword(text)) => Box::new(move |kind| matches!(kind, Kind::StringValue(is) if is == text)),
        Some(MatchValue::Integer(number)) => {
            Box::new(move |kind| matches!(kind, Kind::IntegerValue(is) if is == number))
        }
        Some(MatchValue::Boolean(flag)) => Box::new(move |kind| matches!(kind, Kind::BoolValue(is) if is == flag)),
        Some(MatchValue::Keywords(texts)) => {
            Box::new(move |kind| matches!(kind, Kind::StringValue(is) if texts.strings.contains(is)))
        }
        _ => return Err(unknown("this match")),
    };
    Ok(values.iter().filter_map(|value| value.kind.as_ref()).any(matches))
}

fn lies_in(range: &Range, number: f64) -> bool {
    range.gt.is_none_or(|bound| number > bound)
        && range.gte.is_none_or(|bound| number >= bound)
        && range.lt.is_none_or(|bound| number < bound)
        && range.lte.is_none_or(|bound| number <= bound)
}

fn number(value: &Value) -> Option<f64> {
    match value.kind {
        Some(Kind::IntegerValue(number)) => Some(number as f64),
        Some(Kind::DoubleValue(number)) => Some(number),
        _ => None,
    }
}

fn is_null(value: &Value) -> bool {
    matches!(value.kind, None | Some(Kind::NullValue(_)))
}

/// Returns what is at a path; of a list its elements.
fn values<'a>(path: &str, payload: &'a Payload) -> Vec<&'a Value> {
    let mut fields = payload;
    let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
    for parent in parents.split('.').filter(|parent| !parent.is_empty()) {
        match fields.get(parent).and_then(|value| value.kind.as_ref()) {
            Some(Kind::StructValue(structure)) => fields = &structure.fields,
            _ => return Vec::new(),
        }
    }
    match fields.get(last) {
        None => Vec::new(),
        Some(Value { kind: Some(Kind::ListValue(list)) }) => list.values.iter().collect(),
        Some(value) => vec![value],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload() -> Payload {
        let tags = Value::from(vec!["a", "b"]);
        let inner = HashMap::from([("n".to_owned(), Value::from(3_i64)), ("tags".to_owned(), tags)]);
        let structure = qdrant_client::qdrant::Struct { fields: inner };
        HashMap::from([
            ("cube".to_owned(), Value::from("c")),
            ("metadata".to_owned(), Value { kind: Some(Kind::StructValue(structure)) }),
        ])
    }

    fn passes(filter: &Filter) -> bool {
        meets(filter, "id", &payload()).expect("a known filter")
    }

    #[test]
    fn conditions_look_at_paths_and_into_lists() {
        assert!(passes(&Filter::must([Condition::matches("cube", "c".to_owned())])));
        assert!(passes(&Filter::must([Condition::matches("metadata.tags", "b".to_owned())])));
        assert!(!passes(&Filter::must([Condition::matches("metadata.tags", "c".to_owned())])));
        let range = |gte: f64| Range { gte: Some(gte), ..Range::default() };
        assert!(passes(&Filter::must([Condition::range("metadata.n", range(3.0))])));
        assert!(!passes(&Filter::must([Condition::range("metadata.n", range(3.5))])));
        assert!(passes(&Filter::must([Condition::is_empty("metadata.none")])));
        assert!(!passes(&Filter::must_not([Condition::is_empty("metadata.none")])));
        let either = [Condition::matches("cube", "x".to_owned()), Condition::matches("cube", "c".to_owned())];
        assert!(passes(&Filter::should(either)));
    }
}
