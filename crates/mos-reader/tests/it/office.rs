//! Packed documents: Word, PowerPoint, Excel, books.

use mos_reader::parse::{Document, DocumentKind, ImageSource, Position};

use crate::{packed, read};

const WORD: &str = "xmlns:w=\"http://schemas.openxmlformats.org/wordprocessingml/2006/main\"";

fn docx(body: &str) -> Document {
    let styles = format!(
        "<w:styles {WORD}><w:style w:styleId=\"berschrift1\"><w:name w:val=\"heading 1\"/></w:style>\
         <w:style w:styleId=\"H2\"><w:name w:val=\"Heading 2\"/></w:style>\
         <w:style w:styleId=\"Own\"><w:name w:val=\"own\"/><w:pPr><w:outlineLvl w:val=\"2\"/></w:pPr></w:style></w:styles>"
    );
    let document =
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><w:document {WORD}><w:body>{body}</w:body></w:document>");
    read("a.docx", &packed(&[("word/document.xml", document.as_bytes()), ("word/styles.xml", styles.as_bytes())]))
}

fn paragraph(properties: &str, text: &str) -> String {
    format!("<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>")
}

fn texts(document: &Document) -> Vec<(String, &str)> {
    document.blocks.iter().map(|block| (block.position.headings.join("/"), block.text.as_str())).collect()
}

fn under(path: &str, text: &'static str) -> (String, &'static str) {
    (path.to_owned(), text)
}

#[test]
fn word_documents_keep_headings_lists_and_tables() {
    let cell = |text: &str| format!("<w:tc>{}</w:tc>", paragraph("", text));
    let body = [
        paragraph("<w:pStyle w:val=\"berschrift1\"/>", "Plan &amp; goal"),
        paragraph("", "We begin."),
        paragraph("<w:pStyle w:val=\"H2\"/>", "Steps"),
        paragraph("<w:numPr><w:ilvl w:val=\"0\"/><w:numId w:val=\"1\"/></w:numPr>", "one"),
        paragraph("<w:numPr><w:ilvl w:val=\"1\"/><w:numId w:val=\"1\"/></w:numPr>", "two"),
        paragraph("<w:pStyle w:val=\"Own\"/>", "Costs"),
        format!("<w:tbl><w:tr>{}{}</w:tr><w:tr>{}{}</w:tr></w:tbl>", cell("what"), cell("how much"), cell("tea"), cell("2|3")),
        "<w:p><w:r><w:t>kept</w:t><w:tab/><w:t>too</w:t></w:r><w:del><w:r><w:delText>gone</w:delText></w:r></w:del></w:p>".to_owned(),
    ];
    let document = docx(&body.concat());
    assert_eq!((document.kind, document.title.as_deref()), (DocumentKind::Docx, Some("Plan & goal")));
    assert_eq!(
        texts(&document),
        [
            under("Plan & goal", "# Plan & goal"),
            under("Plan & goal", "We begin."),
            under("Plan & goal/Steps", "## Steps"),
            under("Plan & goal/Steps", "- one\n  - two"),
            under("Plan & goal/Steps/Costs", "### Costs"),
            under("Plan & goal/Steps/Costs", "| what | how much |\n| --- | --- |\n| tea | 2\\|3 |"),
            under("Plan & goal/Steps/Costs", "kept\ttoo"),
        ]
    );
    let headings: Vec<bool> = document.blocks.iter().map(|block| block.is_heading).collect();
    assert_eq!(headings, [true, false, true, false, true, false, false]);
}

#[test]
fn text_boxes_are_read_once() {
    let inner = paragraph("", "in the box");
    let body = format!(
        "<w:p><w:r><w:t>outside</w:t></w:r><w:r><AlternateContent><Choice><txbxContent>{inner}</txbxContent></Choice>\
         <Fallback><txbxContent>{inner}</txbxContent></Fallback></AlternateContent></w:r></w:p>"
    );
    assert_eq!(texts(&docx(&body)), [under("", "in the box"), under("", "outside")]);
}

