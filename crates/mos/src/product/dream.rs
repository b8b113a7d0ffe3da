//! Reflecting on the memories of a cube, and the diary of what came of it.

use mos_core::{Cube, CubeId, Scope as CubeScope, UserId, moment};
use mos_scheduler::{DiaryEntry, ScheduleMessage, diary, label};
use serde::Serialize;
use serde_json::{Map, Value};

use super::app::Product;
use super::caller::{Identity, Scope};
use super::error::{ProductError, ProductResult};
use super::read::{Field, Request, RequestFields};
use super::reply::Reply;

/// What reflecting is called in MemOS.
const PLUGIN: &str = "dream";

/// The most entries of a diary that are returned at once.
const MAX_ENTRIES: usize = 365;

request! {
    /// Has the memories of a cube reflected on.
    pub struct DreamTriggerRequest as DreamTriggerRequest {
        /// The cube.
        required cube_id: String;
        /// For whom; empty for the caller's user, or the owner of the cube.
        #[schema(required = false, default = "")]
        default user_id: String = String::new();
        /// Noted with the work; empty for the user's id.
        #[schema(required = false, default = "")]
        default user_name: String = String::new();
        /// The conversation that it belongs to; may be empty.
        #[schema(required = false, default = "")]
        default session_id: String = String::new();
    }
}

request! {
    /// Which entries of a diary are wanted.
    pub struct DiaryFilter as DiaryFilter {
        /// Of this task of the application.
        optional task_id: String;
        /// Written at this moment or later, ISO 8601.
        optional created_after: String;
        /// Written at this moment or earlier, ISO 8601.
        optional created_before: String;
        /// The most entries.
        #[schema(required = false, default = 20)]
        default limit: usize = 20;
    }
}

request! {
    /// Asks for the diary of a cube.
    pub struct DiaryQueryRequest as DiaryQueryRequest {
        /// The cube.
        required cube_id: String;
        /// Which entries; without this the newest.
        optional filter: DiaryFilter;
    }
}

impl Default for DiaryFilter {
    fn default() -> Self {
        Self::new()
    }
}

impl Field for DiaryFilter {
    fn read(value: &Value, fields: &mut RequestFields<'_>) -> Option<Self> {
        match value.as_object() {
            Some(map) => <Self as Request>::read(map, fields),
            None => {
                let msg = "Input should be a valid dictionary or object to extract fields from";
                fields.refuse("model_attributes_type", msg, value);
                None
            }
        }
    }
}

/// What became of a request to reflect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct DreamTriggered {
    /// Whether it will be done.
    pub accepted: bool,
    /// Always `dream`.
    pub plugin: String,
    /// Always `cube`.
    pub scope: String,
    /// The cube.
    pub mem_cube_id: String,
}

/// Whether reflecting works here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct DreamHealth {
    /// Always `dream`.
    pub plugin: String,
    /// The version of this program.
    pub version: String,
    /// Whether there is a scheduler that does it.
    pub scheduler_connected: bool,
    /// How many memories must be new since the last time.
    pub trigger_threshold: usize,
}

/// An entry of a diary.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Diary {
    /// The task of the application that it belongs to, else the message that led to it.
    pub task_id: String,
    /// Always `completed`.
    pub status: String,
    /// When it was written, ISO 8601.
    pub created_at: String,
    /// In a few words.
    pub title: String,
    /// In one or two sentences.
    pub summary: String,
    /// The whole text.
    pub dream_entry: String,
    /// Kept for MemOS' form; always null.
    pub motive: Option<String>,
    /// The ids of the memories that were looked at.
    pub context_events: Vec<String>,
    /// What it is about.
    pub themes: Vec<String>,
}

impl Product {
    /// Has the memories of a cube reflected on in the background. Where nothing is new nothing comes of it.
    ///
    /// # Errors
    /// [`ProductError`]: 403 without the right to write, 404 for an unknown cube, 503 where nothing reflects.
    pub async fn dream_trigger_cube(&self, request: DreamTriggerRequest) -> ProductResult<DreamTriggered> {
        self.caller.check(Scope::Write)?;
        // What comes of it is written to the cube.
        let found = self.dreamer(Scope::Write, &request.cube_id, &request.user_id).await?;
        let (user, cube) = found.ok_or_else(|| unknown(&request.cube_id))?;
        let mos = self.mos();
        let dreams = crate::scheduling::options::work_options(mos.settings()).dream.is_some();
        let Some(scheduler) = mos.scheduler().filter(|_| dreams) else {
            return Err(ProductError::new(
                503,
                "nothing reflects on memories here; set `enable_mem_scheduler` and the scheduler's `enable_dream` to true",
            ));
        };
        let (clock, ids) = (mos.parts.clock.as_ref(), mos.parts.ids.as_ref());
        let mut message = ScheduleMessage::new(label::MEM_DREAM, user.clone(), cube.cube_id.clone(), "", clock, ids);
        if let Some(trace_id) = crate::trace::trace_id() {
            message.trace_id = trace_id;
        }
        message.user_name = if request.user_name.is_empty() { user.to_string() } else { request.user_name };
        message.session_id = request.session_id;
        message.info = Some(Map::from_iter([("trigger".to_owned(), Value::from("api"))]));
        scheduler.submit_messages(vec![message]).await?;
        Ok(DreamTriggered {
            accepted: true,
            plugin: PLUGIN.to_owned(),
            scope: "cube".to_owned(),
            mem_cube_id: cube.cube_id.to_string(),
        })
    }

