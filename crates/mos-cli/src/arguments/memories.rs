//! Commands on memories: talk, remember, find, put in order, remove.

use std::path::PathBuf;

use clap::Args;

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
    #[arg(required_unless_present_any = ["messages", "file", "url", "skill"], conflicts_with_all = ["messages", "file", "url", "skill"])]
    pub(crate) text: Option<String>,

    /// A file with a JSON list of messages (`{"role": "user", "content": "..."}`); `-` reads standard input. The same file in
    /// the same conversation, added again within a week, stores nothing and prints the ids of the first time.
    #[arg(long, value_name = "FILE")]
    pub(crate) messages: Option<PathBuf>,

    /// Files, and folders with everything below them: text, Markdown, HTML, PDF, office documents ... Files that are known
    /// already are passed over, so that the same command can be run again.
    #[arg(long, value_name = "PATH", num_args = 1.., conflicts_with_all = ["messages", "idempotency_key"])]
    pub(crate) file: Vec<PathBuf>,

    /// Files at addresses; the settings' `fetch` must allow them.
    #[arg(long, value_name = "URL", num_args = 1.., conflicts_with_all = ["messages", "idempotency_key"])]
    pub(crate) url: Vec<String>,

    /// Zip archives of skills: every folder with a SKILL.md becomes a memory, with the texts beside that file. `mos get
    /// --as-skill` gives it back.
    #[arg(long, value_name = "ZIP", num_args = 1.., conflicts_with_all = ["messages", "idempotency_key"])]
    pub(crate) skill: Vec<PathBuf>,

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
    /// that time are printed. For messages it takes the place of the key that follows from the file's content.
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
