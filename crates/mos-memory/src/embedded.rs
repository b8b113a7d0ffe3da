//! What an encoder is given of a memory.

use mos_core::MemoryItem;
use serde_json::Value;

/// Returns the text that a memory's vector is made of: who said it, and what. A question names people, while what they say
/// is in the first person: with the name, both meet.
pub(crate) fn text_to_embed(item: &MemoryItem) -> String {
    match speaker(item) {
        Some(name) => format!("{name}: {}", item.memory),
        None => item.memory.clone(),
    }
}

/// The name of whoever said a memory. Roles are none: they are in no question, and every vector would have one in it.
fn speaker(item: &MemoryItem) -> Option<&str> {
    let name = item.metadata.info.as_ref()?.get("name").and_then(Value::as_str)?.trim();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn item(info: &Value) -> MemoryItem {
        let value =
            json!({"id": "0b7e8d4e-6a0f-4f0e-9a44-3a3b1f1c0001", "memory": "I like tea", "metadata": {"info": info}});
        MemoryItem::from_value(value, String::new).unwrap()
    }

    #[test]
    fn who_said_it_is_a_part_of_what_is_meant() {
        assert_eq!(text_to_embed(&item(&json!({"name": "Anna", "role": "user"}))), "Anna: I like tea");
        assert_eq!(text_to_embed(&item(&json!({"name": " ", "role": "user"}))), "I like tea");
        assert_eq!(text_to_embed(&item(&json!({"role": "user"}))), "I like tea");
        assert_eq!(text_to_embed(&item(&Value::Null)), "I like tea");
    }
}
