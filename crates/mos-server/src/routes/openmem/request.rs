//! What these clients send, as the product API reads it.

use std::fmt;

use axum::http::StatusCode;
use mos::product::{Caller, Identity};
use mos_core::{Filter, IdSource, RandomIds};
use serde_json::{Map, Value, json};

use crate::error::ApiError;

/// How many memories of each kind are wanted when nothing is said.
const USUAL_LIMIT: u64 = 6;

/// The largest page, in memories.
const MAX_SIZE: u64 = 50;

/// What the request of a deletion has to say.
const ONE_IS_MEANT: &str = "exactly one of memory_ids, user_id, agent_id and filter is required";

/// What says less than everything elsewhere and nothing in a deletion: passed over, more would go than was meant.
const NARROWER: [&str; 5] = ["conversation_id", "session_id", "file_ids", "knowledgebase_ids", "writable_cube_ids"];

/// The length of what tells tasks of one user apart.
const UUID_LENGTH: usize = 36;

/// The name of a task: whose it is, and an id. Clients ask for it without saying whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Task {
    user: String,
    id: String,
}

impl Task {
    /// Returns a new task of a user.
    pub(super) fn new(user: &str) -> Self {
        Self { user: user.to_owned(), id: RandomIds.next_uuid() }
    }

    /// Reads the name of a task; `None` for one that was given elsewhere.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (user, id) = text.rsplit_once(':')?;
        let is_task = !user.is_empty() && id.len() == UUID_LENGTH;
        is_task.then(|| Self { user: user.to_owned(), id: id.to_owned() })
    }

    /// Whose it is.
    pub(super) fn user(&self) -> &str {
        &self.user
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.user, self.id)
    }
}

/// A body, without what is null.
#[derive(Debug)]
pub(super) struct OpenMem<'a> {
    map: Map<String, Value>,
    caller: &'a Caller,
}

impl<'a> OpenMem<'a> {
    /// Reads a body.
    pub(super) fn read(body: &Value, caller: &'a Caller) -> Result<Self, ApiError> {
        let Some(map) = body.as_object() else { return Err(bad("the body should be a JSON object")) };
        let map = map.iter().filter(|(_, value)| !value.is_null());
        Ok(Self { map: map.map(|(key, value)| (key.clone(), value.clone())).collect(), caller })
    }

    /// Whose memories are meant: the user, else the agent, else the user of the key.
    pub(super) fn subject(&self) -> Result<&str, ApiError> {
        let of_body = match self.text("user_id")? {
            Some(user) => Some(user),
            None => self.text("agent_id")?,
        };
        match (of_body, &self.caller.identity) {
            (Some(subject), _) => Ok(subject),
            (None, Identity::User(own)) => Ok(own.as_str()),
            (None, Identity::Program) => Err(bad("user_id or agent_id is required")),
        }
    }

    pub(super) fn is_streamed(&self) -> Result<bool, ApiError> {
        Ok(self.flag("stream")?.unwrap_or(false))
    }

    /// The page that is asked for, and how many memories it has.
    pub(super) fn page(&self) -> Result<(u64, u64), ApiError> {
        let number = |key: &str, usual: u64| match self.map.get(key) {
            None => Ok(usual),
            Some(value) => {
                value.as_u64().filter(|number| *number > 0).ok_or_else(|| bad(format!("{key} should be at least 1")))
            }
        };
        let (page, size) = (number("page", 1)?, number("size", 10)?);
        if size > MAX_SIZE {
            return Err(bad(format!("size should be at most {MAX_SIZE}")));
        }
        Ok((page, size))
    }

    pub(super) fn add(&self, task: &Task) -> Result<Value, ApiError> {
        let mut request =
            self.moved(&[("messages", "messages"), ("conversation_id", "session_id"), ("tags", "custom_tags")]);
        request.insert("user_id".to_owned(), json!(self.subject()?));
        request.insert("task_id".to_owned(), json!(task.to_string()));
        request.insert("info".to_owned(), self.info()?);
        let is_async = self.flag("async_mode")?.unwrap_or(true);
        request.insert("async_mode".to_owned(), json!(if is_async { "async" } else { "sync" }));
        Ok(Value::Object(request))
    }

