//! `mos chat`.

use std::io::{BufRead, Read};

use futures::StreamExt;
use mos::{Chat, ChatReply, FoundMemory, Mos, Search};
use mos_core::{ChatEvent, ChatUsage, CubeId, MemoryError, SearchMode, StoreError};
use serde_json::{Value, json};

use crate::arguments::ChatArguments;
use crate::context::Context;
use crate::output::{describe, is_interactive};
use crate::progress;

/// The longest line that is read.
const MAX_LINE_BYTES: u64 = 16 << 20;

pub(super) async fn run(context: &Context, arguments: ChatArguments) -> anyhow::Result<()> {
    let mos = context.open().await?;
    context.ensure_cube(&mos).await?;
    let model = progress::spinning("loading the model", mos.chat_model()).await?;
    if let Some(question) = &arguments.once {
        let reply = mos.chat(request(context, &arguments, question)?).await?;
        answer(context, &arguments, reply).await?;
        return finish(context, &mos).await;
    }
    if mos.scheduler().is_some() {
        mos.mem_scheduler_on()?;
    }
    let interactive = is_interactive();
    if interactive {
        context.output.note(&format!(
            "Talking to {}. What you tell is remembered. `clear` forgets the conversation, `memories` lists what is \
             known, `bye` ends.",
            model.name()
        ));
    }
    let done = converse(context, &arguments, &mos, interactive).await;
    let finished = finish(context, &mos).await;
    done.and(finished)
}

/// Waits for what is learned and organised beside the answers; what else is to be done in the background waits for the next
/// program.
async fn finish(context: &Context, mos: &Mos) -> anyhow::Result<()> {
    progress::spinning("finishing", mos.stop()).await;
    super::organize::wait(context, mos, context.cube.as_ref()).await
}

fn request(context: &Context, arguments: &ChatArguments, question: &str) -> anyhow::Result<Chat> {
    let mode = SearchMode::parse(&arguments.mode)
        .ok_or_else(|| anyhow::anyhow!("`{}` is no mode of searches", arguments.mode))?;
    let mut chat = Chat::new(question)
        .user(context.user.clone())
        .remember(!arguments.no_remember)
        .searching(|search| searching(search.mode(mode), arguments));
    if let Some(cube) = &context.cube {
        chat = chat.cubes([cube.clone()]);
    }
    if let Some(session) = &arguments.session {
        chat = chat.session(session.as_str());
    }
    Ok(chat)
}

/// The search for memories that the arguments ask for.
fn searching(search: Search, arguments: &ChatArguments) -> Search {
    let mut search = search
        .deep(arguments.deep)
        .sub_questions(arguments.sub_questions)
        .rerank(!arguments.no_rerank)
        .internet(arguments.internet)
        .relevance(arguments.relevance);
    if let Some(top_k) = arguments.top_k {
        search = search.top_k(top_k);
    }
    if let Some(session) = &arguments.prefer_session {
        search = search.prefer_session(session.as_str());
    }
    search
}

/// Answers line by line. A line that cannot be answered is told and the conversation goes on.
async fn converse(context: &Context, arguments: &ChatArguments, mos: &Mos, interactive: bool) -> anyhow::Result<()> {
    let mut n_failed = 0;
    loop {
        if interactive {
            context.output.raw("you> ")?;
        }
        let Some(line) = next_line().await? else { break };
        let done = match std::str::from_utf8(&line).map(str::trim) {
            Err(_) => Err(anyhow::anyhow!("the line is not UTF-8 text")),
            Ok("") => Ok(()),
            Ok("bye") => break,
            Ok("clear") => mos.clear_messages(&context.user).await.map_err(Into::into),
            Ok("memories") => super::memories::list_of(context, mos).await,
            Ok(question) => reply(context, arguments, mos, question, interactive).await,
        };
        match done {
            Ok(()) => {}
            Err(error) if is_final(&error) => return Err(error),
            Err(error) => {
                context.output.error(&describe(&error));
                n_failed += 1;
            }
        }
        // Input without end, as from `yes`, would be answered for ever.
        if context.output.nobody_reads() {
            break;
        }
    }
    // A person has read it; a script looks at the exit code.
    anyhow::ensure!(interactive || n_failed == 0, "{n_failed} lines could not be answered; see above");
    Ok(())
}

