//! A disk in memory for `SQLite` whose power can be cut.
//!
//! What was written since a file's last sync is lost when the power goes, or survives in part: whole writes or
//! single sectors of 512 bytes, in any combination, as on real disks. A file that was never synced may be gone, and a
//! removed one may be back until the next new file is synced (which on real file systems syncs the folder).
//!
//! Not here: several processes; connections of one process share files, locks and shared memory as usual.

mod disk;
mod vfs;

use std::ffi::c_int;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use disk::DiskState;
use rusqlite::ffi;

/// A disk in memory, registered with `SQLite` as a file layer of its own.
#[derive(Debug)]
pub struct Disk {
    name: String,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<DiskState>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, DiskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a disk refuses to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteFault {
    /// No space is left.
    Full,
    /// The file system has become read-only.
    ReadOnly,
    /// The device reports an error.
    Broken,
}

impl WriteFault {
    fn code(self) -> c_int {
        match self {
            Self::Full => ffi::SQLITE_FULL,
            Self::ReadOnly => ffi::SQLITE_READONLY,
            Self::Broken => ffi::SQLITE_IOERR_WRITE,
        }
    }
}

impl Disk {
    /// Returns an empty disk with its power on.
    ///
    /// # Panics
    /// When `SQLite` refuses another file layer.
    pub fn new() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let name = format!("mos-power-loss-{}", LAST.fetch_add(1, Ordering::SeqCst));
        let shared = Arc::new(Shared { state: Mutex::new(DiskState::new()) });
        vfs::register(&name, &shared);
        Self { name, shared }
    }

    /// The name to open databases with.
    pub fn vfs(&self) -> &str {
        &self.name
    }

    /// How many writes, truncations, syncs and removals the disk has seen.
    pub fn n_operations(&self) -> u64 {
        self.shared.state().n_operations
    }

    /// Cuts the power when so many more operations are done: the next one fails, and everything after it.
    pub fn cut_power_after(&self, n_operations: u64) {
        let mut state = self.shared.state();
        state.cut_at = Some(state.n_operations + n_operations);
    }

    /// Whether the power is on.
    pub fn has_power(&self) -> bool {
        self.shared.state().has_power
    }

    /// Cuts the power, if it is still on, and turns it on again. What was not synced survives in part, by chance;
    /// the same `seed` gives the same chance. Files that are open stay dead.
    pub fn restart(&self, seed: u64) {
        self.shared.state().restart(seed);
    }

    /// Makes every write fail from now on; `None` makes them work again.
    pub fn fail_writes(&self, fault: Option<WriteFault>) {
        self.shared.state().fault = fault.map(WriteFault::code);
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::{Connection, OpenFlags};

    fn open(disk: &Disk) -> Connection {
        let connection = Connection::open_with_flags_and_vfs("/x.db", OpenFlags::default(), disk.vfs()).unwrap();
        connection.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
        connection
    }

    fn count(connection: &Connection) -> i64 {
        connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn without_syncs_commits_are_lost_and_with_them_kept() {
        let n_kept = |synchronous: &str| -> i64 {
            let mut kept = 0;
            for seed in 0..20 {
                let disk = Disk::new();
                let connection = open(&disk);
                connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x) STRICT").unwrap_err();
                connection.execute_batch("CREATE TABLE t (x INTEGER) STRICT; PRAGMA wal_checkpoint(FULL)").unwrap();
                connection.pragma_update(None, "synchronous", synchronous).unwrap();
                for _ in 0..5 {
                    connection.execute_batch("INSERT INTO t VALUES (1)").unwrap();
                }
                disk.restart(seed);
                assert!(connection.execute_batch("INSERT INTO t VALUES (1)").is_err(), "open files stay dead");
                drop(connection);
                kept += count(&open(&disk));
            }
            kept
        };
        assert_eq!(n_kept("FULL"), 20 * 5);
        assert!(n_kept("OFF") < 20 * 5, "a disk that never loses anything would prove nothing");
    }

    #[test]
    fn connections_share_a_file_and_wait_for_each_other() {
        let disk = Disk::new();
        open(&disk).execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x INTEGER)").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let connection = open(&disk);
                    for _ in 0..50 {
                        connection.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (1); COMMIT").unwrap();
                        count(&connection);
                    }
                });
            }
        });
        assert_eq!(count(&open(&disk)), 200);
    }

    #[test]
    fn faults_reach_the_writer_and_go_away() {
        let disk = Disk::new();
        let connection = open(&disk);
        connection.execute_batch("CREATE TABLE t (x INTEGER)").unwrap();
        disk.fail_writes(Some(WriteFault::Full));
        let error = connection.execute_batch("INSERT INTO t VALUES (1)").unwrap_err();
        assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DiskFull));
        disk.fail_writes(None);
        connection.execute_batch("INSERT INTO t VALUES (1)").unwrap();
        assert_eq!(count(&connection), 1);
    }
}
