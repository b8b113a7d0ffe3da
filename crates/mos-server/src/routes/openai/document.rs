//! What the document says about the dialect of OpenAI's clients.

use serde_json::json;
use utoipa::openapi::path::{OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, SchemaType, Type};
use utoipa::openapi::{OpenApi, RefOr, Required, Schema};

use super::{CUBE, EXPLAIN, MEMORY, SESSION, USER};
use crate::openapi::{
    Section, answer, any_object, body, fields, float, list, nullable, number, object, or_events, text, truth,
};

/// The words of a header that may say anything.
const NONE: &[&str] = &[];

/// Returns what the document says about the operations.
pub(crate) fn document() -> OpenApi {
    let error = object([
        ("message", text().into()),
        ("type", text().into()),
        ("param", nullable(text())),
        ("code", nullable(text())),
    ]);
    let mut section = Section::new("OpenAI").refusing("OpenAiError", object([("error", error)]));
    chat(&mut section);
    embeddings(&mut section);
    models(&mut section);
    section.finish()
}

/// Begins an operation with what headers may say beside its body: their names, and the words they may have where not all do.
fn with_headers(headers: &[(&str, &[&str])], schema: RefOr<Schema>) -> OperationBuilder {
    let operation = OperationBuilder::new().request_body(Some(body(schema)));
    headers.iter().fold(operation, |operation, (name, words)| {
        let form = if words.is_empty() { text() } else { text().enum_values(Some(words.iter().copied())) };
        let header = ParameterBuilder::new().name(*name).parameter_in(ParameterIn::Header).required(Required::False);
        operation.parameter(header.schema(Some(form)).build())
    })
}

/// What the messages of a conversation are.
fn message() -> RefOr<Schema> {
    let role = text().enum_values(Some(["system", "developer", "user", "assistant", "tool"]));
    let parts = list(object([("type", text().into())]));
    let content = OneOfBuilder::new().item(text()).item(parts).item(ObjectBuilder::new().schema_type(Type::Null));
    fields(vec![("role", role.into()), ("content", content.into())], &["role"])
}

fn chat(section: &mut Section) {
    let any = || -> RefOr<Schema> { ObjectBuilder::new().schema_type(SchemaType::AnyValue).into() };
    let asked = vec![
        ("model", text().examples([json!("mos")]).into()),
        ("messages", list(message())),
        ("stream", nullable(truth())),
        ("stream_options", nullable(any_object())),
        ("temperature", nullable(float())),
        ("top_p", nullable(float())),
        ("max_tokens", nullable(number())),
        ("max_completion_tokens", nullable(number())),
        ("seed", nullable(number())),
        ("stop", any()),
        ("response_format", nullable(any_object())),
        ("tools", nullable(list(any_object()))),
        ("tool_choice", any()),
        ("user", nullable(text())),
        ("metadata", nullable(any_object())),
    ];
    let asked = section.named("ChatCompletionRequest", fields(asked, &["model", "messages"]));
    let choice = object([("index", number()), ("message", any_object()), ("finish_reason", text().into())]);
    let whole = object([
        ("id", text().into()),
        ("object", text().into()),
        ("created", number()),
        ("model", text().into()),
        ("choices", list(choice)),
        ("usage", any_object()),
    ]);
    let whole = section.named("ChatCompletion", whole);
    let told = or_events("The answer; with `stream` its pieces (`chat.completion.chunk`), then `[DONE]`.", whole);
    let (memory, explain): (&[&str], &[&str]) = (&["off", "read", "write", "on"], &["on", "off"]);
    let headers = [(USER, NONE), (CUBE, NONE), (SESSION, NONE), (MEMORY, memory), (EXPLAIN, explain)];
    let operation = with_headers(&headers, asked).response("200", told);
    let summary = "Answers a conversation with memories, and remembers its last turn.";
    section.post("/v1/chat/completions", "chat_completions", summary, operation);
}

fn embeddings(section: &mut Section) {
    let texts = OneOfBuilder::new().item(text()).item(list(text()));
    let asked = vec![
        ("model", text().examples([json!("mos")]).into()),
        ("input", texts.into()),
        ("encoding_format", nullable(text())),
        ("dimensions", nullable(number())),
        ("input_type", nullable(text())),
        ("user", nullable(text())),
    ];
    let asked = section.named("EmbeddingsRequest", fields(asked, &["model", "input"]));
    let listed = object([
        ("object", text().into()),
        ("data", list(any_object())),
        ("model", text().into()),
        ("usage", any_object()),
    ]);
    let operation =
        with_headers(&[(USER, NONE)], asked).response("200", answer("One embedding for each text.", listed));
    section.post("/v1/embeddings", "embeddings", "Embeds texts.", operation);
}

fn models(section: &mut Section) {
    let model =
        object([("id", text().into()), ("object", text().into()), ("created", number()), ("owned_by", text().into())]);
    let model = section.named("OpenAiModel", model);
    let listed = object([("object", text().into()), ("data", list(model.clone()))]);
    let operation = OperationBuilder::new().response("200", answer("What can be named.", listed));
    section.get("/v1/models", "models", "Lists models.", operation);

    let id = ParameterBuilder::new().name("id").parameter_in(ParameterIn::Path).required(Required::True);
    let operation = OperationBuilder::new().parameter(id.schema(Some(text())).build());
    let operation = operation.response("200", answer("The model.", model));
    section.get("/v1/models/{id}", "model", "Tells of a model.", operation);
}
