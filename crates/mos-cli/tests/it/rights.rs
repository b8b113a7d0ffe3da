//! Who may do what with a cube, and what users are.

use serde_json::json as object;

use crate::{failure, json, stdout};

#[test]
fn a_cube_that_is_shared_for_reading_is_searched_and_not_written_to() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    stdout(data, &["add", "the cat sleeps", "--user", "ann", "--cube", "home"]);
    stdout(data, &["user", "create", "bob"]);
    let told = stdout(data, &["cube", "share", "home", "bob", "--read-only", "--user", "ann"]);
    assert!(told.contains("`bob` may now read `home`"), "{told}");
    assert_eq!(json(data, &["search", "cat", "--user", "bob"])["text_mem"][0]["cube_id"], "home");
    let refused = failure(data, &["add", "the cat wakes", "--user", "bob", "--cube", "home"]);
    assert!(refused.contains("ask its owner to share it"), "{refused}");
    let shares = |access: &str| object!([{"user_id": "ann", "access": "owner"}, {"user_id": "bob", "access": access}]);
    assert_eq!(json(data, &["cube", "shares", "home", "--user", "ann"]), shares("reader"));
    failure(data, &["cube", "shares", "home", "--user", "bob"]);
    let told = json(data, &["cube", "share", "home", "bob", "--access", "write", "--user", "ann"]);
    assert_eq!(told, object!({"shared": "home", "with": "bob", "access": "member"}));
    stdout(data, &["add", "the cat wakes", "--user", "bob", "--cube", "home"]);
    stdout(data, &["cube", "share", "home", "bob", "--access", "read", "--user", "ann"]);
    assert_eq!(json(data, &["cube", "shares", "home", "--user", "ann"]), shares("reader"));
}

#[test]
fn a_share_is_taken_back_by_the_owner_or_given_back() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    stdout(data, &["add", "the cat sleeps", "--user", "ann", "--cube", "home"]);
    stdout(data, &["user", "create", "bob"]);
    let reads = ["search", "cat", "--user", "bob", "--cube", "home"];
    for who in ["ann", "bob"] {
        stdout(data, &["cube", "share", "home", "bob", "--user", "ann"]);
        stdout(data, &reads);
        let told = stdout(data, &["cube", "unshare", "home", "bob", "--user", who]);
        assert!(told.contains("`bob` may no longer use `home`"), "{told}");
        failure(data, &reads);
    }
    failure(data, &["cube", "unshare", "home", "ann", "--user", "ann"]);
    let misspelt = failure(data, &["cube", "unshare", "home", "bbo", "--user", "ann"]);
    assert!(misspelt.contains("`bbo` has no right to `home`"), "{misspelt}");
    assert_eq!(json(data, &["search", "cat", "--user", "ann"])["text_mem"][0]["cube_id"], "home");
}

#[test]
fn a_user_has_a_role_that_can_be_changed_and_an_info() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    stdout(data, &["add", "the cat sleeps", "--user", "ann", "--cube", "home"]);
    assert_eq!(json(data, &["user", "role", "ann", "guest"])["role"], "GUEST");
    let info = json(data, &["user", "info", "ann"]);
    assert_eq!((&info["role"], &info["accessible_cubes"][0]["access"]), (&object!("GUEST"), &object!("reader")));
    let refused = failure(data, &["add", "the cat wakes", "--user", "ann", "--cube", "home"]);
    assert!(refused.contains("GUEST"), "{refused}");
    stdout(data, &["user", "role", "ann", "user"]);
    stdout(data, &["add", "the cat wakes", "--user", "ann", "--cube", "home"]);
    let told = stdout(data, &["user", "info", "--user", "ann"]);
    assert!(told.contains("home\towner\towner ann\tregistered"), "{told}");
    let unknown = failure(data, &["user", "role", "ann", "root"]);
    assert!(unknown.contains("use admin, user or guest"), "{unknown}");
    failure(data, &["user", "role", "root", "user"]);
}
