//! Keys and users, administered over HTTP.

use mos::keys::NewKey;
use mos_core::users::ROOT_USER;
use mos_core::{KeyScope, UserId, UserRole};
use reqwest::Method;
use serde_json::{Value, json};

use crate::guarded::Guarded;

#[tokio::test]
async fn a_key_is_made_shown_once_and_listed() {
    let house = Guarded::open().await;
    let asked =
        json!({"user_name": "ann", "description": "for the phone", "expires_in_days": 30, "scopes": ["read", "write"]});
    let (status, made) = house.post("/admin/keys", &house.root, asked).await;
    assert_eq!(status, 200, "{made}");
    let key = made["key"].as_str().unwrap();
    assert!(key.starts_with("krlk_") && key.len() == 69);
    assert_eq!(made["key_prefix"], json!(key[..12]));
    assert_eq!((&made["user_name"], &made["scopes"]), (&json!("ann"), &json!(["read", "write"])));
    let (_, listed) = house.get("/admin/keys?user_name=ann", &house.root).await;
    let keys = listed["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 1);
    let expected = json!({
        "id": made["id"], "key_prefix": made["key_prefix"], "user_name": "ann", "scopes": ["read", "write"], "cubes": null,
        "description": "for the phone", "created_at": "2026-01-02T03:04:05.000000+00:00", "last_used_at": null,
        "expires_at": "2026-02-01T03:04:05.000000+00:00", "is_active": true,
    });
    assert_eq!(keys[0], expected);
    let (_, all) = house.get("/admin/keys", &house.root).await;
    assert_eq!(all["keys"].as_array().unwrap().len(), 2, "that of the first start as well");
    let (status, unnamed) = house.get("/admin/keys?user_name=", &house.root).await;
    assert_eq!((status, unnamed["keys"].as_array().unwrap().len()), (200, 2), "nobody is named");
    let (_, programs) = house.get("/admin/keys?user_name=*", &house.root).await;
    assert_eq!(programs["keys"].as_array().unwrap().len(), 1);
    house.close().await;
}

#[tokio::test]
async fn a_key_reads_when_nothing_else_is_asked_for() {
    let house = Guarded::open().await;
    let (_, made) = house.post("/admin/keys", &house.root, json!({"user_name": "ann"})).await;
    assert_eq!(made["scopes"], json!(["read"]));
    let (_, made) = house.post("/admin/keys", &house.root, json!({"user_name": "*", "scopes": ["all"]})).await;
    assert_eq!(made["scopes"], json!(["read", "write", "admin"]));
    assert!(made["key"].as_str().unwrap().starts_with("mk_"));
    house.close().await;
}

#[tokio::test]
async fn what_a_key_cannot_be_is_told_with_its_place() {
    let house = Guarded::open().await;
    let cases = [
        (json!({}), "user_name", "missing"),
        (json!({"user_name": ""}), "user_name", "string_too_short"),
        (json!({"user_name": "x".repeat(256)}), "user_name", "string_too_long"),
        (json!({"user_name": "ann", "description": "x".repeat(501)}), "description", "string_too_long"),
        (json!({"user_name": "ann", "expires_in_days": 0}), "expires_in_days", "greater_than_equal"),
        (json!({"user_name": "ann", "expires_in_days": 366}), "expires_in_days", "less_than_equal"),
        (json!({"user_name": "ann", "scopes": ["fly"]}), "scopes", "literal_error"),
    ];
    for (body, place, kind) in cases {
        let (status, answer) = house.post("/admin/keys", &house.root, body.clone()).await;
        assert_eq!(status, 422, "{body}: {answer}");
        assert_eq!(
            (&answer["detail"][0]["loc"], &answer["detail"][0]["type"]),
            (&json!(["body", place]), &json!(kind))
        );
    }
    let bad = json!({"user_name": "ann", "scopes": ["admin"], "cubes": ["notes"]});
    assert_eq!(house.post("/admin/keys", &house.root, bad).await.0, 400, "administration is not about some cubes");
    let none = json!({"user_name": "ann", "scopes": []});
    assert_eq!(house.post("/admin/keys", &house.root, none).await.0, 400);
    house.close().await;
}

#[tokio::test]
async fn a_key_that_is_not_there_cannot_be_revoked() {
    let house = Guarded::open().await;
    let (status, body) = house.ask(Method::DELETE, "/admin/keys/nothing", &house.root, Value::Null).await;
    assert_eq!((status, &body["code"]), (404, &json!(404)));
    let (_, made) = house.post("/admin/keys", &house.root, json!({"user_name": "ann"})).await;
    let path = format!("/admin/keys/{}", made["id"].as_str().unwrap());
    let (status, body) = house.ask(Method::DELETE, &path, &house.root, Value::Null).await;
    assert_eq!((status, &body["success"]), (200, &json!(true)));
    let (_, listed) = house.get("/admin/keys?user_name=ann", &house.root).await;
    assert_eq!(listed["keys"][0]["is_active"], json!(false));
    house.close().await;
}

#[tokio::test]
async fn users_are_made_listed_changed_and_deleted() {
    let house = Guarded::open().await;
    let (status, made) = house.post("/admin/users", &house.root, json!({"user_id": "ann", "user_name": "Ann"})).await;
    assert_eq!((status, &made["user"]["role"]), (200, &json!("USER")));
    let change = json!({"role": "guest"});
    let (status, changed) = house.ask(Method::PUT, "/admin/users/ann/role", &house.root, change).await;
    assert_eq!((status, &changed["user"]["role"]), (200, &json!("GUEST")));
    let (_, listed) = house.get("/admin/users?limit=1", &house.root).await;
    assert_eq!((&listed["users"][0]["user_id"], &listed["total"]), (&json!("root"), &json!(2)));
    let (_, rest) = house.get("/admin/users?limit=1&offset=1", &house.root).await;
    assert_eq!(rest["users"][0]["user_name"], json!("Ann"));
    let (status, _) = house.ask(Method::DELETE, "/admin/users/ann", &house.root, Value::Null).await;
    assert_eq!(status, 200);
    assert!(!house.app.mos().has_user(&UserId::new("ann")).await.unwrap());
    let (status, _) = house.ask(Method::DELETE, "/admin/users/root", &house.root, Value::Null).await;
    assert_eq!(status, 400, "root stays");
    let (status, _) = house.post("/admin/users", &house.root, json!({"user_id": "eve", "role": "king"})).await;
    assert_eq!(status, 422);
    house.close().await;
}

#[tokio::test]
async fn a_users_key_administers_as_far_as_its_users_role_goes() {
    let house = Guarded::open().await;
    let root = UserId::new(ROOT_USER);
    house.app.mos().create_user_as(&root, "adam", None, UserRole::Admin).await.unwrap();
    let all = |user: &str| NewKey { scopes: KeyScope::ALL.into(), ..NewKey::user(user) };
    let (adam, ann) = (house.key(all("adam")).await, house.key(all("ann")).await);
    assert_eq!(house.get("/admin/keys", &ann).await.0, 403, "the scope alone makes no administrator");
    assert_eq!(house.get("/admin/keys", &adam).await.0, 200);
    assert_eq!(house.post("/admin/keys", &adam, json!({"user_name": "ann"})).await.0, 200);
    for user in ["*", "root"] {
        let (status, body) = house.post("/admin/keys", &adam, json!({"user_name": user})).await;
        assert_eq!(status, 403, "{user}: {body}");
    }
    assert_eq!(house.post("/admin/generate-master-key", &adam, Value::Null).await.0, 403);
    let change = json!({"role": "ADMIN"});
    assert_eq!(house.ask(Method::PUT, "/admin/users/ann/role", &adam, change).await.0, 403);
    house.close().await;
}
