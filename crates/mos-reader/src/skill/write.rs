//! A skill as a zip archive again.

use std::io::{Cursor, Write};

use mos_core::{MemoryItem, MemoryType};
use serde_json::Value;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::archive::{SKILL_FILE, SkillError, is_safe};

/// The most characters of a folder's name.
const MAX_FOLDER: usize = 64;

/// What a skill of a conversation holds beside its steps, and the heading that it gets.
const SECTIONS: [(&str, &str); 3] =
    [("experience", "Experience"), ("preference", "Preferences"), ("examples", "Examples")];

/// Returns the archive of a skill: one folder with a `SKILL.md` and the texts that belong to it, as
/// [`read_archive`](super::read_archive) reads them. The same memory gives the same bytes.
///
/// # Errors
/// [`SkillError::NotSkill`] for a memory of another kind; [`SkillError::UnsafeName`] for a file that would leave the folder;
/// [`SkillError::NotWritten`] when there are too many.
pub fn write_archive(item: &MemoryItem) -> Result<Vec<u8>, SkillError> {
    if item.metadata.memory_type() != Some(MemoryType::Skill) {
        return Err(SkillError::NotSkill(item.id.clone()));
    }
    let name = line(text_of(item, "name").or(item.metadata.key.as_deref()).unwrap_or("skill"));
    let folder = folder_of(&name);
    let mut files = vec![(SKILL_FILE.to_owned(), skill_file(item, &name))];
    for field in ["scripts", "others"] {
        let Some(Value::Object(texts)) = item.metadata.extra.get(field) else { continue };
        for (path, text) in texts {
            if !is_safe(path) || path == SKILL_FILE {
                return Err(SkillError::UnsafeName(path.clone()));
            }
            files.push((path.clone(), text.as_str().unwrap_or_default().to_owned()));
        }
    }
    packed(&folder, &files)
}

fn packed(folder: &str, files: &[(String, String)]) -> Result<Vec<u8>, SkillError> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (path, text) in files {
        let entry = format!("{folder}/{path}");
        writer
            .start_file(entry, SimpleFileOptions::default())
            .map_err(|error| SkillError::NotWritten(error.to_string()))?;
        writer.write_all(text.as_bytes()).map_err(|error| SkillError::NotWritten(error.to_string()))?;
    }
    let written = writer.finish().map_err(|error| SkillError::NotWritten(error.to_string()))?;
    Ok(written.into_inner())
}

/// The head, the steps, and what a conversation said beside them.
fn skill_file(item: &MemoryItem, name: &str) -> String {
    let mut text = format!("---\nname: {}\n", quoted(name));
    if let Some(description) = text_of(item, "description").map(line).filter(|words| !words.is_empty()) {
        text.push_str(&format!("description: {}\n", quoted(&description)));
    }
    let tags: Vec<String> =
        item.metadata.tags.iter().flatten().map(|tag| quoted(&line(&tag.replace(',', " ")))).collect();
    if !tags.is_empty() {
        text.push_str(&format!("tags: [{}]\n", tags.join(", ")));
    }
    text.push_str("---\n");
    // Whoever changes a skill changes its text; the steps that it was made with are old then.
    let steps = text_of(item, "procedure").filter(|steps| item.memory.trim_end().ends_with(steps.trim_end()));
    text.push_str(steps.unwrap_or(&item.memory));
    text.push('\n');
    for (field, heading) in SECTIONS {
        let listed = item.metadata.extra.get(field).and_then(Value::as_array);
        let points: Vec<String> = listed.into_iter().flatten().filter_map(Value::as_str).map(line).collect();
        if !points.is_empty() {
            text.push_str(&format!("\n## {heading}\n- {}\n", points.join("\n- ")));
        }
    }
    text
}

fn text_of<'a>(item: &'a MemoryItem, field: &str) -> Option<&'a str> {
    item.metadata.extra.get(field).and_then(Value::as_str)
}

