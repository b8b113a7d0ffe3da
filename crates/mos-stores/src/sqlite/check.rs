//! Whether the database agrees with itself, and how large it is.

use std::path::Path;

use rusqlite::{Connection, params};
use serde::Serialize;

use super::fault::Fault;
use super::schema;
use crate::codec;

/// Something wrong in the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong, in a few words.
    pub what: String,
    /// Where, and how it shows.
    pub detail: String,
    /// What to do.
    pub remedy: String,
}

/// How much the database holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// Version of its tables.
    pub schema_version: i64,
    /// Bytes of the file and its write-ahead log.
    pub file_bytes: u64,
    /// Active users.
    pub n_users: u64,
    /// Cubes.
    pub n_cubes: u64,
    /// Memories.
    pub n_memories: u64,
    /// Edges.
    pub n_edges: u64,
    /// Embeddings, those written aside too.
    pub n_embeddings: u64,
    /// Earlier states of memories.
    pub n_versions: u64,
    /// Number of the last change.
    pub sequence: u64,
}

/// What [`Finding::what`] says of memories whose cube is not in the database. Where users and cubes are kept elsewhere,
/// that is no fault.
pub const UNKNOWN_CUBE: &str = "memories of an unknown cube";

const RESTORE: &str = "stop all programs that use it and restore the file from a backup";
const REEMBED: &str = "run `mos cube reembed CUBE --force` on the cube before the slash";
const REPORT: &str = "dump the cubes, load them into a new data directory, and report this as a bug";
/// The most examples of one kind of damage that are told.
const MAX_EXAMPLES: usize = 5;

