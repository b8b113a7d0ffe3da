//! Moving users, cubes and all that belongs to them from one installation's stores to another's.
//!
//! A cube comes in pages: memories with their embeddings, earlier versions, idempotency keys, edges. Until it is whole it
//! stands unregistered in the target, and its configuration says only how far it has come, so that nobody can use half a
//! cube and whoever was interrupted goes on. In the end both sides are read again and compared. Then comes what waits to be done for
//! the cube, and what the scheduler has noted of it, compared as well; only then the cube is registered. The source is only read.
//!
//! Keys come last, when everything moves: a key opens more than single cubes.
//!
//! Vectors on a Qdrant server follow the record by themselves; they are brought there, and compared, before a cube is done.
//!
//! Not here: caches of activation memory (they are made from the texts anew).

mod arriving;
mod background;
mod digest;
mod endpoint;
mod keys;
mod mark;
mod outbox;
mod pages;
mod plan;

use std::sync::Arc;

use mos_core::{Access, Cube, CubeId, RecordArchive, RecordStore, Scope, UserArchive, UserId, VectorStore};
use mos_stores::QdrantVectors;
use serde::Serialize;

pub use background::Background;
pub use digest::{Contents, Part};
pub use endpoint::{Endpoint, Missing};
pub(crate) use mark::{check_deletable, check_whole};

use crate::error::{Error, Result};
use background::{Brought, Moving};
use digest::contents;
use mark::Mark;
use pages::Copying;
use plan::{Plan, Standing};

/// How often what was written to the source meanwhile is copied before it is given up.
const MAX_ROUNDS: usize = 5;

/// What is to be moved, and how.
#[derive(Clone, Debug, Default)]
pub struct MigrateOptions {
    /// The cubes; empty for all.
    pub cubes: Vec<CubeId>,
    /// Looks what would be moved and whether it can be, and writes nothing.
    pub dry_run: bool,
    /// Moves cubes without their jobs: neither those that wait, nor the dead, nor what is known of those that were done.
    pub leave_jobs: bool,
}

/// Where a migration stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MigrateProgress {
    /// The cube.
    pub cube: String,
    /// Which cube it is, from 1.
    pub number: usize,
    /// How many cubes there are.
    pub n_cubes: usize,
    /// What is being done with it, for example `memories`.
    pub part: &'static str,
    /// How much of that is done.
    pub done: u64,
}

/// Tells how far a migration has come.
pub(crate) struct Tell<'a> {
    report: &'a mut (dyn FnMut(&MigrateProgress) + Send),
    progress: MigrateProgress,
}

impl Tell<'_> {
    fn cube(&mut self, cube: &CubeId, number: usize, n_cubes: usize) {
        self.progress = MigrateProgress { cube: cube.to_string(), number, n_cubes, part: "", done: 0 };
    }

    fn part(&mut self, part: &'static str) {
        (self.progress.part, self.progress.done) = (part, 0);
        (self.report)(&self.progress);
    }

    fn done(&mut self, done: u64) {
        self.progress.done = done;
        (self.report)(&self.progress);
    }
}

/// What became of a cube.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It would be moved.
    ToMove,
    /// It was begun earlier; the rest of it would be moved.
    ToGoOn,
    /// It has come, and both sides were compared.
    Moved,
    /// It was there already, and both sides were compared.
    SameAlready,
}

/// One cube of a migration.
#[derive(Clone, Debug, Serialize)]
pub struct MovedCube {
    /// Its id.
    pub cube: CubeId,
    /// What became of it.
    pub outcome: Outcome,
    /// What it holds; of a cube that would be moved what the source holds.
    pub contents: Contents,
    /// What waits to be done for it, and what the scheduler has noted of it: what has come, or would be moved; when both sides
    /// have one queue, only jobs that it had not got yet. Of a cube that was there already, what had been missing.
    pub background: Background,
    /// Jobs that were left behind, because that was asked for, the target keeps none, or its queue is full.
    pub n_jobs_left: usize,
    /// Documents and entries of logs that were left behind, because the target has no queue to keep them beside.
    pub n_documents_left: u64,
    /// Vectors that the target's Qdrant server holds, equal to those of the record; absent without such a server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_vectors: Option<usize>,
}

