//! The scripts that the server runs.

use redis::Script;

/// Joins a script with what all share. The flags say when the server refuses to begin: a script that began ends.
macro_rules! script {
    ($name:literal, $flags:literal) => {
        Script::new(concat!("#!lua", $flags, "\n", include_str!("scripts/prelude.lua"), include_str!($name)))
    };
}

/// Refused when the server's memory is full, or it is a read-only copy.
macro_rules! adding {
    ($name:literal) => {
        script!($name, "")
    };
}

/// Goes on when memory is full, because it ends in less being used.
macro_rules! draining {
    ($name:literal) => {
        script!($name, " flags=allow-oom")
    };
}

macro_rules! reading {
    ($name:literal) => {
        script!($name, " flags=no-writes")
    };
}

pub(super) struct Scripts {
    pub(super) push: Script,
    pub(super) claim: Script,
    pub(super) claim_following: Script,
    pub(super) extend: Script,
    pub(super) complete: Script,
    pub(super) release: Script,
    pub(super) fail: Script,
    pub(super) find: Script,
    pub(super) remove: Script,
    pub(super) dead: Script,
    pub(super) retry_dead: Script,
    pub(super) stats: Script,
    pub(super) tenants: Script,
    pub(super) remove_tenant: Script,
    pub(super) next_ready: Script,
    pub(super) archived: Script,
    pub(super) archived_finished: Script,
    pub(super) import_finished: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            push: adding!("scripts/push.lua"),
            claim: draining!("scripts/claim.lua"),
            claim_following: draining!("scripts/claim_following.lua"),
            extend: draining!("scripts/extend.lua"),
            complete: draining!("scripts/complete.lua"),
            release: draining!("scripts/release.lua"),
            fail: draining!("scripts/fail.lua"),
            find: reading!("scripts/find.lua"),
            remove: draining!("scripts/remove.lua"),
            dead: reading!("scripts/dead.lua"),
            retry_dead: adding!("scripts/retry_dead.lua"),
            stats: reading!("scripts/stats.lua"),
            tenants: reading!("scripts/tenants.lua"),
            remove_tenant: draining!("scripts/remove_tenant.lua"),
            next_ready: reading!("scripts/next_ready.lua"),
            archived: reading!("scripts/archived.lua"),
            archived_finished: reading!("scripts/archived_finished.lua"),
            import_finished: adding!("scripts/import_finished.lua"),
        }
    }
}
