//! Files of upstream, the same objects in other protocols and containers, and files that must be refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::*;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pickle")
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(fixtures().join(name)).unwrap()
}

/// The pickles of a folder, by name.
fn folder(name: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(fixtures().join(name)).unwrap();
    let files = entries.map(|entry| {
        let path = entry.unwrap().path();
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap())
    });
    files.collect()
}

/// What the golden files and `make_pickles.py` put into layers.
fn sixteenths(layer: usize, count: usize) -> Vec<f32> {
    (0..count).map(|number| layer as f32 + number as f32 / 16.0).collect()
}

fn assert_arithmetic(item: &ImportedItem<'_>, tokens: usize) {
    assert_eq!(item.layers.len(), 2);
    for (number, layer) in item.layers.iter().enumerate() {
        assert_eq!(layer.keys.shape(), [1, 2, tokens, 4]);
        assert_eq!(layer.keys.to_f32(), sixteenths(number, 8 * tokens));
        let negative: Vec<f32> = sixteenths(number, 8 * tokens).iter().map(|value| -value).collect();
        assert_eq!(layer.values.to_f32(), negative);
    }
}

#[test]
fn the_dump_of_current_upstream_is_read_with_all_its_fields() {
    let bytes = fixture("kv_dump_transformers_4_57.pickle");
    let items = read_upstream_items(&bytes).unwrap();
    assert_eq!(items.len(), 2);
    assert_eq!(items[0].id, "00000000-0000-4000-8000-000000000001");
    assert_eq!(items[1].id, "00000000-0000-4000-8000-000000000002");
    let metadata = json!({"source_text": "one two three", "extracted_at": "2026-01-02T03:04:05.678901"});
    assert_eq!(serde_json::Value::Object(items[0].metadata.clone()), metadata);
    let records = ImportedRecords {
        text_memories: vec!["one two three".to_owned()],
        composed_text_memory: "one two three".to_owned(),
        timestamp: Some("2026-01-02T03:04:05".to_owned()),
    };
    assert_eq!(items[0].records, Some(records));
    assert_arithmetic(&items[0], 3);
    assert_arithmetic(&items[1], 2);
    assert_eq!(items[0].layers[0].keys.element_type(), TensorType::F32);
}

#[test]
fn the_example_cube_of_upstream_is_read_with_its_old_field_names() {
    let bytes = fixture("mem_cube_2_activation_memory.pickle");
    let items = read_upstream_items(&bytes).unwrap();
    assert_eq!(items.len(), 1);
    let item = &items[0];
    assert_eq!(item.id, "7b9a6488-471d-40f0-859b-1e5245d3856a");
    assert_eq!(item.metadata["source_text"], "The user is a Chinese man.");
    assert_eq!(item.metadata["extracted_at"], "2025-06-11T23:25:23.317466");
    assert_eq!((item.records.as_ref(), item.prompt.as_ref()), (None, None));
    assert_eq!(item.layers.len(), 28);
    for layer in &item.layers {
        for tensor in [&layer.keys, &layer.values] {
            assert_eq!((tensor.shape(), tensor.element_type()), ([1, 8, 7, 128], TensorType::Bf16));
            assert!(tensor.to_f32().iter().all(|value| value.is_finite()));
            assert_eq!(tensor.to_f16_bits().unwrap().len(), 8 * 7 * 128);
        }
    }
    // The tensor lies in the file as [tokens, heads, dimensions]; it is read as [heads, tokens, dimensions].
    let keys = &item.layers[0].keys;
    let stored = &keys.source.bytes()[keys.start..];
    let rows = keys.to_f32();
    for (head, token, dimension) in [(0, 0, 0), (0, 1, 0), (3, 5, 17), (7, 6, 127)] {
        let place = 2 * (token * 1024 + head * 128 + dimension);
        let want = half::bf16::from_le_bytes([stored[place], stored[place + 1]]).to_f32();
        assert_eq!(rows[(head * 7 + token) * 128 + dimension], want);
    }
}

