//! What users say about memories: corrections in plain words.

use mos_core::{CubeId, MemoryError, ModelError, ServerWords};
use mos_scheduler::{FeedbackParts, FeedbackReport, FeedbackRequest, HandlerError, label};
use serde_json::json;

use super::Mos;
use super::sending::MAX_CONVERSATION;
use crate::error::{Error, Result};
use crate::scheduling::cubes::scheduler_cube;
use crate::scheduling::options;

impl Mos {
    /// Corrects memories of a cube as the request's user says in plain words, and returns what was done. A model decides what
    /// is to be changed; without one that may, the words are stored as a memory. The same request (by its user and name) does
    /// nothing a second time and returns the same.
    ///
    /// # Errors
    /// Rights; [`Error::Invalid`] for words that are too long, for a store that keeps no documents, and when the settings switch
    /// textual memory off; [`MemoryError::Unsupported`] for a cube without one; store errors, and errors of the model, after
    /// which the same request does what is left.
    pub async fn feedback(&self, cube: &CubeId, request: &FeedbackRequest) -> Result<FeedbackReport> {
        let handle = self.target(&request.user, Some(cube)).await?;
        self.check_remembering(&handle)?;
        let Some(state) = self.parts.state.as_deref() else {
            return Err(Error::Invalid(format!(
                "the store `{}` keeps no documents, which feedback needs; set `queue` to `redis` in the settings",
                self.parts.settings.store.backend()
            )));
        };
        let opened = scheduler_cube(self, &request.user, handle)?;
        let parts = FeedbackParts { state, clock: self.parts.clock.as_ref(), ids: self.parts.ids.as_ref() };
        let how = options::work_options(&self.parts.settings).feedback;
        let report = mos_scheduler::feedback(&opened, request, &parts, &how).await.map_err(failed)?;
        self.has_changed(cube);
        Ok(report)
    }

    /// Has the scheduler do what [`Mos::feedback`] does, for a task of the application, and returns whether it will: not
    /// where nothing handles such messages, nor what is too long for one.
    ///
    /// # Errors
    /// Rights; what [`Mos::feedback`] refuses where there is no textual memory; store errors.
    pub async fn feedback_later(&self, cube: &CubeId, request: &FeedbackRequest, task: Option<&str>) -> Result<bool> {
        let handle = self.target(&request.user, Some(cube)).await?;
        self.check_remembering(&handle)?;
        let Some(scheduler) = self.scheduler_of(label::MEM_FEEDBACK) else { return Ok(false) };
        let content = json!({
            "request_name": request.name,
            "feedback_content": request.text,
            "history": request.history,
            "retrieved_memory_ids": request.retrieved,
            "feedback_time": request.time,
            "session_id": request.session,
        });
        let content = content.to_string();
        if content.len() > MAX_CONVERSATION {
            return Ok(false);
        }
        let cube = &handle.info().cube_id;
        let mut message = self.message(label::MEM_FEEDBACK, &request.user, cube, request.session.as_ref(), content);
        // The name tells a repeated request of its user; another one may give theirs the same.
        let name = blake3::hash(json!([request.user, request.name]).to_string().as_bytes()).to_hex();
        message.item_id = format!("feedback-{}", &name[..32]);
        message.task_id = task.map(str::to_owned);
        scheduler.submit_messages(vec![message]).await?;
        Ok(true)
    }
}

/// What a handler would try again may work later.
fn failed(error: HandlerError) -> Error {
    match error {
        HandlerError::GiveUp(reason) => Error::Invalid(reason),
        HandlerError::Retry(reason) => {
            let fault = "memories could not be corrected; the same request does what is left";
            tracing::warn!("{fault}");
            // The reason may quote a model, or its server, which was shown memories.
            let (fault, said) = (fault.to_owned(), ServerWords(reason));
            Error::Memory(MemoryError::Model(ModelError::ServerFault { fault, said }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_correction_failed_is_told_and_in_no_log() {
        let error = failed(HandlerError::retry("the answer began: my secret"));
        assert!(!error.without_quotes().contains("my secret"), "{error}");
        assert!(crate::doctor::whole(&error).ends_with("the answer began: my secret"), "{error}");
    }
}
