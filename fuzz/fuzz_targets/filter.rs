//! Filters: any JSON gives a filter or errors that say where, and a filter says the same after being written and read. What
//! follows a zero byte is the metadata of a memory that it looks at.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mos_core::Filter;
use serde_json::{Map, Value};

/// The least depth of JSON that the language refuses: it has 32 levels of its own, and `not` takes one object.
const MIN_REFUSED_DEPTH: usize = 33;

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let Ok(value) = serde_json::from_slice::<Value>(parts.next().unwrap_or_default()) else { return };
    let metadata: Map<String, Value> =
        parts.next().and_then(|json| serde_json::from_slice(json).ok()).unwrap_or_default();
    let filter = match Filter::from_value(&value) {
        Ok(filter) => filter,
        Err(error) => {
            assert!(!error.errors.is_empty() && !error.to_string().is_empty());
            return;
        }
    };
    let passes = filter.matches("I like tea", &metadata);
    assert_eq!(Filter::Not(Box::new(filter.clone())).matches("I like tea", &metadata), !passes);
    let written = filter.to_value();
    match Filter::from_value(&written) {
        Ok(again) => assert_eq!(again, filter),
        // Comparisons that stood beside each other are written one level deeper, in a list.
        Err(error) => assert!(depth(&written) >= MIN_REFUSED_DEPTH, "{error}: {written}"),
    }
});

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(elements) => 1 + elements.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
