//! Starting servers and waiting until they are healthy.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::recipe::{self, Place, Recipe};
use super::server::{Server, Service, free_ports, random};
use super::state::{Folder, Runner, State};
use super::{compose, end, process, say};

/// How long a server may take until it is healthy.
const LIMIT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);
/// How often to say that a server is not healthy yet.
const NEWS: Duration = Duration::from_secs(5);
/// A free port may be taken until the server wants it, so once more on other ports.
const ATTEMPTS: usize = 2;

/// A service that cannot be had, and why.
#[derive(Debug)]
pub(super) struct Absent {
    pub(super) service: Service,
    pub(super) reason: String,
}

/// Brings every service that is not `given` up; those of the state that still answer stay as they are.
/// `may_build`: also what takes minutes to build.
///
/// # Errors
/// When the state cannot be written, or a server of it that is ill cannot be ended.
pub(super) fn all(
    folder: &Folder,
    state: &mut State,
    given: &[Service],
    may_build: bool,
) -> anyhow::Result<Vec<Absent>> {
    let mut missing = Vec::new();
    for service in Service::ALL {
        let known = state.servers.iter().find(|server| server.service == service).cloned();
        if given.contains(&service) {
            say(service.name(), &format!("given by the environment ({})", service.variable()));
        } else if let Some(server) = known.as_ref().filter(|server| check(server).is_ok()) {
            say(service.name(), &format!("up already at {}", server.address()));
        } else {
            if let Some(server) = known.filter(|server| server.project().is_none()) {
                end(folder, &server)?;
                state.servers.retain(|other| *other != server);
            }
            missing.push(service);
        }
    }
    folder.save(state)?;
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    if compose::works() {
        in_containers(folder, state, &missing)
    } else {
        as_processes(folder, state, &missing, may_build)
    }
}

/// Whether a server still runs and answers as it should.
pub(super) fn check(server: &Server) -> anyhow::Result<()> {
    if let Runner::Process { identity, .. } = &server.runner {
        anyhow::ensure!(identity.is_running(), "its process has ended");
    }
    server.check()
}

fn in_containers(folder: &Folder, state: &mut State, missing: &[Service]) -> anyhow::Result<Vec<Absent>> {
    let project = folder.project();
    for &service in missing {
        say(service.name(), "starting in a container");
        // One that was started before keeps its password, because its volume does.
        if !state.servers.iter().any(|server| server.service == service) {
            let runner = Runner::Compose { project: project.clone() };
            state.servers.push(Server::new(service, free_ports()?, &random(), runner));
        }
    }
    // Before they run, so that they can be ended whatever happens.
    folder.save(state)?;
    let containers: Vec<Server> = state.servers.iter().filter(|server| server.project().is_some()).cloned().collect();
    let reason = compose::up(&project, &containers).err().map(|error| format!("{error:#}"));
    let mut absent = Vec::new();
    for server in containers.iter().filter(|server| missing.contains(&server.service)) {
        match server.check() {
            Ok(()) => say(server.service.name(), &format!("up at {}", server.address())),
            Err(error) => {
                let reason = reason.clone().unwrap_or_else(|| format!("{error:#}"));
                say(server.service.name(), &reason);
                absent.push(Absent { service: server.service, reason });
            }
        }
    }
    Ok(absent)
}

