//! Dumps and item files: what is written comes back bit by bit, and what is not whole is refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mos_engine::KvPrefix;
use mos_kv::{
    ForeignItems, KvCacheItem, KvCacheMemory, KvCacheMemoryOptions, KvEncoding, KvError, MergeChoice, MergeStrategy,
    import_pickle, read_item, write_item,
};
use serde_json::json;

use crate::support::{largest_difference, logits, memory, options, rows, smol, tiny, words};

const INDEX: &str = "activation_memory.pickle";
const SEGMENTS: &str = "activation_memory.segments";

fn same(a: &KvCacheItem, b: &KvCacheItem) {
    assert_eq!(serde_json::to_value(a).unwrap(), serde_json::to_value(b).unwrap());
    assert_eq!(a.identity(), b.identity());
    assert_eq!(a.saved_seconds(), b.saved_seconds());
    let (a, b) = (a.segment().unwrap(), b.segment().unwrap());
    assert_eq!((a.tokens(), a.start(), a.context()), (b.tokens(), b.start(), b.context()));
    assert_eq!(rows(a), rows(b));
}

fn filled(memory: &KvCacheMemory) -> Vec<KvCacheItem> {
    let items: Vec<_> = (0..3).map(|at| memory.extract(words(at, 3 + at * 14)).unwrap()).collect();
    memory.add(items.clone()).unwrap();
    items
}

fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir.join(SEGMENTS)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn what_is_dumped_is_loaded_bit_by_bit_in_its_order() {
    let tiny = tiny(1);
    let dir = tempfile::tempdir().unwrap();
    let one = memory(&tiny.model);
    let items = filled(&one);
    one.dump(dir.path()).unwrap();
    let two = memory(&tiny.model);
    assert_eq!(two.load(dir.path()).unwrap(), 3);
    for (item, loaded) in items.iter().zip(two.get_all()) {
        same(item, &loaded);
    }
    let index: serde_json::Value = serde_json::from_slice(&fs::read(dir.path().join(INDEX)).unwrap()).unwrap();
    assert_eq!(index["items"][0]["item"], serde_json::to_value(&items[0]).unwrap());
    // Loading replaces what is there, and an empty folder changes nothing.
    let three = memory(&tiny.model);
    let mut old = three.extract("w1").unwrap();
    old.id = "old".into();
    three.add([old]).unwrap();
    assert_eq!(three.load(tempfile::tempdir().unwrap().path()).unwrap(), 0);
    assert_eq!(three.get_all().len(), 1);
    assert_eq!(three.load(dir.path()).unwrap(), 3);
    assert!(three.get("old").unwrap().is_none());
}

#[test]
fn a_later_dump_leaves_no_file_of_the_earlier() {
    let tiny = tiny(1);
    let dir = tempfile::tempdir().unwrap();
    let one = memory(&tiny.model);
    let items = filled(&one);
    one.dump(dir.path()).unwrap();
    assert_eq!(segment_files(dir.path()).len(), 3);
    one.delete(&[items[0].id.as_str()]).unwrap();
    one.dump(dir.path()).unwrap();
    assert_eq!(segment_files(dir.path()).len(), 2);
    one.delete_all().unwrap();
    one.dump(dir.path()).unwrap();
    assert_eq!(memory(&tiny.model).load(dir.path()).unwrap(), 0);
}

