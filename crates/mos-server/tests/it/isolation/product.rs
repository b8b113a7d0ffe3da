//! MemOS' own dialect, and reflecting.

use serde_json::{Value, json};

use super::BUSINESS_KEY;
use super::asked::{Asked, Named, Need, Operation, at, operations};

const QUESTION: &str = "Where is the hidden place?";

/// A chat about a cube, which is remembered there.
fn about_cube(n: &Named) -> Value {
    json!({"user_id": n.user, "query": QUESTION, "relativity": 0, "threshold": 0, "readable_cube_ids": [n.cube],
        "writable_cube_ids": [n.cube], "session_id": n.session})
}

/// A chat about the cube of the user's name, with what was said before in the session.
fn about_user(n: &Named) -> Value {
    json!({"user_id": n.user, "query": QUESTION, "relativity": 0, "threshold": 0, "session_id": n.session})
}

/// A chat that reads one cube and writes to the user's own.
fn read_only(n: &Named) -> Value {
    json!({"user_id": n.user, "query": QUESTION, "relativity": 0, "threshold": 0, "mem_cube_id": n.cube,
        "add_message_on_answer": false})
}

fn business(mut body: Value) -> Asked {
    body["business_key"] = json!(BUSINESS_KEY);
    body["need_search"] = json!(true);
    at("/product/chat/stream/business_user").with(body)
}

