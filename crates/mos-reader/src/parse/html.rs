//! Pages of the web: the main content as Markdown; menus, scripts and styles are left out.

use std::collections::BTreeMap;

use dom_query::Document as Page;
use dom_smoothie::{Config, Readability, ReadabilityError, TextMode};

use super::{Document, DocumentKind, ParseError, ParseLimits, Position};

const KIND: DocumentKind = DocumentKind::Html;

/// Elements inside elements, as far as they can be told: what lies deeper takes more time than it is worth.
const MAX_DEPTH: usize = 5_000;

/// Elements whose conversion calls itself for those inside them.
const RECURSIVE: [&str; 7] = ["ul", "ol", "menu", "blockquote", "table", "pre", "code"];

/// The most such elements: if all stood inside each other, the stack would still do.
const MAX_RECURSIVE: usize = 20_000;

/// Elements that hold nothing.
const VOID: [&str; 14] =
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"];

/// What a page has around its content.
const AROUND: &str = "script, style, noscript, template, iframe, nav, aside, footer, form, svg";

/// The main content must have this share of the page's text to be taken for it.
const MIN_SHARE: f64 = 0.2;

/// Pages with fewer letters are all content: too little is there to tell what is not.
const SHORT_PAGE: usize = 1_000;

/// # Errors
/// [`ParseError::TooMuch`] for more elements than may be.
pub(super) fn parse(html: &str, limits: &ParseLimits) -> Result<Document, ParseError> {
    let mut document = Document::new(KIND);
    if is_too_deep(html, limits)? {
        document.note("the page nests its elements too deeply; its text was read without its structure");
        for paragraph in super::text::paragraphs(&without_tags(html)) {
            document.push(paragraph, Position::default(), false);
        }
        return Ok(document);
    }
    let page = Page::from(html);
    document.title = Some(page.select("head title").text().to_string()).filter(|title| !title.trim().is_empty());
    let whole = plain(&page);
    let main = main_content(html, limits)?.filter(|(_, main)| is_enough(main, &whole));
    match main {
        Some((title, main)) => {
            // The page's own title without the name of the site; not a heading that stands in for it.
            let title = title.trim();
            if !title.is_empty() && document.title.as_deref().is_none_or(|whole| whole.contains(title)) {
                document.title = Some(title.to_owned());
            }
            document.push_markdown(&main, &Position::default());
        }
        None => document.push_markdown(&whole, &Position::default()),
    }
    Ok(document)
}

/// Returns a page as Markdown, all of it but what surrounds the content.
///
/// # Errors
/// [`ParseError::TooMuch`] for more elements than may be.
pub(super) fn markdown(html: &str, limits: &ParseLimits) -> Result<String, ParseError> {
    if is_too_deep(html, limits)? {
        return Ok(without_tags(html));
    }
    Ok(plain(&Page::from(html)))
}

fn plain(page: &Page) -> String {
    page.select(AROUND).remove();
    page.md(None).to_string()
}

/// Returns title and Markdown of the main content, or `None` when the page has no such thing.
fn main_content(html: &str, limits: &ParseLimits) -> Result<Option<(String, String)>, ParseError> {
    let config =
        Config { max_elements_to_parse: limits.max_elements, text_mode: TextMode::Markdown, ..Config::default() };
    let too_much = || ParseError::TooMuch { kind: KIND, what: "elements", limit: limits.max_elements };
    let parsed = Readability::new(html, None, Some(config)).and_then(|mut page| page.parse());
    match parsed {
        Ok(article) => Ok(Some((article.title, article.text_content.to_string()))),
        Err(ReadabilityError::TooManyElements(..)) => Err(too_much()),
        Err(ReadabilityError::GrabFailed | ReadabilityError::BadDocumentURL) => Ok(None),
    }
}

/// Whether what was found is enough of the page.
fn is_enough(main: &str, whole: &str) -> bool {
    let letters = |text: &str| text.chars().filter(|letter| letter.is_alphanumeric()).count();
    let (main, whole) = (letters(main), letters(whole));
    whole >= SHORT_PAGE && main as f64 >= whole as f64 * MIN_SHARE
}