/// A crash leaves temporary files and items that no index names: neither is ever seen, and the next dump removes both.
#[test]
fn an_interrupted_dump_leaves_the_earlier_one() {
    let tiny = tiny(1);
    let dir = tempfile::tempdir().unwrap();
    let one = memory(&tiny.model);
    let items = filled(&one);
    one.dump(dir.path()).unwrap();
    let segments = dir.path().join(SEGMENTS);
    let whole = fs::read(&segment_files(dir.path())[0]).unwrap();
    fs::write(segments.join(".99-0.mos-tmp"), &whole[..whole.len() / 2]).unwrap();
    fs::write(dir.path().join(".99-1.mos-tmp"), b"{\"format\": \"mos-kv-in").unwrap();
    fs::write(segments.join(format!("{}.safetensors", "a".repeat(64))), &whole).unwrap();
    let two = memory(&tiny.model);
    assert_eq!(two.load(dir.path()).unwrap(), 3);
    two.get_all().iter().zip(&items).for_each(|(a, b)| same(a, b));
    two.dump(dir.path()).unwrap();
    assert_eq!(segment_files(dir.path()).len(), 3);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn a_dump_that_cannot_be_written_changes_nothing() {
    let tiny = tiny(1);
    let dir = tempfile::tempdir().unwrap();
    let one = memory(&tiny.model);
    let items = filled(&one);
    one.dump(dir.path()).unwrap();
    let index = fs::read(dir.path().join(INDEX)).unwrap();
    // The new item's file cannot get its name: a folder has it.
    let blocked = tempfile::tempdir().unwrap();
    one.add([one.extract("w30 w31").unwrap().with_saved_seconds(1.0)]).unwrap();
    one.dump(blocked.path()).unwrap();
    let new = segment_files(blocked.path()).into_iter().map(|path| path.file_name().unwrap().to_owned());
    let new: Vec<_> = new.filter(|name| !dir.path().join(SEGMENTS).join(name).exists()).collect();
    assert_eq!(new.len(), 1);
    fs::create_dir_all(dir.path().join(SEGMENTS).join(&new[0]).join("x")).unwrap();
    assert!(matches!(one.dump(dir.path()), Err(KvError::Io { .. })));
    assert_eq!(fs::read(dir.path().join(INDEX)).unwrap(), index);
    let two = memory(&tiny.model);
    assert_eq!(two.load(dir.path()).unwrap(), 3);
    two.get_all().iter().zip(&items).for_each(|(a, b)| same(a, b));
    assert_eq!(segment_files(dir.path()).len(), 4, "no temporary file stays");
}

#[test]
fn a_missing_item_file_is_named_and_nothing_is_loaded() {
    let tiny = tiny(1);
    let dir = tempfile::tempdir().unwrap();
    let one = memory(&tiny.model);
    filled(&one);
    one.dump(dir.path()).unwrap();
    let gone = segment_files(dir.path()).remove(2);
    fs::remove_file(&gone).unwrap();
    let two = memory(&tiny.model);
    let error = two.load(dir.path()).unwrap_err();
    assert!(error.to_string().contains(gone.file_name().unwrap().to_str().unwrap()), "{error}");
    assert!(two.get_all().is_empty());
}

#[test]
fn an_item_cut_anywhere_is_refused() {
    let tiny = tiny(1);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("item.safetensors");
    write_item(&path, &memory(&tiny.model).extract("w1 w2").unwrap(), KvEncoding::F16).unwrap();
    let whole = fs::read(&path).unwrap();
    for cut in (0..whole.len()).step_by(97).chain([7, 8, 9, whole.len() - 1]) {
        fs::write(&path, &whole[..cut]).unwrap();
        let error = read_item(&path).unwrap_err();
        assert!(matches!(error, KvError::Truncated { .. } | KvError::Damaged { .. }), "{cut}: {error}");
        assert!(error.to_string().contains("item.safetensors"), "{error}");
    }
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert!(matches!(read_item(&path), Err(KvError::Truncated { .. })));
    fs::write(&path, [whole.as_slice(), b"x"].concat()).unwrap();
    assert!(matches!(read_item(&path), Err(KvError::Damaged { .. })));
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let tiny = tiny(1);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("item.safetensors");
    let item = memory(&tiny.model).extract("w1 w2").unwrap();
    for encoding in [KvEncoding::F16, KvEncoding::Q4] {
        write_item(&path, &item, encoding).unwrap();
        let whole = fs::read(&path).unwrap();
        let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        assert_eq!(header % 64, 0);
        for at in (0..header).step_by(3).chain((header..whole.len()).step_by(31)).chain(0..8) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            fs::write(&path, &damaged).unwrap();
            let error = read_item(&path).unwrap_err();
            let typed = matches!(error, KvError::Truncated { .. } | KvError::Damaged { .. } | KvError::Newer { .. });
            assert!(typed, "{at}: {error}");
        }
    }
}

fn replace(path: &Path, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    fs::write(path, bytes).unwrap();
}

