//! What these clients read, out of answers of the product API.

use serde_json::{Map, Value, json};

/// The most characters of a memory that stand for a title it lacks.
const MAX_TITLE: usize = 60;

/// Returns what a search has found. Memories of several cubes come best first, at most `n_memories` of them.
pub(super) fn found(data: &Value, n_memories: usize) -> Value {
    let mut answer = lists(data);
    if data["text_mem"].as_array().is_some_and(|buckets| buckets.len() > 1)
        && let Some(memories) = answer["memory_detail_list"].as_array_mut()
    {
        let relativity = |memory: &Value| memory["relativity"].as_f64().unwrap_or_default();
        memories.sort_by(|left, right| relativity(right).total_cmp(&relativity(left)));
        memories.truncate(n_memories);
    }
    // Clients would not take null.
    if let Some(note) = data["pref_note"].as_str().filter(|note| !note.is_empty()) {
        answer["preference_note"] = json!(note);
    }
    answer["message_detail_list"] = json!([]);
    answer
}

/// Returns what no search finds until it is released, among memories that were added: `id` and `reason` of each.
pub(super) fn quarantined(rows: &[Value]) -> Vec<Value> {
    let apart = rows.iter().filter(|row| row["quarantine"].is_string());
    apart.map(|row| json!({"id": row["memory_id"], "reason": row["quarantine"]})).collect()
}

/// Returns a page of lists of memories: `total` counts those of `memory_detail_list`, and the longest list needs so many `pages`.
pub(super) fn listed(data: &Value, page: u64, size: u64) -> Value {
    let mut answer = lists(data);
    let [total, others @ ..] = ["text_mem", "pref_mem", "tool_mem", "skill_mem"].map(|list| total(&data[list]));
    let pages = others.into_iter().fold(total, u64::max).div_ceil(size.max(1));
    for (key, value) in [("total", total), ("size", size), ("current", page), ("pages", pages)] {
        answer[key] = json!(value);
    }
    answer
}

fn lists(data: &Value) -> Value {
    let (profiles, memories): (Vec<&Value>, Vec<&Value>) = nodes(&data["text_mem"]).partition(|node| is_profile(node));
    json!({
        "memory_detail_list": memories.into_iter().map(memory).collect::<Vec<_>>(),
        "preference_detail_list": details(&data["pref_mem"], preference),
        "tool_memory_detail_list": details(&data["tool_mem"], tool),
        "skill_detail_list": details(&data["skill_mem"], skill),
        "profile_detail_list": profiles.into_iter().map(profile).collect::<Vec<_>>(),
        "event_detail_list": [],
    })
}

/// How many memories of a list all pages have together.
fn total(buckets: &Value) -> u64 {
    let buckets = buckets.as_array().into_iter().flatten();
    buckets.filter_map(|bucket| bucket["total_nodes"].as_u64()).sum()
}

/// The memories of all cubes, one after the other.
fn details(buckets: &Value, detail: fn(&Value) -> Value) -> Value {
    nodes(buckets).map(detail).collect()
}

fn nodes(buckets: &Value) -> impl Iterator<Item = &Value> {
    let buckets = buckets.as_array().into_iter().flatten();
    buckets.flat_map(|bucket| bucket["memories"].as_array().into_iter().flatten())
}

/// Whether a memory is a profile.
fn is_profile(node: &Value) -> bool {
    node["metadata"]["profile_template_id"].is_string() && node["metadata"]["profile_fields"].is_object()
}

/// Returns a profile with its fields.
pub(super) fn profile(node: &Value) -> Value {
    let metadata = &node["metadata"];
    let own = [
        ("profile_template_id", metadata["profile_template_id"].clone()),
        ("metadata", metadata["profile_fields"].clone()),
        ("memory_value", node["memory"].clone()),
    ];
    with_common(node, own)
}

/// Returns what was drawn from messages.
pub(super) fn extracted(memories: &[Value], preferences: &[Value]) -> Value {
    json!({
        "memory_detail_list": memories.iter().map(memory).collect::<Vec<_>>(),
        "preference_detail_list": preferences.iter().map(preference).collect::<Vec<_>>(),
    })
}

/// Returns a memory as these clients print it.
pub(super) fn memory(node: &Value) -> Value {
    let metadata = &node["metadata"];
    let text = node["memory"].as_str().unwrap_or_default();
    let title = metadata["key"].as_str().filter(|key| !key.is_empty()).map(str::to_owned);
    let title = title.unwrap_or_else(|| text.chars().take(MAX_TITLE).collect());
    let own =
        [("memory_key", json!(title)), ("memory_value", json!(text)), ("memory_type", metadata["memory_type"].clone())];
    with_common(node, own)
}

