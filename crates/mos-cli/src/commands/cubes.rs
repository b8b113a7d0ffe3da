//! `mos cube ...`

use std::path::Path;

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
            mos.dump(user, Some(&CubeId::parse(id.as_str())?), &directory).await?;
            let shown = directory.display().to_string();
            context.output.value(&json!({"dumped": id, "directory": shown}), |_| format!("dumped `{id}` to {shown}"))
        }
        CubeCommand::Load { id, directory } => {
            let n_memories = mos.load(user, Some(&CubeId::parse(id.as_str())?), &directory).await?;
            let loaded = json!({"cube_id": id, "n_memories": n_memories});
            context.output.value(&loaded, |_| format!("loaded {n_memories} memories into `{id}`"))
        }
        CubeCommand::Share { id, with } => {
            mos.share_cube_with_user(user, &CubeId::parse(id.as_str())?, &UserId::parse(with.as_str())?).await?;
            context.output.value(&json!({"shared": id, "with": with}), |_| format!("`{with}` may now use `{id}`"))
        }
        CubeCommand::Reembed { id } => {
            let bar = progress::spinner(format!("embedding `{id}` anew"));
            let cube = CubeId::parse(id.as_str())?;
            let done = mos
                .reembed_cube(user, &cube, |n_done| bar.set_message(format!("embedding `{id}` anew: {n_done}")))
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
    let cube = if Path::new(source).is_dir() {
        mos.register_mem_cube(&context.user, CubeSource::Directory(source.into()), cube_id.as_ref()).await?
    } else {
        let known = CubeId::parse(source)?;
        mos.register_mem_cube(&context.user, CubeSource::Known, Some(&known)).await?
    };
    context.output.value(&masked(cube), |cube| format!("registered {}", describe(cube)))
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
