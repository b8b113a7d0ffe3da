//! The servers as containers, where an engine runs: those of the repository's `docker-compose.yml`.

use std::process::Command;

use anyhow::Context;

use super::server::{Server, Service};
use crate::shell;

/// How long the slowest container may take until it is healthy.
const WAIT_SECONDS: &str = "180";

/// Whether Docker Compose is here and its engine answers.
pub(super) fn works() -> bool {
    let answers = |arguments: &[&str]| shell::run_quietly(Command::new("docker").args(arguments)).is_ok();
    answers(&["compose", "version"]) && answers(&["info"])
}

/// Starts the servers under a project of their own, and waits until they are healthy.
pub(super) fn up(project: &str, servers: &[Server]) -> anyhow::Result<()> {
    let mut command = compose(project, servers);
    command.args(["up", "--detach", "--wait", "--wait-timeout", WAIT_SECONDS]);
    command.args(servers.iter().map(|server| server.service.name()));
    shell::run_quietly(&mut command).context("Docker Compose cannot start the services")?;
    Ok(())
}

/// Ends the project's containers and removes their data.
pub(super) fn down(project: &str, servers: &[Server]) -> anyhow::Result<()> {
    let mut command = compose(project, servers);
    shell::run_quietly(command.args(["down", "--volumes"])).context("Docker Compose cannot end the services")?;
    Ok(())
}

fn compose(project: &str, servers: &[Server]) -> Command {
    let mut command = Command::new("docker");
    command.arg("compose").arg("--file").arg(shell::root().join("docker-compose.yml"));
    // What is set here wins over `.env`, which holds the secrets of the user's own servers.
    command.args(["--project-name", project]).envs(variables(servers));
    command
}

/// What the file asks for. It wants the secrets of all services, also of those that are not started.
fn variables(servers: &[Server]) -> Vec<(&'static str, String)> {
    let mut variables = Vec::new();
    for service in Service::ALL {
        let server = servers.iter().find(|server| server.service == service);
        let (password, port, http_port) = names(service);
        variables.push((password, server.map_or_else(super::server::random, |server| server.password.clone())));
        if let Some(server) = server {
            variables.push((port, server.port.to_string()));
            variables.extend(http_port.map(|name| (name, server.http_port.to_string())));
        }
    }
    variables
}

/// The variables of `docker-compose.yml`: password, port, port for HTTP.
fn names(service: Service) -> (&'static str, &'static str, Option<&'static str>) {
    match service {
        Service::Neo4j => ("NEO4J_PASSWORD", "NEO4J_BOLT_PORT", Some("NEO4J_HTTP_PORT")),
        Service::Qdrant => ("QDRANT_API_KEY", "QDRANT_GRPC_PORT", Some("QDRANT_HTTP_PORT")),
        Service::Redis => ("REDIS_PASSWORD", "REDIS_PORT", None),
        Service::Postgres => ("POSTGRES_PASSWORD", "POSTGRES_PORT", None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::Runner;
    use super::*;

    /// The names stand in two files.
    #[test]
    fn the_compose_file_asks_for_what_is_given_and_has_no_other_secrets() {
        let text = std::fs::read_to_string(shell::root().join("docker-compose.yml")).unwrap();
        let example = std::fs::read_to_string(shell::root().join(".env.example")).unwrap();
        for service in Service::ALL {
            let (password, port, http_port) = names(service);
            assert!(text.contains(&format!("\n  {}:\n", service.name())), "{}", service.name());
            assert!(text.contains(&format!("${{{password}:?set it in .env}}")), "{password}");
            assert!(example.contains(&format!("\n{password}=\n")), "{password}");
            for port in std::iter::once(port).chain(http_port) {
                assert!(text.contains(&format!("127.0.0.1:${{{port}:-")), "{port}");
            }
        }
        // `$${` is for the shell in the container.
        for secret in text.replace("$${", "").split("${").skip(1).filter_map(|rest| rest.split('}').next()) {
            assert!(secret.ends_with(":?set it in .env") || secret.contains("_PORT:-"), "{secret} has a default");
        }
    }

    #[test]
    fn each_server_gets_its_own_password_and_ports() {
        let runner = Runner::Compose { project: "p".to_owned() };
        let server = Server::new(Service::Redis, [4001, 4002], "secret", runner);
        let variables = variables(&[server]);
        let value = |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
        assert_eq!(value("REDIS_PASSWORD"), Some("secret"));
        assert_eq!(value("REDIS_PORT"), Some("4001"));
        assert!(value("NEO4J_PASSWORD").is_some_and(|password| password.len() == 32));
        assert_eq!(value("NEO4J_BOLT_PORT"), None);
    }
}
