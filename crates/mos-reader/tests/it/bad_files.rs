//! Files that are damaged, or meant to do harm: named errors, bounded work, never a panic.

use mos_reader::parse::{DocumentKind, ParseError, ParseLimits, parse};

use crate::{packed, pdf_of};

fn error(bytes: &[u8], limits: &ParseLimits) -> ParseError {
    parse(Some("a"), bytes, limits).unwrap_err()
}

#[test]
fn large_files_are_refused_unread() {
    // Zeros that were never touched cost no memory.
    let bytes = vec![0; 1 << 30];
    let error = error(&bytes, &ParseLimits::default());
    assert!(matches!(error, ParseError::TooLarge { bytes: 0x4000_0000, .. }), "{error}");
}

#[test]
fn bombs_are_refused_before_they_unpack() {
    let zeros = vec![b' '; 8 << 20];
    let document = [&b"<w:document>"[..], &zeros, b"</w:document>"].concat();
    let by_ratio = error(&packed(&[("word/document.xml", &document)]), &ParseLimits::default());
    assert!(matches!(by_ratio, ParseError::TooMuch { kind: DocumentKind::Docx, .. }), "{by_ratio}");
    let limits = ParseLimits { max_unpacked_bytes: 1 << 20, max_ratio: 100_000, ..ParseLimits::default() };
    for name in ["word/document.xml", "xl/workbook.xml", "ppt/presentation.xml", "META-INF/container.xml"] {
        let by_size = error(&packed(&[(name, &document)]), &limits);
        assert!(matches!(by_size, ParseError::TooMuch { limit: 0x10_0000, .. }), "{by_size}");
    }
    let names: Vec<String> = (0..200).map(|n| format!("word/{n}")).collect();
    let mut parts: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    parts.push(("word/document.xml", b"<w:document/>"));
    let limits = ParseLimits { max_entries: 100, ..ParseLimits::default() };
    assert!(matches!(error(&packed(&parts), &limits), ParseError::TooMuch { what: "parts", limit: 100, .. }));
}

#[test]
fn many_parts_count_together() {
    // Each is small; a sheet that uses all of them is not.
    let half = vec![b'x'; 600 << 10];
    let parts: Vec<(&str, &[u8])> =
        vec![("xl/workbook.xml", &half[..]), ("xl/styles.xml", &half[..]), ("xl/sharedStrings.xml", &half[..])];
    let limits = ParseLimits { max_unpacked_bytes: 1 << 20, max_ratio: 100_000, ..ParseLimits::default() };
    assert!(matches!(error(&packed(&parts), &limits), ParseError::TooMuch { kind: DocumentKind::Xlsx, .. }));
}

#[test]
fn a_long_title_over_many_shapes_does_not_fill_the_memory() {
    let presentation = "<p:presentation><p:sldIdLst><p:sldId r:id=\"r1\"/></p:sldIdLst></p:presentation>";
    let relations =
        "<Relationships><Relationship Id=\"r1\" Type=\"http://x/slide\" Target=\"slides/slide1.xml\"/></Relationships>";
    let title = format!("<p:sp><p:ph type=\"title\"/><a:p><a:t>{}</a:t></a:p></p:sp>", "t".repeat(1 << 20));
    let shapes = "<p:sp><a:p><a:t>x</a:t></a:p></p:sp>".repeat(20_000);
    let slide = format!("<p:sld>{title}{shapes}</p:sld>");
    let limits = ParseLimits { max_ratio: 100_000, ..ParseLimits::default() };
    let parts = [
        ("ppt/presentation.xml", presentation.as_bytes()),
        ("ppt/_rels/presentation.xml.rels", relations.as_bytes()),
        ("ppt/slides/slide1.xml", slide.as_bytes()),
    ];
    let document = parse(Some("a"), &packed(&parts), &limits).unwrap();
    assert_eq!(document.blocks.len(), 20_001);
    let n_bytes: usize = document.blocks.iter().flat_map(|block| &block.position.headings).map(String::len).sum();
    assert!(n_bytes > 0 && n_bytes < 8 << 20, "{n_bytes}");
}

