//! The tools, and the route that they are called by.

use serde_json::json;

use super::OTHER;
use super::asked::{Asked, Named, Need, Operation, arguments, operations};

/// A tool about one memory.
fn of_memory(n: &Named) -> Asked {
    arguments(json!({"user_id": n.user, "cube_id": n.cube, "memory_id": n.memory}))
}

fn of_cube(n: &Named) -> Asked {
    arguments(json!({"user_id": n.user, "cube_id": n.cube}))
}

pub(super) const OPERATIONS: &[Operation] = operations! {
    "POST /mcp" Read [|_| arguments(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}))]
    "tool chat" Read [
        |n| arguments(json!({"query": "Where is the hidden place?", "user_id": n.user, "cube_ids": [n.cube],
            "session_id": n.session})),
        |n| arguments(json!({"query": "Where is the hidden place?", "user_id": n.user, "session_id": n.session})),
    ]
    "tool search_memories" Read [
        |n| arguments(json!({"query": "hidden place", "user_id": n.user, "cube_ids": [n.cube], "explain": true})),
        |n| arguments(json!({"query": "hidden place", "user_id": n.user, "top_k": 100})),
        |n| arguments(json!({"query": "hidden place", "cube_ids": [n.cube]})),
    ]
    "tool add_memory" Write [
        |n| arguments(json!({"memory_content": "It was put here.", "user_id": n.user, "cube_id": n.cube})),
        |n| arguments(json!({"messages": [{"role": "user", "content": "It came later."}], "cube_id": n.cube})),
    ]
    "tool get_memory" Read [of_memory, |n| arguments(json!({"cube_id": n.cube, "memory_id": n.memory}))]
    "tool memory_history" Read [of_memory, |n| arguments(json!({"cube_id": n.cube, "memory_id": n.memory}))]
    "tool update_memory" Write [
        |n| arguments(json!({"user_id": n.user, "cube_id": n.cube, "memory_id": n.memory,
            "memory_content": "It was taken away."})),
    ]
    "tool undo_memory" Write [of_memory, |n| arguments(json!({"cube_id": n.cube, "memory_id": n.memory}))]
    "tool delete_memory" Write [of_memory, |n| arguments(json!({"cube_id": n.cube, "memory_id": n.memory}))]
    "tool delete_all_memories" Write [of_cube, |n| arguments(json!({"cube_id": n.cube}))]
    "tool clear_chat_history" Write [|n| arguments(json!({"user_id": n.user}))]
    "tool create_cube" Write [
        |n| arguments(json!({"cube_name": "mine", "owner_id": n.user, "cube_id": n.cube})),
    ]
    "tool register_cube" Write [|n| arguments(json!({"cube_name_or_path": n.cube, "user_id": n.user}))]
    "tool unregister_cube" Write [of_cube, |n| arguments(json!({"cube_id": n.cube}))]
    "tool dump_cube" Write [
        |n| arguments(json!({"dump_dir": "copy", "user_id": n.user, "cube_id": n.cube})),
        |n| arguments(json!({"dump_dir": "copy-2", "cube_id": n.cube})),
    ]
    "tool share_cube" Write [
        |n| arguments(json!({"cube_id": n.cube, "user_id": n.user, "target_user_id": OTHER})),
        |n| arguments(json!({"cube_id": n.cube, "target_user_id": OTHER, "access": "read"})),
    ]
    // Who was given a cube may give it back: the right of somebody else is taken.
    "tool unshare_cube" Write [
        |n| arguments(json!({"cube_id": n.cube, "user_id": n.user, "target_user_id": "mildred"})),
        |n| arguments(json!({"cube_id": n.cube, "target_user_id": "mildred"})),
    ]
    "tool get_user_info" Read [|n| arguments(json!({"user_id": n.user}))]
    "tool list_cubes" Read [|n| arguments(json!({"user_id": n.user}))]
    "tool create_user" Admin [|n| arguments(json!({"user_id": format!("new-{}", n.user), "role": "ADMIN"}))]
    "tool control_memory_scheduler" Admin [|_| arguments(json!({"action": "stop"}))]
};
