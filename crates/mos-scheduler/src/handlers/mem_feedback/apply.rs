//! Doing what was decided; doing it again changes nothing.

use std::collections::HashMap;

use mos_core::memory::{MetadataForm, SourceKind, SourceMessage, TreeFields};
use mos_core::{AddRequest, MemoryId, MemoryItem, MemoryType, Message, Origin, TextMemory};
use serde_json::json;

use super::plan::{Plan, Step, fingerprint};
use super::replace::replaced;
use super::{FeedbackChange, FeedbackMemory, FeedbackReport, FeedbackRequest, mark};
use crate::cube::{CubeWork, SchedulerCube};
use crate::handler::HandlerError;
use crate::handlers::steps::{NODE_ID, archive, cut, finish, is_in_use, original};

/// How many messages before the feedback are kept as sources of what it adds.
const N_SOURCES: usize = 4;

/// How much of a memory a report shows, in characters.
const MAX_REPORTED: usize = 300;

/// Tells, in a memory, which feedback changed it last.
const CORRECTED_BY: &str = "corrected_by";

/// Does the steps in order and returns what was done, now or by an attempt before this one.
pub(super) async fn apply(
    cube: &SchedulerCube,
    request: &FeedbackRequest,
    plan: &Plan,
) -> Result<FeedbackReport, HandlerError> {
    let mut work = Work {
        text: cube.text.as_ref(),
        work: cube.work.as_ref(),
        request,
        known_as: HashMap::new(),
        report: FeedbackReport {
            unchanged: plan.unchanged.clone(),
            reasons: plan.reasons.clone(),
            ..FeedbackReport::default()
        },
    };
    for step in &plan.steps {
        work.step(step).await?;
    }
    Ok(work.report)
}

/// The beginning of a text, short enough for a report of many.
fn beginning(text: &str) -> String {
    text.chars().take(MAX_REPORTED).collect()
}

/// What a memory says next.
#[derive(Clone, Copy)]
enum Next<'a> {
    Text(&'a str),
    Word { from: &'a str, to: &'a str },
}

impl Next<'_> {
    fn of(self, present: &str) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.to_owned()),
            Self::Word { from, to } => replaced(present, from, to),
        }
    }
}

struct Work<'a> {
    text: &'a dyn TextMemory,
    work: &'a dyn CubeWork,
    request: &'a FeedbackRequest,
    /// Under which id what a step has added is known.
    known_as: HashMap<MemoryId, MemoryId>,
    report: FeedbackReport,
}

