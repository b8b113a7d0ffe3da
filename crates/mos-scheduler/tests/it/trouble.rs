//! What goes wrong: handlers that break, messages that nobody can do, stores that are full or away, and ends in the
//! middle. All of it is visible, and everything else goes on.

mod forms;
mod handlers;
mod messages;
mod queue;
mod servers;
mod status;
mod stopping;
mod traces;

use std::any::Any;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mos_core::{Clock, JobQueue, RandomIds, RecordStore, Scope, ScopeLifecycle, StateStore, SystemClock};
use mos_scheduler::{
    EventSink, HandlerContext, HandlerError, ItemState, ItemStatus, Registration, ScheduleMessage, Scheduler,
    SchedulerOptions, SchedulerParts,
};
use mos_stores::{InMemoryStore, RedisOptions, RedisQueue, SqliteOptions, SqliteStore};

use crate::support::{BareCubes, RuntimeClock};

/// Longer than anything takes that is not broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs tests on each kind of store; in memory without waiting for any time.
macro_rules! on_every_store {
    ($($name:ident),+ $(,)?) => {
        mod in_memory {
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::$name(crate::trouble::in_memory()).await;
            })+
        }

        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::trouble::on_sqlite()).await;
            })+
        }

        mod on_redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let Some(server) = crate::trouble::RedisServer::start() else { return };
                super::$name(crate::trouble::on_redis(&server).await).await;
            })+
        }
    };
}
pub(crate) use on_every_store;

/// Where a scheduler keeps what it has.
struct Stores {
    queue: Arc<dyn JobQueue>,
    state: Arc<dyn StateStore>,
    record: Arc<dyn RecordStore>,
    /// Opens and closes the scopes of the record.
    scopes: Arc<dyn ScopeLifecycle>,
    clock: Arc<dyn Clock>,
    /// What the stores need as long as they live.
    _kept: Option<Box<dyn Any + Send + Sync>>,
}

fn in_memory() -> Stores {
    let clock: Arc<dyn Clock> = Arc::new(RuntimeClock::new());
    let store = InMemoryStore::new(Arc::clone(&clock));
    Stores { queue: store.clone(), state: store.clone(), record: store.clone(), scopes: store, clock, _kept: None }
}

fn on_sqlite() -> Stores {
    let folder = tempfile::tempdir().unwrap();
    let mut stores = sqlite(SqliteOptions::at(folder.path().join("mos.db")));
    stores._kept = Some(Box::new(folder));
    stores
}

fn sqlite(options: SqliteOptions) -> Stores {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = SqliteStore::open(options, Arc::clone(&clock)).unwrap();
    Stores { queue: store.clone(), state: store.clone(), record: store.clone(), scopes: store, clock, _kept: None }
}

/// Jobs, documents and logs on a server; the record is not there.
async fn on_redis(server: &RedisServer) -> Stores {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let options = RedisOptions::from_url(&server.url()).unwrap();
    let queue = RedisQueue::open(options, Arc::clone(&clock)).await.unwrap();
    let state: Arc<dyn StateStore> = queue.state();
    let record = InMemoryStore::new(Arc::clone(&clock));
    Stores { queue, state, record: record.clone(), scopes: record, clock, _kept: None }
}

/// Retries are soon, so that tests are.
fn options() -> SchedulerOptions {
    SchedulerOptions {
        max_attempts: 3,
        first_retry: Duration::from_millis(10),
        longest_retry: Duration::from_millis(20),
        ..SchedulerOptions::default()
    }
}

fn scheduler(stores: &Stores, options: SchedulerOptions) -> Scheduler {
    scheduler_telling(stores, options, Vec::new())
}

fn scheduler_telling(stores: &Stores, options: SchedulerOptions, sinks: Vec<Arc<dyn EventSink>>) -> Scheduler {
    Scheduler::new(SchedulerParts {
        queue: Arc::clone(&stores.queue),
        state: Arc::clone(&stores.state),
        cubes: Arc::new(BareCubes::new(Arc::clone(&stores.record), Arc::clone(&stores.clock))),
        clock: Arc::clone(&stores.clock),
        ids: Arc::new(RandomIds),
        sinks,
        options,
    })
}

/// A message of Ann for cube `c`.
fn message(label: &str, content: &str) -> ScheduleMessage {
    message_of("ann", "c", label, content)
}

fn message_of(user: &str, cube: &str, label: &str, content: &str) -> ScheduleMessage {
    ScheduleMessage::new(label, user, cube, content, &SystemClock, &RandomIds)
}

fn of_task(task: &str, message: ScheduleMessage) -> ScheduleMessage {
    ScheduleMessage { task_id: Some(task.to_owned()), ..message }
}

