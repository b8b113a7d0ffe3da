//! Plugins around the operations of the facade: order, changes, refusals, failures, and what the settings say.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use mos::config::Setting;
use mos::plugin::{
    AddContent, AddedMemories, AnsweredChat, ChatHook, ContextHook, HookContext, HookError, HookResult, PluginContext,
    SearchHook, async_trait, change_raw_texts,
};
use mos::scheduler::{Event, HandlerContext, Registration, ScheduleMessage, event, label};
use mos::{Add, Chat, Error, Mos, MosBuilder, NewCube, Plugin, Remember, Remembered, Search, SearchResult, Settings};
use mos_core::{CubeId, MemoryItem, Paging, RandomIds, RawItem, ReadInput, Scope, SystemClock};
use mos_testkit::chat::ScriptedChat;
use mos_testkit::embedder::WordEmbedder;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::ann;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a plugin does with a text that it sees.
#[derive(Clone, Copy, Debug, Default)]
enum Deed {
    /// Writes its name behind it.
    #[default]
    Signs,
    Refuses,
    Fails,
    Panics,
    Hangs,
}

/// A plugin that does its deed wherever something is added or asked.
#[derive(Debug, Default)]
struct Doing {
    name: &'static str,
    priority: i32,
    is_shy: bool,
    deed: Deed,
}

