//! Chat in every format: every row runs against every server.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use mos_core::{ChatEvent, ChatModel, ChatRequest, FinishReason, Message, ModelError, Sampling};
use mos_models::{
    BackupChat, OllamaChat, OllamaOptions, OpenAiChat, OpenAiOptions, ResponsesChat, ResponsesOptions, ServerOptions,
};
use mos_testkit::model_server::{Fault, ModelServer, Reply};
use serde_json::json;

use crate::{KEY, server};

#[derive(Clone, Copy, Debug)]
enum Format {
    OpenAi,
    Responses,
    Ollama,
}

const ALL: [Format; 3] = [Format::OpenAi, Format::Responses, Format::Ollama];

/// Opens a model at a server, with some options changed.
fn open_with(
    format: Format,
    at: &ModelServer,
    change: impl FnOnce(&mut ServerOptions),
    removed: bool,
) -> Arc<dyn ChatModel> {
    match format {
        Format::OpenAi => {
            let mut options = OpenAiOptions::new(server(at.openai_url()), "scripted");
            change(&mut options.server);
            options.remove_think_prefix = removed;
            OpenAiChat::open(options).unwrap()
        }
        Format::Responses => {
            let mut options = ResponsesOptions::new(server(at.openai_url()), "scripted");
            change(&mut options.server);
            options.remove_think_prefix = removed;
            ResponsesChat::open(options).unwrap()
        }
        Format::Ollama => {
            let mut options = OllamaOptions::new(server(at.base_url()), "scripted");
            change(&mut options.server);
            options.remove_think_prefix = removed;
            OllamaChat::open(options).unwrap()
        }
    }
}

fn open(format: Format, at: &ModelServer) -> Arc<dyn ChatModel> {
    open_with(format, at, |_| {}, false)
}

fn ask(text: &str) -> ChatRequest {
    ChatRequest { messages: vec![Message::system("Be brief."), Message::user(text)], ..ChatRequest::default() }
}

async fn error(model: &Arc<dyn ChatModel>) -> ModelError {
    let error = model.complete(ask("hello")).await.unwrap_err();
    let shown = format!("{error} {error:?} {model:?}");
    assert!(!shown.contains(KEY), "{shown}");
    error
}

#[tokio::test]
async fn an_answer_comes_in_pieces_with_its_usage() {
    for format in ALL {
        let at = ModelServer::start().await;
        at.reply(Reply::text("Grüße aus München, 世界!"));
        let events: Vec<ChatEvent> =
            open(format, &at).stream(ask("hi there")).await.unwrap().map(Result::unwrap).collect().await;
        let (last, texts) = events.split_last().unwrap();
        let pieces: Vec<&str> = texts
            .iter()
            .map(|event| match event {
                ChatEvent::Text(text) => text.as_str(),
                ChatEvent::Done(_) => panic!("only the last event ends the answer"),
            })
            .collect();
        assert_eq!(pieces, ["Grüße ", "aus ", "München, ", "世界!"], "{format:?}");
        let ChatEvent::Done(usage) = last else { panic!("{last:?}") };
        assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.finish), (4, 4, FinishReason::Stop));
    }
}

