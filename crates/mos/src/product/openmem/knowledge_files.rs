//! The files of knowledge bases.
//!
//! A file is known by its content: the same content given twice is one file. Its id names the knowledge base too, so that it can
//! be found without looking through all of them.

use std::collections::HashMap;

use mos_core::memory::Quarantined;
use mos_core::{
    Fetcher, FileData, Filter, MemoryId, MemoryItem, Outcome, RawFile, ReadInput, ReadMode, Scope as RecordScope,
    Sources,
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::app::Product;
use super::super::caller::Scope;
use super::super::error::{ProductError, ProductResult};
use super::super::filters::of_file;
use super::super::reach::Reached;
use super::super::reply::Reply;
use super::knowledge_bases::KnowledgeBase;
use crate::facade::Remember;
use crate::factories::fetcher;
use crate::held_files::HeldFile;

/// The most files of one request.
const MAX_FILES: usize = 20;

/// The most file ids of one request.
const MAX_IDS: usize = 100;

/// The largest page, in files.
const MAX_PAGE: usize = 100;

/// The longest name of a file, in characters.
const MAX_NAME_CHARS: usize = 255;

/// What a file is called that was read.
const AVAILABLE: &str = "AVAILABLE";

/// What one is called that was read, but no search finds any of it until it is released.
const QUARANTINED: &str = "QUARANTINED";

/// What one is called that was not.
const FAILED: &str = "PROCESSING_FAILED";

/// Where memories of files note what the file is called and how long it is.
const FILE_NAME: &str = "file_name";
const FILE_BYTES: &str = "file_bytes";

/// A file to be read.
#[derive(Clone, Debug, PartialEq)]
pub struct KnowledgeFile {
    /// What it is called.
    pub name: Option<String>,
    /// Its content: bytes, or text as requests have it (a URL, a data URL, base64, or plain text). Files of this machine are
    /// never read.
    pub data: FileData,
}

request! {
    /// Asks for files: exactly one of `file_ids` and `knowledgebase_id` is given.
    pub struct GetKnowledgeFilesRequest as GetKnowledgeFilesRequest {
        /// The files; at most 100.
        optional file_ids: Vec<String>;
        /// The knowledge base whose files are listed.
        optional knowledgebase_id: String;
        /// Which page, from 1.
        #[schema(required = false, default = 1)]
        default page: usize = 1, at least 1.0;
        /// How many files are on a page, at most 100.
        #[schema(required = false, default = 10)]
        default page_size: usize = 10, at least 1.0;
    }
}

impl Default for GetKnowledgeFilesRequest {
    fn default() -> Self {
        Self::new()
    }
}

/// A page of files.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KnowledgeFiles {
    /// The files in the order in which they were added: `id`, `knowledgebase_id`, `status`, and what is known of `name`, `size`
    /// (in bytes), `url` and `create_time`.
    pub files: Vec<Value>,
    /// How many files there are on all pages.
    pub total: usize,
    /// The page.
    pub page: usize,
    /// How many files are on a page.
    pub page_size: usize,
    /// The knowledge base, when its files were asked for.
    pub knowledge_base: Option<KnowledgeBase>,
}

impl KnowledgeFile {
    /// Reads a file of a request: its content (`content`, also `file_data` or `url`) and its name (`name`, also `filename` or
    /// `file_name`), or the content alone.
    ///
    /// # Errors
    /// Status 400 for anything else.
    pub fn from_value(value: &Value) -> ProductResult<Self> {
        let text = |keys: &[&str]| keys.iter().find_map(|key| value.get(*key).and_then(Value::as_str));
        let content = value.as_str().or_else(|| text(&["content", "file_data", "url"]));
        let content = content.filter(|content| !content.trim().is_empty()).ok_or_else(|| {
            ProductError::bad_value("a file needs `content`: a URL, a data URL, base64 or text; `name` names it")
        })?;
        let name = text(&["name", "filename", "file_name"]).and_then(plain_name);
        Ok(Self { name, data: FileData::Text(content.to_owned()) })
    }

    /// Returns a file that was sent as it is. Folders before its name are left out.
    pub fn of_bytes(name: Option<&str>, bytes: Vec<u8>) -> Self {
        Self { name: name.and_then(plain_name), data: FileData::Bytes(bytes) }
    }

