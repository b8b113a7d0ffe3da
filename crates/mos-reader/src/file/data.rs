//! Getting at the content of a file or an image: bytes, text, base64, a data URL, a URL, a path.

use std::path::{Path, PathBuf};

use mos_core::{Fetcher, FileData, Sources};
use tokio::io::AsyncReadExt as _;

use crate::fetch::{base64_bytes, data_url};

/// The shortest text that is taken for base64 without saying so, in characters.
const MIN_BASE64_CHARS: usize = 40;

/// The longest text that is taken for a path.
const MAX_PATH_CHARS: usize = 1_024;

/// What content is loaded with.
pub(crate) struct Loader<'a> {
    pub(crate) fetcher: Option<&'a dyn Fetcher>,
    pub(crate) sources: Sources,
    pub(crate) max_bytes: usize,
}

/// The content of a file.
#[derive(Debug, PartialEq)]
pub(crate) struct Loaded {
    pub(crate) bytes: Vec<u8>,
    /// The name that its source gives it.
    pub(crate) name: Option<String>,
    /// Where it was fetched from.
    pub(crate) url: Option<String>,
}

/// Why there is no content.
#[derive(Debug, PartialEq)]
pub(crate) struct NotLoaded {
    pub(crate) reason: String,
    /// Where it should have come from.
    pub(crate) url: Option<String>,
}

impl NotLoaded {
    fn because(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), url: None }
    }
}

/// What a text in the place of a file's content is.
#[derive(Debug, PartialEq)]
enum Given {
    Url(String),
    Path(PathBuf),
    Bytes(Vec<u8>),
    Bad(String),
}

impl Loader<'_> {
    /// Returns the content.
    pub(crate) async fn load(&self, data: &FileData) -> Result<Loaded, NotLoaded> {
        let given = match data {
            FileData::Absent => {
                return Err(NotLoaded::because(
                    "no content was given; give `file_data`: a URL, a data URL, base64 or text",
                ));
            }
            FileData::Bytes(bytes) => {
                self.check_size(bytes.len())?;
                Given::Bytes(bytes.clone())
            }
            FileData::Path(path) => Given::Path(path.clone()),
            FileData::Text(text) => {
                self.check_size(text.len() / 4 * 3)?;
                given(text, self.max_bytes)
            }
        };
        match given {
            Given::Bytes(bytes) => {
                self.check_size(bytes.len())?;
                Ok(Loaded { bytes, name: None, url: None })
            }
            Given::Url(url) => self.fetch(url).await,
            Given::Path(path) => self.open(&path).await,
            Given::Bad(reason) => Err(NotLoaded::because(reason)),
        }
    }

    fn check_size(&self, n_bytes: usize) -> Result<(), NotLoaded> {
        if n_bytes > self.max_bytes {
            return Err(NotLoaded::because(format!(
                "it has {n_bytes} bytes; at most {} are read, so give it in parts",
                self.max_bytes
            )));
        }
        Ok(())
    }

    async fn fetch(&self, url: String) -> Result<Loaded, NotLoaded> {
        let Some(fetcher) = self.fetcher else {
            let reason =
                "fetching of URLs is off; set `fetch: {enabled: true}` in the settings, or give the content itself"
                    .to_owned();
            return Err(NotLoaded { reason, url: Some(url) });
        };
        match fetcher.fetch(&url).await {
            Ok(fetched) => match self.check_size(fetched.bytes.len()) {
                Ok(()) => Ok(Loaded { bytes: fetched.bytes, name: fetched.name, url: Some(url) }),
                Err(error) => Err(NotLoaded { url: Some(url), ..error }),
            },
            Err(error) => Err(NotLoaded { reason: format!("it was not fetched: {error}"), url: Some(url) }),
        }
    }

    async fn open(&self, path: &Path) -> Result<Loaded, NotLoaded> {
        if !self.sources.local_paths {
            return Err(NotLoaded::because(
                "files of this machine are not read for requests; give the content itself, or a URL",
            ));
        }
        let failed = |error: std::io::Error| NotLoaded::because(format!("{}: {error}", path.display()));
        let metadata = tokio::fs::metadata(path).await.map_err(failed)?;
        if !metadata.is_file() {
            return Err(NotLoaded::because(format!("{} is no file", path.display())));
        }
        self.check_size(usize::try_from(metadata.len()).unwrap_or(usize::MAX))?;
        // It may grow meanwhile, and some files hold more than they tell: reading ends one byte beyond the limit.
        let most = u64::try_from(self.max_bytes).unwrap_or(u64::MAX).saturating_add(1);
        let mut bytes = Vec::new();
        let file = tokio::fs::File::open(path).await.map_err(failed)?;
        file.take(most).read_to_end(&mut bytes).await.map_err(failed)?;
        self.check_size(bytes.len())?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(Loaded { bytes, name, url: None })
    }
}

/// Returns the URL that a text is; MemOS' examples put a `@` before it.
pub(crate) fn url_of(text: &str) -> Option<&str> {
    let url = text.trim();
    let url = url.strip_prefix('@').unwrap_or(url);
    let lower = url.get(..url.len().min(8)).unwrap_or_default().to_ascii_lowercase();
    let is_url = lower.starts_with("http://") || lower.starts_with("https://");
    (is_url && !url.contains(char::is_whitespace)).then_some(url)
}

