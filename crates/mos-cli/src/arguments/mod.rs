//! The command line.

mod cubes;
mod memories;
mod moving;
mod serving;
mod tooling;
mod users;

use std::path::PathBuf;

use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;

pub(crate) use self::cubes::CubeCommand;
pub(crate) use self::memories::{AddArguments, ChatArguments, DeleteArguments, OrganizeArguments, SearchArguments};
pub(crate) use self::moving::{BackupArguments, MigrateArguments};
pub(crate) use self::serving::{DemoArguments, McpArguments, ServeArguments};
pub(crate) use self::tooling::{ConfigCommand, EvalCommand, ModelsCommand};
pub(crate) use self::users::UserCommand;
use crate::commands::kv::KvCommand;
use crate::commands::scheduler::SchedulerCommand;

/// A memory operating system for LLM applications.
#[derive(Debug, Parser)]
#[command(name = "mos", version = crate::version::long(), max_term_width = 100)]
pub(crate) struct Arguments {
    /// Settings file (JSON or YAML).
    #[arg(long, global = true, env = "MOS_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Folder that holds the data; default: the platform's data folder.
    #[arg(long, global = true, env = "MOS_DATA_DIR", value_name = "FOLDER")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Whose memories are meant; default: the settings' user (`root`).
    #[arg(long, global = true, value_name = "ID")]
    pub(crate) user: Option<String>,

    /// Which cube is meant; default: the user's default cube.
    #[arg(long, global = true, value_name = "ID")]
    pub(crate) cube: Option<String>,

    /// Print one JSON document instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Log more (repeat for still more).
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Arguments {
    /// Reads the command line; what is wrong with it ends the program. A variable with an empty value counts as unset, as all
    /// others do; an empty value on the command line is a mistake.
    pub(crate) fn read() -> Self {
        let mut command = Self::command();
        for (argument, variable) in [("config", "MOS_CONFIG"), ("data_dir", "MOS_DATA_DIR")] {
            if is_empty(variable) {
                command = command.mut_arg(argument, forget_variable);
            }
        }
        if is_empty("MOS_LISTEN") {
            command = command.mut_subcommand("serve", |serve| serve.mut_arg("listen", forget_variable));
        }
        let mut matches = command.get_matches();
        Self::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| error.exit())
    }
}

fn is_empty(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| value.is_empty())
}

fn forget_variable(argument: Arg) -> Arg {
    argument.env(None::<&'static str>)
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the main job: fetch two small models, remember a conversation, answer from memory.
    Demo(DemoArguments),
    /// Answer over HTTP until SIGINT or SIGTERM: MemOS' REST API, chats with memory, MCP, and a page to look at memories.
    Serve(ServeArguments),
    /// Talk; what you tell is remembered.
    Chat(ChatArguments),
    /// Remember a text, or the messages of a file.
    Add(AddArguments),
    /// Find memories.
    Search(SearchArguments),
    /// Print one memory.
    Get {
        /// The memory's id.
        id: String,
        /// Write the skill that the memory is to this new zip archive instead.
        #[arg(long, value_name = "ZIP")]
        as_skill: Option<PathBuf>,
    },
    /// Print every memory of a cube.
    List,
    /// Print the tokens that language models took for the user, and how many are left.
    Usage,
    /// Print every state of a memory, oldest first: what it said, who changed it, when and why.
    History {
        /// The memory's id; it may have been removed.
        id: String,
    },
    /// Take back the last change of a memory; a removed one comes back.
    Undo {
        /// The memory's id.
        id: String,
    },
    /// Print the memories that no search finds, because tools or pages wrote them in the manner of instructions to a model.
    ///
    /// `mos get` shows one, `mos delete` removes it.
    Quarantine {
        /// Let the memory of this id take part in searches.
        #[arg(long, value_name = "ID")]
        release: Option<String>,
    },
    /// Remove one memory, or all of a cube.
    Delete(DeleteArguments),
    /// Settle what contradicts or repeats, group memories into topics, link what belongs together.
    ///
    /// Topics and links are made in `tree_text` cubes only. Nothing is erased: what gives way is closed or archived, and `mos history` and `mos undo`
    /// know it. A second call has nothing to do.
    Organize(OrganizeArguments),
    /// Users.
    #[command(subcommand)]
    User(UserCommand),
    /// Memory cubes.
    #[command(subcommand)]
    Cube(CubeCommand),
    /// Activation memory: caches that are computed once, kept, joined, and put before conversations.
    #[command(subcommand)]
    Kv(KvCommand),
    /// Work in the background: what waits, what happened, what was given up.
    #[command(subcommand)]
    Scheduler(SchedulerCommand),
    /// Model files.
    #[command(subcommand)]
    Models(ModelsCommand),
    /// Settings.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Give a program memory as tools (Model Context Protocol, on standard input and output).
    ///
    /// The program that starts this one acts for any user, or with --user for that one only; with --cube it uses no other
    /// cube. Standard output carries the protocol and nothing else.
    Mcp(McpArguments),
    /// Measure how well memories are found.
    #[command(subcommand)]
    Eval(EvalCommand),
    /// Check data, models and settings, and say what to do.
    Doctor {
        /// Compare the vectors on the Qdrant server with the store, cube by cube, and mend what differs.
        #[arg(long)]
        reconcile: bool,

        /// Rewrite the embedded database first, so that no byte of what was removed stays in it.
        #[arg(long)]
        compact: bool,
    },
    /// Move users, cubes and all that belongs to them to other stores, and compare both sides in the end.
    ///
    /// Goes on where it was interrupted when the same command runs again. The source is only read.
    Migrate(MigrateArguments),
    /// Write everything to one file while others go on working, and read it again to prove it.
    Backup(BackupArguments),
    /// Bring back what a backup holds, to an empty data folder or to the servers of the settings, and compare.
    Restore {
        /// The backup.
        file: PathBuf,
    },
    /// Print the completion script of a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}