    /// The address that it is fetched from.
    fn url(&self) -> Option<&str> {
        let FileData::Text(text) = &self.data else { return None };
        let url = text.trim();
        let url = url.strip_prefix('@').unwrap_or(url);
        let lower = url.get(..url.len().min(8)).unwrap_or_default().to_ascii_lowercase();
        let is_url = lower.starts_with("http://") || lower.starts_with("https://");
        (is_url && !url.contains(char::is_whitespace)).then_some(url)
    }
}

/// Returns the last part of a name; `None` for one that is empty or no name.
fn plain_name(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default().trim();
    let name: String = last.chars().filter(|one| !one.is_control()).take(MAX_NAME_CHARS).collect();
    (!name.is_empty()).then_some(name)
}

/// What came of a file.
enum Read {
    /// It is there, under this id, with what is kept apart of it, and whether that is all of it.
    Kept { id: String, quarantined: Vec<Quarantined>, is_apart: bool },
    /// It is not, for this reason.
    Not(String),
}

impl Product {
    /// Reads files into a knowledge base, each by itself, and returns what came of each: `id`, `name` and `status`, or the
    /// `reason` why it could not be read; `quarantined` tells of pieces (`id`, `reason`) that no search finds until they are
    /// released, because a stranger wrote them in the manner of instructions. Files that are there already stay as they are.
    ///
    /// # Errors
    /// Status 400 for no files, too many, and when none of them could be read; 404 for a knowledge base that the caller may
    /// not use; 403 without the right to write.
    pub async fn add_knowledge_files(
        &self,
        knowledge_base: &str,
        files: Vec<KnowledgeFile>,
    ) -> ProductResult<Reply<Vec<Value>>> {
        let reached = self.knowledge_base(Scope::Write, knowledge_base).await?;
        if files.is_empty() || files.len() > MAX_FILES {
            return Err(ProductError::bad_value(format!("give 1 to {MAX_FILES} files")));
        }
        let fetcher = fetcher(&self.mos().settings().fetch)?;
        let mut told = Vec::with_capacity(files.len());
        let mut reasons = Vec::new();
        for file in files {
            let name = file.name.clone();
            match self.read_file(&reached, file, fetcher.as_deref()).await? {
                Read::Kept { id, quarantined, is_apart } => {
                    let status = if is_apart { QUARANTINED } else { AVAILABLE };
                    let base = &reached.cube.cube_id;
                    let id = full_id(base.as_str(), &id);
                    let mut row = json!({"id": id, "name": name, "status": status, "knowledgebase_id": base});
                    if !quarantined.is_empty() {
                        row["quarantined"] = json!(quarantined);
                    }
                    told.push(row);
                }
                Read::Not(reason) => {
                    told.push(json!({"name": name, "status": FAILED, "reason": reason}));
                    reasons.push(reason);
                }
            }
        }
        if reasons.len() == told.len() {
            return Err(ProductError::bad_value(format!("no file could be read: {}", reasons.join("; "))));
        }
        let n_files = told.len() - reasons.len();
        tracing::info!(cube = %reached.cube.cube_id, n_files, "files were read into a knowledge base");
        Ok(Reply::new("Files added successfully", told))
    }

    async fn read_file(
        &self,
        reached: &Reached,
        mut file: KnowledgeFile,
        fetcher: Option<&dyn Fetcher>,
    ) -> ProductResult<Read> {
        let url = file.url().map(str::to_owned);
        if let Some(url) = &url {
            let Some(fetcher) = fetcher else {
                let reason = "fetching of URLs is off; give the content itself";
                return Ok(Read::Not(reason.to_owned()));
            };
            match fetcher.fetch(url).await {
                Ok(fetched) => {
                    file.name = file.name.or_else(|| fetched.name.as_deref().and_then(plain_name));
                    file.data = FileData::Bytes(fetched.bytes);
                }
                Err(error) => return Ok(Read::Not(format!("it was not fetched: {error}"))),
            }
        }
        let mut info = Map::new();
        info.extend(file.name.as_ref().map(|name| (FILE_NAME.to_owned(), json!(name))));
        if let FileData::Bytes(bytes) = &file.data {
            info.insert(FILE_BYTES.to_owned(), json!(bytes.len()));
        }
        let url = url.as_deref().map(plain_url);
        info.extend(url.as_ref().map(|url| ("url".to_owned(), json!(url))));
        let raw = RawFile { id: None, name: file.name, url, data: file.data };
        let input = ReadInput { sources: Sources::of_request(), ..ReadInput::file(raw) };
        let cube = &reached.cube.cube_id;
        let what = Remember::new(input)
            .user(reached.user.clone())
            .cube(cube.clone())
            .mode(ReadMode::Fast)
            .info(info)
            .refined_later(false)
            .told_anew(true);
        let remembered = self.mos().remember(what).await?;
        if remembered.report.count(Outcome::Kept) == 0 {
            // That there was a file is nothing that a knowledge base should say.
            self.mos().delete_many(&reached.user, Some(cube), &remembered.ids).await?;
            let why: Vec<&str> = remembered.report.items.iter().filter_map(|item| item.reason.as_deref()).collect();
            return Ok(Read::Not(why.join("; ")));
        }
        let quarantined = remembered.report.quarantined;
        let is_apart = remembered.ids.iter().all(|id| quarantined.iter().any(|one| one.id == *id));
        let first: Vec<MemoryId> = remembered.ids.into_iter().take(1).collect();
        let items = self.mos().parts.record.nodes(&RecordScope::of(cube), &first).await?;
        let id = items.first().and_then(|item| item.metadata.tree()).and_then(|fields| fields.file_ids.first());
        Ok(match id {
            Some(id) => Read::Kept { id: id.clone(), quarantined, is_apart },
            None => Read::Not("it was removed meanwhile; try again".to_owned()),
        })
    }

