//! Whole-house tests.

mod golden_items;
mod layering;