#[test]
fn slides_come_in_their_order_with_notes() {
    let slide = |title: &str, text: &str| {
        format!(
            "<p:sld xmlns:p=\"p\" xmlns:a=\"a\"><p:sp><p:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p>\
             <a:p><a:pPr lvl=\"1\"/><a:r><a:t>deeper</a:t></a:r></a:p></p:txBody></p:sp>\
             <p:sp><p:nvSpPr><p:nvPr><p:ph type=\"title\"/></p:nvPr></p:nvSpPr><p:txBody><a:p><a:r><a:t>{title}</a:t></a:r></a:p>\
             </p:txBody></p:sp></p:sld>"
        )
    };
    let relation = |id: &str, what: &str, target: &str| {
        format!("<Relationship Id=\"{id}\" Type=\"http://x/relationships/{what}\" Target=\"{target}\"/>")
    };
    let presentation = "<p:presentation xmlns:p=\"p\" xmlns:r=\"r\"><p:sldIdLst><p:sldId id=\"256\" r:id=\"r2\"/>\
                        <p:sldId id=\"257\" r:id=\"r1\"/></p:sldIdLst></p:presentation>";
    let relations = format!(
        "<Relationships>{}{}</Relationships>",
        relation("r1", "slide", "slides/slide1.xml"),
        relation("r2", "slide", "/ppt/slides/slide2.xml")
    );
    let of_slide = format!("<Relationships>{}</Relationships>", relation("r1", "notesSlide", "../notesSlides/n1.xml"));
    let notes = "<p:notes xmlns:p=\"p\" xmlns:a=\"a\"><p:sp><a:p><a:t>say hello</a:t></a:p></p:sp>\
                 <p:sp><p:ph type=\"sldNum\"/><a:p><a:t>7</a:t></a:p></p:sp></p:notes>";
    let document = read(
        "talk.pptx",
        &packed(&[
            ("ppt/presentation.xml", presentation.as_bytes()),
            ("ppt/_rels/presentation.xml.rels", relations.as_bytes()),
            ("ppt/slides/slide1.xml", slide("Second", "b").as_bytes()),
            ("ppt/slides/slide2.xml", slide("First", "a").as_bytes()),
            ("ppt/slides/_rels/slide2.xml.rels", of_slide.as_bytes()),
            ("ppt/notesSlides/n1.xml", notes.as_bytes()),
        ]),
    );
    let found: Vec<(Option<u32>, &str)> =
        document.blocks.iter().map(|block| (block.position.slide, block.text.as_str())).collect();
    assert_eq!(
        found,
        [
            (Some(1), "## First"),
            (Some(1), "a\n- deeper"),
            (Some(1), "Notes: say hello"),
            (Some(2), "## Second"),
            (Some(2), "b\n- deeper"),
        ]
    );
    assert_eq!(document.title.as_deref(), Some("First"));
}

