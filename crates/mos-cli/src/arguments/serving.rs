//! Commands that run for others: the server, the tools of a program, the demonstration.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

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

    /// An origin whose pages may call from a browser, as `https://app.example.com` (repeat for several).
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) cors_origin: Vec<String>,

    /// Answer no chats.
    #[arg(long)]
    pub(crate) no_chat: bool,
}
