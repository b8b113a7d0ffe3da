//! A puppy named Max: two handlers of the program's own decide what is remembered well, and chats begin with it.
//!
//! The first handler gets each question and hands it on; the second one looks for memories that fit, keeps a small working
//! memory, and promotes that to activation memory. Both get the cube of their message, whoever asked.
//!
//! Run `cargo run --release -- models pull` once, then
//! `cargo run --release -p mos-examples --example memory_scheduling [-- --config FILE] [--model NAME]`.
#![allow(clippy::print_stdout, reason = "an example shows its results")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use mos::config::process_environment;
use mos::scheduler::{HandlerContext, HandlerError, Registration, ScheduleMessage, label};
use mos::{Add, Chat, Mos, NewCube, Settings};
use mos_core::{ActivationId, CubeId, Message, SearchRequest, UserId};

/// Memories that are looked for with each question.
const TOP_K: usize = 4;

/// Memories of the working memory.
const WORKING: usize = 6;

/// What the user asks later on.
const QUESTIONS: [(&str, &str); 5] = [
    ("name", "What is my dog's name?"),
    ("breed", "What breed is Max?"),
    ("treats", "Which treats does Max like best?"),
    ("address", "Where do I live?"),
    ("allergy", "Which food must I stay away from because of my allergy?"),
];

/// What the user told before.
fn story() -> Vec<Message> {
    vec![
        Message::user("Guess what, since yesterday I have a puppy, a golden retriever!"),
        Message::assistant("How lovely! What is the little one called?"),
        Message::user("My dog's name is Max. I live near Central Park in New York, so there is room to run."),
        Message::assistant("A park next door is perfect for him. What does he get as a reward?"),
        Message::user("Max likes peanut butter biscuits best. I have an allergy to nuts, so I never taste them."),
        Message::assistant("Then keep the biscuits in a box of their own."),
    ]
}

/// Memories that matter at the moment, the latest last.
#[derive(Clone, Debug, Default)]
struct WorkingMemory(Arc<Mutex<Vec<String>>>);

/// What chats begin with at the moment.
type Current = Arc<Mutex<Option<ActivationId>>>;

impl WorkingMemory {
    /// Takes memories in, those that are there already move to the end, and returns all.
    fn take_in(&self, texts: &[String]) -> Vec<String> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|known| !texts.contains(known));
        kept.extend_from_slice(texts);
        let n_surplus = kept.len().saturating_sub(WORKING);
        kept.drain(..n_surplus);
        kept.clone()
    }

    fn texts(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Takes the place of the built-in handler of `query`: shows the question and has the memory follow it.
async fn on_query(context: HandlerContext, messages: Vec<ScheduleMessage>) -> Result<(), HandlerError> {
    for message in &messages {
        println!("[scheduler] {} asked: {}", message.user_id, message.content);
    }
    let updates = messages.iter().map(|message| message.with_label(label::MEM_UPDATE)).collect();
    context.submit(updates).await.map(drop)
}

/// Takes the place of the built-in handler of `mem_update`: retrieves, renews the working memory, promotes it.
async fn on_update(
    working: WorkingMemory,
    current: Current,
    context: HandlerContext,
    messages: Vec<ScheduleMessage>,
) -> Result<(), HandlerError> {
    for message in &messages {
        let found = context.cube.text.search(&SearchRequest::new(message.content.as_str(), TOP_K)).await?;
        let mut texts: Vec<String> = found.hits.into_iter().map(|hit| hit.item.memory).collect();
        for text in &texts {
            println!("[scheduler] retrieved: {text}");
        }
        // The best comes last, so that it stays longest.
        texts.reverse();
        promote(&context, &current, &working.take_in(&texts)).await?;
    }
    Ok(())
}

/// Computes the working memory ahead, in a fixed order: the same memories are computed once. What chats began with before is
/// of no more use.
async fn promote(context: &HandlerContext, current: &Current, texts: &[String]) -> Result<(), HandlerError> {
    let Some(activation) = &context.cube.activation else { return Ok(()) };
    let mut texts = texts.to_vec();
    texts.sort();
    let id = activation.promote(&activation.beginning(&texts)).await?;
    activation.use_in_chats(Some(&id)).await?;
    let before = current.lock().unwrap_or_else(PoisonError::into_inner).replace(id.clone());
    if let Some(before) = before.filter(|before| *before != id) {
        activation.delete(&before).await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let working = WorkingMemory::default();
    let mos = open(folder.path(), &working).await?;
    let (ann, cube) = (UserId::from("ann"), CubeId::from("mem_cube_5"));
    mos.ensure_user(&ann).await?;
    mos.create_cube(&ann, NewCube::new(cube.clone())).await?;
    mos.add(Add::messages(story()).user(ann.clone()).cube(cube.clone())).await?;

    for (subject, question) in QUESTIONS {
        println!("\n== {subject}: {question}");
        let chat = Chat::new(question).user(ann.clone()).cubes([cube.clone()]).session(subject);
        let (answer, usage) = mos.chat(chat).await?.complete().await?;
        println!("{answer}");
        let n_computed = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
        println!("({n_computed} of {} prompt tokens were computed)", usage.prompt_tokens);
        settle(&mos).await?;
        for text in working.texts() {
            println!("[working memory] {text}");
        }
        for cache in mos.promoted(&ann, Some(&cube)).await?.into_iter().filter(|cache| cache.is_used) {
            let (n_memories, n_chats) = (cache.memories.len(), cache.n_chats);
            println!("[activation memory] {}: {n_memories} memories, {n_chats} chats began with it", cache.id);
        }
    }
    let stopped = mos.stop().await;
    println!("\nstopped; {} batches were broken off", stopped.unfinished);
    Ok(())
}

/// Opens a facade with the two handlers, as the settings and the arguments say.
async fn open(folder: &Path, working: &WorkingMemory) -> anyhow::Result<Mos> {
    let (file, model) = arguments()?;
    let mut environment = process_environment();
    environment.extend(model.map(|model| ("MOS__CHAT_MODEL__CONFIG__MODEL_NAME_OR_PATH".to_owned(), model)));
    let settings = Settings::load(Some(&file), environment)?.settings;
    let (working, current) = (working.clone(), Current::default());
    let on_update = Registration::new(move |context: HandlerContext, messages: Vec<ScheduleMessage>| {
        on_update(working.clone(), Arc::clone(&current), context, messages)
    });
    let handlers = [(label::QUERY, Registration::new(on_query)), (label::MEM_UPDATE, on_update)];
    Ok(Mos::builder(settings).data_dir(folder).handlers(handlers).build().await?)
}

/// Waits until everything is done that the last question led to.
async fn settle(mos: &Mos) -> anyhow::Result<()> {
    mos.wait_for_sending().await;
    let scheduler = mos.require_scheduler()?;
    let is_idle = scheduler.wait_until_idle(Duration::from_secs(120)).await?;
    anyhow::ensure!(is_idle, "the scheduler has not come to an end after two minutes");
    Ok(())
}

/// The settings file and the model that were asked for.
fn arguments() -> anyhow::Result<(PathBuf, Option<String>)> {
    let mut file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/memory-scheduling.yaml");
    let mut model = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--config" => file = PathBuf::from(value()?),
            "--model" => model = Some(value()?),
            _ => anyhow::bail!("`{argument}` is unknown; there are --config FILE and --model NAME"),
        }
    }
    Ok((file, model))
}
