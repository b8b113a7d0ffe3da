//! `add`: what was said, told or written becomes memories.

use std::path::PathBuf;

use mos_core::memory::MetadataForm;
use mos_core::{
    CubeId, FileData, MemoryId, MemoryItem, Message, Metadata, Outcome, RawFile, RawItem, ReadInput, ReadMode, Role,
    SessionId, Sources, UserId,
};
use serde_json::{Map, Value, json};

use super::app::Product;
use super::caller::{Identity, Scope};
use super::error::{ProductError, ProductResult};
use super::feedback::FeedbackRequest;
use super::hits::memory_type;
use super::read::{Field, RequestFields};
use super::reply::Reply;
use super::shared_types::{AsyncMode, DEFAULT_SESSION, cubes_of, refuse_body, session_of};
use crate::facade::{CubeHandle, Remember};

/// What clients look for when something was added.
const ADDED: &str = "Memory added successfully";

/// Words that fields of answers have besides those of the metadata, and one by which memories of single messages are known.
const RESERVED: [&str; 10] = [
    "id",
    "memory",
    "metadata",
    "score",
    "relativity",
    "ref_id",
    "mem_cube_id",
    "delete_time",
    "delete_record_id",
    "role",
];

words! {
    /// How thoroughly something is read.
    literal_error pub enum AddMode as AddMode {
        /// What was given, in windows; no model is asked.
        Fast = "fast",
        /// Also what a model draws from it.
        Fine = "fine",
    }
}

request! {
    /// What is added, to which cubes and how.
    pub struct AddRequest as APIADDRequest {
        /// Whose memories they are; also the cube when none is named.
        required user_id: String;
        /// The conversation; without this `default_session`.
        optional session_id: String;
        /// Another name of `session_id`.
        #[schema(ignore)]
        optional conversation_id: String;
        /// The application's name for what is done in the background because of it.
        optional task_id: String;
        /// Noted in the memories under this name, so that filters find them by it.
        optional manager_user_id: String;
        /// Noted in the memories under this name, so that filters find them by it.
        optional project_id: String;
        /// The cubes that it is added to.
        optional writable_cube_ids: Vec<String>;
        /// Whether everything is done now, or what was given is stored now and refined in the background.
        #[schema(required = false, default = "async")]
        default async_mode: AsyncMode = AsyncMode::Async;
        /// How thoroughly it is read when everything is done now; without this `fine`.
        optional mode: AddMode;
        /// Labels of the memories.
        optional custom_tags: Vec<String>;
        /// Data of the application, which become fields of the memories.
        #[schema(value_type = Option<Object>)]
        optional info: Map<String, Value>;
        /// A text, messages of a conversation, or parts such as files.
        #[schema(value_type = Option<Value>)]
        optional messages: Value;
        /// What was said before: a correction refers to it. Otherwise accepted and not used.
        #[schema(value_type = Option<Vec<Object>>)]
        optional chat_history: Vec<Message>;
        /// Whether the last message of the user is a correction of memories.
        #[schema(required = false, default = false)]
        default is_feedback: bool = false;
        /// Whether files are archives of skills.
        #[schema(required = false, default = false)]
        default is_upload_skill: bool = false;
        /// The cube, when `writable_cube_ids` names none.
        optional mem_cube_id: String;
        /// A text that is added besides.
        optional memory_content: String;
        /// A file of this machine that is added besides; for programs that hold the memory themselves.
        optional doc_path: String;
        /// Accepted and not used.
        optional source: String;
        /// Accepted and not used.
        #[schema(value_type = Option<Vec<Object>>)]
        optional operation: Vec<Map<String, Value>>;
    }
}

/// How what was given becomes memories of every cube.
struct Adding {
    user: UserId,
    session: SessionId,
    mode: ReadMode,
    is_refined_later: bool,
    tags: Vec<String>,
    info: Map<String, Value>,
    task: Option<String>,
}

