//! The remote tier: an object store, asked from a thread of its own.
//!
//! Callers block, whether they are inside of an asynchronous runtime or not.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::runtime::Runtime;

use super::RemoteTier;
use crate::error::KvError;
use crate::file::{Head, header_len, read_head, read_tokens};
use crate::quantize::KvEncoding;

/// Requests that may wait.
const QUEUE: usize = 16;
/// Files of items end so.
pub(super) const SUFFIX: &str = ".safetensors";

impl RemoteTier {
    /// Returns the tier at an address: `s3://bucket/folder` with the `s3` feature (endpoint, region and credentials come
    /// from the usual `AWS_` variables), or the path of a folder, which is made when it is missing.
    ///
    /// # Errors
    /// [`KvError::Invalid`] for an address that cannot be used, or that this build lacks the feature for;
    /// [`KvError::Io`].
    pub fn at(address: &str, bytes: u64, encoding: KvEncoding) -> Result<Self, KvError> {
        if let Some(place) = address.strip_prefix("s3://") {
            let (bucket, folder) = place.split_once('/').unwrap_or((place, ""));
            return Ok(Self { store: bucket_store(bucket)?, folder: folder.to_owned(), bytes, encoding });
        }
        if address.is_empty() || address.contains("://") {
            return Err(KvError::Invalid(format!(
                "`{address}` is no place for the remote tier; give s3://BUCKET/FOLDER or the path of a folder"
            )));
        }
        let folder = Path::new(address);
        std::fs::create_dir_all(folder).map_err(|error| KvError::io("cannot make", folder, error))?;
        let store = LocalFileSystem::new_with_prefix(folder)
            .map_err(|error| KvError::Remote { context: "opening its folder", source: error.into() })?;
        Ok(Self { store: Arc::new(store), folder: String::new(), bytes, encoding })
    }
}

#[cfg(feature = "s3")]
fn bucket_store(bucket: &str) -> Result<Arc<dyn ObjectStore>, KvError> {
    let store = object_store::aws::AmazonS3Builder::from_env().with_bucket_name(bucket).build();
    store
        .map(|store| Arc::new(store) as Arc<dyn ObjectStore>)
        .map_err(|error| KvError::Remote { context: "opening a bucket", source: error.into() })
}

#[cfg(not(feature = "s3"))]
fn bucket_store(bucket: &str) -> Result<Arc<dyn ObjectStore>, KvError> {
    Err(KvError::Invalid(format!("the bucket `{bucket}` cannot be opened: this build lacks the `s3` feature")))
}

type Work = Box<dyn FnOnce(&Runtime) + Send>;

/// The way to the store. Its thread ends when this is dropped.
pub(super) struct Remote {
    store: Arc<dyn ObjectStore>,
    folder: ObjectPath,
    work: SyncSender<Work>,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("store", &self.store).field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// An item that the store holds already.
pub(super) struct Found {
    pub(super) head: Head,
    pub(super) tokens: Vec<u32>,
    pub(super) bytes: u64,
}

impl Remote {
    pub(super) fn open(tier: &RemoteTier) -> Result<Self, KvError> {
        let failed = |error| KvError::internal("starting the thread of the remote tier", error);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (work, queue) = sync_channel::<Work>(QUEUE);
        std::thread::Builder::new()
            .name("mos-kv-remote".to_owned())
            .spawn(move || {
                while let Ok(work) = queue.recv() {
                    work(&runtime);
                }
            })
            .map_err(failed)?;
        Ok(Self { store: Arc::clone(&tier.store), folder: ObjectPath::from(tier.folder.as_str()), work })
    }

    /// Does something on the thread and waits for it.
    fn call<T: Send + 'static>(
        &self,
        context: &'static str,
        ask: impl FnOnce(&Runtime) -> Result<T, object_store::Error> + Send + 'static,
    ) -> Result<T, KvError> {
        let (answer, received) = sync_channel(1);
        let work: Work = Box::new(move |runtime| {
            // Whoever asked has gone: nobody needs the answer.
            let _ = answer.send(ask(runtime));
        });
        let ended = || KvError::internal(context, "the thread of the remote tier has ended");
        self.work.send(work).map_err(|_| ended())?;
        let result = received.recv().map_err(|_| ended())?;
        result.map_err(|error| KvError::Remote { context, source: error.into() })
    }

    fn place(&self, name: &str) -> ObjectPath {
        self.folder.clone().join(format!("{name}{SUFFIX}"))
    }

