//! The command line.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

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

#[derive(Debug, Args)]
pub(crate) struct DemoArguments {
    /// Where the demonstration keeps its data; default: a folder of its own that is made anew.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,

    /// Only ask again what an earlier demonstration stored (the second process).
    #[arg(long, hide = true, requires = "folder")]
    pub(crate) again: bool,
}

#[derive(Debug, Args)]
pub(crate) struct McpArguments {
    /// Only tools that read: nothing is added, changed or removed.
    #[arg(long)]
    pub(crate) read_only: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    /// Where to listen; port 0 takes a free one. Default: 127.0.0.1:8000.
    #[arg(long, env = "MOS_LISTEN", value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<SocketAddr>,

    /// Ask nobody for a key and let everybody act as any user, as MemOS does. Only on an address of this machine alone.
    #[arg(long)]
    pub(crate) compat_open: bool,

    /// A name that requests may give as their host, for example that of the proxy in front (repeat for several).
    #[arg(long, value_name = "NAME")]
    pub(crate) allow_host: Vec<String>,

    /// An origin whose pages may call from a browser, as https://app.example.com (repeat for several).
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) cors_origin: Vec<String>,

    /// Answer no chats.
    #[arg(long)]
    pub(crate) no_chat: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BackupArguments {
    /// A new file, or a folder that gets a file named with the time.
    pub(crate) to: PathBuf,

    /// Leave out the caches of activation memory, which can be large and are computed again when they are missing.
    #[arg(long)]
    pub(crate) without_caches: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ChatArguments {
    /// Ask this one question, print the answer, and end.
    #[arg(long, value_name = "QUESTION")]
    pub(crate) once: Option<String>,

    /// Do not store what is told.
    #[arg(long)]
    pub(crate) no_remember: bool,

    /// Print on standard error which memories and preferences an answer is made from.
    #[arg(long)]
    pub(crate) show_memories: bool,

    /// The conversation's id.
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,

    /// The most memories that an answer is made from; default: the settings' `top_k`.
    #[arg(long, short = 'k', value_name = "N")]
    pub(crate) top_k: Option<usize>,

    /// How much is thought before memories are looked for: `fast` asks no language model, `fine` lets one say what the
    /// question is after, `mixture` does both.
    #[arg(long, value_name = "MODE", default_value = "fast", value_parser = ["fast", "fine", "mixture"])]
    pub(crate) mode: String,

    /// Let a language model judge whether the memories answer, and search for what is missing, in at most three stages.
    #[arg(long)]
    pub(crate) deep: bool,

    /// Let a language model split a hard question, and search for the easier ones too.
    #[arg(long)]
    pub(crate) sub_questions: bool,

    /// Keep the order of recall although the cube has a reranker.
    #[arg(long)]
    pub(crate) no_rerank: bool,

    /// Search the internet too; the cube or the settings name the service (internet_retriever).
    #[arg(long)]
    pub(crate) internet: bool,

    /// Memories of this conversation come earlier; the others are found all the same.
    #[arg(long, value_name = "ID")]
    pub(crate) prefer_session: Option<String>,

    /// The least relativity of memories, from 0 to 1.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.0)]
    pub(crate) relevance: f32,
}

#[derive(Debug, Args)]
pub(crate) struct AddArguments {
    /// The text to remember; `-` reads it from standard input.
    #[arg(required_unless_present_any = ["messages", "file", "url"], conflicts_with_all = ["messages", "file", "url"])]
    pub(crate) text: Option<String>,

    /// A file with a JSON list of messages (`{"role": "user", "content": "..."}`); `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) messages: Option<PathBuf>,

    /// Files, and folders with everything below them: text, Markdown, HTML, PDF, office documents ... Files that are known
    /// already are passed over, so that the same command can be run again.
    #[arg(long, value_name = "PATH", num_args = 1.., conflicts_with_all = ["messages", "idempotency_key"])]
    pub(crate) file: Vec<PathBuf>,

    /// Files at addresses; the settings' `fetch` must allow them.
    #[arg(long, value_name = "URL", num_args = 1.., conflicts_with_all = ["messages", "idempotency_key"])]
    pub(crate) url: Vec<String>,

    /// Let a model draw memories from what is read, beside what was given. Without this, files and conversations are kept in
    /// pieces as they are.
    #[arg(long, conflicts_with = "idempotency_key")]
    pub(crate) fine: bool,

    /// Show what a reader would remember, and why not the rest; nothing is stored.
    #[arg(long, conflicts_with = "idempotency_key")]
    pub(crate) dry_run: bool,

    /// The conversation it arose in.
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,

    /// Makes it safe to run the same command again: with a key that was used before, nothing is stored and the ids of
    /// that time are printed.
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SearchArguments {
    /// A question in plain words.
    pub(crate) query: String,

    /// The most memories per cube; default: the settings' `top_k`.
    #[arg(long, short = 'k', value_name = "N")]
    pub(crate) top_k: Option<usize>,

    /// Only memories of this conversation.
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,

    /// What was true at this time, for example 2026-01-31 (the end of that day) or 2026-01-31T18:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub(crate) as_of: Option<String>,

    /// How much is thought before: `fast` asks no language model, `fine` lets one say what the question is after, `mixture`
    /// does both.
    #[arg(long, value_name = "MODE", default_value = "fast", value_parser = ["fast", "fine", "mixture"])]
    pub(crate) mode: String,

    /// Let a language model judge whether the memories answer, and search for what is missing, in at most three stages.
    #[arg(long)]
    pub(crate) deep: bool,

    /// Let a language model split a hard question, and search for the easier ones too.
    #[arg(long)]
    pub(crate) sub_questions: bool,

    /// Keep the order of recall although the cube has a reranker.
    #[arg(long)]
    pub(crate) no_rerank: bool,

    /// Search the internet too; the cube or the settings name the service (internet_retriever).
    #[arg(long)]
    pub(crate) internet: bool,

    /// Memories of this conversation come earlier; the others are found all the same.
    #[arg(long, value_name = "ID")]
    pub(crate) prefer_session: Option<String>,

    /// Which memories are left out as repetitions: none, those of the same `text`, those that are `sim`ilar too, or as
    /// `mmr` weighs relevance against novelty.
    #[arg(long, value_name = "HOW", default_value = "text", value_parser = ["no", "text", "sim", "mmr"])]
    pub(crate) dedup: String,

    /// The least relativity, from 0 to 1.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.0)]
    pub(crate) relevance: f32,

    /// Tell why each memory was found: signals, queries, reranker, sources.
    #[arg(long)]
    pub(crate) explain: bool,
}

#[derive(Debug, Args)]
pub(crate) struct OrganizeArguments {
    /// Ask no language model: similarity, words, names and time do what they can.
    #[arg(long, conflicts_with = "any_model")]
    pub(crate) no_model: bool,

    /// Also let a model judge that computes in this process; small ones judge badly.
    #[arg(long)]
    pub(crate) any_model: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArguments {
    /// The memory's id.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) id: Option<String>,

    /// Remove every memory of the cube.
    #[arg(long)]
    pub(crate) all: bool,
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

    /// Move cubes that have jobs waiting, without their jobs.
    #[arg(long)]
    pub(crate) leave_jobs: bool,
}

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
        /// Then look for this text in every byte of the data folder, and fail when a file holds it (repeat for several).
        #[arg(long, value_name = "TEXT")]
        prove: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum CubeCommand {
    /// Make a cube.
    Create {
        /// Its id.
        id: String,
        /// A cube configuration (JSON or YAML); default: `general_text` memory.
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
    },
    /// Print the cubes that the user may use.
    List,
    /// Register the cube of a directory or repository, or a cube that was unregistered.
    ///
    /// What is a directory is meant as one, also when a cube has the same id.
    Register {
        /// A dumped cube's directory; the address of a git repository (https://, ssh:// or file://); hub:OWNER/NAME for a data
        /// set of the Hugging Face hub; or the id of a cube.
        source: String,
        /// The id that the cube gets; default: the directory's absolute path, links resolved, or the source as it is written.
        #[arg(long)]
        id: Option<String>,
        /// The branch or tag of a git repository; default: its own choice.
        #[arg(long, value_name = "NAME")]
        revision: Option<String>,
        /// The folder of the cube in a git repository; default: its top.
        #[arg(long, value_name = "FOLDER")]
        folder: Option<PathBuf>,
        /// A cube configuration (JSON or YAML) that wins over that of the cube.
        #[arg(long, value_name = "FILE")]
        default_config: Option<PathBuf>,
        /// Only these memories: text_mem, act_mem, para_mem, pref_mem.
        #[arg(long, value_name = "MEMORY", value_delimiter = ',')]
        only: Vec<mos::MemoryKind>,
    },
    /// Take a cube out of searches and chats; its memories stay.
    Unregister {
        /// Its id.
        id: String,
    },
    /// Remove a cube with all its memories.
    Delete {
        /// Its id.
        id: String,
    },
    /// Write a cube to a new or empty directory.
    Dump {
        /// Its id.
        id: String,
        /// The directory.
        directory: PathBuf,
        /// Only these memories: text_mem, act_mem, para_mem, pref_mem.
        #[arg(long, value_name = "MEMORY", value_delimiter = ',')]
        only: Vec<mos::MemoryKind>,
    },
    /// Read a dumped cube into a cube.
    Load {
        /// The id of the cube that takes the memories.
        id: String,
        /// The directory.
        directory: PathBuf,
        /// Only these memories: text_mem, act_mem, para_mem, pref_mem.
        #[arg(long, value_name = "MEMORY", value_delimiter = ',')]
        only: Vec<mos::MemoryKind>,
    },
    /// Write a cube to one new file, which another installation imports.
    Export {
        /// Its id.
        id: String,
        /// The file, a tar archive.
        file: PathBuf,
    },
    /// Make a new cube of an exported one's file.
    Import {
        /// The file.
        file: PathBuf,
        /// The id of the new cube; default: the one it had.
        #[arg(long = "as", value_name = "ID")]
        new_id: Option<String>,
    },
    /// Print the hash of what a cube says; two cubes of one hash hold the same memories, edges and vectors.
    Hash {
        /// Its id.
        id: String,
    },
    /// Let another user read and write a cube, or only read it. Doing it again changes the right.
    Share {
        /// Its id.
        id: String,
        /// The other user.
        with: String,
        /// What the other user may do: read, or write, which is both.
        #[arg(long, value_name = "RIGHT", default_value = "write", value_parser = ["read", "write"])]
        access: String,
        /// The same as --access read.
        #[arg(long, conflicts_with = "access")]
        read_only: bool,
    },
    /// Take back what `share` gave. Its owner may, and whom it was shared with.
    Unshare {
        /// Its id.
        id: String,
        /// The other user.
        from: String,
    },
    /// Print who may do what with a cube. Its owner may ask.
    Shares {
        /// Its id.
        id: String,
    },
    /// Embed a cube anew with the configured encoder.
    Reembed {
        /// Its id.
        id: String,
        /// Embed memories again that this encoder embedded already; mends damaged embeddings.
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// Fetch a model: a name of the list, or OWNER/NAME on the Hugging Face hub.
    Pull {
        /// The models; default: the two that the defaults use.
        names: Vec<String>,
    },
    /// Print the models that are known and which of them are here.
    List,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EvalCommand {
    /// Store the conversations of a LoCoMo file, each in a store of its own that is thrown away afterwards, ask its
    /// questions, and tell how much of their evidence came back. No language model takes part, unless with `--fine`.
    Locomo {
        /// The file: a JSON list of conversations with questions and evidence.
        file: PathBuf,
        /// Also the figures of each conversation, and the questions whose evidence was missed.
        #[arg(long)]
        dev: bool,
        /// Then let the configured model read the conversations in fine mode, and ask again with what it drew beside the
        /// turns: a drawn memory stands for the turns that it names. Fails when a turn is lost or a memory names none.
        #[arg(long)]
        fine: bool,
    },
    /// The same with parts of the ranking switched off, one table row each: what every part is worth.
    Compare {
        /// The file: a JSON list of conversations with questions and evidence.
        file: PathBuf,
    },
    /// Let the configured model draw memories from the conversations of a LoCoMo file, and tell how many of their claims the
    /// turns support, as the same model judges and as a check without a model does. Nothing is kept.
    Extraction {
        /// The file: a JSON list of conversations.
        file: PathBuf,
        /// Only the first N sessions, over all conversations.
        #[arg(long, value_name = "N")]
        limit: Option<NonZeroUsize>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Read a settings file and say what is wrong with it.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Print the backends that settings may name, and which of them this build has.
    Backends,
    /// Print the JSON Schema of settings files, which editors check and complete them with.
    Schema {
        /// That of a cube's configuration instead.
        #[arg(long, conflicts_with = "markdown")]
        of_cube: bool,
        /// The same as text for people: docs/configuration.md.
        #[arg(long)]
        markdown: bool,
    },
}
