//! Word, PowerPoint, Excel and books: any bytes as an archive, and any text as a part of a sound archive, which random
//! changes of packed bytes would not reach.
#![no_main]

use std::io::{Cursor, Write};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use mos_reader::parse::{ParseLimits, parse};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// The parts that are what was fuzzed, each beside what its kind of file needs.
const PARTS: [(&str, &[(&str, &str)]); 8] = [
    ("word/document.xml", &[]),
    (
        "word/styles.xml",
        &[("word/document.xml", "<document><p><pPr><pStyle val=\"a\"/></pPr><r><t>x</t></r></p></document>")],
    ),
    ("ppt/slides/slide1.xml", SLIDES),
    ("ppt/presentation.xml", SLIDES),
    ("xl/worksheets/sheet1.xml", SHEETS),
    ("xl/sharedStrings.xml", SHEETS),
    ("a.opf", &[("META-INF/container.xml", "<rootfile full-path=\"a.opf\"/>"), ("b.html", "<h1>x</h1>")]),
    (
        "b.html",
        &[
            ("META-INF/container.xml", "<rootfile full-path=\"a.opf\"/>"),
            ("a.opf", "<p><item id=\"b\" href=\"b.html\"/><itemref idref=\"b\"/></p>"),
        ],
    ),
];

const SLIDES: &[(&str, &str)] = &[
    ("ppt/presentation.xml", "<p xmlns:r=\"r\"><sldId r:id=\"r1\"/></p>"),
    (
        "ppt/_rels/presentation.xml.rels",
        "<r><Relationship Id=\"r1\" Type=\"x/slide\" Target=\"slides/slide1.xml\"/></r>",
    ),
    ("ppt/slides/slide1.xml", "<sld><sp><p><t>x</t></p></sp></sld>"),
];

const SHEETS: &[(&str, &str)] = &[
    (
        "xl/workbook.xml",
        "<workbook xmlns:r=\"r\"><sheets><sheet name=\"a\" sheetId=\"1\" r:id=\"r1\"/></sheets></workbook>",
    ),
    (
        "xl/_rels/workbook.xml.rels",
        "<Relationships><Relationship Id=\"r1\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet\" Target=\"worksheets/sheet1.xml\"/></Relationships>",
    ),
    (
        "xl/worksheets/sheet1.xml",
        "<worksheet><sheetData><row r=\"1\"><c r=\"A1\" t=\"s\"><v>0</v></c></row></sheetData></worksheet>",
    ),
    ("xl/sharedStrings.xml", "<sst><si><t>x</t></si></sst>"),
];

fuzz_target!(|bytes: &[u8]| {
    let limits = ParseLimits {
        max_bytes: 1 << 20,
        max_unpacked_bytes: 4 << 20,
        timeout: Duration::from_secs(20),
        ..ParseLimits::default()
    };
    let _ = std::hint::black_box(parse(None, bytes, &limits));
    let Some((first, part)) = bytes.split_first() else { return };
    let (name, others) = PARTS[usize::from(*first) % PARTS.len()];
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let others = others.iter().filter(|(other, _)| *other != name).map(|(name, text)| (*name, text.as_bytes()));
    for (name, content) in others.chain([(name, part)]) {
        writer.start_file(name, SimpleFileOptions::default()).expect("an archive in memory takes a part");
        writer.write_all(content).expect("an archive in memory takes bytes");
    }
    let file = writer.finish().expect("an archive in memory ends").into_inner();
    let _ = std::hint::black_box(parse(None, &file, &limits));
});
