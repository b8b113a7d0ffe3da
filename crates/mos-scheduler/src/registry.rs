//! Which handler does which label.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::handler::{Handler, Registration};
use crate::label::Priority;

/// The most labels there are handlers for.
const MAX_LABELS: usize = 256;

/// Handlers by label.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    handlers: RwLock<BTreeMap<String, Registration>>,
    /// Priorities outlive their handlers: a label that gets another one keeps its urgency.
    priorities: RwLock<BTreeMap<String, Priority>>,
}

impl Registry {
    /// Adds or replaces handlers; returns the first label that does not fit any more.
    pub(crate) fn register(&self, registrations: Vec<(String, Registration)>) -> Result<(), String> {
        let mut handlers = self.handlers.write().unwrap_or_else(PoisonError::into_inner);
        let mut priorities = self.priorities.write().unwrap_or_else(PoisonError::into_inner);
        for (label, registration) in registrations {
            if handlers.len() >= MAX_LABELS && !handlers.contains_key(&label) {
                return Err(label);
            }
            if let Some(priority) = registration.priority
                && (priorities.len() < MAX_LABELS || priorities.contains_key(&label))
            {
                priorities.insert(label.clone(), priority);
            }
            handlers.insert(label, registration);
        }
        Ok(())
    }

    /// Replaces the handlers that are there by what `wrap` returns for them.
    pub(crate) fn wrap(&self, wrap: impl Fn(Arc<dyn Handler>) -> Arc<dyn Handler>) {
        let mut handlers = self.handlers.write().unwrap_or_else(PoisonError::into_inner);
        for registration in handlers.values_mut() {
            registration.handler = wrap(Arc::clone(&registration.handler));
        }
    }

    pub(crate) fn unregister(&self, labels: &[String]) -> BTreeMap<String, bool> {
        let mut handlers = self.handlers.write().unwrap_or_else(PoisonError::into_inner);
        labels.iter().map(|label| (label.clone(), handlers.remove(label).is_some())).collect()
    }

    pub(crate) fn get(&self, label: &str) -> Option<Registration> {
        self.handlers.read().unwrap_or_else(PoisonError::into_inner).get(label).cloned()
    }

    pub(crate) fn labels(&self) -> Vec<String> {
        self.handlers.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    pub(crate) fn priority(&self, label: &str) -> Priority {
        let priorities = self.priorities.read().unwrap_or_else(PoisonError::into_inner);
        priorities.get(label).copied().unwrap_or_else(|| Priority::of_label(label))
    }
}
