//! Upstream's short documentation example on the real model; the crate's documentation shows the same.

use crate::support::{rows, smol};
use mos_kv::{KvCacheMemory, KvCacheMemoryOptions};

#[test]
fn the_documented_example_works() {
    let folder = tempfile::tempdir().unwrap();
    let memory = KvCacheMemory::open(smol(), KvCacheMemoryOptions::default()).unwrap();
    let item = memory.extract("The capital of France is Paris.").unwrap();
    memory.add([item.clone()]).unwrap();
    let cache = memory.get_cache(&[&item.id]).unwrap().unwrap();
    assert_eq!(cache.len(), item.n_tokens());
    memory.dump(folder.path()).unwrap();
    let again = KvCacheMemory::open(smol(), KvCacheMemoryOptions::default()).unwrap();
    assert_eq!(again.load(folder.path()).unwrap(), 1);
    let loaded = again.get(item.id.as_str()).unwrap().unwrap();
    assert_eq!(rows(loaded.segment().unwrap()), rows(item.segment().unwrap()));
}
