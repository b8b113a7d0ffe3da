//! The full-text index.
//!
//! The server keeps one index for all cubes, so its own ranking would mix their statistics. Here each token begins with
//! its cube's mark; only the memories that hold a token, and how often, come from the server, and the scores are computed
//! from the cube's own numbers.

use std::collections::HashMap;
use std::fmt::Write;

use mos_core::{Filter, MemoryId, Scored, StoreError};
use serde::Deserialize;

use super::connection::Connection;
use super::layout::OneItem;
use super::read::ScopeRow;
use super::statements::{self, query};
use super::values::texts;
use crate::bm25::TermStatistics;

/// The most tokens of one query of the index, which takes 1024.
const MAX_TOKENS: usize = 500;
/// Stands around the code of a character that would end a token.
const ESCAPE: char = '¤';
/// How many of the best memories are looked at first when there is a filter.
const FIRST_LOOK: usize = 256;

/// Returns the text that is indexed for a memory: its tokens, each between spaces of its own, so that they can be counted.
pub(super) fn document(tenant: &str, terms: &[String]) -> String {
    let mark = mark(tenant);
    let mut document = String::new();
    for term in terms {
        document.push(' ');
        push_token(&mut document, &mark, term);
        document.push(' ');
    }
    document
}

/// Returns a tenant's mark, 16 hexadecimal digits (FNV-1a). Two tenants may have the same one: the mark saves work, it is
/// no wall.
fn mark(tenant: &str) -> String {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", tenant.bytes().fold(0xcbf2_9ce4_8422_2325, mix))
}

fn push_token(text: &mut String, mark: &str, term: &str) {
    text.push_str(mark);
    text.push('_');
    for c in term.chars() {
        if c.is_whitespace() || c.is_control() || c == ESCAPE {
            // Writing to a string cannot fail.
            let _ = write!(text, "{ESCAPE}{:x}{ESCAPE}", u32::from(c));
        } else {
            text.push(c);
        }
    }
}

