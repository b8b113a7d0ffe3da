//! Who asks, as which user, and about which cube.

use std::collections::BTreeSet;

use axum::extract::{FromRequestParts, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use mos::Mos;
use mos::product::{Caller, Identity, ProductError, ProductResult, Scope};
use mos_core::{Condition, CubeId, Filter, MemoryType, Operator, Status, UserId, moment};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::extract::Authenticated;
use crate::state::ServerState;

/// The most types that one question may name.
const MAX_TYPES: usize = 16;

/// Who asks, and as which user: the one that the key belongs to, or the one that a program names with `user_id`.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    pub(super) mos: Mos,
    pub(super) caller: Caller,
    pub(super) user: UserId,
    pairs: Vec<(String, String)>,
}

impl FromRequestParts<ServerState> for Asking {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ServerState) -> Result<Self, ApiError> {
        let Authenticated(caller) = Authenticated::from_request_parts(parts, state).await?;
        caller.check(Scope::Read)?;
        let pairs = pairs_of(parts)?;
        let user = user_of(&caller, named(&pairs, "user_id"))?;
        Ok(Self { mos: state.app().mos().clone(), caller, user, pairs })
    }
}

/// Returns what stands in the query string.
pub(super) fn pairs_of(parts: &Parts) -> Result<Vec<(String, String)>, ApiError> {
    let read = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
    read.map(|pairs| pairs.0).map_err(|refused| ApiError::new(StatusCode::BAD_REQUEST, refused.body_text()))
}

/// Returns a value of the query string that is not empty.
pub(super) fn named<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
}

/// Returns the user that a caller acts for.
pub(super) fn user_of(caller: &Caller, named: Option<&str>) -> ProductResult<UserId> {
    let named = named.map(UserId::parse).transpose()?;
    if let Some(user) = &named {
        caller.check_user(user)?;
    }
    match (&caller.identity, named) {
        (Identity::User(own), _) => Ok(own.clone()),
        (Identity::Program, Some(user)) => Ok(user),
        (Identity::Program, None) => {
            Err(ProductError::bad_value("this key acts for any user; say for which with `?user_id=`"))
        }
    }
}

impl Asking {
    /// Refuses a caller that may not change anything.
    pub(super) fn to_write(&self) -> ProductResult<()> {
        self.caller.check(Scope::Write)
    }

    /// Returns the cube that the query string names, when the caller may use it. The facade checks the user's rights.
    pub(super) fn cube(&self) -> ProductResult<CubeId> {
        match self.text("cube") {
            Some(cube) => self.cube_named(cube),
            None => Err(ProductError::bad_value("name the cube with `?cube=`")),
        }
    }

    /// Returns a cube of this id, when the caller may use it.
    pub(super) fn cube_named(&self, id: &str) -> ProductResult<CubeId> {
        let cube = CubeId::parse(id)?;
        self.caller.check_cube(&cube)?;
        Ok(cube)
    }

    /// Returns a value of the query string; `None` for an empty one.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        named(&self.pairs, name)
    }

    /// Returns a number of the query string, `default` without one, and never more than `most`.
    pub(super) fn number(&self, name: &str, default: usize, most: usize) -> ProductResult<usize> {
        let Some(text) = self.text(name) else { return Ok(default) };
        let number: usize =
            text.parse().map_err(|_| ProductError::bad_value(format!("`{name}` must be a whole number, 0 or more")))?;
        Ok(number.min(most))
    }

    /// Returns the conditions of the query string.
    pub(super) fn conditions(&self) -> Conditions {
        let own = |name: &str| self.text(name).map(str::to_owned);
        let types = self.text("types").map(|words| words.split(',').map(str::to_owned).collect());
        Conditions {
            types: types.unwrap_or_default(),
            status: own("status"),
            tag: own("tag"),
            since: own("since"),
            until: own("until"),
        }
    }
}

/// Which memories are meant.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct Conditions {
    /// Shelves; none for any.
    pub(super) types: Vec<String>,
    status: Option<String>,
    tag: Option<String>,
    since: Option<String>,
    until: Option<String>,
}

impl Conditions {
    /// Returns the types by their words.
    pub(super) fn types(&self) -> ProductResult<Vec<MemoryType>> {
        if self.types.len() > MAX_TYPES {
            return Err(ProductError::bad_value(format!("at most {MAX_TYPES} types can be named at once")));
        }
        let words: BTreeSet<&str> = self.types.iter().map(String::as_str).collect();
        let unknown = |word: &str| {
            let known = MemoryType::WORDS.join(", ");
            ProductError::bad_value(format!("`{word}` is no type of memories; they are {known}"))
        };
        words.into_iter().map(|word| MemoryType::parse(word).ok_or_else(|| unknown(word))).collect()
    }

