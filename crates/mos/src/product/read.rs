//! Requests out of JSON, with every fault named as pydantic names it, which is what clients of MemOS read.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::error::ProductError;

/// One fault of a request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Issue {
    /// The kind of fault, in pydantic's words: `missing`, `string_type`, `enum`, `greater_than_equal`, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// The path to the field: `body`, `query` or `path` first; indexes of lists are numbers.
    pub loc: Vec<Value>,
    /// What is wrong.
    pub msg: String,
    /// What was given.
    pub input: Value,
    /// What would have been allowed, for some kinds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ctx: Option<Value>,
}

/// Collects the faults of one value and of what is in it.
#[derive(Debug)]
pub struct RequestFields<'a> {
    loc: Vec<Value>,
    issues: &'a mut Vec<Issue>,
    /// The least that the field which is being read may be, where that is said.
    least: f64,
}

impl<'a> RequestFields<'a> {
    /// Begins at a place: `body`, `query` or `path`.
    pub fn at(place: &str, issues: &'a mut Vec<Issue>) -> Self {
        Self { loc: vec![json!(place)], issues, least: 0.0 }
    }

    /// Refuses the value at this place.
    pub fn refuse(&mut self, kind: &str, msg: impl Into<String>, input: &Value) {
        self.refuse_with(kind, msg, input, None);
    }

    /// As [`RequestFields::refuse`], with what would have been allowed.
    pub fn refuse_with(&mut self, kind: &str, msg: impl Into<String>, input: &Value, ctx: Option<Value>) {
        let (kind, msg) = (kind.to_owned(), msg.into());
        self.issues.push(Issue { kind, loc: self.loc.clone(), msg, input: input.clone(), ctx });
    }

    /// Refuses a number at this place that is less than it may be.
    pub(crate) fn refuse_below(&mut self, least: f64, input: &Value) {
        #[allow(clippy::cast_possible_truncation, reason = "it has no fraction, and limits are small numbers")]
        let shown = if least.fract() == 0.0 { json!(least as i64) } else { json!(least) };
        let msg = format!("Input should be greater than or equal to {shown}");
        self.refuse_with("greater_than_equal", msg, input, Some(json!({"ge": shown})));
    }

    /// Reads a field that may not be less than this; types that hold no such number tell the same limit.
    pub(crate) fn bounded<T>(&mut self, least: f64, read: impl FnOnce(&mut Self) -> T) -> T {
        self.least = least;
        let result = read(self);
        self.least = 0.0;
        result
    }

    /// Reads what is in this value under a key or an index.
    pub fn within<T>(&mut self, key: impl Into<Value>, read: impl FnOnce(&mut Self) -> T) -> T {
        self.loc.push(key.into());
        let result = read(self);
        self.loc.pop();
        result
    }

    /// Returns a field that must be there.
    pub fn required<T: Field>(&mut self, map: &Map<String, Value>, key: &str) -> Option<T> {
        match map.get(key) {
            Some(value) => self.within(key, |fields| T::read(value, fields)),
            None => {
                let input = Value::Object(map.clone());
                self.within(key, |fields| fields.refuse("missing", "Field required", &input));
                None
            }
        }
    }

    /// Returns a field that may be missing; the outer `None` when it is there and wrong.
    #[allow(clippy::option_option, reason = "wrong and absent are two things")]
    pub fn optional<T: Field>(&mut self, map: &Map<String, Value>, key: &str) -> Option<Option<T>> {
        match map.get(key) {
            Some(value) => self.within(key, |fields| T::read(value, fields)).map(Some),
            None => Some(None),
        }
    }
}

