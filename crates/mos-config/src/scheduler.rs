//! The work in the background.
//!
//! MemOS' files load as they are. Keys that it declares but that have no meaning here say so; keys that it reads without
//! declaring them, and those that it does not know, are written only where they were given.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::error::ConfigError;
use crate::read::{Fields, Setting};
use crate::secret::{Free, Secret};
use crate::store::RedisQueue;

section! {
    /// What every scheduler has in common. Unknown keys are ignored, as MemOS does: its older files have some.
    pub struct CommonScheduler {
        /// Memories of the working memory, and per search.
        default top_k: usize = 5,
        /// Several batches are handled at the same time; if not, one after another.
        default enable_parallel_dispatch: bool = true,
        /// Batches that are handled at the same time, at least 2.
        default thread_pool_max_workers: usize = 50,
        /// Seconds between two looks at the queue. Without meaning here: the queue wakes who waits for it.
        default consume_interval_seconds: f64 = 0.01,
        /// Messages of a batch, at most.
        default consume_batch: usize = 3,
        /// A file with credentials. Without meaning here: models and stores have theirs.
        default auth_config_path: Option<PathBuf> = None,
        /// Keeps jobs in Redis, with a store on a server that names no `queue`.
        default use_redis_queue: bool = false,
        /// How Redis is reached; the keys of the `queue` of backend `redis`, others are passed over.
        default redis_config: Free = default_redis(),
        /// A RabbitMQ broker that is told what happened. Absent, or without a host: none.
        omitted rabbitmq: Option<RabbitMq>,
        /// The most messages of the queue in this process. Without meaning here: every queue is bounded and refuses what
        /// does not fit, so nothing is lost.
        default max_internal_message_queue_size: usize = 200,
        /// Seconds that tasks running together may take. Without meaning here: see `task_limit_seconds`.
        default multi_task_running_timeout: usize = 30,
        /// `thread` (or absent): this program handles messages. `process`: it only sends them, and a program of its own
        /// (`mos scheduler run`) handles them.
        omitted scheduler_startup_mode: Option<String>,
        /// Labels that are not handled; their messages are refused.
        omitted disabled_handlers: Option<Vec<String>>,
        /// Stopping waits for what is being handled as long as it may take, instead of half a minute.
        omitted stop_wait: Option<bool>,
        /// Events that wait to be shown. Without meaning here: the newest 1,000 of each cube are kept.
        omitted max_web_log_queue_size: Option<usize>,
        /// Seconds between two looks at the workers. Without meaning here: leases find those that died.
        omitted dispatcher_monitor_check_interval: Option<f64>,
        /// How often such a look may fail. Without meaning here.
        omitted dispatcher_monitor_max_failures: Option<usize>,
        /// How often a message is tried before it is given up. Absent: 8.
        omitted max_attempts: Option<usize>,
        /// Seconds that handling one batch may take. Absent: 600.
        omitted task_limit_seconds: Option<f64>,
        /// How many batches in a row a cube is given before it is the next one's turn, by cube, from 1 to 1,000; cubes that are
        /// not named have 1. The same for all programs that share a queue.
        omitted cube_weights: Option<Free>,
        /// Also lets a model that computes in this process judge and refine; small ones do it badly. Absent: not.
        omitted use_local_model: Option<bool>,
    }
    check: check_common;
}

section! {
    /// A RabbitMQ broker, with MemOS' names. Everything absent is as usual for RabbitMQ.
    pub struct RabbitMq {
        /// Address of the broker, `amqp://USER:PASSWORD@HOST:PORT/VIRTUAL_HOST` (`amqps` for TLS); then no other part of it may
        /// be given.
        omitted url: Option<Secret>,
        /// Host of the broker.
        omitted host_name: Option<String>,
        /// Port of the broker. Absent: 5672, with TLS 5671.
        omitted port: Option<u16>,
        /// User of the broker. Absent: `guest`, who may come from the broker's own machine only.
        omitted user_name: Option<String>,
        /// Password of the user. Absent: `guest`.
        omitted password: Option<Secret>,
        /// The virtual host. Absent: `/`.
        omitted virtual_host: Option<String>,
        /// Whether the connection uses TLS, and the broker's certificate is checked. Absent: with port 5671.
        omitted tls: Option<bool>,
        /// File with the certificates of trusted authorities besides the system's.
        omitted ca_certificate: Option<PathBuf>,
        /// The exchange that events go to. Absent: `memos-fanout`.
        omitted exchange_name: Option<String>,
        /// `fanout` (or absent) or `direct`.
        omitted exchange_type: Option<String>,
        /// The key that events are sent with. Absent: `memos-scheduler`.
        omitted routing_key: Option<String>,
        /// Whether the password is forgotten after connecting. Without meaning here: it is needed to connect anew.
        omitted erase_on_connect: Option<bool>,
    }
    check: check_rabbitmq;
}

