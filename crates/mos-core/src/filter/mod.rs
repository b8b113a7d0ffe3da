//! Conditions on the metadata of memories, evaluated inside every store.

mod language;

use std::borrow::Cow;
use std::cmp::Ordering;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How a field is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operator {
    /// Equal.
    Eq,
    /// Greater than.
    Gt,
    /// Greater than or equal.
    Gte,
    /// Less than.
    Lt,
    /// Less than or equal.
    Lte,
    /// The field is a list that holds the value.
    Contains,
    /// The value is a list that holds the field.
    In,
    /// The field is a text that holds the value.
    Like,
    /// The field is a text that begins with the value.
    #[serde(rename = "starts_with")]
    StartsWith,
    /// The field is a text that ends with the value.
    #[serde(rename = "ends_with")]
    EndsWith,
}

/// One comparison of a metadata field.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// Key in the metadata (or in `metadata.info`), or `memory` for the text.
    pub field: String,
    /// How to compare.
    pub operator: Operator,
    /// What to compare with.
    pub value: Value,
}

/// The metadata field from when on what a memory says is true: ISO 8601, a date or a moment, in UTC without an offset.
pub const VALID_FROM: &str = "valid_from";
/// The metadata field that tells when what a memory says stopped being true; absent while it still is.
pub const VALID_TO: &str = "valid_to";

/// Which memories to look at. The empty filter ([`Filter::default`]) lets every memory pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Filter {
    /// Every memory.
    #[default]
    Everything,
    /// One comparison.
    Is(Condition),
    /// All of them.
    All(Vec<Filter>),
    /// At least one of them.
    Any(Vec<Filter>),
    /// What it does not let pass.
    Not(Box<Filter>),
}

impl Filter {
    /// Returns the filter "`field` equals `value`".
    pub fn equals(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::Is(Condition { field: field.into(), operator: Operator::Eq, value: value.into() })
    }

    /// Returns the filter "`field` is one of `values`".
    pub fn one_of<V: Into<Value>>(field: impl Into<String>, values: impl IntoIterator<Item = V>) -> Self {
        let value = Value::Array(values.into_iter().map(Into::into).collect());
        Self::Is(Condition { field: field.into(), operator: Operator::In, value })
    }

    /// Returns the filter that lets pass what both let pass.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Everything, other) => other,
            (this, Self::Everything) => this,
            (Self::All(mut parts), other) => {
                parts.push(other);
                Self::All(parts)
            }
            (this, other) => Self::All(vec![this, other]),
        }
    }

    /// Whether it does not say which memories are meant, however it is written: it lets every memory pass, or has an empty list
    /// of alternatives.
    pub fn says_nothing(&self) -> bool {
        match self {
            Self::Everything => true,
            Self::Is(_) => false,
            Self::All(parts) => parts.iter().all(Self::says_nothing),
            // Whoever writes an empty list of alternatives has forgotten what.
            Self::Any(parts) => parts.is_empty() || parts.iter().any(Self::says_nothing),
            Self::Not(part) => part.says_nothing(),
        }
    }

    /// Whether a memory with this text and this metadata (its JSON form) passes.
    ///
    /// Fields that hold moments ([`is_moment_field`]) are compared as such when both sides are dates in ISO 8601 (without an
    /// offset UTC is meant), other texts by their characters. A field that is absent or null passes no comparison.
    pub fn matches(&self, memory: &str, metadata: &Map<String, Value>) -> bool {
        match self {
            Self::Everything => true,
            Self::Is(condition) => condition.matches(memory, metadata),
            Self::All(parts) => parts.iter().all(|part| part.matches(memory, metadata)),
            Self::Any(parts) => parts.iter().any(|part| part.matches(memory, metadata)),
            Self::Not(part) => !part.matches(memory, metadata),
        }
    }
}

/// Returns the field of a memory that a condition looks at; `None` when it is absent or null.
pub fn field_value<'a>(field: &str, memory: &str, metadata: &'a Map<String, Value>) -> Option<Cow<'a, Value>> {
    if field == "memory" {
        return Some(Cow::Owned(Value::String(memory.to_owned())));
    }
    let direct = metadata.get(field).filter(|value| !value.is_null());
    let info = || metadata.get("info").and_then(|info| info.get(field)).filter(|value| !value.is_null());
    direct.or_else(info).map(Cow::Borrowed)
}

impl Condition {
    fn matches(&self, memory: &str, metadata: &Map<String, Value>) -> bool {
        field_value(&self.field, memory, metadata).is_some_and(|value| self.accepts(&value))
    }

    /// Whether a memory passes whose field (as [`field_value`] returns it) has this value.
    pub fn accepts(&self, field: &Value) -> bool {
        let is_date = is_moment_field(&self.field);
        let order = || compare(field, &self.value, is_date);
        let same = |left: &Value, right: &Value| match compare(left, right, is_date) {
            Some(order) => order == Ordering::Equal,
            None => left == right,
        };
        match self.operator {
            Operator::Eq => same(field, &self.value),
            Operator::Gt => order() == Some(Ordering::Greater),
            Operator::Gte => order().is_some_and(Ordering::is_ge),
            Operator::Lt => order() == Some(Ordering::Less),
            Operator::Lte => order().is_some_and(Ordering::is_le),
            Operator::Contains => field.as_array().is_some_and(|list| list.iter().any(|one| same(one, &self.value))),
            Operator::In => self.value.as_array().is_some_and(|list| list.iter().any(|one| same(field, one))),
            Operator::Like => texts(field, &self.value).is_some_and(|(text, part)| text.contains(part)),
            Operator::StartsWith => texts(field, &self.value).is_some_and(|(text, part)| text.starts_with(part)),
            Operator::EndsWith => texts(field, &self.value).is_some_and(|(text, part)| text.ends_with(part)),
        }
    }
}

