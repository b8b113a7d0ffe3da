//! `mos user ...`

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use mos::{EraseOptions, Erased, UserInfo};
use mos_core::users::ROOT_USER;
use mos_core::{CubeId, User, UserId, UserRole};

use crate::arguments::UserCommand;
use crate::context::Context;

pub(super) async fn run(context: &Context, command: UserCommand) -> anyhow::Result<()> {
    let mos = context.open().await?;
    match command {
        UserCommand::Create { id, name, role } => {
            let role = role_of(&role)?;
            let user = mos.create_user_with_role(UserId::parse(id)?, name.as_deref(), role).await?;
            context.output.value(&user, describe)
        }
        UserCommand::List => {
            let users = mos.list_users().await?;
            context.output.value(&users, |users| users.iter().map(describe).collect::<Vec<_>>().join("\n"))
        }
        UserCommand::Info { id } => {
            let id = id.map(UserId::parse).transpose()?;
            let info = mos.user_info(id.as_ref().unwrap_or(&context.user)).await?;
            context.output.value(&info, describe_info)
        }
        UserCommand::Role { id, role } => {
            // Whoever may start this program on these data may do what root may.
            let root = UserId::new(ROOT_USER);
            let user = mos.set_user_role(&root, &UserId::parse(id)?, role_of(&role)?).await?;
            context.output.value(&user, describe)
        }
        UserCommand::Delete { id } => {
            mos.delete_user(&UserId::parse(id.as_str())?).await?;
            context.output.value(&serde_json::json!({"deleted": id}), |_| format!("deleted user `{id}`"))
        }
        UserCommand::Erase { id, also_in_shared, prove, files_only, erased_cube } => {
            let user = UserId::parse(id)?;
            let erased = if files_only {
                let cubes = erased_cube.iter().map(CubeId::parse).collect::<Result<Vec<CubeId>, _>>()?;
                mos.erase_files(&user, &cubes).await?
            } else {
                mos.erase_user(&user, EraseOptions { also_in_shared }).await?
            };
            let describe: fn(&Erased) -> String = if files_only { describe_erased_files } else { describe_erased };
            let (data_dir, database) = (mos.data_dir().to_owned(), mos.database().map(Path::to_owned));
            // What this process still has open is closed before the files are read.
            drop(mos);
            context.output.value(&erased, describe)?;
            check_gone(&data_dir, database.as_deref(), &prove)
        }
    }
}

fn describe_erased(erased: &Erased) -> String {
    let n_elsewhere: usize = erased.shared.iter().filter(|one| one.is_erased).map(|one| one.memories.len()).sum();
    let mut lines = vec![format!(
        "erased user `{}`: {} cubes with {} memories, {n_elsewhere} memories in cubes of others",
        erased.user_id,
        erased.cubes.len(),
        erased.n_memories
    )];
    for one in erased.shared.iter().filter(|one| !one.is_erased) {
        lines.extend(one.memories.iter().map(|id| format!("left\t{}\t{id}", one.cube_id)));
    }
    lines.extend(erased.left.iter().map(|left| format!("note: {left}")));
    lines.join("\n")
}

fn describe_erased_files(erased: &Erased) -> String {
    let cubes: Vec<&str> = erased.cubes.iter().map(CubeId::as_str).collect();
    let mut lines = vec![format!(
        "erased user `{}` and the cubes {} from files, as far as they stood there",
        erased.user_id,
        cubes.join(", ")
    )];
    lines.extend(erased.left.iter().map(|left| format!("note: {left}")));
    lines.join("\n")
}

/// Fails when a file of the data folder holds one of the texts, or one of the database where that is elsewhere.
fn check_gone(data_dir: &Path, database: Option<&Path>, texts: &[String]) -> anyhow::Result<()> {
    if texts.is_empty() {
        return Ok(());
    }
    let mut found = mos::files_holding(data_dir, texts).context("the data folder could not be searched")?;
    if let Some(database) = database {
        let folder = data_dir.canonicalize().context("the data folder could not be searched")?;
        let files = mos::database_files(database).context("the database could not be searched")?;
        // A path that leads through a link, or back again, names what has a shorter name as well.
        let files = files.iter().map(|file| file.canonicalize()).collect::<io::Result<BTreeSet<PathBuf>>>();
        let files = files.context("the database could not be searched")?;
        for file in files.iter().filter(|file| !file.starts_with(&folder)) {
            found.extend(mos::files_holding(file, texts).context("the database could not be searched")?);
        }
    }
    let shown: Vec<String> = found.iter().map(|one| format!("{} in {}", one.text, one.file.display())).collect();
    ensure!(shown.is_empty(), "still there: {}", shown.join(", "));
    Ok(())
}

fn role_of(word: &str) -> anyhow::Result<UserRole> {
    UserRole::parse(word)
        .filter(|role| *role != UserRole::Root)
        .with_context(|| format!("`{word}` is no role; use admin, user or guest"))
}

fn describe_info(info: &UserInfo) -> String {
    let UserInfo { user_id, user_name, role, created_at, accessible_cubes } = info;
    let mut lines = vec![format!("{user_id}\t{user_name}\t{}\t{created_at}", role.as_str())];
    lines.extend(accessible_cubes.iter().map(|cube| {
        let state = if cube.is_loaded { "registered" } else { "unregistered" };
        format!("{}\t{}\towner {}\t{state}", cube.cube_id, cube.access.as_str(), cube.owner_id)
    }));
    lines.join("\n")
}

fn describe(user: &User) -> String {
    format!("{}\t{}\t{}\t{}", user.user_id, user.user_name, user.role.as_str(), user.created_at)
}
