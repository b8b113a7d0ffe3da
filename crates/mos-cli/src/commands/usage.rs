//! `mos usage`

use mos::{TokenSums, Usage};

use crate::context::Context;

pub(super) async fn run(context: &Context) -> anyhow::Result<()> {
    let usage = context.open().await?.usage(&context.user).await?;
    context.output.value(&usage, describe)
}

fn describe(usage: &Usage) -> String {
    let mut lines =
        vec![line("today", &usage.today, usage.left_today), line("in all", &usage.total, usage.left_in_all)];
    lines.extend(usage.entries.iter().map(|entry| {
        let day = if entry.day.is_empty() { "earlier" } else { &entry.day };
        let cube = entry.cube_id.as_ref().map_or("-", |cube| cube.as_str());
        format!("{day}  {cube}  {}  {}", entry.model, sums(&entry.tokens))
    }));
    lines.join("\n")
}

fn line(period: &str, tokens: &TokenSums, left: Option<u64>) -> String {
    let left = left.map_or_else(String::new, |left| format!("; {left} left"));
    format!("{period}: {}{left}", sums(tokens))
}

fn sums(tokens: &TokenSums) -> String {
    let TokenSums { calls, prompt_tokens, cached_tokens, completion_tokens, embedded_tokens } = tokens;
    format!(
        "{calls} answers, {prompt_tokens} tokens asked ({cached_tokens} cached), {completion_tokens} answered, \
         {embedded_tokens} embedded"
    )
}
