//! What a database must have before it holds memories: a server that is new enough, constraints, indexes.

use std::time::Duration;

use mos_core::StoreError;
use neo4rs::{BoltType, Error};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::connection::Connection;
use super::fault::Fault;
use super::options::{Neo4jOptions, Tenancy};
use super::statements::{self, query};
use super::values::{integer, map, texts};
use crate::server_version::is_older;

/// The newest layout of the database this program knows; a node `MosMeta` keeps the one it has.
pub const SCHEMA_VERSION: i64 = 1;
/// The oldest server: the first whose statements take types of edges as parameters.
const OLDEST_SERVER: (u32, u32) = (5, 26);
/// How long indexes over memories that are there already may take to be made.
const MAX_WAIT_FOR_INDEXES: Duration = Duration::from_secs(600);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Attempts to make one index: several programs may open an empty database at once.
const MAX_ATTEMPTS: u32 = 5;

/// MemOS' own name for its vector index.
const VECTOR_INDEX: &str = "memory_vector_index";
const CREATE_VECTOR_INDEX: &str =
    "CREATE VECTOR INDEX memory_vector_index IF NOT EXISTS FOR (n:Memory) ON n.embedding OPTIONS $options";

/// Names of constraints and indexes, and how each is made. A constraint brings an index of its name.
const SCHEMA: [(&str, &str); 18] = [
    (
        "mos_memory_id",
        "CREATE CONSTRAINT mos_memory_id IF NOT EXISTS FOR (n:Memory) REQUIRE (n.user_name, n.id) IS UNIQUE",
    ),
    ("mos_scope", "CREATE CONSTRAINT mos_scope IF NOT EXISTS FOR (s:MosScope) REQUIRE s.tenant IS UNIQUE"),
    (
        "mos_version",
        "CREATE CONSTRAINT mos_version IF NOT EXISTS FOR (v:MosVersion) REQUIRE (v.tenant, v.id, v.number) IS UNIQUE",
    ),
    (
        "mos_tombstone",
        "CREATE CONSTRAINT mos_tombstone IF NOT EXISTS FOR (t:MosTombstone) REQUIRE (t.tenant, t.id) IS UNIQUE",
    ),
    (
        "mos_receipt",
        "CREATE CONSTRAINT mos_receipt IF NOT EXISTS FOR (r:MosReceipt) REQUIRE (r.tenant, r.key) IS UNIQUE",
    ),
    ("mos_outbox", "CREATE CONSTRAINT mos_outbox IF NOT EXISTS FOR (o:MosOutbox) REQUIRE o.tenant IS UNIQUE"),
    ("mos_job", "CREATE CONSTRAINT mos_job IF NOT EXISTS FOR (j:MosJob) REQUIRE (j.tenant, j.number) IS UNIQUE"),
    ("mos_job_prefix", "CREATE INDEX mos_job_prefix IF NOT EXISTS FOR (j:MosJob) ON (j.prefix)"),
    ("mos_meta", "CREATE CONSTRAINT mos_meta IF NOT EXISTS FOR (m:MosMeta) REQUIRE m.name IS UNIQUE"),
    ("mos_memory_tenant", "CREATE INDEX mos_memory_tenant IF NOT EXISTS FOR (n:Memory) ON (n.user_name)"),
    ("mos_memory_feed", "CREATE INDEX mos_memory_feed IF NOT EXISTS FOR (n:Memory) ON (n.user_name, n.mos_sequence)"),
    ("mos_memory_order", "CREATE INDEX mos_memory_order IF NOT EXISTS FOR (n:Memory) ON (n.user_name, n.mos_order)"),
    ("mos_memory_time", "CREATE INDEX mos_memory_time IF NOT EXISTS FOR (n:Memory) ON (n.user_name, n.mos_made_at)"),
    ("mos_memory_apart", "CREATE INDEX mos_memory_apart IF NOT EXISTS FOR (n:Memory) ON (n.user_name, n.mos_is_apart)"),
    (
        "mos_tombstone_feed",
        "CREATE INDEX mos_tombstone_feed IF NOT EXISTS FOR (t:MosTombstone) ON (t.tenant, t.sequence)",
    ),
    ("mos_version_memory", "CREATE INDEX mos_version_memory IF NOT EXISTS FOR (v:MosVersion) ON (v.tenant, v.id)"),
    ("mos_receipt_number", "CREATE INDEX mos_receipt_number IF NOT EXISTS FOR (r:MosReceipt) ON (r.tenant, r.number)"),
    (
        "mos_memory_terms",
        "CREATE FULLTEXT INDEX mos_memory_terms IF NOT EXISTS FOR (n:Memory) ON EACH [n.mos_terms]
         OPTIONS {indexConfig: {`fulltext.analyzer`: 'whitespace', `fulltext.eventually_consistent`: false}}",
    ),
];