#[test]
fn lists_that_name_one_part_very_often_are_refused() {
    let limits = ParseLimits { max_ratio: 100_000, ..ParseLimits::default() };
    let often = 400_000;
    let long = "a/".repeat(400);
    let presentation =
        format!("<p:presentation><p:sldIdLst>{}</p:sldIdLst></p:presentation>", "<p:sldId r:id=\"r\"/>".repeat(often));
    let relations = format!(
        "<Relationships><Relationship Id=\"r\" Type=\"http://x/slide\" Target=\"{long}s.xml\"/></Relationships>"
    );
    let slides = packed(&[
        ("ppt/presentation.xml", presentation.as_bytes()),
        ("ppt/_rels/presentation.xml.rels", relations.as_bytes()),
    ]);
    assert!(matches!(error(&slides, &limits), ParseError::TooMuch { what: "slides", limit: 5_000, .. }));
    let contents = format!(
        "<package><manifest><item id=\"c\" href=\"{long}c.xhtml\"/></manifest><spine>{}</spine></package>",
        "<itemref idref=\"c\"/>".repeat(often)
    );
    let container = "<container><rootfiles><rootfile full-path=\"c.opf\"/></rootfiles></container>";
    let book = packed(&[("META-INF/container.xml", container.as_bytes()), ("c.opf", contents.as_bytes())]);
    assert!(matches!(error(&book, &limits), ParseError::TooMuch { what: "chapters", limit: 5_000, .. }));
}

#[test]
fn packed_files_of_other_things_are_named() {
    let zip = packed(&[("a.txt", b"text")]);
    assert!(matches!(error(&zip, &ParseLimits::default()), ParseError::Unsupported { what: "a zip archive", .. }));
    for (name, kind) in [
        ("word/document.xml", DocumentKind::Docx),
        ("ppt/presentation.xml", DocumentKind::Pptx),
        ("xl/workbook.xml", DocumentKind::Xlsx),
        ("META-INF/container.xml", DocumentKind::Epub),
    ] {
        for content in [&b"not XML at all <"[..], b"", b"<a><b></a>", b"\xff\xfe\x00"] {
            match parse(Some("a"), &packed(&[(name, content)]), &ParseLimits::default()) {
                Err(ParseError::Corrupt { kind: found, .. }) => assert_eq!(found, kind),
                Ok(document) => assert!(document.blocks.is_empty(), "{name}"),
                Err(other) => panic!("{name}: {other}"),
            }
        }
        let whole = packed(&[(name, b"<a/>")]);
        let cut = error(&whole[..whole.len() / 2], &ParseLimits::default());
        assert!(matches!(cut, ParseError::Corrupt { .. } | ParseError::Unsupported { .. }), "{name}: {cut}");
    }
}

#[test]
fn damage_anywhere_is_an_error_or_a_document() {
    let limits = ParseLimits { max_unpacked_bytes: 1 << 20, ..ParseLimits::default() };
    let files = [
        pdf_of(&["BT /F1 12 Tf 72 720 Td (One) Tj ET"]),
        packed(&[(
            "word/document.xml",
            b"<w:document><w:body><w:p><w:r><w:t>One</w:t></w:r></w:p></w:body></w:document>",
        )]),
        b"{\"a\": [1, {\"b\": \"c\"}]}".to_vec(),
        b"a,b,c\n1,2,3\n\"4\",5,6\n".to_vec(),
        b"<html><body><p>One</p><table><tr><td>2</table></body>".to_vec(),
        b"# A\n\n```\ncode\n```\n\n| a |\n|---|\n| b |\n".to_vec(),
    ];
    for file in files {
        for at in (0..file.len()).step_by(5) {
            for change in [0_u8, 0x20, 0x7f, 0xff] {
                let mut damaged = file.clone();
                damaged[at] = change;
                if let Ok(document) = parse(None, &damaged, &limits) {
                    assert!(document.blocks.iter().all(|block| !block.text.trim().is_empty()));
                }
            }
        }
    }
}

#[test]
fn errors_say_what_to_do() {
    for (bytes, words) in [
        (&b"\x89PNG\r\n\x1a\n\0\0"[..], "add it as an image"),
        (&b"PK\x05\x06\0\0"[..], "unpack it"),
        (&b"%PDF-1.7 broken"[..], "save it again"),
    ] {
        let said = error(bytes, &ParseLimits::default()).to_string();
        assert!(said.contains(words), "{said}");
    }
}
