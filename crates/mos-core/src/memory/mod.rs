//! Memories as MemOS clients know them: an id, a text, and metadata of one of four forms.

mod item;
mod kinds;
mod metadata;
mod python_text;
mod source;

pub use item::MemoryItem;
pub use kinds::{MemoryForm, MemoryType, PreferenceType, SourceKind, Status, UpdateType, Visibility};
pub use metadata::{ArchivedVersion, Metadata, MetadataForm, PreferenceFields, TreeFields};
pub use source::{SourceMessage, parse_sources};