#[test]
fn sheets_become_tables_with_their_rows() {
    let workbook = "<workbook xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\" \
                    xmlns:r=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships\"><sheets>\
                    <sheet name=\"Costs\" sheetId=\"1\" r:id=\"rId1\"/><sheet name=\"Empty\" sheetId=\"2\" r:id=\"rId2\"/></sheets></workbook>";
    let relations = "<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\">\
        <Relationship Id=\"rId1\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet\" Target=\"worksheets/sheet1.xml\"/>\
        <Relationship Id=\"rId2\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet\" Target=\"worksheets/sheet2.xml\"/>\
        <Relationship Id=\"rId3\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/sharedStrings\" Target=\"sharedStrings.xml\"/>\
        </Relationships>";
    let root = "<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\">\
        <Relationship Id=\"rId1\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument\" Target=\"xl/workbook.xml\"/></Relationships>";
    let strings = "<sst xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\"><si><t>what</t></si><si><t>tea</t></si></sst>";
    // The last cell is the last that a sheet can have: nobody allocates what lies between.
    let sheet = "<worksheet xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\"><dimension ref=\"A1:XFD1048576\"/><sheetData>\
        <row r=\"1\"><c r=\"A1\" t=\"s\"><v>0</v></c><c r=\"B1\" t=\"inlineStr\"><is><t>price</t></is></c></row>\
        <row r=\"3\"><c r=\"A3\" t=\"s\"><v>1</v></c><c r=\"B3\"><v>2.5</v></c></row>\
        <row r=\"1048576\"><c r=\"A1048576\" t=\"b\"><v>1</v></c><c r=\"XFD1048576\"><v>9</v></c></row></sheetData></worksheet>";
    let empty = "<worksheet xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\"><sheetData></sheetData></worksheet>";
    let document = read(
        "costs.xlsx",
        &packed(&[
            ("_rels/.rels", root.as_bytes()),
            ("xl/workbook.xml", workbook.as_bytes()),
            ("xl/_rels/workbook.xml.rels", relations.as_bytes()),
            ("xl/sharedStrings.xml", strings.as_bytes()),
            ("xl/worksheets/sheet1.xml", sheet.as_bytes()),
            ("xl/worksheets/sheet2.xml", empty.as_bytes()),
        ]),
    );
    assert_eq!(document.kind, DocumentKind::Xlsx);
    assert_eq!(document.blocks.len(), 1);
    assert_eq!(document.blocks[0].text, "| what | price |\n| --- | --- |\n| tea | 2.5 |\n| true |  |");
    let place = Position { sheet: Some("Costs".to_owned()), row: Some(3), ..Position::default() };
    assert_eq!(document.blocks[0].position, place);
    assert!(document.notes.iter().any(|note| note.contains("columns")), "{:?}", document.notes);
    assert!(document.notes.iter().any(|note| note.contains("`Empty` has no text")), "{:?}", document.notes);
}

#[test]
fn books_are_read_chapter_by_chapter() {
    let container = "<container><rootfiles><rootfile full-path=\"OEBPS/content.opf\"/></rootfiles></container>";
    let contents = "<package xmlns:dc=\"dc\"><metadata><dc:title>The Book</dc:title></metadata><manifest>\
        <item id=\"b\" href=\"text/two%20b.xhtml\"/><item id=\"a\" href=\"text/one.xhtml\"/><item id=\"css\" href=\"s.css\"/>\
        </manifest><spine><itemref idref=\"a\"/><itemref idref=\"b\"/><itemref idref=\"lost\"/></spine></package>";
    let chapter = |title: &str, text: &str| {
        format!(
            "<?xml version=\"1.0\"?><html xmlns=\"http://www.w3.org/1999/xhtml\"><head><title>x</title></head>\
                 <body><h1>{title}</h1><p>{text}</p></body></html>"
        )
    };
    let document = read(
        "book.epub",
        &packed(&[
            ("mimetype", b"application/epub+zip"),
            ("META-INF/container.xml", container.as_bytes()),
            ("OEBPS/content.opf", contents.as_bytes()),
            ("OEBPS/text/one.xhtml", chapter("One", "It began.").as_bytes()),
            ("OEBPS/text/two b.xhtml", chapter("Two", "It ended.").as_bytes()),
        ]),
    );
    assert_eq!((document.kind, document.title.as_deref()), (DocumentKind::Epub, Some("The Book")));
    assert_eq!(
        texts(&document),
        [under("One", "# One"), under("One", "It began."), under("Two", "# Two"), under("Two", "It ended.")]
    );
}

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n of a chart";

/// Description, mark, position and content of each image.
fn images(document: &Document) -> Vec<(&str, &str, &Position, bool)> {
    let is_there = |source: &ImageSource| *source == ImageSource::Bytes(PNG.to_vec());
    document
        .images
        .iter()
        .map(|image| (image.alt.as_str(), image.mark.as_str(), &image.position, is_there(&image.source)))
        .collect()
}

