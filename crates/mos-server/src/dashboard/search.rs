//! Searching, with the reasons for every hit.

use axum::Json;
use mos::product::{ProductError, ProductResult};
use mos::{Search, SearchResult};
use mos_core::{CubeId, SearchMode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Answer;
use super::asking::{Asking, Conditions, read};
use super::memories::provenance;
use crate::extract::JsonBody;

/// The most hits of a cube.
const MAX_TOP_K: usize = 100;
/// The most cubes of one search.
const MAX_CUBES: usize = 100;

/// A question. It stands in the body, so that it is in no log of addresses.
#[derive(Debug, Deserialize)]
struct Question {
    query: String,
    /// None: every cube.
    #[serde(default)]
    cubes: Vec<String>,
    #[serde(default)]
    mode: Option<String>,
    #[serde(default)]
    top_k: Option<usize>,
    #[serde(default)]
    as_of: Option<String>,
    #[serde(default)]
    preferences: bool,
    #[serde(flatten)]
    conditions: Conditions,
}

/// Searches, and tells of every hit which signals brought it, on which paths, and what it was drawn from.
pub(super) async fn search(asking: Asking, JsonBody(body): JsonBody) -> Answer {
    let question: Question = read(body)?;
    let word = question.mode.as_deref().unwrap_or("fast");
    let mode = SearchMode::parse(word)
        .ok_or_else(|| ProductError::bad_value(format!("`mode` must be one of {}", SearchMode::WORDS.join(", "))))?;
    let mut search = Search::new(question.query.as_str())
        .user(asking.user.clone())
        .top_k(question.top_k.unwrap_or(10).clamp(1, MAX_TOP_K))
        .mode(mode)
        .types(question.conditions.types()?)
        .filter(question.conditions.filter()?)
        .include_preference(question.preferences);
    if let Some(cubes) = cubes_of(&asking, &question.cubes).await? {
        search = search.cubes(cubes);
    }
    if let Some(moment) = question.as_of.filter(|moment| !moment.is_empty()) {
        search = search.as_of(moment);
    }
    let found = asking.mos.search(search).await?;
    let mut told = json!(found);
    without_vectors(&mut told);
    with_provenance(&mut told, &found);
    Ok(Json(told))
}

/// The cubes to search; `None` for every cube of the user.
async fn cubes_of(asking: &Asking, named: &[String]) -> ProductResult<Option<Vec<CubeId>>> {
    if named.len() > MAX_CUBES {
        return Err(ProductError::bad_value(format!("at most {MAX_CUBES} cubes can be named at once")));
    }
    if !named.is_empty() {
        return named.iter().map(|cube| asking.cube_named(cube)).collect::<ProductResult<_>>().map(Some);
    }
    if asking.caller.cubes.is_none() {
        return Ok(None);
    }
    let mut cubes = asking.mos.list_cubes(&asking.user).await?;
    cubes.retain(|cube| cube.is_registered && asking.caller.check_cube(&cube.cube_id).is_ok());
    Ok(Some(cubes.into_iter().map(|cube| cube.cube_id).collect()))
}

fn without_vectors(found: &mut Value) {
    for kind in ["text_mem", "pref_mem"] {
        let cubes = found.get_mut(kind).and_then(Value::as_array_mut).into_iter().flatten();
        let hits = cubes.filter_map(|cube| cube.get_mut("memories").and_then(Value::as_array_mut)).flatten();
        for metadata in hits.filter_map(|hit| hit.get_mut("metadata").and_then(Value::as_object_mut)) {
            metadata.shift_remove("embedding");
            metadata.shift_remove("history");
        }
    }
}

/// Adds to every hit what it was drawn from.
fn with_provenance(told: &mut Value, found: &SearchResult) {
    for (kind, cubes) in [("text_mem", &found.text_mem), ("pref_mem", &found.pref_mem)] {
        let told = told.get_mut(kind).and_then(Value::as_array_mut).into_iter().flatten();
        for (told, cube) in told.zip(cubes) {
            let told = told.get_mut("memories").and_then(Value::as_array_mut).into_iter().flatten();
            for (told, hit) in told.zip(&cube.memories) {
                told["provenance"] = provenance(&hit.item);
            }
        }
    }
}
