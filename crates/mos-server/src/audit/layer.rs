//! The layer that writes down changes.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::http::Method;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use mos::product::{Caller, Identity};

use super::entry::parameters;
use super::{Entry, Notes, Place};
use crate::auth::KeyUsed;
use crate::guard::trace::TraceId;
use crate::routes::openai;
use crate::state::ServerState;

/// Operations that are asked with POST and change nothing. Every other one is written down.
const READING: &[&str] = &[
    "/product/search",
    "/product/get_all",
    "/product/get_memory",
    "/product/get_memory_by_ids",
    "/product/get_memory_dashboard",
    "/product/get_user_names_by_memory_ids",
    "/product/exist_mem_cube_id",
    "/product/suggestions",
    "/product/scheduler/wait",
    "/api/openmem/v1/search/memory",
    "/api/openmem/v1/get/message",
    "/api/openmem/v1/get/memory",
    "/api/openmem/v1/get/knowledgebase-file",
    "/api/openmem/v1/get/status",
    "/api/openmem/v1/extract/memory",
    "/api/openmem/v1/rerank",
    "/dashboard/api/search",
    "/dream/diary",
    "/v1/embeddings",
];

/// Where every request is a POST; a tool that changes something notes its name before it begins.
const TOOLS: &str = "POST /mcp";

/// Puts the layer around routes. It is inside the one that finds out who calls.
pub(crate) fn around(routes: Router<ServerState>, state: &ServerState) -> Router<ServerState> {
    routes.layer(from_fn_with_state(state.clone(), record))
}

fn is_change(method: &Method, path: &str) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) && !READING.contains(&path)
}

/// A line that is written in any case, also when the caller hangs up before the answer.
struct Pending {
    line: Option<(Place, Entry)>,
    notes: Notes,
}

impl Pending {
    fn answer(mut self, response: &Response) {
        if let Some((_, entry)) = &mut self.line {
            entry.status = response.status().as_u16();
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some((place, mut entry)) = self.line.take() {
            if entry.what == TOOLS && !self.notes.names_a_tool() {
                return;
            }
            self.notes.fill(&mut entry);
            place.fill(entry);
        }
    }
}

async fn record(
    State(state): State<ServerState>,
    places: Result<RawPathParams, RawPathParamsRejection>,
    mut request: Request,
    next: Next,
) -> Response {
    let matched = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let path = matched.unwrap_or_else(|| request.uri().path().to_owned());
    // Without a caller it is a public path, or refused.
    let Some(caller) = request.extensions().get::<Caller>().cloned() else { return next.run(request).await };
    if !state.options().audit || !is_change(request.method(), &path) {
        return next.run(request).await;
    }
    // What is no text is refused by whoever answers.
    let places = places.as_ref().map(|places| parameters(places.iter())).unwrap_or_default();
    let notes = named_beside_the_body(&request, &path, &places);
    let entry = Entry {
        at: state.app().mos().now_text(),
        key: request.extensions().get::<KeyUsed>().and_then(KeyUsed::name),
        user: match caller.identity {
            Identity::User(user) => Some(user.to_string()),
            Identity::Program => None,
        },
        what: format!("{} {path}", request.method()),
        parameters: places,
        trace_id: request.extensions().get::<TraceId>().map(|trace| trace.0.to_string()),
        ..Entry::default()
    };
    request.extensions_mut().insert(notes.clone());
    let place = state.audit().place().await;
    let pending = Pending { line: place.map(|place| (place, entry)), notes };
    let response = next.run(request).await;
    pending.answer(&response);
    response
}

/// Notes what a request names outside its body.
fn named_beside_the_body(request: &Request, path: &str, places: &BTreeMap<String, String>) -> Notes {
    let notes = Notes::of(path);
    notes.read_pairs(places.clone());
    notes.read_query(request.uri());
    if path.starts_with(openai::PREFIX) {
        notes.read_headers(request.headers(), openai::USER, openai::CUBE);
    }
    notes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What is asked with POST and written down. The master key is not kept, but who made one is worth knowing.
    const CHANGING: &[&str] = &[
        "/product/add",
        "/product/feedback",
        "/product/delete_memory",
        "/product/delete_memory_by_record_id",
        "/product/recover_memory_by_record_id",
        "/product/create_cube",
        "/product/register_cube",
        "/product/chat/complete",
        "/product/chat/stream",
        "/product/chat/stream/playground",
        "/product/chat/stream/business_user",
        "/api/openmem/v1/add/message",
        "/api/openmem/v1/update/memory",
        "/api/openmem/v1/delete/memory",
        "/api/openmem/v1/add/feedback",
        "/api/openmem/v1/chat",
        "/api/openmem/v1/create/knowledgebase",
        "/api/openmem/v1/delete/knowledgebase",
        "/api/openmem/v1/add/knowledgebase-file",
        "/api/openmem/v1/delete/knowledgebase-file",
        "/api/openmem/v1/bind/profile_template",
        "/api/openmem/v1/edit/profile",
        "/api/openmem/v1/delete/profile",
        "/admin/keys",
        "/admin/generate-master-key",
        "/admin/users",
        "/dashboard/api/cubes",
        "/dashboard/api/memories",
        "/dashboard/api/memories/{id}/undo",
        "/dashboard/api/memories/{id}/release",
        "/dashboard/api/scheduler/retry",
        "/dream/trigger/cube",
        "/v1/chat/completions",
    ];

    #[test]
    fn of_every_operation_that_is_asked_with_post_is_known_whether_it_changes_something() {
        let (_, routes) = crate::routes::all().into_parts();
        let asked: BTreeSet<String> =
            routes.into_iter().filter(|route| route.method == "POST").map(|route| route.path).collect();
        let known: BTreeSet<String> = READING.iter().chain(CHANGING).map(|path| (*path).to_owned()).collect();
        assert_eq!(known.len(), READING.len() + CHANGING.len(), "nothing does both");
        let (new, gone): (Vec<_>, Vec<_>) = (asked.difference(&known).collect(), known.difference(&asked).collect());
        assert!(new.is_empty() && gone.is_empty(), "in neither list: {new:?}; not registered: {gone:?}");
        assert!(CHANGING.iter().all(|path| is_change(&Method::POST, path)));
    }
}
