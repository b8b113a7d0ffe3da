//! The types of edges that the parts of `mos` write, with MemOS' names for them.

/// A topic to a memory or topic that belongs to it.
pub const PARENT: &str = "PARENT";
/// A memory that was replaced by a merged one, to that.
pub const MERGED_TO: &str = "MERGED_TO";
/// A cause to its effect.
pub const CAUSE: &str = "CAUSE";
/// A condition to what holds under it.
pub const CONDITION: &str = "CONDITION";
/// Two memories that have to do with each other.
pub const RELATE: &str = "RELATE";
/// The newer of two memories that cannot both be true, to the older.
pub const CONFLICT: &str = "CONFLICT";
/// A memory to one that was concluded from it.
pub const INFERS: &str = "INFERS";
/// An older memory to the one that continues it.
pub const FOLLOWS: &str = "FOLLOWS";
/// A memory that sums up others, to each of them.
pub const AGGREGATE_TO: &str = "AGGREGATE_TO";
/// A summary to the chunk of a file that it was made of.
pub const MATERIAL: &str = "MATERIAL";
/// A chunk of a file to its summary.
pub const SUMMARY: &str = "SUMMARY";
/// A chunk of a file to the next one.
pub const FOLLOWING: &str = "FOLLOWING";
/// A chunk of a file to the one before.
pub const PRECEDING: &str = "PRECEDING";
/// A fact to the one that was true before it.
pub const SUPERSEDES: &str = "SUPERSEDES";
