//! Who changed what, and when: one line per change in a private folder.
//!
//! A line tells the moment, the key's id and its user, the operation, the cubes and the user that the request named, and the
//! status of the answer. Never the text of a memory, a question or a key.
//!
//! Invariant: a change begins only after its line has a place in the queue, so that no change goes without one; a full queue
//! makes changes wait.

mod entry;
mod files;
mod layer;
mod writer;

use std::path::PathBuf;
use std::sync::OnceLock;

use tokio::sync::{mpsc, oneshot};

pub(crate) use entry::{Entry, Notes};
pub(crate) use layer::around;

use writer::Message;

/// Lines that may wait for the disk.
const MAX_QUEUED: usize = 1_024;

/// Where changes are written down. Its thread begins with the first of them and ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Audit {
    folder: PathBuf,
    queue: OnceLock<mpsc::Sender<Message>>,
}

/// A place in the queue.
#[derive(Debug)]
pub(crate) struct Place(mpsc::OwnedPermit<Message>);

impl Place {
    /// Hands a line over; it cannot be refused any more.
    pub(crate) fn fill(self, entry: Entry) {
        drop(self.0.send(Message::Line(Box::new(entry))));
    }
}

impl Audit {
    /// Writes into this folder, which is made when there is something to write.
    pub(crate) fn at(folder: PathBuf) -> Self {
        Self { folder, queue: OnceLock::new() }
    }

    fn queue(&self) -> &mpsc::Sender<Message> {
        self.queue.get_or_init(|| {
            let (queue, messages) = mpsc::channel(MAX_QUEUED);
            writer::start(self.folder.clone(), messages);
            queue
        })
    }

    /// Returns a place in the queue, once there is one; `None` when the thread that writes is gone.
    pub(crate) async fn place(&self) -> Option<Place> {
        match self.queue().clone().reserve_owned().await {
            Ok(permit) => Some(Place(permit)),
            Err(_) => {
                tracing::error!("the audit log cannot be written: its thread has ended; restart the server");
                None
            }
        }
    }

    /// Returns once everything that was handed over is on disk, as far as it can be written.
    pub(crate) async fn flush(&self) {
        let Some(queue) = self.queue.get() else { return };
        let (done, is_done) = oneshot::channel();
        if queue.send(Message::Flush(done)).await.is_ok() {
            // The thread is gone otherwise, and has told so.
            is_done.await.ok();
        }
    }

    /// Returns at most `limit` of the newest entries whose number is less than `before`, newest first.
    ///
    /// # Errors
    /// The error of the files.
    pub(crate) async fn newest(&self, before: Option<u64>, limit: usize) -> std::io::Result<Vec<Entry>> {
        self.flush().await;
        let folder = self.folder.clone();
        let read = tokio::task::spawn_blocking(move || files::newest(&folder, before.unwrap_or(u64::MAX), limit));
        read.await.map_err(std::io::Error::other)?
    }
}
