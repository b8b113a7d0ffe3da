//! Neo4j's community server, put together by Maven and run by Java as a process of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::recipe::{Place, Recipe, in_path};
use super::say;
use super::server::Service;
use super::state::write_private;
use crate::shell;

/// What Neo4j's own start script opens to it of the Java runtime.
const OPENED: [&str; 4] = [
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/java.io=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED",
];

#[derive(Debug)]
pub(super) struct Neo4j {
    java: PathBuf,
    /// The folder of the server's jars.
    jars: PathBuf,
}

impl Neo4j {
    pub(super) fn find() -> anyhow::Result<Self> {
        let java = java()?;
        let jars = jars()?;
        Ok(Self { java, jars })
    }

    /// Runs a class with its arguments in a file, because everybody can read a command line.
    fn run(&self, folder: &Path, options: &[&str], class: &[&str]) -> anyhow::Result<Command> {
        let class_path = format!("{}/*", self.jars.display());
        let arguments = options.iter().copied().chain(["-cp", &class_path]).chain(class.iter().copied());
        let lines: Vec<String> = arguments.map(quoted).collect();
        let file = format!("{}.arguments", class[0]);
        write_private(&folder.join(&file), lines.join("\n").as_bytes())?;
        let mut command = Command::new(&self.java);
        command
            .arg(format!("@{file}"))
            .current_dir(folder)
            .env("NEO4J_HOME", folder)
            .env("NEO4J_CONF", folder.join("conf"));
        // Settings of the user's own Neo4j.
        command.env_remove("JDK_JAVA_OPTIONS").env_remove("JAVA_TOOL_OPTIONS");
        Ok(command)
    }
}

impl Recipe for Neo4j {
    fn prepare(&self, place: Place<'_>) -> anyhow::Result<Command> {
        for inner in ["conf", "data", "logs", "run"] {
            std::fs::create_dir(place.folder.join(inner))?;
        }
        std::fs::write(place.folder.join("conf/neo4j.conf"), settings(place.port))?;
        let options = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];
        let class = ["org.neo4j.cli.AdminTool", "dbms", "set-initial-password", place.password];
        shell::run_quietly(&mut self.run(place.folder, &options, &class)?)?;

        let home = place.folder.to_string_lossy();
        let (home, conf) = (format!("--home-dir={home}"), format!("--config-dir={home}/conf"));
        let options =
            ["-Xmx1g", "-XX:+UseSerialGC", "-Dio.netty.tryReflectionSetAccessible=true", "-Dfile.encoding=UTF-8"];
        let options: Vec<&str> = OPENED.into_iter().chain(options).collect();
        self.run(place.folder, &options, &["org.neo4j.server.CommunityEntryPoint", &home, &conf])
    }
}

fn settings(port: u16) -> String {
    format!(
        "server.bolt.listen_address=127.0.0.1:{port}\n\
         server.bolt.advertised_address=127.0.0.1:{port}\n\
         server.http.enabled=false\n\
         server.https.enabled=false\n\
         dbms.security.auth_enabled=true\n\
         dbms.usage_report.enabled=false\n\
         server.memory.pagecache.size=128m\n\
         db.tx_log.preallocate=false\n"
    )
}

/// One argument of a file for Java's launcher.
fn quoted(argument: &str) -> String {
    format!("\"{}\"", argument.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Java 17 or newer: that of `JAVA_HOME`, else of the PATH.
fn java() -> anyhow::Result<PathBuf> {
    let home =
        std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java")).filter(|java| java.is_file());
    let java = home.or_else(|| in_path("java")).context(
        "not here: needs Java 17 or 21 (Debian: `apt-get install openjdk-17-jre-headless maven`), or set NEO4J_URI",
    )?;
    let output =
        Command::new(&java).arg("-version").output().with_context(|| format!("cannot start {}", java.display()))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let version = major_version(&said).with_context(|| format!("{} tells no version: {said}", java.display()))?;
    anyhow::ensure!(version >= 17, "needs Java 17 or 21; {} is Java {version}; set JAVA_HOME", java.display());
    Ok(java)
}

/// The 17 of `openjdk version "17.0.15" 2025-04-15`.
fn major_version(said: &str) -> Option<u32> {
    said.split('"').nth(1)?.split(['.', '-', '+']).next()?.parse().ok()
}

/// The server's jars in the cache folder: fetched once per version.
fn jars() -> anyhow::Result<PathBuf> {
    let list = shell::root().join("xtask/neo4j/pom.xml");
    let text = std::fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let version = text.split("<neo4j.version>").nth(1).and_then(|rest| rest.split('<').next());
    let version = version.with_context(|| format!("{} names no version", list.display()))?;
    let home = std::env::home_dir().context("this machine names no home folder for the cache of the services")?;
    let cache = home.join(".cache/mos/services");
    let jars = cache.join(format!("neo4j-{version}"));
    if !jars.is_dir() {
        let maven =
            in_path("mvn").context("not here: needs Maven (Debian: `apt-get install maven`), or set NEO4J_URI")?;
        say(Service::Neo4j.name(), &format!("fetching version {version} (about 130 MB, once)"));
        std::fs::create_dir_all(&cache).with_context(|| format!("cannot make the folder {}", cache.display()))?;
        fetch(&maven, &list, &jars)?;
    }
    Ok(jars)
}

/// Into a folder that gets its name when it is complete.
fn fetch(maven: &Path, list: &Path, jars: &Path) -> anyhow::Result<()> {
    let incomplete = jars.with_file_name(format!("incomplete-{}", super::server::random()));
    let mut command = Command::new(maven);
    command.args(["--batch-mode", "--quiet", "-Dstyle.color=never", "--strict-checksums", "--file"]).arg(list);
    command.args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
    command.arg(format!("-DoutputDirectory={}", incomplete.display()));
    let fetched = shell::run_quietly(&mut command).context("Maven cannot fetch Neo4j");
    let moved = fetched.and_then(|_| Ok(std::fs::rename(&incomplete, jars)?));
    if incomplete.exists() {
        std::fs::remove_dir_all(&incomplete)?;
    }
    // Another run may have been faster.
    if jars.is_dir() { Ok(()) } else { moved }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn javas_version_is_read() {
        assert_eq!(major_version("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime"), Some(17));
        assert_eq!(major_version("openjdk version \"21-ea\""), Some(21));
        assert_eq!(major_version("java version \"1.8.0_392\""), Some(1));
        assert_eq!(major_version("no such thing"), None);
    }

    #[test]
    fn arguments_with_spaces_and_backslashes_stay_whole() {
        assert_eq!(quoted(r#"C:\my "home"/*"#), r#""C:\\my \"home\"/*""#);
    }
}