/// A type that fields of requests have.
pub trait Field: Sized {
    /// Returns the value, or tells what is wrong with it.
    fn read(value: &Value, fields: &mut RequestFields<'_>) -> Option<Self>;

    /// Whether it is at least `least`; all are that have no order.
    fn is_at_least(&self, least: f64) -> bool {
        let _ = least;
        true
    }
}

impl Field for String {
    fn read(value: &Value, fields: &mut RequestFields<'_>) -> Option<Self> {
        let text = value.as_str().map(str::to_owned);
        if text.is_none() {
            fields.refuse("string_type", "Input should be a valid string", value);
        }
        text
    }
}

impl Field for bool {
    fn read(value: &Value, fields: &mut RequestFields<'_>) -> Option<Self> {
        let lax = match value {
            Value::Bool(is) => return Some(*is),
            Value::String(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" | "t" | "y" => Some(true),
                "false" | "0" | "no" | "off" | "f" | "n" => Some(false),
                _ => None,
            },
            Value::Number(number) => match number.as_f64() {
                Some(1.0) => Some(true),
                Some(0.0) => Some(false),
                _ => None,
            },
            _ => {
                fields.refuse("bool_type", "Input should be a valid boolean", value);
                return None;
            }
        };
        if lax.is_none() {
            fields.refuse("bool_parsing", "Input should be a valid boolean, unable to interpret input", value);
        }
        lax
    }
}

impl Field for i64 {
    fn read(value: &Value, fields: &mut RequestFields<'_>) -> Option<Self> {
        match value {
            Value::Number(number) => {
                let whole = number.as_i64().or_else(|| {
                    let float = number.as_f64()?;
                    #[allow(clippy::cast_possible_truncation, reason = "it has no fraction and was bounded")]
                    (float.fract() == 0.0 && float.abs() < 9e15).then_some(float as i64)
                });
                if whole.is_none() {
                    let msg = "Input should be a valid integer, got a number with a fractional part";
                    fields.refuse("int_from_float", msg, value);
                }
                whole
            }
            Value::String(text) => {
                let parsed = text.trim().parse().ok();
                if parsed.is_none() {
                    let msg = "Input should be a valid integer, unable to parse string as an integer";
                    fields.refuse("int_parsing", msg, value);
                }
                parsed
            }
            _ => {
                fields.refuse("int_type", "Input should be a valid integer", value);
                None
            }
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "limits are small numbers")]
    fn is_at_least(&self, least: f64) -> bool {
        *self as f64 >= least
    }
}

impl Field for usize {
    fn read(value: &Value, fields: &mut RequestFields<'_>) -> Option<Self> {
        let number = i64::read(value, fields)?;
        let whole = Self::try_from(number).ok();
        if whole.is_none() {
            fields.refuse_below(fields.least, value);
        }
        whole
    }

    #[allow(clippy::cast_precision_loss, reason = "limits are small numbers")]
    fn is_at_least(&self, least: f64) -> bool {
        *self as f64 >= least
    }
}

impl Field for f64 {
    fn read(value: &Value, fields: &mut RequestFields<'_>) -> Option<Self> {
        let number = match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => {
                let parsed = text.trim().parse::<Self>().ok().filter(|number| number.is_finite());
                if parsed.is_none() {
                    let msg = "Input should be a valid number, unable to parse string as a number";
                    fields.refuse("float_parsing", msg, value);
                    return None;
                }
                parsed
            }
            _ => None,
        };
        if number.is_none() {
            fields.refuse("float_type", "Input should be a valid number", value);
        }
        number
    }

    fn is_at_least(&self, least: f64) -> bool {
        *self >= least
    }
}

impl Field for Value {
    fn read(value: &Value, _: &mut RequestFields<'_>) -> Option<Self> {
        Some(value.clone())
    }
}

impl Field for Map<String, Value> {
    fn read(value: &Value, fields: &mut RequestFields<'_>) -> Option<Self> {
        let map = value.as_object().cloned();
        if map.is_none() {
            fields.refuse("dict_type", "Input should be a valid dictionary", value);
        }
        map
    }
}

impl<T: Field> Field for Vec<T> {
    fn read(value: &Value, fields: &mut RequestFields<'_>) -> Option<Self> {
        let Some(list) = value.as_array() else {
            fields.refuse("list_type", "Input should be a valid list", value);
            return None;
        };
        // All faults are told, so all items are read.
        let read: Vec<Option<T>> =
            list.iter().enumerate().map(|(index, item)| fields.within(index, |fields| T::read(item, fields))).collect();
        read.into_iter().collect()
    }
}

/// JSON null is a value of its own.
impl<T: Field> Field for Option<T> {
    fn read(value: &Value, fields: &mut RequestFields<'_>) -> Option<Self> {
        if value.is_null() { Some(None) } else { T::read(value, fields).map(Some) }
    }

    fn is_at_least(&self, least: f64) -> bool {
        self.as_ref().is_none_or(|value| value.is_at_least(least))
    }
}

