//! What a migration will do, looked at before anything is written.

use std::collections::BTreeSet;

use mos_core::{Access, Cube, CubeId, Filter, QueueStats, Scope, StoreError, User, UserId};

use super::digest::{Contents, contents};
use super::endpoint::Endpoint;
use super::keys::{self, PlannedKeys};
use super::mark::{Mark, check_whole};
use super::{MigrateOptions, Tell};
use crate::error::{Error, Result};

/// How a cube stands in the target.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Standing {
    /// It is not there.
    Absent,
    /// It was begun by an earlier call.
    Begun(Mark),
    /// It is there and holds the same.
    Same(Contents),
}

/// A cube that is to move.
#[derive(Debug)]
pub(super) struct PlannedCube {
    pub(super) cube: Cube,
    pub(super) shares: Vec<(UserId, Access)>,
    pub(super) standing: Standing,
    /// Jobs that are left behind.
    pub(super) n_jobs: usize,
}

/// What is to be done.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) new_users: Vec<User>,
    pub(super) n_known_users: usize,
    pub(super) keys: PlannedKeys,
    /// Oldest first.
    pub(super) cubes: Vec<PlannedCube>,
}

/// Looks at both sides.
///
/// # Errors
/// Whatever would make the migration fail as far as it can be seen now.
pub(super) async fn look(
    from: &Endpoint,
    to: &Endpoint,
    options: &MigrateOptions,
    tell: &mut Tell<'_>,
) -> Result<Plan> {
    let users = from.user_archive()?.archived_users().await?;
    let cubes = chosen_cubes(from, options).await?;
    let n_cubes = cubes.len();
    let mut planned = Vec::new();
    let mut wanted: BTreeSet<UserId> = BTreeSet::new();
    for (number, cube) in (1..).zip(cubes) {
        tell.cube(&cube.cube_id, number, n_cubes);
        check_whole(&cube)?;
        let n_jobs = check_jobs(from, to, &cube.cube_id, options).await?;
        let mut shares = from.user_archive()?.archived_shares(&cube.cube_id).await?;
        // Who was made since the users were read does not come along.
        shares.retain(|(id, _)| users.iter().any(|user| user.user_id == *id));
        wanted.extend(shares.iter().map(|(id, _)| id.clone()));
        wanted.insert(cube.owner_id.clone());
        let standing = standing(from, to, &cube, options, tell).await?;
        planned.push(PlannedCube { cube, shares, standing, n_jobs });
    }
    // Users without cubes come along when everything moves.
    let moves_all = options.cubes.is_empty();
    let users: Vec<User> = users.into_iter().filter(|user| moves_all || wanted.contains(&user.user_id)).collect();
    let there = to.user_archive()?.archived_users().await?;
    let mut new_users = Vec::new();
    for user in &users {
        if !is_there(user, &there)? {
            new_users.push(user.clone());
        }
    }
    let n_known_users = users.len() - new_users.len();
    let keys = keys::look(from, to, moves_all, &users, &there).await?;
    Ok(Plan { new_users, n_known_users, keys, cubes: planned })
}

/// Returns the cubes that are to move, oldest first.
async fn chosen_cubes(from: &Endpoint, options: &MigrateOptions) -> Result<Vec<Cube>> {
    let mut cubes = from.users.cubes(None).await?;
    cubes.reverse();
    if let Some(id) = options.cubes.iter().find(|id| !cubes.iter().any(|cube| cube.cube_id == **id)) {
        return Err(Error::Invalid(format!(
            "{} holds no cube `{id}`; `mos cube list` prints those of a user",
            from.name
        )));
    }
    cubes.retain(|cube| options.cubes.is_empty() || options.cubes.contains(&cube.cube_id));
    Ok(cubes)
}

/// Returns how many jobs are left behind.
async fn check_jobs(from: &Endpoint, to: &Endpoint, cube: &CubeId, options: &MigrateOptions) -> Result<usize> {
    if to.keeps_jobs && !options.leave_jobs {
        return Ok(0);
    }
    let scope = Scope::of(cube);
    let stats = match from.queue.as_ref().filter(|_| !from.shares_queue(to)) {
        Some(queue) => queue.stats(&scope).await?,
        None => QueueStats::default(),
    };
    let n_on_the_way = match &from.outbox {
        Some(outbox) => outbox.count(&scope).await?,
        None => 0,
    };
    let n_open = stats.waiting + stats.claimed + n_on_the_way;
    if n_open > 0 && !options.leave_jobs {
        return Err(Error::Invalid(format!(
            "cube `{cube}` has {n_open} jobs that are not done, and {} keeps none: name a queue in its settings (`queue`, backend \
             `redis`), let the jobs be done first, or leave them behind with --leave-jobs",
            to.name
        )));
    }
    Ok(n_open + stats.dead)
}

