//! What settings change about reading.

use std::collections::HashMap;
use std::sync::Arc;

use mos_core::{FileData, RawFile, ReadInput, ReadMode};
use mos_reader::{Reader, ReaderKind, ReaderOptions};
use mos_testkit::chat::ScriptedChat;
use serde_json::json;

use super::stories::{fine_parts, second_example};
use super::{Web, model, parts, read, reader};

#[tokio::test]
async fn documents_of_named_hosts_are_markdown_whatever_they_look_like() {
    let url = "https://Docs.example.org/page";
    let page = "<!doctype html>\n\n# Title\n\n<nav>kept</nav>\n\nThe text.";
    for (hosts, is_kept) in [(vec!["docs.example.org".to_owned()], true), (vec!["example.org".to_owned()], false)] {
        let options = ReaderOptions { direct_markdown_hosts: hosts, ..ReaderOptions::of(ReaderKind::MultiModal) };
        let mut parts = parts();
        parts.fetcher = Some(Arc::new(Web(HashMap::from([(url.to_owned(), page.as_bytes().to_vec())]))));
        let reader = Reader::new(ReaderKind::MultiModal, options, parts);
        let file = RawFile { id: None, name: None, data: FileData::Text(url.to_owned()) };
        let reading = read(&reader, ReadInput::file(file), ReadMode::Fast).await;
        let text: String = reading.raw.iter().map(|item| item.memory.as_str()).collect();
        assert!(text.contains("The text."), "{text}");
        assert_eq!(text.contains("<nav>kept</nav>"), is_kept, "{text}");
    }
}

/// The kinds of questions that a model was asked, by a word of their instructions.
fn asked(model: &ScriptedChat, words: &str) -> usize {
    model.requests().iter().filter(|request| request.messages[0].text().contains(words)).count()
}

#[tokio::test]
async fn a_general_model_draws_what_is_learned_from_tools() {
    let general = model(|_, _| json!({"correctness": "success", "experience": "", "tool_used_status": []}).to_string());
    let main = model(|_, _| json!({"memory list": [], "key": "x", "value": "", "tags": []}).to_string());
    let mut parts = fine_parts();
    parts.model = Some(main.clone());
    parts.general_model = Some(general.clone());
    let reader = reader(ReaderKind::MultiModal, parts);
    read(&reader, ReadInput::from_value(second_example()), ReadMode::Fine).await;
    let (tools, talk) = ("used tools for a request", "note what will be worth knowing");
    assert_eq!((asked(&general, tools), asked(&main, tools)), (1, 0));
    assert!(asked(&main, talk) > 0 && asked(&general, talk) == 0);
}

#[tokio::test]
async fn a_conversation_is_asked_about_in_its_language() {
    for (said, words) in [
        ("I moved to Shanghai last month and work in a bookshop.", "note what will be worth knowing"),
        ("我上个月搬到了上海，现在在一家书店工作。", "你要阅读一段对话"),
    ] {
        let model = model(|_, _| json!({"memory list": [], "summary": ""}).to_string());
        let mut parts = parts();
        parts.model = Some(model.clone());
        let input = ReadInput::from_value(json!([{"role": "user", "content": said}]));
        read(&reader(ReaderKind::Simple, parts), input, ReadMode::Fine).await;
        assert_eq!(asked(&model, words), 1, "{said}");
    }
}