/// Whether a page is only read without its structure. It is judged by the text: building the page first would take the
/// time and the stack that this protects.
fn is_too_deep(html: &str, limits: &ParseLimits) -> Result<bool, ParseError> {
    let mut open: BTreeMap<String, usize> = BTreeMap::new();
    let (mut depth, mut n_elements, mut n_recursive) = (0_usize, 0_usize, 0_usize);
    let mut code: Option<String> = None;
    for tag in tags(html) {
        let is_end = tag.starts_with('/');
        let name: String =
            tag.trim_start_matches('/').chars().take_while(|letter| letter.is_ascii_alphanumeric()).collect();
        let name = name.to_ascii_lowercase();
        n_elements += usize::from(!is_end);
        n_recursive += usize::from(!is_end && RECURSIVE.contains(&name.as_str()));
        if n_elements > limits.max_elements {
            return Err(ParseError::TooMuch { kind: KIND, what: "elements", limit: limits.max_elements });
        }
        // `a < b` in code opens nothing.
        if let Some(own) = &code {
            if is_end && *own == name {
                code = None;
            }
            continue;
        }
        if !is_end && (name == "script" || name == "style") {
            code = Some(name);
            continue;
        }
        if name.is_empty() || VOID.contains(&name.as_str()) || tag.ends_with('/') {
            continue;
        }
        let ends_by_itself = matches!(name.as_str(), "p" | "li" | "td" | "th" | "tr" | "dt" | "dd" | "option");
        let n_open = open.entry(name).or_default();
        if is_end {
            // An end without a beginning ends nothing.
            depth -= usize::from(*n_open > 0);
            *n_open = n_open.saturating_sub(1);
        } else if !(ends_by_itself && *n_open >= 32) {
            *n_open += 1;
            depth += 1;
        }
        if depth > MAX_DEPTH || n_recursive > MAX_RECURSIVE {
            return Ok(true);
        }
    }
    Ok(n_recursive > MAX_RECURSIVE)
}

/// Returns what stands between `<` and `>`, for what begins like a tag.
fn tags(html: &str) -> impl Iterator<Item = &str> {
    html.split('<').skip(1).filter_map(|part| {
        let begins = part.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '/');
        begins.then(|| part.split('>').next().unwrap_or_default())
    })
}

/// Returns the text between tags. Used where the structure is worth nothing.
fn without_tags(html: &str) -> String {
    let mut out = String::with_capacity(html.len() / 2);
    let mut parts = html.split('<');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let text = part.split_once('>').map_or("", |(_, text)| text);
        if !out.ends_with(char::is_whitespace) && !text.is_empty() {
            out.push(' ');
        }
        out.push_str(text);
    }
    out.replace("&lt;", "<").replace("&gt;", ">").replace("&nbsp;", " ").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(html: &str) -> Document {
        parse(html, &ParseLimits::default()).unwrap()
    }

    #[test]
    fn scripts_and_menus_are_left_out() {
        let document = read(
            "<!doctype html><title>A day</title><body><nav><a href=/>Home</a></nav><script>alert('x')</script>\
             <h1>Morning</h1><p>The sun <b>rose</b>.</p><ul><li>one</li><li>two</li></ul></body>",
        );
        let text = document.text();
        assert_eq!(document.title.as_deref(), Some("A day"));
        assert!(text.contains("sun") && text.contains("one") && text.contains("two"), "{text}");
        assert!(!text.contains("alert") && !text.contains("<p>"), "{text}");
    }

    #[test]
    fn long_articles_lose_what_surrounds_them() {
        let article: String = (0..30)
            .map(|n| format!("<p>Paragraph {n} tells, at some length, what happened on that day.</p>"))
            .collect();
        let menu: String = (0..10).map(|n| format!("<li><a href='/{n}'>Entry {n}</a></li>")).collect();
        let html = format!(
            "<html><head><title>News</title></head><body><div class='sidebar menu'><ul>{menu}</ul></div>\
             <article><h2>What happened</h2>{article}</article><footer>All rights reserved</footer></body></html>"
        );
        let text = read(&html).text();
        assert!(text.contains("Paragraph 0 ") && text.contains("Paragraph 29 "), "{text}");
        assert!(!text.contains("All rights reserved"), "{text}");
    }

    #[test]
    fn tables_and_code_survive() {
        let text = read(
            "<html><body><table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table><pre>x = 1</pre>",
        )
        .text();
        assert!(text.contains('|') && text.contains('1') && text.contains("x = 1"), "{text}");
    }

    #[test]
    fn deep_pages_are_read_without_structure() {
        let document = read(&format!("<html>{}deep &amp; down", "<div>".repeat(100_000)));
        assert!(document.text().contains("deep & down"));
        assert_eq!(document.notes.len(), 1);
        let limits = ParseLimits { max_elements: 10, ..ParseLimits::default() };
        assert!(matches!(parse(&"<b>".repeat(11), &limits), Err(ParseError::TooMuch { what: "elements", .. })));
    }
}