    pub(super) fn search(&self) -> Result<Value, ApiError> {
        let mut request = self.moved(&[
            ("query", "query"),
            ("conversation_id", "session_id"),
            // What some clients say instead.
            ("top_k", "top_k"),
            ("memory_limit_number", "top_k"),
            ("include_preference", "include_preference"),
            ("preference_limit_number", "pref_top_k"),
            ("tool_memory_limit_number", "tool_mem_top_k"),
            ("skill_limit_number", "skill_mem_top_k"),
            ("relativity", "relativity"),
        ]);
        request.insert("user_id".to_owned(), json!(self.subject()?));
        for (from, to) in [("include_tool_memory", "search_tool_memory"), ("include_skill", "include_skill_memory")] {
            request.insert(to.to_owned(), self.map.get(from).cloned().unwrap_or(json!(false)));
        }
        for limit in ["top_k", "pref_top_k", "tool_mem_top_k", "skill_mem_top_k"] {
            request.entry(limit).or_insert(json!(USUAL_LIMIT));
        }
        self.put_filter(&mut request);
        Ok(Value::Object(request))
    }

    pub(super) fn get(&self, page: u64, size: u64) -> Result<Value, ApiError> {
        let mut request =
            self.moved(&[("include_preference", "include_preference"), ("include_tool_memory", "include_tool_memory")]);
        let subject = self.subject()?;
        for (key, value) in [
            ("user_id", json!(subject)),
            ("mem_cube_id", json!(subject)),
            ("page", json!(page)),
            ("page_size", json!(size)),
        ] {
            request.insert(key.to_owned(), value);
        }
        self.put_filter(&mut request);
        Ok(Value::Object(request))
    }

    /// The ids of a list.
    pub(super) fn list(&self, key: &str) -> Result<Vec<String>, ApiError> {
        let items = match self.map.get(key) {
            None => return Ok(Vec::new()),
            Some(Value::String(one)) => return Ok(vec![one.clone()]),
            Some(Value::Array(items)) => items,
            Some(_) => return Err(bad(format!("{key} should be a list of ids"))),
        };
        let texts: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
        texts.ok_or_else(|| bad(format!("{key} should be a list of ids")))
    }

