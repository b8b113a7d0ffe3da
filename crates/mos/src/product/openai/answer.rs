//! Answers in OpenAI's shape.

use mos_core::{ChatUsage, CubeId, FinishReason};
use serde_json::{Value, json};

use crate::facade::{ChatReply, FoundMemory};

/// What every piece of an answer begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// `chatcmpl-...`
    pub(super) id: String,
    /// Seconds since 1970.
    pub(super) created: i64,
    /// The name by which the model can be asked for.
    pub(super) model: String,
}

impl Head {
    /// Returns a whole answer.
    pub(super) fn whole(
        &self,
        answer: &str,
        reasoning: Option<&str>,
        usage: &ChatUsage,
        explained: Option<Value>,
    ) -> Value {
        let says_nothing = answer.is_empty() && !usage.tool_calls.is_empty();
        let content = if says_nothing { Value::Null } else { json!(answer) };
        let mut message = json!({"role": "assistant", "content": content, "refusal": null});
        if let Some(reasoning) = reasoning {
            message["reasoning_content"] = json!(reasoning);
        }
        if !usage.tool_calls.is_empty() {
            message["tool_calls"] = json!(usage.tool_calls);
        }
        let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": finish_reason(usage)});
        let thought = reasoning.map_or(0, |text| text.chars().count());
        let usage = usage_of(usage, Share { thought, said: answer.chars().count() });
        let mut whole = json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
            "choices": [choice], "usage": usage, "system_fingerprint": null,
        });
        if let Some(explained) = explained {
            whole["mos"] = explained;
        }
        whole
    }

    /// Returns a piece of an answer.
    pub(super) fn chunk(&self, delta: Value, finish: Option<&str>) -> Value {
        self.chunk_of(json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]))
    }

    /// Returns the last piece of an answer, which tells what it took.
    pub(super) fn usage_chunk(&self, usage: Value) -> Value {
        let mut chunk = self.chunk_of(json!([]));
        chunk["usage"] = usage;
        chunk
    }

    fn chunk_of(&self, choices: Value) -> Value {
        json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "system_fingerprint": null, "choices": choices,
        })
    }
}

/// How long the thoughts and the words of an answer are, in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) thought: usize,
    pub(super) said: usize,
}

/// Returns why an answer ended, in OpenAI's words.
pub(super) fn finish_reason(usage: &ChatUsage) -> &'static str {
    match usage.finish {
        _ if !usage.tool_calls.is_empty() => "tool_calls",
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    }
}

/// Returns what an answer took. Models tell no tokens of their thoughts apart: these are the part of all that goes with their
/// length.
pub(super) fn usage_of(usage: &ChatUsage, share: Share) -> Value {
    let n_letters = share.thought + share.said;
    let thought = usage.completion_tokens.saturating_mul(share.thought).checked_div(n_letters).unwrap_or(0);
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens.saturating_add(usage.completion_tokens),
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": thought, "audio_tokens": 0},
    })
}

/// Returns the calls of tools as a stream tells them.
pub(super) fn numbered_calls(calls: &[Value]) -> Value {
    let numbered = calls.iter().enumerate().map(|(index, call)| {
        let mut numbered = json!({"index": index});
        if let (Some(numbered), Some(call)) = (numbered.as_object_mut(), call.as_object()) {
            numbered.extend(call.clone());
        }
        numbered
    });
    Value::Array(numbered.collect())
}

/// Returns how memory took part in an answer: what was recalled for it, and what could not be done.
pub(super) fn explained(reply: &ChatReply, notes: &[String]) -> Value {
    let mut notes = notes.to_vec();
    notes.extend(reply.notes.iter().map(|(cube, note)| format!("{cube}: {note}")));
    notes.extend(reply.skipped.iter().map(|skipped| format!("{}: {}", skipped.cube_id, skipped.reason)));
    json!({"memories": hits(&reply.memories), "preferences": hits(&reply.preferences), "notes": notes})
}

fn hits(found: &[(CubeId, FoundMemory)]) -> Vec<Value> {
    let hit = |(cube, found): &(CubeId, FoundMemory)| {
        let item = &found.item;
        json!({"id": item.id, "cube_id": cube, "memory": item.memory, "relativity": found.relativity})
    };
    found.iter().map(hit).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn usage(tool_calls: Vec<Value>) -> ChatUsage {
        ChatUsage {
            prompt_tokens: 10,
            cached_tokens: 4,
            completion_tokens: 8,
            time_to_first_token: Duration::ZERO,
            finish: FinishReason::Length,
            tool_calls,
        }
    }

    fn head() -> Head {
        Head { id: "chatcmpl-1".to_owned(), created: 7, model: "m".to_owned() }
    }

    #[test]
    fn a_whole_answer_has_every_field_of_openais() {
        let whole = head().whole("Max.", Some("a dog? yes."), &usage(Vec::new()), Some(json!({"memories": []})));
        let expected = json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 7, "model": "m",
            "choices": [{"index": 0, "logprobs": null, "finish_reason": "length", "message": {
                "role": "assistant", "content": "Max.", "refusal": null, "reasoning_content": "a dog? yes."}}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 8, "total_tokens": 18,
                "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 5, "audio_tokens": 0}},
            "system_fingerprint": null,
            "mos": {"memories": []},
        });
        assert_eq!(whole, expected);
    }

    #[test]
    fn calls_of_tools_are_the_answer_when_nothing_is_said() {
        let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}});
        let whole = head().whole("", None, &usage(vec![call.clone()]), None);
        let choice = &whole["choices"][0];
        assert_eq!((&choice["finish_reason"], &choice["message"]["content"]), (&json!("tool_calls"), &Value::Null));
        assert_eq!(choice["message"]["tool_calls"], json!([call]));
        assert!(whole.get("mos").is_none());
        assert_eq!(numbered_calls(std::slice::from_ref(&call))[0]["index"], 0);
        assert_eq!(numbered_calls(&[call])[0]["function"]["name"], "f");
    }
}
