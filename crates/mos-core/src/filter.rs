//! Conditions on the metadata of memories, evaluated inside every store.

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
}

impl Filter {
    /// Returns the filter "`field` equals `value`".
    pub fn equals(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::Is(Condition { field: field.into(), operator: Operator::Eq, value: value.into() })
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

    /// Whether a memory with this text and this metadata (its JSON form) passes.
    ///
    /// Dates are compared as text, which is their order when they are ISO 8601 with one offset. A field that
    /// is absent or null passes no comparison.
    pub fn matches(&self, memory: &str, metadata: &Map<String, Value>) -> bool {
        match self {
            Self::Everything => true,
            Self::Is(condition) => condition.matches(memory, metadata),
            Self::All(parts) => parts.iter().all(|part| part.matches(memory, metadata)),
            Self::Any(parts) => parts.iter().any(|part| part.matches(memory, metadata)),
        }
    }
}

impl Condition {
    fn matches(&self, memory: &str, metadata: &Map<String, Value>) -> bool {
        let text;
        let field = if self.field == "memory" {
            text = Value::String(memory.to_owned());
            &text
        } else {
            let direct = metadata.get(&self.field).filter(|value| !value.is_null());
            let info = || metadata.get("info").and_then(|info| info.get(&self.field));
            match direct.or_else(info) {
                Some(value) => value,
                None => return false,
            }
        };
        let order = || compare(field, &self.value);
        match self.operator {
            Operator::Eq => same(field, &self.value),
            Operator::Gt => order() == Some(std::cmp::Ordering::Greater),
            Operator::Gte => order().is_some_and(std::cmp::Ordering::is_ge),
            Operator::Lt => order() == Some(std::cmp::Ordering::Less),
            Operator::Lte => order().is_some_and(std::cmp::Ordering::is_le),
            Operator::Contains => field.as_array().is_some_and(|list| list.iter().any(|one| same(one, &self.value))),
            Operator::In => self.value.as_array().is_some_and(|list| list.iter().any(|one| same(field, one))),
            Operator::Like => match (field, &self.value) {
                (Value::String(text), Value::String(part)) => text.contains(part.as_str()),
                _ => false,
            },
        }
    }
}

fn same(left: &Value, right: &Value) -> bool {
    left == right || matches!((left.as_f64(), right.as_f64()), (Some(a), Some(b)) if a == b)
}

fn compare(left: &Value, right: &Value) -> Option<std::cmp::Ordering> {
    match (left, right) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
    }
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
        assert!(passes(Operator::In, "key", json!(["cat", "dog food"])));
        assert!(passes(Operator::Gt, "created_at", json!("2026-01-01")));
        assert!(passes(Operator::Gte, "confidence", json!(0.9)) && passes(Operator::Lte, "confidence", json!(0.9)));
        assert!(!passes(Operator::Lt, "confidence", json!("x")), "unlike kinds have no order");
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
