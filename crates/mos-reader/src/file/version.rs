//! Files that stay the same file while their content changes, and chunks that stay the same while the rest of a file does.

use std::collections::HashMap;

use mos_core::{FileData, RawFile, Sources};
use serde_json::json;

use super::data::url_of;
use crate::chunk::Chunk;
use crate::identity::content_name;

/// Returns the id of a file that does not depend on its content: the one that it was given, else one that follows from its
/// path (without links and detours) or from its URL. `None` for content that stands for itself, and for paths that must
/// not or cannot be looked at.
pub async fn lasting_id(file: &RawFile, sources: Sources) -> Option<String> {
    if let Some(id) = &file.id {
        return Some(id.clone());
    }
    let place = match &file.data {
        FileData::Text(text) => format!("url {}", url_of(text)?).into_bytes(),
        FileData::Path(path) if sources.local_paths => {
            let path = tokio::fs::canonicalize(path).await.ok()?;
            [b"path ".as_slice(), path.as_os_str().as_encoded_bytes()].concat()
        }
        FileData::Path(_) | FileData::Bytes(_) | FileData::Absent => return None,
    };
    Some(format!("file_{}", content_name(&place)))
}

/// Returns a name for each chunk of a file. It follows from the text and the headings and the sheet that it stands under,
/// not from what comes before or after; the second of two equal chunks has a name of its own.
pub(crate) fn chunk_names(chunks: &[Chunk]) -> Vec<String> {
    let mut n_seen: HashMap<String, usize> = HashMap::new();
    let mut names = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        let said = json!([chunk.position.headings, chunk.position.sheet, chunk.text]).to_string();
        let name = content_name(said.as_bytes());
        let n = n_seen.entry(name.clone()).or_insert(0);
        *n += 1;
        names.push(if *n == 1 { name } else { format!("{name}-{n}") });
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::Position;

    fn chunk(text: &str, heading: &str) -> Chunk {
        let position = Position { headings: vec![heading.to_owned()], ..Position::default() };
        Chunk { text: text.to_owned(), position, start: 0, end: text.len() }
    }

    #[test]
    fn chunks_keep_their_names_while_the_rest_changes() {
        let before = chunk_names(&[chunk("a", "One"), chunk("b", "One"), chunk("b", "One")]);
        let after = chunk_names(&[chunk("new", "One"), chunk("a", "One"), chunk("b", "One"), chunk("b", "Two")]);
        assert_eq!((&after[1], &after[2]), (&before[0], &before[1]));
        assert_ne!(before[1], before[2], "what is said twice is two chunks");
        assert!(!before.contains(&after[3]), "under another heading it is another chunk");
    }

    #[tokio::test]
    async fn files_are_known_by_their_place() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        for name in ["a.md", "sub/a.md"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let id = async |path: &str, sources| {
            let data = FileData::Path(folder.path().join(path));
            lasting_id(&RawFile { id: None, name: None, url: None, data }, sources).await
        };
        let first = id("a.md", Sources::of_owner()).await.unwrap();
        assert_eq!(id("sub/../a.md", Sources::of_owner()).await.as_ref(), Some(&first));
        assert_ne!(id("sub/a.md", Sources::of_owner()).await.as_ref(), Some(&first));
        assert_eq!(id("a.md", Sources::of_request()).await, None);
        assert_eq!(id("none.md", Sources::of_owner()).await, None);
        let given = |id: Option<&str>, data| {
            let (id, name) = (id.map(str::to_owned), Some("a.md".to_owned()));
            RawFile { id, name, url: None, data }
        };
        let owner = Sources::of_owner();
        assert_eq!(lasting_id(&given(Some("f"), FileData::Absent), owner).await.as_deref(), Some("f"));
        assert_eq!(lasting_id(&given(None, FileData::Bytes(b"x".to_vec())), owner).await, None);
        assert_eq!(lasting_id(&given(None, FileData::Text("# Title".to_owned())), owner).await, None);
        let url = |url: &str| given(None, FileData::Text(url.to_owned()));
        let (plain, marked) = (url("https://example.org/a.md"), url("@https://example.org/a.md"));
        assert_eq!(lasting_id(&plain, owner).await, lasting_id(&marked, owner).await);
    }
}