/// What a migration has done, or would do.
#[derive(Clone, Debug, Serialize)]
pub struct MigrateReport {
    /// The source, for people.
    pub from: String,
    /// The target, for people.
    pub to: String,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Users that are new in the target.
    pub n_new_users: usize,
    /// Users that were there already. They stay as they are.
    pub n_known_users: usize,
    /// Keys that are new in the target. One that was deleted there earlier is good again.
    pub n_new_keys: usize,
    /// Keys that were there already. They stay as they are, but revoked in the source they are revoked there, too.
    pub n_known_keys: usize,
    /// Keys that stayed behind: only cubes that were chosen moved, the target keeps no keys, or their user is somebody else there
    /// (one of the same id that was made at another time).
    pub n_keys_left: usize,
    /// The cubes, oldest first.
    pub cubes: Vec<MovedCube>,
}

/// Moves users, cubes and all that belongs to them; goes on where an earlier call stopped. Everything is looked at before
/// anything is written.
///
/// # Errors
/// [`Error::Invalid`] when both sides share a store, a store cannot be moved, a cube is not known or has jobs waiting and the target
/// keeps none, or both sides differ in the end; [`StoreError::Conflict`](mos_core::StoreError::Conflict) when the target holds
/// another cube or user of the same id, or a cube is itself on its way; errors of the stores.
pub async fn migrate(
    from: &Endpoint,
    to: &Endpoint,
    options: &MigrateOptions,
    mut report: impl FnMut(&MigrateProgress) + Send,
) -> Result<MigrateReport> {
    from.check_apart(to)?;
    let mut tell = Tell { report: &mut report, progress: MigrateProgress::default() };
    let plan = plan::look(from, to, options, &mut tell).await?;
    let mut done = MigrateReport {
        from: from.name.clone(),
        to: to.name.clone(),
        dry_run: options.dry_run,
        n_new_users: plan.new_users.len(),
        n_known_users: plan.n_known_users,
        n_new_keys: plan.keys.n_new(),
        n_known_keys: plan.keys.n_known,
        n_keys_left: plan.keys.n_left,
        cubes: Vec::new(),
    };
    let Sides { source, target, users } = Sides::of(from, to)?;
    if !options.dry_run {
        move_users(users, &plan).await?;
    }
    let n_cubes = plan.cubes.len();
    for (number, planned) in (1..).zip(plan.cubes) {
        tell.cube(&planned.cube.cube_id, number, n_cubes);
        let moving = Moving::new(from, to, Scope::of(&planned.cube.cube_id), options);
        let n_documents_left = moving.n_documents_left(&mut tell).await?;
        let (outcome, contents, brought) = match planned.standing {
            Standing::Same(contents) if options.dry_run => (Outcome::SameAlready, contents, Brought::default()),
            Standing::Same(contents) => {
                let added = moving.add_missing(&mut tell).await?;
                finish(users, to, &planned.cube, &planned.shares).await?;
                (Outcome::SameAlready, contents, added)
            }
            standing if options.dry_run => {
                tell.part("looking");
                let scope = Scope::of(&planned.cube.cube_id);
                let outcome = if standing == Standing::Absent { Outcome::ToMove } else { Outcome::ToGoOn };
                let contents = contents(source, &scope, &mut tell).await?;
                let background = moving.look(&mut tell).await?;
                (outcome, contents, Brought { background, n_jobs_left: 0 })
            }
            standing => {
                let mark = match standing {
                    Standing::Begun(mark) => mark,
                    _ => {
                        let queue = from.queue_place.clone().filter(|_| from.shares_queue(to));
                        begin(users, source, &planned.cube, Mark { from: from.name.clone(), queue, ..Mark::default() })
                            .await?
                    }
                };
                let scope = Scope::of(&planned.cube.cube_id);
                let cube = &planned.cube.cube_id;
                let users_of_target = to.users.as_ref();
                let copying = Copying { source, target, users: users_of_target, cube, scope, mark };
                let contents = move_cube(copying, &mut tell).await?;
                let brought = moving.bring(&mut tell).await?;
                finish(users, to, &planned.cube, &planned.shares).await?;
                (Outcome::Moved, contents, brought)
            }
        };
        let scope = Scope::of(&planned.cube.cube_id);
        let n_vectors = if options.dry_run { None } else { bring_vectors(to, &scope, &contents, &mut tell).await? };
        let cube = planned.cube.cube_id;
        let Brought { background, n_jobs_left: n_found_no_room } = brought;
        let n_jobs_left = planned.n_jobs + n_found_no_room;
        done.cubes.push(MovedCube { cube, outcome, contents, background, n_jobs_left, n_documents_left, n_vectors });
    }
    if !options.dry_run {
        keys::bring(to, plan.keys).await?;
    }
    Ok(done)
}