#[test]
fn every_protocol_layout_and_container_gives_the_same_item() {
    let files = folder("variants");
    assert!(files.len() >= 15);
    for (name, bytes) in files.iter().filter(|(name, _)| name.as_str() != "prompt") {
        let items = read_upstream_items(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(items[0].id, "item-1", "{name}");
        assert_eq!(items[0].metadata["source_text"], "Grüße, 世界", "{name}");
        match name.as_str() {
            "strided" | "offset" => {
                let arithmetic: Vec<Vec<f32>> = items[0].layers.iter().map(|layer| layer.keys.to_f32()).collect();
                assert_eq!(arithmetic, [sixteenths(0, 24), sixteenths(1, 24)], "{name}");
            }
            _ => assert_arithmetic(&items[0], 3),
        }
        if name == "old_layout" {
            assert_eq!(items[0].records, None);
            continue;
        }
        assert_eq!(items.len(), if name == "shared_cache" { 2 } else { 1 });
        let metadata = json!({
            "source_text": "Grüße, 世界", "list": [1, 2.5, null, true, -7, 9_223_372_036_854_775_808_u64], "pair": [1, "two"],
            "when": "2026-01-02T03:04:05.678901", "day": "2026-01-02", "zoned": "2026-01-02T00:00:00-03:30", "7": "seven",
        });
        assert_eq!(serde_json::Value::Object(items[0].metadata.clone()), metadata, "{name}");
        let records = items[0].records.clone().unwrap();
        assert_eq!((records.text_memories.len(), records.composed_text_memory.as_str()), (2, "one two"), "{name}");
        assert_eq!(records.timestamp.as_deref(), Some("2026-01-02T03:04:05"), "{name}");
    }
    let items = read_upstream_items(&files["prompt"]).unwrap();
    assert_eq!((items[0].prompt.as_deref(), items[0].layers.len()), (Some("a prompt"), 0));
}

/// The error that a hostile file must give.
fn expected(name: &str) -> &'static str {
    match name {
        "inst"
        | "obj"
        | "newobj_ex"
        | "extension"
        | "out_of_band_buffer"
        | "persistent_id_text"
        | "unknown_opcode"
        | "persistent_id_in_plain_pickle" => "Opcode",
        "os_system"
        | "posix_system_stack_global"
        | "builtins_exec"
        | "builtins_eval_protocol_0"
        | "builtins_getattr"
        | "subprocess_newobj"
        | "dotted_name"
        | "torch_load"
        | "numpy"
        | "copyreg_newobj_os" => "Global",
        "reconstruct_other_class"
        | "class_with_arguments"
        | "class_called"
        | "build_on_list"
        | "build_twice"
        | "tensor_negative_stride"
        | "tensor_negative_size" => "Call",
        "huge_text" | "huge_bytes" | "huge_bytearray" | "huge_long" | "huge_frame" | "empty" => "Truncated",
        "deep_marks" | "overlapping_archive" | "doubling_metadata" | "one_layer_named_5000_times" => "TooMuch",
        "not_an_activation_memory"
        | "scalar"
        | "metadata_in_itself"
        | "tensor_three_dimensions"
        | "deep_lists"
        | "tensor_batch_of_two"
        | "tensor_integers"
        | "tensor_of_nothing"
        | "tensor_of_no_dimension"
        | "layer_without_keys"
        | "huge_memo_number" => "Layout",
        "one_storage_read_again" => "Storage",
        name if name.starts_with("storage_") => "Storage",
        name if name.starts_with("archive_") => "Archive",
        _ => "Malformed",
    }
}

#[test]
fn every_hostile_file_is_refused_with_an_error_of_the_right_kind() {
    let files = folder("hostile");
    assert!(files.len() >= 65);
    for (name, bytes) in files {
        let error = read_upstream_items(&bytes).map(|items| items.len()).expect_err(&name);
        let kind = format!("{error:?}");
        assert!(kind.starts_with(expected(&name)), "{name}: {kind}");
    }
}

