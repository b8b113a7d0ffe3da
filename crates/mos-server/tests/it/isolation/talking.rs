//! The dialects of the SDK and of OpenAI's clients.

use serde_json::{Value, json};

use super::asked::{Asked, Named, Need, Operation, at, operations};

const QUESTION: &str = "Where is the hidden place?";

/// A request in the dialect of the SDK.
fn sdk(path: &str, body: Value) -> Asked {
    at(format!("/api/openmem/v1/{path}")).with(body)
}

/// A completion that tells whose and where by headers.
fn completion(n: &Named, more: Value) -> Asked {
    let mut body = json!({"model": "mos", "messages": [{"role": "user", "content": QUESTION}]});
    for (key, value) in more.as_object().into_iter().flatten() {
        body[key.as_str()] = value.clone();
    }
    at("/v1/chat/completions").with(body).header("x-mos-session", &n.session)
}

pub(super) const OPERATIONS: &[Operation] = operations! {
    "POST /api/openmem/v1/add/message" Write [
        |n| sdk("add/message", json!({"user_id": n.user, "conversation_id": n.session,
            "messages": [{"role": "user", "content": "It was put here."}]})),
        |n| sdk("add/message", json!({"agent_id": n.user, "async_mode": false,
            "messages": [{"role": "user", "content": "It came later."}]})),
        |n| sdk("add/message", json!({"user_id": n.user, "allow_knowledgebase_ids": [n.base], "async_mode": false,
            "messages": [{"role": "user", "content": "It is in the book."}]})),
    ]
    "POST /api/openmem/v1/search/memory" Read [
        |n| sdk("search/memory", json!({"user_id": n.user, "query": QUESTION, "relativity": 0,
            "conversation_id": n.session, "include_preference": true, "include_tool_memory": true, "include_skill": true})),
        |n| sdk("search/memory", json!({"agent_id": n.user, "query": QUESTION, "relativity": 0})),
        |n| sdk("search/memory", json!({"user_id": n.user, "query": QUESTION, "relativity": 0,
            "knowledgebase_ids": [n.base]})),
    ]
    "POST /api/openmem/v1/get/memory" Read [|n| sdk("get/memory", json!({"user_id": n.user, "page": 1, "size": 50}))]
    "GET /api/openmem/v1/get/memory/{id}" Read [|n| at(format!("/api/openmem/v1/get/memory/{}", n.memory))]
    "POST /api/openmem/v1/delete/memory" Write [
        |n| sdk("delete/memory", json!({"memory_ids": [n.memory]})),
        |n| sdk("delete/memory", json!({"user_id": n.user, "filter": {"memory": {"like": "hidden"}}})),
        |n| sdk("delete/memory", json!({"user_id": n.user})),
    ]
    "POST /api/openmem/v1/get/status" Read [|n| sdk("get/status", json!({"task_id": n.sdk_task}))]
    "POST /api/openmem/v1/add/feedback" Write [
        |n| sdk("add/feedback", json!({"user_id": n.user, "conversation_id": n.session,
            "feedback_content": "The place is another one."})),
    ]
    "POST /api/openmem/v1/chat" Read [
        |n| sdk("chat", json!({"user_id": n.user, "query": QUESTION, "conversation_id": n.session, "relativity": 0})),
        |n| sdk("chat", json!({"user_id": n.user, "query": QUESTION, "stream": true, "relativity": 0,
            "add_message_on_answer": false})),
        |n| sdk("chat", json!({"user_id": n.user, "query": QUESTION, "relativity": 0, "knowledgebase_ids": [n.base]})),
    ]
    "POST /v1/chat/completions" Read [
        |n| completion(n, json!({})).header("x-mos-user", &n.user),
        |n| completion(n, json!({})).header("x-mos-user", &n.user).header("x-mos-cube", &n.cube),
        |n| completion(n, json!({"stream": true})).header("x-mos-user", &n.user).header("x-mos-cube", &n.cube),
        |n| completion(n, json!({"metadata": {"mos_cube": n.cube, "mos_memory": "read"}})),
    ]
    "POST /v1/embeddings" Read [
        |n| at("/v1/embeddings").with(json!({"model": "words", "input": "green tea"})).header("x-mos-user", &n.user),
    ]
    "GET /v1/models" Read [|_| at("/v1/models")]
    "GET /v1/models/{*id}" Read [|_| at("/v1/models/scripted")]
};
