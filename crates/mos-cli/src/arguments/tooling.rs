//! Commands on model files, settings and measurements.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Subcommand;

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
    /// Read a settings file, with what the environment says of it, or the configuration of a cube, and say what is wrong.
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