/// Checks that must select nothing: what is wrong with each row they select, the query (one text column), remedy.
const MUST_BE_EMPTY: &[(&str, &str, &str)] = &[
    (
        "memory without full-text entry",
        "SELECT id FROM nodes WHERE node_key NOT IN (SELECT id FROM terms_docsize)",
        REPORT,
    ),
    (
        "full-text entry without memory",
        "SELECT CAST(id AS TEXT) FROM terms_docsize WHERE id NOT IN (SELECT node_key FROM nodes)",
        REPORT,
    ),
    (
        "full-text entry out of step with its memory",
        "SELECT coalesce(nodes.id, 'document ' || found.doc) FROM (
             SELECT doc, count(*) AS n, min(CAST(substr(term, 1, instr(term, '_') - 1) AS INTEGER)) AS low,
                    max(CAST(substr(term, 1, instr(term, '_') - 1) AS INTEGER)) AS high
             FROM term_instances GROUP BY doc) AS found
         FULL JOIN nodes ON node_key = found.doc
         WHERE coalesce(found.n, 0) IS NOT nodes.n_terms
            OR (found.n > 0 AND (found.low <> nodes.scope OR found.high <> nodes.scope))",
        REPORT,
    ),
    (
        "term statistics of a cube out of step",
        "SELECT cube_id FROM scopes WHERE n_documents <> (SELECT count(*) FROM nodes WHERE scope = scope_key)
         OR n_terms <> (SELECT coalesce(sum(nodes.n_terms), 0) FROM nodes WHERE scope = scope_key)",
        REPORT,
    ),
    (
        "embedding without memory",
        "SELECT CAST(node AS TEXT) FROM embeddings WHERE node NOT IN (SELECT node_key FROM nodes)",
        REPORT,
    ),
    (
        "embedding of the wrong length",
        "SELECT cube_id || '/' || id FROM embeddings JOIN spaces ON space_key = embeddings.space
         JOIN nodes ON node_key = node JOIN scopes ON scope_key = nodes.scope WHERE length(vector) <> 4 * dimension",
        REEMBED,
    ),
    (
        "edge without ends, or across cubes",
        "SELECT source || ' ' || kind || ' ' || target FROM edges
         LEFT JOIN nodes AS s ON s.node_key = source LEFT JOIN nodes AS t ON t.node_key = target
         WHERE s.scope IS NULL OR t.scope IS NULL OR s.scope <> t.scope",
        REPORT,
    ),
    (
        UNKNOWN_CUBE,
        "SELECT cube_id FROM scopes WHERE cube_id NOT IN (SELECT cube_id FROM cubes)
         AND EXISTS (SELECT 1 FROM nodes WHERE scope = scope_key)",
        "a program wrote them without making the cube; `mos cube create` with this id removes them and starts anew",
    ),
    (
        "change number beyond the last one",
        "SELECT id FROM (SELECT id, sequence FROM nodes UNION ALL SELECT id, sequence FROM tombstones) AS told
         WHERE told.sequence > (SELECT store.sequence FROM store)",
        REPORT,
    ),
    (
        "removed memory that is still there",
        "SELECT nodes.id FROM tombstones JOIN nodes ON nodes.scope = tombstones.scope AND nodes.id = tombstones.id",
        REPORT,
    ),
    (
        "number of jobs of a cube out of step",
        "SELECT cube_id FROM scopes LEFT JOIN queues ON queues.scope = scope_key
         WHERE coalesce(n_jobs, 0) <> (SELECT count(*) FROM jobs WHERE jobs.scope = scope_key)
            OR coalesce(n_dead, 0) <> (SELECT count(*) FROM jobs WHERE jobs.scope = scope_key AND stage = 4)",
        REPORT,
    ),
    (
        "cube with jobs at the wrong place in the line",
        "SELECT cube_id FROM queues JOIN scopes ON scope_key = scope
         WHERE (turn IS NOT NULL) <> EXISTS (SELECT 1 FROM jobs WHERE jobs.scope = scope_key AND stage = 2)",
        REPORT,
    ),
    (
        "job out of the order of its group",
        "SELECT id FROM jobs AS job WHERE stage < 3 AND (stage = 0) <> EXISTS (
             SELECT 1 FROM jobs AS other INDEXED BY jobs_in_group
             WHERE other.scope = job.scope AND other.in_group = job.in_group AND other.in_group IS NOT NULL
             AND other.stage < 4 AND (other.job_key < job.job_key OR other.stage = 3))",
        REPORT,
    ),
    (
        "entries of a log with gaps, or beyond its last one",
        "SELECT cube_id || '/' || name FROM state_logs JOIN scopes ON scope_key = state_logs.scope
         JOIN (SELECT log, count(*) AS n, min(sequence) AS low, max(sequence) AS high
               FROM state_entries GROUP BY log) AS found ON found.log = log_key
         WHERE found.high <> last OR found.high - found.low + 1 <> found.n",
        REPORT,
    ),
    (
        "document or entry of a log that cannot be read",
        "SELECT cube_id || '/' || key FROM state_documents JOIN scopes ON scope_key = state_documents.scope
         WHERE state_documents.value IS NOT NULL AND NOT json_valid(state_documents.value)
         UNION ALL
         SELECT cube_id || '/' || name FROM state_entries JOIN state_logs ON log_key = log
         JOIN scopes ON scope_key = state_logs.scope WHERE NOT json_valid(state_entries.value)",
        RESTORE,
    ),
];

pub(super) fn check(connection: &Connection) -> Result<Vec<Finding>, Fault> {
    let mut findings = Vec::new();
    if !integrity(connection, &mut findings)? {
        // What the other checks would say of a damaged file cannot be trusted, if they could read it at all.
        return Ok(findings);
    }
    foreign_keys(connection, &mut findings)?;
    for (what, sql, remedy) in MUST_BE_EMPTY {
        let mut statement = connection.prepare(sql)?;
        let names: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        report(&mut findings, what, &names, remedy);
    }
    let names = vectors_of_another_length(connection)?;
    report(&mut findings, "embedding that is not of unit length", &names, REEMBED);
    let names = unreadable_items(connection)?;
    report(&mut findings, "memory that cannot be read", &names, RESTORE);
    Ok(findings)
}

