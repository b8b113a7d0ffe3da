//! Skills in a zip archive: a folder each, with a `SKILL.md` and what belongs to it.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::{Component, Path};

use mos_core::MemoryId;
use zip::ZipArchive;

use super::Skill;
use crate::parse::n_told_parts;

pub(super) const SKILL_FILE: &str = "SKILL.md";

/// What is read of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SkillLimits {
    /// The most entries.
    pub max_entries: usize,
    /// The most bytes of one file, unpacked.
    pub max_file_bytes: u64,
    /// The most bytes of all files, unpacked.
    pub max_total_bytes: u64,
}

impl Default for SkillLimits {
    fn default() -> Self {
        Self { max_entries: 1_000, max_file_bytes: 2 << 20, max_total_bytes: 20 << 20 }
    }
}

/// Why an archive holds no skills that can be used. Nothing of it is kept then.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SkillError {
    /// Send a zip archive, without a password.
    #[error("it is no zip archive that can be read: {0}")]
    NotZip(String),
    /// Pack it again, without such names.
    #[error("the entry {0:?} leaves the archive's folder or is a link; pack it again without it")]
    UnsafeName(String),
    /// Leave out what is too large.
    #[error("{0}")]
    TooLarge(String),
    /// Add a `SKILL.md`.
    #[error("it holds no SKILL.md; every skill is a folder with one")]
    NoSkill,
    /// Mend the file that is named.
    #[error("{path}: {detail}")]
    BadSkill {
        /// The file in the archive.
        path: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Name a memory of a skill.
    #[error("memory `{0}` is no skill; only skills are given back as archives")]
    NotSkill(MemoryId),
    /// Nothing; the archive has no room for what the memory holds.
    #[error("the archive cannot be written: {0}")]
    NotWritten(String),
}

/// Returns the skills of an archive, in the order of their paths.
///
/// Files are read into memory within the limits; nothing is written to disk. Files that are no text are named only
/// ([`Skill::left_out`]).
///
/// # Errors
/// [`SkillError`]; an archive with one entry that may not be read is refused as a whole.
pub fn read_archive(bytes: &[u8], limits: &SkillLimits) -> Result<Vec<Skill>, SkillError> {
    let files = unpacked(bytes, limits)?;
    let mut folders: Vec<&str> = files
        .texts
        .keys()
        .filter_map(|path| path.strip_suffix(SKILL_FILE))
        .filter(|folder| folder.is_empty() || folder.ends_with('/'))
        .collect();
    if folders.is_empty() {
        return Err(SkillError::NoSkill);
    }
    folders.sort_unstable();
    folders.iter().map(|folder| skill(folder, &folders, &files)).collect()
}

/// The files of an archive.
#[derive(Debug, Default)]
struct Files {
    /// Texts by their paths.
    texts: BTreeMap<String, String>,
    /// The paths of all others.
    others: Vec<String>,
}

fn unpacked(bytes: &[u8], limits: &SkillLimits) -> Result<Files, SkillError> {
    let unreadable = |error: zip::result::ZipError| SkillError::NotZip(error.to_string());
    let too_many =
        |n: u64| SkillError::TooLarge(format!("it has {n} entries; at most {} are read", limits.max_entries));
    let n_told = n_told_parts(bytes);
    if n_told > limits.max_entries as u64 {
        return Err(too_many(n_told));
    }
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(unreadable)?;
    if archive.len() > limits.max_entries {
        return Err(too_many(archive.len() as u64));
    }
    let mut files = Files::default();
    let mut room = limits.max_total_bytes;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(unreadable)?;
        let name = entry.name().map_err(unreadable)?.into_owned();
        if entry.is_symlink() || !is_safe(&name) {
            return Err(SkillError::UnsafeName(name));
        }
        if entry.is_dir() {
            continue;
        }
        // What the archive says about sizes may be wrong: reading stops at the limit, whatever it says.
        let limit = limits.max_file_bytes.min(room);
        let mut content = Vec::new();
        let mut limited = entry.by_ref().take(limit + 1);
        limited.read_to_end(&mut content).map_err(|error| SkillError::NotZip(format!("{name}: {error}")))?;
        let n_bytes = content.len() as u64;
        if n_bytes > limit {
            return Err(SkillError::TooLarge(format!(
                "with {name:?} it has more than fits: at most {} bytes a file and {} in all, unpacked",
                limits.max_file_bytes, limits.max_total_bytes
            )));
        }
        room -= n_bytes;
        match String::from_utf8(content) {
            Ok(text) => {
                files.texts.insert(name, text);
            }
            Err(_no_text) => files.others.push(name),
        }
    }
    Ok(files)
}

