//! What the documentation points at is there: files, headings, and paths that are named in the text.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// Folders whose files the documentation names by their path from the root.
const NAMED: &[&str] = &["bench/", "configs/", "crates/", "docs/", "examples/", "tests/", "xtask/"];

fn root() -> PathBuf {
    tidy(&Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join(".."))
}

/// The path without `.` and `..`, whether it exists or not.
fn tidy(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                tidy.pop();
            }
            Component::CurDir => {}
            part => tidy.push(part),
        }
    }
    tidy
}

/// Every Markdown file that readers are sent to.
fn pages() -> Vec<PathBuf> {
    let root = root();
    let mut pages: Vec<PathBuf> =
        ["README.md", "README.zh-CN.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "examples/data/README.md"]
            .iter()
            .map(|name| root.join(name))
            .collect();
    for folder in ["docs", "docs/decisions"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages
}

/// The targets of `[text](target)`.
fn targets(text: &str) -> Vec<&str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target)
        .filter(|target| !target.is_empty() && !target.contains(char::is_whitespace))
        .collect()
}

/// Paths from the root that stand in a text: `configs/ollama.yaml`.
fn named_paths(text: &str) -> Vec<&str> {
    let in_path = |c: char| c.is_ascii_alphanumeric() || "/._-@".contains(c);
    text.split(|c: char| !in_path(c))
        .map(|word| word.trim_end_matches(['.', '-']))
        .filter(|word| NAMED.iter().any(|folder| word.starts_with(folder)))
        .collect()
}

/// What a heading is linked by: lower case, letters, digits, `-` and `_`, spaces as `-`.
fn anchor(heading: &str) -> String {
    let mut shown = heading.trim().to_lowercase();
    // Of a link only its text is shown.
    while let Some(start) = shown.find("](") {
        let Some(length) = shown[start..].find(')') else { break };
        shown.replace_range(start..=start + length, "");
    }
    shown
        .chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    let mut in_code = false;
    let mut anchors = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with("```") {
            in_code = !in_code;
        } else if !in_code && line.starts_with('#') {
            anchors.insert(anchor(line.trim_start_matches('#')));
        }
    }
    anchors
}

/// What is wrong with one link, if anything.
fn problem(page: &Path, text: &str, target: &str) -> Option<String> {
    if ["http://", "https://", "mailto:"].iter().any(|scheme| target.starts_with(scheme)) {
        return None;
    }
    let (path, heading) = target.split_once('#').map_or((target, None), |(path, heading)| (path, Some(heading)));
    let goal = if path.is_empty() { page.to_owned() } else { tidy(&page.parent().unwrap().join(path)) };
    if !goal.exists() {
        return Some(format!("{}: `{target}` leads to nothing", page.display()));
    }
    let heading = heading?;
    let there = if path.is_empty() { text.to_owned() } else { std::fs::read_to_string(&goal).unwrap() };
    let is_page = goal.extension().is_some_and(|extension| extension == "md");
    (is_page && !anchors(&there).contains(heading))
        .then(|| format!("{}: `{target}`: there is no such heading", page.display()))
}

#[test]
fn every_link_of_the_documentation_leads_somewhere() {
    let mut problems = Vec::new();
    let mut n_links = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        for target in targets(&text) {
            n_links += 1;
            problems.extend(problem(&page, &text, target));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(n_links > 100, "only {n_links} links were found");
}

#[test]
fn every_path_that_the_documentation_names_is_there() {
    let root = root();
    let mut missing = BTreeSet::new();
    let mut n_paths = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for path in named_paths(&text) {
            n_paths += 1;
            if !root.join(path).exists() {
                missing.insert(format!("{}: {path}", page.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(n_paths > 100, "only {n_paths} paths were found");
}

#[test]
fn both_readmes_name_each_other_and_the_same_files() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).unwrap();
    let (english, chinese) = (read("README.md"), read("README.zh-CN.md"));
    let head = |text: &str| text.lines().take(5).collect::<String>();
    assert!(head(&english).contains("(README.zh-CN.md)"));
    assert!(head(&chinese).contains("(README.md)"));
    let links = |text: &str| -> BTreeSet<String> {
        targets(text).into_iter().filter(|target| !target.starts_with("README")).map(str::to_owned).collect()
    };
    let (ours, theirs) = (links(&english), links(&chinese));
    assert_eq!(ours.difference(&theirs).collect::<Vec<_>>(), Vec::<&String>::new(), "missing in README.zh-CN.md");
    assert_eq!(theirs.difference(&ours).collect::<Vec<_>>(), Vec::<&String>::new(), "missing in README.md");
}

/// A page that the summary leaves out is in no book, and mdBook makes no page of a name that is not there.
#[test]
fn the_summary_of_the_book_names_every_page_once() {
    let docs = root().join("docs");
    let summary = docs.join("SUMMARY.md");
    let text = std::fs::read_to_string(&summary).unwrap();
    let mut named: Vec<PathBuf> = targets(&text).into_iter().map(|target| tidy(&docs.join(target))).collect();
    let mut expected: Vec<PathBuf> =
        pages().into_iter().filter(|page| page.starts_with(&docs) && *page != summary).collect();
    named.sort();
    expected.sort();
    assert_eq!(named, expected);
    let book = std::fs::read_to_string(root().join("book.toml")).unwrap();
    assert!(book.contains("src = \"docs\""), "{book}");
}

#[test]
fn a_broken_link_and_a_missing_heading_are_noticed() {
    let page = root().join("docs/architecture.md");
    let text =
        "# One\n[a](absent.md) [b](#one) [c](#two) [d](../README.md#start) [e](../README.md#nowhere) [f](https://x)";
    let problems: Vec<String> = targets(text).into_iter().filter_map(|target| problem(&page, text, target)).collect();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert_eq!(named_paths("see `configs/absent.yaml`, or docs/cubes.md."), ["configs/absent.yaml", "docs/cubes.md"]);
    assert_eq!(anchor(" A [Page](x.md): `mos kv` and more"), "a-page-mos-kv-and-more");
}