impl Work<'_> {
    async fn step(&mut self, step: &Step) -> Result<(), HandlerError> {
        match step {
            Step::Add { id, text, key, about, reason } => self.add(id, text, key.as_deref(), about, reason).await,
            Step::Update { id, before, text, about, reason } => {
                let origin = self.origin(reason);
                self.update(id, before, origin, Next::Text(text), about).await
            }
            Step::Replace { id, before, from, to } => {
                let origin = self.origin(&format!("`{from}` is replaced by `{to}`"));
                self.update(id, before, origin, Next::Word { from, to }, &[]).await
            }
            Step::Archive { id, before, successor, reason } => {
                self.archive(id, before, successor.as_ref(), reason).await
            }
        }
    }

    fn origin(&self, reason: &str) -> Origin {
        Origin {
            actor: self.request.user.to_string(),
            reason: if reason.is_empty() { "feedback".to_owned() } else { format!("feedback: {}", cut(reason)) },
            message_id: Some(self.request.name.clone()),
        }
    }

    async fn add(
        &mut self,
        id: &MemoryId,
        text: &str,
        key: Option<&str>,
        about: &[MemoryId],
        reason: &str,
    ) -> Result<(), HandlerError> {
        let there = self.text.get_by_ids(std::slice::from_ref(id)).await?;
        let known = if let Some(item) = there.into_iter().next() {
            finish(self.text, item, &self.origin(reason)).await?.id
        } else {
            let known = self.text.get_by_ids(about).await?;
            let item = self.work.looked_at(None, self.new_item(id, text, key, about, &known)).await?;
            self.tell_kept_apart(&item);
            let request = AddRequest {
                origin: self.origin(reason),
                idempotency_key: Some(format!("feedback:{}:{id}", self.request.name)),
                ..AddRequest::default()
            };
            let added = self.text.add(vec![item], request).await?;
            // Another id is that of a memory which says so already.
            for item in self.text.get_by_ids(std::slice::from_ref(id)).await? {
                finish(self.text, item, &self.origin(reason)).await?;
            }
            added.into_iter().next().unwrap_or_else(|| id.clone())
        };
        self.known_as.insert(id.clone(), known.clone());
        self.report.added.push(FeedbackMemory { id: known, text: beginning(text) });
        Ok(())
    }

    /// Gives a memory its next text, which takes something from the memories `about` and is trusted no further than they are.
    async fn update(
        &mut self,
        id: &MemoryId,
        before: &str,
        origin: Origin,
        next: Next<'_>,
        about: &[MemoryId],
    ) -> Result<(), HandlerError> {
        let Some(found) = original(self.text, id).await? else {
            self.report.reasons.push(format!("memory {id} is gone; it was not changed"));
            return Ok(());
        };
        let mark = mark(self.request);
        let is_done = found.metadata.extra.get(CORRECTED_BY).and_then(|known| known.as_str()) == Some(mark.as_str());
        if is_done {
            let before = found.metadata.history.last().map(|version| beginning(&version.memory)).unwrap_or_default();
            let text = beginning(&found.memory);
            self.report.updated.push(FeedbackChange { id: found.id.clone(), text, before });
            return Ok(());
        }
        let said = found.memory.clone();
        let text = match next.of(&said) {
            Some(text) if fingerprint(&said) == before && text != said => text,
            _ => {
                self.report.reasons.push(format!("memory {id} says something else by now; it was not changed"));
                self.report.unchanged.push(id.clone());
                return Ok(());
            }
        };
        let mut item = found.clone();
        item.memory = text;
        for used in self.text.get_by_ids(about).await? {
            item.metadata.trust_at_most(used.metadata.trust());
        }
        item.metadata.extra.insert(CORRECTED_BY.to_owned(), json!(mark));
        let item = self.work.looked_at(Some(&found), item).await?;
        self.tell_kept_apart(&item);
        let id = item.id.clone();
        let changed = self.text.update(&id, item, origin).await?;
        self.report.updated.push(FeedbackChange { id, text: beginning(&changed.memory), before: beginning(&said) });
        Ok(())
    }

    fn tell_kept_apart(&mut self, item: &MemoryItem) {
        if item.is_kept_apart() {
            self.report.reasons.push(format!(
                "memory {} reads like instructions and rests on what strangers wrote; it is kept apart until it is released",
                item.id
            ));
        }
    }

    async fn archive(
        &mut self,
        id: &MemoryId,
        before: &str,
        successor: Option<&MemoryId>,
        reason: &str,
    ) -> Result<(), HandlerError> {
        let Some(found) = original(self.text, id).await? else {
            self.report.reasons.push(format!("memory {id} is gone; it was not archived"));
            return Ok(());
        };
        if fingerprint(&found.memory) != before {
            self.report.reasons.push(format!("memory {id} says something else by now; it was not archived"));
            self.report.unchanged.push(id.clone());
            return Ok(());
        }
        if is_in_use(&found) {
            let successor = successor.map(|planned| self.known_as.get(planned).unwrap_or(planned).clone());
            let successors: Vec<MemoryId> = successor.into_iter().filter(|successor| *successor != found.id).collect();
            archive(self.text, &found.id, &successors, self.origin(reason)).await?;
        }
        self.report.archived.push(FeedbackMemory { id: found.id.clone(), text: beginning(&found.memory) });
        Ok(())
    }

    /// The memory that feedback about others adds; `known` are those of them that are there.
    fn new_item(
        &self,
        id: &MemoryId,
        text: &str,
        key: Option<&str>,
        about: &[MemoryId],
        known: &[MemoryItem],
    ) -> MemoryItem {
        let request = self.request;
        let first = request.history.len().saturating_sub(N_SOURCES);
        let mut sources: Vec<SourceMessage> = request.history[first..].iter().map(SourceMessage::chat).collect();
        let mut own = SourceMessage::chat(&Message::user(request.text.as_str()));
        own.chat_time.clone_from(&request.time);
        own.extra.insert("feedback".to_owned(), json!(request.name));
        sources.push(own);
        // What the user said word for word is the user's, whatever it is about.
        let is_concluded = text != request.text.trim();
        sources.extend(about.iter().map(|id| {
            let mut source = SourceMessage { kind: "memory".to_owned(), ..SourceMessage::default() };
            source.extra.insert(NODE_ID.to_owned(), json!(id.as_str()));
            if let Some(item) = known.iter().find(|item| is_concluded && item.id == *id) {
                source.trust_as(item);
            }
            source
        }));
        let fields = TreeFields { memory_type: MemoryType::User, sources: Some(sources), ..TreeFields::default() };
        let mut item = MemoryItem::new(id.clone(), text);
        let metadata = &mut item.metadata;
        metadata.user_id = Some(request.user.to_string());
        metadata.session_id = request.session.as_ref().map(ToString::to_string);
        metadata.kind = Some("fact".to_owned());
        metadata.key = key.map(str::to_owned);
        metadata.tags = Some(vec!["feedback".to_owned()]);
        metadata.source = Some(SourceKind::Conversation);
        metadata.form = MetadataForm::Tree(Box::new(fields));
        item
    }
}
