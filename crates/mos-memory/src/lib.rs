//! Textual memories: naive and general.
