//! Filters of requests: for all cubes, or one for each.

use std::collections::BTreeMap;

use mos_core::{Condition, CubeId, Filter, Operator};
use serde_json::{Map, Value};

use super::error::{ProductError, ProductResult};
use crate::facade::Search;

/// Which memories of which cube are meant.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PerCubeFilter {
    /// For cubes without a filter of their own.
    rest: Filter,
    own: BTreeMap<CubeId, Filter>,
}

impl PerCubeFilter {
    /// Returns the filter for one cube.
    pub(super) fn of(&self, cube: &CubeId) -> Filter {
        self.own.get(cube).unwrap_or(&self.rest).clone()
    }

    /// Returns a search of several cubes that finds in each what is meant there.
    pub(super) fn narrow(&self, search: Search) -> Search {
        // Where cubes have filters of their own, the others have none.
        let search = search.filter(self.rest.clone());
        self.own.iter().fold(search, |search, (cube, filter)| search.filter_in(cube.clone(), filter.clone()))
    }
}

impl From<Filter> for PerCubeFilter {
    /// The same filter for every cube.
    fn from(filter: Filter) -> Self {
        Self { rest: filter, own: BTreeMap::new() }
    }
}

/// What was read from one file.
pub(super) fn of_file(file: &str) -> Filter {
    Filter::Is(Condition { field: "file_ids".to_owned(), operator: Operator::Contains, value: Value::from(file) })
}

/// Reads the filter of a request about some cubes: `{"and": [..]}`, `{"or": [..]}`, or conditions; these may stand in each
/// other. An object whose keys are all among the cubes and whose values are all objects holds a filter for each of them; of a
/// cube that it leaves out, every memory is meant.
///
/// # Errors
/// Status 400 for an unknown operator, a value of the wrong form, and `and` or `or` beside other keys.
pub(super) fn read_filter(value: Option<&Map<String, Value>>, cubes: &[CubeId]) -> ProductResult<PerCubeFilter> {
    let Some(map) = value.filter(|map| !map.is_empty()) else { return Ok(PerCubeFilter::default()) };
    let own: Option<BTreeMap<CubeId, &Map<String, Value>>> = map
        .iter()
        .map(|(key, value)| Some((cubes.iter().find(|cube| cube.as_str() == key)?.clone(), value.as_object()?)))
        .collect();
    let Some(own) = own else { return Ok(one_filter(map)?.into()) };
    let read = |(cube, map): (CubeId, &Map<String, Value>)| Ok((cube, one_filter(map)?));
    let own = own.into_iter().map(read).collect::<ProductResult<_>>()?;
    Ok(PerCubeFilter { rest: Filter::Everything, own })
}

/// Reads one filter, whose joins stand alone.
pub(super) fn one_filter(map: &Map<String, Value>) -> ProductResult<Filter> {
    let joins = ["and", "or"].into_iter().filter(|join| map.contains_key(*join)).count();
    if joins > 0 && map.len() > 1 {
        return Err(ProductError::bad_value(
            "the filter cannot be used: `and` or `or` stands beside other keys; put these into its list",
        ));
    }
    Filter::from_value(&Value::Object(map.clone()))
        .map_err(|error| ProductError::bad_value(format!("the filter cannot be used: {error}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> ProductResult<PerCubeFilter> {
        read_filter(value.as_object(), &[CubeId::from("ann"), CubeId::from("work")])
    }

    #[test]
    fn an_object_of_searched_cubes_is_a_filter_for_each() {
        let filter = read(&json!({"ann": {"key": "tea"}})).unwrap();
        assert_eq!(filter.of(&"ann".into()), Filter::equals("key", "tea"));
        assert_eq!(filter.of(&"work".into()), Filter::Everything);
        let both = read(&json!({"ann": {"key": "tea"}, "work": {"or": [{"key": "a"}, {"key": "b"}]}})).unwrap();
        assert_eq!(both.of(&"work".into()), Filter::Any(vec![Filter::equals("key", "a"), Filter::equals("key", "b")]));
    }

    #[test]
    fn anything_else_is_a_condition_for_all() {
        let filter = read(&json!({"key": "tea"})).unwrap();
        assert_eq!((filter.of(&"ann".into()), filter.of(&"work".into())), {
            let tea = Filter::equals("key", "tea");
            (tea.clone(), tea)
        });
        let mixed = read(&json!({"ann": {"eq": "x"}, "key": "tea"})).unwrap();
        assert_ne!(mixed.of(&"work".into()), Filter::Everything, "`ann` is the name of a field here");
        let equal = read(&json!({"ann": "x"})).unwrap();
        assert_eq!(equal.of(&"work".into()), Filter::equals("ann", "x"));
        assert_eq!(read(&json!({})).unwrap(), PerCubeFilter::default());
        assert_eq!(read(&Value::Null).unwrap(), PerCubeFilter::default());
    }

    #[test]
    fn joins_stand_in_each_other() {
        let filter = read(&json!({"and": [{"or": [{"key": "a"}, {"key": "b"}]}, {"type": "fact"}]})).unwrap();
        let either = Filter::Any(vec![Filter::equals("key", "a"), Filter::equals("key", "b")]);
        assert_eq!(filter.of(&"ann".into()), Filter::All(vec![either, Filter::equals("type", "fact")]));
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        for (bad, told) in [
            (json!({"key": {"near": "x"}}), "near"),
            (json!({"and": "x"}), "list"),
            (json!({"key": {"in": "x"}}), "list"),
            (json!({"and": [{"key": "a"}], "type": "fact"}), "beside"),
            (json!({"and": [], "or": []}), "beside"),
            (json!({"ann": {"key": {"near": 1}}}), "near"),
        ] {
            let error = read(&bad).unwrap_err();
            assert_eq!(error.status, 400, "{bad}");
            assert!(error.message.contains(told), "{}", error.message);
        }
    }
}