fn preference(node: &Value) -> Value {
    let metadata = &node["metadata"];
    let said = metadata["preference"].as_str().or(node["memory"].as_str());
    let own = [
        ("preference_type", metadata["preference_type"].clone()),
        ("preference", json!(said)),
        ("reasoning", metadata["reasoning"].clone()),
    ];
    with_common(node, own)
}

fn tool(node: &Value) -> Value {
    let metadata = &node["metadata"];
    let own = [
        ("tool_type", metadata["memory_type"].clone()),
        ("tool_value", node["memory"].clone()),
        ("experience", metadata["experience"].clone()),
    ];
    with_common(node, own)
}

fn skill(node: &Value) -> Value {
    let metadata = &node["metadata"];
    let own = [
        ("skill_type", metadata["memory_type"].clone()),
        ("skill_value", node["memory"].clone()),
        ("skill_name", metadata["name"].clone()),
    ];
    with_common(node, own)
}

/// Adds what all kinds have; what is not known is left out.
fn with_common<const N: usize>(node: &Value, own: [(&str, Value); N]) -> Value {
    let metadata = &node["metadata"];
    let mut detail = Map::new();
    detail.insert("id".to_owned(), node["id"].clone());
    detail.extend(own.into_iter().map(|(key, value)| (key.to_owned(), value)));
    for (to, from) in [
        ("relativity", "relativity"),
        ("create_time", "created_at"),
        ("update_time", "updated_at"),
        ("tags", "tags"),
        ("confidence", "confidence"),
        ("conversation_id", "session_id"),
        ("status", "status"),
        ("quarantine", "quarantine"),
        ("user_id", "user_id"),
    ] {
        detail.insert(to.to_owned(), metadata[from].clone());
    }
    detail.retain(|_, value| !value.is_null());
    Value::Object(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_have_the_names_that_clients_print() {
        let hit = json!({"id": "a", "memory": "Ann likes tea", "metadata": {
            "memory_type": "UserMemory", "key": "tea", "relativity": 0.5, "created_at": "2026-01-01", "session_id": "s",
            "confidence": null}});
        let liked = json!({"id": "b", "memory": "tea", "metadata": {"preference_type": "explicit_preference", "reasoning": "said"}});
        let data = json!({"text_mem": [{"cube_id": "ann", "memories": [hit], "total_nodes": 1}],
            "pref_mem": [{"memories": [liked]}], "tool_mem": [], "skill_mem": [], "pref_note": ""});
        let answer = found(&data, 6);
        let expected = json!({"id": "a", "memory_key": "tea", "memory_value": "Ann likes tea", "memory_type": "UserMemory",
            "relativity": 0.5, "create_time": "2026-01-01", "conversation_id": "s"});
        assert_eq!(answer["memory_detail_list"], json!([expected]));
        let preference = &answer["preference_detail_list"][0];
        assert_eq!((&preference["preference"], &preference["reasoning"]), (&json!("tea"), &json!("said")));
        assert!(answer.get("preference_note").is_none() && answer["tool_memory_detail_list"] == json!([]));
        let of = |id: &str, relativity: f64| json!({"id": id, "memory": id, "metadata": {"relativity": relativity}});
        let profile = json!({"id": "p", "memory": "x", "metadata": {
            "profile_template_id": "basic", "profile_fields": {"city": "Bonn"}}});
        let two =
            json!({"text_mem": [{"memories": [of("a", 0.2), profile]}, {"memories": [of("b", 0.9), of("c", 0.1)]}]});
        let two = found(&two, 2);
        let ids: Vec<&Value> = two["memory_detail_list"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
        assert_eq!(ids, ["b", "a"]);
        assert_eq!(two["profile_detail_list"][0]["metadata"], json!({"city": "Bonn"}));
        let page = listed(&json!({"text_mem": [{"memories": [], "total_nodes": 21}]}), 2, 10);
        assert_eq!((&page["total"], &page["current"], &page["pages"]), (&json!(21), &json!(2), &json!(3)));
        let cooking = json!({"id": "s", "memory": "Boil it", "metadata": {"name": "cooking"}});
        let longer = json!({"text_mem": [{"memories": [], "total_nodes": 21}], "pref_mem": [],
            "skill_mem": [{"memories": [cooking], "total_nodes": 31}]});
        let page = listed(&longer, 4, 10);
        assert_eq!((&page["total"], &page["pages"]), (&json!(21), &json!(4)), "the last skill is on the fourth page");
        assert_eq!(page["skill_detail_list"][0]["skill_name"], "cooking");
    }
}
