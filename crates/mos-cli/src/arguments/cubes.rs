//! Commands on memory cubes.

use std::path::PathBuf;

use clap::Subcommand;

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
        /// A cube configuration (JSON or YAML) that wins over that of the cube. A cube that is here already keeps its own.
        #[arg(long, value_name = "FILE")]
        default_config: Option<PathBuf>,
        /// Only these memories of a cube that is new here: text_mem, act_mem, para_mem, pref_mem.
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