#[test]
fn errors_name_what_is_refused_and_where() {
    let files = folder("hostile");
    let error = |name: &str| read_upstream_items(&files[name]).unwrap_err();
    let global = PickleError::Global { module: "os".to_owned(), name: "system".to_owned(), offset: 2 };
    assert_eq!(error("os_system"), global);
    assert!(global.to_string().contains("`os.system` at byte 2"));
    assert_eq!(error("inst"), PickleError::Opcode { name: "STRING".to_owned(), offset: 1 });
    assert_eq!(error("unknown_opcode"), PickleError::Opcode { name: "0xff".to_owned(), offset: 2 });
    let PickleError::Storage { source, .. } = error("storage_with_os_system") else { panic!("no nested error") };
    assert!(matches!(*source, PickleError::Global { ref module, .. } if module == "os"));
    let PickleError::Storage { source, .. } = error("storage_in_storage") else { panic!("no nested error") };
    assert!(matches!(*source, PickleError::Global { ref name, .. } if name == "_load_from_bytes"));
}

#[test]
fn a_file_that_ends_early_is_never_read_as_a_shorter_one() {
    let mut files = folder("variants");
    files.insert("golden".to_owned(), fixture("kv_dump_transformers_4_57.pickle"));
    for (name, bytes) in &files {
        for len in 0..bytes.len() {
            assert!(read_upstream_items(&bytes[..len]).is_err(), "{name}, {len} bytes");
        }
    }
    let bytes = fixture("mem_cube_2_activation_memory.pickle");
    for len in (0..bytes.len()).step_by(4999).chain(bytes.len() - 200..bytes.len()) {
        assert!(read_upstream_items(&bytes[..len]).is_err(), "{len} bytes");
    }
}

/// Whatever one wrong byte makes of a file: tensors keep within it, and nothing panics. (The fuzz target goes further.)
#[test]
fn one_wrong_byte_never_panics() {
    for name in ["kv_dump_transformers_4_57.pickle", "variants/saved_archive.pickle", "variants/saved_legacy.pickle"] {
        let mut bytes = fixture(name);
        for place in 0..bytes.len() {
            let before = bytes[place];
            for wrong in [before ^ 1, 0xff, b'h'] {
                bytes[place] = wrong;
                let items = read_upstream_items(&bytes).unwrap_or_default();
                for layer in items.iter().flat_map(|item| &item.layers) {
                    assert_eq!(layer.keys.to_f32().len(), layer.values.to_f32().len());
                }
            }
            bytes[place] = before;
        }
    }
}

#[test]
fn values_beyond_half_precision_are_refused_by_name() {
    let mut bytes = fixture("kv_dump_transformers_4_57.pickle");
    let one = 1.0_f32.to_le_bytes();
    let place = bytes.windows(4).position(|window| window == one).unwrap();
    bytes[place..place + 4].copy_from_slice(&70_000.0_f32.to_le_bytes());
    let items = read_upstream_items(&bytes).unwrap();
    let error = items[0].layers[0].keys.to_f16_bits().unwrap_err();
    assert_eq!(error, PickleError::Range { value: "70000".to_owned() });
    assert!(items[0].layers[0].keys.to_f32().contains(&70_000.0));
}

#[test]
fn a_tensor_without_elements_is_empty_whatever_its_strides_are() {
    let tensor = ImportedTensor {
        element: TensorType::F32,
        shape: [1, 8, 3, 0],
        strides: [usize::MAX; 4],
        offset: usize::MAX,
        source: value::Source::File(&[]),
        start: 0,
    };
    assert_eq!((tensor.to_f32(), tensor.to_f16_bits()), (vec![], Ok(vec![])));
}

#[test]
fn pickles_are_told_from_json_by_their_first_bytes() {
    for (name, bytes) in folder("variants") {
        assert!(looks_like_pickle(&bytes), "{name}");
    }
    for other in ["", "{", "{}", "{\"format\": 1}", "[\n]", "[{}]", "(", "\u{80}", "text"] {
        assert!(!looks_like_pickle(other.as_bytes()), "{other}");
    }
}
