//! A cube in a git repository.
//!
//! The `git` program fetches it, with the person's own keys and credential helpers. What the address says becomes one argument
//! after `--`; no protocol but the one it names is spoken, no hook of the repository runs, links are checked out as texts.

use std::path::{Component, Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::error::{Error, Result};

/// Protocols that a repository may be fetched with.
const SCHEMES: [&str; 3] = ["https", "ssh", "file"];

/// How often it is looked how large a clone has become.
const POLL: Duration = Duration::from_millis(250);

/// Polls until a clone is given up: half an hour.
const MAX_POLLS: usize = 30 * 60 * 4;

/// The end of git's complaint that is told.
const MAX_COMPLAINT_BYTES: usize = 2000;

/// A git repository that holds a dumped cube.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitSource {
    /// Its address: `https://`, `ssh://` or `file://`, without a password.
    pub url: String,
    /// The branch or tag. `None`: the repository's own choice.
    pub revision: Option<String>,
    /// The folder of the cube in it. `None`: the top.
    pub folder: Option<PathBuf>,
    /// The most bytes that the clone may take on disk.
    pub max_bytes: u64,
}

impl GitSource {
    /// The most bytes of a clone, unless said otherwise: 8 GiB.
    pub const DEFAULT_MAX_BYTES: u64 = 8 << 30;

    /// Returns the cube at the top of a repository's default branch.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), revision: None, folder: None, max_bytes: Self::DEFAULT_MAX_BYTES }
    }

    /// Returns the scheme of the address, when nothing in the source could mean something else than it says.
    fn check(&self) -> Result<&'static str> {
        let refuse = |why: &str| Err(Error::Invalid(format!("the git repository `{}` {why}", shown(&self.url))));
        if self.url.chars().any(|letter| letter.is_control() || letter.is_whitespace()) {
            return refuse("has spaces or control characters in its address");
        }
        let Some((scheme, rest)) = self.url.split_once("://") else {
            return refuse("has no scheme; write https://HOST/PATH, ssh://git@HOST/PATH or file:///PATH");
        };
        let Some(scheme) = SCHEMES.into_iter().find(|known| *known == scheme) else {
            return refuse("has a scheme that is not fetched (allowed: https, ssh, file)");
        };
        let authority = rest.split('/').next().unwrap_or_default();
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        if (scheme == "https" && !user.is_empty()) || user.contains(':') {
            return refuse("has credentials in its address; leave them to git's credential helper or to ssh");
        }
        if scheme == "file" {
            if !["", "localhost"].contains(&authority) {
                return refuse("names a host; a file address is file:///PATH");
            }
        } else if host.is_empty() || host.starts_with('-') || user.starts_with('-') {
            return refuse("has no usable host");
        }
        let is_good = |letter: char| letter.is_ascii_alphanumeric() || "._-/".contains(letter);
        if let Some(revision) = &self.revision
            && (revision.is_empty()
                || revision.starts_with(['-', '/'])
                || revision.contains("..")
                || !revision.chars().all(is_good))
        {
            return refuse("is asked for a revision that is no name of a branch or tag");
        }
        if self.folder.iter().flat_map(|folder| folder.components()).any(|part| !matches!(part, Component::Normal(_))) {
            return refuse("is asked for a folder that does not lie in it");
        }
        Ok(scheme)
    }

    /// Clones the repository into `parent`, without its history, and returns the cube's folder.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an address that is refused, a repository that git cannot fetch or that is too large, and without
    /// the `git` program.
    pub(super) async fn fetch(&self, parent: &Path) -> Result<PathBuf> {
        let scheme = self.check()?;
        let (clone, log) = (parent.join("clone"), parent.join("git.log"));
        let complaints =
            std::fs::File::create(&log).map_err(|error| Error::Invalid(format!("{}: {error}", log.display())))?;
        let mut child = self.command(scheme, &clone, complaints).spawn().map_err(|error| {
            let hint = "install git, or fetch the repository yourself and register its directory";
            Error::Invalid(format!("cannot start `git`: {error}; {hint}"))
        })?;
        self.wait(&mut child, &clone, &log).await?;
        let folder = self.folder.as_ref().map_or_else(|| clone.clone(), |folder| clone.join(folder));
        if !folder.is_dir() {
            let folder = self.folder.clone().unwrap_or_default();
            return Err(Error::Invalid(format!("`{}` has no folder `{}`", self.url, folder.display())));
        }
        Ok(folder)
    }

    fn command(&self, scheme: &str, clone: &Path, complaints: std::fs::File) -> Command {
        let mut command = Command::new("git");
        let allowed = format!("protocol.{scheme}.allow=always");
        for setting in ["protocol.allow=never", allowed.as_str(), "core.symlinks=false", "core.hooksPath=/dev/null"] {
            command.arg("-c").arg(setting);
        }
        command.args(["clone", "--quiet", "--depth=1", "--single-branch", "--no-tags"]);
        command.args(["--no-recurse-submodules", "--template="]);
        if let Some(revision) = &self.revision {
            command.arg(format!("--branch={revision}"));
        }
        command.arg("--").arg(&self.url).arg(clone);
        // Nobody is there to answer questions.
        command.env("GIT_TERMINAL_PROMPT", "0");
        if std::env::var_os("GIT_SSH_COMMAND").is_none() && std::env::var_os("GIT_SSH").is_none() {
            command.env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes");
        }
        // Another repository may be what this program was started in.
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::from(complaints)).kill_on_drop(true);
        command
    }

    async fn wait(&self, child: &mut Child, clone: &Path, log: &Path) -> Result<()> {
        for _ in 0..MAX_POLLS {
            let ended = tokio::time::timeout(POLL, child.wait()).await;
            let n_bytes = size_of(clone.to_owned()).await;
            if n_bytes > self.max_bytes {
                return Err(Error::Invalid(format!(
                    "`{}` takes more than {} bytes; fetch it yourself and register its directory, or allow more",
                    self.url, self.max_bytes
                )));
            }
            match ended {
                Err(_) => {}
                Ok(Ok(status)) if status.success() => return Ok(()),
                Ok(Ok(_)) => {
                    return Err(Error::Invalid(format!("git cannot fetch `{}`: {}", self.url, complaint(log))));
                }
                Ok(Err(error)) => return Err(Error::Invalid(format!("git cannot be waited for: {error}"))),
            }
        }
        Err(Error::Invalid(format!("git did not fetch `{}` within half an hour", self.url)))
    }
}

