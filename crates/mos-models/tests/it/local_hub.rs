//! A small server that plays the hub: listing, ranges, redirect-free files, and a fault.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

#[derive(Default)]
struct Shelf {
    files: BTreeMap<String, Bytes>,
    /// Ranges that were asked for, in order.
    ranges: Vec<String>,
    /// A range request beginning at or after this byte breaks off.
    break_from: Option<usize>,
}

/// A running hub with one repository, `owner/name`.
pub(crate) struct LocalHub {
    pub(crate) endpoint: String,
    shelf: Arc<Mutex<Shelf>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for LocalHub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl LocalHub {
    pub(crate) async fn start(files: &[(&str, &[u8])]) -> Self {
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), Bytes::copy_from_slice(bytes))).collect();
        let shelf = Arc::new(Mutex::new(Shelf { files, ..Shelf::default() }));
        let router = Router::new()
            .route("/api/models/{owner}/{name}/revision/main", get(listing))
            .route("/{owner}/{name}/resolve/main/{*file}", get(serve))
            .route("/api/datasets/{owner}/{name}/revision/main", get(listing))
            .route("/datasets/{owner}/{name}/resolve/main/{*file}", get(serve))
            .with_state(Arc::clone(&shelf));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { endpoint, shelf, task }
    }

    pub(crate) fn break_from(&self, byte: Option<usize>) {
        self.shelf.lock().unwrap().break_from = byte;
    }

    /// Returns the ranges that were asked for since the last call.
    pub(crate) fn take_ranges(&self) -> Vec<String> {
        std::mem::take(&mut self.shelf.lock().unwrap().ranges)
    }
}

async fn listing(State(shelf): State<Arc<Mutex<Shelf>>>, Path((owner, _)): Path<(String, String)>) -> Response {
    match owner.as_str() {
        "closed" => StatusCode::FORBIDDEN.into_response(),
        "owner" => {
            let files: Vec<_> = shelf.lock().unwrap().files.keys().map(|name| json!({"rfilename": name})).collect();
            axum::Json(json!({"sha": "0123", "siblings": files})).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn serve(
    State(shelf): State<Arc<Mutex<Shelf>>>,
    Path((_, _, file)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    let mut shelf = shelf.lock().unwrap();
    let Some(bytes) = shelf.files.get(&file).cloned() else { return StatusCode::NOT_FOUND.into_response() };
    let range = headers["range"].to_str().unwrap().to_owned();
    shelf.ranges.push(range.clone());
    let (start, stop) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let start: usize = start.parse().unwrap();
    let stop = stop.parse::<usize>().unwrap().min(bytes.len() - 1);
    let content_range = format!("bytes {start}-{stop}/{}", bytes.len());
    let head = [
        ("x-repo-commit", "0123".to_owned()),
        ("etag", format!("\"{}\"", file.replace('/', "_"))),
        ("content-range", content_range),
    ];
    let body = if stop > 0 && shelf.break_from.is_some_and(|byte| start >= byte) {
        let error = Err::<Bytes, _>(std::io::Error::other("the test breaks the download"));
        Body::from_stream(futures::stream::iter([Ok(bytes.slice(start..start + 1)), error]))
    } else {
        Body::from(bytes.slice(start..=stop))
    };
    (StatusCode::PARTIAL_CONTENT, head, body).into_response()
}
