//! Somebody who asks for what belongs to others.

use super::asked::{Ask, Asked, Named, Need, Operation};
use super::house::{Answer, Tenants};
use super::table;
use super::verdict::{Secrets, are_alike};

/// Who asks, and what the answers must not hold.
pub(super) struct Stranger<'a> {
    pub(super) key: &'a str,
    /// What the requests name.
    pub(super) victim: Named,
    /// What they name when they are sent about nothing.
    pub(super) nothing: Named,
    pub(super) secrets: Secrets<'a>,
}

impl Stranger<'_> {
    /// Asks for everything, and returns what was wrong with the answers.
    pub(super) async fn asks(&self, tenants: &Tenants) -> Vec<String> {
        let mut wrong = Vec::new();
        for operation in table() {
            for (index, ask) in operation.asks.iter().enumerate() {
                let asked = ask(&self.victim);
                let answer = tenants.ask(operation, &asked, Some(self.key)).await;
                if let Some(why) = self.fault(tenants, operation, *ask, &asked, &answer).await {
                    let Answer { status, text } = &answer;
                    wrong.push(format!("{} #{index} {why}: {} -> {status} {text}", operation.name, asked.text()));
                }
            }
        }
        wrong
    }

    async fn fault(
        &self,
        tenants: &Tenants,
        operation: &Operation,
        ask: Ask,
        asked: &Asked,
        answer: &Answer,
    ) -> Option<String> {
        let given_away = self.secrets.given_away(asked, answer);
        if !given_away.is_empty() {
            return Some(format!("gives away {given_away:?}"));
        }
        if operation.need == Need::Open {
            return None;
        }
        if !answer.is_fair() {
            return Some("is no answer".to_owned());
        }
        if operation.need == Need::Admin {
            return (answer.status != 403).then(|| "should be refused with 403".to_owned());
        }
        let is_compared =
            if answer.is_refusal() { self.names_a_memory_alone(asked) } else { self.secrets.are_named_in(asked) };
        if !is_compared {
            return None;
        }
        let about_nothing = tenants.ask(operation, &ask(&self.nothing), Some(self.key)).await;
        if are_alike((answer, &self.victim), (&about_nothing, &self.nothing)) {
            return None;
        }
        Some(format!("tells what is there; about nothing it says {} {}", about_nothing.status, about_nothing.text))
    }

    /// Whether a request names a memory and no cube, user or knowledge base. A refusal may tell that the id of a cube is taken,
    /// but not that a memory is there.
    fn names_a_memory_alone(&self, asked: &Asked) -> bool {
        let Named { user, cube, memory, base, .. } = &self.victim;
        let said = asked.text();
        said.contains(memory) && ![user, cube, base].into_iter().any(|name| said.contains(name))
    }
}