/// Refuses jobs in the target that are not the source's: they would be lost.
async fn check_no_jobs(from: &Endpoint, to: &Endpoint, scope: &Scope, options: &MigrateOptions) -> Result<()> {
    let Some(queue) = to.queue.as_ref().filter(|_| !from.shares_queue(to) && !options.leave_jobs) else {
        return Ok(());
    };
    let stats = queue.stats(scope).await?;
    let n_jobs = stats.waiting + stats.claimed + stats.dead;
    if n_jobs == 0 {
        return Ok(());
    }
    let place = to.queue_place.as_ref().unwrap_or(&to.name);
    Err(StoreError::Conflict(format!(
        "{place} holds {n_jobs} jobs under the id `{}`, of a cube that its users do not know; they would be lost. Name another \
         prefix for the queue of the target, or let them be done first. When it is the queue of the source, name its server the \
         same way on both sides",
        scope.cube
    ))
    .into())
}

async fn standing(
    from: &Endpoint,
    to: &Endpoint,
    cube: &Cube,
    options: &MigrateOptions,
    tell: &mut Tell<'_>,
) -> Result<Standing> {
    let scope = Scope::of(&cube.cube_id);
    let refused = |text: String| Error::from(StoreError::Conflict(text));
    let Some(there) = to.users.cube(&cube.cube_id).await? else {
        let n_memories = to.record.count(&scope, &Filter::Everything).await?;
        if n_memories > 0 {
            return Err(refused(format!(
                "{} holds {n_memories} memories under the id `{}`, of a cube that its users do not know; they would be lost. \
                 Remove them there first, or register their cube",
                to.name, cube.cube_id
            )));
        }
        check_no_jobs(from, to, &scope, options).await?;
        return Ok(Standing::Absent);
    };
    if let Some(mark) = Mark::of(&there.config) {
        if mark.from == from.name && there.owner_id == cube.owner_id && there.created_at == cube.created_at {
            return Ok(Standing::Begun(mark));
        }
        return Err(refused(format!(
            "a cube `{}` is on its way to {} from {}; finish that first, or {}",
            cube.cube_id,
            to.name,
            mark.from,
            mark.how_to_delete()
        )));
    }
    let other = |why: String| {
        refused(format!(
            "{} holds another cube `{}` ({why}); nothing was written. Delete that one, or leave this one out",
            to.name, cube.cube_id
        ))
    };
    if there.owner_id != cube.owner_id || there.created_at != cube.created_at {
        return Err(other(format!("of `{}`, made {}", there.owner_id, there.created_at)));
    }
    tell.part("comparing");
    let here = contents(from.record_archive()?, &scope, tell).await?;
    let differences = here.differences(&contents(to.record_archive()?, &scope, tell).await?);
    if !differences.is_empty() {
        return Err(other(differences.join(", ")));
    }
    Ok(Standing::Same(here))
}

/// Returns whether a user is in the target.
fn is_there(user: &User, there: &[User]) -> Result<bool> {
    let same_id = there.iter().find(|known| known.user_id == user.user_id);
    let same_name = there.iter().find(|known| known.user_name == user.user_name);
    let refused = |why: String| Err(Error::from(StoreError::Conflict(format!("{why}; nothing was written"))));
    match (same_id, same_name) {
        (None, None) => Ok(false),
        (Some(known), _) if known.user_name != user.user_name => refused(format!(
            "the user `{}` is named `{}` here and `{}` there",
            user.user_id, user.user_name, known.user_name
        )),
        (_, Some(known)) if known.user_id != user.user_id => refused(format!(
            "the name `{}` of the user `{}` belongs to the user `{}` there",
            user.user_name, user.user_id, known.user_id
        )),
        (Some(known), _) if user.is_active && !known.is_active => {
            refused(format!("the user `{}` was deleted there; create it again there first", user.user_id))
        }
        _ => Ok(true),
    }
}
