//! Plain text out of the snippets of search services.

/// Names of characters that snippets use, without the frame of `&` and `;`.
const NAMED: &[(&str, &str)] = &[
    ("amp", "&"),
    ("lt", "<"),
    ("gt", ">"),
    ("quot", "\""),
    ("apos", "'"),
    ("nbsp", " "),
    ("middot", "·"),
    ("hellip", "…"),
    ("ndash", "–"),
    ("mdash", "—"),
    ("lsquo", "‘"),
    ("rsquo", "’"),
    ("ldquo", "“"),
    ("rdquo", "”"),
];

/// The longest name or number of a character, in bytes.
const LONGEST_NAME: usize = 10;

/// Returns a text without tags, comments, scripts and styles, with characters instead of their names, without control
/// characters, and with one space where there was white space. Linear in the length of the text.
pub(super) fn plain(html: &str) -> String {
    let mut out = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(at) = rest.find(['<', '&']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        rest = if rest.starts_with('<') { after_tag(rest, &mut out) } else { after_name(rest, &mut out) };
    }
    out.push_str(rest);
    let words: Vec<&str> = out.split(|letter: char| letter.is_whitespace() || letter.is_control()).collect();
    let mut text = String::with_capacity(out.len());
    for word in words.into_iter().filter(|word| !word.is_empty()) {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
    }
    text
}

/// Passes over what begins with `<`; one that begins no tag is a character like others.
fn after_tag<'a>(rest: &'a str, out: &mut String) -> &'a str {
    if let Some(comment) = rest.strip_prefix("<!--") {
        return comment.find("-->").map_or("", |end| &comment[end + 3..]);
    }
    let inside = &rest[1..];
    if !inside.starts_with(|letter: char| letter.is_ascii_alphabetic() || ['/', '!', '?'].contains(&letter)) {
        out.push('<');
        return inside;
    }
    // A tag that is not closed was cut off by the service.
    let Some(end) = inside.find('>') else { return "" };
    let (tag, after) = (&inside[..end], &inside[end + 1..]);
    let name: String = tag.chars().take_while(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    match name.as_str() {
        "script" | "style" => after_element(after, &name),
        // Marks inside a line do not part words; everything else does.
        "b" | "em" | "i" | "strong" | "mark" | "span" | "a" | "u" | "sub" | "sup" | "code" => after,
        "" if is_inline_end(tag) => after,
        _ => {
            out.push(' ');
            after
        }
    }
}

fn is_inline_end(tag: &str) -> bool {
    let name = tag.trim_start_matches('/').trim().to_ascii_lowercase();
    ["b", "em", "i", "strong", "mark", "span", "a", "u", "sub", "sup", "code"].contains(&name.as_str())
}

/// Passes over the text of an element up to its end.
fn after_element<'a>(rest: &'a str, name: &str) -> &'a str {
    let mut from = 0;
    while let Some(at) = rest[from..].find("</") {
        let end = from + at + 2;
        let closes = rest.get(end..end + name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name));
        if closes {
            return rest[end..].find('>').map_or("", |close| &rest[end + close + 1..]);
        }
        from = end;
    }
    ""
}

/// Writes the character that a name or number beginning with `&` stands for; an unknown one stays as it is.
fn after_name<'a>(rest: &'a str, out: &mut String) -> &'a str {
    let inside = &rest[1..];
    let name = inside
        .bytes()
        .take(LONGEST_NAME + 1)
        .position(|byte| byte == b';')
        .map(|end| (&inside[..end], &inside[end + 1..]));
    let found = name.and_then(|(name, after)| character(name).map(|text| (text, after)));
    match found {
        Some((text, after)) => {
            out.push_str(&text);
            after
        }
        None => {
            out.push('&');
            inside
        }
    }
}

fn character(name: &str) -> Option<String> {
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(digits) => u32::from_str_radix(digits, 16).ok()?,
            None => number.parse().ok()?,
        };
        return char::from_u32(code).map(String::from);
    }
    NAMED.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snippets_become_plain_text() {
        for (html, text) in [
            ("Paris is the <b>capital</b> of <B>France</B>&nbsp;&hellip;", "Paris is the capital of France …"),
            ("a<br>b<p>c</p>d", "a b c d"),
            ("1 < 2 &amp;&amp; 3 > 2 & so on; AT&T", "1 < 2 && 3 > 2 & so on; AT&T"),
            ("<script>alert('</b>')</script>safe<style>p{}</style>", "safe"),
            ("<SCRIPT src=x>1</Script >2", "2"),
            ("before<!-- a > b -->after <img src=\"x\"", "beforeafter"),
            ("&#39;quoted&#x27; &#xD800; &unknown;", "'quoted' &#xD800; &unknown;"),
            ("&lt;script&gt; stays text", "<script> stays text"),
            (" \n many\t\u{0}spaces \u{a0} ", "many spaces"),
            ("日本<em>語</em>", "日本語"),
            ("", ""),
        ] {
            assert_eq!(plain(html), text, "{html}");
        }
    }
}