fn check_rabbitmq(rabbitmq: &RabbitMq, fields: &mut Fields<'_, '_>) {
    let parts = [
        ("host_name", rabbitmq.host_name.is_some()),
        ("port", rabbitmq.port.is_some()),
        ("user_name", rabbitmq.user_name.is_some()),
        ("password", rabbitmq.password.is_some()),
        ("virtual_host", rabbitmq.virtual_host.is_some()),
        ("tls", rabbitmq.tls.is_some()),
    ];
    for (key, _) in parts.into_iter().filter(|(_, is_given)| *is_given && rabbitmq.url.is_some()) {
        fields.refuse(key, "cannot be given beside url; write it into the url, or leave the url out");
    }
    if rabbitmq.exchange_type.as_deref().is_some_and(|kind| !["fanout", "direct"].contains(&kind)) {
        fields.refuse("exchange_type", "must be \"fanout\" or \"direct\"");
    }
}

impl RabbitMq {
    /// Whether it says where a broker is. MemOS writes an empty host where there is none.
    pub fn names_a_broker(&self) -> bool {
        let is_given = |text: &str| !text.trim().is_empty();
        self.url.as_ref().is_some_and(|url| is_given(url.expose())) || self.host_name.as_deref().is_some_and(is_given)
    }
}

fn default_redis() -> Free {
    let redis = [("host", "localhost".into()), ("port", 6379.into()), ("db", 0.into())];
    Free(redis.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn check_common(scheduler: &CommonScheduler, fields: &mut Fields<'_, '_>) {
    if scheduler.thread_pool_max_workers < 2 {
        fields.refuse("thread_pool_max_workers", "must be at least 2");
    }
    if scheduler.consume_interval_seconds <= 0.0 {
        fields.refuse("consume_interval_seconds", "must be more than 0");
    }
    for (cube, weight) in scheduler.cube_weights.iter().flat_map(|weights| &weights.0) {
        if !weight.as_u64().is_some_and(|weight| (1..=1_000).contains(&weight)) {
            fields.refuse("cube_weights", format!("the weight of `{cube}` must be a whole number from 1 to 1000"));
        }
    }
    if scheduler.consume_batch == 0 {
        fields.refuse("consume_batch", "must be at least 1");
    }
    if scheduler.top_k == 0 {
        fields.refuse("top_k", "must be at least 1");
    }
    if scheduler.scheduler_startup_mode.as_deref().is_some_and(|mode| !["thread", "process"].contains(&mode)) {
        fields.refuse("scheduler_startup_mode", "must be \"thread\" or \"process\"");
    }
    if scheduler.max_attempts == Some(0) {
        fields.refuse("max_attempts", "must be at least 1");
    }
    // A day, so that no duration is too long for a clock.
    if scheduler.task_limit_seconds.is_some_and(|seconds| !(0.001..=86_400.0).contains(&seconds)) {
        fields.refuse("task_limit_seconds", "must be from 0.001 to 86400");
    }
}

/// What of `redis_config` says how a server is reached.
const REDIS_KEYS: [&str; 7] = ["url", "host", "port", "db", "username", "password", "prefix"];

impl CommonScheduler {
    /// Returns `redis_config` as the settings of a queue; keys that do not say how the server is reached are left out.
    ///
    /// # Errors
    /// [`ConfigError`] for values that are no such settings.
    pub fn redis(&self) -> Result<RedisQueue, ConfigError> {
        let is_given = |value: &Value| !value.is_null() && value.as_str() != Some("");
        let known =
            self.redis_config.0.iter().filter(|(key, value)| REDIS_KEYS.contains(&key.as_str()) && is_given(value));
        let known: Map<String, Value> = known.map(|(key, value)| (key.clone(), value.clone())).collect();
        RedisQueue::from_json(&Value::Object(known))
    }
}

section! {
    /// Both schedulers' settings.
    pub struct Scheduler {
        /// Queue and workers.
        group common: CommonScheduler,
        /// Seconds between two renewals of activation memory, for each user of a cube apart.
        default act_mem_update_interval: Option<usize> = Some(300),
        /// Queries that are looked back at.
        default context_window_size: Option<usize> = Some(5),
        /// Where activation memory is written. Without meaning here: it is kept with the cube.
        omitted act_mem_dump_path: Option<PathBuf>,
        /// Promotes often-used memories to activation memory; the installation's `enable_activation_memory` lets chats begin
        /// with it.
        default enable_activation_memory: bool = false,
        /// The most entries of the working memory's monitor.
        default working_mem_monitor_capacity: usize = 30,
        /// The most entries of the activation memory's monitor.
        default activation_mem_monitor_capacity: usize = 20,
        /// Memories that are improved together.
        default enhance_batch_size: Option<usize> = Some(20),
        /// How often an improvement is tried again.
        default enhance_retries: usize = 1,
        /// A file for the monitors. Without meaning here: they are kept beside the jobs.
        default db_path: Option<PathBuf> = None,
        /// A database for the monitors. Without meaning here, as `db_path`.
        default db_url: Option<Secret> = None,
        /// Keeps the monitors over a restart. Without meaning here: they are always kept.
        default enable_orm_persistence: bool = true,
        /// Keywords that are taken of a question, at most. Absent: 20.
        omitted query_key_words_limit: Option<usize>,
        /// How memories are searched for a turn. MemOS' names of its methods are taken, and mean the one that the cube has.
        omitted search_method: Option<String>,
        /// Seconds without a search after which a turn searches although the model found the working memory enough. Absent:
        /// the model's word counts.
        omitted query_trigger_interval: Option<f64>,
        /// Reflects on recent memories when a message of `mem_dream` asks for it. Absent: not.
        omitted enable_dream: Option<bool>,
    }
    unknown keys: ignored;
    check: check_scheduler;
}

/// MemOS' names of its ways to search.
const SEARCH_METHODS: [&str; 3] = ["tree_text_memory_search", "tree_text_memory_fine_search", "text_memory_search"];

fn check_scheduler(scheduler: &Scheduler, fields: &mut Fields<'_, '_>) {
    if scheduler.search_method.as_deref().is_some_and(|method| !SEARCH_METHODS.contains(&method)) {
        fields.refuse("search_method", format!("must be one of {}", SEARCH_METHODS.join(", ")));
    }
    // A year, so that no duration is too long for a clock.
    if scheduler.query_trigger_interval.is_some_and(|seconds| !(0.0..=31_536_000.0).contains(&seconds)) {
        fields.refuse("query_trigger_interval", "must be from 0 to 31536000 seconds");
    }
    for (key, value) in [
        ("query_key_words_limit", scheduler.query_key_words_limit),
        ("context_window_size", scheduler.context_window_size),
        ("working_mem_monitor_capacity", Some(scheduler.working_mem_monitor_capacity)),
        ("activation_mem_monitor_capacity", Some(scheduler.activation_mem_monitor_capacity)),
    ] {
        if value == Some(0) {
            fields.refuse(key, "must be at least 1");
        }
    }
}

backends! {
    /// The work in the background.
    pub enum SchedulerConfig {
        /// The usual one.
        General(Scheduler) = "general_scheduler",
        /// With searches that mix history in.
        Optimized(Scheduler) = "optimized_scheduler",
    }
}

impl SchedulerConfig {
    /// Returns what both schedulers are told.
    pub fn settings(&self) -> &Scheduler {
        match self {
            Self::General(scheduler) | Self::Optimized(scheduler) => scheduler,
        }
    }

    /// Whether searches mix history in.
    pub fn is_optimized(&self) -> bool {
        matches!(self, Self::Optimized(_))
    }
}