fn report(findings: &mut Vec<Finding>, what: &str, names: &[String], remedy: &str) {
    if names.is_empty() {
        return;
    }
    let examples: Vec<String> = names.iter().take(MAX_EXAMPLES).map(|name| format!("`{name}`")).collect();
    let rest = names.len() - examples.len();
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    findings.push(Finding {
        what: what.to_owned(),
        detail: format!("{}{more}", examples.join(", ")),
        remedy: remedy.to_owned(),
    });
}

/// What `SQLite` itself can tell of the file, the full-text index included; returns whether it is whole.
fn integrity(connection: &Connection, findings: &mut Vec<Finding>) -> Result<bool, Fault> {
    let mut statement = connection.prepare("PRAGMA integrity_check")?;
    let mut faults = Vec::new();
    let mut rows = statement.query([])?;
    loop {
        match rows.next() {
            Ok(Some(row)) => faults.push(row.get::<_, String>(0)?),
            Ok(None) => break,
            // So damaged that the check itself breaks off: what it found until then still counts.
            Err(error) => {
                faults.push(error.to_string());
                break;
            }
        }
    }
    drop(rows);
    faults.retain(|line| line != "ok");
    report(findings, "damaged file", &faults, RESTORE);
    Ok(faults.is_empty())
}

fn foreign_keys(connection: &Connection, findings: &mut Vec<Finding>) -> Result<(), Fault> {
    let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
    let loose = statement.query_map([], |row| {
        let (table, row_key, parent): (String, Option<i64>, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(format!("{table} row {} without its {parent}", row_key.map_or("?".to_owned(), |key| key.to_string())))
    })?;
    let loose: Vec<String> = loose.collect::<Result<_, _>>()?;
    report(findings, "row without what it belongs to", &loose, RESTORE);
    Ok(())
}

fn vectors_of_another_length(connection: &Connection) -> Result<Vec<String>, Fault> {
    let mut statement = connection.prepare(
        "SELECT cube_id || '/' || id, vector FROM embeddings JOIN nodes ON node_key = node
         JOIN scopes ON scope_key = nodes.scope",
    )?;
    let mut rows = statement.query([])?;
    let mut names = Vec::new();
    while let Some(row) = rows.next()? {
        let bytes = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
        let length =
            codec::vector_from_bytes(bytes).iter().map(|number| f64::from(*number).powi(2)).sum::<f64>().sqrt();
        if length.is_nan() || (length - 1.0).abs() > 1e-3 {
            names.push(row.get(0)?);
        }
    }
    Ok(names)
}

fn unreadable_items(connection: &Connection) -> Result<Vec<String>, Fault> {
    let mut statement = connection.prepare("SELECT id, memory, metadata FROM nodes")?;
    let mut rows = statement.query([])?;
    let mut names = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, memory, metadata): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let restored = codec::parse_metadata(&id, &metadata)
            .and_then(|metadata| codec::restore_item(id.as_str().into(), memory, metadata));
        if restored.is_err() {
            names.push(id);
        }
    }
    Ok(names)
}

pub(super) fn statistics(connection: &Connection, path: &Path) -> Result<Statistics, Fault> {
    let number = |sql: &str| -> Result<u64, Fault> {
        let number: i64 = connection.query_row(sql, params![], |row| row.get(0))?;
        Ok(number.unsigned_abs())
    };
    let pages = number("PRAGMA page_count")? * number("PRAGMA page_size")?;
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let log_bytes = std::fs::metadata(log).map_or(0, |file| file.len());
    Ok(Statistics {
        schema_version: schema::version(connection)?,
        file_bytes: pages + log_bytes,
        n_users: number("SELECT count(*) FROM users WHERE is_active")?,
        n_cubes: number("SELECT count(*) FROM cubes")?,
        n_memories: number("SELECT count(*) FROM nodes")?,
        n_edges: number("SELECT count(*) FROM edges")?,
        n_embeddings: number("SELECT count(*) FROM embeddings")?,
        n_versions: number("SELECT count(*) FROM versions")?,
        sequence: number("SELECT sequence FROM store")?,
    })
}
