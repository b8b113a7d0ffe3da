//! How cubes come and go, while their memories are in another store.
//!
//! Every step that concerns both stores is announced in the cube's `phase` first, and that is committed; then the
//! record is told, under the lock of the cube's row; then the row says that it is done. Whatever breaks off is found by
//! its phase and finished by whoever comes next:
//!
//! - `making`: nobody sees the cube. Left over, its memories are closed and it goes.
//! - `deleting`: nobody sees the cube any more. Left over, its memories are erased and it goes.
//! - `discarding`: everybody sees the cube, but first settles whether it goes.
//!
//! Invariant: the record is told only under the lock of a row of the phase and the generation that are meant. Should
//! the lock be lost while the record works, the generation keeps it from touching a later cube.

use std::time::Duration;

use mos_core::{Cube, CubeId, Scope, ScopeLifecycle, StoreError};
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{Postgres, Row, Transaction, query, query_as, query_scalar};

use super::fault::Fault;
use super::users::{MAX_ATTEMPTS, not_found, unsettled};

/// The most unfinished cubes that one call finishes.
const MAX_LEFT_OVER: i64 = 100;

/// After so many that cannot be finished a call tries no more of them: the record is away.
const MAX_FAILURES: usize = 3;

/// How long a call waits before it looks again whether somebody else has made a cube. All attempts together wait longer
/// than a claim is taken for a living one.
const PAUSE: Duration = Duration::from_millis(100);

/// What became of a cube that was not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// It is gone.
    Gone,
    /// It is ready, with its memories.
    Ready,
    /// There was nothing to settle, or somebody else does it.
    Untouched,
}

/// Whom to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// For whoever works on the cube.
    ForOthers,
    /// For nobody: what somebody works on is not left over.
    Never,
}

/// Who may own a new cube, or be given a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Eligible {
    /// Users who are active.
    Active,
    /// Also those who were deactivated: cubes and shares come from another store as they are there.
    Any,
}

/// The cubes of a database and the record of their memories.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifecycle<'a> {
    pub(super) pool: &'a PgPool,
    pub(super) record: &'a dyn ScopeLifecycle,
}

/// What a claim found.
enum Claim {
    /// The id is ours, of this generation, and nobody sees it yet.
    Made(i64),
    /// Somebody else makes a cube of this id just now.
    BeingMade,
    /// Somebody is about to remove the cube of this generation that has the id.
    Unsettled(i64),
    /// The row is gone by now.
    Gone,
}

/// What became of a claim.
enum Published {
    /// The cube is seen, and its memories can be written.
    Ready,
    /// Somebody took the claim for a left-over one.
    Taken,
    /// The memories belong to a cube that was made later.
    Late,
}

fn as_generation(number: i64) -> u64 {
    number.unsigned_abs()
}

