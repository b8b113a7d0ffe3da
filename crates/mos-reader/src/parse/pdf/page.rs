//! What a page shows: its operators are followed as far as they place text.

use std::collections::HashMap;
use std::rc::Rc;

use lopdf::content::{Content, Operation};
use lopdf::{Dictionary, Document as Pdf, Error as PdfError, Object, ObjectId};

use super::super::guard::Stop;
use super::super::{ParseError, ParseLimits};
use super::KIND;
use super::font::Font;
use super::layout::{Layout, Place};

/// Forms inside forms.
const MAX_FORM_DEPTH: usize = 8;

/// Operators of all pages together.
const MAX_OPERATIONS: usize = 20_000_000;

/// Operators between two looks at whether somebody still waits.
const OPERATIONS_PER_CHECK: usize = 4_096;

/// Graphics states that are put away at once.
const MAX_SAVED: usize = 256;

/// A longer string is shown in pieces of this length, so that its text is measured in between; the format asks writers to keep
/// to half of it.
const MAX_SHOWN_BYTES: usize = 64 << 10;

/// The table of letters of one font.
const MAX_TABLE_BYTES: usize = 16 << 20;

/// What a page says.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) paragraphs: Vec<String>,
    pub(super) has_unknown_letters: bool,
}

/// Why a page was not read.
pub(super) enum PageError {
    /// The others may be sound.
    Damaged(String),
    /// The file as a whole is refused.
    Fatal(ParseError),
}

impl From<ParseError> for PageError {
    fn from(error: ParseError) -> Self {
        Self::Fatal(error)
    }
}

/// `a b c d e f` as a PDF writes it.
type Matrix = [f32; 6];

const IDENTITY: Matrix = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0];

/// First `first`, then `then`.
fn product(first: &Matrix, then: &Matrix) -> Matrix {
    [
        first[0] * then[0] + first[1] * then[2],
        first[0] * then[1] + first[1] * then[3],
        first[2] * then[0] + first[3] * then[2],
        first[2] * then[1] + first[3] * then[3],
        first[4] * then[0] + first[5] * then[2] + then[4],
        first[4] * then[1] + first[5] * then[3] + then[5],
    ]
}

/// What `q` puts away and `Q` brings back.
#[derive(Clone)]
struct State<'d> {
    to_page: Matrix,
    font: Option<Rc<Font<'d>>>,
    size: f32,
    letter_space: f32,
    word_space: f32,
    stretch: f32,
    leading: f32,
}

impl State<'_> {
    fn new() -> Self {
        Self {
            to_page: IDENTITY,
            font: None,
            size: 0.0,
            letter_space: 0.0,
            word_space: 0.0,
            stretch: 1.0,
            leading: 0.0,
        }
    }
}

/// Reads the pages of a file; fonts are opened once.
pub(super) struct Pages<'d> {
    pdf: &'d Pdf,
    limits: &'d ParseLimits,
    stop: &'d Stop,
    /// By the address of their dictionary, which stays where it is while the file is open.
    fonts: HashMap<*const Dictionary, Rc<Font<'d>>>,
    n_operations: usize,
    n_unpacked: usize,
}

impl<'d> Pages<'d> {
    pub(super) fn new(pdf: &'d Pdf, limits: &'d ParseLimits, stop: &'d Stop) -> Self {
        Self { pdf, limits, stop, fonts: HashMap::new(), n_operations: 0, n_unpacked: 0 }
    }

    /// # Errors
    /// [`PageError::Damaged`] for what concerns this page, [`PageError::Fatal`] for limits of the file.
    pub(super) fn read(&mut self, id: ObjectId) -> Result<Reading, PageError> {
        let left = self.limits.max_unpacked_bytes.saturating_sub(self.n_unpacked);
        let content = self.pdf.get_page_content_with_limit(id, left).map_err(|error| self.sorted(&error))?;
        self.n_unpacked += content.len();
        let mut page = PageText { most: self.limits.max_text_bytes, ..PageText::default() };
        let resources = self.resources(id);
        self.run(&content, &resources, State::new(), 0, &mut page)?;
        Ok(Reading { paragraphs: page.layout.paragraphs(), has_unknown_letters: page.has_unknown_letters })
    }

    fn sorted(&self, error: &PdfError) -> PageError {
        match error {
            PdfError::Decompress(lopdf::DecompressError::MemoryLimitExceeded { .. }) => {
                let limit = self.limits.max_unpacked_bytes;
                PageError::Fatal(ParseError::TooMuch { kind: KIND, what: "bytes when it is unpacked", limit })
            }
            other => PageError::Damaged(other.to_string()),
        }
    }

