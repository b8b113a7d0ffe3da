//! What the program is told.

use std::path::PathBuf;
use std::str::FromStr;

use crate::Failure;

const USAGE: &str = "usage: server_load MOS FOLDER [--seconds N] [--minutes N] [--memories N] [--clients N] [--users N] \
                     [--server-cores others|all]";

/// The word by which this program calls itself to measure the encoder.
pub(crate) const ENCODER: &str = "encoder";

/// What this process is to do.
pub(crate) enum Mode {
    /// Measure the encoder.
    Encoder {
        /// For how long, each way.
        seconds: f64,
        /// How many ask at the same time.
        n_callers: usize,
    },
    /// Start a server and load it.
    Load(Options),
}

/// How a server is loaded.
pub(crate) struct Options {
    /// The program `mos`.
    pub(crate) program: PathBuf,
    /// An empty folder.
    pub(crate) folder: PathBuf,
    /// The length of the two short phases, in seconds.
    pub(crate) seconds: u64,
    /// The length of the phase in which memory is watched.
    pub(crate) minutes: Option<u64>,
    /// How many memories there are before anything is measured.
    pub(crate) n_memories: usize,
    /// How many clients there are at the same time.
    pub(crate) n_clients: usize,
    /// How many users they act for, each with a cube.
    pub(crate) n_users: usize,
    /// Whether the server shares the core of the clients.
    pub(crate) server_has_all_cores: bool,
}

impl Mode {
    /// Reads arguments, the program's own name left out.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut arguments: Vec<String> = arguments.collect();
        if let [word, seconds, n_callers] = arguments.as_slice()
            && word == ENCODER
        {
            return Ok(Self::Encoder { seconds: seconds.parse()?, n_callers: n_callers.parse()? });
        }
        let more = arguments.split_off(arguments.len().min(2));
        let [program, folder] = arguments.as_slice() else { return Err(USAGE.into()) };
        let mut options = Options {
            program: program.into(),
            folder: folder.into(),
            seconds: 60,
            minutes: None,
            n_memories: 10_000,
            n_clients: 64,
            n_users: 8,
            server_has_all_cores: false,
        };
        for pair in more.chunks(2) {
            let [name, value] = pair else { return Err(USAGE.into()) };
            match (name.as_str(), value.as_str()) {
                ("--seconds", value) => options.seconds = at_least_one(value)?,
                ("--minutes", value) => options.minutes = Some(at_least_one(value)?),
                ("--memories", value) => options.n_memories = at_least_one(value)?,
                ("--clients", value) => options.n_clients = at_least_one(value)?,
                ("--users", value) => options.n_users = at_least_one(value)?,
                ("--server-cores", "others") => options.server_has_all_cores = false,
                ("--server-cores", "all") => options.server_has_all_cores = true,
                _ => return Err(USAGE.into()),
            }
        }
        Ok(Self::Load(options))
    }
}

fn at_least_one<N: FromStr + Default + PartialEq>(text: &str) -> Result<N, Failure> {
    let number = text.parse::<N>().ok().filter(|number| *number != N::default());
    number.ok_or_else(|| format!("`{text}` is no number from 1").into())
}