#[tokio::test]
async fn requests_carry_what_was_asked_and_nothing_that_servers_refuse() {
    let at = ModelServer::start().await;
    let mut options = OpenAiOptions::new(server(at.openai_url()), "scripted");
    options.extra_body = json!({"top_k": 7, "stream_options": null}).as_object().cloned().unwrap();
    let mut message = Message::user("hi");
    message.chat_time = Some("today".to_owned());
    message.message_id = Some("m1".to_owned());
    let sampling =
        Sampling { temperature: 0.5, max_tokens: 9, seed: 3, stop: vec!["X".to_owned()], ..Sampling::default() };
    let request = ChatRequest { messages: vec![message], sampling: Some(sampling), ..ChatRequest::default() };
    OpenAiChat::open(options).unwrap().complete(request.clone()).await.unwrap();
    OllamaChat::open(OllamaOptions {
        context_length: Some(4096),
        ..OllamaOptions::new(server(at.base_url()), "small")
    })
    .unwrap()
    .complete(request)
    .await
    .unwrap();
    let [openai, ollama] = &at.requests()[..] else { panic!("two requests") };
    assert_eq!(
        openai.body,
        json!({
            "model": "scripted", "messages": [{"role": "user", "content": "hi"}], "stream": true,
            "temperature": 0.5, "top_p": 1.0, "max_tokens": 9, "seed": 3, "stop": ["X"], "top_k": 7,
        })
    );
    assert_eq!(openai.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!(
        ollama.body,
        json!({
            "model": "small", "messages": [{"role": "user", "content": "hi"}], "stream": true, "think": false,
            "options": {"temperature": 0.5, "top_p": 1.0, "top_k": 0, "num_predict": 9, "seed": 3, "stop": ["X"],
                        "num_ctx": 4096},
        })
    );
}

#[tokio::test]
async fn a_whole_answer_is_understood_and_cached_tokens_are_told() {
    let at = ModelServer::start().await;
    at.fault(Fault::WholeAnswer);
    at.reply(Reply { is_cut: true, cached_tokens: 2, ..Reply::text("all at once") });
    let (text, usage) = open(Format::OpenAi, &at).complete(ask("hi")).await.unwrap();
    assert_eq!((text.as_str(), usage.finish, usage.cached_tokens), ("all at once", FinishReason::Length, 2));
}

#[tokio::test]
async fn usage_that_is_not_told_is_estimated() {
    for format in ALL {
        let at = ModelServer::start().await;
        at.reply(Reply { has_usage: false, ..Reply::text("123456") });
        let (_, usage) = open(format, &at).complete(ask("123456789")).await.unwrap();
        assert_eq!((usage.prompt_tokens, usage.completion_tokens), (6, 2), "{format:?}");
    }
}

#[tokio::test]
async fn reasoning_is_wrapped_or_left_out() {
    for format in ALL {
        let at = ModelServer::start().await;
        let reply = Reply::text("It is 4.").with_reasoning("two and two");
        at.reply(reply.clone());
        at.reply(reply);
        at.reply(Reply::text("<think>two and two</think>\n\nIt is 4."));
        let kept = open(format, &at).complete(ask("2+2")).await.unwrap().0;
        assert_eq!(kept, "<think>two and two</think>It is 4.", "{format:?}");
        let without = open_with(format, &at, |_| {}, true);
        for _ in 0..2 {
            assert_eq!(without.complete(ask("2+2")).await.unwrap().0, "It is 4.", "{format:?}");
        }
    }
}

#[tokio::test]
async fn passing_refusals_are_repeated_and_lasting_ones_are_not() {
    for format in ALL {
        let at = ModelServer::start().await;
        let model = open(format, &at);
        at.fault(Fault::Status(500, json!({"error": {"message": "overloaded"}})));
        at.fault(Fault::RateLimited(Some(0)));
        at.reply(Reply::text("third time"));
        assert_eq!(model.complete(ask("hi")).await.unwrap().0, "third time", "{format:?}");
        assert_eq!(at.requests().len(), 3);

        let body = json!({"error": {"message": format!("no good: {KEY}")}});
        at.fault(Fault::Status(400, body.clone()));
        let refused = error(&model).await;
        assert!(matches!(&refused, ModelError::Invalid(text) if text.contains("no good: ********")), "{refused}");
        for (status, check) in [(401, "Denied"), (403, "Denied"), (404, "NotFound"), (422, "Invalid"), (302, "Invalid")]
        {
            at.fault(Fault::Status(status, body.clone()));
            let refused = format!("{:?}", error(&model).await);
            assert!(refused.starts_with(check), "{format:?} {status}: {refused}");
        }
        assert_eq!(at.requests().len(), 9, "none of them was repeated");
        at.fault(Fault::Status(404, json!({"error": "model not found"})));
        let missing = error(&model).await.to_string();
        let remedy = match format {
            Format::OpenAi | Format::Responses => "check the model name `scripted`",
            Format::Ollama => "ollama pull scripted",
        };
        assert!(missing.contains(remedy) && !missing.contains("model not found"), "{missing}");
    }
}

#[tokio::test]
async fn retries_end() {
    for format in ALL {
        let at = ModelServer::start().await;
        let model = open(format, &at);
        for _ in 0..3 {
            at.fault(Fault::Status(503, json!({})));
        }
        assert!(matches!(error(&model).await, ModelError::ServerFault { .. }));
        assert_eq!(at.requests().len(), 3, "{format:?}: one request and two repetitions");
        // A server that asks for more patience than is allowed is not asked again.
        at.fault(Fault::RateLimited(Some(3600)));
        let limited = error(&model).await;
        assert!(matches!(limited, ModelError::RateLimited { retry_after: Some(wait) } if wait.as_secs() == 3600));
        assert_eq!(at.requests().len(), 4);
        // Whether it calls that too many requests or too much to do.
        at.fault(Fault::Busy(3600));
        let busy = error(&model).await;
        let said = std::error::Error::source(&busy).unwrap().to_string();
        assert!(matches!(&busy, ModelError::ServerFault { .. }) && said.contains("overloaded"), "{busy:?}");
        assert!(!busy.to_string().contains("overloaded"), "{busy}: a log shows none of a server's words");
        assert_eq!(at.requests().len(), 5, "{format:?}");
        let body = json!({"error": {"code": "insufficient_quota"}});
        at.fault(Fault::Status(429, body));
        assert!(matches!(error(&model).await, ModelError::Denied(_)));
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_repeated_before_the_first_text_only() {
    for format in ALL {
        let at = ModelServer::start().await;
        let model = open(format, &at);
        at.fault(Fault::CutOff(0));
        at.reply(Reply::text("lost"));
        at.reply(Reply::text("found"));
        assert_eq!(model.complete(ask("hi")).await.unwrap().0, "found", "{format:?}");

        at.fault(Fault::CutOff(3));
        at.reply(Reply::text("one two three four five"));
        let events: Vec<_> = model.stream(ask("hi")).await.unwrap().collect().await;
        let (last, texts) = events.split_last().unwrap();
        assert!(!texts.is_empty() && texts.iter().all(Result::is_ok), "{format:?}: {events:?}");
        assert!(matches!(last, Err(ModelError::BadAnswer(_))), "{format:?}: {last:?}");
        assert_eq!(at.requests().len(), 3, "{format:?}: delivered text is never asked for again");
    }
}

#[tokio::test]
async fn answers_without_their_end_are_never_taken_for_whole() {
    for format in ALL {
        let at = ModelServer::start().await;
        let model = open(format, &at);
        for fault in [Fault::EndEarly(3), Fault::ErrorInStream(2), Fault::Garbage] {
            at.fault(fault.clone());
            at.reply(Reply::text("one two three four five"));
            let error = error(&model).await;
            let is_sorted = match fault {
                // OpenAI's format gives the error a status, which sorts it.
                Fault::ErrorInStream(_) => matches!(error, ModelError::BadAnswer(_) | ModelError::ServerFault { .. }),
                _ => matches!(error, ModelError::BadAnswer(_)),
            };
            assert!(is_sorted, "{format:?} {fault:?}: {error:?}");
        }
    }
}

#[tokio::test]
async fn answers_have_a_largest_size() {
    for format in ALL {
        let at = ModelServer::start().await;
        at.fault(Fault::Flood);
        let error = error(&open(format, &at)).await;
        assert!(matches!(&error, ModelError::BadAnswer(text) if text.contains("larger than")), "{format:?}: {error}");
    }
}

#[tokio::test]
async fn silence_ends_at_its_own_timeout() {
    let short = Duration::from_millis(50);
    for format in ALL {
        let at = ModelServer::start().await;
        at.fault(Fault::SlowFirstByte(Duration::from_secs(30)));
        let silent = error(&open_with(format, &at, |server| server.http.first_byte_timeout = short, false)).await;
        assert!(matches!(&silent, ModelError::Unavailable(text) if text.contains("sent nothing")), "{silent}");
        assert_eq!(at.requests().len(), 1, "a slow server is not asked twice");

        at.fault(Fault::Stall(3));
        at.reply(Reply::text("one two three four"));
        let stalled = error(&open_with(format, &at, |server| server.http.idle_timeout = short, false)).await;
        assert!(matches!(&stalled, ModelError::Unavailable(text) if text.contains("sent nothing")), "{stalled}");

        at.fault(Fault::SlowChunks(Duration::from_millis(20)));
        at.reply(Reply::text("word ".repeat(500)));
        let total = Duration::from_millis(300);
        let late = error(&open_with(format, &at, |server| server.http.total_timeout = total, false)).await;
        assert!(matches!(late, ModelError::Unavailable(_)), "{late}");

        at.fault(Fault::SlowChunks(Duration::from_millis(5)));
        at.reply(Reply::text("slow but steady"));
        assert_eq!(open(format, &at).complete(ask("hi")).await.unwrap().0, "slow but steady");
    }
}

#[tokio::test]
async fn dropping_the_stream_cancels_the_request() {
    for format in ALL {
        let at = ModelServer::start().await;
        at.fault(Fault::SlowChunks(Duration::from_millis(5)));
        at.reply(Reply::text("word ".repeat(100_000)));
        let mut stream = open(format, &at).stream(ask("hi")).await.unwrap();
        assert!(matches!(stream.next().await, Some(Ok(ChatEvent::Text(_)))));
        drop(stream);
        at.wait_for_abandoned(1).await;
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_without_credentials() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let options = OpenAiOptions::new(server(format!("http://user:{KEY}@{address}/v1?key={KEY}")), "m");
    let away = error(&OpenAiChat::open(options).unwrap()).await;
    assert!(matches!(&away, ModelError::Unavailable(text) if text.contains(&address.to_string())), "{away}");
}

#[tokio::test]
async fn options_and_requests_that_cannot_work_are_refused_at_once() {
    for address in ["", "localhost:1", "file:///x", &format!("ftp://{KEY}@x")] {
        let refused = OpenAiChat::open(OpenAiOptions::new(server(address.to_owned()), "m")).unwrap_err();
        assert!(matches!(&refused, ModelError::Invalid(text) if !text.contains(KEY)), "{refused}");
    }
    let at = ModelServer::start().await;
    assert!(OllamaChat::open(OllamaOptions::new(server(at.base_url()), " ")).is_err());
    let model = open(Format::OpenAi, &at);
    assert!(matches!(model.complete(ChatRequest::default()).await, Err(ModelError::Invalid(_))));
    let prefixed = ChatRequest { prefix: Some("kept".into()), ..ask("hi") };
    assert!(matches!(model.complete(prefixed).await, Err(ModelError::Invalid(_))));
    assert!(at.requests().is_empty());
}

#[tokio::test]
async fn a_backup_answers_when_the_first_server_fails() {
    let (first, second) = (ModelServer::start().await, ModelServer::start().await);
    first.fault(Fault::Status(401, json!({})));
    second.reply(Reply::text("from the second"));
    let model = BackupChat::open(open(Format::OpenAi, &first), open(Format::Ollama, &second));
    assert_eq!(model.complete(ask("hi")).await.unwrap().0, "from the second");
    assert_eq!(model.complete(ask("echo")).await.unwrap().0, "echo");
    assert_eq!(second.requests().len(), 1, "the first one is well again");
}
