//! The servers that tests of real stores talk to: those that the environment names, else own ones on this machine.
//!
//! Own ones listen on loopback, each with a random password, and throw their data away when they end. A file below the
//! target folder names them, so that later runs find and end them.

mod bolt;
mod compose;
mod neo4j;
mod postgres;
mod probe;
mod process;
mod qdrant_edge;
mod recipe;
mod server;
mod start;
mod state;

use std::collections::BTreeSet;
use std::fs::File;

use anyhow::bail;

use process::End;
pub(crate) use qdrant_edge::tests_of as qdrant_edge_tests;
pub(crate) use recipe::{in_path, install_from_debian};
use server::{Server, Service};
use state::{Folder, Runner, State};

/// Starts what is not there, waits until all is healthy, and leaves it running. With `export`, prints the variables as
/// a shell takes them.
///
/// # Errors
/// When a service that every machine can have is not there in the end; the others run all the same.
pub(crate) fn up(export: bool) -> anyhow::Result<()> {
    let folder = Folder::of_this_checkout()?;
    let _lock = folder.lock()?;
    let mut state = folder.load()?;
    state.kept = true;
    let given = given(&state, variable);
    let absent = start::all(&folder, &mut state, &given, true)?;
    if export {
        for (name, value) in environment(&state, &given) {
            println!("export {name}='{}'", value.replace('\'', r"'\''"));
        }
    }
    let required: Vec<&str> =
        absent.iter().filter(|one| !one.service.is_optional()).map(|one| one.service.name()).collect();
    anyhow::ensure!(required.is_empty(), "without {}: see above", required.join(", "));
    Ok(())
}

/// Ends what `up` or an interrupted run of tests started, and removes its data.
pub(crate) fn down() -> anyhow::Result<()> {
    let folder = Folder::of_this_checkout()?;
    let _lock = folder.lock()?;
    let mut state = folder.load()?;
    if state.servers.is_empty() {
        say("services", "nothing was started here");
    }
    end_all(&folder, &mut state)
}

/// Prints, for each service, its address, whether it answers, and who gives it.
pub(crate) fn status() -> anyhow::Result<()> {
    let folder = Folder::of_this_checkout()?;
    let state = folder.load()?;
    let given = given(&state, variable);
    println!("{:<10} {:<6} {:<40} by", "service", "state", "address");
    for service in Service::ALL {
        let (answer, address, by) = describe(service, &state, &given);
        let (verdict, reason) = match answer {
            Ok(()) => ("up", String::new()),
            Err(error) => ("down", format!(": {error:#}")),
        };
        println!("{:<10} {verdict:<6} {address:<40} {by}{reason}", service.name());
    }
    Ok(())
}

fn describe(service: Service, state: &State, given: &[Service]) -> (anyhow::Result<()>, String, String) {
    if let Some(url) = variable(service.variable()).filter(|_| given.contains(&service)) {
        let answer = probe::reach(&url, service.usual_port());
        return (answer, probe::without_secrets(&url), format!("the environment ({})", service.variable()));
    }
    let Some(server) = state.servers.iter().find(|server| server.service == service) else {
        return (Err(anyhow::anyhow!("not started")), "-".to_owned(), "nobody".to_owned());
    };
    let by = match &server.runner {
        Runner::Process { identity, .. } => format!("cargo xtask (process {})", identity.pid),
        Runner::Compose { project } => format!("docker compose (project {project})"),
    };
    (start::check(server), server.address(), by)
}

/// The servers, for as long as a run of tests needs them.
#[derive(Debug)]
pub(crate) struct Lease {
    folder: Folder,
    variables: Vec<(String, String)>,
    absent: Vec<start::Absent>,
    /// Shared with other runs; none only while it is given back.
    user: Option<File>,
}

/// Starts what is not there. What was started ends with the last lease, unless `services up` asked for it to stay.
/// `may_build`: also what takes minutes to build.
///
/// # Errors
/// When the state cannot be read or written. A service that cannot be had is no error: see [`Lease::notices`].
pub(crate) fn lease(may_build: bool) -> anyhow::Result<Lease> {
    let folder = Folder::of_this_checkout()?;
    let lock = folder.lock()?;
    let user = Some(folder.use_servers()?);
    // From here on, whatever goes wrong, what was started is ended: by the lease, which then wants the lock itself.
    let mut lease = Lease { folder, variables: Vec::new(), absent: Vec::new(), user };
    let started = lease.start(may_build);
    drop(lock);
    started.map(|()| lease)
}

impl Lease {
    /// The variables by which tests find what was started. Those of the environment are not among them.
    pub(crate) fn environment(&self) -> &[(String, String)] {
        &self.variables
    }

    /// Whether a variable names a server of ours, whose data nobody else needs.
    pub(crate) fn started(&self, variable: &str) -> bool {
        self.variables.iter().any(|(name, _)| name == variable)
    }

    /// One line for each service that is not there.
    pub(crate) fn notices(&self) -> Vec<String> {
        self.absent.iter().map(|one| format!("without {}: {}", one.service.name(), one.reason)).collect()
    }

