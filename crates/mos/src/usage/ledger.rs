//! The sums of all accounts, kept in one file per day that every process appends to.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use mos_core::MemoryError;
use serde::{Deserialize, Serialize};

use super::{Account, TokenSums};
use crate::folders;

/// How many accounts are told apart. Beyond, the days that are longest ago become one.
const MAX_ACCOUNTS: usize = 20_000;

/// How many calls of encoders may be held before they are written. A process that is killed loses at most these.
const MAX_HELD: usize = 256;

/// The end of a file's name, behind its day.
const SUFFIX: &str = ".jsonl";

/// The sums, and how far the files were read.
#[derive(Default)]
pub(super) struct Ledger {
    folder: Option<PathBuf>,
    sums: BTreeMap<Account, TokenSums>,
    /// Bytes that were read of the files that may still grow, by their days.
    read: BTreeMap<String, u64>,
    /// What is not written yet.
    held: BTreeMap<Account, TokenSums>,
    /// How many calls it is of.
    n_held: usize,
}

/// One line of a file.
#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    account: Account,
    #[serde(flatten)]
    tokens: TokenSums,
}

impl Ledger {
    /// Reads what was counted before. Files of days long over become one line per account.
    pub(super) fn open(folder: Option<PathBuf>, today: &str) -> Result<Self, MemoryError> {
        let mut ledger = Self { folder, ..Self::default() };
        let Some(folder) = ledger.folder.clone() else { return Ok(ledger) };
        let mut days = days(&folder).map_err(|error| file_error(&folder, &error))?;
        days.retain(|day| day.as_str() <= today);
        // Another process may still be writing to yesterday's: only what is older is made smaller.
        let n_closed = days.len().saturating_sub(2);
        for (at, day) in days.iter().enumerate() {
            let path = file_of(&folder, day);
            let (lines, n_bytes) = read_from(&path, 0).map_err(|error| file_error(&path, &error))?;
            let n_lines = lines.len();
            let mut of_day: BTreeMap<Account, TokenSums> = BTreeMap::new();
            for line in lines {
                of_day.entry(line.account).or_default().add(&line.tokens);
            }
            if at < n_closed && n_lines > of_day.len() {
                rewrite(&folder, day, &of_day);
            }
            if at >= n_closed {
                ledger.read.insert(day.clone(), n_bytes);
            }
            for (account, tokens) in of_day {
                ledger.sums.entry(account).or_default().add(&tokens);
            }
        }
        ledger.bound();
        Ok(ledger)
    }

    /// Returns every account with its sums, by day.
    pub(super) fn accounts(&self) -> impl Iterator<Item = (&Account, &TokenSums)> {
        self.sums.iter()
    }

    /// Adds to an account, and to the file of its day.
    pub(super) fn record(&mut self, account: Account, tokens: TokenSums) {
        let line = Line { account, tokens };
        if let Some(folder) = self.folder.clone() {
            match append(&folder, &line) {
                Ok(()) => {
                    let day = line.account.day;
                    self.catch_up(&day);
                    return;
                }
                Err(error) => {
                    tracing::warn!(folder = %folder.display(), %error, "used tokens are counted, but not kept on disk");
                }
            }
        }
        self.sums.entry(line.account).or_default().add(&line.tokens);
        self.bound();
    }

    /// Adds to an account, and to the file of its day later: at the latest when [`MAX_HELD`] calls are held.
    pub(super) fn hold(&mut self, account: Account, tokens: TokenSums) {
        self.held.entry(account).or_default().add(&tokens);
        self.n_held += 1;
        if self.n_held >= MAX_HELD {
            self.write_held();
        }
    }

    /// Writes what is held.
    pub(super) fn write_held(&mut self) {
        self.n_held = 0;
        for (account, tokens) in std::mem::take(&mut self.held) {
            self.record(account, tokens);
        }
    }

    /// Writes every file anew with the accounts that `change` returns. What another process adds meanwhile can be lost.
    pub(super) fn rewrite_all(&mut self, change: impl Fn(Account) -> Option<Account>) -> Result<(), MemoryError> {
        let changed = |sums: BTreeMap<Account, TokenSums>| {
            let mut kept: BTreeMap<Account, TokenSums> = BTreeMap::new();
            for (account, tokens) in sums {
                if let Some(account) = change(account) {
                    kept.entry(account).or_default().add(&tokens);
                }
            }
            kept
        };
        self.sums = changed(std::mem::take(&mut self.sums));
        let Some(folder) = self.folder.clone() else { return Ok(()) };
        for day in days(&folder).map_err(|error| file_error(&folder, &error))? {
            let path = file_of(&folder, &day);
            let (lines, _) = read_from(&path, 0).map_err(|error| file_error(&path, &error))?;
            let mut of_day: BTreeMap<Account, TokenSums> = BTreeMap::new();
            for line in lines {
                of_day.entry(line.account).or_default().add(&line.tokens);
            }
            let n_bytes = write_sums(&folder, &day, &changed(of_day)).map_err(|error| file_error(&path, &error))?;
            if let Some(n_read) = self.read.get_mut(&day) {
                *n_read = n_bytes;
            }
        }
        Ok(())
    }