/// Whether the next line would fail in the same way: the memories or the place for the answer are gone.
fn is_final(error: &anyhow::Error) -> bool {
    use StoreError::{Corrupt, Newer, Unavailable};
    let store = match error.downcast_ref::<mos::Error>() {
        Some(mos::Error::Memory(MemoryError::Store(store))) => Some(store),
        _ => None,
    };
    matches!(store, Some(Unavailable { .. } | Corrupt { .. } | Newer { .. })) || error.is::<std::io::Error>()
}

async fn reply(
    context: &Context,
    arguments: &ChatArguments,
    mos: &Mos,
    question: &str,
    interactive: bool,
) -> anyhow::Result<()> {
    let reply = mos.chat(request(context, arguments, question)?).await?;
    if interactive {
        context.output.raw("mos> ")?;
    }
    answer(context, arguments, reply).await
}

/// Returns the next line with its end; `None` when there is no more.
async fn next_line() -> anyhow::Result<Option<Vec<u8>>> {
    tokio::task::spawn_blocking(|| {
        let mut line = Vec::new();
        let n_bytes = std::io::stdin().lock().take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut line)?;
        let limit = MAX_LINE_BYTES >> 20;
        anyhow::ensure!(
            n_bytes as u64 <= MAX_LINE_BYTES,
            "a line has more than {limit} MiB; `mos add` reads long texts"
        );
        Ok((n_bytes > 0).then_some(line))
    })
    .await?
}

/// Prints an answer as it comes, or at its end as JSON.
async fn answer(context: &Context, arguments: &ChatArguments, mut reply: ChatReply) -> anyhow::Result<()> {
    if !context.output.json && wants_notes(arguments) {
        for (cube, note) in &reply.notes {
            context.output.note(&format!("note: {cube}: {note}"));
        }
    }
    if arguments.show_memories {
        show(context, "memory", &reply.memories);
        show(context, "preference", &reply.preferences);
    }
    if context.output.json {
        let (memories, preferences) = (json_of(&reply.memories), json_of(&reply.preferences));
        let (activation, notes) = (std::mem::take(&mut reply.activation), notes_of(&reply));
        let (text, usage) = reply.complete().await?;
        let told = json!({
            "answer": text,
            "memories": memories,
            "preferences": preferences,
            "activation": activation,
            "notes": notes,
            "usage": usage,
        });
        return context.output.value(&told, |_| text.clone());
    }
    print_stream(context, &mut reply).await.map(drop)
}

/// Whether somebody has asked how memories are found; others need not hear that a cube is still empty.
fn wants_notes(arguments: &ChatArguments) -> bool {
    let asks_a_model = arguments.mode != SearchMode::Fast.as_str() || arguments.deep || arguments.sub_questions;
    arguments.show_memories || asks_a_model || arguments.internet || arguments.relevance > 0.0
}

fn show(context: &Context, what: &str, found: &[(CubeId, FoundMemory)]) {
    for (cube, found) in found {
        let (score, item) = (found.score, &found.item);
        context.output.note(&format!("{what}  {score:.3}  {}  ({} in {cube})", item.memory, item.id));
    }
}

fn json_of(found: &[(CubeId, FoundMemory)]) -> Vec<Value> {
    found.iter().map(|(cube, found)| json!({"cube_id": cube, "memory": found})).collect()
}

fn notes_of(reply: &ChatReply) -> Vec<Value> {
    reply.notes.iter().map(|(cube, note)| json!({"cube_id": cube, "note": note})).collect()
}

/// Prints the text of an answer as it comes and returns what it took.
pub(super) async fn print_stream(context: &Context, reply: &mut ChatReply) -> anyhow::Result<ChatUsage> {
    while let Some(event) = reply.next().await {
        match event {
            Ok(ChatEvent::Text(text)) => context.output.raw(&text)?,
            Ok(ChatEvent::Done(usage)) => {
                context.output.raw("\n")?;
                return Ok(usage);
            }
            Err(error) => {
                // What is told next begins a line of its own.
                context.output.raw("\n")?;
                return Err(error.into());
            }
        }
    }
    anyhow::bail!("the answer broke off before its end; try again")
}