impl Product {
    /// Adds memories and returns those that were stored or known, cube by cube: `memory`, `memory_id`, `memory_type` and
    /// `cube_id` of each, and `quarantine`, the reason, of one that no search finds until it is released. Ids stay. With `async_mode` `async`, which is usual, memories are as they were given when this returns,
    /// and a scheduler has a model refine them. A correction (`is_feedback`) returns what [`Product::feedback`] does.
    ///
    /// # Errors
    /// Status 422 for a request without anything to add; 400 for what cannot be read; 403 for a cube of somebody else.
    pub async fn add(&self, request: AddRequest) -> ProductResult<Reply<Vec<Value>>> {
        self.caller.check(Scope::Write)?;
        let session = session_of(request.session_id.as_deref(), request.conversation_id.as_deref())?;
        let session = session.unwrap_or_else(|| DEFAULT_SESSION.to_owned());
        check_content(&request)?;
        if request.is_feedback {
            return self.feedback(as_feedback(request, session)?).await;
        }
        let inputs = self.inputs(&request)?;
        if inputs.is_empty() {
            self.user(&request.user_id)?;
            return Ok(Reply::new(ADDED, Vec::new()));
        }
        let cubes = cubes_of(request.writable_cube_ids.as_deref(), request.mem_cube_id.as_ref());
        let (user, cubes) = self.to_write(&request.user_id, cubes.as_deref()).await?;
        let cubes = self.check_all(&user, &cubes).await?;
        for cube in &cubes {
            self.mos().check_remembering(cube)?;
        }
        let is_sync = request.async_mode == AsyncMode::Sync;
        let info = noted_info(&request);
        let adding = Adding {
            user,
            session: SessionId::parse(session)?,
            mode: if is_sync && request.mode != Some(AddMode::Fast) { ReadMode::Fine } else { ReadMode::Fast },
            is_refined_later: !is_sync,
            tags: request.custom_tags.unwrap_or_default(),
            info,
            task: request.task_id.filter(|task| !task.is_empty()),
        };
        let mut rows = Vec::new();
        for cube in &cubes {
            for input in &inputs {
                rows.extend(self.add_input(&adding, cube, input.clone()).await?);
            }
        }
        Ok(Reply::new(ADDED, rows))
    }

    /// Returns some cubes, in order. Refuses unless the user may write to every one of them, before the first of them is changed.
    pub(super) async fn check_all(&self, user: &UserId, cubes: &[CubeId]) -> ProductResult<Vec<CubeHandle>> {
        let mut checked = Vec::with_capacity(cubes.len());
        for cube in cubes {
            checked.push(self.mos().cube(user, cube).await?);
        }
        Ok(checked)
    }

    /// What is read: everything that came with the request, and a file of this machine by itself.
    fn inputs(&self, request: &AddRequest) -> ProductResult<Vec<ReadInput>> {
        let mut given = ReadInput::from_value(request.messages.clone().unwrap_or_default());
        given.items.extend(request.memory_content.clone().map(RawItem::Text));
        given.items.retain(|item| !matches!(item, RawItem::Text(text) if text.trim().is_empty()));
        if request.is_upload_skill {
            given.items = given.items.into_iter().map(as_skills).collect();
        }
        given.sources = Sources::of_request();
        let mut inputs = Vec::new();
        if !given.items.is_empty() {
            inputs.push(given);
        }
        if let Some(path) = request.doc_path.as_deref().filter(|path| !path.is_empty()) {
            if self.caller.identity != Identity::Program {
                return Err(ProductError::bad_value(
                    "files of this machine are not read for others; send the file's content as a part of `messages`",
                ));
            }
            let file = RawFile { id: None, name: None, url: None, data: FileData::Path(PathBuf::from(path)) };
            inputs.push(ReadInput { sources: Sources::of_owner(), ..ReadInput::file(file) });
        }
        Ok(inputs)
    }

