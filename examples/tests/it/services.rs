//! Examples that serve others.

use crate::{assert_told, run_fresh};

#[test]
fn saas_backend() {
    let out = run_fresh("saas_backend", &["--check"], "");
    assert_told(
        &out,
        &[
            "401 /search ",
            "401 /users ",
            "403 /search ",
            "403 /share ",
            "200 /chat ",
            "in the blue notebook",
            "All answers were as they should be.",
        ],
    );
    let users: Vec<&str> = out.lines().filter(|line| line.starts_with("200 /users ")).collect();
    assert_eq!(users, ["200 /users (a key)"; 2], "keys are not shown: {out}");
}
