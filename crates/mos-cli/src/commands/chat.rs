//! `mos chat`.

use std::io::BufRead;

use futures::StreamExt;
use mos::{Chat, ChatReply, Mos};
use mos_core::{ChatEvent, ChatUsage};
use serde_json::json;

use crate::arguments::ChatArguments;
use crate::context::Context;
use crate::output::is_interactive;
use crate::progress;

pub(super) async fn run(context: &Context, arguments: ChatArguments) -> anyhow::Result<()> {
    let mos = context.open().await?;
    context.ensure_cube(&mos).await?;
    let spinner = progress::spinner("loading the model");
    let model = mos.chat_model().await;
    spinner.finish_and_clear();
    let model = model?;
    if let Some(question) = &arguments.once {
        let reply = mos.chat(request(context, &arguments, question)).await?;
        return answer(context, reply).await;
    }
    let interactive = is_interactive();
    if interactive {
        context.output.note(&format!(
            "Talking to {}. What you tell is remembered. `clear` forgets the conversation, `memories` lists what is \
             known, `bye` ends.",
            model.name()
        ));
    }
    converse(context, &arguments, &mos, interactive).await
}

fn request(context: &Context, arguments: &ChatArguments, question: &str) -> Chat {
    let mut chat = Chat::new(question).user(context.user.clone()).remember(!arguments.no_remember);
    if let Some(cube) = &context.cube {
        chat = chat.cubes([cube.clone()]);
    }
    if let Some(session) = &arguments.session {
        chat = chat.session(session.as_str());
    }
    chat
}

async fn converse(context: &Context, arguments: &ChatArguments, mos: &Mos, interactive: bool) -> anyhow::Result<()> {
    loop {
        if interactive {
            context.output.raw("you> ")?;
        }
        let Some(line) = next_line().await? else { return Ok(()) };
        match line.trim() {
            "" => {}
            "bye" => return Ok(()),
            "clear" => mos.clear_messages(&context.user).await?,
            "memories" => super::memories::list(context).await?,
            question => {
                if interactive {
                    context.output.raw("mos> ")?;
                }
                let reply = mos.chat(request(context, arguments, question)).await?;
                answer(context, reply).await?;
            }
        }
    }
}

async fn next_line() -> anyhow::Result<Option<String>> {
    tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        let n_bytes = std::io::stdin().lock().read_line(&mut line)?;
        Ok((n_bytes > 0).then_some(line))
    })
    .await?
}

/// Prints an answer as it comes, or at its end as JSON.
async fn answer(context: &Context, mut reply: ChatReply) -> anyhow::Result<()> {
    if context.output.json {
        let memories: Vec<_> =
            reply.memories.iter().map(|(cube, found)| json!({"cube_id": cube, "memory": found})).collect();
        let (text, usage) = reply.complete().await?;
        return context.output.value(&json!({"answer": text, "memories": memories, "usage": usage}), |_| text.clone());
    }
    print_stream(context, &mut reply).await.map(drop)
}

/// Prints the text of an answer as it comes and returns what it took.
pub(super) async fn print_stream(context: &Context, reply: &mut ChatReply) -> anyhow::Result<ChatUsage> {
    while let Some(event) = reply.next().await {
        match event? {
            ChatEvent::Text(text) => context.output.raw(&text)?,
            ChatEvent::Done(usage) => {
                context.output.raw("\n")?;
                return Ok(usage);
            }
        }
    }
    anyhow::bail!("the answer broke off before its end; try again")
}
