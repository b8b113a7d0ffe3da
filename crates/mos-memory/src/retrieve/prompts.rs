//! What models are asked for retrieval.

use std::fmt::Write as _;

use mos_core::language::{self, Language};
use mos_core::{Hit, Message};

/// The most characters of one memory that a model is shown.
const MAX_SHOWN: usize = 1_000;

/// The most characters of a conversation that a model is shown; the end counts.
const MAX_CONVERSATION: usize = 6_000;

/// The question what a question is after.
pub(super) fn goal(question: &str, conversation: &[Message]) -> Vec<Message> {
    let (instructions, earlier, asked) = match language::detect(question) {
        Language::English => (
            "You prepare a search in a person's memories. Read the question, and the conversation before it if there is one.\n\
             Answer with one JSON object and nothing else:\n\
             {\"memories\": [short statements that an answer could stand in, in the words a memory would use, at most 5],\n \
             \"keys\": [titles under which such a memory may be filed, at most 5],\n \
             \"tags\": [topics, one or two words each, at most 5],\n \
             \"goal_type\": \"fact\" or \"timeline\" or \"preference\" or \"summary\" or \"chat\",\n \
             \"rephrased_instruction\": the question so that it is clear without the conversation, or \"\" when it is clear,\n \
             \"internet_search\": true only when the answer cannot be in memories and may have changed lately}",
            "Conversation before:",
            "Question:",
        ),
        Language::Chinese => (
            "你在为一次记忆检索做准备。请阅读问题，以及问题之前的对话（如果有）。\n\
             只回答一个 JSON 对象，不要有其他内容：\n\
             {\"memories\": [答案可能出现在其中的简短陈述，用记忆中会用的说法，最多 5 条],\n \
             \"keys\": [这样的记忆可能的标题，最多 5 个],\n \
             \"tags\": [主题词，最多 5 个],\n \
             \"goal_type\": \"fact\"、\"timeline\"、\"preference\"、\"summary\" 或 \"chat\",\n \
             \"rephrased_instruction\": 不看对话也能看懂的问题；本来就清楚时为 \"\",\n \
             \"internet_search\": 只有当答案不可能在记忆里、而且近来可能有变化时才为 true}",
            "之前的对话：",
            "问题：",
        ),
    };
    let mut text = String::new();
    let before = transcript(conversation);
    if !before.is_empty() {
        let _ = writeln!(text, "{earlier}\n{before}\n");
    }
    let _ = write!(text, "{asked} {question}");
    vec![Message::system(instructions), Message::user(text)]
}

/// The question whether a question is several.
pub(super) fn split(question: &str) -> Vec<Message> {
    let instructions = match language::detect(question) {
        Language::English => {
            "Some questions need several separate facts to be answered. Decide whether this one does. Answer with one JSON \
             object and nothing else: {\"is_complex\": true or false, \"sub_questions\": [at most 3 questions that can each be \
             looked up alone and together answer the whole one; empty when it is not complex]}"
        }
        Language::Chinese => {
            "有些问题需要几个不同的事实才能回答。请判断这个问题是否如此。只回答一个 JSON 对象，不要有其他内容：\
             {\"is_complex\": true 或 false, \"sub_questions\": [最多 3 个可以各自单独查找、合起来能回答原问题的问题；不复杂时为空]}"
        }
    };
    vec![Message::system(instructions), Message::user(question)]
}

/// The question whether memories answer a question.
pub(super) fn sufficient(question: &str, hits: &[Hit]) -> Vec<Message> {
    let (instructions, asked, found) = match language::detect(question) {
        Language::English => (
            "Decide whether the memories are enough to answer the question. Use nothing that they do not say. Answer with one \
             JSON object and nothing else: {\"can_answer\": true or false, \"reason\": one sentence, \"retrieval_phrases\": [at \
             most 3 short phrases to search the memories for what is missing; empty when it can be answered]}",
            "Question:",
            "Memories:",
        ),
        Language::Chinese => (
            "请判断这些记忆是否足以回答问题，不要使用记忆里没有的内容。只回答一个 JSON 对象，不要有其他内容：\
             {\"can_answer\": true 或 false, \"reason\": 一句话, \"retrieval_phrases\": [最多 3 个用来在记忆中查找缺失内容的短语；可以回答时为空]}",
            "问题：",
            "记忆：",
        ),
    };
    vec![Message::system(instructions), Message::user(format!("{asked} {question}\n\n{found}\n{}", numbered(hits)))]
}

/// The memories with numbers from 1, one per line.
fn numbered(hits: &[Hit]) -> String {
    let mut text = String::new();
    for (index, hit) in hits.iter().enumerate() {
        let one_line: String = hit.item.memory.split_whitespace().collect::<Vec<_>>().join(" ");
        let _ = writeln!(text, "[{}] {}", index + 1, shortened(&one_line, MAX_SHOWN));
    }
    text
}

fn transcript(conversation: &[Message]) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut n_characters = 0;
    for message in conversation.iter().rev() {
        let line = format!("{}: {}", message.role.as_str(), shortened(&message.text(), MAX_SHOWN));
        n_characters += line.chars().count();
        if n_characters > MAX_CONVERSATION {
            break;
        }
        lines.push(line);
    }
    lines.reverse();
    lines.join("\n")
}

fn shortened(text: &str, n_characters: usize) -> String {
    match text.char_indices().nth(n_characters) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text.to_owned(),
    }
}