    /// Returns whether reflecting works here.
    ///
    /// # Errors
    /// [`ProductError`]: 403 without rights.
    pub fn dream_diary_health(&self) -> ProductResult<DreamHealth> {
        self.caller.check(Scope::Read)?;
        let options = crate::scheduling::options::work_options(self.mos().settings()).dream;
        Ok(DreamHealth {
            plugin: PLUGIN.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            scheduler_connected: options.is_some() && self.mos().scheduler().is_some_and(|one| one.is_running()),
            trigger_threshold: options.unwrap_or_default().min_new,
        })
    }

    /// Returns entries of the diary of a cube, newest first; none of a cube that does not exist.
    ///
    /// # Errors
    /// [`ProductError`]: 403 without rights, 400 for moments that are none; store errors.
    pub async fn dream_diary(&self, request: DiaryQueryRequest) -> ProductResult<Reply<Vec<Diary>>> {
        self.caller.check(Scope::Read)?;
        let filter = request.filter.unwrap_or_default();
        let passes = passing(&filter)?;
        let mut entries = Vec::new();
        if let (Some((_, cube)), Some(state)) =
            (self.dreamer(Scope::Read, &request.cube_id, "").await?, self.mos().parts.state.clone())
        {
            entries = diary(state.as_ref(), &CubeScope::of(&cube.cube_id)).await?;
        }
        let newest = entries.into_iter().rev().filter(|entry| passes(entry));
        let found = newest.take(filter.limit.min(MAX_ENTRIES)).map(Diary::from).collect();
        Ok(Reply::new("Dream diary retrieved successfully", found))
    }

    /// The cube, and the user for whom it is used in this way; `None` when there is no such cube. Rights are checked.
    async fn dreamer(&self, scope: Scope, cube_id: &str, user_id: &str) -> ProductResult<Option<(UserId, Cube)>> {
        let named = CubeId::parse(cube_id)?;
        self.caller.check_cube(&named)?;
        let Some(cube) = self.mos().parts.users.cube(&named).await? else { return Ok(None) };
        let user = match (&self.caller.identity, user_id) {
            (Identity::User(user), "") => user.clone(),
            (Identity::Program, "") => cube.owner_id.clone(),
            (_, named) => self.user(named)?,
        };
        self.let_in(&user).await?;
        match scope {
            Scope::Read => self.mos().check_reads(&user, &named).await?,
            Scope::Write | Scope::Admin => self.mos().check_writes(&user, &named).await?,
        }
        Ok(Some((user, cube)))
    }
}

fn unknown(cube: &str) -> ProductError {
    ProductError::new(404, format!("there is no cube `{cube}`"))
}

/// Returns the test of a filter.
fn passing(filter: &DiaryFilter) -> ProductResult<impl Fn(&DiaryEntry) -> bool + use<>> {
    let read = |name: &str, text: &Option<String>| match text.as_deref().filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => moment(text)
            .map(Some)
            .ok_or_else(|| ProductError::bad_value(format!("`{name}` is no moment; write 2026-01-31T18:00:00Z"))),
    };
    let after = read("created_after", &filter.created_after)?;
    let before = read("created_before", &filter.created_before)?;
    let task = filter.task_id.clone().filter(|task| !task.is_empty());
    Ok(move |entry: &DiaryEntry| {
        let at = moment(&entry.created_at);
        task.as_deref().is_none_or(|task| entry.task_id.as_deref() == Some(task) || entry.diary_id == task)
            && after.is_none_or(|after| at.is_some_and(|at| at >= after))
            && before.is_none_or(|before| at.is_some_and(|at| at <= before))
    })
}

impl From<DiaryEntry> for Diary {
    fn from(entry: DiaryEntry) -> Self {
        Self {
            task_id: entry.task_id.unwrap_or(entry.diary_id),
            status: "completed".to_owned(),
            created_at: entry.created_at,
            title: entry.title,
            summary: entry.summary,
            dream_entry: entry.dream_entry,
            motive: None,
            context_events: entry.memories.iter().map(ToString::to_string).collect(),
            themes: entry.themes,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(task_id: Option<&str>, created_at: &str) -> DiaryEntry {
        let value = json!({"diary_id": "d", "task_id": task_id, "title": "t", "summary": "s", "dream_entry": "e",
            "created_at": created_at, "memories": ["m"], "insights": []});
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn entries_are_chosen_by_task_and_moment() {
        let filter = |value: Value| DiaryFilter::from_json(&value).unwrap();
        let jan = entry(Some("task"), "2026-01-10T00:00:00.000000+00:00");
        let feb = entry(None, "2026-02-10T00:00:00.000000+00:00");
        let passes = passing(&filter(json!({"task_id": "task"}))).unwrap();
        assert!(passes(&jan) && !passes(&feb));
        let passes = passing(&filter(json!({"created_after": "2026-02-01", "created_before": ""}))).unwrap();
        assert!(!passes(&jan) && passes(&feb));
        assert_eq!(passing(&filter(json!({"created_before": "soon"}))).err().unwrap().status, 400);
        assert_eq!(filter(json!({})).limit, 20);
        let told = Diary::from(feb);
        assert_eq!((told.task_id.as_str(), told.context_events), ("d", vec!["m".to_owned()]));
    }

    #[test]
    fn a_filter_that_is_no_object_is_refused() {
        let error = DiaryQueryRequest::from_json(&json!({"cube_id": "notes", "filter": {"limit": "x"}})).unwrap_err();
        assert_eq!(error.detail[0].loc, [json!("body"), json!("filter"), json!("limit")]);
        assert!(DiaryQueryRequest::from_json(&json!({"cube_id": "notes", "filter": 1})).is_err());
    }
}
