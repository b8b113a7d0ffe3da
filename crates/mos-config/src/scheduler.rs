//! The work in the background.

use std::path::PathBuf;

use crate::read::Fields;
use crate::secret::Free;

section! {
    /// What every scheduler has in common. Unknown keys are ignored, as MemOS does: its older files have some.
    pub struct CommonScheduler {
        /// Memories per search.
        default top_k: usize = 5,
        /// Several tasks run at the same time.
        default enable_parallel_dispatch: bool = true,
        /// Tasks that run at the same time, at least 2.
        default thread_pool_max_workers: usize = 50,
        /// Seconds between two looks at the queue.
        default consume_interval_seconds: f64 = 0.01,
        /// Messages per look.
        default consume_batch: usize = 3,
        /// A file with credentials.
        default auth_config_path: Option<PathBuf> = None,
        /// Queues in Redis.
        default use_redis_queue: bool = false,
        /// How Redis is reached.
        default redis_config: Free = default_redis(),
        /// The most messages of the queue in this process.
        default max_internal_message_queue_size: usize = 200,
        /// Seconds that tasks running together may take.
        default multi_task_running_timeout: usize = 30,
    }
    check: check_common;
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
    if scheduler.consume_batch == 0 {
        fields.refuse("consume_batch", "must be at least 1");
    }
}

section! {
    /// Both schedulers' settings.
    pub struct Scheduler {
        /// Queue and workers.
        group common: CommonScheduler,
        /// Seconds between two renewals of activation memory.
        default act_mem_update_interval: Option<usize> = Some(300),
        /// Queries that are looked back at.
        default context_window_size: Option<usize> = Some(5),
        /// Where activation memory is written.
        omitted act_mem_dump_path: Option<PathBuf>,
        /// Renews activation memory.
        default enable_activation_memory: bool = false,
        /// The most entries of the working memory's monitor.
        default working_mem_monitor_capacity: usize = 30,
        /// The most entries of the activation memory's monitor.
        default activation_mem_monitor_capacity: usize = 20,
        /// Memories that are improved together.
        default enhance_batch_size: Option<usize> = Some(20),
        /// How often an improvement is tried again.
        default enhance_retries: usize = 1,
        /// A file for the monitors.
        default db_path: Option<PathBuf> = None,
        /// A database for the monitors.
        default db_url: Option<crate::secret::Secret> = None,
        /// Keeps the monitors over a restart.
        default enable_orm_persistence: bool = true,
    }
    unknown keys: ignored;
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
