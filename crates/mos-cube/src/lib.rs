//! A MemCube as a directory that can be copied, sent and loaded elsewhere.
//!
//! ```text
//! config.json            the cube's configuration, as MemOS writes it (with `model_schema`)
//! textual_memory.json    its textual memory, as MemOS writes it
//! activation_memory.*    its activation memory, when it has one: an index and a folder of caches
//! parametric_memory.*    its parametric memory, when it has one
//! preference_*.json      its preference memory, when it has one, as MemOS writes it
//! manifest.json          ours: format version, backends, embedding model, size and checksum of each file
//! ```
//!
//! [`pack`] makes one file of such a directory, [`unpack`] a directory of such a file. [`pack_bundle`] makes one file of files
//! of any kind, for backups.
//!
//! Invariant: a dump appears whole or not at all; a directory without our manifest (written by MemOS) is read too.
//!
//! Not here: what the memories mean (`mos-memory`), who may dump (the facade).

mod archive;
mod bundle;
mod content;
mod directory;
mod kind;
mod manifest;
mod tarball;

pub use archive::{Unpacked, pack, unpack};
pub use bundle::{BUNDLE_FORMAT, BUNDLE_MANIFEST, BUNDLE_STAGING, Bundle, check_bundle, pack_bundle, unpack_bundle};
pub use content::content_hash;
pub use directory::{
    ActivationPart, CONFIG_FILE, CubeDump, DumpRequest, MODEL_SCHEMA, dump, parent_of, private_folder, read,
};
pub use kind::MemoryKind;
pub use manifest::{FORMAT, Manifest, ManifestFile};
pub use tarball::check_free;
