//! The closed lists of words in memory metadata.

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant),+
        }

        impl $name {
            /// Every word of the list, in order of declaration.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word as it is stored and sent.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// Returns the value for a word, `None` for an unknown one.
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

words!(
    /// Whether a memory takes part in searches.
    Status {
        /// In use.
        Activated = "activated",
        /// A conflict is being resolved.
        Resolving = "resolving",
        /// Replaced by a newer memory, kept for history.
        Archived = "archived",
        /// Marked as deleted.
        Deleted = "deleted",
    }
);
words!(
    /// Which shelf of a tree memory an item stands on.
    MemoryType {
        /// What the conversation needs now.
        Working = "WorkingMemory",
        /// Facts of the world and of past conversations.
        LongTerm = "LongTermMemory",
        /// Facts about the user.
        User = "UserMemory",
        /// Found outside, for example on the web.
        Outer = "OuterMemory",
        /// The description of a tool.
        ToolSchema = "ToolSchemaMemory",
        /// How a tool was used and what came of it.
        ToolTrajectory = "ToolTrajectoryMemory",
        /// A chunk of a file as it was.
        RawFile = "RawFileMemory",
        /// A reusable procedure.
        Skill = "SkillMemory",
        /// What the user likes.
        Preference = "PreferenceMemory",
        /// The situation in which memories arose.
        Context = "Context",
    }
);
words!(
    /// Where a memory came from.
    SourceKind {
        /// A conversation.
        Conversation = "conversation",
        /// A search.
        Retrieved = "retrieved",
        /// The web.
        Web = "web",
        /// A file.
        File = "file",
        /// The system itself.
        System = "system",
    }
);
words!(
    /// How far the words of a memory can be trusted: who wrote what it was drawn from. Later ones are trusted less.
    Trust {
        /// The user.
        User = "user",
        /// Whoever set the conversation up: system messages, descriptions of tools.
        System = "system",
        /// A model: what it said, and what it concluded from other memories.
        Assistant = "assistant",
        /// Whoever wrote the text, file or image that the user gave.
        Document = "document",
        /// Somebody whom nobody here chose: a tool's result, a page, a file at an address.
        External = "external",
    }
);
words!(
    /// Who may see a memory.
    Visibility {
        /// Its user.
        Private = "private",
        /// Everybody with access to the cube.
        Public = "public",
        /// Its session.
        Session = "session",
    }
);
words!(
    /// Why a version of a memory was archived.
    UpdateType {
        /// The new version contradicts it.
        Conflict = "conflict",
        /// The new version says the same.
        Duplicate = "duplicate",
        /// It was refined by extraction.
        Extract = "extract",
        /// Another reason.
        Unrelated = "unrelated",
        /// Somebody corrected it.
        Feedback = "feedback",
    }
);
words!(
    /// Whether a memory tells of a lasting state or of an event.
    MemoryForm {
        /// A lasting state.
        State = "state",
        /// An event.
        Event = "event",
    }
);
words!(
    /// Whether a preference was stated or concluded.
    PreferenceType {
        /// Stated.
        Explicit = "explicit_preference",
        /// Concluded from behaviour.
        Implicit = "implicit_preference",
    }
);
