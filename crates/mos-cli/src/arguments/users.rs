//! Commands on users.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Make a user.
    Create {
        /// Its id.
        id: String,
        /// Its name; default: the id.
        #[arg(long)]
        name: Option<String>,
        /// Its role: admin, user or guest.
        #[arg(long, default_value = "user")]
        role: String,
    },
    /// Print the users.
    List,
    /// Print a user, and what it may do with which cube.
    Info {
        /// Its id; default: the user that is meant.
        id: Option<String>,
    },
    /// Give a user another role: a guest only reads, an admin administers users.
    Role {
        /// Its id.
        id: String,
        /// The role: admin, user or guest.
        role: String,
    },
    /// Deactivate a user; its cubes stay.
    Delete {
        /// Its id.
        id: String,
    },
    /// Erase a user with everything that is theirs: cubes, memories and their history, caches, jobs, logs, counted tokens.
    ///
    /// End other programs on the same data first: what they still hold they would write again.
    Erase {
        /// Its id.
        id: String,
        /// Also what the user wrote into cubes of others; without this it is listed.
        #[arg(long)]
        also_in_shared: bool,
        /// Then look for this text in every byte of the data folder and of the database, and fail when a file holds it (repeat for
        /// several).
        #[arg(long, value_name = "TEXT")]
        prove: Vec<String>,
        /// Only what this data folder holds in files of a user who was erased already, through servers that other programs use
        /// with data folders of their own.
        #[arg(long, conflicts_with = "also_in_shared")]
        files_only: bool,
        /// A cube that went with the user, whose name goes from files (repeat for several; `--json` of the first call lists them).
        #[arg(long, value_name = "ID", requires = "files_only")]
        erased_cube: Vec<String>,
    },
}
