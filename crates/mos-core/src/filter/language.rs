//! The JSON form of filters, as MemOS clients write it.

use serde_json::{Map, Value, json};

use super::{Condition, Filter, Operator};
use crate::validate::{FieldError, ValidationError};

/// How deep `and`, `or` and `not` may stand in each other.
const MAX_DEPTH: usize = 32;
/// How many comparisons a filter may have.
const MAX_CONDITIONS: usize = 1000;

impl Filter {
    /// Reads a filter from JSON.
    ///
    /// - `{"and": [..]}`, `{"or": [..]}`, `{"not": ..}` join filters;
    /// - `{"field": value}` compares for equality;
    /// - `{"field": {"gte": value, ..}}` compares with `eq`, `gt`, `gte`, `lt`, `lte`, `contains` (the field is a list),
    ///   `in` (the value is one), `like` (a part of a text), `starts_with` or `ends_with`;
    /// - what stands beside each other in one object must all be so; null and `{}` let everything pass.
    ///
    /// # Errors
    /// Every part that is wrong, with its path.
    pub fn from_value(value: &Value) -> Result<Self, ValidationError> {
        let mut reader = Reader { path: Vec::new(), errors: Vec::new(), n_conditions: 0 };
        let filter = reader.filter(value, 0);
        match filter {
            Some(filter) if reader.errors.is_empty() => Ok(filter),
            _ => Err(ValidationError { errors: reader.errors }),
        }
    }

    /// Returns the JSON form, which [`Filter::from_value`] reads.
    pub fn to_value(&self) -> Value {
        let all = |parts: &[Self]| Value::Array(parts.iter().map(Self::to_value).collect());
        match self {
            Self::Everything => json!({}),
            Self::Is(Condition { field, operator, value }) => {
                let comparison = Map::from_iter([(operator.as_str().to_owned(), value.clone())]);
                // A field that has the name of a join could not be told from one.
                Value::Object(Map::from_iter([(field.clone(), Value::Object(comparison))]))
            }
            Self::All(parts) => json!({ "and": all(parts) }),
            Self::Any(parts) => json!({ "or": all(parts) }),
            Self::Not(part) => json!({ "not": part.to_value() }),
        }
    }
}

impl Operator {
    const ALL: [Self; 10] = [
        Self::Eq,
        Self::Gt,
        Self::Gte,
        Self::Lt,
        Self::Lte,
        Self::Contains,
        Self::In,
        Self::Like,
        Self::StartsWith,
        Self::EndsWith,
    ];

    /// The word for it in the JSON form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eq => "eq",
            Self::Gt => "gt",
            Self::Gte => "gte",
            Self::Lt => "lt",
            Self::Lte => "lte",
            Self::Contains => "contains",
            Self::In => "in",
            Self::Like => "like",
            Self::StartsWith => "starts_with",
            Self::EndsWith => "ends_with",
        }
    }
}

struct Reader {
    path: Vec<String>,
    errors: Vec<FieldError>,
    n_conditions: usize,
}

impl Reader {
    fn fail(&mut self, kind: &'static str, msg: impl Into<String>) {
        self.errors.push(FieldError { loc: self.path.clone(), kind, msg: msg.into() });
    }

    /// Reads what stands under `key`.
    fn under<T>(&mut self, key: impl Into<String>, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(key.into());
        let done = read(self);
        self.path.pop();
        done
    }

    fn filter(&mut self, value: &Value, depth: usize) -> Option<Filter> {
        if depth > MAX_DEPTH {
            self.fail("value_error", format!("filters may stand in each other {MAX_DEPTH} deep; flatten this one"));
            return None;
        }
        let map = match value {
            Value::Null => return Some(Filter::Everything),
            Value::Object(map) => map,
            _ => {
                self.fail("dict_type", "a filter must be an object, for example {\"tags\": {\"contains\": \"dog\"}}");
                return None;
            }
        };
        let mut filter = Filter::Everything;
        for (key, value) in map {
            let part = self.under(key, |reader| reader.part(key, value, depth));
            filter = filter.and(part?);
        }
        Some(filter)
    }

    fn part(&mut self, key: &str, value: &Value, depth: usize) -> Option<Filter> {
        match key {
            "and" => self.list(value, depth).map(Filter::All),
            "or" => self.list(value, depth).map(Filter::Any),
            "not" => Some(Filter::Not(Box::new(self.filter(value, depth + 1)?))),
            field => self.conditions(field, value),
        }
    }

    fn list(&mut self, value: &Value, depth: usize) -> Option<Vec<Filter>> {
        let Value::Array(parts) = value else {
            self.fail("list_type", "must be a list of filters");
            return None;
        };
        let read =
            |(index, part): (usize, &Value)| self.under(index.to_string(), |reader| reader.filter(part, depth + 1));
        parts.iter().enumerate().map(read).collect()
    }