    /// A page without sound resources still has its text's places, only no fonts.
    fn resources(&self, id: ObjectId) -> Vec<&'d Dictionary> {
        let Ok((direct, ids)) = self.pdf.get_page_resources(id) else { return Vec::new() };
        direct.into_iter().chain(ids.into_iter().filter_map(|id| self.pdf.get_dictionary(id).ok())).collect()
    }

    fn resource(&self, resources: &[&'d Dictionary], group: &[u8], name: &[u8]) -> Option<&'d Object> {
        resources.iter().find_map(|resources| {
            let group = resources.get_deref(group, self.pdf).and_then(Object::as_dict).ok()?;
            group.get_deref(name, self.pdf).ok()
        })
    }

    fn font(&mut self, resources: &[&'d Dictionary], name: &[u8]) -> Option<Rc<Font<'d>>> {
        let dictionary = self.resource(resources, b"Font", name)?.as_dict().ok()?;
        let pdf = self.pdf;
        let limit = self.limits.max_unpacked_bytes.min(MAX_TABLE_BYTES);
        let key: *const Dictionary = dictionary;
        Some(Rc::clone(self.fonts.entry(key).or_insert_with(|| Rc::new(Font::open(pdf, dictionary, limit)))))
    }

    fn run(
        &mut self,
        content: &[u8],
        resources: &[&'d Dictionary],
        state: State<'d>,
        depth: usize,
        page: &mut PageText,
    ) -> Result<(), PageError> {
        let mut writer = Writer { state, saved: Vec::new(), text: IDENTITY, line: IDENTITY, page };
        for operation in Content::<Vec<Operation>>::decode_iter(content) {
            // What was read before the damage stays.
            let Ok(operation) = operation else { break };
            self.n_operations += 1;
            if self.n_operations > MAX_OPERATIONS {
                let limit = MAX_OPERATIONS;
                return Err(ParseError::TooMuch { kind: KIND, what: "drawing operators", limit }.into());
            }
            if self.n_operations.is_multiple_of(OPERATIONS_PER_CHECK) {
                self.stop.check(KIND)?;
                self.limits.check_text(KIND, writer.page.layout.len())?;
            }
            match operation.operator.as_str() {
                "Tf" => {
                    let name = operation.operands.first().and_then(|name| name.as_name().ok()).unwrap_or_default();
                    writer.state.font = self.font(resources, name);
                    writer.state.size = operand(&operation, 1);
                }
                "Do" if depth < MAX_FORM_DEPTH => {
                    let name = operation.operands.first().and_then(|name| name.as_name().ok()).unwrap_or_default();
                    let state = writer.state.clone();
                    self.form(resources, name, state, depth, writer.page)?;
                }
                _ => writer.step(&operation),
            }
        }
        self.limits.check_text(KIND, writer.page.layout.len())?;
        Ok(())
    }

    /// Follows a form: a piece of a page that is drawn by its name.
    fn form(
        &mut self,
        resources: &[&'d Dictionary],
        name: &[u8],
        mut state: State<'d>,
        depth: usize,
        page: &mut PageText,
    ) -> Result<(), PageError> {
        let Some(Object::Stream(form)) = self.resource(resources, b"XObject", name) else { return Ok(()) };
        let subtype = form.dict.get_deref(b"Subtype", self.pdf).and_then(Object::as_name).unwrap_or_default();
        if subtype != b"Form" {
            return Ok(());
        }
        let left = self.limits.max_unpacked_bytes.saturating_sub(self.n_unpacked);
        let content = match form.get_plain_content_with_limit(left) {
            Ok(content) => content,
            Err(error) => match self.sorted(&error) {
                fatal @ PageError::Fatal(_) => return Err(fatal),
                // The rest of the page may be sound.
                PageError::Damaged(_) => return Ok(()),
            },
        };
        self.n_unpacked += content.len();
        if let Ok(array) = form.dict.get_deref(b"Matrix", self.pdf).and_then(Object::as_array) {
            let mut matrix = IDENTITY;
            for (entry, object) in matrix.iter_mut().zip(array) {
                *entry = object.as_float().unwrap_or(*entry);
            }
            state.to_page = product(&matrix, &state.to_page);
        }
        let own = form.dict.get_deref(b"Resources", self.pdf).and_then(Object::as_dict).ok();
        let resources: Vec<&Dictionary> = own.into_iter().chain(resources.iter().copied()).collect();
        self.run(&content, &resources, state, depth + 1, page)
    }
}

#[derive(Default)]
struct PageText {
    layout: Layout,
    /// More text than this, in bytes, is not read: one operator can show very much.
    most: usize,
    has_unknown_letters: bool,
}

fn operand(operation: &Operation, index: usize) -> f32 {
    let number = operation.operands.get(index).and_then(|number| number.as_float().ok()).unwrap_or(0.0);
    if number.is_finite() { number } else { 0.0 }
}

fn matrix(operation: &Operation) -> Matrix {
    std::array::from_fn(|index| operand(operation, index))
}

/// Follows the operators that need nothing from the file.
struct Writer<'p, 'd> {
    state: State<'d>,
    saved: Vec<State<'d>>,
    /// Where the next letter goes.
    text: Matrix,
    /// Where the line began.
    line: Matrix,
    page: &'p mut PageText,
}

impl Writer<'_, '_> {
    fn step(&mut self, operation: &Operation) {
        match operation.operator.as_str() {
            "q" if self.saved.len() < MAX_SAVED => self.saved.push(self.state.clone()),
            "Q" => {
                if let Some(state) = self.saved.pop() {
                    self.state = state;
                }
            }
            "cm" => self.state.to_page = product(&matrix(operation), &self.state.to_page),
            "BT" => (self.text, self.line) = (IDENTITY, IDENTITY),
            "Tc" => self.state.letter_space = operand(operation, 0),
            "Tw" => self.state.word_space = operand(operation, 0),
            "Tz" => self.state.stretch = operand(operation, 0) / 100.0,
            "TL" => self.state.leading = operand(operation, 0),
            "Td" => self.next_line(operand(operation, 0), operand(operation, 1)),
            "TD" => {
                self.state.leading = -operand(operation, 1);
                self.next_line(operand(operation, 0), operand(operation, 1));
            }
            "Tm" => {
                self.line = matrix(operation);
                self.text = self.line;
            }
            "T*" => self.next_line(0.0, -self.state.leading),
            "Tj" => self.show_operand(operation, 0),
            "'" => {
                self.next_line(0.0, -self.state.leading);
                self.show_operand(operation, 0);
            }
            "\"" => {
                self.state.word_space = operand(operation, 0);
                self.state.letter_space = operand(operation, 1);
                self.next_line(0.0, -self.state.leading);
                self.show_operand(operation, 2);
            }
            "TJ" => {
                let Some(Object::Array(pieces)) = operation.operands.first() else { return };
                for piece in pieces {
                    match piece {
                        Object::String(bytes, _) => self.show(bytes),
                        other => {
                            let back = other.as_float().unwrap_or(0.0);
                            self.advance(-back / 1000.0 * self.state.size * self.state.stretch);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn next_line(&mut self, x: f32, y: f32) {
        self.line = product(&[1.0, 0.0, 0.0, 1.0, x, y], &self.line);
        self.text = self.line;
    }

    fn advance(&mut self, x: f32) {
        self.text = product(&[1.0, 0.0, 0.0, 1.0, x, 0.0], &self.text);
    }

    fn show_operand(&mut self, operation: &Operation, index: usize) {
        if let Some(Object::String(bytes, _)) = operation.operands.get(index) {
            self.show(bytes);
        }
    }

    fn show(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(MAX_SHOWN_BYTES) {
            if self.page.layout.len() > self.page.most {
                return;
            }
            self.show_piece(piece);
        }
    }

    fn show_piece(&mut self, bytes: &[u8]) {
        let Some(font) = self.state.font.clone() else {
            self.page.has_unknown_letters |= !bytes.is_empty();
            return;
        };
        let start = self.position();
        let (n_letters, width) = font.width(bytes);
        let n_spaces = if font.is_narrow() { bytes.iter().filter(|byte| **byte == b' ').count() } else { 0 };
        let spaces = n_letters as f32 * self.state.letter_space + n_spaces as f32 * self.state.word_space;
        self.advance((width / 1000.0 * self.state.size + spaces) * self.state.stretch);
        let end = self.position();
        self.page.has_unknown_letters |= font.is_cut();
        match font.text(bytes) {
            Some(text) if text.is_empty() => {}
            Some(text) => {
                let place = Place { start: start.0, end: end.0, down: start.1, size: start.2 };
                self.page.layout.push(&text, place);
            }
            None => self.page.has_unknown_letters = true,
        }
    }

    /// Returns the place of the next letter along its line and down across the lines, and the size of letters there.
    fn position(&self) -> (f32, f32, f32) {
        let [a, b, c, d, x, y] = product(&self.text, &self.state.to_page);
        let length = a.hypot(b);
        let (along_x, along_y) = if length > 0.0 { (a / length, b / length) } else { (1.0, 0.0) };
        let size = self.state.size.abs() * c.hypot(d);
        (x * along_x + y * along_y, x * along_y - y * along_x, size)
    }
}