/// An address as it may be told: without what stands before the host.
fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// The end of what git said.
fn complaint(log: &Path) -> String {
    let said = std::fs::read(log).unwrap_or_default();
    let end = &said[said.len().saturating_sub(MAX_COMPLAINT_BYTES)..];
    String::from_utf8_lossy(end).trim().replace('\n', "; ")
}

/// The bytes of the files below a folder; what vanishes meanwhile does not count.
async fn size_of(folder: PathBuf) -> u64 {
    let count = move || {
        let (mut n_bytes, mut folders) = (0, vec![folder]);
        while let Some(folder) = folders.pop() {
            let Ok(entries) = std::fs::read_dir(&folder) else { continue };
            for entry in entries.flatten() {
                match entry.metadata() {
                    Ok(found) if found.is_dir() => folders.push(entry.path()),
                    Ok(found) => n_bytes += found.len(),
                    Err(_) => {}
                }
            }
        }
        n_bytes
    };
    // A count that broke off is no reason to stop: the next one follows.
    tokio::task::spawn_blocking(count).await.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_addresses_are_fetched() {
        for (url, scheme) in [
            ("https://example.org/ann/cube.git", "https"),
            ("ssh://git@example.org/ann/cube.git", "ssh"),
            ("file:///srv/cubes/cube.git", "file"),
        ] {
            assert_eq!(GitSource::new(url).check().unwrap(), scheme);
        }
        for (url, expected) in [
            ("ext::sh -c id", "spaces"),
            ("ext::sh", "no scheme"),
            ("git@example.org:ann/cube.git", "no scheme"),
            ("--upload-pack=id", "no scheme"),
            ("git://example.org/x", "allowed: https, ssh, file"),
            ("http://example.org/x", "allowed: https, ssh, file"),
            ("HTTPS://example.org/x", "allowed: https, ssh, file"),
            ("https://ann:pw@example.org/x", "credentials"),
            ("https://secret-token@example.org/x", "credentials"),
            ("ssh://git:pw@example.org/x", "credentials"),
            ("ssh://-oProxyCommand=id/x", "no usable host"),
            ("ssh://-oProxyCommand=id@example.org/x", "no usable host"),
            ("https:///x", "no usable host"),
            ("file://example.org/x", "names a host"),
            ("https://example.org/a\nb", "control"),
        ] {
            let error = GitSource::new(url).check().unwrap_err().to_string();
            assert!(error.contains(expected), "{url}: {error}");
            assert!(!error.contains("pw") && !error.contains("secret-token"), "{error}");
        }
    }

    #[test]
    fn revisions_and_folders_are_names() {
        let source = GitSource::new("https://example.org/x");
        for good in ["main", "v1.0", "feature/cubes"] {
            assert!(GitSource { revision: Some(good.to_owned()), ..source.clone() }.check().is_ok(), "{good}");
        }
        for bad in ["", "-x", "/x", "a..b", "a b", "a;b", "@{u}"] {
            assert!(GitSource { revision: Some(bad.to_owned()), ..source.clone() }.check().is_err(), "{bad}");
        }
        for (folder, is_good) in [("cubes/one", true), ("../x", false), ("/etc", false), ("a/../../b", false)] {
            let source = GitSource { folder: Some(folder.into()), ..source.clone() };
            assert_eq!(source.check().is_ok(), is_good, "{folder}");
        }
    }
}
