//! Holds the examples of this folder; there is nothing to import.