    fn conditions(&mut self, field: &str, value: &Value) -> Option<Filter> {
        if field.is_empty() {
            self.fail("value_error", "the name of a field is empty");
            return None;
        }
        let Value::Object(comparisons) = value else { return self.condition(field, Operator::Eq, value) };
        if comparisons.is_empty() {
            self.fail("missing", format!("nothing to compare with; use one of {}", known()));
            return None;
        }
        let mut filter = Filter::Everything;
        for (word, value) in comparisons {
            let part =
                self.under(word, |reader| match Operator::ALL.into_iter().find(|operator| operator.as_str() == word) {
                    Some(operator) => reader.condition(field, operator, value),
                    None => {
                        reader.fail("literal_error", format!("`{word}` is not one of {}", known()));
                        None
                    }
                });
            filter = filter.and(part?);
        }
        Some(filter)
    }

    fn condition(&mut self, field: &str, operator: Operator, value: &Value) -> Option<Filter> {
        self.n_conditions += 1;
        if self.n_conditions > MAX_CONDITIONS {
            self.fail("value_error", format!("a filter may have {MAX_CONDITIONS} comparisons"));
            return None;
        }
        let wanted = match operator {
            Operator::In if !value.is_array() => Some(("list_type", "must be a list")),
            Operator::Like | Operator::StartsWith | Operator::EndsWith if !value.is_string() => {
                Some(("string_type", "must be a string"))
            }
            Operator::Gt | Operator::Gte | Operator::Lt | Operator::Lte
                if !(value.is_string() || value.is_number()) =>
            {
                Some(("value_error", "must be a number or a string"))
            }
            _ => None,
        };
        if let Some((kind, msg)) = wanted {
            self.fail(kind, msg);
            return None;
        }
        Some(Filter::Is(Condition { field: field.to_owned(), operator, value: value.clone() }))
    }
}

fn known() -> String {
    Operator::ALL.map(Operator::as_str).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> Filter {
        Filter::from_value(&value).unwrap()
    }

    fn refused(value: Value) -> String {
        Filter::from_value(&value).unwrap_err().to_string()
    }

    #[test]
    fn filters_read_as_they_were_written() {
        let is = |field: &str, operator: Operator, value: Value| {
            Filter::Is(Condition { field: field.to_owned(), operator, value })
        };
        assert_eq!(read(Value::Null), Filter::Everything);
        assert_eq!(read(json!({})), Filter::Everything);
        assert_eq!(read(json!({"key": "dog"})), Filter::equals("key", "dog"));
        let between = Filter::All(vec![
            is("created_at", Operator::Gte, json!("2026-01-01")),
            is("created_at", Operator::Lt, json!("2026-02-01")),
        ]);
        assert_eq!(read(json!({"created_at": {"gte": "2026-01-01", "lt": "2026-02-01"}})), between);
        let either = json!({"or": [{"tags": {"contains": "a"}}, {"not": {"key": {"in": ["x", "y"]}}}]});
        let expected = Filter::Any(vec![
            is("tags", Operator::Contains, json!("a")),
            Filter::Not(Box::new(is("key", Operator::In, json!(["x", "y"])))),
        ]);
        assert_eq!(read(either), expected);
        let quoted = "it's \"a\" `key`";
        assert_eq!(read(json!({quoted: 1})), Filter::equals(quoted, 1), "names of fields are only names");
    }

    #[test]
    fn what_is_written_reads_as_it_was() {
        for value in [
            json!({"and": [{"a": {"eq": 1}}, {"or": [{"b": {"like": "x"}}, {"c": {"ends_with": "y"}}]}]}),
            json!({"not": {"a": {"in": [1, 2]}}}),
            json!({}),
        ] {
            assert_eq!(read(value.clone()).to_value(), value);
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_path() {
        assert_eq!(refused(json!({"or": [{"a": 1}, {"b": {"near": 2}}]})).split(':').next(), Some("or.1.b.near"));
        assert!(refused(json!({"a": {"near": 2}})).contains("starts_with"), "the known words are told");
        assert!(refused(json!({"and": {"a": 1}})).contains("list of filters"));
        assert!(refused(json!(["a"])).contains("must be an object"));
        assert!(refused(json!({"a": {}})).contains("nothing to compare with"));
        assert!(refused(json!({"a": {"in": "x"}})).contains("must be a list"));
        assert!(refused(json!({"a": {"gt": [1]}})).contains("number or a string"));
        assert!(refused(json!({"": 1})).contains("empty"));
    }

    #[test]
    fn deep_and_long_filters_are_refused() {
        let nested = |depth: usize| (0..depth).fold(json!({"a": 1}), |inner, _| json!({"and": [inner]}));
        assert_ne!(read(nested(32)), Filter::Everything);
        assert!(refused(nested(33)).contains("32 deep") && refused(nested(100)).contains("32 deep"));
        let long = |n: usize| json!({"or": vec![json!({"a": 1}); n]});
        assert!(Filter::from_value(&long(1000)).is_ok());
        assert!(refused(long(1001)).contains("1000 comparisons"));
    }
}