/// The database `system` takes it in this form only.
const COMPONENTS: &str = "CALL dbms.components() YIELD name, versions, edition";
const KERNEL: &str = "Neo4j Kernel";
const INDEXES: &str = "SHOW INDEXES YIELD name, state WHERE name IN $names RETURN name, state";
const DATABASES: &str = "SHOW DATABASES YIELD name, access, home RETURN name, access, home";
const CREATE_DATABASE: &str = "CREATE DATABASE $name IF NOT EXISTS WAIT 60 SECONDS";

#[derive(Debug, Deserialize)]
struct ComponentRow {
    name: String,
    versions: Vec<String>,
    edition: String,
}

#[derive(Debug, Deserialize)]
struct DatabaseRow {
    name: String,
    /// `read-write` or `read-only`.
    access: String,
    /// It is the user's default one.
    home: bool,
}

#[derive(Debug, Deserialize)]
struct IndexRow {
    name: String,
    state: String,
}

#[derive(Debug, Deserialize)]
struct VersionRow {
    version: i64,
}

/// Connects, checks the server, and makes what is missing.
///
/// # Errors
/// [`StoreError::Unavailable`], [`StoreError::Invalid`] for a server that is too old or cannot do what the options ask,
/// or a database with several memories of one id, [`StoreError::Newer`].
pub(super) async fn open(options: &Neo4jOptions) -> Result<Connection, StoreError> {
    if options.tenancy == Tenancy::OwnDatabase {
        make_database(options).await?;
    }
    let connection = Connection::new(options, None)?;
    server(&connection).await?;
    let is_new = is_new(&connection).await?;
    make_indexes(options, &connection).await?;
    if is_new {
        let statement = query(statements::WRITE_SCHEMA_VERSION).param("version", SCHEMA_VERSION);
        connection.execute(statement).await.map_err(|fault| fault.into_store_error(connection.address()))?;
    }
    Ok(connection)
}

async fn make_indexes(options: &Neo4jOptions, connection: &Connection) -> Result<(), StoreError> {
    // A constraint is answered once all the nodes that are there were looked at.
    let patient = Neo4jOptions { answer_timeout: MAX_WAIT_FOR_INDEXES, ..options.clone() };
    let patient = Connection::new(&patient, None)?;
    let mut wanted: Vec<&str> = SCHEMA.iter().map(|(name, _)| *name).collect();
    let there = indexes(connection, &wanted).await?;
    for (name, text) in SCHEMA.iter().filter(|(name, _)| !there.iter().any(|row| row.name == *name)) {
        create(&patient, name, query(text)).await?;
    }
    if let Some(dimension) = options.vector_index_dimension {
        create(&patient, VECTOR_INDEX, vector_index(dimension)).await?;
        wanted.push(VECTOR_INDEX);
    }
    wait_until_online(connection, &wanted).await
}

/// Makes the user's own database.
async fn make_database(options: &Neo4jOptions) -> Result<(), StoreError> {
    let system = Connection::new(options, Some("system"))?;
    let component = server(&system).await?;
    if component.edition != "enterprise" {
        return Err(StoreError::Invalid(format!(
            "one database per user needs Neo4j Enterprise, but the server at {} is the {} edition; set \
             `own_database: false` (MemOS: `use_multi_db: false`), then all share one database and every memory is marked \
             with its cube",
            system.address(),
            component.edition
        )));
    }
    let name = options.database.as_deref().unwrap_or_default();
    let statement = query(CREATE_DATABASE).param("name", name);
    system.execute(statement).await.map_err(|fault| fault.into_store_error(system.address()))
}

