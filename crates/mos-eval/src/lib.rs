//! Measures how well memories are found, on conversations whose questions name the turns that answer them, and how much of
//! what a model draws from conversations their turns support.
//!
//! [`locomo::read`] reads a file of the `LoCoMo` benchmark (Maharana et al. 2024, "Evaluating Very Long-Term Conversational
//! Memory of LLM Agents"), [`evaluate`] stores every turn through the facade, asks every question as it stands, and
//! [`Report`] says how much of the evidence came back, how early, and how long it took. [`evaluate_variants`] does so with
//! parts of the ranking switched off. No language model takes part in these two.
//!
//! [`evaluate_fine`] has a model read the conversations in fine mode and asks the questions with what it drew beside the
//! turns; a drawn memory stands for the turns that it names as its sources. [`evaluate_extraction`] asks which claims of
//! drawn memories these turns support.
//!
//! Not here: answers and their grading.

mod counted;
mod extraction;
mod fine;
pub mod locomo;
mod measure;
mod reading;
mod report;
mod run;
mod variants;

pub use counted::Tokens;
pub use extraction::{
    Claim, DroppedMemory, ExtractionReport, JudgeFailure, JudgedMemory, Source, Verdict, evaluate_extraction,
};
pub use fine::{Drawn, FineReport, evaluate_fine};
pub use measure::{CUTS, Counting, Interval, Outcome, Summary};
pub use reading::FailedWindow;
pub use report::{Asked, Report, Times};
pub use run::{evaluate, evaluate_variants};
pub use variants::{Variant, comparison, comparison_value, variants};