/// All at the same time.
fn as_processes(
    folder: &Folder,
    state: &mut State,
    missing: &[Service],
    may_build: bool,
) -> anyhow::Result<Vec<Absent>> {
    let state = &Mutex::new(state);
    let failed = std::thread::scope(|scope| {
        let start = |service| (service, scope.spawn(move || one(folder, state, service, may_build)));
        let starts: Vec<_> = missing.iter().copied().map(start).collect();
        let mut failed = Vec::new();
        for (service, start) in starts {
            match start.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => failed.push(Absent { service, reason: format!("{error:#}") }),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        failed
    });
    Ok(failed)
}

fn one(folder: &Folder, state: &Mutex<&mut State>, service: Service, may_build: bool) -> anyhow::Result<()> {
    let found = recipe::find(service, may_build);
    let started = found.and_then(|recipe| try_start(folder, state, service, recipe.as_ref()));
    if let Err(error) = &started {
        say(service.name(), &format!("{error:#}"));
    }
    started
}

fn try_start(folder: &Folder, state: &Mutex<&mut State>, service: Service, recipe: &dyn Recipe) -> anyhow::Result<()> {
    let mut attempt = 1;
    loop {
        match start(folder, state, service, recipe) {
            Err(error) if attempt < ATTEMPTS => say(service.name(), &format!("{error:#}; once more")),
            result => return result,
        }
        attempt += 1;
    }
}

fn start(folder: &Folder, state: &Mutex<&mut State>, service: Service, recipe: &dyn Recipe) -> anyhow::Result<()> {
    let begin = Instant::now();
    let data = if recipe.is_outside() { Folder::new_outside() } else { folder.path().join(service.name()) };
    if !recipe.is_outside() {
        folder.remove(&data)?;
    }
    create_private(&data)?;
    let (ports, password) = (free_ports()?, random());
    let log = data.join("log");
    let identity = prepare_and_run(recipe, &data, ports, &password, &log);
    let identity = identity.or_else(|error| folder.remove(&data).and(Err(error)))?;
    say(service.name(), &format!("starting (process {})", identity.pid));
    let server = Server::new(service, ports, &password, Runner::Process { identity, folder: data });
    // Before it is healthy, so that it can be ended whatever happens.
    change(folder, state, |state| state.servers.push(server.clone()))?;
    match wait(&server, &log) {
        Ok(()) => {
            say(service.name(), &format!("up at {} after {:.1} s", server.address(), begin.elapsed().as_secs_f64()));
            Ok(())
        }
        Err(error) => {
            end(folder, &server)?;
            change(folder, state, |state| state.servers.retain(|other| *other != server))?;
            Err(error)
        }
    }
}

fn prepare_and_run(
    recipe: &dyn Recipe,
    data: &Path,
    [port, http_port]: [u16; 2],
    password: &str,
    log: &Path,
) -> anyhow::Result<process::Identity> {
    let mut command = recipe.prepare(Place { folder: data, port, http_port, password })?;
    process::start(&mut command, log)
}

fn change(folder: &Folder, state: &Mutex<&mut State>, change: impl FnOnce(&mut State)) -> anyhow::Result<()> {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    change(&mut state);
    folder.save(&state)
}

fn wait(server: &Server, log: &Path) -> anyhow::Result<()> {
    let (begin, mut told) = (Instant::now(), Instant::now());
    while let Err(error) = server.check() {
        if !is_alive(server) {
            bail!("ended while it started; it said: {}", process::last_lines(log));
        }
        if begin.elapsed() > LIMIT {
            bail!("not healthy after {} s: {error:#}; it said: {}", LIMIT.as_secs(), process::last_lines(log));
        }
        if told.elapsed() > NEWS {
            told = Instant::now();
            say(server.service.name(), &format!("still starting ({} s)", begin.elapsed().as_secs()));
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

fn is_alive(server: &Server) -> bool {
    matches!(&server.runner, Runner::Process { identity, .. } if identity.is_running())
}

/// A new folder that only its owner can enter.
fn create_private(path: &Path) -> anyhow::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).with_context(|| format!("cannot make the folder {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bring_up(folder: &Folder, state: &mut State) -> Server {
        let absent = all(folder, state, &[Service::Neo4j, Service::Qdrant, Service::Postgres], false).unwrap();
        assert!(absent.is_empty(), "{absent:?}");
        assert_eq!(state.servers.len(), 1);
        assert_eq!(folder.load().unwrap(), *state);
        check(&state.servers[0]).unwrap();
        state.servers[0].clone()
    }

    #[test]
    fn a_server_is_started_once_and_anew_when_it_has_died() {
        if recipe::in_path("redis-server").is_none() || compose::works() {
            eprintln!("skipped: needs `redis-server` on the PATH, and no Docker Compose, which would be used instead");
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::in_test(place.path());
        let mut state = State::default();
        let first = bring_up(&folder, &mut state);
        assert_eq!(bring_up(&folder, &mut state), first);

        let Runner::Process { identity, folder: data } = &first.runner else { panic!("{first:?}") };
        identity.end("KILL", Duration::ZERO).unwrap();
        check(&first).unwrap_err();
        let second = bring_up(&folder, &mut state);
        assert_ne!(second, first);

        // The password counts.
        let wrong = Server { password: random(), ..second.clone() };
        wrong.check().unwrap_err();

        super::super::end_all(&folder, &mut state).unwrap();
        check(&second).unwrap_err();
        assert!(!data.exists() && folder.load().unwrap() == State::default());
    }
}
