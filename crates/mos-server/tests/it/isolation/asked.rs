//! What is asked of an operation, and whom and what it names.

use serde_json::Value;

/// Whom and what a request names: things of one tenant, or of several.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) user: String,
    pub(super) cube: String,
    pub(super) memory: String,
    /// A memory that is kept apart.
    pub(super) apart: String,
    /// A task of the application, which waits in the queue.
    pub(super) task: String,
    /// A task as the dialect of the SDK names it.
    pub(super) sdk_task: String,
    pub(super) session: String,
    /// The id of a key.
    pub(super) key: String,
    /// A knowledge base.
    pub(super) base: String,
    /// A file of it.
    pub(super) file: String,
}

impl Named {
    /// Everything that is named, but the session: a conversation has the name that each client gives it.
    pub(super) fn all(&self) -> [&str; 9] {
        let Self { user, cube, memory, apart, task, sdk_task, session: _, key, base, file } = self;
        // Those that hold others come first.
        [file, base, sdk_task, user, cube, memory, apart, task, key].map(String::as_str)
    }
}

/// A request, without a key.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) headers: Vec<(&'static str, String)>,
    /// The body, or the arguments of a tool; null for none.
    pub(super) body: Value,
}

/// Returns a request of this path, with its query.
pub(super) fn at(path: impl Into<String>) -> Asked {
    Asked { path: path.into(), headers: Vec::new(), body: Value::Null }
}

/// Returns a call of a tool with these arguments.
pub(super) fn arguments(arguments: Value) -> Asked {
    at("/mcp").with(arguments).header("accept", "application/json, text/event-stream")
}

impl Asked {
    pub(super) fn with(self, body: Value) -> Self {
        Self { body, ..self }
    }

    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// All that it says.
    pub(super) fn text(&self) -> String {
        let headers: Vec<&str> = self.headers.iter().map(|(_, value)| value.as_str()).collect();
        format!("{} {} {}", self.path, headers.join(" "), self.body)
    }
}

/// What a caller needs for an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing, not even a key.
    Open,
    /// The scope `read`, and the right to read what is named.
    Read,
    /// The scope `write`, and the right to write to what is named.
    Write,
    /// To be an administrator.
    Admin,
}

/// Makes a request about what is named.
pub(super) type Ask = fn(&Named) -> Asked;

/// An operation, and examples of requests, each of which its owner may send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation {
    /// Method and path as they are registered, or `tool` and its name.
    pub(super) name: &'static str,
    pub(super) need: Need,
    pub(super) asks: &'static [Ask],
}

impl Operation {
    /// Whether it is a tool.
    pub(super) fn is_tool(&self) -> bool {
        self.name.starts_with("tool ")
    }
}

/// Writes a table of operations: `"METHOD /path" Need [|n| request, ..]` for each.
macro_rules! operations {
    ($($name:literal $need:ident [$($ask:expr),+ $(,)?])*) => {
        &[$(Operation { name: $name, need: Need::$need, asks: &[$($ask),+] }),*]
    };
}

pub(super) use operations;