impl Doing {
    async fn signed(&self, text: &str) -> HookResult<String> {
        match self.deed {
            Deed::Signs => Ok(format!("{text} {}", self.name)),
            Deed::Refuses => Err(HookError::refuse("not on Sundays")),
            Deed::Fails => Err(HookError::failed("its dictionary is missing")),
            Deed::Panics => panic!("this plugin panics on purpose"),
            Deed::Hangs => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Plugin for Doing {
    fn name(&self) -> &str {
        self.name
    }

    fn priority(&self) -> i32 {
        self.priority
    }

    fn enabled_by_default(&self) -> bool {
        !self.is_shy
    }

    async fn before_add(&self, _: &HookContext, mut content: AddContent) -> HookResult<AddContent> {
        if let AddContent::Text(text) = &mut content {
            *text = self.signed(text).await?;
        }
        Ok(content)
    }

    async fn before_search(&self, _: &HookContext, mut search: SearchHook) -> HookResult<SearchHook> {
        search.request.query = self.signed(&search.request.query).await?;
        Ok(search)
    }

    async fn after_search(&self, _: &HookContext, found: SearchResult) -> HookResult<SearchResult> {
        self.signed("").await?;
        Ok(found)
    }
}

fn plugin(name: &'static str, priority: i32, deed: Deed) -> Arc<dyn Plugin> {
    Arc::new(Doing { name, priority, deed, ..Doing::default() })
}

fn builder(folder: &TempDir, settings: Value) -> MosBuilder {
    let settings = Settings::from_json(&settings).unwrap();
    Mos::builder(settings).data_dir(folder.path()).embedder(Arc::new(WordEmbedder::new("words", 64)))
}

/// Ann and her cube `notes`.
async fn furnished(builder: MosBuilder) -> Mos {
    let mos = builder.build().await.unwrap();
    mos.create_user("ann", None).await.unwrap();
    mos.create_cube(&ann(), NewCube::new("notes")).await.unwrap();
    mos
}

async fn house(plugins: Vec<Arc<dyn Plugin>>) -> (TempDir, Mos) {
    let folder = tempfile::tempdir().unwrap();
    let mos = furnished(builder(&folder, json!({})).plugins(plugins)).await;
    (folder, mos)
}

/// Why these plugins cannot be there together.
async fn refused(plugins: Vec<Arc<dyn Plugin>>, settings: Value) -> String {
    let folder = tempfile::tempdir().unwrap();
    builder(&folder, settings).plugins(plugins).build().await.unwrap_err().to_string()
}

fn tell(text: &str) -> Add {
    Add::text(text).user("ann")
}

/// The texts of all memories of ann's.
async fn texts(mos: &Mos) -> Vec<String> {
    let all = mos.get_all(&ann(), None).await.unwrap();
    all.text_mem[0].memories.iter().map(|item| item.memory.clone()).collect()
}

fn n_failed(mos: &Mos) -> HashMap<String, u64> {
    mos.plugins().into_iter().map(|info| (info.name, info.n_failed)).collect()
}

#[tokio::test]
async fn each_plugin_gets_what_the_one_before_returned_by_priority_then_by_name() {
    let plugins = vec![
        plugin("last", -1, Deed::Signs),
        plugin("b", 0, Deed::Signs),
        plugin("a", 0, Deed::Signs),
        plugin("first", 7, Deed::Signs),
    ];
    let (_folder, mos) = house(plugins).await;
    mos.add(tell("tea")).await.unwrap();
    assert_eq!(texts(&mos).await, ["tea first a b last"]);
    let names: Vec<String> = mos.plugins().into_iter().map(|info| info.name).collect();
    assert_eq!(names, ["first", "a", "b", "last"]);
}

#[tokio::test]
async fn what_a_plugin_refuses_is_not_done_and_its_reason_is_told() {
    let (_folder, mos) = house(vec![plugin("strict", 0, Deed::Refuses)]).await;
    let error = mos.add(tell("tea")).await.unwrap_err();
    let Error::Plugin { name, reason } = &error else { panic!("{error}") };
    assert_eq!((name.as_str(), reason.as_str()), ("strict", "not on Sundays"));
    assert!(texts(&mos).await.is_empty());
    assert!(matches!(mos.search(Search::new("tea").user("ann")).await, Err(Error::Plugin { .. })));
    assert_eq!(n_failed(&mos)["strict"], 0, "a refusal is no failure");
}

#[tokio::test]
async fn a_hook_that_fails_panics_or_hangs_changes_nothing_and_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let plugins = [
        plugin("failing", 3, Deed::Fails),
        plugin("panicking", 2, Deed::Panics),
        plugin("hanging", 1, Deed::Hangs),
        plugin("signing", 0, Deed::Signs),
    ];
    let limited = builder(&folder, json!({})).plugins(plugins).plugin_time_limit(Duration::from_millis(300));
    let mos = furnished(limited).await;
    mos.add(tell("tea")).await.unwrap();
    assert_eq!(texts(&mos).await, ["tea signing"]);
    let found = mos.search(Search::new("tea").user("ann")).await.unwrap();
    assert_eq!(found.best()[0].1.item.memory, "tea signing");
    let counted = n_failed(&mos);
    // Of each: adding, and before and after the search.
    assert_eq!((counted["failing"], counted["panicking"], counted["hanging"], counted["signing"]), (3, 3, 3, 0));
}

#[tokio::test]
async fn settings_switch_plugins_on_and_off_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let shy: Arc<dyn Plugin> = Arc::new(Doing { name: "shy", is_shy: true, ..Doing::default() });
    let other: Arc<dyn Plugin> = Arc::new(Doing { name: "other", is_shy: true, ..Doing::default() });
    let settings = json!({"plugins": {"enabled": ["shy"], "disabled": ["loud"]}});
    let plugins = [shy, other, plugin("loud", 0, Deed::Signs)];
    let mos = furnished(builder(&folder, settings).plugins(plugins)).await;
    mos.add(tell("tea")).await.unwrap();
    assert_eq!(texts(&mos).await, ["tea shy"]);
    let on: Vec<(String, bool)> = mos.plugins().into_iter().map(|info| (info.name, info.is_enabled)).collect();
    let expected = [("shy", true), ("loud", false), ("other", false)];
    assert_eq!(on, expected.map(|(name, is_on)| (name.to_owned(), is_on)));
}

#[tokio::test]
async fn an_unknown_name_in_the_settings_is_answered_with_the_known_ones() {
    let plugins = || vec![plugin("b", 0, Deed::Signs), plugin("a", 1, Deed::Signs)];
    for key in ["enabled", "disabled"] {
        let error = refused(plugins(), json!({"plugins": {(key): ["c"]}})).await;
        assert!(error.contains(&format!("plugins.{key}")) && error.contains("`c`"), "{error}");
        assert!(error.ends_with("there are: a, b"), "{error}");
    }
    let error = refused(vec![], json!({"plugins": {"enabled": ["c"]}})).await;
    assert!(error.ends_with("this program has none"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let nothing_to_switch_off = builder(&folder, json!({"plugins": {"disabled": ["c"]}}));
    assert!(nothing_to_switch_off.build().await.is_ok());
}

#[tokio::test]
async fn of_two_plugins_of_one_name_the_higher_priority_wins_and_equal_ones_are_refused() {
    let error = refused(vec![plugin("a", 1, Deed::Signs), plugin("a", 1, Deed::Fails)], json!({})).await;
    assert!(error.contains("two plugins have the name `a` and the priority 1"), "{error}");
    let (_folder, mos) = house(vec![plugin("a", 1, Deed::Refuses), plugin("a", 2, Deed::Signs)]).await;
    mos.add(tell("tea")).await.unwrap();
    assert_eq!(texts(&mos).await, ["tea a"]);
    assert_eq!(mos.plugins().len(), 1);
}

/// A plugin that says how memories stand in the prompt.
#[derive(Debug)]
struct Rendering(&'static str, HookResult<&'static str>);

#[async_trait]
impl Plugin for Rendering {
    fn name(&self) -> &str {
        self.0
    }

    fn renders_context(&self) -> bool {
        true
    }

    async fn render_context(&self, _: &HookContext, found: &ContextHook) -> HookResult<String> {
        let told = self.1.clone()?;
        let texts: Vec<&str> = found.memories.iter().map(|(_, memory)| memory.item.memory.as_str()).collect();
        Ok(format!("{told}: {} for {}", texts.join("; "), found.query))
    }
}

/// The system message of the chat after `tea at five` was remembered.
async fn told_by(plugin: Rendering) -> String {
    let folder = tempfile::tempdir().unwrap();
    let model = Arc::new(ScriptedChat::new(["ok"]));
    let settings = json!({"base_prompt": "<{memories}>"});
    let mos = furnished(builder(&folder, settings).chat_model(model.clone()).plugin(Arc::new(plugin))).await;
    mos.add(tell("tea at five")).await.unwrap();
    mos.chat(Chat::new("when is tea?").user("ann")).await.unwrap().complete().await.unwrap();
    model.requests()[0].messages[0].text()
}

#[tokio::test]
async fn one_plugin_at_most_renders_the_context() {
    assert_eq!(told_by(Rendering("poet", Ok("I know"))).await, "<I know: tea at five for when is tea?>");
    let failing = Rendering("poet", Err(HookError::failed("no ink")));
    let told = told_by(failing).await;
    assert!(told.starts_with('<') && told.ends_with("\n1. [user] tea at five>"), "as without a plugin: {told}");
    let poets =
        || -> Vec<Arc<dyn Plugin>> { vec![Arc::new(Rendering("poet", Ok("a"))), Arc::new(Rendering("bard", Ok("b")))] };
    let error = refused(poets(), json!({})).await;
    assert!(error.contains("`bard` and `poet` both render the context"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let one_is_off = builder(&folder, json!({"plugins": {"disabled": ["bard"]}})).plugins(poets());
    assert!(one_is_off.build().await.is_ok());
}

/// A plugin that notes what it is shown, and changes one thing in each hook that can.
#[derive(Debug, Default)]
struct Noting {
    seen: Mutex<Vec<String>>,
    context: OnceLock<PluginContext>,
}

impl Noting {
    fn note(&self, what: impl Into<String>) -> HookResult<()> {
        self.seen.lock().unwrap().push(what.into());
        Ok(())
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

#[async_trait]
impl Plugin for Noting {
    fn name(&self) -> &str {
        "noting"
    }

    async fn on_load(&self, context: PluginContext) -> HookResult<()> {
        self.context.set(context).map_err(|_| HookError::failed("it was loaded twice"))?;
        self.note("load")
    }

    async fn on_shutdown(&self) {
        self.note("shutdown").unwrap();
    }

    async fn before_store(&self, _: &HookContext, mut items: Vec<MemoryItem>) -> HookResult<Vec<MemoryItem>> {
        items.retain(|item| !item.memory.contains("nonsense"));
        for item in &mut items {
            item.metadata.tags.get_or_insert_default().push("seen".to_owned());
        }
        Ok(items)
    }

    async fn after_add(&self, context: &HookContext, added: &AddedMemories) -> HookResult<()> {
        assert_eq!(added.ids.len(), added.items.len());
        let cubes: Vec<&str> = context.cubes.iter().map(CubeId::as_str).collect();
        self.note(format!("{} added {} to {}", context.user, added.ids.len(), cubes.join(", ")))
    }

    async fn before_remember(&self, _: &HookContext, mut items: Vec<RawItem>) -> HookResult<Vec<RawItem>> {
        change_raw_texts(&mut items, |text| text.replace("7391", "****"));
        Ok(items)
    }

    async fn after_remember(&self, _: &HookContext, remembered: &Remembered) -> HookResult<()> {
        self.note(format!("remembered {}", remembered.ids.len()))
    }

    async fn after_search(&self, _: &HookContext, mut found: SearchResult) -> HookResult<SearchResult> {
        for cube in &mut found.text_mem {
            cube.memories.retain(|found| !found.item.memory.contains("secret"));
        }
        Ok(found)
    }

    async fn before_chat(&self, _: &HookContext, mut chat: ChatHook) -> HookResult<ChatHook> {
        chat.query = chat.query.replace("7391", "****");
        chat.base_prompt = Some("be kind".to_owned());
        Ok(chat)
    }

    async fn after_chat(&self, _: &HookContext, chat: &AnsweredChat) -> HookResult<()> {
        self.note(format!("{} -> {} ({})", chat.query, chat.answer, chat.memories.len()))
    }

    async fn before_handle(&self, _: &HookContext, messages: Vec<ScheduleMessage>) -> HookResult<Vec<ScheduleMessage>> {
        let is_rude = messages.iter().any(|message| message.content == "rude");
        if is_rude { Err(HookError::refuse("say it politely")) } else { Ok(messages) }
    }

    async fn after_handle(&self, _: &HookContext, messages: &[ScheduleMessage]) -> HookResult<()> {
        self.note(format!("handled {}", messages[0].label))
    }

    async fn on_event(&self, event: &Event) -> HookResult<()> {
        self.note(format!("event {}", event.label))
    }
}

#[tokio::test]
async fn memories_are_changed_and_left_out_before_they_are_stored_and_shown_afterwards() {
    let noting = Arc::new(Noting::default());
    let (_folder, mos) = house(vec![noting.clone()]).await;
    let id = mos.add(tell("tea at five")).await.unwrap().remove(0);
    assert!(mos.add(tell("nonsense")).await.unwrap().is_empty());
    let item = mos.get(&ann(), None, &id).await.unwrap();
    assert_eq!(item.metadata.tags.as_deref(), Some(&["seen".to_owned()][..]));
    let refused = mos.update(&ann(), None, &id, MemoryItem { memory: "nonsense".to_owned(), ..item }).await;
    assert!(refused.unwrap_err().to_string().contains("left out"));
    let input = ReadInput::text("The garage code is 7391 and nobody else knows it.");
    let remembered = mos.remember(Remember::new(input).user("ann")).await.unwrap();
    assert_eq!(remembered.ids.len(), 1);
    let read = mos.get(&ann(), None, &remembered.ids[0]).await.unwrap();
    assert!(read.memory.contains("****") && !read.memory.contains("7391"), "{}", read.memory);
    assert!(read.metadata.tags.unwrap().contains(&"seen".to_owned()));
    assert_eq!(noting.seen(), ["load", "ann added 1 to notes", "remembered 1"]);
    mos.stop().await;
    mos.stop().await;
    assert_eq!(noting.seen(), ["shutdown"], "once");
}

#[tokio::test]
async fn a_chat_says_keeps_and_searches_what_plugins_made_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (model, noting) = (Arc::new(ScriptedChat::new(["It is kept."])), Arc::new(Noting::default()));
    let mos = furnished(builder(&folder, json!({})).chat_model(model.clone()).plugin(noting.clone())).await;
    mos.add(tell("the garage code is a secret")).await.unwrap();
    let chat = Chat::new("My garage code is 7391 now").user("ann").remember(true);
    let reply = mos.chat(chat).await.unwrap();
    assert!(reply.memories.is_empty(), "what was found is dropped by the plugin");
    reply.complete().await.unwrap();
    let sent = &model.requests()[0].messages;
    assert_eq!((sent[0].text(), sent[1].text()), ("be kind".to_owned(), "My garage code is **** now".to_owned()));
    let history = mos.chat_history(&ann(), None).await.unwrap();
    assert!(history[0].text().contains("****"), "{history:?}");
    assert!(texts(&mos).await.iter().all(|text| !text.contains("7391")));
    mos.stop().await;
    assert!(noting.seen().contains(&"My garage code is **** now -> It is kept. (0)".to_owned()));
}

#[tokio::test]
async fn plugins_see_what_the_scheduler_handles_and_its_events_and_may_refuse_messages() {
    let folder = tempfile::tempdir().unwrap();
    let noting = Arc::new(Noting::default());
    let greeting = Registration::new(|_: HandlerContext, _: Vec<ScheduleMessage>| async { Ok(()) });
    let scheduled = builder(&folder, json!({"enable_mem_scheduler": true})).handlers([("greet", greeting)]);
    let mos = furnished(scheduled.plugin(noting.clone())).await;
    let scheduler = mos.scheduler().unwrap();
    mos.add(tell("tea at five")).await.unwrap();
    let cube = CubeId::from("notes");
    let rude = ScheduleMessage::new("greet", ann(), cube.clone(), "rude", &SystemClock, &RandomIds);
    scheduler.submit_messages(vec![rude]).await.unwrap();
    assert!(scheduler.wait_until_idle(PATIENCE).await.unwrap(), "something is still to be done");
    let given_up = scheduler.given_up(&Scope::of(&cube), Paging::ALL).await.unwrap();
    assert_eq!(given_up.entries.len(), 1);
    assert!(given_up.entries[0].reason.contains("say it politely"), "{}", given_up.entries[0].reason);
    mos.stop().await;
    let seen = noting.seen();
    assert!(seen.contains(&format!("handled {}", label::ADD)), "{seen:?}");
    assert!(!seen.contains(&"handled greet".to_owned()), "{seen:?}");
    let told = format!("event {}", event::ADD_MEMORY);
    let place = |what: &str| seen.iter().position(|one| one == what);
    assert!(place(&told).is_some() && place(&told) < place("shutdown"), "{seen:?}");
}

/// A plugin that adds a memory whenever one was added.
#[derive(Debug, Default)]
struct Echoing {
    context: OnceLock<PluginContext>,
}

#[async_trait]
impl Plugin for Echoing {
    fn name(&self) -> &str {
        "echoing"
    }

    async fn on_load(&self, context: PluginContext) -> HookResult<()> {
        self.context.set(context).map_err(|_| HookError::failed("it was loaded twice"))
    }

    async fn after_add(&self, context: &HookContext, added: &AddedMemories) -> HookResult<()> {
        let gone = || HookError::failed("the program ends");
        let mos = self.context.get().and_then(PluginContext::mos).ok_or_else(gone)?;
        let echo = Add::text(format!("echo of {}", added.items[0].memory)).user(context.user.clone());
        mos.add(echo).await.map(drop).map_err(HookError::failed)
    }
}

#[tokio::test]
async fn what_a_hook_does_goes_through_the_other_plugins_and_not_through_its_own() {
    let (_folder, mos) = house(vec![Arc::new(Echoing::default()), plugin("signing", 0, Deed::Signs)]).await;
    mos.add(tell("tea")).await.unwrap();
    let mut all = texts(&mos).await;
    all.sort();
    assert_eq!(all, ["echo of tea signing signing", "tea signing"]);
    assert_eq!(n_failed(&mos)["echoing"], 0);
}

/// A plugin that cannot work.
#[derive(Debug)]
struct Broken;

#[async_trait]
impl Plugin for Broken {
    fn name(&self) -> &str {
        "broken"
    }

    async fn on_load(&self, _: PluginContext) -> HookResult<()> {
        Err(HookError::failed("its key is missing"))
    }
}

#[tokio::test]
async fn a_plugin_that_does_not_load_is_an_error_of_the_build() {
    let error = refused(vec![Arc::new(Broken)], json!({})).await;
    assert_eq!(error, "plugin `broken`: it could not be loaded: its key is missing");
}
