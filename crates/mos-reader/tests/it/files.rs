//! Files of text under any name.

use mos_reader::parse::{DocumentKind, ParseLimits, parse};

use crate::read;

#[test]
fn a_wrong_name_does_not_matter() {
    let markdown = "# Report\n\nAll is well.\n\n## Costs\n\nNone.\n";
    for name in ["report.pdf", "report.docx", "report.md", "report"] {
        let document = read(name, markdown.as_bytes());
        assert_eq!((document.kind, document.title.as_deref()), (DocumentKind::Markdown, Some("Report")), "{name}");
        assert_eq!(document.blocks[3].position.headings, ["Report", "Costs"], "{name}");
    }
    let html = "<!DOCTYPE html><title>T</title><h1>H</h1><p>Text of the page.</p>";
    let document = read("notes.txt", html.as_bytes());
    assert_eq!(document.kind, DocumentKind::Html);
    assert!(document.text().contains("Text of the page."));
    assert_eq!(read("data.csv", b"{\"a\": [1, 2]}").kind, DocumentKind::Json);
}

#[test]
fn encodings_are_recognised() {
    let text = "Ångström schrieb: „Maß und Größe“.\n\nПотом он ушёл домой, и стало тихо.\n";
    let wide: Vec<u8> = [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    assert_eq!(read("a.txt", &wide).blocks[1].text, "Потом он ушёл домой, и стало тихо.");
    let mut marked = b"\xEF\xBB\xBF".to_vec();
    marked.extend(text.bytes());
    assert_eq!(read("a.txt", &marked).blocks[0].text, "Ångström schrieb: „Maß und Größe“.");
    assert!(read("a.txt", &marked).notes.is_empty());
}

#[test]
fn texts_of_china_and_japan_are_read_in_the_encodings_of_their_systems() {
    let chinese = "今天天气很好，我们去公园散步。晚上一起吃饭，然后回家看电视，最后给妈妈打了一个电话。";
    let japanese = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。何でも薄暗いじめじめした所でニャーニャー泣いていた事だけは記憶している。";
    for (encoding, text) in [(encoding_rs::GBK, chinese), (encoding_rs::SHIFT_JIS, japanese)] {
        let (bytes, _, is_lossy) = encoding.encode(text);
        assert!(!is_lossy);
        let document = read("a.txt", &bytes);
        assert_eq!(document.text(), text);
        assert!(document.notes[0].contains(encoding.name()), "a guess is told: {:?}", document.notes);
    }
    let big: Vec<u8> = [0xfe, 0xff].into_iter().chain(chinese.encode_utf16().flat_map(u16::to_be_bytes)).collect();
    assert_eq!(read("a.md", &big).text(), chinese);
}

#[test]
fn empty_files_are_no_errors() {
    for name in ["a.txt", "a.md", "a.csv", "a.json", "a.html", "a"] {
        let document = read(name, b" \r\n ");
        assert!(document.blocks.is_empty(), "{name}");
        assert_eq!(document.notes.len(), 1, "{name}: {:?}", document.notes);
    }
}

#[test]
fn titles_are_not_longer_than_titles() {
    let json = format!("{{\"title\": \"{}\", \"a\": 1}}", "题".repeat(5_000));
    let html = format!("<html><head><title>{}</title></head><body><p>Text.</p></body></html>", "t".repeat(5_000));
    for (name, text) in [("a.json", json), ("a.html", html)] {
        let title = read(name, text.as_bytes()).title.unwrap();
        assert!((900..=1_000).contains(&title.len()), "{name}: {}", title.len());
    }
}

#[test]
fn offsets_of_blocks_are_those_of_the_text() {
    let document = read("a.md", b"# A\n\none\n\ntwo\n");
    assert_eq!(document.text(), "# A\n\none\n\ntwo");
    let limits = ParseLimits { max_text_bytes: 5, ..ParseLimits::default() };
    assert!(parse(None, b"longer than five", &limits).is_err());
}