    async fn add_input(&self, adding: &Adding, cube: &CubeHandle, input: ReadInput) -> ProductResult<Vec<Value>> {
        let cube_id = &cube.info().cube_id;
        let mut what = Remember::new(input)
            .user(adding.user.clone())
            .cube(cube_id.clone())
            .session(adding.session.clone())
            .mode(adding.mode)
            .custom_tags(adding.tags.iter().cloned())
            .info(adding.info.clone())
            .refined_later(adding.is_refined_later)
            .told_anew(true);
        if let Some(task) = &adding.task {
            what = what.task(task.as_str());
        }
        let remembered = self.mos().remember_in(cube, what).await?;
        let report = &remembered.report;
        if remembered.ids.is_empty() && remembered.raw_files.is_empty() && report.count(Outcome::NotKept) > 0 {
            let why: Vec<&str> = report.items.iter().filter_map(|item| item.reason.as_deref()).collect();
            return Err(ProductError::bad_value(format!("nothing could be kept: {}", why.join("; "))));
        }
        let mut ids: Vec<MemoryId> = Vec::new();
        for id in remembered.ids.into_iter().chain(remembered.raw_files).chain(remembered.preferences) {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        let items = cube.text_mem().get_by_ids(&ids).await?;
        Ok(items.iter().map(|item| row(item, cube_id)).collect())
    }
}

fn row(item: &MemoryItem, cube: &CubeId) -> Value {
    let mut row = json!({
        "memory": item.memory,
        "memory_id": item.id,
        "memory_type": memory_type(item),
        "cube_id": cube,
    });
    if let Some(reason) = item.quarantine_reason() {
        row["quarantine"] = json!(reason);
    }
    row
}

/// Refuses a request that says nothing, and messages that are none.
fn check_content(request: &AddRequest) -> ProductResult<()> {
    let Some(messages) = &request.messages else {
        if request.memory_content.is_none() && request.doc_path.is_none() {
            return Err(refuse_body("there is nothing to add; give `messages`", json!({"messages": null})));
        }
        return Ok(());
    };
    let mut issues = Vec::new();
    RequestFields::at("body", &mut issues).within("messages", |fields| check_messages(messages, fields));
    if issues.is_empty() { Ok(()) } else { Err(ProductError::refused(issues)) }
}

fn check_messages(messages: &Value, fields: &mut RequestFields<'_>) {
    let items = match messages {
        Value::String(_) => return,
        Value::Array(items) => items,
        other => return fields.refuse("list_type", "Input should be a valid list, or a string", other),
    };
    for (index, item) in items.iter().enumerate() {
        fields.within(index, |fields| check_item(item, fields));
    }
}

/// A message has a role, a part that stands by itself has a type.
fn check_item(item: &Value, fields: &mut RequestFields<'_>) {
    let is_part = item.as_object().is_some_and(|map| !map.contains_key("role") && map.contains_key("type"));
    if !is_part {
        // Told in `fields` when it is none.
        let _: Option<Message> = Message::read(item, fields);
    } else if !item["type"].is_string() {
        fields.within("type", |fields| fields.refuse("string_type", "Input should be a valid string", &item["type"]));
    }
}

/// Returns what is noted in every memory: the application's data, and for whom and which project it adds.
fn noted_info(request: &AddRequest) -> Map<String, Value> {
    let mut info = free_info(request.info.clone().unwrap_or_default());
    for (key, value) in [("manager_user_id", &request.manager_user_id), ("project_id", &request.project_id)] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            info.insert(key.to_owned(), json!(value));
        }
    }
    info
}

/// Returns the application's data without what would hide fields of memories.
fn free_info(info: Map<String, Value>) -> Map<String, Value> {
    let form = MetadataForm::Tree(Box::default());
    let fields = Metadata { form, ..Metadata::default() }.to_map();
    let is_free = |key: &str| !fields.contains_key(key) && !RESERVED.contains(&key);
    info.into_iter().filter(|(key, _)| is_free(key)).collect()
}

