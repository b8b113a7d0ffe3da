//! `mos cube ...`

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use mos::{CubeShare, CubeSource, GitSource, HubSource, MemoryKind, Mos, NewCube, RegisterOptions};
use mos_config::{Free, GeneralMemCubeConfig, Secrets, Setting};
use mos_core::{Access, Cube, CubeId, UserId};
use serde_json::{Value, json};

use super::sharing;
use crate::arguments::CubeCommand;
use crate::context::Context;
use crate::progress;

pub(super) async fn run(context: &Context, command: CubeCommand) -> anyhow::Result<()> {
    let mos = context.open().await?;
    let user = &context.user;
    match command {
        CubeCommand::Create { id, from } => {
            let config = load_config(context, from.as_deref())?;
            let cube = mos.create_cube(user, NewCube { cube_id: CubeId::parse(id)?, name: None, config }).await?;
            context.output.value(&masked(cube), describe)
        }
        CubeCommand::List => {
            let cubes: Vec<Cube> = mos.list_cubes(user).await?.into_iter().map(masked).collect();
            context.output.value(&cubes, |cubes| cubes.iter().map(describe).collect::<Vec<_>>().join("\n"))
        }
        CubeCommand::Register { source, id, revision, folder, default_config, only } => {
            let default_config = load_config(context, default_config.as_deref())?;
            let memories = if only.is_empty() { MemoryKind::ALL.to_vec() } else { only };
            let options = RegisterOptions { memories, default_config };
            let git = GitOptions { revision, folder };
            register(context, &mos, &source, id, git, options).await
        }
        CubeCommand::Unregister { id } => {
            mos.unregister_mem_cube(user, &CubeId::parse(id.as_str())?).await?;
            context.output.value(&json!({"unregistered": id}), |_| format!("unregistered `{id}`; its memories stay"))
        }
        CubeCommand::Delete { id } => {
            mos.delete_cube(user, &CubeId::parse(id.as_str())?).await?;
            context.output.value(&json!({"deleted": id}), |_| format!("deleted cube `{id}`"))
        }
        CubeCommand::Dump { id, directory, only } => {
            let shown = directory.display().to_string();
            let cube = CubeId::parse(id.as_str())?;
            let dump = async {
                match only.as_slice() {
                    [] => mos.dump(user, Some(&cube), &directory).await,
                    only => mos.dump_memories(user, Some(&cube), &directory, only).await.map(drop),
                }
            };
            progress::spinning(format!("writing `{id}` to {shown}"), dump).await?;
            context.output.value(&json!({"dumped": id, "directory": shown}), |_| format!("dumped `{id}` to {shown}"))
        }
        CubeCommand::Load { id, directory, only } => {
            let cube = CubeId::parse(id.as_str())?;
            let message = format!("reading {} into `{id}`", directory.display());
            let load = async {
                match only.as_slice() {
                    [] => mos.load(user, Some(&cube), &directory).await,
                    only => mos.load_memories(user, Some(&cube), &directory, only).await,
                }
            };
            let n_memories = progress::spinning(message, load).await?;
            let loaded = json!({"cube_id": id, "n_memories": n_memories});
            context.output.value(&loaded, |_| format!("loaded {n_memories} memories into `{id}`"))
        }
        CubeCommand::Export { id, file } => {
            let (cube, shown) = (CubeId::parse(id.as_str())?, file.display().to_string());
            let export = mos.export_cube(user, Some(&cube), &file);
            let exported = progress::spinning(format!("writing `{id}` to {shown}"), export).await?;
            context.output.value(&exported, |exported| {
                format!("exported `{id}` to {shown} ({} bytes), content {}", exported.n_bytes, exported.content)
            })
        }
        CubeCommand::Import { file, new_id } => {
            let new_id = new_id.map(CubeId::parse).transpose()?;
            let import = mos.import_cube(user, &file, new_id.as_ref());
            let mut imported = progress::spinning(format!("reading {}", file.display()), import).await?;
            imported.cube = masked(imported.cube);
            if !imported.is_same() {
                context.output.note("the vectors are not those of the file: another encoder is configured here");
            }
            context.output.value(&imported, |imported| {
                format!("imported {}\ncontent {}", describe(&imported.cube), imported.content)
            })
        }
        CubeCommand::Hash { id } => {
            let cube = CubeId::parse(id.as_str())?;
            let content = mos.content_hash(user, Some(&cube)).await?;
            context.output.value(&json!({"cube_id": id, "content": content}), |_| content.clone())
        }
        CubeCommand::Share { id, with, access, read_only } => {
            let (access, may) = if read_only || access == "read" {
                (Access::Reader, "read")
            } else {
                (Access::Member, "read and write")
            };
            let (cube, target) = (CubeId::parse(id.as_str())?, UserId::parse(with.as_str())?);
            mos.share_cube_with(user, &cube, &target, access).await?;
            let told = json!({"shared": id, "with": with, "access": access});
            context.output.value(&told, |_| format!("`{with}` may now {may} `{id}`"))
        }
        CubeCommand::Unshare { id, from } => sharing::unshare(context, &mos, &id, &from).await,
        CubeCommand::Shares { id } => {
            let shares = mos.cube_shares(user, &CubeId::parse(id)?).await?;
            context.output.value(&shares, |shares| {
                let line = |share: &CubeShare| format!("{}\t{}", share.user_id, share.access.as_str());
                shares.iter().map(line).collect::<Vec<_>>().join("\n")
            })
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

/// A cube's configuration from a file; warnings about it go to standard error.
fn load_config(context: &Context, file: Option<&Path>) -> anyhow::Result<Option<GeneralMemCubeConfig>> {
    let loaded = file.map(GeneralMemCubeConfig::load).transpose()?;
    Ok(loaded.map(|(config, warnings)| {
        warnings.iter().for_each(|warning| context.output.note(&format!("warning: {warning}")));
        config
    }))
}

/// What is asked of a git repository.
struct GitOptions {
    revision: Option<String>,
    folder: Option<PathBuf>,
}

impl GitOptions {
    /// The repository that a source names, if it does.
    fn repository(self, source: &str) -> anyhow::Result<Option<CubeSource>> {
        let is_directory = Path::new(source).is_dir();
        if !is_directory && source.contains("://") {
            let git = GitSource { revision: self.revision, folder: self.folder, ..GitSource::new(source) };
            return Ok(Some(CubeSource::Git(git)));
        }
        anyhow::ensure!(
            self.revision.is_none() && self.folder.is_none(),
            "--revision and --folder belong to a git repository (https://, ssh:// or file://), which `{source}` is not"
        );
        let name = source.strip_prefix("hub:").filter(|_| !is_directory);
        Ok(name.map(|name| CubeSource::Hub(Box::new(HubSource::new(name)))))
    }
}

async fn register(
    context: &Context,
    mos: &Mos,
    source: &str,
    id: Option<String>,
    git: GitOptions,
    options: RegisterOptions,
) -> anyhow::Result<()> {
    let cube_id = id.map(CubeId::parse).transpose()?;
    let is_known = mos.list_cubes(&context.user).await?.iter().any(|cube| cube.cube_id.as_str() == source);
    let cube = if let Some(repository) = git.repository(source)? {
        let registered = mos.register_mem_cube_with(&context.user, repository, cube_id.as_ref(), options);
        progress::spinning(format!("fetching {source}"), registered).await?
    } else if Path::new(source).is_dir() {
        let directory = absolute(Path::new(source)).with_context(|| format!("cannot find the directory {source}"))?;
        let shown = directory.display().to_string();
        if is_known && shown != source {
            context.output.note(&format!(
                "`{source}` is a directory here and the id of a cube; the directory is meant. For the cube, run this in \
                 another folder."
            ));
        }
        let source = CubeSource::Directory(directory);
        let registered = mos.register_mem_cube_with(&context.user, source, cube_id.as_ref(), options);
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
        mos.register_mem_cube_with(&context.user, CubeSource::Known, Some(&known), options).await?
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
