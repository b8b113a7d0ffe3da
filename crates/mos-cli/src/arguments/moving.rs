//! Commands that write everything elsewhere: backups and other stores.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct BackupArguments {
    /// A new file, or a folder that gets a file named with the time.
    pub(crate) to: PathBuf,

    /// Leave out the caches of activation memory, which can be large and are computed again when they are missing.
    #[arg(long)]
    pub(crate) without_caches: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MigrateArguments {
    /// Where they are: `sqlite`, `neo4j`, `neo4j+qdrant`, a data folder, a database file or a settings file.
    #[arg(long, value_name = "STORE", required_unless_present = "from_config")]
    pub(crate) from: Option<String>,

    /// Where they are to be; as for --from.
    #[arg(long, value_name = "STORE", required_unless_present = "to_config")]
    pub(crate) to: Option<String>,

    /// Settings of the source; default: --config.
    #[arg(long, value_name = "FILE")]
    pub(crate) from_config: Option<PathBuf>,

    /// Settings of the target; default: --config.
    #[arg(long, value_name = "FILE")]
    pub(crate) to_config: Option<PathBuf>,

    /// Only these cubes (and that of --cube), with their owners and whom they are shared with; default: everything.
    #[arg(value_name = "CUBE")]
    pub(crate) cubes: Vec<String>,

    /// Look what would be moved and whether it can be; write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Move cubes without their jobs: those that wait, those that were given up, and what is known of finished ones.
    #[arg(long)]
    pub(crate) leave_jobs: bool,
}
