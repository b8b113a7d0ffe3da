//! Whether an answer tells more than it should.

use serde_json::Value;

use super::asked::{Asked, Named};
use super::house::Answer;

/// Statuses by which an operation refuses: whose it is, what is not there, what is taken.
const REFUSED: [u16; 5] = [400, 401, 403, 404, 409];

/// Statuses that say nothing about rights: the request was none that the operation answers.
const UNFAIR: [u16; 5] = [405, 413, 415, 422, 429];

/// Fields that differ from answer to answer.
const VOLATILE: [&str; 6] = ["created", "waited_seconds", "elapsed_seconds", "instance_id", "took", "oldest"];

impl Answer {
    /// Whether it refuses.
    pub(super) fn is_refusal(&self) -> bool {
        REFUSED.contains(&self.status)
    }

    /// Whether it was answered at all, by whatever it is about.
    pub(super) fn is_fair(&self) -> bool {
        self.status < 500 && !UNFAIR.contains(&self.status)
    }
}

/// What a caller must not get to know.
pub(super) struct Secrets<'a> {
    /// Words that stand in memories. Nobody writes them into requests.
    pub(super) markers: Vec<&'a str>,
    /// Names of cubes, memories, tasks and users: who writes them into a request knows them already.
    pub(super) names: Vec<&'a str>,
}

impl Secrets<'_> {
    /// Returns what an answer gives away.
    pub(super) fn given_away(&self, asked: &Asked, answer: &Answer) -> Vec<String> {
        let known = asked.text();
        let markers = self.markers.iter().filter(|marker| answer.text.contains(**marker));
        let names = self.names.iter().filter(|name| answer.text.contains(**name) && !known.contains(**name));
        markers.chain(names).map(|secret| (*secret).to_owned()).collect()
    }

    /// Whether a request names anything of these.
    pub(super) fn are_named_in(&self, asked: &Asked) -> bool {
        let said = asked.text();
        self.names.iter().any(|name| said.contains(*name))
    }
}

/// Whether two answers say the same, each about its own names: then nobody learns from them which of the two is there.
pub(super) fn are_alike(one: (&Answer, &Named), other: (&Answer, &Named)) -> bool {
    one.0.status == other.0.status && plain(one) == plain(other)
}

/// An answer without names, and without what differs each time.
fn plain((answer, named): (&Answer, &Named)) -> String {
    let mut text = answer.text.clone();
    for name in named.all() {
        text = text.replace(name, "NAME");
    }
    match serde_json::from_str::<Value>(&text) {
        Ok(mut value) => {
            settle(&mut value);
            value.to_string()
        }
        Err(_) => text,
    }
}

fn settle(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !VOLATILE.contains(&key.as_str()));
            map.values_mut().for_each(settle);
        }
        Value::Array(items) => items.iter_mut().for_each(settle),
        Value::String(text) if text.starts_with("chatcmpl-") => *text = "chatcmpl".to_owned(),
        // The text of a tool is the JSON of its answer.
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::asked::at;
    use super::*;

    fn named(cube: &str) -> Named {
        let [user, memory, apart, task, sdk_task, session, key, base, file] =
            ["ann", "m-1", "m-2", "t-1", "ann:1", "s", "k-1", "kb-1", "kb-1:1"].map(str::to_owned);
        Named { user, cube: cube.to_owned(), memory, apart, task, sdk_task, session, key, base, file }
    }

    fn answer(status: u16, body: Value) -> Answer {
        Answer { status, text: body.to_string() }
    }

    #[test]
    fn what_a_request_says_itself_is_not_given_away() {
        let secrets = Secrets { markers: vec!["rosebud"], names: vec!["vault", "shelf"] };
        let asked = at("/x?cube=vault");
        let refusal = answer(403, json!({"message": "no access to vault"}));
        assert!(secrets.given_away(&asked, &refusal).is_empty() && secrets.are_named_in(&asked));
        let told = answer(200, json!({"cubes": ["vault", "shelf"], "memory": "rosebud"}));
        assert_eq!(secrets.given_away(&asked, &told), ["rosebud", "shelf"]);
        assert!(!secrets.are_named_in(&at("/x")));
    }

    #[test]
    fn answers_are_alike_when_only_names_differ() {
        let (vault, nowhere) = (named("vault"), named("nowhere"));
        let none = |cube: &str| answer(200, json!({"data": {cube: false}, "created": cube.len()}));
        assert!(are_alike((&none("vault"), &vault), (&none("nowhere"), &nowhere)));
        let counted = answer(200, json!({"data": {"nowhere": false}, "total": 1}));
        assert!(!are_alike((&none("vault"), &vault), (&counted, &nowhere)));
        assert!(answer(403, Value::Null).is_refusal() && !answer(200, Value::Null).is_refusal());
        assert!(!answer(422, Value::Null).is_fair() && !answer(503, Value::Null).is_fair());
    }
}
