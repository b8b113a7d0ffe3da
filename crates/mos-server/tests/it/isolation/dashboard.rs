//! What the page asks.

use serde_json::json;

use super::asked::{Asked, Named, Need, Operation, at, operations};

/// A request of the page about a cube, as a user.
fn of_cube(n: &Named, path: &str) -> Asked {
    at(format!("/dashboard/api/{path}?user_id={}&cube={}", n.user, n.cube))
}

fn of_memory(n: &Named, more: &str) -> Asked {
    of_cube(n, &format!("memories/{}{more}", n.memory))
}

pub(super) const OPERATIONS: &[Operation] = operations! {
    "GET /dashboard/api/session" Read [|n| at(format!("/dashboard/api/session?user_id={}", n.user))]
    "POST /dashboard/api/cubes" Write [
        |n| at(format!("/dashboard/api/cubes?user_id={}", n.user)).with(json!({"cube_id": n.cube, "name": "mine"})),
    ]
    "GET /dashboard/api/memories" Read [|n| of_cube(n, "memories")]
    "POST /dashboard/api/memories" Write [|n| of_cube(n, "memories").with(json!({"text": "It was put here."}))]
    "GET /dashboard/api/memories/{id}" Read [|n| of_memory(n, "")]
    "PUT /dashboard/api/memories/{id}" Write [|n| of_memory(n, "").with(json!({"text": "It was taken away."}))]
    "DELETE /dashboard/api/memories/{id}" Write [|n| of_memory(n, "")]
    "GET /dashboard/api/memories/{id}/history" Read [|n| of_memory(n, "/history")]
    "POST /dashboard/api/memories/{id}/undo" Write [|n| of_memory(n, "/undo")]
    "POST /dashboard/api/memories/{id}/release" Write [
        |n| of_cube(n, &format!("memories/{}/release", n.apart)),
    ]
    "GET /dashboard/api/quarantine" Read [|n| of_cube(n, "quarantine")]
    "POST /dashboard/api/search" Read [
        |n| at(format!("/dashboard/api/search?user_id={}", n.user))
            .with(json!({"query": "hidden place", "cubes": [n.cube], "preferences": true})),
        |n| at(format!("/dashboard/api/search?user_id={}", n.user)).with(json!({"query": "hidden place"})),
    ]
    "GET /dashboard/api/graph" Read [
        |n| of_cube(n, "graph"),
        |n| at(format!("/dashboard/api/graph?user_id={}&cube={}&center={}&depth=2", n.user, n.cube, n.memory)),
    ]
    "GET /dashboard/api/preferences" Read [|n| of_cube(n, "preferences")]
    "GET /dashboard/api/scheduler" Read [|n| of_cube(n, "scheduler")]
    "POST /dashboard/api/scheduler/retry" Write [|n| of_cube(n, "scheduler/retry").with(json!({"ids": [n.task]}))]
    "GET /dashboard/api/events" Read [|n| of_cube(n, "events")]
    "GET /dashboard/api/events/stream" Read [|n| of_cube(n, "events/stream")]
    "GET /dashboard/api/caches" Read [|n| of_cube(n, "caches")]
    "GET /dashboard/api/usage" Read [|n| at(format!("/dashboard/api/usage?user_id={}", n.user))]
};