/// Returns what there is to know of the server.
///
/// # Errors
/// Why it cannot be used.
pub(super) async fn facts(
    options: &Neo4jOptions,
    connection: &Connection,
) -> Result<Vec<(String, String)>, StoreError> {
    let component = server(connection).await?;
    let databases: Vec<DatabaseRow> = connection.read(query(DATABASES)).await?;
    let is_ours = |row: &DatabaseRow| options.database.as_ref().map_or(row.home, |name| *name == row.name);
    let database = databases.into_iter().find(is_ours);
    let access = database.as_ref().map_or_else(String::new, |row| row.access.clone());
    let facts = [
        ("server", connection.address().to_owned()),
        ("server version", format!("{} {}", component.versions.join(" "), component.edition)),
        ("database", database.map_or_else(String::new, |row| row.name)),
        ("access", access),
        ("layout version", SCHEMA_VERSION.to_string()),
    ];
    Ok(facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Refuses a server that is too old.
async fn server(connection: &Connection) -> Result<ComponentRow, StoreError> {
    let rows: Vec<ComponentRow> = connection.read(query(COMPONENTS)).await?;
    let component = rows.into_iter().find(|row| row.name == KERNEL).ok_or_else(|| {
        StoreError::Invalid(format!("the server at {} does not tell its version; is it Neo4j?", connection.address()))
    })?;
    let version = component.versions.first().map_or("", String::as_str);
    if is_older(version, OLDEST_SERVER) {
        return Err(StoreError::Invalid(format!(
            "the Neo4j server at {} has version `{version}`; {}.{} or later is needed",
            connection.address(),
            OLDEST_SERVER.0,
            OLDEST_SERVER.1
        )));
    }
    Ok(component)
}

/// Whether the database has no layout yet. Refuses one that a newer program made.
async fn is_new(connection: &Connection) -> Result<bool, StoreError> {
    let rows: Vec<VersionRow> = connection.read(query(statements::SCHEMA_VERSION)).await?;
    match rows.first() {
        None => Ok(true),
        Some(row) if row.version > SCHEMA_VERSION => Err(StoreError::Newer {
            path: format!("the Neo4j database at {}", connection.address()),
            found: row.version,
            known: SCHEMA_VERSION,
        }),
        Some(_) => Ok(false),
    }
}

async fn indexes(connection: &Connection, names: &[&str]) -> Result<Vec<IndexRow>, StoreError> {
    connection.read(query(INDEXES).param("names", texts(names.iter().copied()))).await
}

fn vector_index(dimension: usize) -> neo4rs::Query {
    let config =
        map([("vector.dimensions", integer(dimension)), ("vector.similarity_function", BoltType::from("cosine"))]);
    query(CREATE_VECTOR_INDEX).param("options", BoltType::Map(map([("indexConfig", BoltType::Map(config))])))
}

async fn create(connection: &Connection, name: &str, statement: neo4rs::Query) -> Result<(), StoreError> {
    for attempt in 1.. {
        let fault = match connection.execute(statement.clone()).await {
            Ok(()) => return Ok(()),
            Err(fault) => fault,
        };
        if attempt < MAX_ATTEMPTS && (fault.may_pass(true) || is_there_by_now(&fault)) {
            sleep(POLL_INTERVAL * attempt).await;
            continue;
        }
        return Err(refused(name, fault, connection.address()));
    }
    Ok(())
}

/// Another program made it at the same time.
fn is_there_by_now(fault: &Fault) -> bool {
    matches!(fault, Fault::Driver(Error::Neo4j(error)) if error.code().contains("AlreadyExists"))
}

fn refused(name: &str, fault: Fault, address: &str) -> StoreError {
    match &fault {
        Fault::Driver(Error::Neo4j(error)) if error.code().contains("ConstraintCreationFailed") => {
            StoreError::Invalid(format!(
                "the database at {address} holds several nodes where there may be one ({}); show them with `MATCH \
                 (n:Memory) WITH n.user_name AS user, n.id AS id, count(*) AS nodes WHERE nodes > 1 RETURN user, id, nodes`, \
                 delete all but one of each, and start again",
                error.message()
            ))
        }
        _ => {
            tracing::warn!(name, "an index of the Neo4j database could not be made");
            fault.into_store_error(address)
        }
    }
}

async fn wait_until_online(connection: &Connection, names: &[&str]) -> Result<(), StoreError> {
    let begun = Instant::now();
    loop {
        let rows = indexes(connection, names).await?;
        if let Some(row) = rows.iter().find(|row| row.state == "FAILED") {
            return Err(StoreError::Corrupt {
                what: format!("the index `{}` of the Neo4j database at {}", row.name, connection.address()),
                detail: "the server could not fill it; its log says why. Drop the index and start again".to_owned(),
            });
        }
        if rows.iter().all(|row| row.state == "ONLINE") {
            return Ok(());
        }
        if begun.elapsed() > MAX_WAIT_FOR_INDEXES {
            return Err(StoreError::Busy {
                what: format!("the Neo4j database at {}", connection.address()),
                detail: "it is still filling its indexes; wait, and start again".to_owned(),
            });
        }
        sleep(POLL_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_in_the_statements_that_make_them() {
        for (name, text) in SCHEMA {
            assert!(text.contains(&format!(" {name} IF NOT EXISTS")), "{name}");
        }
        assert!(CREATE_VECTOR_INDEX.contains(VECTOR_INDEX));
    }
}
