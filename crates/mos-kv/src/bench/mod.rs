//! How much sooner an answer starts with a kept cache, next to the bound that the number of operations sets.
//!
//! Both ways end with the choice of the first token. The direct way computes context and query; the kept way computes
//! the query after the context's segment, hot (in memory) or cold (from a file that is not in the page cache).

mod bound;
mod cells;
mod measure;
mod merging;
mod picture;
mod preload;
mod text;

pub use bound::{bound, operations};
pub use cells::{BenchCell, BenchOptions, BenchReport, BenchTokens, bench, bench_texts};
pub use merging::{MergeBench, MergeBenchOptions, bench_merge};
pub use picture::picture;
pub use preload::{PreloadBenchOptions, PreloadCell, bench_preload};
pub use text::prose;
