//! What was started, on disk: so that a later run finds it, and ends it.

use std::fs::{File, OpenOptions, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::{process::Identity, server::Server};
use crate::shell;

/// Folders outside the services' own folder begin with this, or they are never removed.
const OUTSIDE: &str = "mos-services-";

/// The servers that run for one checkout.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// Started by `services up`: they run until `services down`, also after a run of tests.
    pub(super) kept: bool,
    pub(super) servers: Vec<Server>,
}

/// How a server runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "lowercase")]
pub(super) enum Runner {
    /// A process of this machine, with its data in `folder`.
    Process { identity: Identity, folder: PathBuf },
    /// A container of this project of Docker Compose.
    Compose { project: String },
}

/// The folder of the state and the servers' data. Each checkout has its own, because several may share a target folder.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    key: String,
}

impl Folder {
    pub(super) fn of_this_checkout() -> anyhow::Result<Self> {
        let root = shell::root();
        let mut hasher = DefaultHasher::new();
        std::fs::canonicalize(&root).unwrap_or(root).hash(&mut hasher);
        let key = format!("{:016x}", hasher.finish());
        Self::open(shell::target().join("services").join(&key), key)
    }

    fn open(path: PathBuf, key: String) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make the folder {}", path.display()))?;
        Ok(Self { path: std::path::absolute(path)?, key })
    }

    #[cfg(test)]
    pub(super) fn in_test(place: &Path) -> Self {
        Self::open(place.join("services"), "key".to_owned()).unwrap()
    }

    /// The name of the project that Docker Compose runs for this checkout: never the one that a user starts by hand.
    pub(super) fn project(&self) -> String {
        format!("{OUTSIDE}{}", self.key)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A new folder outside, for servers that run as a user who cannot enter the target folder.
    pub(super) fn new_outside() -> PathBuf {
        std::env::temp_dir().join(format!("{OUTSIDE}{}", super::server::random()))
    }

    /// Held while servers are started and ended; waits for other runs.
    pub(super) fn lock(&self) -> anyhow::Result<File> {
        let file = self.lock_file("lock")?;
        file.lock().context("cannot lock the state of the services")?;
        Ok(file)
    }

    /// Held by each run that uses the servers.
    pub(super) fn use_servers(&self) -> anyhow::Result<File> {
        let file = self.lock_file("users")?;
        file.lock_shared().context("cannot lock the services")?;
        Ok(file)
    }

    /// Whether another run uses the servers now.
    pub(super) fn is_used(&self) -> anyhow::Result<bool> {
        match self.lock_file("users")?.try_lock() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error).context("cannot lock the services"),
        }
    }

    fn lock_file(&self, name: &str) -> anyhow::Result<File> {
        let path = self.path.join(name);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        file.with_context(|| format!("cannot open {}", path.display()))
    }

    /// The state as written; an empty one when there is none.
    ///
    /// # Errors
    /// When the file cannot be read: ending what it names is then up to the reader of the error.
    pub(super) fn load(&self) -> anyhow::Result<State> {
        let path = self.state_path();
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("{} is damaged: end what it names and remove it", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(State::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Replaces the state as a whole; only its owner can read it, because it holds passwords. An empty one is removed.
    pub(super) fn save(&self, state: &State) -> anyhow::Result<()> {
        let path = self.state_path();
        if state.servers.is_empty() {
            return remove_if_there(std::fs::remove_file(&path), &path);
        }
        let fresh = self.path.join("state.json.new");
        write_private(&fresh, &serde_json::to_vec_pretty(state)?)?;
        std::fs::rename(&fresh, &path).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Removes a server's data, if the folder is one that these services made.
    pub(super) fn remove(&self, folder: &Path) -> anyhow::Result<()> {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let inside = folder.parent() == Some(&self.path);
        let outside = folder.parent() == Some(&std::env::temp_dir()) && name.starts_with(OUTSIDE);
        anyhow::ensure!(inside || outside, "{} is no folder of these services; it is left", folder.display());
        remove_if_there(std::fs::remove_dir_all(folder), folder)
    }

    fn state_path(&self) -> PathBuf {
        self.path.join("state.json")
    }
}

fn remove_if_there(removed: std::io::Result<()>, path: &Path) -> anyhow::Result<()> {
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Writes a new file that only its owner can read. What was there before is replaced, with its rights.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || {
        if path.exists() {
            std::fs::remove_file(path)?;
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(path)?.write_all(bytes)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::super::server::Service;
    use super::*;

    fn state() -> State {
        let identity = Identity { pid: 4711, started: "a while ago".to_owned() };
        let process = Runner::Process { identity, folder: "/somewhere/redis".into() };
        let compose = Runner::Compose { project: "mos-services-1".to_owned() };
        State {
            kept: true,
            servers: vec![
                Server::new(Service::Redis, [1234, 1234], "one", process),
                Server::new(Service::Qdrant, [6, 7], "two", compose),
            ],
        }
    }

    #[test]
    fn state_comes_back_as_written_and_only_its_owner_reads_it() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::in_test(place.path());
        assert_eq!(folder.load().unwrap(), State::default());
        for _ in 0..2 {
            folder.save(&state()).unwrap();
            assert_eq!(folder.load().unwrap(), state());
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(folder.state_path()).unwrap().permissions().mode() & 0o777, 0o600);
        }
        folder.save(&State { kept: true, servers: Vec::new() }).unwrap();
        assert!(!folder.state_path().exists());
    }

    #[test]
    fn a_damaged_state_is_an_error_that_names_the_file() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::in_test(place.path());
        std::fs::write(folder.state_path(), "{").unwrap();
        assert!(format!("{:#}", folder.load().unwrap_err()).contains("state.json"));
    }

    #[test]
    fn only_folders_of_the_services_are_removed() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::in_test(place.path());
        let own = folder.path().join("neo4j");
        std::fs::create_dir_all(own.join("data")).unwrap();
        folder.remove(&own).unwrap();
        folder.remove(&own).unwrap();
        assert!(!own.exists());

        let foreign = place.path().join("precious");
        std::fs::create_dir(&foreign).unwrap();
        folder.remove(&foreign).unwrap_err();
        folder.remove(&folder.path().join("neo4j/../../precious")).unwrap_err();
        assert!(foreign.exists());
    }

    #[test]
    fn servers_count_as_used_while_a_run_holds_them() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::in_test(place.path());
        assert!(!folder.is_used().unwrap());
        let (one, two) = (folder.use_servers().unwrap(), folder.use_servers().unwrap());
        drop(one);
        assert!(folder.is_used().unwrap());
        drop(two);
        assert!(!folder.is_used().unwrap());
    }
}