/// Whether a name stays below the folder that it is unpacked to, on any system.
pub(super) fn is_safe(name: &str) -> bool {
    let has_drive = name.as_bytes().get(1) == Some(&b':');
    let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    !name.is_empty() && !name.contains(['\\', '\0']) && !has_drive && Path::new(name).components().all(is_plain)
}

fn skill(folder: &str, folders: &[&str], files: &Files) -> Result<Skill, SkillError> {
    let path = format!("{folder}{SKILL_FILE}");
    let text = files.texts.get(&path).map(String::as_str).unwrap_or_default();
    let bad = |detail: &str| SkillError::BadSkill { path: path.clone(), detail: detail.to_owned() };
    let (fields, body) = front_matter(text).map_err(|detail| bad(&detail))?;
    let from_heading = || body.lines().find_map(|line| line.strip_prefix("# ")).map(|line| line.trim().to_owned());
    let from_folder = || folder.trim_end_matches('/').rsplit('/').next().map(str::to_owned);
    let name = fields.get("name").cloned().or_else(from_heading).or_else(from_folder).unwrap_or_default();
    if name.trim().is_empty() {
        return Err(bad("it has no `name`; put one between two lines of --- at its beginning"));
    }
    if body.trim().is_empty() {
        return Err(bad("it says nothing below its head"));
    }
    let mut skill = Skill {
        name: name.trim().to_owned(),
        description: fields.get("description").cloned().unwrap_or_default(),
        procedure: body.trim().to_owned(),
        tags: fields.get("tags").map(|tags| list(tags)).unwrap_or_default(),
        ..Skill::default()
    };
    for (path, text) in files.texts.iter().filter(|(other, _)| **other != path) {
        let Some(inner) = inner_path(path, folder, folders) else { continue };
        let entry = (inner.to_owned(), text.clone());
        if inner.starts_with("scripts/") { skill.scripts.push(entry) } else { skill.others.push(entry) }
    }
    let left_out = files.others.iter().filter_map(|path| inner_path(path, folder, folders));
    skill.left_out = left_out.map(str::to_owned).collect();
    Ok(skill)
}

/// Returns a file's path below the folder of the skill that it belongs to, when that is this one. What lies in another skill's
/// folder below this one belongs to that.
fn inner_path<'a>(path: &'a str, folder: &str, folders: &[&str]) -> Option<&'a str> {
    let owner = folders.iter().filter(|other| path.starts_with(**other)).max_by_key(|other| other.len());
    if owner.copied() == Some(folder) { path.strip_prefix(folder) } else { None }
}

/// Returns the fields between two lines of `---` at the beginning of a text, and what follows. Values may go on in indented
/// lines, and be quoted.
fn front_matter(text: &str) -> Result<(BTreeMap<String, String>, &str), String> {
    let text = text.trim_start_matches('\u{feff}');
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    let mut lines = text.split_inclusive('\n');
    if lines.next().is_none_or(|first| first.trim_end() != "---") {
        return Ok((fields, text));
    }
    let mut at = text.find('\n').map_or(text.len(), |end| end + 1);
    let mut last: Option<String> = None;
    for line in lines {
        at += line.len();
        if line.trim_end() == "---" {
            return Ok((fields.into_iter().map(|(key, value)| (key, unquoted(&value))).collect(), &text[at..]));
        }
        let goes_on = line.starts_with([' ', '\t', '-']);
        match (line.split_once(':'), last.clone()) {
            (_, Some(key)) if goes_on => {
                let value = fields.entry(key).or_default();
                let more = line.trim().trim_start_matches("- ");
                if !value.is_empty() && !more.is_empty() {
                    value.push_str(if line.trim_start().starts_with("- ") { ", " } else { " " });
                }
                value.push_str(more);
            }
            (Some((key, value)), _) if !goes_on => {
                let key = key.trim().to_ascii_lowercase();
                let value = value.trim();
                // The marks of values that begin on the next line.
                let value = if ["|", ">", "|-", ">-"].contains(&value) { "" } else { value };
                fields.insert(key.clone(), value.to_owned());
                last = Some(key);
            }
            _ => {}
        }
    }
    Err("the head that `---` begins has no end; put a line of --- behind it".to_owned())
}

