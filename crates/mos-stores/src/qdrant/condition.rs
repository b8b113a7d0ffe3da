//! What a memory must meet on the server before it can pass a filter. The server leaves out what cannot pass; whether
//! what is left passes is decided here, as everywhere.

use mos_core::{Condition, Filter, Operator, Scope, is_moment_field};
use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::r#match::MatchValue;
use qdrant_client::qdrant::{
    Condition as Wanted, FieldCondition, Filter as Wall, HasIdCondition, IsEmptyCondition, Match, PointId, Range,
    RepeatedStrings,
};
use serde_json::Value;

use super::point::{CUBE, CURSOR_OF, MEMORY, METADATA, MOMENTS, SEQUENCE, milliseconds};

/// Filters that lie deeper are not translated: messages may not nest without end.
const MAX_DEPTH: usize = 12;

/// Returns the condition that a memory of the scope must meet to pass the filter.
pub(super) fn necessary(scope: &Scope, filter: &Filter) -> Wall {
    let mut must = vec![keyword(CUBE, scope.cube.as_str())];
    must.extend(translated(filter, 0));
    Wall { must, ..Wall::default() }
}

/// Everything that a scope has in a collection, its cursor too; as far as it is not newer than a change.
pub(super) fn everything_of(scope: &Scope, up_to: Option<u64>) -> Wall {
    let should = vec![keyword(CUBE, scope.cube.as_str()), keyword(CURSOR_OF, scope.cube.as_str())];
    let mut must = vec![nested(Wall { should, ..Wall::default() })];
    must.extend(up_to.map(not_newer));
    Wall { must, ..Wall::default() }
}

/// Points of the scope by their ids, as far as they are not newer than a change.
pub(super) fn these(scope: &Scope, ids: Vec<PointId>, up_to: u64) -> Wall {
    let ids = one(ConditionOneOf::HasId(HasIdCondition { has_id: ids }));
    Wall { must: vec![keyword(CUBE, scope.cube.as_str()), ids, not_newer(up_to)], ..Wall::default() }
}

/// Every cursor.
pub(super) fn cursors() -> Wall {
    let no_cursor = one(ConditionOneOf::IsEmpty(IsEmptyCondition { key: CURSOR_OF.to_owned() }));
    Wall { must_not: vec![no_cursor], ..Wall::default() }
}

fn not_newer(sequence: u64) -> Wanted {
    range(SEQUENCE, None, Some(sequence as f64))
}

/// Returns what is necessary for a filter, `None` when nothing can be said.
fn translated(filter: &Filter, depth: usize) -> Option<Wanted> {
    if depth > MAX_DEPTH {
        return None;
    }
    match filter {
        Filter::Is(condition) => comparison(condition),
        Filter::All(parts) => {
            let must: Vec<Wanted> = parts.iter().filter_map(|part| translated(part, depth + 1)).collect();
            (!must.is_empty()).then(|| nested(Wall { must, ..Wall::default() }))
        }
        // One part of which nothing can be said may let everything pass.
        Filter::Any(parts) => any(parts.iter().map(|part| translated(part, depth + 1)).collect::<Option<Vec<_>>>()?),
        // What its filter must meet says nothing of what does not pass it.
        Filter::Everything | Filter::Not(_) => None,
    }
}

fn comparison(condition: &Condition) -> Option<Wanted> {
    let Condition { field, operator, value } = condition;
    match operator {
        Operator::Eq => equal(field, value),
        Operator::In => {
            let values = value.as_array()?;
            let is_plain = !is_moment_field(field);
            let texts: Option<Vec<String>> = values.iter().map(|one| one.as_str().map(str::to_owned)).collect();
            match texts.filter(|texts| is_plain && !texts.is_empty()) {
                Some(strings) => Some(matches(&key(field)?, MatchValue::Keywords(RepeatedStrings { strings }))),
                None => any(values.iter().map(|one| equal(field, one)).collect::<Option<Vec<_>>>()?),
            }
        }
        // On the server, a value that is a list meets what one of its elements meets.
        Operator::Contains if is_moment_field(field) && value.is_string() => None,
        Operator::Contains => equal(field, value),
        Operator::Gt | Operator::Gte => ordered(field, value, |bound| (Some(bound), None)),
        Operator::Lt | Operator::Lte => ordered(field, value, |bound| (None, Some(bound))),
        Operator::Like | Operator::StartsWith | Operator::EndsWith => None,
    }
}