fn texts<'a>(left: &'a Value, right: &'a Value) -> Option<(&'a str, &'a str)> {
    Some((left.as_str()?, right.as_str()?))
}

/// Returns the order of two texts, two dates or two numbers; `None` for anything else.
fn compare(left: &Value, right: &Value, is_date: bool) -> Option<Ordering> {
    match (left, right) {
        (Value::String(a), Value::String(b)) if is_date => match (moment(a), moment(b)) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => Some(a.cmp(b)),
        },
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => match (left.as_i64(), right.as_i64()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
        },
    }
}

/// Whether texts of a field are compared as moments: names that end in `_at`, and `valid_from` and `valid_to`.
pub fn is_moment_field(field: &str) -> bool {
    field.ends_with("_at") || field == VALID_FROM || field == VALID_TO
}

/// Returns the moment of a date as filters read it: ISO 8601, without an offset in UTC; `None` for other texts.
pub fn moment(text: &str) -> Option<Timestamp> {
    // A date without an offset fails here at its end, which is as fast as reading it.
    text.parse().ok().or_else(|| TimeZone::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn passes(operator: Operator, field: &str, value: Value) -> bool {
        let metadata = json!({"tags": ["a", "b"], "confidence": 0.9, "key": "dog food", "info": {"city": "Paris"},
            "created_at": "2026-01-02T00:00:00+00:00", "status": null});
        let filter = Filter::Is(Condition { field: field.to_owned(), operator, value });
        filter.matches("the text", metadata.as_object().unwrap())
    }

    #[test]
    fn every_operator_compares_as_documented() {
        assert!(passes(Operator::Eq, "confidence", json!(0.9)));
        assert!(passes(Operator::Eq, "city", json!("Paris")), "info is looked into");
        assert!(passes(Operator::Contains, "tags", json!("b")));
        assert!(!passes(Operator::Contains, "key", json!("dog")), "contains is for lists");
        assert!(passes(Operator::Like, "key", json!("dog")));
        assert!(passes(Operator::Like, "memory", json!("text")));
        assert!(
            passes(Operator::StartsWith, "key", json!("dog")) && !passes(Operator::StartsWith, "key", json!("food"))
        );
        assert!(passes(Operator::EndsWith, "key", json!("food")) && !passes(Operator::EndsWith, "tags", json!("b")));
        assert!(passes(Operator::In, "key", json!(["cat", "dog food"])));
        assert!(passes(Operator::Gt, "created_at", json!("2026-01-01")));
        assert!(passes(Operator::Gte, "confidence", json!(0.9)) && passes(Operator::Lte, "confidence", json!(0.9)));
        assert!(!passes(Operator::Lt, "confidence", json!("x")), "unlike kinds have no order");
    }

    #[test]
    fn dates_are_moments_whatever_their_offset() {
        let metadata = json!({"created_at": "2026-01-02T00:30:00+02:00", "dated": "2026-01-02T00:30:00+02:00",
            "valid_to": "2026-01-01T22:30:00.000000+00:00",
            "odd_at": "soon"});
        let passes = |field: &str, operator: Operator, value: Value| {
            let filter = Filter::Is(Condition { field: field.to_owned(), operator, value });
            filter.matches("", metadata.as_object().unwrap())
        };
        assert!(passes("created_at", Operator::Lt, json!("2026-01-01T22:30:01Z")));
        assert!(passes("created_at", Operator::Eq, json!("2026-01-01T22:30:00.000000")), "no offset is UTC");
        assert!(
            passes("created_at", Operator::Gt, json!("2026-01-01"))
                && passes("created_at", Operator::Lt, json!("2026-01-02"))
        );
        assert!(
            passes("valid_to", Operator::Lte, json!("2026-01-02T00:30:00+02:00")),
            "facts are true from and to moments"
        );
        assert!(passes("dated", Operator::Gt, json!("2026-01-02")), "other fields are plain text");
        assert!(passes("odd_at", Operator::Eq, json!("soon")) && passes("odd_at", Operator::Gt, json!("now")));
    }

    #[test]
    fn whole_numbers_are_compared_exactly() {
        let metadata = json!({"n": 9_007_199_254_740_993_i64});
        let equals = |value: i64| Filter::equals("n", value).matches("", metadata.as_object().unwrap());
        assert!(equals(9_007_199_254_740_993) && !equals(9_007_199_254_740_992));
        assert!(Filter::equals("n", 2.0).matches("", json!({"n": 2}).as_object().unwrap()));
    }

    #[test]
    fn not_lets_pass_what_its_filter_does_not() {
        let metadata = json!({"type": "fact"});
        let passes = |filter: Filter| filter.matches("", metadata.as_object().unwrap());
        assert!(!passes(Filter::Not(Box::new(Filter::equals("type", "fact")))));
        assert!(passes(Filter::Not(Box::new(Filter::equals("type", "topic")))));
        assert!(passes(Filter::Not(Box::new(Filter::equals("absent", "x")))), "absent fields are not equal");
        assert!(passes(Filter::one_of("type", ["topic", "fact"])) && !passes(Filter::one_of("type", ["topic"])));
    }

    #[test]
    fn null_and_absent_fields_pass_nothing() {
        assert!(!passes(Operator::Eq, "status", Value::Null));
        assert!(!passes(Operator::Eq, "nothing", Value::Null));
    }

    #[test]
    fn and_joins_and_everything_is_neutral() {
        let (a, b) = (Filter::equals("key", "x"), Filter::equals("type", "y"));
        assert_eq!(Filter::Everything.and(a.clone()), a);
        assert_eq!(a.clone().and(Filter::Everything), a);
        assert_eq!(a.clone().and(b.clone()), Filter::All(vec![a, b]));
    }
}
