//! RAM, disk and remote tiers.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use mos_kv::{DiskTier, KvCacheItem, KvEncoding, KvError, KvTiers, RemoteTier, TierOptions, WhenFull};
use object_store::local::LocalFileSystem;

use crate::support::{memory, memory_with, rows, tiny, words};

pub(crate) fn items(n: usize) -> Vec<KvCacheItem> {
    let tiny = tiny(1);
    let memory = memory(&tiny.model);
    (0..n).map(|at| memory.extract(words(at, 10)).unwrap().with_saved_seconds(1.0)).collect()
}

fn bytes(items: &[KvCacheItem]) -> u64 {
    items[0].segment().unwrap().bytes() as u64
}

pub(crate) fn disk(folder: &Path) -> Option<DiskTier> {
    Some(DiskTier { folder: folder.to_owned(), bytes: 1 << 20, encoding: KvEncoding::F16 })
}

fn remote(folder: &Path, bytes: u64) -> Option<RemoteTier> {
    let store = Arc::new(LocalFileSystem::new_with_prefix(folder).unwrap());
    Some(RemoteTier { store, folder: "items".to_owned(), bytes, encoding: KvEncoding::F16 })
}

/// Puts an item and lets go of it.
fn put(tiers: &KvTiers, item: KvCacheItem) -> Result<Vec<mos_core::ActivationId>, KvError> {
    tiers.put("", &item)
}

#[test]
fn what_was_used_longest_ago_leaves_ram_and_comes_back_from_disk() {
    let folder = tempfile::tempdir().unwrap();
    let items = items(3);
    let expected: Vec<_> = items.iter().map(|item| rows(item.segment().unwrap())).collect();
    let ids: Vec<_> = items.iter().map(|item| item.id.clone()).collect();
    let options = TierOptions { ram_bytes: 2 * bytes(&items), disk: disk(folder.path()), ..TierOptions::default() };
    let tiers = KvTiers::open(options).unwrap();
    let mut items = items.into_iter();
    put(&tiers, items.next().unwrap()).unwrap();
    put(&tiers, items.next().unwrap()).unwrap();
    tiers.get("", &ids[0]).unwrap().unwrap();
    put(&tiers, items.next().unwrap()).unwrap();
    let in_ram = |tiers: &KvTiers| ids.iter().map(|id| tiers.is_in_ram("", id)).collect::<Vec<_>>();
    assert_eq!(in_ram(&tiers), [true, false, true]);
    let again = tiers.get("", &ids[1]).unwrap().unwrap();
    assert_eq!(rows(again.segment().unwrap()), expected[1]);
    assert_eq!(in_ram(&tiers), [false, true, true]);
    assert_eq!(tiers.list("").iter().map(|item| item.id.clone()).collect::<Vec<_>>(), ids);
    assert_eq!(tiers.usage().n_items, 3);
}

#[test]
fn pinned_items_and_items_in_use_stay() {
    let folder = tempfile::tempdir().unwrap();
    let items = items(4);
    let ids: Vec<_> = items.iter().map(|item| item.id.clone()).collect();
    let options = TierOptions { ram_bytes: 2 * bytes(&items), disk: disk(folder.path()), ..TierOptions::default() };
    let tiers = KvTiers::open(options).unwrap();
    let mut items = items.into_iter();
    put(&tiers, items.next().unwrap()).unwrap();
    assert!(tiers.pin("", &ids[0]) && !tiers.pin("", &"unknown".into()));
    put(&tiers, items.next().unwrap()).unwrap();
    let held = tiers.get("", &ids[1]).unwrap().unwrap();
    put(&tiers, items.next().unwrap()).unwrap();
    assert!(tiers.is_in_ram("", &ids[0]) && tiers.is_in_ram("", &ids[1]) && !tiers.is_in_ram("", &ids[2]));
    drop(held);
    assert!(tiers.unpin("", &ids[0]) && !tiers.unpin("", &ids[0]));
    tiers.get("", &ids[2]).unwrap().unwrap();
    assert!(tiers.is_in_ram("", &ids[2]) && !tiers.is_in_ram("", &ids[0]));
}