pub(super) const OPERATIONS: &[Operation] = operations! {
    "POST /product/add" Write [
        |n| at("/product/add").with(json!({"user_id": n.user, "writable_cube_ids": [n.cube], "messages": "It was put here.",
            "async_mode": "sync", "mode": "fast"})),
        |n| at("/product/add").with(json!({"user_id": n.user, "mem_cube_id": n.cube, "messages": "It came later."})),
        |n| at("/product/add").with(json!({"user_id": n.user, "writable_cube_ids": [n.cube], "is_feedback": true,
            "messages": [{"role": "user", "content": "The place is another one."}], "async_mode": "sync"})),
    ]
    "POST /product/search" Read [
        |n| at("/product/search").with(json!({"query": QUESTION, "user_id": n.user, "readable_cube_ids": [n.cube],
            "relativity": 0, "session_id": n.session})),
        |n| at("/product/search").with(json!({"query": QUESTION, "user_id": n.user, "relativity": 0, "top_k": 50})),
        |n| at("/product/search").with(json!({"query": QUESTION, "user_id": n.user, "mem_cube_id": n.cube, "relativity": 0,
            "filter": {"memory": {"like": "hidden"}}})),
    ]
    "POST /product/feedback" Write [
        |n| at("/product/feedback").with(json!({"user_id": n.user, "writable_cube_ids": [n.cube], "history": [],
            "feedback_content": "The place is another one.", "async_mode": "sync", "corrected_answer": true})),
        |n| at("/product/feedback").with(json!({"user_id": n.user, "history": [], "feedback_content": "It is not so.",
            "retrieved_memory_ids": [n.memory]})),
    ]
    "POST /product/get_memory" Read [
        |n| at("/product/get_memory").with(json!({"mem_cube_id": n.cube})),
        |n| at("/product/get_memory").with(json!({"mem_cube_id": n.cube, "user_id": n.user, "page": 1, "page_size": 1})),
    ]
    "GET /product/get_memory/{memory_id}" Read [|n| at(format!("/product/get_memory/{}", n.memory))]
    "POST /product/get_memory_by_ids" Read [|n| at("/product/get_memory_by_ids").with(json!([n.memory]))]
    "POST /product/get_memory_dashboard" Read [
        |n| at("/product/get_memory_dashboard").with(json!({"mem_cube_id": n.cube})),
        |n| at("/product/get_memory_dashboard").with(json!({"mem_cube_id": n.cube, "user_id": n.user})),
        |n| at("/product/get_memory_dashboard").with(json!({"user_id": n.user})),
        |_| at("/product/get_memory_dashboard").with(json!({})),
    ]
    "POST /product/get_all" Read [
        |n| at("/product/get_all").with(json!({"user_id": n.user, "memory_type": "text_mem", "mem_cube_ids": [n.cube]})),
        |n| at("/product/get_all").with(json!({"user_id": n.user, "memory_type": "text_mem", "mem_cube_ids": [n.cube],
            "search_query": "hidden", "search_type": "fulltext"})),
        |n| at("/product/get_all").with(json!({"user_id": n.user, "memory_type": "text_mem", "mem_cube_ids": [n.cube],
            "search_query": "hidden place", "search_type": "embedding"})),
    ]
    "POST /product/delete_memory" Write [
        |n| at("/product/delete_memory").with(json!({"memory_ids": [n.memory]})),
        |n| at("/product/delete_memory").with(json!({"memory_ids": [n.memory], "writable_cube_ids": [n.cube]})),
        |n| at("/product/delete_memory").with(json!({"filter": {"memory": {"like": "hidden"}}, "writable_cube_ids": [n.cube]})),
        |n| at("/product/delete_memory").with(json!({"user_id": n.user})),
        |n| at("/product/delete_memory").with(json!({"session_id": n.session})),
        |_| at("/product/delete_memory").with(json!({"filter": {"memory": {"like": "hidden"}}})),
        |_| at("/product/delete_memory").with(json!({"file_ids": ["hidden.txt"]})),
    ]
    "POST /product/delete_memory_by_record_id" Write [
        |n| at("/product/delete_memory_by_record_id").with(json!({"mem_cube_id": n.cube, "record_id": "gone"})),
        |n| at("/product/delete_memory_by_record_id").with(json!({"mem_cube_id": n.cube, "record_id": "gone",
            "hard_delete": true})),
    ]
    "POST /product/recover_memory_by_record_id" Write [
        |n| at("/product/recover_memory_by_record_id").with(json!({"mem_cube_id": n.cube, "delete_record_id": "gone"})),
    ]
    "POST /product/create_cube" Write [
        |n| at("/product/create_cube").with(json!({"cube_name": "mine", "owner_id": n.user, "cube_id": n.cube})),
    ]
    "POST /product/register_cube" Write [
        |n| at("/product/register_cube").with(json!({"mem_cube_name_or_path": n.cube, "user_id": n.user})),
        |n| at("/product/register_cube").with(json!({"mem_cube_name_or_path": "x", "mem_cube_id": n.cube})),
    ]
    "POST /product/exist_mem_cube_id" Read [|n| at("/product/exist_mem_cube_id").with(json!({"mem_cube_id": n.cube}))]
    "POST /product/get_user_names_by_memory_ids" Read [
        |n| at("/product/get_user_names_by_memory_ids").with(json!({"memory_ids": [n.memory]})),
    ]
    "POST /product/chat/complete" Read [
        |n| at("/product/chat/complete").with(about_cube(n)),
        |n| at("/product/chat/complete").with(about_user(n)),
        |n| at("/product/chat/complete").with(read_only(n)),
    ]
    "POST /product/chat/stream" Read [
        |n| at("/product/chat/stream").with(about_cube(n)),
        |n| at("/product/chat/stream").with(about_user(n)),
        |n| at("/product/chat/stream").with(read_only(n)),
    ]
    "POST /product/chat/stream/playground" Read [
        |n| at("/product/chat/stream/playground").with(about_cube(n)),
        |n| at("/product/chat/stream/playground").with(about_user(n)),
        |n| at("/product/chat/stream/playground").with(read_only(n)),
    ]
    "POST /product/chat/stream/business_user" Read [
        |n| business(about_cube(n)),
        |n| business(about_user(n)),
        |n| business(read_only(n)),
    ]
    "POST /product/suggestions" Read [
        |n| at("/product/suggestions").with(json!({"user_id": n.user, "mem_cube_id": n.cube, "language": "en"})),
    ]
    "GET /product/scheduler/status" Read [
        |n| at(format!("/product/scheduler/status?user_id={}", n.user)),
        |n| at(format!("/product/scheduler/status?user_id={}&task_id={}", n.user, n.task)),
    ]
    "GET /product/scheduler/allstatus" Read [|_| at("/product/scheduler/allstatus")]
    "GET /product/scheduler/task_queue_status" Read [
        |n| at(format!("/product/scheduler/task_queue_status?user_id={}", n.user)),
    ]
    "POST /product/scheduler/wait" Read [
        |n| at(format!("/product/scheduler/wait?user_name={}&timeout_seconds=0", n.user)),
    ]
    "GET /product/scheduler/wait/stream" Read [
        |n| at(format!("/product/scheduler/wait/stream?user_name={}&timeout_seconds=0", n.user)),
    ]
    "POST /dream/trigger/cube" Write [
        |n| at(format!("/dream/trigger/cube?cube_id={}", n.cube)),
        |n| at(format!("/dream/trigger/cube?cube_id={}&user_id={}", n.cube, n.user)),
    ]
    "GET /dream/diary/health" Read [|_| at("/dream/diary/health")]
    "POST /dream/diary" Read [|n| at("/dream/diary").with(json!({"cube_id": n.cube}))]
};