impl Lifecycle<'_> {
    pub(super) async fn create(&self, cube: &Cube, owner: Eligible) -> Result<(), Fault> {
        let (id, scope) = (&cube.cube_id, Scope::of(&cube.cube_id));
        for _ in 0..MAX_ATTEMPTS {
            // The server's clock alone could be behind the one that has numbered an earlier cube.
            let known = self.record.generation(&scope).await?;
            let generation = match self.claim(cube, owner, known).await? {
                Claim::Made(generation) => generation,
                Claim::BeingMade => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Claim::Unsettled(generation) => {
                    self.settle(id, generation, Wait::ForOthers).await?;
                    continue;
                }
                Claim::Gone => continue,
            };
            match self.publish(cube, generation).await {
                Ok(Published::Ready) => return Ok(()),
                Ok(Published::Taken) => {}
                Ok(Published::Late) => drop(self.settle(id, generation, Wait::ForOthers).await?),
                Err(fault) => return self.abandon(cube, generation, fault).await,
            }
        }
        Err(unsettled("cube", id.as_str()))
    }

    /// Takes the id, unless a cube has it that is seen.
    ///
    /// `known` is the generation that the record has seen last.
    async fn claim(&self, cube: &Cube, owner: Eligible, known: u64) -> Result<Claim, Fault> {
        let least = i64::try_from(known).unwrap_or(i64::MAX).saturating_add(1);
        let mut transaction = self.pool.begin().await?;
        // The owner stays active until the claim stands.
        let owner: Option<i32> = query_scalar("SELECT 1 FROM users WHERE user_id = $1 AND (is_active OR $2) FOR SHARE")
            .bind(cube.owner_id.as_str())
            .bind(owner == Eligible::Any)
            .fetch_optional(&mut *transaction)
            .await?;
        if owner.is_none() {
            return Err(not_found("user", cube.owner_id.as_str()));
        }
        let claim = match insert(&mut transaction, cube, least).await? {
            Some(generation) => Claim::Made(generation),
            None => take_over(&mut transaction, cube, least).await?,
        };
        if matches!(claim, Claim::Made(_)) {
            transaction.commit().await?;
        } else {
            transaction.rollback().await?;
        }
        Ok(claim)
    }

    /// Opens the memories and lets the cube be seen.
    async fn publish(&self, cube: &Cube, generation: i64) -> Result<Published, Fault> {
        let mut transaction = self.pool.begin().await?;
        let claimed: Option<i32> =
            query_scalar("SELECT 1 FROM cubes WHERE cube_id = $1 AND generation = $2 AND phase = 'making' FOR UPDATE")
                .bind(cube.cube_id.as_str())
                .bind(generation)
                .fetch_optional(&mut *transaction)
                .await?;
        if claimed.is_none() {
            return Ok(Published::Taken);
        }
        // Whatever stands under this id without a cube must never become the new owner's.
        match self.record.open_scope(&Scope::of(&cube.cube_id), as_generation(generation)).await {
            Ok(()) => {}
            Err(StoreError::Conflict(_)) => {
                transaction.rollback().await?;
                return Ok(Published::Late);
            }
            Err(error) => return Err(given_up(transaction, error).await),
        }
        query("UPDATE cubes SET phase = 'ready' WHERE cube_id = $1")
            .bind(cube.cube_id.as_str())
            .execute(&mut *transaction)
            .await?;
        query(
            "INSERT INTO user_cube_association (user_id, cube_id, created_at)
             VALUES ($1, $2, now() AT TIME ZONE 'UTC') ON CONFLICT DO NOTHING",
        )
        .bind(cube.owner_id.as_str())
        .bind(cube.cube_id.as_str())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Published::Ready)
    }

    /// Takes a claim back after `fault`, unless the cube is ready after all: the answer may have been lost, not the
    /// transaction.
    async fn abandon(&self, cube: &Cube, generation: i64, fault: Fault) -> Result<(), Fault> {
        match self.take_back(&cube.cube_id, generation).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(fault),
            Err(error) => {
                tracing::warn!(cube = %cube.cube_id, ?error, "a cube that could not be made is left for the next call");
                Err(fault)
            }
        }
    }

    /// Returns whether the cube is ready, after its claim was taken back if it was not.
    async fn take_back(&self, id: &CubeId, generation: i64) -> Result<bool, Fault> {
        for _ in 0..MAX_ATTEMPTS {
            let phase: Option<String> = query_scalar("SELECT phase FROM cubes WHERE cube_id = $1 AND generation = $2")
                .bind(id.as_str())
                .bind(generation)
                .fetch_optional(self.pool)
                .await?;
            match phase.as_deref() {
                Some("ready") => return Ok(true),
                // Should it not be found there, the server was still busy with the transaction whose answer was lost.
                Some("making") if self.settle(id, generation, Wait::ForOthers).await? == Settled::Untouched => {}
                _ => return Ok(false),
            }
        }
        Err(unsettled("cube", id.as_str()))
    }

    pub(super) async fn delete(&self, id: &CubeId) -> Result<(), Fault> {
        let mut transaction = self.pool.begin().await?;
        // A deletion that broke off goes on.
        let marked: Option<i64> = query_scalar(
            "UPDATE cubes SET phase = 'deleting', updated_at = now() AT TIME ZONE 'UTC'
             WHERE cube_id = $1 AND is_active AND phase <> 'making' RETURNING generation",
        )
        .bind(id.as_str())
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(generation) = marked else { return Err(not_found("cube", id.as_str())) };
        query("DELETE FROM user_cube_association WHERE cube_id = $1")
            .bind(id.as_str())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        self.settle(id, generation, Wait::ForOthers).await.map(drop)
    }

    /// Returns whether the cube was removed.
    pub(super) async fn discard(&self, id: &CubeId) -> Result<bool, Fault> {
        let marked: Option<i64> = query_scalar(
            "UPDATE cubes SET phase = 'discarding'
             WHERE cube_id = $1 AND is_active AND NOT is_registered AND phase IN ('ready', 'discarding')
             RETURNING generation",
        )
        .bind(id.as_str())
        .fetch_optional(self.pool)
        .await?;
        let Some(generation) = marked else { return Ok(false) };
        Ok(self.settle(id, generation, Wait::ForOthers).await? == Settled::Gone)
    }

    /// Finishes what was begun with the cube of this generation.
    pub(super) async fn settle(&self, id: &CubeId, generation: i64, wait: Wait) -> Result<Settled, Fault> {
        macro_rules! unfinished {
            () => {
                "SELECT phase FROM cubes WHERE cube_id = $1 AND generation = $2 AND phase <> 'ready' FOR UPDATE"
            };
        }
        let sql = match wait {
            Wait::ForOthers => unfinished!(),
            Wait::Never => concat!(unfinished!(), " SKIP LOCKED"),
        };
        let mut transaction = self.pool.begin().await?;
        let phase: Option<String> =
            query_scalar(sql).bind(id.as_str()).bind(generation).fetch_optional(&mut *transaction).await?;
        let Some(phase) = phase else { return Ok(Settled::Untouched) };
        let (scope, generation) = (Scope::of(id), as_generation(generation));
        let told = match phase.as_str() {
            "discarding" => self.record.close_empty_scope(&scope, generation).await,
            _ => self.record.close_scope(&scope, generation).await.map(|()| true),
        };
        let goes = match told {
            Ok(goes) => goes,
            Err(error) => return Err(given_up(transaction, error).await),
        };
        if goes {
            remove(&mut transaction, id).await?;
        } else {
            query("UPDATE cubes SET phase = 'ready' WHERE cube_id = $1")
                .bind(id.as_str())
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(if goes { Settled::Gone } else { Settled::Ready })
    }

    /// Finishes what others left; what cannot be finished now is left for the next call.
    pub(super) async fn finish_left_over(&self) -> Result<(), Fault> {
        // A cube that is being made right now has been for less than a minute; whatever the clock says, should it have
        // been set back.
        let left: Vec<(String, i64)> = query_as(
            "SELECT cube_id, generation FROM cubes WHERE phase IN ('deleting', 'discarding') OR (phase = 'making' AND
                 abs(extract(epoch FROM clock_timestamp() AT TIME ZONE 'UTC' - updated_at)) > 60)
             ORDER BY arrival LIMIT $1",
        )
        .bind(MAX_LEFT_OVER)
        .fetch_all(self.pool)
        .await?;
        let mut n_failures = 0;
        for (id, generation) in left {
            let id = CubeId::new(id);
            match self.settle(&id, generation, Wait::Never).await {
                Ok(Settled::Untouched) => {}
                Ok(settled) => tracing::info!(cube = %id, ?settled, "finished what was begun with a cube"),
                Err(error) => {
                    tracing::warn!(cube = %id, ?error, "a cube that is to go could not be removed yet");
                    n_failures += 1;
                }
            }
            if n_failures == MAX_FAILURES {
                break;
            }
        }
        Ok(())
    }
}

