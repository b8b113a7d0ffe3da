//! The constants of organising.

use std::time::Duration;

/// When memories count as alike, and how much one run may do.
#[derive(Clone, Debug, PartialEq)]
pub struct OrganizeOptions {
    /// From this cosine on, two memories may contradict or repeat each other.
    pub near: f32,
    /// How many near memories are compared with each.
    pub n_near: usize,
    /// From this cosine on, two memories that state the same thing about the same person (where they live, what they are
    /// called) are compared, however they are worded.
    pub slot_near: f32,
    /// How many memories are read to find those.
    pub n_slot: usize,
    /// From this cosine on, two memories of the same words are one, without a model.
    pub duplicate: f32,
    /// What becomes of the older of two facts that contradict each other and were true at different times: true closes it
    /// (both stay), false merges both into one, as MemOS does.
    pub close_superseded: bool,
    /// Fewer memories without a topic than this stay without one.
    pub min_candidates: usize,
    /// How many memories without a topic one run takes, oldest first.
    pub max_candidates: usize,
    /// The most memories that are grouped into one topic, or shown to a model, at once.
    pub group_size: usize,
    /// How many memories make a topic.
    pub min_topic: usize,
    /// How many topics get a topic of their own.
    pub min_topics_for_top: usize,
    /// Memories whose cosines are below this on average never form a topic.
    pub min_topic_similarity: f32,
    /// How many tags two memories share at least when they are asked about as related.
    pub min_shared_tags: usize,
    /// How many such memories are looked at for each.
    pub n_neighbours: usize,
    /// From so many such memories on, what they say together becomes a memory.
    pub min_aggregated: usize,
    /// The most pairs that one run compares.
    pub max_pairs: usize,
    /// The most calls of the model in one run, repeated ones included.
    pub max_model_calls: usize,
    /// How long a run may take; what is begun is finished.
    pub max_time: Duration,
    /// How often the model is asked the same before its answers count as a failure.
    pub attempts: usize,
}

impl Default for OrganizeOptions {
    fn default() -> Self {
        Self {
            near: 0.8,
            n_near: 5,
            slot_near: 0.5,
            n_slot: 50,
            duplicate: 0.95,
            close_superseded: true,
            min_candidates: 20,
            max_candidates: 10_000,
            group_size: 20,
            min_topic: 4,
            min_topics_for_top: 4,
            min_topic_similarity: 0.2,
            min_shared_tags: 2,
            n_neighbours: 10,
            min_aggregated: 5,
            max_pairs: 1000,
            max_model_calls: 200,
            max_time: Duration::from_secs(600),
            attempts: 3,
        }
    }
}
