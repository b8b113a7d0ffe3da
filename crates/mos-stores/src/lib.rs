//! Stores of the mos memory system: records, vectors, users.