/// Ends a transaction during which the record has failed, and returns the failure. Whoever learns of it finds the row
/// free: left to itself, the lock would go a moment later.
async fn given_up(transaction: Transaction<'_, Postgres>, error: StoreError) -> Fault {
    if let Err(left) = transaction.rollback().await {
        tracing::debug!(error = %left, "the server ends a transaction by itself");
    }
    error.into()
}

/// Returns the generation of the new row, `None` when the id has one.
async fn insert(connection: &mut PgConnection, cube: &Cube, least: i64) -> Result<Option<i64>, Fault> {
    let generation = query_scalar(
        "INSERT INTO cubes (cube_id, cube_name, cube_path, owner_id, created_at, updated_at, is_active, created_text,
                            is_registered, config, phase, generation)
         VALUES ($1, $2, $3, $4, now() AT TIME ZONE 'UTC', clock_timestamp() AT TIME ZONE 'UTC', true, $5, $6, $7,
                 'making', greatest($8, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint))
         ON CONFLICT (cube_id) DO NOTHING RETURNING generation",
    )
    .bind(cube.cube_id.as_str())
    .bind(&cube.cube_name)
    .bind(&cube.cube_path)
    .bind(cube.owner_id.as_str())
    .bind(&cube.created_at)
    .bind(cube.is_registered)
    .bind(cube.config.to_string())
    .bind(least)
    .fetch_optional(connection)
    .await?;
    Ok(generation)
}