/// Returns a token as the index's query language takes it: every character that could mean something is escaped.
fn quoted(token: &str) -> String {
    let mut text = String::with_capacity(token.len());
    for c in token.chars() {
        if c.is_ascii() && !c.is_ascii_alphanumeric() {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

#[derive(Debug, Deserialize)]
struct Candidate {
    id: String,
    n_terms: u32,
    frequencies: Vec<u32>,
}

/// Returns the best memories for the different terms of a query (sorted), best first, ties by id.
pub(super) async fn search(
    connection: &Connection,
    tenant: &str,
    query_terms: &[String],
    limit: usize,
    filter: &Filter,
) -> Result<Vec<Scored>, StoreError> {
    if query_terms.is_empty() || limit == 0 {
        return Ok(Vec::new());
    }
    let Some(scope) = ScopeRow::read(connection, tenant).await? else { return Ok(Vec::new()) };
    let statistics = TermStatistics { n_documents: scope.n_documents, n_terms: scope.n_terms };
    let mut scores: HashMap<String, f64> = HashMap::new();
    // The chunks are in the order of the terms, so scores are added in the order that every store adds them in.
    for chunk in query_terms.chunks(MAX_TOKENS) {
        add_scores(&mut scores, statistics, &candidates(connection, tenant, chunk).await?, chunk.len());
    }
    let mut ranked: Vec<Scored> =
        scores.into_iter().map(|(id, score)| Scored { id: MemoryId::new(id), score: score as f32 }).collect();
    ranked.sort_unstable_by(|left, right| right.score.total_cmp(&left.score).then_with(|| left.id.cmp(&right.id)));
    passing(connection, tenant, ranked, limit, filter).await
}

async fn candidates(connection: &Connection, tenant: &str, terms: &[String]) -> Result<Vec<Candidate>, StoreError> {
    let mark = mark(tenant);
    let tokens: Vec<String> = terms
        .iter()
        .map(|term| {
            let mut token = String::new();
            push_token(&mut token, &mark, term);
            token
        })
        .collect();
    let index_query = tokens.iter().map(|token| quoted(token)).collect::<Vec<_>>().join(" ");
    let between_spaces: Vec<String> = tokens.iter().map(|token| format!(" {token} ")).collect();
    let statement = query(statements::FULL_TEXT)
        .param("tenant", tenant)
        .param("query", index_query)
        .param("tokens", texts(between_spaces.iter().map(String::as_str)));
    connection.read(statement).await
}

fn add_scores(
    scores: &mut HashMap<String, f64>,
    statistics: TermStatistics,
    candidates: &[Candidate],
    n_terms_of_query: usize,
) {
    // A write between the two statements must not make more memories hold a word than there are.
    let n_documents = statistics.n_documents.max(candidates.len() as u64);
    let statistics = TermStatistics { n_documents, ..statistics };
    for term in 0..n_terms_of_query {
        let frequency = |candidate: &Candidate| candidate.frequencies.get(term).copied().unwrap_or_default();
        let n_containing = candidates.iter().filter(|candidate| frequency(candidate) > 0).count();
        let weight = statistics.weight(n_containing);
        for candidate in candidates.iter().filter(|candidate| frequency(candidate) > 0) {
            let score = statistics.score(weight, frequency(candidate), candidate.n_terms);
            match scores.get_mut(&candidate.id) {
                Some(sum) => *sum += score,
                None => {
                    scores.insert(candidate.id.clone(), score);
                }
            }
        }
    }
}

/// Walks down a ranking until `limit` memories pass the filter.
async fn passing(
    connection: &Connection,
    tenant: &str,
    mut ranked: Vec<Scored>,
    limit: usize,
    filter: &Filter,
) -> Result<Vec<Scored>, StoreError> {
    if *filter == Filter::Everything {
        ranked.truncate(limit);
        return Ok(ranked);
    }
    let mut found = Vec::new();
    let mut ranked = ranked.into_iter();
    let mut n_looked_at = limit.clamp(1, FIRST_LOOK);
    while found.len() < limit && ranked.len() > 0 {
        let look: Vec<Scored> = ranked.by_ref().take(n_looked_at).collect();
        let passes = passes(connection, tenant, &look, filter).await?;
        found.extend(look.into_iter().zip(passes).filter(|(_, passes)| *passes).map(|(one, _)| one));
        n_looked_at = (n_looked_at * 4).min(4 * FIRST_LOOK);
    }
    found.truncate(limit);
    Ok(found)
}

/// Returns for each of the memories whether it passes the filter.
pub(super) async fn passes(
    connection: &Connection,
    tenant: &str,
    looked_at: &[Scored],
    filter: &Filter,
) -> Result<Vec<bool>, StoreError> {
    let ids = texts(looked_at.iter().map(|one| one.id.as_str()));
    let rows: Vec<OneItem> =
        connection.read(query(statements::NODES).param("tenant", tenant).param("ids", ids)).await?;
    let mut passing = std::collections::HashSet::new();
    for OneItem { item } in rows {
        if filter.matches(&item.memory, &item.metadata()?) {
            passing.insert(item.id);
        }
    }
    Ok(looked_at.iter().map(|one| passing.contains(one.id.as_str())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(tenant: &str, term: &str) -> String {
        let mut text = String::new();
        push_token(&mut text, &mark(tenant), term);
        text
    }

    #[test]
    fn different_terms_have_different_tokens() {
        let terms = ["a.b", "a_b", "ab", "a b", "a\u{1}b", "a¤20¤b", "狗", "AND"];
        let tokens: std::collections::HashSet<String> = terms.iter().map(|term| token("c", term)).collect();
        assert_eq!(tokens.len(), terms.len());
        assert!(tokens.iter().all(|token| !token.contains(char::is_whitespace)));
        assert_ne!(token("1", "dog"), token("12", "dog"));
        assert_eq!(token("", "x"), "cbf29ce484222325_x", "marks are kept with the data: they never change");
    }

    #[test]
    fn nothing_in_a_term_means_anything_to_the_index() {
        assert_eq!(quoted("a_b"), "a\\_b");
        assert_eq!(quoted("\"x\" OR *:*~狗"), "\\\"x\\\"\\ OR\\ \\*\\:\\*\\~狗");
    }

    #[test]
    fn scores_stay_above_zero_while_others_write() {
        let candidate = |id: &str| Candidate { id: id.to_owned(), n_terms: 1, frequencies: vec![1] };
        let candidates = [candidate("a"), candidate("b"), candidate("c")];
        for n_documents in 0..4 {
            let mut scores = HashMap::new();
            add_scores(&mut scores, TermStatistics { n_documents, n_terms: n_documents }, &candidates, 1);
            assert!(scores.len() == 3 && scores.values().all(|score| *score > 0.0), "{n_documents}: {scores:?}");
        }
    }

    #[test]
    fn equal_tokens_side_by_side_can_be_counted() {
        let document = document("c", &["a".to_owned(), "a".to_owned(), "ab".to_owned()]);
        assert_eq!(document.split(&format!(" {} ", token("c", "a"))).count() - 1, 2);
    }
}