fn unquoted(value: &str) -> String {
    let value = value.trim();
    for quote in ['"', '\''] {
        if value.len() >= 2
            && let Some(inner) = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote))
        {
            return inner.to_owned();
        }
    }
    value.to_owned()
}

fn list(value: &str) -> Vec<String> {
    let inner = value.trim_matches(['[', ']']);
    inner.split([',', '，']).map(|tag| unquoted(tag.trim())).filter(|tag| !tag.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in files {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(content).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn read(files: &[(&str, &[u8])]) -> Result<Vec<Skill>, SkillError> {
        read_archive(&archive(files), &SkillLimits::default())
    }

    const HEAD: &[u8] =
        b"---\nname: \"pdf\"\ndescription: >\n  Fill in\n  forms.\ntags: [office, 'forms']\n---\n# PDF\n1. Open it.\n";

    #[test]
    fn every_folder_with_a_skill_file_is_a_skill() {
        let skills = read(&[
            ("all/pdf/SKILL.md", HEAD),
            ("all/pdf/scripts/fill.py", b"print()"),
            ("all/pdf/forms.md", b"notes"),
            ("all/pdf/logo.png", b"\x89PNG\xff"),
            ("all/mail/SKILL.md", b"# Mail\nWrite it."),
        ])
        .unwrap();
        let names: Vec<&str> = skills.iter().map(|skill| skill.name.as_str()).collect();
        assert_eq!(names, ["Mail", "pdf"]);
        let pdf = &skills[1];
        assert_eq!((pdf.description.as_str(), pdf.procedure.as_str()), ("Fill in forms.", "# PDF\n1. Open it."));
        assert_eq!(pdf.tags, ["office", "forms"]);
        assert_eq!(pdf.scripts, [("scripts/fill.py".to_owned(), "print()".to_owned())]);
        assert_eq!(pdf.others, [("forms.md".to_owned(), "notes".to_owned())]);
        assert_eq!(pdf.left_out, ["logo.png"]);
    }

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        for name in ["../SKILL.md", "a/../../SKILL.md", "/etc/SKILL.md", "a\\..\\SKILL.md", "C:/SKILL.md"] {
            let error = read(&[("SKILL.md", HEAD), (name, b"x")]).unwrap_err();
            assert_eq!(error, SkillError::UnsafeName(name.to_owned()));
        }
    }

    #[test]
    fn what_is_too_large_unpacked_is_refused() {
        let bomb = archive(&[("SKILL.md", HEAD), ("big.txt", &vec![0_u8; 3 << 20])]);
        assert!(bomb.len() < 100_000);
        assert!(matches!(read_archive(&bomb, &SkillLimits::default()), Err(SkillError::TooLarge(_))));
        let small = SkillLimits { max_entries: 1, ..SkillLimits::default() };
        assert!(matches!(read_archive(&bomb, &small), Err(SkillError::TooLarge(_))));
    }

    #[test]
    fn what_is_no_skill_says_why() {
        assert!(matches!(read_archive(b"prose", &SkillLimits::default()), Err(SkillError::NotZip(_))));
        assert_eq!(read(&[("README.md", b"x")]), Err(SkillError::NoSkill));
        for (text, reason) in [("---\nname: x\n", "has no end"), ("---\nname: x\n---\n\n", "says nothing")] {
            let error = read(&[("a/SKILL.md", text.as_bytes())]).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
    }
}