    /// Which memories of knowledge bases are meant.
    pub(super) fn knowledge_filter(&self) -> Result<Option<Map<String, Value>>, ApiError> {
        match self.wrapped_filter().and_then(|map| map.get("knowledgebase")) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(filter)) => Ok(Some(filter.clone())),
            Some(_) => Err(bad("`knowledgebase` of the filter should be an object")),
        }
    }

    /// The fields of these names, for the user or the agent that is meant.
    pub(super) fn of_subject(&self, names: &[&str]) -> Result<Value, ApiError> {
        let names: Vec<(&str, &str)> = names.iter().map(|name| (*name, *name)).collect();
        let mut request = self.moved(&names);
        request.insert("user_id".to_owned(), json!(self.subject()?));
        Ok(Value::Object(request))
    }

    /// Memories by their ids, or all of a user or an agent that pass. What names nobody and has no filter means nothing, whoever
    /// calls: everything of a user goes only when that is said.
    pub(super) fn delete(&self) -> Result<Value, ApiError> {
        let is_said = |key: &str| self.map.get(key).is_some_and(|value| *value != json!("") && *value != json!([]));
        if let Some(key) = NARROWER.into_iter().find(|key| is_said(key)) {
            let why =
                format!("a deletion takes no {key}; give memory_ids, or a filter such as {{\"session_id\": ...}}");
            return Err(bad(why));
        }
        let kind = self.text("memory_type")?;
        if let Some(ids) = self.map.get("memory_ids") {
            if kind.is_some() || ["user_id", "agent_id", "filter"].iter().any(|key| self.map.contains_key(*key)) {
                return Err(bad(ONE_IS_MEANT));
            }
            return Ok(json!({"memory_ids": ids}));
        }
        let filter = self.deleted()?;
        match (self.text("user_id")?, self.text("agent_id")?) {
            (Some(_), Some(_)) => return Err(bad(ONE_IS_MEANT)),
            (None, None) if filter.is_none() => return Err(bad(ONE_IS_MEANT)),
            _ => {}
        }
        let subject = self.subject()?;
        let mut request = Map::new();
        request.insert("user_id".to_owned(), json!(subject));
        request.insert("writable_cube_ids".to_owned(), json!([subject]));
        let filter = match (kind.map(|kind| json!({"memory_type": kind})), filter) {
            (Some(of_kind), Some(filter)) => Some(json!({"and": [of_kind, filter]})),
            (of_kind, filter) => of_kind.or_else(|| filter.cloned()),
        };
        if let Some(filter) = filter {
            request.insert("filter".to_owned(), filter);
        }
        Ok(Value::Object(request))
    }

    /// The filter of a deletion. A search may pass over a part of a filter; here what is left would mean more.
    fn deleted(&self) -> Result<Option<&Value>, ApiError> {
        let Some(given) = self.map.get("filter") else { return Ok(None) };
        let filter = match self.wrapped_filter() {
            None => given,
            Some(map) => {
                if map.iter().any(|(key, value)| key != "user" && !value.is_null()) {
                    return Err(bad("a deletion is about memories of a user: its filter has `user` and nothing else"));
                }
                let of_user = map.get("user").filter(|of_user| of_user.is_object());
                of_user.ok_or_else(|| bad("`user` of the filter should be an object"))?
            }
        };
        if Filter::from_value(filter).is_ok_and(|filter| filter.says_nothing()) {
            return Err(bad("the filter lets everything pass; name what is meant"));
        }
        Ok(Some(filter))
    }

    pub(super) fn feedback(&self, task: &Task) -> Result<Value, ApiError> {
        let mut request = self.moved(&[
            ("feedback_content", "feedback_content"),
            ("conversation_id", "session_id"),
            ("feedback_time", "feedback_time"),
        ]);
        if self.text("feedback_content")?.is_none_or(str::is_empty) {
            return Err(bad("feedback_content is required"));
        }
        if !self.list("allow_knowledgebase_ids")?.is_empty() {
            return Err(bad("a correction is about the memories of a user; leave allow_knowledgebase_ids out"));
        }
        request.insert("user_id".to_owned(), json!(self.subject()?));
        request.insert("task_id".to_owned(), json!(task.to_string()));
        request.insert("history".to_owned(), json!([]));
        request.insert("info".to_owned(), self.info()?);
        Ok(Value::Object(request))
    }

    pub(super) fn chat(&self) -> Result<Value, ApiError> {
        let mut request = self.moved(&[
            ("query", "query"),
            ("conversation_id", "session_id"),
            ("system_prompt", "system_prompt"),
            ("model_name", "model_name_or_path"),
            ("memory_limit_number", "top_k"),
            ("include_preference", "include_preference"),
            ("preference_limit_number", "pref_top_k"),
            ("max_tokens", "max_tokens"),
            ("temperature", "temperature"),
            ("top_p", "top_p"),
            ("relativity", "relativity"),
            ("internet_search", "internet_search"),
            ("add_message_on_answer", "add_message_on_answer"),
        ]);
        request.insert("user_id".to_owned(), json!(self.subject()?));
        // As in a search, it is looked at also where no knowledge base is named.
        self.knowledge_filter()?;
        self.put_filter(&mut request);
        Ok(Value::Object(request))
    }

    /// As [`OpenMem::chat`], about these cubes: the user's filter is for the user's own, that of knowledge bases for the bases.
    pub(super) fn chat_with_knowledge(&self, bases: &[String], cubes: &[String]) -> Result<Value, ApiError> {
        let (mut request, of_bases) = (self.chat()?, self.knowledge_filter()?);
        request["readable_cube_ids"] = json!(cubes);
        let of_user = match request.get("filter") {
            None => None,
            Some(Value::Object(filter)) => Some(filter.clone()),
            // It is refused as it is.
            Some(_) => return Ok(request),
        };
        let mut filters = Map::new();
        for cube in cubes {
            let filter = if bases.contains(cube) { &of_bases } else { &of_user };
            filters.extend(filter.clone().map(|filter| (cube.clone(), Value::Object(filter))));
        }
        // Without any it lets everything pass.
        request["filter"] = Value::Object(filters);
        Ok(request)
    }

    /// The fields that only have another name.
    fn moved(&self, names: &[(&str, &str)]) -> Map<String, Value> {
        let moved = names.iter().filter_map(|(from, to)| Some(((*to).to_owned(), self.map.get(*from)?.clone())));
        moved.collect()
    }

    /// The application's data, with what else says where something is from.
    fn info(&self) -> Result<Value, ApiError> {
        let mut info = match self.map.get("info") {
            None => Map::new(),
            Some(Value::Object(info)) => info.clone(),
            Some(_) => return Err(bad("info should be an object")),
        };
        for key in ["agent_id", "app_id"] {
            if let Some(value) = self.map.get(key) {
                info.entry(key).or_insert(value.clone());
            }
        }
        Ok(Value::Object(info))
    }

    /// Puts the filter into a request; clients may wrap the user's into an object.
    fn put_filter(&self, request: &mut Map<String, Value>) {
        let Some(filter) = self.map.get("filter") else { return };
        match self.wrapped_filter() {
            None => drop(request.insert("filter".to_owned(), filter.clone())),
            Some(map) => {
                if let Some(of_user) = map.get("user").filter(|of_user| !of_user.is_null()) {
                    request.insert("filter".to_owned(), of_user.clone());
                }
            }
        }
    }

    fn wrapped_filter(&self) -> Option<&Map<String, Value>> {
        self.map.get("filter")?.as_object().filter(|map| {
            !map.is_empty() && map.keys().all(|key| ["user", "knowledgebase", "public"].contains(&key.as_str()))
        })
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, ApiError> {
        let flag =
            self.map.get(key).map(|value| value.as_bool().ok_or_else(|| bad(format!("{key} should be true or false"))));
        flag.transpose()
    }

    fn text(&self, key: &str) -> Result<Option<&str>, ApiError> {
        match self.map.get(key) {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            // The SDK takes lists where the service takes one.
            Some(Value::Array(items)) => match items.as_slice() {
                [Value::String(text)] => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
                _ => Err(bad(format!("{key} should be one string"))),
            },
            Some(_) => Err(bad(format!("{key} should be a string"))),
        }
    }
}

