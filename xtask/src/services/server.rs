//! The services, and what is known of a server that runs.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::{bolt, probe, state::Runner};

/// What tests of real stores talk to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Service {
    Neo4j,
    Qdrant,
    Redis,
    Postgres,
}

impl Service {
    pub(super) const ALL: [Self; 4] = [Self::Neo4j, Self::Qdrant, Self::Redis, Self::Postgres];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Neo4j => "neo4j",
            Self::Qdrant => "qdrant",
            Self::Redis => "redis",
            Self::Postgres => "postgres",
        }
    }

    /// The variable that holds the address. When it is set, its server is used and none is started.
    pub(super) fn variable(self) -> &'static str {
        match self {
            Self::Neo4j => "NEO4J_URI",
            Self::Qdrant => "QDRANT_URL",
            Self::Redis => "REDIS_URL",
            Self::Postgres => "DATABASE_URL",
        }
    }

    /// The port of an address that names none.
    pub(super) fn usual_port(self) -> u16 {
        match self {
            Self::Neo4j => 7687,
            Self::Qdrant => 6334,
            Self::Redis => 6379,
            Self::Postgres => 5432,
        }
    }

    /// Qdrant's server is in no package registry, so a machine without Docker may be without it.
    pub(super) fn is_optional(self) -> bool {
        self == Self::Qdrant
    }
}

/// A server that was started here. It listens on this machine only and wants its password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Server {
    pub(super) service: Service,
    pub(super) port: u16,
    /// Where those speak HTTP that do, beside `port`.
    pub(super) http_port: u16,
    pub(super) password: String,
    pub(super) runner: Runner,
}

impl Server {
    pub(super) fn new(service: Service, [port, http_port]: [u16; 2], password: &str, runner: Runner) -> Self {
        Self { service, port, http_port, password: password.to_owned(), runner }
    }

    /// The project of Docker Compose in which the server runs, if it does.
    pub(super) fn project(&self) -> Option<String> {
        match &self.runner {
            Runner::Process { .. } => None,
            Runner::Compose { project } => Some(project.clone()),
        }
    }

    /// The address without secrets.
    pub(super) fn address(&self) -> String {
        let port = self.port;
        match self.service {
            Service::Neo4j => format!("bolt://127.0.0.1:{port}"),
            Service::Qdrant => format!("http://127.0.0.1:{port}"),
            Service::Redis => format!("redis://127.0.0.1:{port}/0"),
            Service::Postgres => format!("postgres://127.0.0.1:{port}/mos"),
        }
    }

    /// The variables by which programs find the server.
    pub(super) fn variables(&self) -> Vec<(String, String)> {
        let (address, password, port) = (self.address(), &self.password, self.port);
        let further = match self.service {
            Service::Neo4j => vec![("NEO4J_USER", "neo4j".to_owned()), ("NEO4J_PASSWORD", password.clone())],
            Service::Qdrant => vec![("QDRANT_API_KEY", password.clone())],
            Service::Redis | Service::Postgres => Vec::new(),
        };
        let address = match self.service {
            Service::Neo4j | Service::Qdrant => address,
            Service::Redis => format!("redis://:{password}@127.0.0.1:{port}/0"),
            Service::Postgres => format!("postgres://mos:{password}@127.0.0.1:{port}/mos"),
        };
        let variables = std::iter::once((self.service.variable(), address)).chain(further);
        variables.map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Whether the server answers as it should.
    ///
    /// # Errors
    /// What it answered instead, or why it cannot be reached.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        match self.service {
            Service::Neo4j => bolt::check(at(self.port), "neo4j", &self.password),
            Service::Qdrant => probe::http_ready(at(self.http_port), "/readyz"),
            Service::Redis => probe::redis(at(self.port), &self.password),
            Service::Postgres => probe::postgres(at(self.port)),
        }
    }
}

/// Two different ports that nobody listens on at this moment.
pub(super) fn free_ports() -> anyhow::Result<[u16; 2]> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on this machine");
    let (one, two) = (listen()?, listen()?);
    Ok([one.local_addr()?.port(), two.local_addr()?.port()])
}

/// 122 random bits as text that no shell, address or configuration file needs to quote.
pub(super) fn random() -> String {
    #[allow(clippy::disallowed_methods, reason = "a password must not be foreseen")]
    uuid::Uuid::new_v4().simple().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_addresses_hold_no_password() {
        let password = random();
        for service in Service::ALL {
            let runner = Runner::Compose { project: "p".to_owned() };
            let server = Server::new(service, [1, 2], &password, runner);
            assert!(!server.address().contains(&password), "{}", service.name());
            let variables = server.variables();
            assert_eq!(variables[0].0, service.variable());
            assert!(variables.iter().any(|(_, value)| value.contains(&password)), "{}", service.name());
        }
    }
}