#[test]
fn what_saves_much_more_per_byte_is_not_pushed_out_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let items = items(2);
    let ids: Vec<_> = items.iter().map(|item| item.id.clone()).collect();
    let options = TierOptions { ram_bytes: bytes(&items), disk: disk(folder.path()), ..TierOptions::default() };
    let tiers = KvTiers::open(options).unwrap();
    let [dear, cheap] = <[KvCacheItem; 2]>::try_from(items).unwrap();
    put(&tiers, dear.with_saved_seconds(3.0)).unwrap();
    put(&tiers, cheap.with_saved_seconds(1.0)).unwrap();
    assert!(tiers.is_in_ram("", &ids[0]) && !tiers.is_in_ram("", &ids[1]));
    // Used often enough, the cheap one pays.
    tiers.get("", &ids[1]).unwrap().unwrap();
    assert!(tiers.is_in_ram("", &ids[1]) && !tiers.is_in_ram("", &ids[0]));
}

#[test]
fn a_budget_smaller_than_one_item_is_named() {
    let items = items(1);
    let tiers = KvTiers::open(TierOptions { ram_bytes: bytes(&items) - 1, ..TierOptions::default() }).unwrap();
    let error = tiers.put("", &items[0]).unwrap_err();
    assert!(matches!(error, KvError::BudgetTooSmall { tier: "RAM", .. }), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let small = DiskTier { bytes: 100, ..disk(folder.path()).unwrap() };
    let tiers = KvTiers::open(TierOptions { disk: Some(small), ..TierOptions::default() }).unwrap();
    let error = tiers.put("", &items[0]).unwrap_err();
    assert!(matches!(error, KvError::BudgetTooSmall { tier: "disk", budget_bytes: 100, .. }), "{error}");
    assert_eq!(tiers.usage(), mos_kv::TierUsage::default());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn the_last_tier_refuses_or_drops_as_told() {
    let all = items(3);
    let ids: Vec<_> = all.iter().map(|item| item.id.clone()).collect();
    let options = TierOptions { ram_bytes: 2 * bytes(&all), ..TierOptions::default() };
    let tiers = KvTiers::open(options.clone()).unwrap();
    tiers.put("", &all[0]).unwrap();
    tiers.put("", &all[1]).unwrap();
    let error = tiers.put("", &all[2]).unwrap_err();
    assert!(matches!(error, KvError::NoRoom { tier: "RAM", .. }), "{error}");
    assert_eq!(tiers.usage().n_items, 2);
    drop(tiers);
    let tiers = KvTiers::open(TierOptions { when_full: WhenFull::Evict, ..options }).unwrap();
    let mut all = all.into_iter();
    put(&tiers, all.next().unwrap()).unwrap();
    put(&tiers, all.next().unwrap()).unwrap();
    assert_eq!(put(&tiers, all.next().unwrap()).unwrap(), [ids[0].clone()]);
    assert!(tiers.get("", &ids[0]).unwrap().is_none());
}

#[test]
fn a_memory_forgets_what_was_dropped() {
    let tiny = tiny(1);
    let one = memory(&tiny.model).extract(words(0, 10)).unwrap();
    let options = TierOptions {
        ram_bytes: one.segment().unwrap().bytes() as u64,
        when_full: WhenFull::Evict,
        ..TierOptions::default()
    };
    let memory = memory_with(&tiny.model, options);
    let tokens = one.segment().unwrap().tokens().to_vec();
    memory.add([one]).unwrap();
    assert_eq!(memory.longest_exact_prefix(&tokens).unwrap().len(), tokens.len());
    let mut two = memory.extract(words(3, 10)).unwrap();
    two.id = "two".into();
    memory.add([two]).unwrap();
    assert_eq!(memory.get_all().len(), 1);
    assert!(memory.longest_exact_prefix(&tokens).unwrap().len() < tokens.len());
}

#[test]
fn disk_and_remote_are_there_again_after_a_restart() {
    let (folder, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let items = items(2);
    let options =
        TierOptions { disk: disk(folder.path()), remote: remote(far.path(), 1 << 20), ..TierOptions::default() };
    let tiers = KvTiers::open(options.clone()).unwrap();
    for item in &items {
        tiers.put("tenant", item).unwrap();
    }
    let usage = tiers.usage();
    assert!(usage.disk_bytes > 0 && usage.disk_bytes == usage.remote_bytes);
    drop(tiers);
    // One file is lost and one half-written: the remote copy serves.
    fs::write(folder.path().join(".7-0.mos-tmp"), b"half").unwrap();
    let file = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "safetensors"))
        .unwrap();
    fs::remove_file(file).unwrap();
    let tiers = KvTiers::open(options).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    for item in &items {
        let again = tiers.get("tenant", &item.id).unwrap().unwrap();
        assert_eq!(rows(again.segment().unwrap()), rows(item.segment().unwrap()));
        assert!(tiers.get("other", &item.id).unwrap().is_none());
    }
    for item in &items {
        assert!(tiers.remove("tenant", &item.id).unwrap());
    }
    assert_eq!(tiers.usage(), mos_kv::TierUsage::default());
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count() + fs::read_dir(far.path().join("items")).unwrap().count(),
        0
    );
}

