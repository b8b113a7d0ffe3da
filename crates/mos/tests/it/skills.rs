//! Skills that are uploaded as archives, found, given back and removed.

use std::io::{Cursor, Write};

use mos::{Error, Search};
use mos_core::{MemoryItem, MemoryType};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::{ann, bob, house};

const HEAD: &[u8] =
    b"---\nname: forms\ndescription: Fills in forms.\ntags: [office]\n---\n1. Open the form.\n2. Write.\n";

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// An archive of one skill.
pub(crate) fn one_skill() -> Vec<u8> {
    archive(&[("forms/SKILL.md", HEAD)])
}

async fn skills(mos: &mos::Mos) -> Vec<MemoryItem> {
    let listing = mos.get_all(&ann(), None).await.unwrap();
    let all = listing.text_mem.into_iter().flat_map(|cube| cube.memories);
    all.filter(|item| item.metadata.memory_type() == Some(MemoryType::Skill)).collect()
}

#[tokio::test]
async fn an_uploaded_skill_is_listed_found_given_back_and_goes_with_its_memory() {
    let (_folder, mos) = house().await;
    let uploaded =
        archive(&[("forms/SKILL.md", HEAD), ("forms/scripts/fill.py", b"print(1)"), ("forms/logo.png", b"\x89\xff")]);
    let stored = mos.add_skills(&ann(), None, "office.zip", uploaded.clone()).await.unwrap();
    assert_eq!(stored.ids.len(), 1);
    assert!(stored.report.warnings.iter().any(|warning| warning.contains("logo.png")), "{:?}", stored.report);
    let listed = skills(&mos).await;
    assert_eq!((listed.len(), &listed[0].id), (1, &stored.ids[0]));
    let found = mos.search(Search::new("fill in forms").user("ann")).await.unwrap();
    assert_eq!(found.best()[0].1.item.id, stored.ids[0]);

    let back = mos.skill_archive(&ann(), None, &stored.ids[0]).await.unwrap();
    let again = mos.add_skills(&ann(), None, "again.zip", back.clone()).await.unwrap();
    assert_eq!((&again.ids, again.n_known, skills(&mos).await.len()), (&stored.ids, 1, 1), "it is the same skill");
    let mut unpacked = zip::ZipArchive::new(Cursor::new(back)).unwrap();
    let mut script = String::new();
    std::io::Read::read_to_string(&mut unpacked.by_name("forms/scripts/fill.py").unwrap(), &mut script).unwrap();
    assert_eq!(script, "print(1)");

    assert!(matches!(
        mos.skill_archive(&bob(), Some(&"notes".into()), &stored.ids[0]).await,
        Err(Error::NoAccess { .. })
    ));
    mos.delete(&ann(), None, &stored.ids[0]).await.unwrap();
    assert!(skills(&mos).await.is_empty());
    assert!(mos.skill_archive(&ann(), None, &stored.ids[0]).await.is_err());
    mos.add_skills(&ann(), None, "office.zip", uploaded).await.unwrap();
    assert_eq!(skills(&mos).await.len(), 1, "uploaded again, it is back");
}

#[tokio::test]
async fn an_archive_that_may_do_harm_or_holds_no_skill_is_refused_and_nothing_is_kept() {
    let (_folder, mos) = house().await;
    let bomb = archive(&[("a/SKILL.md", HEAD), ("a/big.txt", &vec![b' '; 3 << 20])]);
    assert!(bomb.len() < 100_000);
    let cases = [
        (archive(&[("a/SKILL.md", HEAD), ("../../evil.sh", b"rm")]), "leaves the archive's folder"),
        (bomb, "more than fits"),
        (archive(&[("a/README.md", HEAD)]), "holds no SKILL.md"),
        (archive(&[("a/SKILL.md", b"---\nname: x\n")]), "has no end"),
        (b"no archive".to_vec(), "no zip archive"),
    ];
    for (bytes, why) in cases {
        let error = mos.add_skills(&ann(), None, "bad.zip", bytes).await.unwrap_err();
        assert!(matches!(&error, Error::Invalid(text) if text.contains("bad.zip") && text.contains(why)), "{error}");
    }
    assert!(skills(&mos).await.is_empty());
    let note = mos.add(mos::Add::text("no skill").user("ann")).await.unwrap();
    let error = mos.skill_archive(&ann(), None, &note[0]).await.unwrap_err();
    assert!(error.to_string().contains("is no skill"), "{error}");
}
