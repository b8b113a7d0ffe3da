//! The kinds of messages, by MemOS' names.

/// A question of a user.
pub const QUERY: &str = "query";
/// An answer that a user got.
pub const ANSWER: &str = "answer";
/// Memories were added.
pub const ADD: &str = "add";
/// Working memory is to follow a question.
pub const MEM_UPDATE: &str = "mem_update";
/// Raw memories are to be refined.
pub const MEM_READ: &str = "mem_read";
/// Memories are to be organised.
pub const MEM_ORGANIZE: &str = "mem_organize";
/// Preferences are to be learned from a conversation.
pub const PREF_ADD: &str = "pref_add";
/// A user corrects memories in plain words.
pub const MEM_FEEDBACK: &str = "mem_feedback";
/// Memories are to be archived.
pub const MEM_ARCHIVE: &str = "mem_archive";
/// A search whose thorough answer is prepared for the next one.
pub const API_MIX_SEARCH: &str = "api_mix_search";
/// Recent memories are to be reflected on.
pub const MEM_DREAM: &str = "mem_dream";

/// Every label that there is a built-in meaning for.
pub const ALL: [&str; 11] = [
    QUERY,
    ANSWER,
    ADD,
    MEM_UPDATE,
    MEM_READ,
    MEM_ORGANIZE,
    PREF_ADD,
    MEM_FEEDBACK,
    MEM_ARCHIVE,
    API_MIX_SEARCH,
    MEM_DREAM,
];

/// How urgent messages of a handler are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Before all others of its cube.
    Level1,
    /// Before what is ordinary.
    Level2,
    /// Ordinary.
    #[default]
    Level3,
}

impl Priority {
    /// The priority of the jobs.
    pub fn of_jobs(self) -> u8 {
        match self {
            Self::Level1 => 255,
            Self::Level2 => 175,
            Self::Level3 => mos_core::queue::DEFAULT_PRIORITY,
        }
    }

    /// The priority that messages of a label have when their handler says nothing of it.
    pub fn of_label(label: &str) -> Self {
        match label {
            QUERY | ANSWER | ADD => Self::Level1,
            _ => Self::Level3,
        }
    }
}
