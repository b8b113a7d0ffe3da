//! Measures how well memories are found, on conversations whose questions name the turns that answer them.
//!
//! [`locomo::read`] reads a file of the `LoCoMo` benchmark (Maharana et al. 2024, "Evaluating Very Long-Term Conversational
//! Memory of LLM Agents"), [`evaluate`] stores every turn through the facade, asks every question as it stands, and
//! [`Report`] says how much of the evidence came back, how early, and how long it took. [`evaluate_variants`] does so with
//! parts of the ranking switched off. No language model takes part.
//!
//! Not here: answers and their grading; only what is retrieved is measured.

pub mod locomo;
mod measure;
mod report;
mod run;
mod variants;

pub use measure::{CUTS, Interval, Outcome, Summary};
pub use report::{Asked, Report, Times};
pub use run::{evaluate, evaluate_variants};
pub use variants::{Variant, comparison, comparison_value, variants};
