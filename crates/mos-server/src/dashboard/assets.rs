//! The page itself: files that are part of the program.

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::error::ApiError;
use crate::extract::InPath;
use crate::routes::{Routes, get};

/// What the page may load: its own files, and nothing from elsewhere.
pub(super) const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const IMAGE: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

/// A file, its type, and what is in it.
type Asset = (&'static str, &'static str, &'static [u8]);

macro_rules! asset {
    ($kind:expr, $path:literal) => {
        ($path, $kind, include_bytes!(concat!("../../assets/", $path)))
    };
}

/// Every file.
pub(super) const ASSETS: &[Asset] = &[
    asset!(HTML, "index.html"),
    asset!(IMAGE, "icon.svg"),
    asset!(STYLE, "base.css"),
    asset!(STYLE, "views.css"),
    asset!(SCRIPT, "js/api.js"),
    asset!(SCRIPT, "js/app.js"),
    asset!(SCRIPT, "js/caches.js"),
    asset!(SCRIPT, "js/dialog.js"),
    asset!(SCRIPT, "js/dom.js"),
    asset!(SCRIPT, "js/format.js"),
    asset!(SCRIPT, "js/graph.js"),
    asset!(SCRIPT, "js/memories.js"),
    asset!(SCRIPT, "js/memory.js"),
    asset!(SCRIPT, "js/preferences.js"),
    asset!(SCRIPT, "js/quarantine.js"),
    asset!(SCRIPT, "js/scheduler.js"),
    asset!(SCRIPT, "js/signin.js"),
    asset!(SCRIPT, "js/theme.js"),
    asset!(SCRIPT, "js/usage.js"),
    asset!(SCRIPT, "vendor/cytoscape.js"),
    asset!(TEXT, "vendor/cytoscape.LICENSE"),
];

pub(super) fn routes() -> Routes {
    Routes::new().route("/", get(page)).route("/assets/{*path}", get(file))
}

async fn page(headers: HeaderMap) -> Response {
    answer("index.html", &headers)
}

async fn file(InPath(path): InPath, headers: HeaderMap) -> Response {
    answer(&path, &headers)
}

fn answer(path: &str, headers: &HeaderMap) -> Response {
    let Some((_, kind, content)) = ASSETS.iter().find(|(name, _, _)| *name == path) else {
        return ApiError::new(StatusCode::NOT_FOUND, "there is no such file of the dashboard").into_response();
    };
    let tag = format!("\"{}\"", &blake3::hash(content).to_hex()[..32]);
    let asked = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_known = asked.split(',').any(|known| known.trim().trim_start_matches("W/") == tag);
    let mut response =
        if is_known { StatusCode::NOT_MODIFIED.into_response() } else { Bytes::from_static(content).into_response() };
    let answered = response.headers_mut();
    answered.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answered.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_POLICY));
    answered.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answered.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    answered.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // Asked for anew each time, so that a page is never half of an older program; unchanged files are not sent again.
    answered.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        answered.insert(header::ETAG, tag);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What would run text as a program or markup, or fetch from elsewhere.
    const FORBIDDEN: &[&str] = &[
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "http://",
        "https://",
        "style=\"",
        "onclick=",
        "localStorage.setItem(\"key",
    ];

    #[test]
    fn our_own_files_run_no_text_and_name_no_other_host() {
        for (path, _, content) in ASSETS.iter().filter(|(path, _, _)| !path.starts_with("vendor/")) {
            let text = std::str::from_utf8(content).unwrap().replace("http://www.w3.org/2000/svg", "");
            for word in FORBIDDEN {
                assert!(!text.contains(word), "{path} has `{word}`");
            }
        }
    }

    #[test]
    fn every_file_of_the_folder_is_served() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
        let mut pending = vec![folder.clone()];
        while let Some(at) = pending.pop() {
            for entry in std::fs::read_dir(at).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    pending.push(path);
                    continue;
                }
                let name = path.strip_prefix(&folder).unwrap().to_str().unwrap().replace('\\', "/");
                assert!(ASSETS.iter().any(|(known, _, _)| *known == name), "{name} is in no list");
            }
        }
    }

    #[test]
    fn every_file_that_a_script_imports_is_served() {
        for (path, kind, content) in ASSETS {
            if *kind != SCRIPT || path.starts_with("vendor/") {
                continue;
            }
            let text = std::str::from_utf8(content).unwrap();
            for line in text.lines().filter(|line| line.starts_with("import ")) {
                let from = line.rsplit('"').nth(1).unwrap();
                let name = match from.strip_prefix("../") {
                    Some(name) => name.to_owned(),
                    None => format!("js/{}", from.trim_start_matches("./")),
                };
                assert!(ASSETS.iter().any(|(known, _, _)| *known == name), "{path} imports {from}");
            }
        }
    }
}