/// Returns the refusal of a request: 400.
pub(super) fn bad(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a>(body: &Value, caller: &'a Caller) -> OpenMem<'a> {
        OpenMem::read(body, caller).unwrap()
    }

    #[test]
    fn a_task_is_named_with_its_user() {
        let task = Task::new("team:ann");
        assert_eq!(Task::parse(&task.to_string()), Some(task.clone()));
        assert_eq!(task.user(), "team:ann");
        assert_eq!(Task::parse("no such task"), None);
    }

    #[test]
    fn additions_say_who_and_where_in_the_words_of_the_product_api() {
        let program = Caller::program();
        let body = json!({"messages": [{"role": "user", "content": "hi"}], "user_id": "ann", "conversation_id": "s",
            "tags": ["a"], "app_id": "x", "info": {"city": "Bonn"}, "async_mode": false, "agent_id": null});
        let task = Task::new("ann");
        let expected = json!({"messages": [{"role": "user", "content": "hi"}], "session_id": "s", "custom_tags": ["a"],
            "user_id": "ann", "task_id": task.to_string(), "info": {"city": "Bonn", "app_id": "x"}, "async_mode": "sync"});
        assert_eq!(read(&body, &program).add(&task).unwrap(), expected);
        assert!(read(&json!({}), &program).subject().is_err());
        assert_eq!(read(&json!({"agent_id": "bot"}), &program).subject().unwrap(), "bot");
        assert_eq!(read(&json!({}), &Caller::user("ann")).subject().unwrap(), "ann");
    }

    #[test]
    fn corrections_change_no_knowledge_base() {
        let program = Caller::program();
        let feedback = |bases: Value| {
            let body = json!({"user_id": "ann", "feedback_content": "No", "allow_knowledgebase_ids": bases});
            read(&body, &program).feedback(&Task::new("ann"))
        };
        assert!(feedback(Value::Null).is_ok() && feedback(json!([])).is_ok(), "the SDK sends null");
        assert!(feedback(json!(["kb-1"])).is_err());
    }

    #[test]
    fn a_wrapped_filter_is_that_of_the_user_and_limits_have_their_own_defaults() {
        let program = Caller::program();
        let body = json!({"query": "q", "user_id": "ann", "filter": {"user": {"tags": "a"}, "public": {}}, "relativity": null});
        let search = read(&body, &program).search().unwrap();
        assert_eq!((&search["filter"], &search["top_k"]), (&json!({"tags": "a"}), &json!(6)));
        assert!(search.get("relativity").is_none());
        assert!(read(&body, &program).knowledge_filter().unwrap().is_none());
        let plain = json!({"query": "q", "user_id": "ann", "top_k": 3});
        assert_eq!(read(&plain, &program).search().unwrap()["top_k"], 3);
        let said_twice = json!({"query": "q", "user_id": "ann", "top_k": 3, "memory_limit_number": 9});
        assert_eq!(read(&said_twice, &program).search().unwrap()["top_k"], 9);
        let both = json!({"filter": {"knowledgebase": {"tags": "b"}}, "knowledgebase_ids": ["kb-1"], "user_id": "ann"});
        let both = read(&both, &program);
        assert_eq!(both.knowledge_filter().unwrap().map(Value::Object), Some(json!({"tags": "b"})));
        assert_eq!(both.list("knowledgebase_ids").unwrap(), ["kb-1"]);
        assert!(both.list("filter").is_err() && both.search().unwrap().get("filter").is_none());
        assert_eq!(search["search_tool_memory"], false);
        let no_filter = json!({"filter": {"knowledgebase": "b"}});
        assert!(read(&no_filter, &program).knowledge_filter().is_err());
    }

    #[test]
    fn a_chat_filters_each_cube_by_what_is_meant_there() {
        let program = Caller::program();
        let (bases, cubes) = (["kb-1".to_owned()], ["ann".to_owned(), "kb-1".to_owned()]);
        let filter = |filter: Value| {
            let body = json!({"query": "q", "user_id": "ann", "filter": filter});
            read(&body, &program).chat_with_knowledge(&bases, &cubes).unwrap()["filter"].clone()
        };
        let (a, b) = (json!({"tags": "a"}), json!({"tags": "b"}));
        assert_eq!(filter(json!({"user": a, "knowledgebase": b})), json!({"ann": a, "kb-1": b}));
        assert_eq!(filter(a.clone()), json!({"ann": a}), "a filter without names is the user's");
        assert_eq!(filter(json!({"knowledgebase": b})), json!({"kb-1": b}));
        assert_eq!(filter(Value::Null), json!({}));
        assert_eq!(filter(json!({"user": "a"})), "a", "what is no filter is refused later");
        let no_filter = json!({"query": "q", "user_id": "ann", "filter": {"knowledgebase": "b"}});
        assert!(read(&no_filter, &program).chat().is_err(), "whether bases are named or not");
    }

    #[test]
    fn a_deletion_never_reaches_further_than_it_says() {
        let program = Caller::program();
        let delete = |body: Value| read(&body, &program).delete();
        assert_eq!(delete(json!({"memory_ids": ["a"]})).unwrap(), json!({"memory_ids": ["a"]}));
        let of_kind = delete(json!({"user_id": "ann", "memory_type": "UserMemory"})).unwrap();
        assert_eq!(of_kind["filter"], json!({"memory_type": "UserMemory"}));
        assert_eq!(of_kind["writable_cube_ids"], json!(["ann"]));
        assert!(delete(json!({"memory_ids": ["a"], "memory_type": "UserMemory"})).is_err());
        assert!(delete(json!({"filter": {"tags": "a"}})).is_err(), "whose is not said");
        let ann = Caller::user("ann");
        let delete = |body: Value| read(&body, &ann).delete();
        let tagged = json!({"tags": {"contains": "a"}});
        for body in [
            json!({}),
            json!({"memory_ids": null}),
            json!({"user_id": ""}),
            json!({"user_id": null, "agent_id": [""]}),
            json!({"memory_type": "UserMemory"}),
            json!({"user_id": "ann", "agent_id": "bot"}),
            json!({"user_id": "ann", "agent_id": "bot", "filter": tagged}),
            json!({"user_id": "ann", "conversation_id": "monday"}),
            json!({"user_id": "ann", "session_id": "monday"}),
            json!({"user_id": "ann", "file_ids": ["a"]}),
            json!({"user_id": "ann", "knowledgebase_ids": ["kb-1"]}),
            json!({"user_id": "ann", "writable_cube_ids": ["notes"]}),
            json!({"memory_ids": ["a"], "conversation_id": "monday"}),
            json!({"filter": null}),
            json!({"filter": {}}),
            json!({"filter": {"user": null}}),
            json!({"filter": {"user": {}}}),
            json!({"filter": {"user": "ann"}}),
            json!({"filter": {"knowledgebase": tagged}}),
            json!({"filter": {"public": tagged}}),
            json!({"filter": {"user": tagged, "public": {}}}),
            json!({"filter": {"or": [tagged, {}]}, "memory_type": "UserMemory"}),
            json!({"user_id": "ann", "filter": {"knowledgebase": tagged}}),
            json!({"user_id": "ann", "filter": {"public": {}}}),
            json!({"user_id": "ann", "filter": {"user": null}}),
        ] {
            assert!(delete(body.clone()).is_err(), "{body}");
        }
        let empty = json!({"memory_ids": ["a"], "conversation_id": "", "file_ids": [], "session_id": null});
        assert_eq!(delete(empty).unwrap(), json!({"memory_ids": ["a"]}), "what is empty says nothing");
        let expected = json!({"user_id": "ann", "writable_cube_ids": ["ann"], "filter": tagged});
        for filter in [tagged.clone(), json!({"user": tagged, "knowledgebase": null})] {
            assert_eq!(delete(json!({"filter": filter})).unwrap(), expected);
        }
        let both = delete(json!({"agent_id": "bot", "filter": tagged, "memory_type": "UserMemory"})).unwrap();
        assert_eq!(both["filter"], json!({"and": [{"memory_type": "UserMemory"}, tagged]}));
        assert_eq!(both["writable_cube_ids"], json!(["bot"]));
    }
}