fn equal(field: &str, value: &Value) -> Option<Wanted> {
    let key = key(field)?;
    match value {
        Value::String(_) if is_moment_field(field) && milliseconds(value).is_some() => {
            ordered(field, value, |bound| (Some(bound), Some(bound)))
        }
        Value::String(text) => Some(keyword(&key, text)),
        Value::Bool(flag) => Some(matches(&key, MatchValue::Boolean(*flag))),
        Value::Number(_) => ordered(field, value, |bound| (Some(bound), Some(bound))),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Bounds are never strict: numbers are rounded on the way, and what lies on a bound is looked at here.
fn ordered(field: &str, value: &Value, bounds: impl Fn(f64) -> (Option<f64>, Option<f64>)) -> Option<Wanted> {
    let between = |key: &str, bound: f64| {
        let (from, to) = bounds(bound);
        range(key, from, to)
    };
    if let Value::Number(number) = value {
        return Some(between(&key(field)?, number.as_f64()?));
    }
    if !is_moment_field(field) || field == MEMORY || !is_plain(field) {
        return None;
    }
    let moment = milliseconds(value)?;
    let key = format!("{MOMENTS}.{field}");
    // A text that is no date is compared as text.
    let no_date = one(ConditionOneOf::IsEmpty(IsEmptyCondition { key: key.clone() }));
    any(vec![between(&key, moment as f64), no_date])
}

/// Returns where the field is in the payload; `None` for names that cannot stand in a path of the server's.
fn key(field: &str) -> Option<String> {
    match field {
        "memory" => Some(MEMORY.to_owned()),
        _ => is_plain(field).then(|| format!("{METADATA}.{field}")),
    }
}

fn is_plain(field: &str) -> bool {
    !field.is_empty() && field.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
}

fn any(should: Vec<Wanted>) -> Option<Wanted> {
    (!should.is_empty()).then(|| nested(Wall { should, ..Wall::default() }))
}

fn keyword(key: &str, text: &str) -> Wanted {
    matches(key, MatchValue::Keyword(text.to_owned()))
}

fn matches(key: &str, value: MatchValue) -> Wanted {
    let r#match = Some(Match { match_value: Some(value) });
    one(ConditionOneOf::Field(FieldCondition { key: key.to_owned(), r#match, ..FieldCondition::default() }))
}

fn range(key: &str, gte: Option<f64>, lte: Option<f64>) -> Wanted {
    let range = Some(Range { gte, lte, ..Range::default() });
    one(ConditionOneOf::Field(FieldCondition { key: key.to_owned(), range, ..FieldCondition::default() }))
}

fn nested(wall: Wall) -> Wanted {
    one(ConditionOneOf::Filter(wall))
}

fn one(condition: ConditionOneOf) -> Wanted {
    Wanted { condition_one_of: Some(condition) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn is(field: &str, operator: Operator, value: Value) -> Filter {
        Filter::Is(Condition { field: field.to_owned(), operator, value })
    }

    #[test]
    fn every_search_names_its_cube() {
        let scope = Scope { cube: "c".into() };
        let wall = necessary(&scope, &Filter::Everything);
        assert_eq!(wall.must, [keyword("cube", "c")]);
        assert_eq!(necessary(&scope, &Filter::equals("key", "x")).must.len(), 2);
    }

    #[test]
    fn what_cannot_be_said_is_left_out() {
        for filter in [
            is("key", Operator::Like, json!("x")),
            is("key", Operator::Gt, json!("x")),
            is("a.b", Operator::Eq, json!("x")),
            is("it's \"a\"", Operator::Eq, json!(1)),
            is("key", Operator::Eq, json!(["x"])),
            is("dates_at", Operator::Contains, json!("2026-01-01")),
            Filter::Not(Box::new(Filter::equals("key", "x"))),
            Filter::Any(vec![Filter::equals("key", "x"), is("key", Operator::Like, json!("x"))]),
            Filter::Any(vec![]),
            is("key", Operator::In, json!([])),
        ] {
            assert_eq!(translated(&filter, 0), None, "{filter:?}");
        }
        let half = Filter::All(vec![Filter::equals("key", "x"), is("key", Operator::Like, json!("x"))]);
        assert!(translated(&half, 0).is_some());
    }

    #[test]
    fn deep_filters_are_cut_off() {
        let deep = (0..100).fold(Filter::equals("key", "x"), |inner, _| Filter::All(vec![inner]));
        assert_eq!(translated(&deep, 0), None);
    }
}