    /// Stores an item; object stores show it whole or not at all.
    pub(super) fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), KvError> {
        let (store, place) = (Arc::clone(&self.store), self.place(name));
        self.call("storing an item", move |runtime| runtime.block_on(store.put(&place, bytes.into())).map(drop))
    }

    /// Returns an item's bytes; `None` when it is not there.
    pub(super) fn get(&self, name: &str) -> Result<Option<Vec<u8>>, KvError> {
        let (store, place) = (Arc::clone(&self.store), self.place(name));
        self.call("reading an item", move |runtime| {
            runtime.block_on(async {
                match store.get(&place).await {
                    Ok(found) => found.bytes().await.map(|bytes| Some(bytes.to_vec())),
                    Err(object_store::Error::NotFound { .. }) => Ok(None),
                    Err(error) => Err(error),
                }
            })
        })
    }

    /// Returns whether an item is there.
    pub(super) fn has(&self, name: &str) -> Result<bool, KvError> {
        let (store, place) = (Arc::clone(&self.store), self.place(name));
        self.call("looking for an item", move |runtime| match runtime.block_on(store.head(&place)) {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        })
    }

    /// Removes an item; one that is not there is no error.
    pub(super) fn remove(&self, name: &str) -> Result<(), KvError> {
        let (store, place) = (Arc::clone(&self.store), self.place(name));
        self.call("removing an item", move |runtime| match runtime.block_on(store.delete(&place)) {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            result => result,
        })
    }

    /// Returns what is there; only the heads are read. Files that are not understood are left alone, with a warning, and those
    /// that go meanwhile are left out.
    pub(super) fn scan(&self) -> Result<Vec<(String, Found)>, KvError> {
        let (store, folder) = (Arc::clone(&self.store), self.folder.clone());
        let objects = self.call("listing items", move |runtime| {
            runtime.block_on(store.list(Some(&folder)).try_collect::<Vec<_>>())
        })?;
        let mut found = Vec::new();
        for object in objects {
            let Some(name) = object.location.filename().and_then(|name| name.strip_suffix(SUFFIX)) else { continue };
            match self.found(&object.location, object.size) {
                Ok(item) => found.push((name.to_owned(), item)),
                Err(error @ (KvError::Damaged { .. } | KvError::Truncated { .. } | KvError::Newer { .. })) => {
                    tracing::warn!(%error, "an object of the remote tier is left alone");
                }
                // Another process removed it since it was listed.
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    fn found(&self, place: &ObjectPath, bytes: u64) -> Result<Found, KvError> {
        let what = place.to_string();
        let length = header_len(&self.range(place, 0..bytes.min(8))?, &what)? as u64;
        if length > bytes {
            return Err(KvError::truncated(what, format!("it has {bytes} bytes")));
        }
        let (head, (start, end)) = read_head(&self.range(place, 8..length)?, &what)?;
        let (start, end) = (length.saturating_add(start as u64), length.saturating_add(end as u64));
        if end > bytes || start > end {
            return Err(KvError::truncated(what, format!("it has {bytes} bytes")));
        }
        let tokens = if start == end { Vec::new() } else { read_tokens(&self.range(place, start..end)?) };
        Ok(Found { head, tokens, bytes })
    }

    fn range(&self, place: &ObjectPath, range: std::ops::Range<u64>) -> Result<Vec<u8>, KvError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let (store, place) = (Arc::clone(&self.store), place.clone());
        self.call("reading the head of an item", move |runtime| {
            runtime.block_on(store.get_range(&place, range)).map(|bytes| bytes.to_vec())
        })
    }
}

/// Whether an error is that an object is not there.
fn is_gone(error: &KvError) -> bool {
    let KvError::Remote { source, .. } = error else { return false };
    matches!(source.downcast_ref::<object_store::Error>(), Some(object_store::Error::NotFound { .. }))
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    #[test]
    fn an_object_that_goes_while_it_is_looked_at_is_told_from_a_failure() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let tier = RemoteTier { store, folder: "items".to_owned(), bytes: 1 << 20, encoding: KvEncoding::F16 };
        let remote = Remote::open(&tier).unwrap();
        let error = remote.found(&remote.place("gone"), 100).err().unwrap();
        assert!(is_gone(&error), "{error}");
        remote.put("short", b"short".to_vec()).unwrap();
        let error = remote.found(&remote.place("short"), 5).err().unwrap();
        assert!(!is_gone(&error), "{error}");
        assert!(remote.scan().unwrap().is_empty());
    }
}