#[test]
fn files_of_a_later_version_are_left_to_it() {
    let tiny = tiny(1);
    let dir = tempfile::tempdir().unwrap();
    let one = memory(&tiny.model);
    filled(&one);
    one.dump(dir.path()).unwrap();
    replace(&segment_files(dir.path())[1], "mos-kv/1", "mos-kv/2");
    let two = memory(&tiny.model);
    let error = two.load(dir.path()).unwrap_err();
    assert!(matches!(&error, KvError::Newer { found, .. } if found == "mos-kv/2"), "{error}");
    assert!(two.get_all().is_empty(), "a dump is loaded whole or not at all");
    replace(&dir.path().join(INDEX), "mos-kv-index/1", "mos-kv-index/7");
    assert!(matches!(two.load(dir.path()), Err(KvError::Newer { .. })));
}

#[test]
fn what_is_no_dump_is_refused_and_changes_nothing() {
    let tiny = tiny(1);
    let dir = tempfile::tempdir().unwrap();
    let one = memory(&tiny.model);
    let items = filled(&one);
    let escape = json!({"format": "mos-kv-index/1", "model": items[0].identity().unwrap(),
                        "items": [{"file": "../../secret.safetensors", "item": {}}]});
    let bad = [
        &b""[..],
        b"{",
        b"[1, 2]",
        b"{\"format\": \"other\"}",
        b"hello",
        b"\x80\x04garbage",
        escape.to_string().as_bytes(),
    ]
    .map(<[u8]>::to_vec);
    for bytes in bad {
        fs::write(dir.path().join(INDEX), &bytes).unwrap();
        let error = one.load(dir.path()).unwrap_err();
        let typed = matches!(error, KvError::Truncated { .. } | KvError::Damaged { .. } | KvError::Pickle { .. });
        assert!(typed && error.to_string().contains(INDEX), "{error}");
        one.get_all().iter().zip(&items).for_each(|(a, b)| same(a, b));
    }
}

#[test]
fn items_of_another_model_are_refused_computed_again_or_kept() {
    let (one, two) = (tiny(1), tiny(2));
    let dir = tempfile::tempdir().unwrap();
    let other = memory(&two.model);
    let items = filled(&other);
    other.dump(dir.path()).unwrap();
    let memory = memory(&one.model);
    let error = memory.load(dir.path()).unwrap_err();
    assert!(
        matches!(&error, KvError::ForeignModel { found, wanted, .. }
                     if found.contains("tiny-2") && wanted.contains("tiny-1")),
        "{error}"
    );
    assert!(memory.get_all().is_empty());
    assert_eq!(memory.load_with(dir.path(), ForeignItems::Recompute).unwrap(), 3);
    for (item, again) in items.iter().zip(memory.get_all()) {
        assert_eq!(again.id, item.id);
        assert_eq!(again.identity(), Some(one.model.identity()));
        let text = item.metadata["source_text"].as_str().unwrap();
        assert_eq!(rows(again.segment().unwrap()), rows(memory.extract(text).unwrap().segment().unwrap()));
    }
    assert_eq!(memory.load_with(dir.path(), ForeignItems::Keep).unwrap(), 3);
    memory.get_all().iter().zip(&items).for_each(|(a, b)| same(a, b));
    assert!(matches!(memory.get_cache(&[items[0].id.as_str()]), Err(KvError::ForeignModel { .. })));
}

#[test]
fn fewer_bits_are_near_and_never_called_exact() {
    let model = smol();
    let memory = memory(&model);
    let item =
        memory.extract("Anna lives in Porto, works as a nurse, and her brother Tom keeps bees near Braga.").unwrap();
    let question = model.tokenize("<|im_start|>user\nWho keeps bees?<|im_end|>\n<|im_start|>assistant\n").unwrap();
    let run = |item: &KvCacheItem| {
        let mut prefix = KvPrefix::default();
        prefix.push(Arc::clone(item.segment().unwrap()));
        (logits(&model, &prefix, &question), prefix.is_exact())
    };
    let (truth, exact) = run(&item);
    assert!(exact);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("item.safetensors");
    let whole = write_item(&path, &item, KvEncoding::F16).unwrap().bytes;
    for (encoding, share, limit) in [(KvEncoding::Q8, 0.65, 0.5), (KvEncoding::Q4, 0.5, 6.0)] {
        let written = write_item(&path, &item, encoding).unwrap();
        assert!((written.bytes as f64) < whole as f64 * share, "{encoding:?}: {} of {whole}", written.bytes);
        assert_eq!(written.bytes, fs::metadata(&path).unwrap().len());
        let read = read_item(&path).unwrap();
        let (logits, exact) = run(&read);
        let difference = largest_difference(&truth, &logits);
        assert!(!exact && difference > 0.0 && difference < limit, "{encoding:?}: {difference}");
    }
}