    /// Returns files of a knowledge base, a page at a time, or the files of some ids; ids that name no file are left out.
    ///
    /// # Errors
    /// Status 400 unless exactly one of the two is given, for too many ids and for a page that is too large; 404 for a
    /// knowledge base that the caller may not use.
    pub async fn knowledge_files(&self, request: GetKnowledgeFilesRequest) -> ProductResult<Reply<KnowledgeFiles>> {
        let (page, page_size) = (request.page, request.page_size);
        if page_size > MAX_PAGE {
            return Err(ProductError::bad_value(format!("`page_size` is at most {MAX_PAGE}")));
        }
        let ids = request.file_ids.filter(|ids| !ids.is_empty());
        let base = request.knowledgebase_id.filter(|base| !base.is_empty());
        let (found, knowledge_base) = match (ids, base) {
            (Some(ids), None) => (self.files_of_ids(&ids).await?, None),
            (None, Some(base)) => {
                let reached = self.knowledge_base(Scope::Read, &base).await?;
                (self.files_of(&reached).await?, Some(self.described(&reached).await?))
            }
            _ => return Err(ProductError::bad_value("give exactly one of `file_ids` and `knowledgebase_id`")),
        };
        let total = found.len();
        let on_page: Vec<Place> =
            found.into_iter().skip(page.saturating_sub(1).saturating_mul(page_size)).take(page_size).collect();
        let files = self.shown(&on_page).await?;
        Ok(Reply::new("Files retrieved successfully", KnowledgeFiles { files, total, page, page_size, knowledge_base }))
    }

    /// Removes files with all that was read of them; what is gone already is no error.
    ///
    /// # Errors
    /// Status 400 for no ids, too many, and ids that can be none; 404 for files of a knowledge base that the caller may not
    /// use; 403 without the right to write. Nothing is removed then.
    pub async fn delete_knowledge_files(&self, file_ids: Vec<String>) -> ProductResult<Reply<()>> {
        self.caller.check(Scope::Write)?;
        let mut meant = Vec::new();
        for (base, files) in by_base(&file_ids)? {
            meant.push((self.knowledge_base(Scope::Write, &base).await?, files));
        }
        for (reached, files) in meant {
            let cube = &reached.cube.cube_id;
            let of_files = Filter::Any(files.iter().map(|file| of_file(file)).collect());
            let n_deleted = self.mos().delete_by_filter(&reached.user, Some(cube), &of_files).await?;
            tracing::info!(%cube, n_deleted, "files of a knowledge base were deleted");
        }
        Ok(Reply::new("Files deleted successfully", ()))
    }

    async fn files_of_ids(&self, ids: &[String]) -> ProductResult<Vec<Place>> {
        self.caller.check(Scope::Read)?;
        let mut known: HashMap<String, Place> = HashMap::new();
        for (base, _) in by_base(ids)? {
            let reached = self.knowledge_base(Scope::Read, &base).await?;
            known.extend(self.files_of(&reached).await?.into_iter().map(|place| (place.id(), place)));
        }
        Ok(ids.iter().filter_map(|id| known.remove(id)).collect())
    }

    async fn files_of(&self, reached: &Reached) -> ProductResult<Vec<Place>> {
        let parts = &self.mos().parts;
        let scope = RecordScope::of(&reached.cube.cube_id);
        let files = parts.reading.files.all(parts.record.as_ref(), &scope).await?;
        Ok(files.into_iter().map(|held| Place { scope: scope.clone(), held }).collect())
    }