/// Returns a file as an archive of skills; everything else stays what it is.
fn as_skills(item: RawItem) -> RawItem {
    let RawItem::Part(part) = &item else { return item };
    let Some(file) = part.get("file").and_then(Value::as_object) else { return item };
    let text = |key: &str| file.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let data = text("file_data").map_or(FileData::Absent, FileData::Text);
    RawItem::Skills(RawFile { id: text("file_id"), name: text("filename"), url: None, data })
}

/// Returns the correction that a request is: the last words of the user, after everything that was said before.
fn as_feedback(request: AddRequest, session: String) -> ProductResult<FeedbackRequest> {
    let mut history = request.chat_history.unwrap_or_default();
    let items = ReadInput::from_value(request.messages.unwrap_or_default()).items;
    let mut said: Vec<Message> = Vec::new();
    for item in items {
        match item {
            RawItem::Text(text) => said.push(Message::user(text)),
            RawItem::Message(message) => said.push(message),
            _ => {}
        }
    }
    said.extend(request.memory_content.map(Message::user));
    let Some(last) = said.iter().rposition(|message| message.role == Role::User) else {
        return Err(ProductError::bad_value("feedback needs a message of the user; the last one is the correction"));
    };
    let content = said[last].text();
    said.truncate(last);
    history.extend(said);
    Ok(FeedbackRequest {
        session_id: Some(session),
        task_id: request.task_id,
        writable_cube_ids: request.writable_cube_ids,
        mem_cube_id: request.mem_cube_id,
        async_mode: request.async_mode,
        info: request.info,
        ..FeedbackRequest::new(request.user_id, Some(history), Some(content))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_of_the_application_hides_no_field() {
        let info = json!({"city": "Bonn", "tags": ["x"], "memory_type": "x", "source": "x", "id": 1, "usage": 1});
        let free = free_info(info.as_object().unwrap().clone());
        assert_eq!(Value::Object(free), json!({"city": "Bonn"}));
    }

    #[test]
    fn fields_of_the_request_are_noted_before_data_of_the_same_name() {
        let info = json!({"project_id": "garden", "manager_user_id": "dora"}).as_object().cloned();
        let mut request = AddRequest { info, ..AddRequest::new("ann".to_owned()) };
        (request.project_id, request.manager_user_id) = (Some("house".to_owned()), Some(String::new()));
        assert_eq!(Value::Object(noted_info(&request)), json!({"project_id": "house", "manager_user_id": "dora"}));
    }

    #[test]
    fn the_last_words_of_the_user_are_the_correction() {
        let request = AddRequest {
            messages: Some(json!([
                {"role": "user", "content": "Where do I live?"},
                {"role": "assistant", "content": "In Rome."},
                {"role": "user", "content": "No, in Bonn."},
                {"role": "assistant", "content": "I see."},
            ])),
            chat_history: Some(vec![Message::user("Hello")]),
            ..AddRequest::new("ann".to_owned())
        };
        let feedback = as_feedback(request, "s".to_owned()).unwrap();
        assert_eq!(feedback.feedback_content.as_deref(), Some("No, in Bonn."));
        let history: Vec<String> = feedback.history.unwrap().iter().map(Message::text).collect();
        assert_eq!(history, ["Hello", "Where do I live?", "In Rome."]);
        let silent = AddRequest {
            messages: Some(json!([{"role": "assistant", "content": "x"}])),
            ..AddRequest::new("ann".to_owned())
        };
        assert_eq!(as_feedback(silent, String::new()).unwrap_err().status, 400);
    }

    #[test]
    fn a_file_is_an_archive_of_skills_when_that_is_said() {
        let part = RawItem::from_value(json!({"type": "file", "file": {"filename": "a.zip", "file_data": "UEs="}}));
        let RawItem::Skills(file) = as_skills(part) else { panic!("no skills") };
        assert_eq!((file.name.as_deref(), file.data), (Some("a.zip"), FileData::Text("UEs=".to_owned())));
    }
}