fn scope_of(message: &ScheduleMessage) -> Scope {
    Scope::of(&message.mem_cube_id)
}

async fn submit<'a>(scheduler: &Scheduler, messages: impl IntoIterator<Item = &'a ScheduleMessage>) {
    scheduler.submit_messages(messages.into_iter().cloned().collect()).await.unwrap();
}

async fn status_of(scheduler: &Scheduler, message: &ScheduleMessage) -> Option<ItemStatus> {
    scheduler.item_status(&scope_of(message), &message.item_id).await.unwrap()
}

async fn state_of(scheduler: &Scheduler, message: &ScheduleMessage) -> Option<ItemState> {
    status_of(scheduler, message).await.map(|status| status.status)
}

/// Why a message was given up.
async fn reason_of(scheduler: &Scheduler, message: &ScheduleMessage) -> String {
    let status = status_of(scheduler, message).await.unwrap();
    assert_eq!(status.status, ItemState::Failed, "{status:?}");
    status.error.unwrap()
}

async fn settle(scheduler: &Scheduler) {
    assert!(scheduler.wait_until_idle(PATIENCE).await.unwrap(), "there is still something to do");
}

/// Waits until something is so.
async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let looking = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, looking).await.is_ok(), "{what}");
}

/// What handlers did, in order.
#[derive(Clone, Debug, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn note(&self, what: &str) {
        self.0.lock().unwrap().push(what.to_owned());
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn count(&self, what: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|seen| *seen == what).count()
    }
}

/// A handler that notes the contents of its messages.
fn noting(seen: &Seen) -> Registration {
    let seen = seen.clone();
    Registration::new(move |_: HandlerContext, messages: Vec<ScheduleMessage>| {
        let seen = seen.clone();
        async move {
            messages.iter().for_each(|message| seen.note(&message.content));
            Ok::<(), HandlerError>(())
        }
    })
}

/// A handler that waits for a permit with each batch, after it noted the contents.
fn gated(seen: &Seen, gate: &Arc<tokio::sync::Semaphore>) -> Registration {
    let (seen, gate) = (seen.clone(), Arc::clone(gate));
    Registration::new(move |_: HandlerContext, messages: Vec<ScheduleMessage>| {
        let (seen, gate) = (seen.clone(), Arc::clone(&gate));
        async move {
            messages.iter().for_each(|message| seen.note(&message.content));
            gate.acquire().await.map_err(HandlerError::retry)?.forget();
            Ok::<(), HandlerError>(())
        }
    })
}

/// Says that a test is passed over.
///
/// # Panics
/// When the environment says that none may be.
#[allow(clippy::print_stderr, reason = "whoever runs the tests is to see it")]
fn pass_over(what: &str) {
    let is_required = std::env::var_os("MOS_TEST_SERVICES").is_some_and(|value| value == "1");
    assert!(!is_required, "{what}, but MOS_TEST_SERVICES=1 wants it");
    eprintln!("passed over: {what}");
}

/// A Redis server of a test's own, which syncs every write. It ends with its value.
#[derive(Debug)]
struct RedisServer {
    folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl RedisServer {
    /// Starts a server; `None` where the program is not installed.
    fn start() -> Option<Self> {
        if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
            pass_over("`redis-server` is not installed");
            return None;
        }
        for _ in 0..10 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut server = Self { folder: tempfile::tempdir().unwrap(), port, child: None };
            // Another program may have taken the port in between.
            if server.run() {
                return Some(server);
            }
        }
        panic!("no server could be started in ten attempts");
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// `kill -9`.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts it on the same port and files.
    fn start_again(&mut self) {
        self.kill();
        assert!((0..10).any(|_| self.run()), "the server does not start again");
    }

    fn run(&mut self) -> bool {
        let mut child = command(self.folder.path(), self.port).spawn().unwrap();
        for _ in 0..1_500 {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            if answers(self.port) {
                self.child = Some(child);
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        false
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn command(folder: &Path, port: u16) -> Command {
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--daemonize", "no"]);
    command.args(["--appendonly", "yes", "--appendfsync", "always"]);
    command.arg("--dir").arg(folder).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Whether a server has its data and takes commands.
fn answers(port: u16) -> bool {
    use std::io::{Read, Write};
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let mut answer = [0; 5];
    let asked = stream.set_read_timeout(Some(Duration::from_secs(1))).and_then(|()| stream.write_all(b"PING\r\n"));
    asked.and_then(|()| stream.read_exact(&mut answer)).is_ok() && &answer == b"+PONG"
}