#[test]
fn dumps_may_be_smaller() {
    let tiny = tiny(1);
    let dir = tempfile::tempdir().unwrap();
    let options = KvCacheMemoryOptions { encoding: KvEncoding::Q8, ..options() };
    let one = KvCacheMemory::open(Arc::clone(&tiny.model), options).unwrap();
    let items = filled(&one);
    one.dump(dir.path()).unwrap();
    let two = memory(&tiny.model);
    assert_eq!(two.load(dir.path()).unwrap(), 3);
    for (item, loaded) in items.iter().zip(two.get_all()) {
        assert_eq!(item.segment().unwrap().tokens(), loaded.segment().unwrap().tokens());
        assert!(loaded.segment().unwrap().context().is_none());
        // One that is not exact is not taken for exact: unasked, its text is computed again.
        let id = [loaded.id.as_str()];
        assert!(two.get_cache_with(&id, MergeChoice::Auto).unwrap().unwrap().is_exact());
        assert!(!two.get_cache_with(&id, MergeStrategy::Shifted).unwrap().unwrap().is_exact());
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pickle").join(name)
}

#[test]
fn upstreams_old_sample_is_read_and_computed_again() {
    let path = fixture("mem_cube_2_activation_memory.pickle");
    let items = import_pickle(&path).unwrap();
    let shape = items[0].segment().unwrap().shape();
    assert_eq!((items.len(), shape.layers, shape.kv_heads, items[0].n_tokens(), shape.head_dim), (1, 28, 8, 7, 128));
    assert_eq!(items[0].records.composed_text_memory, "The user is a Chinese man.");
    let tiny = tiny(1);
    let dir = tempfile::tempdir().unwrap();
    fs::copy(&path, dir.path().join(INDEX)).unwrap();
    let memory = memory(&tiny.model);
    assert_eq!(memory.load(dir.path()).unwrap(), 1);
    let item = &memory.get_all()[0];
    assert_eq!((&item.id, &item.metadata), (&items[0].id, &items[0].metadata));
    let again = memory.extract("The user is a Chinese man.").unwrap();
    assert_eq!(rows(item.segment().unwrap()), rows(again.segment().unwrap()));
    // Kept as it is, it survives our own format, and no model takes it for its own.
    assert_eq!(memory.load_with(dir.path(), ForeignItems::Keep).unwrap(), 1);
    let other = tempfile::tempdir().unwrap();
    memory.dump(other.path()).unwrap();
    assert_eq!(memory.load_with(other.path(), ForeignItems::Keep).unwrap(), 1);
    assert_eq!(rows(memory.get_all()[0].segment().unwrap()), rows(items[0].segment().unwrap()));
    assert!(matches!(memory.get_cache(&[item.id.as_str()]), Err(KvError::ForeignModel { .. })));
}

#[test]
fn upstreams_merge_of_its_own_items_is_ours() {
    let items = import_pickle(&fixture("kv_dump_transformers_4_57.pickle")).unwrap();
    let segments: Vec<_> = items.iter().map(|item| Arc::clone(item.segment().unwrap())).collect();
    let merged = mos_kv::concat(&segments).unwrap();
    assert_eq!(merged.len(), 5);
    // Keys are the place in the tensor over 16, plus the layer; two heads of 3 and 2 tokens of 4 values.
    let value = |bits: u16| half::f16::from_bits(bits).to_f32();
    for (part, tokens) in merged.parts().zip([3, 2]) {
        for layer in 0..2 {
            let keys: Vec<f32> = part.segment.keys(layer).into_iter().map(value).collect();
            let want: Vec<f32> = (0..2 * tokens * 4).map(|at| at as f32 / 16.0 + layer as f32).collect();
            assert_eq!(keys, want);
            let values: Vec<f32> = part.segment.values(layer).into_iter().map(value).collect();
            assert_eq!(values, want.iter().map(|key| -key).collect::<Vec<_>>());
        }
    }
}
