//! The dialect of the SDK besides: messages, changes, knowledge bases and profiles.

use serde_json::{Value, json};

use super::PROFILE;
use super::asked::{Asked, Need, Operation, at, operations};

fn sdk(path: &str, body: Value) -> Asked {
    at(format!("/api/openmem/v1/{path}")).with(body)
}

pub(super) const OPERATIONS: &[Operation] = operations! {
    "POST /api/openmem/v1/get/message" Read [
        |n| sdk("get/message", json!({"user_id": n.user})),
        |n| sdk("get/message", json!({"user_id": n.user, "conversation_id": n.session})),
    ]
    "POST /api/openmem/v1/update/memory" Write [
        |n| sdk("update/memory", json!({"memory_id": n.memory, "content": "It was taken away."})),
        |n| sdk("update/memory", json!({"memory_id": n.memory, "status": "archived"})),
    ]
    "POST /api/openmem/v1/extract/memory" Read [
        |_| sdk("extract/memory", json!({"messages": [{"role": "user", "content": "Where is the hidden place?"}]})),
    ]
    "POST /api/openmem/v1/rerank" Read [
        |_| sdk("rerank", json!({"query": "hidden place", "documents": ["a mill", "a hidden place"]})),
    ]
    "POST /api/openmem/v1/create/knowledgebase" Write [
        |n| sdk("create/knowledgebase", json!({"knowledgebase_name": "Mine", "user_id": n.user})),
    ]
    "POST /api/openmem/v1/delete/knowledgebase" Write [
        |n| sdk("delete/knowledgebase", json!({"knowledgebase_id": n.base})),
    ]
    "POST /api/openmem/v1/add/knowledgebase-file" Write [
        |n| sdk("add/knowledgebase-file", json!({"knowledgebase_id": n.base,
            "file": [{"name": "more.txt", "content": "It was put on the upper shelf."}]})),
    ]
    "POST /api/openmem/v1/delete/knowledgebase-file" Write [
        |n| sdk("delete/knowledgebase-file", json!({"file_ids": [n.file]})),
    ]
    "POST /api/openmem/v1/get/knowledgebase-file" Read [
        |n| sdk("get/knowledgebase-file", json!({"knowledgebase_id": n.base})),
        |n| sdk("get/knowledgebase-file", json!({"file_ids": [n.file]})),
    ]
    "POST /api/openmem/v1/bind/profile_template" Write [
        |n| sdk("bind/profile_template", json!({"bind_list": [
            {"user_id": n.user, "profile_template_id": "work", "metadata": {"city": "Bonn"}}]})),
        |n| sdk("bind/profile_template", json!({"bind_list": [{"user_id": n.user, "profile_template_id": PROFILE}]})),
    ]
    "POST /api/openmem/v1/edit/profile" Write [
        |n| sdk("edit/profile", json!({"user_id": n.user, "profile_template_id": PROFILE, "metadata": {"city": "Bonn"}})),
    ]
    "POST /api/openmem/v1/delete/profile" Write [
        |n| sdk("delete/profile", json!({"user_id": n.user, "profile_template_id": PROFILE})),
    ]
};