fn given(text: &str, max_bytes: usize) -> Given {
    if let Some(url) = url_of(text) {
        return Given::Url(url.to_owned());
    }
    let trimmed = text.trim();
    if trimmed.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"))
        && trimmed[5..].split_once(',').is_some_and(|(kind, _)| is_media_type(kind))
    {
        return match data_url(trimmed, max_bytes) {
            Ok(file) => Given::Bytes(file.bytes),
            Err(error) => Given::Bad(error.to_string()),
        };
    }
    if let Some(path) = path_of(trimmed) {
        return Given::Path(path);
    }
    match base64_of(trimmed, max_bytes) {
        Some(bytes) => Given::Bytes(bytes),
        None => Given::Bytes(text.as_bytes().to_vec()),
    }
}

/// Whether what stands before the comma of a data URL is one: nothing, or a type and parameters without spaces.
fn is_media_type(kind: &str) -> bool {
    !kind.contains(char::is_whitespace) && (kind.is_empty() || kind.contains(['/', ';']))
}

/// Returns the bytes of a text that can only be base64: long, of its letters alone, and of a whole number of groups.
fn base64_of(text: &str, max_bytes: usize) -> Option<Vec<u8>> {
    let is_of_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'\n' | b'\r');
    if text.len() < MIN_BASE64_CHARS || !text.bytes().all(is_of_alphabet) {
        return None;
    }
    let n_letters = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).count();
    if n_letters.is_multiple_of(4) { base64_bytes(text, max_bytes).ok() } else { None }
}

/// Returns the path that a text is: one line without spaces around it that begins like one.
fn path_of(text: &str) -> Option<PathBuf> {
    if text.chars().count() > MAX_PATH_CHARS || text.contains('\n') {
        return None;
    }
    if let Some(path) = text.strip_prefix("file://") {
        return Some(PathBuf::from(path));
    }
    let is_drive = text.as_bytes().get(1) == Some(&b':') && text.as_bytes().get(2) == Some(&b'\\');
    let is_rooted = text.starts_with('/') && !text.starts_with("//") && !text.contains(' ');
    let is_relative =
        (text.starts_with("./") || text.starts_with("../") || text.starts_with("~/")) && !text.contains(' ');
    (is_drive || is_rooted || is_relative).then(|| PathBuf::from(text))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn loader(local_paths: bool) -> Loader<'static> {
        Loader { fetcher: None, sources: Sources { local_paths }, max_bytes: 1_000 }
    }

    async fn text(data: &str) -> Result<Loaded, NotLoaded> {
        loader(false).load(&FileData::Text(data.to_owned())).await
    }

    #[tokio::test]
    async fn content_comes_in_many_forms() {
        let long = "A report of the sensor tests of 2024.";
        let encoded = STANDARD.encode(long);
        for (given, expected) in [
            ("# Title\n\nBody".to_owned(), "# Title\n\nBody"),
            (format!("data:text/plain;base64,{encoded}"), long),
            (format!("DATA:text/plain;base64,{encoded}"), long),
            ("data:text/plain,a%20b%zz".to_owned(), "a b%zz"),
            (encoded, long),
            ("data: one, two".to_owned(), "data: one, two"),
            ("OnlyLettersButTooShort".to_owned(), "OnlyLettersButTooShort"),
        ] {
            assert_eq!(text(&given).await.unwrap().bytes, expected.as_bytes(), "{given}");
        }
        assert!(text("data:image/png;base64,@@").await.unwrap_err().reason.contains("base64"));
        assert!(text(&"x ".repeat(2_000)).await.unwrap_err().reason.contains("at most 1000"));
        assert!(loader(false).load(&FileData::Absent).await.is_err());
    }

    #[tokio::test]
    async fn urls_keep_their_address_and_a_sign_before_them_is_passed_over() {
        let error = text("@http://example.org/a.md").await.unwrap_err();
        assert_eq!(error.url.as_deref(), Some("http://example.org/a.md"));
        assert!(error.reason.contains("fetching of URLs is off"));
        assert_eq!(url_of("HTTPS://example.org"), Some("HTTPS://example.org"));
        assert_eq!((url_of("see http://example.org"), url_of("http://a b"), url_of("记忆记忆")), (None, None, None));
    }

    #[tokio::test]
    async fn a_file_that_is_too_large_is_refused_by_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large.pdf");
        // Nothing of it takes space, and no memory could take it: whoever read it first would fail otherwise.
        std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let refused = loader(true).load(&FileData::Path(path)).await.unwrap_err();
        assert_eq!(refused.reason, "it has 1099511627776 bytes; at most 1000 are read, so give it in parts");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_file_that_holds_more_than_it_tells_is_not_read_whole() {
        // It tells that it is empty, and holds a line for every area of the memory of this process.
        let path = PathBuf::from("/proc/self/maps");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        let refused = loader(true).load(&FileData::Path(path)).await.unwrap_err();
        assert_eq!(refused.reason, "it has 1001 bytes; at most 1000 are read, so give it in parts");
    }

    #[tokio::test]
    async fn paths_are_for_the_owner_of_the_machine() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("note.md");
        std::fs::write(&path, "hello").unwrap();
        let given = path.to_string_lossy().into_owned();
        for data in [FileData::Text(given.clone()), FileData::Text(format!("file://{given}")), FileData::Path(path)] {
            let refused = loader(false).load(&data).await.unwrap_err();
            assert!(refused.reason.contains("not read for requests"), "{refused:?}");
            let loaded = loader(true).load(&data).await.unwrap();
            assert_eq!((loaded.bytes.as_slice(), loaded.name.as_deref()), (b"hello".as_slice(), Some("note.md")));
        }
        let folder = FileData::Path(folder.path().to_owned());
        assert!(loader(true).load(&folder).await.unwrap_err().reason.contains("is no file"));
    }
}