    fn start(&mut self, may_build: bool) -> anyhow::Result<()> {
        let mut state = self.folder.load()?;
        let given = given(&state, variable);
        self.absent = start::all(&self.folder, &mut state, &given, may_build)?;
        self.variables = environment(&state, &given);
        Ok(())
    }

    fn give_back(&mut self) -> anyhow::Result<()> {
        drop(self.user.take());
        let _lock = self.folder.lock()?;
        let mut state = self.folder.load()?;
        if state.kept || self.folder.is_used()? {
            return Ok(());
        }
        end_all(&self.folder, &mut state)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Err(error) = self.give_back() {
            say("services", &format!("{error:#}; try `cargo xtask services down`"));
        }
    }
}

/// The value of a variable that is set and not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The services whose server the environment names. A server of ours, as `up --export` names it, is none.
fn given(state: &State, variable: impl Fn(&str) -> Option<String>) -> Vec<Service> {
    let own = environment(state, &[]);
    let is_given = |service: &Service| {
        let name = service.variable();
        variable(name).is_some_and(|value| !own.contains(&(name.to_owned(), value)))
    };
    Service::ALL.into_iter().filter(is_given).collect()
}

/// The variables of the servers that were started, without those of services that are given.
fn environment(state: &State, given: &[Service]) -> Vec<(String, String)> {
    let own = state.servers.iter().filter(|server| !given.contains(&server.service));
    own.flat_map(Server::variables).collect()
}

/// Ends every server of the state, as far as possible, and forgets those that ended.
fn end_all(folder: &Folder, state: &mut State) -> anyhow::Result<()> {
    let mut problems = Vec::new();
    let projects: BTreeSet<String> = state.servers.iter().filter_map(|server| server.project()).collect();
    for project in projects {
        match compose::down(&project, &state.servers) {
            Ok(()) => state.servers.retain(|server| server.project().as_ref() != Some(&project)),
            Err(error) => problems.push(format!("{error:#}")),
        }
    }
    let processes = state.servers.clone();
    for server in processes.iter().filter(|server| server.project().is_none()) {
        match end(folder, server) {
            Ok(()) => state.servers.retain(|other| other != server),
            Err(error) => problems.push(format!("{}: {error:#}", server.service.name())),
        }
        folder.save(state)?;
    }
    folder.save(state)?;
    if !problems.is_empty() {
        bail!("{}", problems.join("; "));
    }
    Ok(())
}

/// Ends one server's process, if it is still that process, and removes its data.
fn end(folder: &Folder, server: &Server) -> anyhow::Result<()> {
    let Runner::Process { identity, folder: data } = &server.runner else { return Ok(()) };
    let (signal, patience) = recipe::farewell(server.service);
    let said = match identity.end(signal, patience)? {
        End::Ended => format!("ended (process {})", identity.pid),
        End::Gone => "had ended already".to_owned(),
        End::Foreign => format!("had ended already; process {} is another one now and is left alone", identity.pid),
    };
    folder.remove(data)?;
    say(server.service.name(), &said);
    Ok(())
}

/// One line of progress, beside what `--export` prints.
fn say(who: &str, what: &str) {
    eprintln!("{who:<9} {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(service: Service) -> Server {
        Server::new(service, [1, 2], "secret", Runner::Compose { project: "p".to_owned() })
    }

    #[test]
    fn what_the_environment_gives_wins() {
        let state = State { kept: false, servers: vec![server(Service::Neo4j), server(Service::Redis)] };
        let names = |given: &[Service]| -> Vec<String> {
            environment(&state, given).into_iter().map(|(name, _)| name).collect()
        };
        let variable = |name: &str| match name {
            "NEO4J_URI" => Some("bolt://elsewhere".to_owned()),
            "DATABASE_URL" => Some("postgres://elsewhere".to_owned()),
            // Our own, from `up --export` in the same shell.
            "REDIS_URL" => Some("redis://:secret@127.0.0.1:1/0".to_owned()),
            _ => None,
        };
        assert_eq!(given(&state, |_| None), []);
        assert_eq!(names(&[]), ["NEO4J_URI", "NEO4J_USER", "NEO4J_PASSWORD", "REDIS_URL"]);
        assert_eq!(given(&state, variable), [Service::Neo4j, Service::Postgres]);
        assert_eq!(names(&given(&state, variable)), ["REDIS_URL"]);
    }

    /// The pid of this very test, under another start: were it ended, nothing below would run.
    #[test]
    fn ending_leaves_a_process_that_took_over_the_pid() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::in_test(place.path());
        let data = folder.path().join("redis");
        std::fs::create_dir(&data).unwrap();
        let own = process::Identity::of(std::process::id()).unwrap();
        let identity = process::Identity { started: "long ago".to_owned(), ..own.clone() };
        let runner = Runner::Process { identity, folder: data.clone() };
        let mut state = State { kept: true, servers: vec![Server::new(Service::Redis, [1, 2], "secret", runner)] };
        folder.save(&state).unwrap();
        end_all(&folder, &mut state).unwrap();
        assert!(own.is_running());
        assert!(!data.exists() && folder.load().unwrap() == State::default());
    }
}
