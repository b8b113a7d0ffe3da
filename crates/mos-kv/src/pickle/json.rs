//! Metadata of an item as JSON.

use serde_json::{Map, Number, Value as Json};

use super::budget::Budget;
use super::error::PickleError;
use super::value::{Heap, Object, Value};

/// Nesting that metadata may have.
const MOST_DEPTH: usize = 64;

/// Bytes that a value of a JSON tree takes, with its place in a list or map.
const NODE: usize = 2 * size_of::<Json>();

/// Returns a value as JSON: tuples and sets are lists, times are texts, keys that are numbers become texts. `place`
/// names the value in messages.
///
/// # Errors
/// [`PickleError::Layout`] when the value has no counterpart, [`PickleError::TooMuch`] when it is too large: a small
/// file can describe a large tree by naming the same branches again and again.
pub(super) fn to_json<'a>(
    value: Value<'a>,
    place: &str,
    heap: &Heap<'a>,
    budget: &mut Budget,
) -> Result<Json, PickleError> {
    Writer { place, heap, budget }.value(value, 0)
}

struct Writer<'a, 'b> {
    place: &'b str,
    heap: &'b Heap<'a>,
    budget: &'b mut Budget,
}

impl<'a> Writer<'a, '_> {
    fn refuse(&self, what: &str) -> PickleError {
        PickleError::layout(
            self.place,
            format!("it holds {what}, which JSON cannot; remove it upstream and dump again"),
        )
    }

    fn value(&mut self, value: Value<'a>, depth: usize) -> Result<Json, PickleError> {
        if depth > MOST_DEPTH {
            return Err(PickleError::layout(self.place, format!("it is nested more than {MOST_DEPTH} deep")));
        }
        self.budget.memory(NODE, 0)?;
        self.budget.steps(1, 0)?;
        match value {
            Value::None => Ok(Json::Null),
            Value::Bool(yes) => Ok(Json::Bool(yes)),
            Value::Int(number) => Ok(Json::from(number)),
            Value::Unsigned(number) => Ok(Json::from(number)),
            Value::Long(_) => Err(self.refuse("a number of more than 64 bits")),
            Value::Float(number) => match Number::from_f64(number) {
                Some(number) => Ok(Json::Number(number)),
                None => Err(self.refuse("a number that is infinite or none")),
            },
            Value::Text(text) => self.text(text),
            Value::Bytes(_) => Err(self.refuse("bytes")),
            Value::Global(_) => Err(self.refuse("a class or function")),
            Value::Object(_) => self.object(value, depth),
        }
    }

    fn text(&mut self, text: &str) -> Result<Json, PickleError> {
        self.budget.memory(text.len(), 0)?;
        Ok(Json::String(text.to_owned()))
    }

    fn object(&mut self, value: Value<'a>, depth: usize) -> Result<Json, PickleError> {
        let heap = self.heap;
        match heap.of(value) {
            Some(Object::Tuple(items) | Object::List(items) | Object::Set(items)) => {
                items.iter().map(|item| self.value(*item, depth + 1)).collect::<Result<_, _>>().map(Json::Array)
            }
            Some(Object::Dict(pairs)) => {
                let mut map = Map::new();
                for (key, value) in pairs {
                    let key = self.key(*key, depth)?;
                    let value = self.value(*value, depth + 1)?;
                    map.insert(key, value);
                }
                Ok(Json::Object(map))
            }
            Some(Object::Text(text) | Object::Time(text)) => self.text(text),
            _ => Err(self.refuse("an object")),
        }
    }

    fn key(&mut self, key: Value<'a>, depth: usize) -> Result<String, PickleError> {
        match self.value(key, depth + 1)? {
            Json::String(text) => Ok(text),
            scalar @ (Json::Null | Json::Bool(_) | Json::Number(_)) => Ok(scalar.to_string()),
            Json::Array(_) | Json::Object(_) => Err(self.refuse("a dictionary with a collection as key")),
        }
    }
}