#[test]
fn a_failed_write_is_never_visible_and_the_earlier_item_stays() {
    let (folder, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let items = items(2);
    let options =
        TierOptions { disk: disk(folder.path()), remote: remote(far.path(), 1 << 20), ..TierOptions::default() };
    let tiers = KvTiers::open(options.clone()).unwrap();
    tiers.put("", &items[0]).unwrap();
    let usage = tiers.usage();
    // The remote folder becomes a file: nothing can be written there.
    fs::rename(far.path().join("items"), far.path().join("kept")).unwrap();
    fs::write(far.path().join("items"), b"").unwrap();
    assert!(matches!(tiers.put("", &items[1]), Err(KvError::Remote { .. })));
    let mut replacement = items[1].clone();
    replacement.id = items[0].id.clone();
    assert!(matches!(tiers.put("", &replacement), Err(KvError::Remote { .. })));
    assert!(tiers.get("", &items[1].id).unwrap().is_none());
    assert_eq!(
        rows(tiers.get("", &items[0].id).unwrap().unwrap().segment().unwrap()),
        rows(items[0].segment().unwrap())
    );
    assert_eq!(tiers.usage(), usage);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    drop(tiers);
    let tiers = KvTiers::open(TierOptions { remote: None, ..options }).unwrap();
    assert_eq!(tiers.list("").len(), 1);
}

#[test]
fn a_damaged_or_exchanged_file_is_never_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let items = items(2);
    let options = TierOptions { disk: disk(folder.path()), ..TierOptions::default() };
    let tiers = KvTiers::open(options.clone()).unwrap();
    tiers.put("", &items[0]).unwrap();
    tiers.put("", &items[1]).unwrap();
    drop(tiers);
    let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let tiers = KvTiers::open(options.clone()).unwrap();
    let whole = [fs::read(&files[0]).unwrap(), fs::read(&files[1]).unwrap()];
    // Each file in the other's place: whole, but of other tokens.
    fs::write(&files[0], &whole[1]).unwrap();
    fs::write(&files[1], &whole[0]).unwrap();
    for item in &items {
        let error = tiers.get("", &item.id).unwrap_err();
        assert!(matches!(error, KvError::Damaged { .. }), "{error}");
    }
    let mut damaged = whole[0].clone();
    let last = damaged.len() - 1;
    damaged[last / 2] ^= 1;
    fs::write(&files[0], &damaged).unwrap();
    fs::write(&files[1], &whole[1][..last]).unwrap();
    for item in &items {
        let error = tiers.get("", &item.id).unwrap_err();
        assert!(matches!(error, KvError::Damaged { .. } | KvError::Truncated { .. }), "{error}");
    }
    // At a restart what cannot be read is left alone.
    fs::write(&files[1], b"short").unwrap();
    assert_eq!(KvTiers::open(options).unwrap().list("").len(), 1);
}

#[test]
fn an_item_that_is_cut_off_is_no_answer_and_can_be_removed() {
    let folder = tempfile::tempdir().unwrap();
    let items = items(1);
    let options = TierOptions { disk: disk(folder.path()), ..TierOptions::default() };
    KvTiers::open(options.clone()).unwrap().put("", &items[0]).unwrap();
    let file = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    let tiers = KvTiers::open(options).unwrap();
    assert!(matches!(tiers.get("", &items[0].id), Err(KvError::Truncated { .. })));
    assert!(tiers.remove("", &items[0].id).unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "its head held the text");
}

#[test]
fn the_remote_place_is_a_folder_or_a_bucket() {
    let far = tempfile::tempdir().unwrap();
    let place = far.path().join("new").join("folder");
    let items = items(1);
    let remote = RemoteTier::at(place.to_str().unwrap(), 1 << 20, KvEncoding::Q8).unwrap();
    let tiers = KvTiers::open(TierOptions { remote: Some(remote), ..TierOptions::default() }).unwrap();
    tiers.put("", &items[0]).unwrap();
    assert_eq!(fs::read_dir(&place).unwrap().count(), 1);
    for address in ["", "ftp://host/x"] {
        assert!(matches!(RemoteTier::at(address, 1, KvEncoding::F16), Err(KvError::Invalid(_))), "{address}");
    }
    #[cfg(not(feature = "s3"))]
    {
        let error = RemoteTier::at("s3://bucket/x", 1, KvEncoding::F16).unwrap_err();
        assert!(error.to_string().contains("`s3` feature"), "{error}");
    }
}

