//! Memories as MemOS clients know them: an id, a text, and metadata of one of four forms.

mod item;
mod kinds;
mod metadata;
mod provenance;
mod python_text;
mod quarantine;
mod source;

pub use item::MemoryItem;
pub use kinds::{MemoryForm, MemoryType, PreferenceType, SourceKind, Status, Trust, UpdateType, Visibility};
pub use metadata::{ArchivedVersion, Metadata, MetadataForm, PreferenceFields, TreeFields};
pub use provenance::{Provenance, SourceWord};
pub use quarantine::{QUARANTINE, Quarantined};
pub use source::{SourceMessage, parse_sources};