/// The stores as what moves.
struct Sides<'a> {
    source: &'a dyn RecordArchive,
    target: &'a dyn RecordArchive,
    users: &'a dyn UserArchive,
}

impl<'a> Sides<'a> {
    fn of(from: &'a Endpoint, to: &'a Endpoint) -> Result<Self> {
        Ok(Self { source: from.record_archive()?, target: to.record_archive()?, users: to.user_archive()? })
    }
}

async fn move_users(target: &dyn UserArchive, plan: &Plan) -> Result<()> {
    for user in &plan.new_users {
        target.import_user(user).await?;
    }
    Ok(())
}

/// Makes the cube in the target, so that nobody can use it yet.
async fn begin(users: &dyn UserArchive, source: &dyn RecordArchive, cube: &Cube, mark: Mark) -> Result<Mark> {
    let position = source.position(&Scope::of(&cube.cube_id)).await?;
    let mark = Mark { position, ..mark };
    let unfinished = Cube { is_registered: false, config: mark.config(), ..cube.clone() };
    users.import_cube(&unfinished).await?;
    Ok(mark)
}

/// Copies what is missing until both sides are the same, and returns what they hold.
async fn move_cube(mut copying: Copying<'_>, tell: &mut Tell<'_>) -> Result<Contents> {
    copying.copy(tell).await?;
    let mut differences = Vec::new();
    let mut was_written_to = false;
    for _ in 0..MAX_ROUNDS {
        tell.part("catching up");
        copying.catch_up(tell).await?;
        copying.edges(tell).await?;
        tell.part("comparing");
        let before = copying.source.position(&copying.scope).await?;
        let here = contents(copying.source, &copying.scope, tell).await?;
        let there = contents(copying.target, &copying.scope, tell).await?;
        differences = here.differences(&there);
        if differences.is_empty() {
            return Ok(there);
        }
        was_written_to |= copying.source.position(&copying.scope).await? != before;
    }
    let cube = copying.cube;
    let remedy = if was_written_to {
        "somebody writes to the source all the time: stop that, and run the same command again; it goes on where it stopped"
            .to_owned()
    } else {
        format!("{}; then run the same command again, and report it if it happens again", copying.mark.how_to_delete())
    };
    Err(Error::Invalid(format!(
        "cube `{cube}` is not the same on both sides: {}; it stays unregistered in the target. {remedy}",
        differences.join(", ")
    )))
}

/// Brings the vectors of a cube to the target's Qdrant server, when it has one, and returns how many are there.
async fn bring_vectors(
    to: &Endpoint,
    scope: &Scope,
    contents: &Contents,
    tell: &mut Tell<'_>,
) -> Result<Option<usize>> {
    let Some(options) = &to.qdrant else { return Ok(None) };
    let qdrant = QdrantVectors::following(Arc::clone(&to.record), options)?;
    tell.part("vectors");
    // Follows the record first, then compares every point with it.
    qdrant.reconcile(scope, true).await?;
    let n_vectors = qdrant.count(scope).await?;
    // A cube in use may have been written to since it was compared.
    if (n_vectors as u64) < contents.embeddings.count && !qdrant.reconcile(scope, false).await?.is_empty() {
        return Err(Error::Invalid(format!(
            "the Qdrant server holds {n_vectors} of the {} vectors of cube `{}`; run the same command again, or \
             `mos doctor --reconcile` with the target's settings",
            contents.embeddings.count, scope.cube
        )));
    }
    Ok(Some(n_vectors))
}

/// Lets the cube be what it was: with its shares, its configuration, and registered when it was.
async fn finish(users: &dyn UserArchive, to: &Endpoint, cube: &Cube, shares: &[(UserId, Access)]) -> Result<()> {
    for (user, access) in shares {
        users.import_share(&cube.cube_id, user, *access).await?;
    }
    to.users.set_cube_config(&cube.cube_id, &cube.config).await?;
    if cube.is_registered {
        to.users.set_registered(&cube.cube_id, true).await?;
    }
    Ok(())
}

/// Reads all of a scope and returns what it holds.
///
/// # Errors
/// [`Error::Invalid`] for a store that cannot tell; errors of the store.
pub(crate) async fn contents_of(record: &dyn RecordStore, scope: &Scope) -> Result<Contents> {
    let archive = record.archive();
    let archive = archive.ok_or_else(|| Error::Invalid("these memories cannot be read as a whole".to_owned()))?;
    let mut report = |_: &MigrateProgress| ();
    let mut tell = Tell { report: &mut report, progress: MigrateProgress::default() };
    Ok(contents(archive, scope, &mut tell).await?)
}
