//! PDF: words, lines, pages, fonts, forms.

use mos_reader::parse::{Document, DocumentKind, ImageSource, ParseError, ParseLimits, parse};

use crate::{pdf_from, pdf_of, read};

fn pages(document: &Document) -> Vec<(Option<u32>, &str)> {
    document.blocks.iter().map(|block| (block.position.page, block.text.as_str())).collect()
}

#[test]
fn text_is_read_page_by_page() {
    let first =
        "BT /F1 12 Tf 72 720 Td (The first line of it) Tj 0 -14 Td (goes on in the next) Tj 0 -40 Td (Apart.) Tj ET";
    let second = "BT /F1 12 Tf 14 TL 1 0 0 1 72 700 Tm [(Ker) 20 (ned) -300 (words)] TJ T* (caf\\351) Tj ET";
    let document = read("a.pdf", &pdf_of(&[first, second, "0 0 m 10 10 l S"]));
    assert_eq!(document.kind, DocumentKind::Pdf);
    let found = pages(&document);
    assert_eq!(found[0], (Some(1), "The first line of it goes on in the next"));
    assert_eq!(found[1], (Some(1), "Apart."));
    assert_eq!(found[2].0, Some(2));
    assert!(found[2].1.starts_with("Kerned words") && found[2].1.ends_with("café"), "{}", found[2].1);
    assert_eq!(found.len(), 3);
    assert_eq!(document.notes, ["page 3 has no text; if it is a scan, add its images"]);
}

#[test]
fn fonts_say_which_letters_they_show() {
    let table = "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def\n\
                 1 begincodespacerange <0000> <FFFF> endcodespacerange\n\
                 2 beginbfchar <0001> <4F60> <0002> <597D> endbfchar\nendcmap end end";
    let content = "BT /F1 12 Tf 72 720 Td <00010002> Tj ET BT /F2 12 Tf 72 600 Td <00010002> Tj ET";
    let descendant = "<< /Type /Font /Subtype /CIDFontType2 /BaseFont /X /CIDSystemInfo \
                      << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> /DW 1000 /W [1 [900 1000] 5 9 500] >>";
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /Resources << /Font << /F1 5 0 R /F2 8 0 R >> >> /Contents 4 0 R >>".to_owned(),
        format!("<< /Length {} >>\nstream\n{content}\nendstream", content.len()),
        "<< /Type /Font /Subtype /Type0 /BaseFont /X /Encoding /Identity-H /DescendantFonts [6 0 R] /ToUnicode 7 0 R >>"
            .to_owned(),
        descendant.to_owned(),
        format!("<< /Length {} >>\nstream\n{table}\nendstream", table.len()),
        "<< /Type /Font /Subtype /Type0 /BaseFont /X /Encoding /Identity-H /DescendantFonts [6 0 R] >>".to_owned(),
        "<< /Title (\\376\\377\\117\\140\\131\\175) >>".to_owned(),
    ];
    let document = read("a.pdf", &pdf_from(&objects, "/Info 9 0 R"));
    assert_eq!(pages(&document), [(Some(1), "你好")]);
    assert_eq!(document.title.as_deref(), Some("你好"));
    assert!(document.notes[0].contains("does not say which letters"), "{:?}", document.notes);
}

#[test]
fn text_that_a_table_of_letters_does_not_tell_is_noted() {
    let whole = "begincmap 1 beginbfchar <41> <4F60> endbfchar endcmap";
    let cut = "begincmap 2 beginbfchar <41> <4F60> <42>";
    let nothing = "/CIDInit /ProcSet findresource begin\n12 dict begin\nbegincmap\n/CMapName /X def\n\
                   1 begincodespacerange\n<00> <FF>\nendcodespacerange\nendcmap\n\
                   CMapName currentdict /CMap defineresource pop\nend\nend\n";
    let names = "/Encoding << /Type /Encoding /BaseEncoding /Identity-H /Differences [65 /B] >>";
    for (table, names, text, is_noted) in [
        (whole, "", "你", false),
        (cut, "", "你", true),
        (nothing, "", "", true),
        (nothing, names, "B", false),
        (whole, names, "你", false),
    ] {
        let content = "BT /F1 12 Tf 72 720 Td (A) Tj ET";
        let objects = [
            "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
            "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
            "<< /Type /Page /Parent 2 0 R /Resources << /Font << /F1 5 0 R >> >> /Contents 4 0 R >>".to_owned(),
            format!("<< /Length {} >>\nstream\n{content}\nendstream", content.len()),
            format!("<< /Type /Font /Subtype /Type1 /BaseFont /X {names} /ToUnicode 6 0 R >>"),
            format!("<< /Length {} >>\nstream\n{table}\nendstream", table.len()),
        ];
        let document = read("a.pdf", &pdf_from(&objects, ""));
        assert_eq!(document.text().trim(), text, "{table} {names}");
        let told = document.notes.iter().any(|note| note.contains("does not say which letters"));
        assert_eq!(told, is_noted, "{table} {names}: {:?}", document.notes);
    }
}

