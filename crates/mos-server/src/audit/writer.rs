//! The thread that writes lines.

use std::io;
use std::path::{Path, PathBuf};

use tokio::sync::{mpsc, oneshot};

use super::Entry;
use super::files::{Growing, MAX_FILE_BYTES};

/// The most lines that are written at once.
const MAX_GROUP: usize = 256;

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Message {
    /// Write this.
    Line(Box<Entry>),
    /// Answer when everything before this is written.
    Flush(oneshot::Sender<()>),
}

/// Begins the thread; it ends when nobody can tell it anything any more.
pub(super) fn start(folder: PathBuf, messages: mpsc::Receiver<Message>) {
    let thread = std::thread::Builder::new().name("mos-audit".to_owned());
    if let Err(error) = thread.spawn(move || run(&folder, messages)) {
        tracing::error!(%error, "the audit log cannot be written");
    }
}

fn run(folder: &Path, mut messages: mpsc::Receiver<Message>) {
    let mut file = None;
    while let Some(first) = messages.blocking_recv() {
        let (mut entries, mut waiting) = (Vec::new(), Vec::new());
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Line(entry) => entries.push(*entry),
                Message::Flush(done) => waiting.push(done),
            }
            next = if entries.len() < MAX_GROUP { messages.try_recv().ok() } else { None };
        }
        if let Err(error) = write(&mut file, folder, &mut entries) {
            // Ids and statuses: what is lost is at least in the program's log.
            for entry in &entries {
                tracing::error!(%error, key = ?entry.key, user = ?entry.user, what = %entry.what, status = entry.status,
                    "a change could not be written to the audit log");
            }
            // The next one may find the disk in order again.
            file = None;
        }
        for done in waiting {
            // Who asked may have gone.
            done.send(()).ok();
        }
    }
}

fn write(file: &mut Option<Growing>, folder: &Path, entries: &mut [Entry]) -> io::Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let growing = match file.take() {
        Some(growing) => file.insert(growing),
        None => file.insert(Growing::open(folder, MAX_FILE_BYTES)?),
    };
    growing.write(entries)
}