    /// Adds what was written to the files of yesterday and `today` since they were read.
    pub(super) fn catch_up(&mut self, today: &str) {
        let Some(folder) = self.folder.clone() else { return };
        if !self.read.contains_key(today) {
            self.turn_to(&folder, today);
        }
        for (day, n_read) in &mut self.read {
            match read_from(&file_of(&folder, day), *n_read) {
                Ok((lines, n_bytes)) => {
                    *n_read += n_bytes;
                    for line in lines {
                        self.sums.entry(line.account).or_default().add(&line.tokens);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(folder = %folder.display(), %error, "tokens that other processes used are not known");
                }
            }
        }
        // Somebody may still finish yesterday's; nobody writes to older ones.
        while self.read.len() > 2 {
            self.read.pop_first();
        }
        self.bound();
    }

    /// Begins a day, with those before it in which only other processes wrote.
    fn turn_to(&mut self, folder: &Path, today: &str) {
        let newest = self.read.keys().next_back().cloned().unwrap_or_default();
        match days(folder) {
            Ok(days) => {
                let missed = days.into_iter().filter(|day| *day > newest && day.as_str() < today);
                self.read.extend(missed.map(|day| (day, 0)));
            }
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "tokens that other processes used are not known");
            }
        }
        self.read.insert(today.to_owned(), 0);
    }

    /// Makes the days that are longest ago one, until few enough accounts are left.
    fn bound(&mut self) {
        while self.sums.len() > MAX_ACCOUNTS {
            let Some(oldest) = self.sums.keys().map(|account| &account.day).find(|day| !day.is_empty()).cloned() else {
                return;
            };
            let all = std::mem::take(&mut self.sums).into_iter();
            let (old, kept): (BTreeMap<_, _>, BTreeMap<_, _>) = all.partition(|(account, _)| account.day == oldest);
            self.sums = kept;
            for (account, tokens) in old {
                let earlier = Account { day: String::new(), model: String::new(), ..account };
                self.sums.entry(earlier).or_default().add(&tokens);
            }
        }
    }
}

fn file_of(folder: &Path, day: &str) -> PathBuf {
    folder.join(format!("{day}{SUFFIX}"))
}

/// Returns the days that have a file, the oldest first.
fn days(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut days = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        days.extend(name.to_str().and_then(|name| name.strip_suffix(SUFFIX)).map(str::to_owned));
    }
    days.sort();
    Ok(days)
}

/// Returns the whole lines behind the first `start` bytes, and how many bytes they have.
fn read_from(path: &Path, start: u64) -> io::Result<(Vec<Line>, u64)> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() <= start {
        return Ok((Vec::new(), 0));
    }
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    // What has no end yet is still being written.
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let mut lines = Vec::new();
    for line in bytes[..end].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line) {
            Ok(line) => lines.push(line),
            // A process was killed while it wrote.
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a line of used tokens is damaged and left out")
            }
        }
    }
    Ok((lines, end as u64))
}

/// Adds one line. It is written at once, so that lines of several processes do not mix.
fn append(folder: &Path, line: &Line) -> io::Result<()> {
    folders::create_private(folder)?;
    let mut file = OpenOptions::new().create(true).append(true).open(file_of(folder, &line.account.day))?;
    // A line that another process could not finish ends here and does not spoil this one.
    let text = format!("\n{}\n", serde_json::to_string(line)?);
    file.write_all(text.as_bytes())
}

/// Replaces the file of a day that is over by one line per account. When that fails, the longer file stays.
fn rewrite(folder: &Path, day: &str, sums: &BTreeMap<Account, TokenSums>) {
    if let Err(error) = write_sums(folder, day, sums) {
        tracing::warn!(folder = %folder.display(), %error, "the tokens used on {day} could not be summed up on disk");
    }
}

/// Replaces the file of a day by one line per account, and returns its bytes.
fn write_sums(folder: &Path, day: &str, sums: &BTreeMap<Account, TokenSums>) -> io::Result<u64> {
    let mut text = String::new();
    for (account, tokens) in sums {
        text.push_str(&serde_json::to_string(&Line { account: account.clone(), tokens: *tokens })?);
        text.push('\n');
    }
    let new = folder.join(format!("{day}.{}.new", std::process::id()));
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, file_of(folder, day))?;
    Ok(text.len() as u64)
}

fn file_error(path: &Path, error: &io::Error) -> MemoryError {
    MemoryError::File {
        path: path.display().to_string(),
        detail: format!("the tokens used so far cannot be read: {error}; make it readable, or remove it to start anew"),
    }
}