#[test]
fn long_strings_are_shown_to_their_end() {
    let content = format!("BT /F1 12 Tf 72 720 Td ({}last) Tj ET", "word ".repeat(20_000));
    let text = read("a.pdf", &pdf_of(&[&content])).text();
    assert_eq!((text.split_whitespace().count(), text.split_whitespace().last()), (20_001, Some("last")));
}

#[test]
fn forms_are_followed_but_not_for_ever() {
    let form = "BT /F1 12 Tf 10 10 Td (In the form) Tj ET /X Do";
    let page = "q 1 0 0 1 50 50 cm /X Do Q";
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /Resources 5 0 R /Contents 4 0 R >>".to_owned(),
        format!("<< /Length {} >>\nstream\n{page}\nendstream", page.len()),
        "<< /Font << /F1 7 0 R >> /XObject << /X 6 0 R >> >>".to_owned(),
        format!(
            "<< /Type /XObject /Subtype /Form /BBox [0 0 99 99] /Resources 5 0 R /Length {} >>\nstream\n{form}\nendstream",
            form.len()
        ),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".to_owned(),
    ];
    let document = read("a.pdf", &pdf_from(&objects, ""));
    assert!(document.text().starts_with("In the form"), "{}", document.text());
}

#[test]
fn locked_files_say_so() {
    let letters = "00".repeat(32);
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R >>".to_owned(),
        format!("<< /Filter /Standard /V 2 /R 3 /Length 128 /P -44 /O <{letters}> /U <{letters}> >>"),
    ];
    let bytes = pdf_from(&objects, "/Encrypt 4 0 R /ID [<00112233> <00112233>]");
    let error = parse(Some("a.pdf"), &bytes, &ParseLimits::default()).unwrap_err();
    assert!(matches!(error, ParseError::Encrypted { kind: "pdf" }), "{error}");
}

#[test]
fn cut_files_are_read_as_far_as_they_go_or_refused() {
    let whole = pdf_of(&["BT /F1 12 Tf 72 720 Td (One) Tj ET", "BT /F1 12 Tf 72 720 Td (Two) Tj ET"]);
    for len in (0..whole.len()).step_by(37) {
        if let Ok(document) = parse(Some("a.pdf"), &whole[..len], &ParseLimits::default()) {
            assert!(document.blocks.iter().all(|block| ["One", "Two"].contains(&block.text.as_str())), "{len}");
        }
    }
    let error = parse(None, b"%PDF-1.4\nand then nothing", &ParseLimits::default()).unwrap_err();
    assert!(matches!(error, ParseError::Corrupt { kind: DocumentKind::Pdf, .. }), "{error}");
}

#[test]
fn limits_hold() {
    let pages = ["BT /F1 12 Tf 72 720 Td (One) Tj ET"; 3];
    let limits = ParseLimits { max_pages: 2, ..ParseLimits::default() };
    let error = parse(None, &pdf_of(&pages), &limits).unwrap_err();
    assert!(matches!(error, ParseError::TooMuch { what: "pages", .. }), "{error}");
    let long = format!("BT /F1 12 Tf 72 720 Td ({}) Tj ET", "word ".repeat(1000));
    let limits = ParseLimits { max_unpacked_bytes: 4_000, ..ParseLimits::default() };
    let error = parse(None, &pdf_of(&[&long]), &limits).unwrap_err();
    assert!(matches!(error, ParseError::TooMuch { .. }), "{error}");
    let limits = ParseLimits { max_text_bytes: 1_000, ..ParseLimits::default() };
    let error = parse(None, &pdf_of(&[&long]), &limits).unwrap_err();
    assert!(matches!(error, ParseError::TooMuch { what: "bytes of text", .. }), "{error}");
}

#[test]
fn photographs_are_taken_out_once_with_their_page() {
    let page = |contents: usize, images: &str| {
        format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /XObject << {images} >> >> \
             /Contents {contents} 0 R >>"
        )
    };
    let stream =
        |head: &str, content: &str| format!("<< {head} /Length {} >>\nstream\n{content}\nendstream", content.len());
    let image = |side: usize, filter: &str, content: &str| {
        let head = format!(
            "/Type /XObject /Subtype /Image /Width {side} /Height {side} /ColorSpace /DeviceGray /BitsPerComponent 8 \
             /Filter /{filter}"
        );
        stream(&head, content)
    };
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R 4 0 R] /Count 2 >>".to_owned(),
        page(5, "/A 6 0 R /B 7 0 R"),
        page(5, "/A 6 0 R /C 8 0 R /D 9 0 R"),
        stream("", "q Q"),
        image(200, "DCTDecode", "a photograph"),
        image(16, "DCTDecode", "a logo"),
        image(200, "DCTDecode", "another one"),
        image(200, "RunLengthDecode", "a drawing"),
    ];
    let document = read("scan.pdf", &pdf_from(&objects, ""));
    let images: Vec<(Option<u32>, &ImageSource)> =
        document.images.iter().map(|image| (image.position.page, &image.source)).collect();
    let content = |text: &str| ImageSource::Bytes(text.as_bytes().to_vec());
    assert_eq!(images, [(Some(1), &content("a photograph")), (Some(2), &content("another one"))]);
    assert!(document.blocks.is_empty() && document.images[0].mark.is_empty());
}
