//! Where the server is, and how it is used.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use mos_core::StoreError;

/// The databases that every server has for purposes of its own.
const BUILT_IN_DATABASES: [&str; 2] = ["neo4j", "system"];

/// How the memories of several users lie on the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tenancy {
    /// In one database, each memory marked with its cube (`user_name`), as MemOS does with `use_multi_db: false`.
    #[default]
    Shared,
    /// In the database that the options name, which is made when it is missing. Needs Neo4j Enterprise. The memories
    /// are marked with their cube all the same.
    OwnDatabase,
}

/// Where the server is, and how it is used. `Debug` shows no password.
#[derive(Clone)]
pub struct Neo4jOptions {
    /// The address: `bolt://host:7687`, with TLS `bolt+s://host:7687`; `neo4j` and `neo4j+s` mean the same.
    pub uri: String,
    /// The user's name.
    pub user: String,
    /// The user's password.
    pub password: String,
    /// The database; `None` for the user's default one.
    pub database: Option<String>,
    /// How the memories of several users lie on the server.
    pub tenancy: Tenancy,
    /// Begins the mark of every memory's cube. Stores of different prefixes do not know each other, when each ends in a
    /// character that no cube's id begins with, for example `/`.
    pub tenant_prefix: String,
    /// A file with the certificates (PEM) that the server's must be signed by; `None` for those that the system trusts.
    pub ca_certificate: Option<PathBuf>,
    /// The most connections that are open at the same time.
    pub max_connections: usize,
    /// How long it may take to get a connection.
    pub connect_timeout: Duration,
    /// How long the answer to one statement may take.
    pub answer_timeout: Duration,
    /// The most idempotency keys that are remembered per cube; the oldest are forgotten first.
    pub max_idempotency_keys: u32,
    /// How long idempotency keys are remembered.
    pub idempotency_age: Duration,
    /// Makes MemOS' vector index (`memory_vector_index`) for embeddings of this length, for other programs that read the
    /// database. This store does not need it and every write takes longer with it.
    pub vector_index_dimension: Option<usize>,
}

impl Neo4jOptions {
    /// Returns options for the server at an address: it is the one that is used, also when it is one of a cluster.
    pub fn at(uri: impl Into<String>, user: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            uri: uri.into(),
            user: user.into(),
            password: password.into(),
            database: None,
            tenancy: Tenancy::Shared,
            tenant_prefix: String::new(),
            ca_certificate: None,
            max_connections: 16,
            connect_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(30),
            max_idempotency_keys: 10_000,
            idempotency_age: Duration::from_secs(7 * 24 * 3600),
            vector_index_dimension: None,
        }
    }

    /// Returns the address for messages.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for an address or settings that cannot be right. The error does not repeat an address that
    /// may hold a password.
    pub(super) fn check(&self) -> Result<String, StoreError> {
        let invalid = |text: &str| Err(StoreError::Invalid(text.to_owned()));
        let (scheme, rest) = self.uri.split_once("://").unwrap_or(("", &self.uri));
        if rest.contains('@') {
            return invalid(
                "the address of the Neo4j server holds a user name or password; give them in the settings `user` and \
                 `password`, and the address as bolt://host:7687",
            );
        }
        match scheme {
            "bolt" | "neo4j" | "bolt+s" | "neo4j+s" => {}
            "bolt+ssc" | "neo4j+ssc" => {
                return invalid(
                    "the address of the Neo4j server asks for TLS without checking the certificate; write bolt+s:// and \
                     name the certificate's file",
                );
            }
            _ => {
                return invalid(
                    "the address of the Neo4j server cannot be read; write it as bolt://host:7687, with bolt+s:// for TLS",
                );
            }
        }
        if let Some(path) = &self.ca_certificate
            && let Err(error) = std::fs::metadata(path)
        {
            return Err(StoreError::Invalid(format!(
                "the certificate {} for the Neo4j server cannot be read: {error}; correct the path",
                path.display()
            )));
        }
        let address = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if address.is_empty() {
            return invalid("the address of the Neo4j server names no host; write it as bolt://host:7687");
        }
        if self.max_connections == 0 {
            return invalid("the Neo4j store is to have 0 connections; give it at least one");
        }
        if self.tenancy == Tenancy::OwnDatabase {
            match self.database.as_deref() {
                None => {
                    return invalid("one Neo4j database per user needs the database's name; give it as `db_name`");
                }
                Some(name) if BUILT_IN_DATABASES.contains(&name) => {
                    return Err(StoreError::Invalid(format!(
                        "the Neo4j database `{name}` belongs to the server; choose another name for a user's own database"
                    )));
                }
                Some(_) => {}
            }
        }
        Ok(address.to_owned())
    }
}

impl fmt::Debug for Neo4jOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Neo4jOptions")
            // What stands before an `@` may be a password.
            .field("uri", &self.uri.rsplit('@').next().unwrap_or_default())
            .field("user", &self.user)
            .field("database", &self.database)
            .field("tenancy", &self.tenancy)
            .field("tenant_prefix", &self.tenant_prefix)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(uri: &str) -> Neo4jOptions {
        Neo4jOptions::at(uri, "neo4j", "hunter2")
    }

    #[test]
    fn no_secret_is_shown() {
        assert!(!format!("{:?}", at("bolt://localhost")).contains("hunter2"));
        let in_address = Neo4jOptions::at("bolt://ann:hunter2@localhost", "neo4j", "x");
        assert!(!format!("{in_address:?}").contains("hunter2"));
        let error = in_address.check().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }

    #[test]
    fn good_addresses_are_known_by_host_and_port() {
        for uri in ["bolt://db.example:7688", "neo4j+s://db.example:7688/x", "bolt+s://db.example:7688?a=b"] {
            assert_eq!(at(uri).check().unwrap(), "db.example:7688");
        }
    }

    #[test]
    fn settings_that_cannot_be_right_are_refused() {
        for uri in ["localhost:7687", "http://localhost:7474", "bolt+ssc://localhost", "bolt://", ""] {
            assert!(matches!(at(uri).check(), Err(StoreError::Invalid(_))), "{uri}");
        }
        let own = |database: Option<&str>| Neo4jOptions {
            tenancy: Tenancy::OwnDatabase,
            database: database.map(str::to_owned),
            ..at("bolt://localhost")
        };
        assert!(own(None).check().is_err() && own(Some("neo4j")).check().is_err());
        assert!(own(Some("ann")).check().is_ok());
        let absent = Some("nowhere/ca.pem".into());
        let error = Neo4jOptions { ca_certificate: absent, ..at("bolt+s://localhost") }.check().unwrap_err();
        assert!(error.to_string().contains("nowhere/ca.pem"), "{error}");
        assert!(Neo4jOptions { max_connections: 0, ..at("bolt://localhost") }.check().is_err());
    }
}