/// A request that is read out of JSON.
pub trait Request: Sized {
    /// Returns the request, or tells every fault.
    fn read(map: &Map<String, Value>, fields: &mut RequestFields<'_>) -> Option<Self>;

    /// Returns the request that a JSON body is.
    ///
    /// # Errors
    /// [`ProductError`] with status 422 and every fault.
    fn from_json(body: &Value) -> Result<Self, ProductError> {
        Self::from_part("body", body)
    }

    /// As [`Request::from_json`], for fields that are in the `query` or `path`.
    ///
    /// # Errors
    /// As [`Request::from_json`].
    fn from_part(part: &str, value: &Value) -> Result<Self, ProductError> {
        let mut issues = Vec::new();
        let mut fields = RequestFields::at(part, &mut issues);
        let read = match value.as_object() {
            Some(map) => Self::read(map, &mut fields),
            None if value.is_null() => {
                fields.refuse("missing", "Field required", value);
                None
            }
            None => {
                let msg = "Input should be a valid dictionary or object to extract fields from";
                fields.refuse("model_attributes_type", msg, value);
                None
            }
        };
        match read {
            Some(request) if issues.is_empty() => Ok(request),
            _ => Err(ProductError::refused(issues)),
        }
    }
}

/// Makes a request: `required` fields must be there; `optional` ones may be missing or null; `default` ones have a value when
/// they are missing. `at least N` bounds numbers, also in the schema. Unknown fields are ignored. `new` takes the required ones.
macro_rules! request {
    (
        $(#[$doc:meta])*
        pub struct $name:ident as $schema:ident {
            $(
                $(#[$field_doc:meta])*
                $kind:ident $field:ident : $type:ty $(= $default:expr)? $(, at least $least:tt)?
            );* $(;)?
        }
    ) => {
        request!(
            @struct [$(#[$doc])*] $name $schema []
            $([ $(#[$field_doc])* $(#[schema(minimum = $least)])? $kind $field : $type ])*
        );

        impl $crate::product::Request for $name {
            fn read(
                map: &serde_json::Map<String, serde_json::Value>,
                fields: &mut $crate::product::RequestFields<'_>,
            ) -> Option<Self> {
                $(
                    let $field = fields.bounded(request!(@least $($least)?), |fields| {
                        request!(@read $kind fields map $field $type $(= $default)?)
                    });
                )*
                $($(
                    if let Some(value) = &$field
                        && !$crate::product::Field::is_at_least(value, $least)
                    {
                        let input = map.get(stringify!($field)).cloned().unwrap_or_default();
                        fields.within(stringify!($field), |fields| fields.refuse_below($least, &input));
                    }
                )?)*
                Some(Self { $($field: $field?),* })
            }
        }

        request!(@new $name [] [] $([ $kind $field : $type $(= $default)? ])*);
    };

    (@struct [$($doc:tt)*] $name:ident $schema:ident [$($done:tt)*]) => {
        $($doc)*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, utoipa::ToSchema)]
        #[schema(as = $schema)]
        pub struct $name { $($done)* }
    };
    (@struct $docs:tt $name:ident $schema:ident [$($done:tt)*]
        [ $(#[$field_doc:meta])* optional $field:ident : $type:ty ] $($rest:tt)*) => {
        request!(@struct $docs $name $schema [$($done)* $(#[$field_doc])* pub $field: Option<$type>,] $($rest)*);
    };
    (@struct $docs:tt $name:ident $schema:ident [$($done:tt)*]
        [ $(#[$field_doc:meta])* $kind:ident $field:ident : $type:ty ] $($rest:tt)*) => {
        request!(@struct $docs $name $schema [$($done)* $(#[$field_doc])* pub $field: $type,] $($rest)*);
    };

    (@least) => { 0.0 };
    (@least $least:tt) => { $least };

    (@read required $fields:ident $map:ident $field:ident $type:ty) => {
        $fields.required::<$type>($map, stringify!($field))
    };
    (@read optional $fields:ident $map:ident $field:ident $type:ty) => {
        $fields.optional::<Option<$type>>($map, stringify!($field)).map(Option::flatten)
    };
    (@read default $fields:ident $map:ident $field:ident $type:ty = $default:expr) => {
        $fields.optional::<$type>($map, stringify!($field)).map(|value| value.unwrap_or_else(|| $default))
    };

    (@new $name:ident [$($parameter:tt)*] [$($value:tt)*]) => {
        impl $name {
            /// Returns the request with what it must have; everything else is as when it is left out.
            pub fn new($($parameter)*) -> Self {
                Self { $($value)* }
            }
        }
    };
    (@new $name:ident [$($parameter:tt)*] [$($value:tt)*] [ required $field:ident : $type:ty ] $($rest:tt)*) => {
        request!(@new $name [$($parameter)* $field: $type,] [$($value)* $field,] $($rest)*);
    };
    (@new $name:ident [$($parameter:tt)*] [$($value:tt)*] [ optional $field:ident : $type:ty ] $($rest:tt)*) => {
        request!(@new $name [$($parameter)*] [$($value)* $field: None,] $($rest)*);
    };
    (@new $name:ident [$($parameter:tt)*] [$($value:tt)*] [ default $field:ident : $type:ty = $default:expr ] $($rest:tt)*) => {
        request!(@new $name [$($parameter)*] [$($value)* $field: $default,] $($rest)*);
    };
}

/// Makes an enum of words. The first word after the name is pydantic's kind of fault: `enum` or `literal_error`.
macro_rules! words {
    (
        $(#[$doc:meta])*
        $kind:ident pub enum $name:ident as $schema:ident { $($(#[$word_doc:meta])* $variant:ident = $word:literal),* $(,)? }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
        #[schema(as = $schema)]
        pub enum $name {
            $($(#[$word_doc])* #[serde(rename = $word)] $variant),*
        }

        impl $name {
            /// The word of requests.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl $crate::product::Field for $name {
            fn read(value: &serde_json::Value, fields: &mut $crate::product::RequestFields<'_>) -> Option<Self> {
                match value.as_str() {
                    $(Some($word) => Some(Self::$variant),)*
                    _ => {
                        let words: Vec<String> = [$($word),*].iter().map(|word| format!("'{word}'")).collect();
                        let expected = match words.as_slice() {
                            [before @ .., last] if !before.is_empty() => format!("{} or {last}", before.join(", ")),
                            words => words.concat(),
                        };
                        let msg = format!("Input should be {expected}");
                        fields.refuse_with(stringify!($kind), msg, value, Some(serde_json::json!({"expected": expected})));
                        None
                    }
                }
            }
        }
    };
}

#[cfg(test)]
#[allow(unreachable_pub, dead_code, reason = "the macros make public types, which here nobody sees")]
mod tests {
    use super::*;

    words! {
        /// How fast.
        literal_error pub enum Speed as Speed {
            /// Slow.
            Slow = "slow",
            /// Fast.
            Fast = "fast",
        }
    }

    request! {
        /// A request.
        pub struct Sample as Sample {
            /// Who.
            required user_id: String;
            /// Where.
            optional places: Vec<String>;
            /// How many.
            default top_k: usize = 10, at least 1.0;
            /// How fast.
            default speed: Option<Speed> = Some(Speed::Slow);
        }
    }

    fn faults(body: &Value) -> Vec<(String, Value)> {
        let error = Sample::from_json(body).unwrap_err();
        error.detail.iter().map(|issue| (issue.kind.clone(), json!(issue.loc))).collect()
    }

    #[test]
    fn a_request_has_the_defaults_of_what_is_missing() {
        let sample = Sample::from_json(&json!({"user_id": "ann", "unknown": 1, "places": null})).unwrap();
        assert_eq!(sample, Sample::new("ann".to_owned()));
        assert_eq!((sample.top_k, sample.speed), (10, Some(Speed::Slow)));
        let all = json!({"user_id": "ann", "places": ["a"], "top_k": "3", "speed": null});
        let all = Sample::from_json(&all).unwrap();
        assert_eq!((all.top_k, all.speed, all.places), (3, None, Some(vec!["a".to_owned()])));
    }

    #[test]
    fn a_number_that_is_too_small_is_told_the_least_of_its_field() {
        for body in [json!({"user_id": "ann", "top_k": 0}), json!({"user_id": "ann", "top_k": -1})] {
            let error = Sample::from_json(&body).unwrap_err();
            let [issue] = error.detail.as_slice() else { panic!("{body}: {:?}", error.detail) };
            assert_eq!((issue.kind.as_str(), json!(issue.loc)), ("greater_than_equal", json!(["body", "top_k"])));
            assert_eq!(issue.msg, "Input should be greater than or equal to 1");
            assert_eq!((&issue.ctx, &issue.input), (&Some(json!({"ge": 1})), &body["top_k"]));
        }
        let mut issues = Vec::new();
        let mut fields = RequestFields::at("body", &mut issues);
        assert_eq!(usize::read(&json!(-1), &mut fields), None);
        assert_eq!(issues[0].ctx, Some(json!({"ge": 0})), "where no field says more");
    }

    #[test]
    fn every_fault_is_told_with_its_place_and_kind() {
        let body = json!({"places": ["a", 1], "top_k": 0, "speed": "quick"});
        let expected = [
            ("missing", json!(["body", "user_id"])),
            ("string_type", json!(["body", "places", 1])),
            ("literal_error", json!(["body", "speed"])),
            ("greater_than_equal", json!(["body", "top_k"])),
        ];
        assert_eq!(faults(&body), expected.map(|(kind, loc)| (kind.to_owned(), loc)));
        let wrong = json!({"user_id": null, "places": "a", "top_k": "x", "speed": "slow"});
        let kinds: Vec<String> = faults(&wrong).into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(kinds, ["string_type", "list_type", "int_parsing"]);
        assert_eq!(faults(&json!([]))[0].0, "model_attributes_type");
        assert_eq!(faults(&Value::Null), [("missing".to_owned(), json!(["body"]))]);
    }
}
