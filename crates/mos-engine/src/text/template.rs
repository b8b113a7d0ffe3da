//! Chat templates: a conversation as the text that a model was trained to answer.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value};
use mos_core::{Message, ModelError, Role};
use serde_json::json;

use super::{ControlTexts, PromptText};
use crate::error::bad_model;
use crate::weights::safetensors::read_json;

const NAME: &str = "chat";
/// The steps of a template's machine after which it is stopped; a message takes some hundred.
const MOST_STEPS: u64 = 50_000_000;

/// The template of a model, from its own files.
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    path: PathBuf,
    bos: String,
    eos: String,
    hash: [u8; 32],
    /// Whether the template shows system turns only before a question, or not at all.
    folds_system: bool,
}

impl ChatTemplate {
    /// Compiles a template; `path` is named in errors.
    pub(crate) fn new(path: &Path, source: &str, bos: &str, eos: &str) -> Result<Self, ModelError> {
        let mut environment = Environment::new();
        // As the templates' authors run them.
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(MOST_STEPS));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_filter("tojson", tojson);
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(|error| bad_model(path, format!("the chat template is not understood: {error:#}")))?;
        let mut hasher = blake3::Hasher::new();
        for text in [source, bos, eos] {
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        }
        let hash = *hasher.finalize().as_bytes();
        let (path, bos, eos) = (path.to_owned(), bos.to_owned(), eos.to_owned());
        let mut template = Self { environment, path, bos, eos, hash, folds_system: false };
        if !template.shows_system() {
            template.folds_system = true;
            template.folds_system = template.shows_system();
        }
        Ok(template)
    }

    /// Whether system turns are shown, also alone and several of them.
    fn shows_system(&self) -> bool {
        let (first, second, question) = (Message::system("A1"), Message::system("B2"), Message::user("C3"));
        let shows = |messages: &[Message], ask: bool| {
            let text = self.render(messages, ask, jiff::Timestamp::UNIX_EPOCH, &ControlTexts::default());
            text.is_ok_and(|text| {
                let text = text.into_text();
                messages.iter().all(|message| text.contains(&message.text()))
            })
        };
        shows(std::slice::from_ref(&first), false) && shows(&[first, second, question], true)
    }

    /// Returns a hash of all that decides how a conversation is rendered.
    pub(crate) fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// Reads `chat_template.jinja`, or the template in `tokenizer_config.json`; `None` when there is none.
    pub(crate) fn from_directory(directory: &Path, bos: &str, eos: &str) -> Result<Option<Self>, ModelError> {
        let file = directory.join("chat_template.jinja");
        if file.is_file() {
            let source =
                std::fs::read_to_string(&file).map_err(|error| bad_model(&file, format!("cannot be read: {error}")))?;
            return Self::new(&file, &source, bos, eos).map(Some);
        }
        let file = directory.join("tokenizer_config.json");
        if !file.is_file() {
            return Ok(None);
        }
        let config: serde_json::Value = read_json(&file)?;
        match source_of(&config["chat_template"]) {
            Some(source) => Self::new(&file, source, bos, eos).map(Some),
            None => Ok(None),
        }
    }

    /// Returns the text of a conversation; with `ask`, up to the point where the model begins to answer. Where the
    /// template has no turns of the system, what it says at the beginning becomes the user's first words. `now` is the
    /// date that some templates print. Messages that spell one of `controls` stay what they are: words.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] when the template refuses the conversation, with its own words;
    /// [`ModelError::BadModel`] when it does not come to an end.
    pub(crate) fn render(
        &self,
        messages: &[Message],
        ask: bool,
        now: jiff::Timestamp,
        controls: &ControlTexts,
    ) -> Result<PromptText, ModelError> {
        let folded = if self.folds_system { fold_system(messages) } else { Cow::Borrowed(messages) };
        let mut messages: Vec<serde_json::Value> = folded.iter().map(as_template_sees).collect();
        let mark = controls.mark(&mut messages)?;
        let context = minijinja::context! {
            messages,
            add_generation_prompt => ask,
            bos_token => &self.bos,
            eos_token => &self.eos,
            strftime_now => Value::from_function(move |format: String| strftime(now, &format)),
        };
        let template = self.environment.get_template(NAME);
        let rendered = template.and_then(|template| template.render(context)).map_err(|error| {
            if ran_out(&error) {
                return bad_model(
                    &self.path,
                    format!(
                        "the chat template was stopped after {MOST_STEPS} steps: it does not come to an end, or the \
                         conversation is far too long; use another template or a shorter conversation"
                    ),
                );
            }
            ModelError::Invalid(format!(
                "the chat template of {} does not accept this conversation: {error:#}",
                self.path.display()
            ))
        })?;
        Ok(PromptText::from_marked(rendered, mark))
    }
}

/// The conversation with the system turns at its beginning as the first words of the user, as the templates of models
/// without system turns have it.
fn fold_system(messages: &[Message]) -> Cow<'_, [Message]> {
    let n_system = messages.iter().take_while(|message| message.role == Role::System).count();
    if n_system == 0 {
        return Cow::Borrowed(messages);
    }
    let (system, rest) = messages.split_at(n_system);
    let (question, rest) = match rest.split_first() {
        Some((first, rest)) if first.role == Role::User => (Some(first), rest),
        _ => (None, rest),
    };
    let texts: Vec<String> = system.iter().chain(question).map(Message::text).collect();
    let turn = Message::user(texts.join("\n\n"));
    Cow::Owned(std::iter::once(turn).chain(rest.iter().cloned()).collect())
}

/// Whether a template was stopped because it took too many steps, itself or in a part that it called.
fn ran_out(error: &Error) -> bool {
    let first: &(dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |error| error.source())
        .filter_map(|error| error.downcast_ref::<Error>())
        .any(|error| error.kind() == ErrorKind::OutOfFuel)
}

