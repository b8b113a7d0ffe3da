//! What the tools do, by name.

mod conversation;
mod cubes;
mod exports;
mod memories;
mod users;

use mos::product::{ProductError, ProductResult};

use super::answers::Answer;
use super::call::Call;

/// Does what a tool is there for.
///
/// # Errors
/// What cannot be done, and what to do.
pub(super) async fn run(tool: &str, call: &Call<'_>) -> ProductResult<Answer> {
    match tool {
        "chat" => conversation::chat(call).await,
        "clear_chat_history" => conversation::clear(call).await,
        "search_memories" => memories::search(call).await,
        "add_memory" => memories::add(call).await,
        "get_memory" => memories::get(call).await,
        "update_memory" => memories::update(call).await,
        "delete_memory" => memories::delete(call).await,
        "delete_all_memories" => memories::delete_all(call).await,
        "memory_history" => memories::history(call).await,
        "undo_memory" => memories::undo(call).await,
        "create_cube" => cubes::create(call).await,
        "register_cube" => cubes::register(call).await,
        "unregister_cube" => cubes::unregister(call).await,
        "dump_cube" => cubes::dump(call).await,
        "share_cube" => cubes::share(call).await,
        "unshare_cube" => cubes::unshare(call).await,
        "list_cubes" => users::list_cubes(call).await,
        "create_user" => users::create(call).await,
        "get_user_info" => users::info(call).await,
        "control_memory_scheduler" => users::control_scheduler(call).await,
        _ => Err(ProductError::new(500, "this tool does nothing; tell whoever runs the server")),
    }
}

#[cfg(test)]
mod tests {
    use mos::config::Setting;
    use mos::product::{App, Caller, ProductOptions};
    use mos::{Mos, Settings};
    use mos_testkit::embedder::WordEmbedder;
    use serde_json::{Map, json};

    use super::super::tools::TOOLS;
    use super::*;

    #[tokio::test]
    async fn every_tool_does_something() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::from_json(&json!({"store": {"backend": "memory", "config": {}}})).unwrap();
        let embedder = std::sync::Arc::new(WordEmbedder::new("words", 64));
        let mos = Mos::builder(settings).data_dir(folder.path()).embedder(embedder).build().await.unwrap();
        let app = App::new(mos, ProductOptions { chats: false, ..ProductOptions::default() });
        let caller = Caller::program();
        for tool in TOOLS {
            // With arguments that lead nowhere: it is only asked whether somebody answers.
            let mut call = Call::new(&app, &caller, tool, Map::new(), false);
            if call.is_err() {
                let given = tool.parameters.iter().filter(|parameter| parameter.is_required);
                let given = given.map(|parameter| match parameter.name {
                    "action" => (parameter.name.to_owned(), json!("stop")),
                    name => (name.to_owned(), json!("x")),
                });
                call = Call::new(&app, &caller, tool, given.collect(), false);
            }
            if let Err(error) = run(tool.name, &call.unwrap()).await {
                assert!(!error.message.contains("does nothing"), "{}", tool.name);
            }
        }
    }
}
