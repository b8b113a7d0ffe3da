//! `mos cube ...`

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use mos::{CubeSource, Mos, NewCube};
use mos_config::{Free, GeneralMemCubeConfig, Secrets, Setting};
use mos_core::{Cube, CubeId, UserId};
use serde_json::{Value, json};

use crate::arguments::CubeCommand;
use crate::context::Context;
use crate::progress;

pub(super) async fn run(context: &Context, command: CubeCommand) -> anyhow::Result<()> {
    let mos = context.open().await?;
    let user = &context.user;
    match command {
        CubeCommand::Create { id, from } => {
            let config = from.as_deref().map(GeneralMemCubeConfig::load).transpose()?.map(|(config, warnings)| {
                warnings.iter().for_each(|warning| context.output.note(&format!("warning: {warning}")));
                config
            });
            let cube = mos.create_cube(user, NewCube { cube_id: CubeId::parse(id)?, name: None, config }).await?;
            context.output.value(&masked(cube), describe)
        }
        CubeCommand::List => {
            let cubes: Vec<Cube> = mos.list_cubes(user).await?.into_iter().map(masked).collect();
            context.output.value(&cubes, |cubes| cubes.iter().map(describe).collect::<Vec<_>>().join("\n"))
        }
        CubeCommand::Register { source, id } => register(context, &mos, &source, id).await,
        CubeCommand::Unregister { id } => {
            mos.unregister_mem_cube(user, &CubeId::parse(id.as_str())?).await?;
            context.output.value(&json!({"unregistered": id}), |_| format!("unregistered `{id}`; its memories stay"))
        }
        CubeCommand::Delete { id } => {
            mos.delete_cube(user, &CubeId::parse(id.as_str())?).await?;
            context.output.value(&json!({"deleted": id}), |_| format!("deleted cube `{id}`"))
        }
        CubeCommand::Dump { id, directory } => {
            let shown = directory.display().to_string();
            let cube = CubeId::parse(id.as_str())?;
            progress::spinning(format!("writing `{id}` to {shown}"), mos.dump(user, Some(&cube), &directory)).await?;
            context.output.value(&json!({"dumped": id, "directory": shown}), |_| format!("dumped `{id}` to {shown}"))
        }
        CubeCommand::Load { id, directory } => {
            let cube = CubeId::parse(id.as_str())?;
            let message = format!("reading {} into `{id}`", directory.display());
            let n_memories = progress::spinning(message, mos.load(user, Some(&cube), &directory)).await?;
            let loaded = json!({"cube_id": id, "n_memories": n_memories});
            context.output.value(&loaded, |_| format!("loaded {n_memories} memories into `{id}`"))
        }
        CubeCommand::Share { id, with } => {
            mos.share_cube_with_user(user, &CubeId::parse(id.as_str())?, &UserId::parse(with.as_str())?).await?;
            context.output.value(&json!({"shared": id, "with": with}), |_| format!("`{with}` may now use `{id}`"))
        }
        CubeCommand::Reembed { id, force } => {
            let bar = progress::spinner(format!("embedding `{id}` anew"));
            let cube = CubeId::parse(id.as_str())?;
            let done = mos
                .reembed_cube(user, &cube, force, |n_done| bar.set_message(format!("embedding `{id}` anew: {n_done}")))
                .await;
            bar.finish_and_clear();
            let n_embedded = done?.n_embedded;
            let told = json!({"cube_id": id, "n_embedded": n_embedded});
            context.output.value(&told, |_| format!("embedded {n_embedded} memories of `{id}` anew"))
        }
    }
}

async fn register(context: &Context, mos: &Mos, source: &str, id: Option<String>) -> anyhow::Result<()> {
    let cube_id = id.map(CubeId::parse).transpose()?;
    let is_known = mos.list_cubes(&context.user).await?.iter().any(|cube| cube.cube_id.as_str() == source);
    let cube = if Path::new(source).is_dir() {
        let directory = absolute(Path::new(source)).with_context(|| format!("cannot find the directory {source}"))?;
        let shown = directory.display().to_string();
        if is_known && shown != source {
            context.output.note(&format!(
                "`{source}` is a directory here and the id of a cube; the directory is meant. For the cube, run this in \
                 another folder."
            ));
        }
        let source = CubeSource::Directory(directory);
        let registered = mos.register_mem_cube(&context.user, source, cube_id.as_ref());
        progress::spinning(format!("reading {shown}"), registered).await?
    } else {
        let known = CubeId::parse(source)?;
        anyhow::ensure!(
            is_known || !source.contains(std::path::is_separator),
            "there is no directory `{source}`, and no cube of this id that `{}` may use",
            context.user
        );
        anyhow::ensure!(
            cube_id.is_none_or(|id| id == known),
            "`{source}` is no directory but a cube, which keeps its id; leave out --id"
        );
        mos.register_mem_cube(&context.user, CubeSource::Known, Some(&known)).await?
    };
    context.output.value(&masked(cube), |cube| format!("registered {}", describe(cube)))
}

/// The same directory has the same path, wherever the program is started.
fn absolute(directory: &Path) -> std::io::Result<PathBuf> {
    // On Windows a canonical path has a form that few programs understand.
    if cfg!(windows) { std::path::absolute(directory) } else { directory.canonicalize() }
}

/// A cube's configuration may hold keys of models and stores; they are not printed.
fn masked(mut cube: Cube) -> Cube {
    if let Value::Object(config) = cube.config {
        cube.config = Free(config).to_json(Secrets::Masked);
    }
    cube
}

fn describe(cube: &Cube) -> String {
    let state = if cube.is_registered { "registered" } else { "unregistered" };
    format!("{}\towner {}\t{state}\t{}", cube.cube_id, cube.owner_id, cube.created_at)
}
