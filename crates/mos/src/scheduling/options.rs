//! The settings' words for how the scheduler works.

use std::time::Duration;

use mos_config::scheduler::{CommonScheduler, Scheduler as SchedulerSettings};
use mos_config::{QueueConfig, Settings, StoreConfig};
use mos_core::{CubeId, Weights};
use mos_scheduler::{DreamOptions, PromotionOptions, SchedulerOptions, TurnOptions, WorkOptions};

use crate::facade::OrganizeModel;

fn configured(settings: &Settings) -> Option<&SchedulerSettings> {
    settings.mem_scheduler.as_ref().map(mos_config::SchedulerConfig::settings)
}

/// Returns how much is done at once, and for how long.
pub(crate) fn scheduler_options(settings: &Settings) -> SchedulerOptions {
    let mut usual = SchedulerOptions {
        is_durable: is_durable(settings),
        consumer: format!("mos-{}", std::process::id()),
        ..SchedulerOptions::default()
    };
    if matches!(settings.store, StoreConfig::Memory(_)) {
        // The memories end with the process, too: nobody waits for what failed.
        usual.drain_retries = Duration::ZERO;
    }
    let Some(scheduler) = configured(settings) else { return usual };
    let common = &scheduler.common;
    let limit = common.task_limit_seconds.map_or(usual.limit, Duration::from_secs_f64);
    let max_attempts = common.max_attempts.and_then(|attempts| u32::try_from(attempts).ok());
    SchedulerOptions {
        workers: if common.enable_parallel_dispatch { common.thread_pool_max_workers } else { 1 },
        batch: common.consume_batch,
        limit,
        max_attempts: max_attempts.unwrap_or(usual.max_attempts),
        drain: if common.stop_wait == Some(true) { limit } else { usual.drain },
        disabled: common.disabled_handlers.clone().unwrap_or_default(),
        weights: weights(common),
        ..usual
    }
}

/// Returns the weights of cubes; the settings were checked.
fn weights(common: &CommonScheduler) -> Weights {
    let configured = common.cube_weights.iter().flat_map(|weights| &weights.0);
    Weights::new(configured.filter_map(|(cube, weight)| {
        let weight = weight.as_u64().and_then(|weight| u32::try_from(weight).ok())?;
        Some((CubeId::new(cube.as_str()), weight))
    }))
}

/// Returns how working memory follows what is asked, and when it becomes activation memory.
pub(crate) fn turn_options(settings: &Settings) -> TurnOptions {
    let usual = TurnOptions::default();
    let Some(scheduler) = configured(settings) else { return usual };
    let promotion = PromotionOptions {
        is_enabled: promotes(settings),
        interval: scheduler.act_mem_update_interval.map_or(usual.promotion.interval, seconds),
        max_texts: scheduler.activation_mem_monitor_capacity,
        ..usual.promotion
    };
    TurnOptions {
        top_k: scheduler.common.top_k,
        context_window_size: scheduler.context_window_size.unwrap_or(usual.context_window_size),
        keywords: scheduler.query_key_words_limit.unwrap_or(usual.keywords),
        working_mem_monitor_capacity: scheduler.working_mem_monitor_capacity,
        retrieve_after: scheduler.query_trigger_interval.map(Duration::from_secs_f64).or(usual.retrieve_after),
        promotion,
        ..usual
    }
}

fn seconds(seconds: usize) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(u64::MAX))
}

/// Returns how memories are refined, corrected and reflected on.
pub(crate) fn work_options(settings: &Settings) -> WorkOptions {
    let dreams = configured(settings).is_some_and(|scheduler| scheduler.enable_dream == Some(true));
    WorkOptions { dream: dreams.then(DreamOptions::default), ..WorkOptions::default() }
}

/// Whether jobs outlive the process.
fn is_durable(settings: &Settings) -> bool {
    !matches!(settings.store, StoreConfig::Memory(_)) && !matches!(settings.queue, Some(QueueConfig::Memory(_)))
}

/// Whether messages of a label are refused.
pub(crate) fn is_disabled(settings: &Settings, label: &str) -> bool {
    let disabled = configured(settings).and_then(|scheduler| scheduler.common.disabled_handlers.as_ref());
    disabled.is_some_and(|labels| labels.iter().any(|one| one == label))
}

/// Whether another program handles what this one sends.
pub(crate) fn only_sends(settings: &Settings) -> bool {
    let mode = configured(settings).and_then(|scheduler| scheduler.common.scheduler_startup_mode.as_deref());
    mode == Some("process")
}

/// Which models may judge and refine in the background.
pub(crate) fn organize_model(settings: &Settings) -> OrganizeModel {
    let may_be_local = configured(settings).and_then(|scheduler| scheduler.common.use_local_model);
    if may_be_local == Some(true) { OrganizeModel::Any } else { OrganizeModel::Auto }
}

/// Whether memories are promoted to activation memory: only where chats begin with it.
pub(crate) fn promotes(settings: &Settings) -> bool {
    settings.enable_activation_memory
        && configured(settings).is_some_and(|scheduler| scheduler.enable_activation_memory)
}

#[cfg(test)]
mod tests {
    use mos_config::{SchedulerConfig, Setting};
    use serde_json::{Value, json};

    use super::*;

    fn settings(config: Value) -> Settings {
        let config = SchedulerConfig::from_json(&json!({"backend": "general_scheduler", "config": config})).unwrap();
        Settings { mem_scheduler: Some(config), ..Settings::default() }
    }

    #[test]
    fn settings_say_how_much_is_done_at_once() {
        let usual = scheduler_options(&Settings::default());
        assert!(usual.is_durable && usual.workers == SchedulerOptions::default().workers);
        let options = scheduler_options(&settings(json!({
            "thread_pool_max_workers": 7, "consume_batch": 2, "max_attempts": 4, "task_limit_seconds": 90,
            "stop_wait": true, "disabled_handlers": ["mem_dream"]})));
        assert_eq!((options.workers, options.batch, options.max_attempts), (7, 2, 4));
        assert_eq!((options.limit, options.drain), (Duration::from_secs(90), Duration::from_secs(90)));
        assert_eq!(options.disabled, ["mem_dream"]);
        assert_eq!(scheduler_options(&settings(json!({"enable_parallel_dispatch": false}))).workers, 1);
        let weights = scheduler_options(&settings(json!({"cube_weights": {"big": 4}}))).weights;
        assert_eq!((weights.of(&"big".into()), weights.of(&"other".into())), (4, 1));
    }

    #[test]
    fn nothing_is_reflected_on_unless_it_is_asked_for() {
        assert!(work_options(&Settings::default()).dream.is_none());
        assert!(work_options(&settings(json!({}))).dream.is_none());
        assert!(work_options(&settings(json!({"enable_dream": false}))).dream.is_none());
        assert!(work_options(&settings(json!({"enable_dream": true}))).dream.is_some());
    }

    #[test]
    fn local_models_other_programs_and_promotion_are_asked_for() {
        let plain = settings(json!({}));
        assert!(!only_sends(&plain) && !promotes(&plain) && organize_model(&plain) == OrganizeModel::Auto);
        let asked = settings(json!({
            "scheduler_startup_mode": "process", "use_local_model": true, "enable_activation_memory": true}));
        assert!(only_sends(&asked) && organize_model(&asked) == OrganizeModel::Any);
        assert!(!promotes(&asked), "chats of this installation do not begin with activation memory");
        assert!(promotes(&Settings { enable_activation_memory: true, ..asked }));
    }
}
