//! What the document says about the dialect. Bodies that handlers translate are written down here; the others are described by the
//! types that read them.

use mos::product::{
    CreateKnowledgeBaseRequest, ExtractMemoryRequest, GetKnowledgeFilesRequest, RerankRequest, UpdateMemoryRequest,
};
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::{OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::{OpenApi, RefOr, Required, Schema};

use crate::openapi::{
    Section, answer, any_object, asking, body, envelope, fields, float, list, nullable, number, object, or_events,
    text, truth,
};

/// Where the dialect begins.
pub(super) const PREFIX: &str = "/api/openmem/v1";

/// A field of a request, and its form.
type Field = (&'static str, RefOr<Schema>);

/// Returns what the document says about the operations.
pub(crate) fn document() -> OpenApi {
    let mut section = Section::new("OpenMem");
    memories(&mut section);
    tasks(&mut section);
    drawn(&mut section);
    knowledge_bases(&mut section);
    files(&mut section);
    profiles(&mut section);
    section.finish()
}

/// Fields by which every client says whose memories are meant; without them those of the key's user are.
fn of_somebody(more: Vec<Field>) -> Vec<Field> {
    let whose = [("user_id", nullable(text())), ("agent_id", nullable(text()))];
    whose.into_iter().chain(more).collect()
}

/// Fields by which memories are recalled for a question.
fn recalling(more: Vec<Field>) -> Vec<Field> {
    let about = vec![
        ("query", text().into()),
        ("conversation_id", nullable(text())),
        ("filter", nullable(any_object())),
        ("knowledgebase_ids", ids()),
        ("relativity", nullable(float())),
        ("memory_limit_number", nullable(number())),
        ("include_preference", nullable(truth())),
        ("preference_limit_number", nullable(number())),
    ];
    of_somebody(about.into_iter().chain(more).collect())
}

fn ids() -> RefOr<Schema> {
    nullable(list(text()))
}

/// Begins an operation whose body has these fields.
fn asked(section: &mut Section, name: &str, all: Vec<Field>, required: &[&str]) -> OperationBuilder {
    let form = section.named(name, fields(all, required));
    asking(Some(body(form)))
}

fn add(
    section: &mut Section,
    path: &str,
    (name, summary): (&str, &str),
    operation: OperationBuilder,
    data: RefOr<Schema>,
) {
    let operation = operation.response("200", answer("What came of it.", envelope(data)));
    section.post(&format!("{PREFIX}{path}"), name, summary, operation);
}

fn done() -> RefOr<Schema> {
    object([("success", truth())])
}

fn task() -> RefOr<Schema> {
    object([("success", truth()), ("task_id", text().into()), ("status", text().into())])
}

/// A memory as these clients print it.
fn memory(section: &mut Section) -> RefOr<Schema> {
    let form = object([("id", text().into()), ("memory_key", text().into()), ("memory_value", text().into())]);
    section.named("OpenMemMemory", form)
}

fn memories(section: &mut Section) {
    let detail = memory(section);
    let search = recalling(vec![
        ("include_tool_memory", nullable(truth())),
        ("tool_memory_limit_number", nullable(number())),
        ("include_skill", nullable(truth())),
        ("skill_limit_number", nullable(number())),
    ]);
    let operation = asked(section, "OpenMemSearchRequest", search, &["query"]);
    let found = object([
        ("memory_detail_list", list(detail.clone())),
        ("preference_detail_list", list(any_object())),
        ("tool_memory_detail_list", list(any_object())),
        ("skill_detail_list", list(any_object())),
        ("profile_detail_list", list(any_object())),
        ("event_detail_list", list(any_object())),
        ("message_detail_list", list(any_object())),
    ]);
    let about = ("openmem_search_memory", "Finds memories that fit a question.");
    add(section, "/search/memory", about, operation, found);

    let page = of_somebody(vec![
        ("page", nullable(number())),
        ("size", nullable(number())),
        ("include_preference", nullable(truth())),
        ("include_tool_memory", nullable(truth())),
        ("filter", nullable(any_object())),
    ]);
    let operation = asked(section, "OpenMemGetRequest", page, &[]);
    let listed = object([
        ("memory_detail_list", list(detail.clone())),
        ("preference_detail_list", list(any_object())),
        ("tool_memory_detail_list", list(any_object())),
        ("skill_detail_list", list(any_object())),
        ("profile_detail_list", list(any_object())),
        ("event_detail_list", list(any_object())),
        ("total", number()),
        ("size", number()),
        ("current", number()),
        ("pages", number()),
    ]);
    add(section, "/get/memory", ("openmem_get_memory", "Lists memories, a page at a time."), operation, listed);

    let id = ParameterBuilder::new().name("id").parameter_in(ParameterIn::Path).required(Required::True);
    let operation = asking(None).parameter(id.schema(Some(text())).build());
    let operation = operation.response("200", answer("The memory.", envelope(detail.clone())));
    section.get(&format!("{PREFIX}/get/memory/{{id}}"), "openmem_get_memory_by_id", "Reads a memory.", operation);

    let operation = section.with_body::<UpdateMemoryRequest>();
    add(section, "/update/memory", ("openmem_update_memory", "Changes a memory."), operation, detail);

    let meant =
        of_somebody(vec![("memory_ids", ids()), ("filter", nullable(any_object())), ("memory_type", nullable(text()))]);
    let operation = asked(section, "OpenMemDeleteRequest", meant, &[]);
    add(section, "/delete/memory", ("openmem_delete_memory", "Removes memories."), operation, done());

    let page = of_somebody(vec![
        ("conversation_id", nullable(text())),
        ("conversation_limit_number", nullable(number())),
        ("message_limit_number", nullable(number())),
    ]);
    let operation = asked(section, "OpenMemMessagesRequest", page, &[]);
    let told = object([("message_detail_list", list(any_object()))]);
    add(section, "/get/message", ("openmem_get_message", "Reads what was said."), operation, told);
}

fn tasks(section: &mut Section) {
    let said = of_somebody(vec![
        ("messages", list(any_object())),
        ("conversation_id", nullable(text())),
        ("tags", nullable(list(text()))),
        ("info", nullable(any_object())),
        ("app_id", nullable(text())),
        ("async_mode", nullable(truth())),
        ("allow_knowledgebase_ids", ids()),
    ]);
    let operation = asked(section, "OpenMemAddRequest", said, &["messages"]);
    add(section, "/add/message", ("openmem_add_message", "Remembers messages."), operation, task());

    let said = of_somebody(vec![
        ("feedback_content", text().into()),
        ("conversation_id", nullable(text())),
        ("feedback_time", nullable(text())),
        ("info", nullable(any_object())),
        ("app_id", nullable(text())),
    ]);
    let operation = asked(section, "OpenMemFeedbackRequest", said, &["feedback_content"]);
    add(section, "/add/feedback", ("openmem_add_feedback", "Corrects memories in plain words."), operation, task());

    let operation = asked(section, "OpenMemStatusRequest", vec![("task_id", text().into())], &["task_id"]);
    let state = object([("task_id", text().into()), ("status", text().into())]);
    add(section, "/get/status", ("openmem_get_status", "Says where a task stands."), operation, state);
}

/// What models make of memories and documents without changing them.
fn drawn(section: &mut Section) {
    let question = recalling(vec![
        ("system_prompt", nullable(text())),
        ("model_name", nullable(text())),
        ("max_tokens", nullable(number())),
        ("temperature", nullable(float())),
        ("top_p", nullable(float())),
        ("internet_search", nullable(truth())),
        ("add_message_on_answer", nullable(truth())),
        ("stream", nullable(truth())),
    ]);
    let operation = asked(section, "OpenMemChatRequest", question, &["query"]);
    let whole = envelope(object([("response", text().into())]));
    let told = or_events("The answer; with `stream` frames `{\"type\", \"data\"}`, one a piece.", whole);
    let operation = operation.response("200", told);
    let summary = "Answers a question with memories.";
    section.post(&format!("{PREFIX}/chat"), "openmem_chat", summary, operation);

    let detail = memory(section);
    let operation = section.with_body::<ExtractMemoryRequest>();
    let found = object([("memory_detail_list", list(detail)), ("preference_detail_list", list(any_object()))]);
    let about = ("openmem_extract_memory", "Says what would be remembered of messages.");
    add(section, "/extract/memory", about, operation, found);

    let operation = section.with_body::<RerankRequest>();
    let ranked = object([("index", number()), ("document", text().into()), ("relevance_score", float())]);
    let ranked = object([("id", text().into()), ("model", text().into()), ("results", list(ranked))]);
    let about = ("openmem_rerank", "Puts documents in the order in which they answer a question.");
    add(section, "/rerank", about, operation, ranked);
}

fn knowledge_bases(section: &mut Section) {
    let operation = section.with_body::<CreateKnowledgeBaseRequest>();
    let made = object([("id", text().into()), ("name", text().into()), ("description", nullable(text()))]);
    let about = ("openmem_create_knowledgebase", "Makes a knowledge base.");
    add(section, "/create/knowledgebase", about, operation, made);

    let which = vec![("knowledgebase_id", text().into())];
    let operation = asked(section, "OpenMemDeleteKnowledgebaseRequest", which, &["knowledgebase_id"]);
    let about = ("openmem_delete_knowledgebase", "Removes a knowledge base with its files.");
    add(section, "/delete/knowledgebase", about, operation, done());
}

fn files(section: &mut Section) {
    let base = ParameterBuilder::new().name("knowledgebase_id").parameter_in(ParameterIn::Query);
    let base = base.required(Required::False).schema(Some(text())).description(Some("The knowledge base of a form."));
    let operation = asking(Some(files_of_either(section))).parameter(base.build());
    let about = ("openmem_add_knowledgebase_file", "Reads files into a knowledge base.");
    add(section, "/add/knowledgebase-file", about, operation, list(object([("status", text().into())])));

    let which = vec![("file_ids", list(text()))];
    let operation = asked(section, "OpenMemDeleteFilesRequest", which, &["file_ids"]);
    let about = ("openmem_delete_knowledgebase_file", "Removes files of knowledge bases.");
    add(section, "/delete/knowledgebase-file", about, operation, done());

    let operation = section.with_body::<GetKnowledgeFilesRequest>();
    let listed = object([
        ("file_detail_list", list(any_object())),
        ("total", number()),
        ("page", number()),
        ("page_size", number()),
    ]);
    let about = ("openmem_get_knowledgebase_file", "Lists files of a knowledge base, a page at a time.");
    add(section, "/get/knowledgebase-file", about, operation, listed);
}

/// Files as JSON, or as a form whose parts they are.
fn files_of_either(section: &mut Section) -> RequestBody {
    let file = fields(vec![("content", text().into()), ("name", nullable(text()))], &["content"]);
    let told = vec![("knowledgebase_id", text().into()), ("file", list(file))];
    let told = section.named("OpenMemAddFilesRequest", fields(told, &["knowledgebase_id", "file"]));
    let part = text().content_media_type("application/octet-stream");
    let form = fields(vec![("knowledgebase_id", text().into()), ("file", list(part))], &["file"]);
    let content = |schema: RefOr<Schema>| ContentBuilder::new().schema(Some(schema)).build();
    let body = RequestBodyBuilder::new().required(Some(Required::True)).content("application/json", content(told));
    body.content("multipart/form-data", content(form)).build()
}

fn profiles(section: &mut Section) {
    let profile = section.named("OpenMemProfile", object([("id", text().into())]));
    let binding = fields(of_somebody(vec![("profile_template_id", text().into()), ("metadata", any_object())]), &[]);
    let bindings = vec![("bind_list", list(binding))];
    let operation = asked(section, "OpenMemBindProfilesRequest", bindings, &["bind_list"]);
    let bound = object([("success", truth()), ("profile_detail_list", list(profile.clone()))]);
    add(section, "/bind/profile_template", ("openmem_bind_profiles", "Gives users profiles."), operation, bound);

    let change = of_somebody(vec![
        ("profile_template_id", text().into()),
        ("metadata", nullable(any_object())),
        ("remove_fields", nullable(list(text()))),
    ]);
    let operation = asked(section, "OpenMemEditProfileRequest", change, &["profile_template_id"]);
    add(section, "/edit/profile", ("openmem_edit_profile", "Changes fields of a profile."), operation, profile);

    let which = of_somebody(vec![("profile_template_id", text().into())]);
    let operation = asked(section, "OpenMemDeleteProfileRequest", which, &["profile_template_id"]);
    add(section, "/delete/profile", ("openmem_delete_profile", "Removes a profile."), operation, done());
}