/// A template, or the one called `default` of several.
fn source_of(value: &serde_json::Value) -> Option<&str> {
    value.as_str().or_else(|| {
        let named = value.as_array()?.iter().find(|entry| entry["name"] == "default")?;
        named["template"].as_str()
    })
}

/// Templates know text, not parts.
fn as_template_sees(message: &Message) -> serde_json::Value {
    let mut value = json!({"role": message.role.as_str(), "content": message.text()});
    if let Some(calls) = &message.tool_calls {
        value["tool_calls"] = json!(calls);
    }
    if let Some(id) = &message.tool_call_id {
        value["tool_call_id"] = json!(id);
    }
    if let Some(name) = &message.name {
        value["name"] = json!(name);
    }
    value
}

/// The date that some templates print, in UTC.
fn strftime(now: jiff::Timestamp, format: &str) -> Result<String, Error> {
    let text = jiff::fmt::strtime::format(format, &now.to_zoned(jiff::tz::TimeZone::UTC));
    text.map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
}

fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// JSON as Python writes it: templates compare and print it, and the usual filter would escape it for HTML.
fn tojson(value: Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    // Accepted as Python does; text is never escaped to ASCII here.
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let failed = |error: serde_json::Error| Error::new(ErrorKind::BadSerialization, error.to_string());
    match indent {
        Some(width) => {
            let indent = " ".repeat(width);
            let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            let mut serializer = serde_json::Serializer::with_formatter(Vec::new(), formatter);
            serde::Serialize::serialize(&value, &mut serializer).map_err(failed)?;
            Ok(String::from_utf8_lossy(&serializer.into_inner()).into_owned())
        }
        None => {
            let mut serializer = serde_json::Serializer::with_formatter(Vec::new(), PythonSpacing);
            serde::Serialize::serialize(&value, &mut serializer).map_err(failed)?;
            Ok(String::from_utf8_lossy(&serializer.into_inner()).into_owned())
        }
    }
}

/// `", "` between entries and `": "` after keys.
struct PythonSpacing;

impl serde_json::ser::Formatter for PythonSpacing {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, messages: &[Message]) -> Result<String, ModelError> {
        let template = ChatTemplate::new(Path::new("model.gguf"), source, "<s>", "</s>")?;
        let controls = ControlTexts::new(["<s>", "</s>"].map(str::to_owned));
        Ok(template.render(messages, true, jiff::Timestamp::UNIX_EPOCH, &controls)?.into_text())
    }

    #[test]
    fn python_methods_json_and_special_tokens_work() {
        let source = "{{ bos_token }}{% for m in messages %}{{ m.role.upper() }}:{{ m['content'].strip() }};{% endfor %}\
                      {{ {'a': [1, 'é'], 'b': none} | tojson }}{% if add_generation_prompt %}>{% endif %}";
        let text = render(source, &[Message::user("  hi ")]).unwrap();
        assert_eq!(text, "<s>USER:hi;{\"a\": [1, \"é\"], \"b\": null}>");
    }

    #[test]
    fn a_template_refuses_in_its_own_words() {
        let error = render("{{ raise_exception('only users speak here') }}", &[Message::system("x")]).unwrap_err();
        assert!(matches!(&error, ModelError::Invalid(text) if text.contains("only users speak here")), "{error}");
    }

    /// As the templates of models without system turns are written: a first system turn goes before a question.
    const FOLDING: &str = "{{ bos_token }}{% if messages[0].role == 'system' %}{% set first = messages[0].content ~ \
                           '\n\n' %}{% set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages \
                           %}{% endif %}{% for m in rest %}{% if m.role == 'system' %}{{ raise_exception('no system \
                           role') }}{% endif %}[{{ m.role }}]{{ first if loop.first else '' }}{{ m.content }}[end]\
                           {% endfor %}";

    #[test]
    fn system_turns_that_a_template_does_not_show_become_the_users_first_words() {
        let (a, b) = (Message::system("know a"), Message::system("know b"));
        let question = Message::user("why?");
        assert_eq!(render(FOLDING, std::slice::from_ref(&a)).unwrap(), "<s>[user]know a[end]");
        let text = render(FOLDING, &[a.clone(), b.clone(), question.clone(), Message::assistant("so")]).unwrap();
        assert_eq!(text, "<s>[user]know a\n\nknow b\n\nwhy?[end][assistant]so[end]");
        assert_eq!(render(FOLDING, std::slice::from_ref(&question)).unwrap(), "<s>[user]why?[end]");
        let plain = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}";
        assert_eq!(render(plain, &[a, b, question]).unwrap(), "[system]know a[system]know b[user]why?");
    }

    #[test]
    fn the_date_is_the_one_given() {
        assert_eq!(render("{{ strftime_now('%d %b %Y') }}", &[]).unwrap(), "01 Jan 1970");
    }

    #[test]
    fn a_template_without_an_end_is_stopped() {
        let endless =
            "{% for a in range(10000) %}{% for b in range(10000) %}{% if a == b %}{% endif %}{% endfor %}{% endfor %}";
        let in_a_macro = format!("{{% macro run() %}}{endless}{{% endmacro %}}{{{{ run() }}}}");
        for source in [endless, &in_a_macro] {
            let error = render(source, &[Message::user("x")]).unwrap_err();
            assert!(matches!(&error, ModelError::BadModel(text) if text.contains("was stopped")), "{error}");
        }
    }

    #[test]
    fn a_broken_template_names_the_file() {
        let error = render("{% for %}", &[]).unwrap_err();
        assert!(matches!(&error, ModelError::BadModel(text) if text.contains("model.gguf")), "{error}");
    }
}
