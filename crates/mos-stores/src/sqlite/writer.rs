//! The one thread that writes, and how it commits in groups.
//!
//! Invariant: a request is answered with success only after the COMMIT of its transaction, which under
//! `synchronous=FULL` is after its data was synced to disk.

use std::cell::Cell;
use std::path::PathBuf;
use std::thread::JoinHandle;

use mos_core::StoreError;
use rusqlite::Connection;
use rusqlite::hooks::Wal;
use tokio::sync::{mpsc, oneshot};

use super::fault::{BACKEND, Fault, driver_error, store_error};

/// The most requests that share one transaction: bounds how long the first of them waits for the last.
const MAX_GROUP: usize = 256;

thread_local! {
    /// Pages in the write-ahead log, as told by the last commit of this thread.
    static LOG_PAGES: Cell<u32> = const { Cell::new(0) };
}

/// A request in line. It may be attempted twice: when its group fails as a whole, each member is tried alone.
trait Request: Send {
    /// Runs it inside a savepoint and returns whether its changes are to be kept.
    fn attempt(&mut self, connection: &Connection) -> bool;
    /// Whether it failed by itself in its last attempt.
    fn failed(&self) -> bool;
    /// Answers the caller; `group` tells whether the transaction was committed.
    fn answer(self: Box<Self>, group: Result<(), StoreError>);
}

struct Call<T, F> {
    work: F,
    outcome: Option<Result<T, Fault>>,
    path: PathBuf,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Request for Call<T, F>
where
    T: Send,
    F: Fn(&Connection) -> Result<T, Fault> + Send,
{
    fn attempt(&mut self, connection: &Connection) -> bool {
        let outcome = (self.work)(connection);
        let keep = outcome.is_ok();
        self.outcome = Some(outcome);
        keep
    }

    fn failed(&self) -> bool {
        matches!(self.outcome, Some(Err(_)))
    }

    fn answer(self: Box<Self>, group: Result<(), StoreError>) {
        let result = match (self.outcome, group) {
            (Some(Err(fault)), _) => Err(store_error(fault, &self.path)),
            (_, Err(error)) => Err(error),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (None, Ok(())) => unreachable!("a group is committed only after each of its requests was attempted"),
        };
        // The caller may have stopped waiting; the write stands all the same.
        let _ = self.reply.send(result);
    }
}

/// Hands requests to the writing thread.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Box<dyn Request>>>,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
}

impl Writer {
    /// Starts the thread, which owns `connection` from now on.
    pub(super) fn start(
        connection: Connection,
        path: PathBuf,
        max_queued: usize,
        checkpoint_pages: u32,
    ) -> std::io::Result<Self> {
        let (queue, requests) = mpsc::channel(max_queued.max(1));
        let worker = Worker { connection, path: path.clone(), checkpoint_pages };
        let thread = std::thread::Builder::new().name("mos-writer".to_owned()).spawn(move || worker.run(requests))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), path })
    }

    /// Runs `work` in a transaction of its own (as far as it can tell) and returns once that is durable.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let call = Box::new(Call { work, outcome: None, path: self.path.clone(), reply });
        let gone = || StoreError::Unavailable { backend: BACKEND, source: "the writing thread has ended".into() };
        let queue = self.queue.as_ref().ok_or_else(gone)?;
        queue.send(call).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for Writer {
    /// Waits until everything in line is written and the file is closed.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the writing thread has panicked");
        }
    }
}

struct Worker {
    connection: Connection,
    path: PathBuf,
    checkpoint_pages: u32,
}

impl Worker {
    fn run(self, mut requests: mpsc::Receiver<Box<dyn Request>>) {
        self.connection.wal_hook(Some(note_log_pages));
        while let Some(first) = requests.blocking_recv() {
            let mut group = vec![first];
            while group.len() < MAX_GROUP
                && let Ok(next) = requests.try_recv()
            {
                group.push(next);
            }
            self.serve(group);
            if LOG_PAGES.get() >= self.checkpoint_pages {
                self.checkpoint();
            }
        }
    }

    /// Commits a group and answers it. What fails together is tried again one by one, so that a request is only
    /// ever refused for its own sake.
    fn serve(&self, mut group: Vec<Box<dyn Request>>) {
        match self.commit(&mut group) {
            Ok(()) => group.into_iter().for_each(|request| request.answer(Ok(()))),
            Err(failure) if group.len() == 1 || failure.at_begin => {
                for request in group {
                    request.answer(Err(driver_error(&failure.error, &self.path)));
                }
            }
            Err(_) => group.into_iter().for_each(|request| self.serve(vec![request])),
        }
    }

    fn commit(&self, group: &mut [Box<dyn Request>]) -> Result<(), Failure> {
        self.execute("BEGIN IMMEDIATE").map_err(|error| Failure { error, at_begin: true })?;
        let result = self.attempt_all(group).and_then(|()| self.execute("COMMIT"));
        result.map_err(|error| {
            if !self.connection.is_autocommit()
                && let Err(error) = self.execute("ROLLBACK")
            {
                tracing::error!(%error, "a failed transaction could not be rolled back");
            }
            Failure { error, at_begin: false }
        })
    }

    fn attempt_all(&self, group: &mut [Box<dyn Request>]) -> Result<(), rusqlite::Error> {
        for request in group {
            self.execute("SAVEPOINT request")?;
            let keep = request.attempt(&self.connection);
            if self.connection.is_autocommit() {
                // A full disk or a failed read makes SQLite itself roll the whole transaction back.
                debug_assert!(request.failed(), "SQLite rolls back only what failed");
                return Err(rusqlite::Error::InvalidQuery);
            }
            if !keep {
                self.execute("ROLLBACK TO request")?;
            }
            self.execute("RELEASE request")?;
        }
        Ok(())
    }

    fn execute(&self, sql: &'static str) -> Result<(), rusqlite::Error> {
        self.connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    }

    /// Carries the log over into the file, after the answers: nobody waits for it. It stops where a reader still
    /// needs the log, and goes on at the next one.
    fn checkpoint(&self) {
        let done = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        if let Err(error) = done {
            tracing::warn!(%error, "the write-ahead log could not be carried over; it will be tried again");
        }
    }
}

struct Failure {
    error: rusqlite::Error,
    /// The transaction could not even begin; trying one by one would only wait longer.
    at_begin: bool,
}

fn note_log_pages(_: &Wal, pages: std::ffi::c_int) -> rusqlite::Result<()> {
    LOG_PAGES.set(u32::try_from(pages).unwrap_or(0));
    Ok(())
}