    async fn shown(&self, places: &[Place]) -> ProductResult<Vec<Value>> {
        let mut shown = Vec::with_capacity(places.len());
        for some in places.chunk_by(|one, next| one.scope == next.scope) {
            let Some(scope) = some.first().map(|place| &place.scope) else { continue };
            let ids: Vec<MemoryId> = some.iter().map(|place| place.held.first.clone()).collect();
            let items = self.mos().parts.record.nodes(scope, &ids).await?;
            shown.extend(some.iter().map(|place| {
                let item = items.iter().find(|item| item.id == place.held.first);
                place.to_value(item)
            }));
        }
        Ok(shown)
    }
}

/// A file, and where it is.
struct Place {
    scope: RecordScope,
    held: HeldFile,
}

impl Place {
    fn id(&self) -> String {
        full_id(self.scope.cube.as_str(), &self.held.file)
    }

    fn to_value(&self, item: Option<&MemoryItem>) -> Value {
        let info = item.and_then(|item| item.metadata.info.as_ref());
        let noted = |key: &str| info.and_then(|info| info.get(key)).cloned().unwrap_or_default();
        let told_at = item.and_then(|item| item.metadata.tree()).and_then(|fields| fields.created_at.clone());
        let mut shown = json!({
            "id": self.id(),
            "knowledgebase_id": self.scope.cube,
            "name": noted(FILE_NAME),
            "size": noted(FILE_BYTES),
            "url": noted("url"),
            "create_time": told_at,
            "status": if self.held.is_apart { QUARANTINED } else { AVAILABLE },
        });
        if let Some(map) = shown.as_object_mut() {
            map.retain(|_, value| !value.is_null());
        }
        shown
    }
}

fn full_id(base: &str, file: &str) -> String {
    format!("{base}:{file}")
}

/// Returns an address without what may be secret in it: who asks, and the query.
fn plain_url(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

/// Returns the files of ids by their knowledge bases, in the order in which these are named first.
fn by_base(ids: &[String]) -> ProductResult<Vec<(String, Vec<String>)>> {
    if ids.is_empty() || ids.len() > MAX_IDS {
        return Err(ProductError::bad_value(format!("give 1 to {MAX_IDS} file ids")));
    }
    let mut bases: Vec<(String, Vec<String>)> = Vec::new();
    for id in ids {
        let (base, file) =
            id.rsplit_once(':').filter(|(base, file)| !base.is_empty() && !file.is_empty()).ok_or_else(|| {
                ProductError::bad_value(
                    "an id of `file_ids` is none of a file; use those that adding and listing return",
                )
            })?;
        match bases.iter_mut().find(|(known, _)| known == base) {
            Some((_, files)) => files.push(file.to_owned()),
            None => bases.push((base.to_owned(), vec![file.to_owned()])),
        }
    }
    Ok(bases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_requests_come_in_several_forms() {
        let read = |value: Value| KnowledgeFile::from_value(&value);
        let text = |text: &str| FileData::Text(text.to_owned());
        let named = read(json!({"content": "# Title", "name": "/etc/../a\u{7}.md"})).unwrap();
        assert_eq!((named.name.as_deref(), named.data), (Some("a.md"), text("# Title")));
        assert_eq!(read(json!("plain")).unwrap(), KnowledgeFile { name: None, data: text("plain") });
        assert_eq!(read(json!({"url": "@HTTPS://x.org/a"})).unwrap().url(), Some("HTTPS://x.org/a"));
        for bad in [json!({}), json!({"content": " "}), json!(7), json!({"content": 7})] {
            assert_eq!(read(bad).unwrap_err().status, 400);
        }
    }

    #[test]
    fn ids_of_files_name_their_knowledge_base() {
        let ids = ["kb-1:file_a", "kb-2:file_b", "kb-1:file_c"].map(str::to_owned);
        let files = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let expected = [("kb-1".to_owned(), files(&["file_a", "file_c"])), ("kb-2".to_owned(), files(&["file_b"]))];
        assert_eq!(by_base(&ids).unwrap(), expected);
        for bad in [vec![], vec!["file_a".to_owned()], vec![":x".to_owned()], vec!["x:".to_owned()]] {
            assert_eq!(by_base(&bad).unwrap_err().status, 400);
        }
        assert_eq!(plain_url("https://ann:secret@x.org/a@b?token=1"), "https://x.org/a@b");
    }
}