/// Takes the row of a cube that nobody sees: one that is being deleted, that was begun more than a second ago and never
/// finished, or that MemOS has deleted.
///
/// # Errors
/// [`StoreError::Conflict`] when the cube is there.
async fn take_over(connection: &mut PgConnection, cube: &Cube, least: i64) -> Result<Claim, Fault> {
    let row = query(
        "SELECT phase, is_active, generation,
                abs(extract(epoch FROM clock_timestamp() AT TIME ZONE 'UTC' - updated_at)) < 1 AS is_fresh
         FROM cubes WHERE cube_id = $1 FOR UPDATE",
    )
    .bind(cube.cube_id.as_str())
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(Claim::Gone) };
    let (phase, is_active): (String, bool) = (row.try_get("phase")?, row.try_get("is_active")?);
    match phase.as_str() {
        "discarding" => return Ok(Claim::Unsettled(row.try_get("generation")?)),
        "making" if row.try_get("is_fresh")? => return Ok(Claim::BeingMade),
        "ready" if is_active => {
            return Err(StoreError::Conflict(format!("a cube `{}` exists already", cube.cube_id)).into());
        }
        _ => {}
    }
    query("DELETE FROM user_cube_association WHERE cube_id = $1")
        .bind(cube.cube_id.as_str())
        .execute(&mut *connection)
        .await?;
    let generation = query_scalar(
        "UPDATE cubes SET cube_name = $2, cube_path = $3, owner_id = $4, created_at = now() AT TIME ZONE 'UTC',
             updated_at = clock_timestamp() AT TIME ZONE 'UTC', is_active = true, created_text = $5,
             is_registered = $6, config = $7, phase = 'making',
             arrival = nextval(pg_get_serial_sequence('cubes', 'arrival')),
             generation = greatest(generation + 1, $8, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
         WHERE cube_id = $1 RETURNING generation",
    )
    .bind(cube.cube_id.as_str())
    .bind(&cube.cube_name)
    .bind(&cube.cube_path)
    .bind(cube.owner_id.as_str())
    .bind(&cube.created_at)
    .bind(cube.is_registered)
    .bind(cube.config.to_string())
    .bind(least)
    .fetch_one(connection)
    .await?;
    Ok(Claim::Made(generation))
}

async fn remove(connection: &mut PgConnection, id: &CubeId) -> Result<(), Fault> {
    query("DELETE FROM user_cube_association WHERE cube_id = $1").bind(id.as_str()).execute(&mut *connection).await?;
    query("DELETE FROM cubes WHERE cube_id = $1").bind(id.as_str()).execute(connection).await?;
    Ok(())
}