#[test]
fn an_item_that_only_the_remote_tier_has_is_read_from_there() {
    let (folder, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let items = items(3);
    let size = {
        let probe = tempfile::tempdir().unwrap();
        mos_kv::write_item(&probe.path().join("x"), &items[0], KvEncoding::F16).unwrap().bytes
    };
    // Room for one item in RAM, for two on disk, for all far away.
    let options = TierOptions {
        ram_bytes: bytes(&items),
        disk: Some(DiskTier { bytes: 2 * size + size / 2, ..disk(folder.path()).unwrap() }),
        remote: remote(far.path(), 1 << 20),
        ..TierOptions::default()
    };
    let tiers = KvTiers::open(options.clone()).unwrap();
    let expected: Vec<_> = items.iter().map(|item| (item.id.clone(), rows(item.segment().unwrap()))).collect();
    for item in items {
        put(&tiers, item).unwrap();
    }
    let on_disk = || fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(on_disk(), 2);
    assert!(tiers.usage().disk_bytes <= 2 * size + size / 2);
    for tiers in [tiers, KvTiers::open(options).unwrap()] {
        for (id, rows_before) in &expected {
            assert_eq!(&rows(tiers.get("", id).unwrap().unwrap().segment().unwrap()), rows_before);
        }
    }
}

/// An item of `item`'s name with the keys and values of another.
fn named_as(item: &KvCacheItem, other: &KvCacheItem) -> KvCacheItem {
    let mut renamed = other.clone();
    renamed.id = item.id.clone();
    renamed
}

fn tokens_of(tiers: &KvTiers, id: &mos_core::ActivationId) -> Option<Vec<u32>> {
    Some(tiers.get("", id).unwrap()?.segment().unwrap().tokens().to_vec())
}

#[test]
fn what_another_process_does_in_the_folder_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let items = items(3);
    let tokens = |at: usize| Some(items[at].segment().unwrap().tokens().to_vec());
    let open = || KvTiers::open(TierOptions { disk: disk(folder.path()), ..TierOptions::default() }).unwrap();
    let (here, there) = (open(), open());
    put(&here, items[0].clone()).unwrap();
    let id = &items[0].id;
    assert_eq!(tokens_of(&there, id), None, "not looked at yet");
    there.follow().unwrap();
    assert_eq!(tokens_of(&there, id), tokens(0));
    assert!(there.is_in_ram("", id));
    // Replaced elsewhere: what is in RAM here is given up, and only that.
    put(&here, items[1].clone()).unwrap();
    put(&there, named_as(&items[0], &items[2])).unwrap();
    here.follow().unwrap();
    assert!(here.is_in_ram("", &items[1].id) && !here.is_in_ram("", id));
    assert_eq!(tokens_of(&here, id), tokens(2));
    // Replaced twice without a look in between.
    put(&here, named_as(&items[0], &items[1])).unwrap();
    put(&there, items[0].clone()).unwrap();
    assert_eq!(tokens_of(&open(), id), tokens(0));
    // Removed elsewhere: gone, not damaged, also without another look.
    there.remove("", &items[1].id).unwrap();
    there.remove("", id).unwrap();
    let fresh = items[2].clone();
    put(&here, fresh).unwrap();
    assert_eq!(tokens_of(&here, id), None);
    assert_eq!(here.usage().n_items, 1);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    here.remove("", &items[2].id).unwrap();
    assert_eq!(here.usage(), mos_kv::TierUsage::default());
}

/// Who has seen that a file was replaced removes it a moment later, and must not meet a newer one under its name.
#[test]
fn the_name_of_a_file_that_was_replaced_is_not_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let items = items(2);
    let tiers = KvTiers::open(TierOptions { disk: disk(folder.path()), ..TierOptions::default() }).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..6 {
        put(&tiers, named_as(&items[0], &items[round % 2])).unwrap();
        let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        assert!(seen.insert(files[0].clone()), "round {round}: {files:?}");
    }
}