/// A text on one line.
fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A value of the head, between marks that it does not hold itself where there are such.
fn quoted(value: &str) -> String {
    let mark = if value.contains('"') && !value.contains('\'') { '\'' } else { '"' };
    format!("{mark}{value}{mark}")
}

/// A name for a folder on any system.
fn folder_of(name: &str) -> String {
    let plain = |letter: char| if letter.is_alphanumeric() || letter == '_' { letter } else { '-' };
    let folder: String = name.chars().map(plain).take(MAX_FOLDER).collect();
    let folder = folder.trim_matches('-');
    if folder.is_empty() { "skill".to_owned() } else { folder.to_owned() }
}

#[cfg(test)]
mod tests {
    use mos_core::ReadInput;
    use mos_testkit::clock::SetClock;

    use super::super::{Skill, SkillLimits, UPLOADED, read_archive};
    use super::*;
    use crate::item::Maker;

    fn item_of(skill: Skill) -> MemoryItem {
        let (clock, input) = (SetClock::default(), ReadInput::default());
        skill.into_item(&Maker::new(&input, &clock), UPLOADED, Vec::new())
    }

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn what_was_uploaded_is_given_back_equal() {
        let skill = Skill {
            name: "Fill in: \"forms\"".to_owned(),
            description: "When a form [PDF] is to be filled in.".to_owned(),
            procedure: "# Forms\n\n1. Open it.\n2. Write.".to_owned(),
            scripts: owned(&[("scripts/a/fill.py", "print(1)\n")]),
            others: owned(&[("forms.md", "notes"), ("data/表.csv", "a,b")]),
            ..Skill::default()
        };
        let item = item_of(skill.clone());
        let archive = write_archive(&item).unwrap();
        assert_eq!(archive, write_archive(&item).unwrap());
        let mut again = read_archive(&archive, &SkillLimits::default()).unwrap();
        assert_eq!(again.len(), 1);
        let mut again = again.remove(0);
        again.others.sort();
        assert_eq!(again.tags, item.metadata.tags.clone().unwrap_or_default());
        let mut wanted = skill;
        wanted.others.sort();
        wanted.tags.clone_from(&again.tags);
        assert_eq!(again, wanted);
    }

    #[test]
    fn what_a_conversation_taught_stands_below_the_steps() {
        let experience = vec!["Tests take long.".to_owned()];
        let item =
            item_of(Skill { name: "../..".to_owned(), procedure: "Run".to_owned(), experience, ..Skill::default() });
        let again = read_archive(&write_archive(&item).unwrap(), &SkillLimits::default()).unwrap();
        assert_eq!(again[0].procedure, "Run\n\n## Experience\n- Tests take long.");
        assert_eq!(again[0].name, "../..");
    }

    #[test]
    fn a_skill_whose_text_was_changed_is_given_back_as_it_is_now() {
        let mut item =
            item_of(Skill { name: "x".to_owned(), procedure: "1. Old steps".to_owned(), ..Skill::default() });
        item.memory = "x: how\n1. New steps".to_owned();
        let again = read_archive(&write_archive(&item).unwrap(), &SkillLimits::default()).unwrap();
        assert!(again[0].procedure.contains("New steps") && !again[0].procedure.contains("Old"), "{again:?}");
    }

    #[test]
    fn nothing_but_a_skill_is_written_and_no_file_leaves_its_folder() {
        let mut item = item_of(Skill { name: "x".to_owned(), procedure: "y".to_owned(), ..Skill::default() });
        item.metadata.extra.insert("others".to_owned(), serde_json::json!({"../evil.sh": "rm"}));
        assert_eq!(write_archive(&item), Err(SkillError::UnsafeName("../evil.sh".to_owned())));
        let other = MemoryItem::new("a-b-c".into(), "text");
        assert!(matches!(write_archive(&other), Err(SkillError::NotSkill(_))));
    }
}
