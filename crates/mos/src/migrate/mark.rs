//! The mark of a cube that is on its way: how far it has come, and what must not happen to it.

use mos_config::Settings;
use mos_core::{Cube, MemoryId, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::builder::redis_place;
use crate::error::{Error, Result};

/// The key of a cube's configuration that says that the cube is on its way.
const MARK: &str = "migration";

/// How far a cube has come. It stands in the configuration of the unfinished cube, which therefore nobody can use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Where the cube comes from.
    pub(super) from: String,
    /// The server of the queue, when it is that of the source, too: the jobs there are still the source's.
    #[serde(default)]
    pub(super) queue: Option<String>,
    /// The source's feed is known up to here.
    pub(super) position: u64,
    /// Memories up to this order have come.
    pub(super) memories: Option<u64>,
    /// Earlier versions up to this one have come.
    pub(super) versions: Option<(MemoryId, u64)>,
    /// Idempotency keys up to this order have come.
    pub(super) keys: Option<u64>,
}

impl Mark {
    pub(super) fn of(config: &Value) -> Option<Self> {
        serde_json::from_value(config.get(MARK)?.clone()).ok()
    }

    pub(super) fn config(&self) -> Value {
        json!({ MARK: self })
    }

    /// Says how the unfinished cube is deleted so that nothing of the source goes with it.
    pub(super) fn how_to_delete(&self) -> String {
        match &self.queue {
            None => "delete the unfinished cube in the target".to_owned(),
            Some(queue) => format!(
                "delete the unfinished cube in the target, with settings whose queue has another prefix: its jobs and documents in \
                 {queue} are those of the source"
            ),
        }
    }
}

/// Refuses a cube that is on its way here: it is not whole.
///
/// # Errors
/// [`StoreError::Conflict`] when it is.
pub(crate) fn check_whole(cube: &Cube) -> std::result::Result<(), StoreError> {
    match Mark::of(&cube.config) {
        None => Ok(()),
        Some(mark) => Err(StoreError::Conflict(format!(
            "cube `{}` is on its way here from {} and not whole yet; run the same `mos migrate` again, which goes on where \
             it stopped, or {}",
            cube.cube_id,
            mark.from,
            mark.how_to_delete()
        ))),
    }
}

/// Refuses to delete a cube that is on its way here while both sides have the queue of these settings: the jobs and documents of
/// the source would go with it.
///
/// # Errors
/// [`Error::Invalid`] when it is so.
pub(crate) fn check_deletable(cube: &Cube, settings: &Settings) -> Result<()> {
    let Some(mark) = Mark::of(&cube.config).filter(|mark| mark.queue.is_some()) else { return Ok(()) };
    if mark.queue != redis_place(settings)? {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "cube `{}` is on its way here from {}; run the same `mos migrate` again, which goes on where it stopped, or {}",
        cube.cube_id,
        mark.from,
        mark.how_to_delete()
    )))
}

#[cfg(test)]
mod tests {
    use mos_config::Setting as _;
    use mos_core::{CubeId, UserId};

    use super::*;

    fn settings(prefix: &str) -> Settings {
        let store = json!({"uri": "bolt://127.0.0.1:9", "user": "neo4j", "password": "x"});
        let queue = json!({"host": "127.0.0.1", "port": 9, "prefix": prefix});
        let both = json!({
            "store": {"backend": "neo4j", "config": store},
            "queue": {"backend": "redis", "config": queue},
        });
        Settings::from_json(&both).unwrap()
    }

    fn cube(config: Value) -> Cube {
        Cube {
            cube_id: CubeId::new("c"),
            cube_name: "c".to_owned(),
            cube_path: None,
            owner_id: UserId::new("ann"),
            created_at: "2026-01-02T00:00:00.000000+00:00".to_owned(),
            is_registered: false,
            config,
        }
    }

    #[test]
    fn half_a_cube_is_not_deleted_with_the_jobs_of_its_source() {
        let (both, other) = (settings("both"), settings("other"));
        let mark = Mark { from: "there".to_owned(), queue: redis_place(&both).unwrap(), ..Mark::default() };
        let half = cube(mark.config());
        let refused = check_deletable(&half, &both).unwrap_err().to_string();
        assert!(refused.contains("another prefix"), "{refused}");
        assert!(check_deletable(&half, &other).is_ok(), "its jobs are elsewhere");
        assert!(check_whole(&half).unwrap_err().to_string().contains("another prefix"));
        let alone = Mark { queue: None, ..mark };
        assert!(check_deletable(&cube(alone.config()), &both).is_ok());
        assert!(check_deletable(&cube(json!({})), &both).is_ok());
    }

    #[test]
    fn marks_of_earlier_programs_are_read() {
        let earlier = json!({"from": "a", "position": 1, "memories": null, "versions": null, "keys": 3});
        let mark = Mark::of(&json!({"migration": earlier})).unwrap();
        assert_eq!((mark.keys, mark.queue), (Some(3), None));
    }
}