    /// Returns the filter of all but the types.
    pub(super) fn filter(&self) -> ProductResult<Filter> {
        let is = |field: &str, operator: Operator, value: Value| {
            Filter::Is(Condition { field: field.to_owned(), operator, value })
        };
        let mut filter = Filter::Everything;
        if let Some(status) = given(&self.status) {
            let status = Status::parse(status).ok_or_else(|| {
                ProductError::bad_value(format!("`status` must be one of {}", Status::WORDS.join(", ")))
            })?;
            filter = filter.and(Filter::equals("status", status.as_str()));
        }
        if let Some(tag) = given(&self.tag) {
            filter = filter.and(is("tags", Operator::Contains, json!(tag)));
        }
        if let Some(since) = given(&self.since) {
            filter = filter.and(is("updated_at", Operator::Gte, json!(checked_moment("since", since)?)));
        }
        if let Some(until) = given(&self.until) {
            filter = filter.and(match next_day(until) {
                Some(next) => is("updated_at", Operator::Lt, json!(next)),
                None => is("updated_at", Operator::Lte, json!(checked_moment("until", until)?)),
            });
        }
        Ok(filter)
    }

    /// Returns the filter with the types in it; without types that of every memory which is not a shelf of copies.
    pub(super) fn listing(&self) -> ProductResult<Filter> {
        let types = self.types()?;
        let of_types = if types.is_empty() {
            Filter::Not(Box::new(Filter::equals("memory_type", MemoryType::Working.as_str())))
        } else {
            Filter::one_of("memory_type", types.into_iter().map(MemoryType::as_str))
        };
        Ok(self.filter()?.and(of_types))
    }
}

fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

fn checked_moment<'a>(name: &str, text: &'a str) -> ProductResult<&'a str> {
    match moment(text) {
        Some(_) => Ok(text),
        None => Err(ProductError::bad_value(format!("`{name}` must be a date such as 2026-01-31"))),
    }
}

/// Returns the day after a day, so that all of the day is before it; `None` for what is no day alone.
fn next_day(text: &str) -> Option<String> {
    let day: jiff::civil::Date = if text.len() == 10 { text.parse().ok()? } else { return None };
    day.tomorrow().ok().map(|next| next.to_string())
}

/// Reads the body of a request.
pub(super) fn read<T: DeserializeOwned>(body: Value) -> ProductResult<T> {
    serde_json::from_value(body).map_err(|error| ProductError::bad_value(format!("the body is not right: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(value: Value) -> Conditions {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_program_names_its_user_and_a_user_is_itself() {
        let program = Caller::program();
        assert_eq!(user_of(&program, Some("ann")).unwrap(), UserId::from("ann"));
        assert_eq!(user_of(&program, None).unwrap_err().status, 400);
        let ann = Caller::user("ann");
        assert_eq!(user_of(&ann, None).unwrap(), UserId::from("ann"));
        assert_eq!(user_of(&ann, Some("bob")).unwrap_err().status, 403);
    }

    #[test]
    fn a_day_until_which_memories_are_wanted_belongs_to_them() {
        let filter = conditions(json!({"until": "2026-01-31"})).filter().unwrap();
        let metadata = |at: &str| json!({"updated_at": at}).as_object().unwrap().clone();
        assert!(filter.matches("", &metadata("2026-01-31T23:59:59+00:00")));
        assert!(!filter.matches("", &metadata("2026-02-01T00:00:00+00:00")));
        assert_eq!(conditions(json!({"since": "soon"})).filter().unwrap_err().status, 400);
    }

    #[test]
    fn a_list_without_types_leaves_working_copies_out() {
        let filter = conditions(json!({})).listing().unwrap();
        let of_type = |word: &str| json!({"memory_type": word}).as_object().unwrap().clone();
        assert!(filter.matches("", &of_type("LongTermMemory")) && !filter.matches("", &of_type("WorkingMemory")));
        assert!(filter.matches("", json!({}).as_object().unwrap()));
        let unknown = conditions(json!({"types": ["Nonsense"]})).listing().unwrap_err();
        assert!(unknown.message.contains("LongTermMemory"), "{unknown}");
    }
}
