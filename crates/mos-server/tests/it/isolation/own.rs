//! What the server tells of itself, and its administration.

use serde_json::json;

use super::asked::{Need, Operation, at, operations};

pub(super) const OPERATIONS: &[Operation] = operations! {
    "GET /health" Open [|_| at("/health")]
    "GET /ready" Open [|_| at("/ready")]
    "GET /admin/health" Open [|_| at("/admin/health")]
    "GET /openapi.json" Open [|_| at("/openapi.json")]
    "GET /docs" Open [|_| at("/docs")]
    "GET /docs/" Open [|_| at("/docs/")]
    "GET /docs/{*rest}" Open [|_| at("/docs/swagger-ui.css")]
    "GET /" Open [|_| at("/")]
    "GET /assets/{*path}" Open [|_| at("/assets/js/app.js")]
    "GET /metrics" Admin [|_| at("/metrics")]
    "POST /admin/keys" Admin [
        |n| at("/admin/keys").with(json!({"user_name": n.user, "scopes": ["all"]})),
        |_| at("/admin/keys").with(json!({"user_name": "*", "scopes": ["read"]})),
    ]
    "GET /admin/keys" Admin [|_| at("/admin/keys"), |n| at(format!("/admin/keys?user_name={}", n.user))]
    "DELETE /admin/keys/{key_id}" Admin [|n| at(format!("/admin/keys/{}", n.key))]
    "POST /admin/generate-master-key" Admin [|_| at("/admin/generate-master-key")]
    "POST /admin/users" Admin [|n| at("/admin/users").with(json!({"user_id": format!("new-{}", n.user)}))]
    "GET /admin/users" Admin [|_| at("/admin/users")]
    "PUT /admin/users/{user_id}/role" Admin [
        |n| at(format!("/admin/users/{}/role", n.user)).with(json!({"role": "GUEST"})),
    ]
    "DELETE /admin/users/{user_id}" Admin [|n| at(format!("/admin/users/{}", n.user))]
    "GET /admin/audit" Admin [|_| at("/admin/audit")]
};