#[test]
fn a_file_left_by_a_crash_goes_also_when_what_counts_is_in_the_remote_tier_only() {
    let (folder, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let items = items(2);
    let options =
        TierOptions { disk: disk(folder.path()), remote: remote(far.path(), 1 << 20), ..TierOptions::default() };
    let only_file = || fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let tiers = KvTiers::open(options.clone()).unwrap();
    put(&tiers, items[0].clone()).unwrap();
    let (stale, bytes) = (only_file(), fs::read(only_file()).unwrap());
    put(&tiers, named_as(&items[0], &items[1])).unwrap();
    let counts = only_file();
    drop(tiers);
    // It has left the disk, and the remote tier is all that has it; a writer that died left the one before.
    fs::remove_file(counts).unwrap();
    let tiers = KvTiers::open(options.clone()).unwrap();
    fs::write(&stale, bytes).unwrap();
    tiers.follow().unwrap();
    assert!(!stale.exists(), "it is of no use");
    assert_eq!(tokens_of(&tiers, &items[0].id).unwrap(), items[1].segment().unwrap().tokens());
    assert_eq!((tiers.usage().n_items, tiers.usage().disk_bytes), (1, 0));
    // Who removed it and began anew keeps the new one, although another process still counts on the old.
    let other = KvTiers::open(options).unwrap();
    other.remove("", &items[0].id).unwrap();
    put(&other, items[0].clone()).unwrap();
    let fresh = only_file();
    tiers.follow().unwrap();
    assert!(fresh.exists(), "it is not what was replaced");
}

#[test]
fn of_two_files_left_by_a_crash_the_one_written_last_counts() {
    let folder = tempfile::tempdir().unwrap();
    let items = items(2);
    let options = TierOptions { disk: disk(folder.path()), ..TierOptions::default() };
    let only_file = || fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let tiers = KvTiers::open(options.clone()).unwrap();
    let mut first = items[0].clone();
    // The text's own time says nothing about when it was written.
    first.records.timestamp = "2999-01-01T00:00:00".to_owned();
    put(&tiers, first).unwrap();
    let (path, bytes) = (only_file(), fs::read(only_file()).unwrap());
    put(&tiers, named_as(&items[0], &items[1])).unwrap();
    drop(tiers);
    fs::write(&path, bytes).unwrap();
    fs::create_dir(folder.path().join("odd.safetensors")).unwrap();
    let tiers = KvTiers::open(options).unwrap();
    assert_eq!(tokens_of(&tiers, &items[0].id).unwrap(), items[1].segment().unwrap().tokens());
    assert!(!path.exists(), "the other goes");
    assert_eq!(tiers.usage().n_items, 1);
}

#[test]
fn readers_that_open_beside_a_writer_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let items = items(2);
    let options = TierOptions { disk: disk(folder.path()), ..TierOptions::default() };
    let writer = KvTiers::open(options.clone()).unwrap();
    put(&writer, items[0].clone()).unwrap();
    let id = items[0].id.clone();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let reader = KvTiers::open(options.clone()).unwrap();
                    reader.follow().unwrap();
                    drop(reader.get("", &id).unwrap());
                }
            });
        }
        for round in 0..200 {
            put(&writer, named_as(&items[0], &items[round % 2])).unwrap();
            assert!(tokens_of(&writer, &id).is_some(), "round {round}");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(tokens_of(&KvTiers::open(options).unwrap(), &id).unwrap(), items[1].segment().unwrap().tokens());
}

#[test]
fn replacing_needs_no_second_room_and_a_smaller_budget_is_reached() {
    let folder = tempfile::tempdir().unwrap();
    let items = items(3);
    let file_bytes = {
        let scratch = tempfile::tempdir().unwrap();
        let tiers = KvTiers::open(TierOptions { disk: disk(scratch.path()), ..TierOptions::default() }).unwrap();
        put(&tiers, items[0].clone()).unwrap();
        tiers.usage().disk_bytes
    };
    let with = |n_files: u64, when_full| {
        let disk = DiskTier { bytes: n_files * (file_bytes + 64), ..disk(folder.path()).unwrap() };
        KvTiers::open(TierOptions { disk: Some(disk), when_full, ..TierOptions::default() }).unwrap()
    };
    let tiers = with(2, WhenFull::Refuse);
    put(&tiers, items[0].clone()).unwrap();
    put(&tiers, items[1].clone()).unwrap();
    assert!(matches!(put(&tiers, items[2].clone()), Err(KvError::NoRoom { .. })));
    put(&tiers, named_as(&items[0], &items[2])).unwrap();
    assert_eq!(tokens_of(&tiers, &items[0].id).unwrap(), items[2].segment().unwrap().tokens());
    drop(tiers);
    let smaller = with(1, WhenFull::Evict);
    let evicted = put(&smaller, items[2].clone()).unwrap();
    assert_eq!(evicted.len(), 2, "both others, not only as many as the newcomer needs");
    assert_eq!(smaller.usage().n_items, 1);
}
