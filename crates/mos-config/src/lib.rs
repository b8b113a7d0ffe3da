//! Settings of the mos memory system as plain data.
