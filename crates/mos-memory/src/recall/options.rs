//! The constants of the ranking.

/// How memories are ranked, and how much may be used for it. The defaults were fitted on conversations in English; they do
/// not depend on how many memories a cube has.
#[derive(Clone, Debug, PartialEq)]
pub struct RecallOptions {
    /// Bytes that the indexes of all loaded cubes may take together. The least recently used are dropped above it and made
    /// again when they are searched; the one being searched always stays.
    pub max_bytes: usize,
    /// Up to this many memories, each one that passes the filter is scored; above it, only candidates are.
    pub max_exhaustive: usize,
    /// How many candidates the nearest vectors and the best words bring each, above [`RecallOptions::max_exhaustive`].
    pub n_candidates: usize,
    /// How words are compared.
    pub words: WordOptions,
    /// How much the vectors of the memories at -2, -1, +1 and +2 of the same session count in the vector of a window, whose
    /// middle counts 1.
    pub window: [f32; 4],
    /// How much each signal counts.
    pub weights: Weights,
    /// How far edges are followed.
    pub graph: GraphOptions,
    /// What each hit of a session costs the session's other memories.
    pub session_penalty: f32,
    /// How many of the best are ordered with the penalty.
    pub n_penalised: usize,
}

impl Default for RecallOptions {
    fn default() -> Self {
        Self {
            max_bytes: 256 << 20,
            max_exhaustive: 20_000,
            n_candidates: 500,
            words: WordOptions::default(),
            window: [0.5, 0.7, 0.7, 0.5],
            weights: Weights::default(),
            graph: GraphOptions::default(),
            session_penalty: 0.15,
            n_penalised: 100,
        }
    }
}

/// How memories are found over edges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GraphOptions {
    /// How many edges away from a good memory others are looked for, at most 3; 0: edges are not looked at.
    pub n_hops: usize,
    /// How many of the best memories are gone out from, and how many of those that are reached after that.
    pub n_seeds: usize,
    /// How many memories each step reaches.
    pub n_neighbours: usize,
    /// What an edge that counts fully leaves of what speaks for the memory at its other end.
    pub decay: f32,
}

impl Default for GraphOptions {
    fn default() -> Self {
        Self { n_hops: 1, n_seeds: 20, n_neighbours: 200, decay: 0.5 }
    }
}

/// BM25F (Robertson, Zaragoza and Taylor 2004) over a memory and the memories around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WordOptions {
    /// How soon more of the same word adds no more.
    pub k1: f32,
    /// How much long memories are discounted, from 0 to 1.
    pub b: f32,
    /// How much a word counts that stands in the memory at -2, -1, +1 or +2 of the same session.
    pub around: [f32; 4],
}

impl Default for WordOptions {
    fn default() -> Self {
        Self { k1: 0.6, b: 0.4, around: [0.2, 0.5, 0.3, 0.1] }
    }
}

/// How much each signal counts in the score, which is their weighted sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// Shared words, with those of the memories around.
    pub words: f32,
    /// Ten times the cosine of the question with the window of five memories.
    pub context: f32,
    /// Ten times the cosine of the question with the memory.
    pub vector: f32,
    /// 1 when the question is about who said it.
    pub speaker: f32,
    /// Up to 1 when the question names the days on which it was said, or which it speaks of.
    pub date: f32,
    /// 1 when the question asks for a time and the memory tells one.
    pub time: f32,
    /// 1 for a memory that is a question itself.
    pub question: f32,
    /// 1 for a memory that was drawn from messages: between equals the words themselves go first.
    pub drawn: f32,
    /// Up to 1 for a memory with a key or tags that are asked for, or at an edge of a good one.
    pub graph: f32,
    /// 1 for a memory of the session that comes first.
    pub session_priority: f32,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            words: 1.8,
            context: 0.75,
            vector: 0.2,
            speaker: 2.6,
            date: 4.4,
            time: 2.6,
            question: -0.6,
            drawn: -1.0,
            graph: 6.0,
            session_priority: 3.0,
        }
    }
}