#[test]
fn images_of_word_documents_stand_at_their_places() {
    let drawing = "<w:p><w:r><w:t>See </w:t><w:drawing><wp:inline><wp:docPr id=\"1\" name=\"Picture 1\" descr=\"Sales chart\"/>\
                   <a:graphic><pic:pic><pic:blipFill><a:blip r:embed=\"rId4\"/></pic:blipFill></pic:pic></a:graphic>\
                   </wp:inline></w:drawing><w:t> for 2025.</w:t></w:r></w:p>";
    let gone = "<w:p><w:r><w:drawing><a:blip r:embed=\"rId5\"/></w:drawing></w:r></w:p>";
    let body = format!("<w:document {WORD}><w:body>{drawing}{gone}</w:body></w:document>");
    let relation = |id: &str, target: &str| {
        format!(
            "<Relationship Id=\"{id}\" Type=\"http://schemas.example.org/relationships/image\" Target=\"{target}\"/>"
        )
    };
    let relations = format!(
        "<Relationships>{}{}</Relationships>",
        relation("rId4", "media/a.png"),
        relation("rId5", "media/b.png")
    );
    let document = read(
        "a.docx",
        &packed(&[
            ("word/document.xml", body.as_bytes()),
            ("word/_rels/document.xml.rels", relations.as_bytes()),
            ("word/media/a.png", PNG),
        ]),
    );
    assert_eq!(document.blocks[0].text, "See ![Sales chart](image 1) for 2025.");
    assert_eq!(images(&document), [("Sales chart", "![Sales chart](image 1)", &Position::default(), true)]);
    assert_eq!(document.n_images_left_out, 1, "the other one is not in the file");
    assert!(document.notes.iter().any(|note| note.contains("1 images are left out")), "{:?}", document.notes);
}

#[test]
fn images_of_slides_know_their_slide() {
    let presentation = "<p:presentation><p:sldIdLst><p:sldId id=\"256\" r:id=\"rId1\"/></p:sldIdLst></p:presentation>";
    let relations = |id: &str, what: &str, target: &str| {
        format!(
            "<Relationships><Relationship Id=\"{id}\" Type=\"http://schemas.example.org/{what}\" Target=\"{target}\"/>\
             </Relationships>"
        )
    };
    let slide = "<p:sld><p:cSld><p:bg><a:blip r:embed=\"rId2\"/></p:bg><p:spTree><p:pic><p:nvPicPr>\
                 <p:cNvPr id=\"4\" name=\"Picture\" descr=\"Chart\"/></p:nvPicPr><p:blipFill><a:blip r:embed=\"rId2\"/>\
                 </p:blipFill></p:pic></p:spTree></p:cSld></p:sld>";
    let document = read(
        "a.pptx",
        &packed(&[
            ("ppt/presentation.xml", presentation.as_bytes()),
            ("ppt/_rels/presentation.xml.rels", relations("rId1", "slide", "slides/slide1.xml").as_bytes()),
            ("ppt/slides/slide1.xml", slide.as_bytes()),
            ("ppt/slides/_rels/slide1.xml.rels", relations("rId2", "image", "../media/a.png").as_bytes()),
            ("ppt/media/a.png", PNG),
        ]),
    );
    let position = Position { slide: Some(1), ..Position::default() };
    assert_eq!(images(&document), [("Chart", "![Chart](image 1)", &position, true)], "backgrounds are ornaments");
    assert_eq!(document.blocks[0].text, "![Chart](image 1)");
}

#[test]
fn images_of_books_are_found_beside_their_chapters() {
    let container = "<container><rootfiles><rootfile full-path=\"OEBPS/content.opf\"/></rootfiles></container>";
    let contents = "<package><metadata><title>Book</title></metadata><manifest>\
                    <item id=\"c1\" href=\"text/one.xhtml\" media-type=\"application/xhtml+xml\"/></manifest>\
                    <spine><itemref idref=\"c1\"/></spine></package>";
    let chapter =
        "<html><body><h1>One</h1><p>A ship: <img src=\"../images/a%201.png\" alt=\"the ship\"/></p></body></html>";
    let document = read(
        "a.epub",
        &packed(&[
            ("mimetype", b"application/epub+zip"),
            ("META-INF/container.xml", container.as_bytes()),
            ("OEBPS/content.opf", contents.as_bytes()),
            ("OEBPS/text/one.xhtml", chapter.as_bytes()),
            ("OEBPS/images/a 1.png", PNG),
        ]),
    );
    assert_eq!(document.images.len(), 1, "{}", document.text());
    assert_eq!(document.images[0].source, ImageSource::Bytes(PNG.to_vec()));
    assert_eq!(
        (document.images[0].alt.as_str(), &document.images[0].position.headings[0]),
        ("the ship", &"One".to_owned())
    );
}
