//! The full-text index.
//!
//! FTS5 keeps one index for all cubes, so its own ranking would mix their statistics. Here each term begins with
//! its cube's key and only postings are read from FTS5; the scores are computed from the cube's own numbers.

use std::collections::HashMap;
use std::fmt::Write;

use mos_core::{Filter, MemoryId, Scope, Scored};
use rusqlite::{Connection, OptionalExtension, params};

use super::apply::scope_key;
use super::fault::Fault;
use crate::bm25::TermStatistics;
use crate::codec;

/// Adds a memory's terms to the index.
pub(super) fn write(connection: &Connection, node: i64, scope_key: i64, terms: &[String]) -> Result<(), Fault> {
    let mut document = String::new();
    for term in terms {
        push_token(&mut document, scope_key, term);
        document.push(' ');
    }
    connection.prepare_cached("INSERT INTO terms (rowid, tokens) VALUES (?1, ?2)")?.execute(params![node, document])?;
    Ok(())
}

/// Takes a memory's terms out of the index.
pub(super) fn remove(connection: &Connection, node: i64) -> Result<(), Fault> {
    connection.prepare_cached("DELETE FROM terms WHERE rowid = ?1")?.execute([node])?;
    Ok(())
}

/// Takes the terms of every memory of a cube out of the index.
pub(super) fn remove_all(connection: &Connection, scope_key: i64) -> Result<(), Fault> {
    connection
        .prepare_cached("DELETE FROM terms WHERE rowid IN (SELECT node_key FROM nodes WHERE scope = ?1)")?
        .execute([scope_key])?;
    Ok(())
}

/// Returns the best memories for the different terms of a query, best first, ties by id.
pub(super) fn search(
    connection: &Connection,
    scope: &Scope,
    query_terms: &[String],
    limit: usize,
    filter: &Filter,
) -> Result<Vec<Scored>, Fault> {
    let Some(scope_key) = scope_key(connection, scope)? else { return Ok(Vec::new()) };
    if limit == 0 {
        return Ok(Vec::new());
    }
    let scores = score(connection, scope_key, query_terms)?;
    let mut ranked: Vec<(i64, f32)> = scores.into_iter().map(|(node, score)| (node, score as f32)).collect();
    ranked.sort_unstable_by(|left, right| right.1.total_cmp(&left.1).then(left.0.cmp(&right.0)));
    best(connection, &ranked, limit, filter)
}

fn score(connection: &Connection, scope_key: i64, query_terms: &[String]) -> Result<HashMap<i64, f64>, Fault> {
    let statistics = statistics(connection, scope_key)?;
    let mut lengths: HashMap<i64, u32> = HashMap::new();
    let mut scores: HashMap<i64, f64> = HashMap::new();
    for term in query_terms {
        let postings = postings(connection, scope_key, term)?;
        let weight = statistics.weight(postings.len());
        for (node, frequency) in postings {
            let length = match lengths.get(&node) {
                Some(length) => *length,
                None => {
                    let length = n_terms(connection, scope_key, node)?;
                    lengths.insert(node, length);
                    length
                }
            };
            *scores.entry(node).or_default() += statistics.score(weight, frequency, length);
        }
    }
    Ok(scores)
}

/// Walks down the ranking until `limit` memories pass the filter and no equal score is left over.
fn best(connection: &Connection, ranked: &[(i64, f32)], limit: usize, filter: &Filter) -> Result<Vec<Scored>, Fault> {
    let mut found: Vec<Scored> = Vec::new();
    let mut statement = connection.prepare_cached("SELECT id, memory, metadata FROM nodes WHERE node_key = ?1")?;
    for (node, score) in ranked {
        if found.len() >= limit && found.last().is_some_and(|last| last.score != *score) {
            break;
        }
        let mut rows = statement.query([node])?;
        let Some(row) = rows.next()? else { continue };
        let id: String = row.get(0)?;
        if *filter != Filter::Everything {
            let (memory, metadata) = (row.get_ref(1)?.as_str(), row.get_ref(2)?.as_str());
            let (memory, metadata) = (memory.map_err(rusqlite::Error::from)?, metadata.map_err(rusqlite::Error::from)?);
            if !filter.matches(memory, &codec::parse_metadata(&id, metadata)?) {
                continue;
            }
        }
        found.push(Scored { id: MemoryId::new(id), score: *score });
    }
    found.sort_by(|left, right| right.score.total_cmp(&left.score).then_with(|| left.id.cmp(&right.id)));
    found.truncate(limit);
    Ok(found)
}

pub(super) fn statistics(connection: &Connection, scope_key: i64) -> Result<TermStatistics, Fault> {
    let mut statement = connection.prepare_cached("SELECT n_documents, n_terms FROM scopes WHERE scope_key = ?1")?;
    let read = |row: &rusqlite::Row<'_>| {
        let (n_documents, n_terms): (i64, i64) = (row.get(0)?, row.get(1)?);
        Ok(TermStatistics { n_documents: n_documents.unsigned_abs(), n_terms: n_terms.unsigned_abs() })
    };
    Ok(statement.query_row([scope_key], read)?)
}

/// Returns the memories that hold a term and how often, in the order of their keys.
fn postings(connection: &Connection, scope_key: i64, term: &str) -> Result<Vec<(i64, u32)>, Fault> {
    let mut token = String::new();
    push_token(&mut token, scope_key, term);
    // One row per occurrence; those of one memory stand together.
    let mut statement = connection.prepare_cached("SELECT doc FROM term_instances WHERE term = ?1")?;
    let mut rows = statement.query([token])?;
    let mut postings: Vec<(i64, u32)> = Vec::new();
    while let Some(row) = rows.next()? {
        let node: i64 = row.get(0)?;
        match postings.last_mut() {
            Some((last, frequency)) if *last == node => *frequency += 1,
            _ => postings.push((node, 1)),
        }
    }
    Ok(postings)
}

fn n_terms(connection: &Connection, scope_key: i64, node: i64) -> Result<u32, Fault> {
    let mut statement = connection
        .prepare_cached("SELECT n_terms FROM nodes INDEXED BY nodes_in_order WHERE scope = ?1 AND node_key = ?2")?;
    let length: Option<i64> = statement.query_row(params![scope_key, node], |row| row.get(0)).optional()?;
    Ok(length.map_or(0, |length| u32::try_from(length).unwrap_or(u32::MAX)))
}

/// Appends `<scope key>_<term>`; ASCII characters that the tokenizer would split at become `_` and two hex digits.
fn push_token(document: &mut String, scope_key: i64, term: &str) {
    document.push_str(&scope_key.to_string());
    document.push('_');
    for c in term.chars() {
        if c.is_ascii_alphanumeric() || !c.is_ascii() {
            document.push(c);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(document, "_{:02x}", u32::from(c));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_terms_have_different_tokens() {
        let token = |scope, term: &str| {
            let mut text = String::new();
            push_token(&mut text, scope, term);
            text
        };
        assert_eq!(token(12, "dog"), "12_dog");
        assert_eq!(token(1, "a.b"), "1_a_2eb");
        assert_ne!(token(1, "a_2eb"), token(1, "a.b"), "the escape character is escaped itself");
        assert_ne!(token(1, "2_x"), token(12, "x"));
        assert_eq!(token(3, "狗"), "3_狗");
    }
}
