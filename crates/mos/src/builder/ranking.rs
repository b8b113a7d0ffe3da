//! The settings' words for what ranks memories.

use mos_config::RecallConfig;
use mos_memory::RecallOptions;
use mos_memory::recall::{GraphOptions, Weights};

/// Up to how many memories all of them are ranked when their vectors are on a server: each search brings them here.
const MAX_EXHAUSTIVE_FAR: usize = 1000;

/// Returns how memories are ranked; `is_far` says that their vectors are on a server.
pub(super) fn recall_options(config: &RecallConfig, is_far: bool) -> RecallOptions {
    let weights = &config.weights;
    let defaults = RecallOptions::default();
    RecallOptions {
        max_exhaustive: if is_far { MAX_EXHAUSTIVE_FAR } else { defaults.max_exhaustive },
        max_bytes: usize::try_from(config.max_bytes).unwrap_or(usize::MAX),
        weights: Weights {
            words: weights.words as f32,
            context: weights.context as f32,
            vector: weights.vector as f32,
            speaker: weights.speaker as f32,
            date: weights.date as f32,
            time: weights.time as f32,
            question: weights.question as f32,
            drawn: weights.drawn as f32,
            graph: weights.graph as f32,
            session_priority: weights.session_priority as f32,
        },
        graph: GraphOptions { n_hops: config.graph_hops, ..defaults.graph },
        session_penalty: config.session_penalty as f32,
        ..defaults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_and_ranking_agree_on_what_is_usual() {
        assert_eq!(recall_options(&RecallConfig::default(), false), RecallOptions::default());
    }
}
