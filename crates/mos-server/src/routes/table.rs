//! Routes that are written down as they are registered, so that tests can go through all that the server answers.
//!
//! A router of `axum` does not tell what it has. These have its words (`route`, `merge`, `nest`, and [`get`] to [`delete`] for
//! handlers), and keep a list beside it. Whoever registers something in another way fails the test below.

use axum::Router;
use axum::handler::Handler;
use axum::routing::MethodRouter;

use crate::state::ServerState;

/// An operation of the server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The method, in capitals. What answers `GET` also answers `HEAD`.
    pub method: &'static str,
    /// The path, with names in braces where requests differ, for example `/admin/users/{user_id}`.
    pub path: String,
}

/// The handlers of one path, by method.
#[derive(Debug, Default)]
pub(crate) struct Methods {
    names: Vec<&'static str>,
    handlers: MethodRouter<ServerState>,
}

/// Returns the handlers of a path that is only read.
pub(crate) fn get<H: Handler<T, ServerState>, T: 'static>(handler: H) -> Methods {
    Methods::default().get(handler)
}

/// As [`get`], for POST.
pub(crate) fn post<H: Handler<T, ServerState>, T: 'static>(handler: H) -> Methods {
    Methods::default().post(handler)
}

/// As [`get`], for PUT.
pub(crate) fn put<H: Handler<T, ServerState>, T: 'static>(handler: H) -> Methods {
    Methods::default().put(handler)
}

/// As [`get`], for DELETE.
pub(crate) fn delete<H: Handler<T, ServerState>, T: 'static>(handler: H) -> Methods {
    Methods::default().delete(handler)
}

impl Methods {
    fn with(
        mut self,
        name: &'static str,
        add: impl FnOnce(MethodRouter<ServerState>) -> MethodRouter<ServerState>,
    ) -> Self {
        self.names.push(name);
        Self { names: self.names, handlers: add(self.handlers) }
    }

    /// Adds the handler of GET.
    pub(crate) fn get<H: Handler<T, ServerState>, T: 'static>(self, handler: H) -> Self {
        self.with("GET", |handlers| handlers.get(handler))
    }

    /// Adds the handler of POST.
    pub(crate) fn post<H: Handler<T, ServerState>, T: 'static>(self, handler: H) -> Self {
        self.with("POST", |handlers| handlers.post(handler))
    }

    /// Adds the handler of PUT.
    pub(crate) fn put<H: Handler<T, ServerState>, T: 'static>(self, handler: H) -> Self {
        self.with("PUT", |handlers| handlers.put(handler))
    }

    /// Adds the handler of DELETE.
    pub(crate) fn delete<H: Handler<T, ServerState>, T: 'static>(self, handler: H) -> Self {
        self.with("DELETE", |handlers| handlers.delete(handler))
    }
}

/// A router, and the list of what it has.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    router: Router<ServerState>,
    list: Vec<Route>,
}

impl Routes {
    /// Returns a router without routes.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a path with its handlers.
    pub(crate) fn route(mut self, path: &str, methods: Methods) -> Self {
        let Methods { names, handlers } = methods;
        self.list.extend(names.into_iter().map(|method| Route { method, path: path.to_owned() }));
        Self { router: self.router.route(path, handlers), list: self.list }
    }

    /// Adds the routes of another part.
    pub(crate) fn merge(mut self, other: Self) -> Self {
        self.list.extend(other.list);
        Self { router: self.router.merge(other.router), list: self.list }
    }

    /// Adds the routes of another part, all of them below a path.
    pub(crate) fn nest(mut self, below: &str, inner: Self) -> Self {
        let nested = |route: Route| Route { path: format!("{below}{}", route.path), ..route };
        self.list.extend(inner.list.into_iter().map(nested));
        Self { router: self.router.nest(below, inner.router), list: self.list }
    }

    /// Adds what comes from other crates and does not tell its routes, with the methods and paths that it answers.
    pub(crate) fn foreign(mut self, router: Router<ServerState>, answers: &[(&'static str, &str)]) -> Self {
        self.list.extend(answers.iter().map(|(method, path)| Route { method, path: (*path).to_owned() }));
        Self { router: self.router.merge(router), list: self.list }
    }

    /// Returns the router, and what it has.
    pub(crate) fn into_parts(self) -> (Router<ServerState>, Vec<Route>) {
        (self.router, self.list)
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    async fn nothing() {}

    #[test]
    fn what_is_registered_is_listed_with_its_methods() {
        let inner = Routes::new().route("/b/{id}", put(nothing).delete(nothing));
        let foreign: Router<ServerState> = Router::new().route("/c", axum::routing::get(nothing));
        let routes = Routes::new()
            .route("/a", get(nothing).post(nothing))
            .nest("/inner", inner)
            .merge(Routes::new().route("/d", post(nothing)))
            .foreign(foreign, &[("GET", "/c")]);
        let (_, list) = routes.into_parts();
        let told: Vec<String> = list.iter().map(|route| format!("{} {}", route.method, route.path)).collect();
        let expected = ["GET /a", "POST /a", "PUT /inner/b/{id}", "DELETE /inner/b/{id}", "POST /d", "GET /c"];
        assert_eq!(told, expected);
    }

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else {
                found.push(path);
            }
        }
    }

    /// The only places that have to do with routers which keep no list.
    const EXCEPTIONS: [&str; 2] = ["routes/table.rs", "mcp/http.rs"];

    #[test]
    fn nothing_is_registered_without_being_listed() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut found = Vec::new();
        sources(&root, &mut found);
        for path in found {
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
            if EXCEPTIONS.contains(&name.as_str()) || name.ends_with("tests.rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let program = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
            for word in ["axum::routing", "Router::new()", ".route_service(", ".nest_service("] {
                assert!(!program.contains(word), "{name} has `{word}`; use the words of routes/table.rs");
            }
        }
    }
}
