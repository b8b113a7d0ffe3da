//! One module per group of commands.

mod backup;
mod chat;
mod config;
mod cubes;
mod demo;
mod doctor;
mod eval;
pub(crate) mod kv;
mod mcp;
mod memories;
mod messages;
mod migrate;
mod models;
mod organize;
mod reading;
pub(crate) mod scheduler;
mod search;
mod serve;
mod sharing;
mod usage;
mod users;

use clap::CommandFactory;

use crate::arguments::{Arguments, Command};
use crate::context::Context;

pub(crate) use serve::traces;

/// Runs the command.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    // These two must work whatever stands in the settings.
    match &arguments.command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "mos", &mut script);
            let output = crate::output::Output::default();
            return output.raw(&String::from_utf8_lossy(&script));
        }
        Command::Config(command) => return config::run(command, &arguments),
        _ => {}
    }
    let context = Context::new(&arguments)?;
    match arguments.command {
        Command::Demo(demo) => demo::run(&context, demo).await,
        Command::Serve(serve) => serve::run(&context, serve).await,
        Command::Chat(chat) => chat::run(&context, chat).await,
        Command::Add(add) => memories::add(&context, add).await,
        Command::Search(search) => search::search(&context, search).await,
        Command::Get { id, as_skill: Some(file) } => memories::get_skill(&context, &id, &file).await,
        Command::Get { id, as_skill: None } => memories::get(&context, &id).await,
        Command::List => memories::list(&context).await,
        Command::Mcp(mcp) => mcp::run(&context, arguments.user.is_some(), &mcp).await,
        Command::Usage => usage::run(&context).await,
        Command::History { id } => memories::history(&context, &id).await,
        Command::Undo { id } => memories::undo(&context, &id).await,
        Command::Quarantine { release } => memories::quarantine(&context, release.as_deref()).await,
        Command::Delete(delete) => memories::delete(&context, delete).await,
        Command::Organize(arguments) => organize::run(&context, &arguments).await,
        Command::User(command) => users::run(&context, command).await,
        Command::Cube(command) => cubes::run(&context, command).await,
        Command::Kv(command) => kv::run(&context, command).await,
        Command::Scheduler(command) => scheduler::run(&context, command).await,
        Command::Models(command) => models::run(&context, command).await,
        Command::Eval(command) => eval::run(&context, command).await,
        Command::Doctor { reconcile, compact } => doctor::run(&context, reconcile, compact).await,
        Command::Migrate(migrate) => migrate::run(&context, migrate).await,
        Command::Backup(backup) => backup::back_up(&context, backup).await,
        Command::Restore { file } => backup::restore(&context, &file).await,
        Command::Config(_) | Command::Completions { .. } => Ok(()),
    }
}
