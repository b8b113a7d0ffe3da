//! Models that open themselves at their first use.

use std::sync::Arc;

use mos_config::Settings;
use mos_core::{ChatModel, Embedder};

use crate::factories::{Factories, ModelContext};
use crate::lazy::{Lazy, LazyEmbedder};

pub(super) fn lazy_embedder(settings: &Settings, factories: &Factories, context: &ModelContext) -> Arc<dyn Embedder> {
    let (config, factories, context) = (settings.embedder.clone(), factories.clone(), context.clone());
    Arc::new(LazyEmbedder(Lazy::new(Arc::new(move || {
        let (config, factories, context) = (config.clone(), factories.clone(), context.clone());
        Box::pin(async move { factories.embedder(config, context).await })
    }))))
}

pub(super) fn lazy_chat_model(
    given: Option<Arc<dyn ChatModel>>,
    settings: &Settings,
    factories: &Factories,
    context: &ModelContext,
) -> Lazy<dyn ChatModel> {
    let (config, factories, context) = (settings.chat_model.clone(), factories.clone(), context.clone());
    Lazy::new(Arc::new(move || {
        let (given, config) = (given.clone(), config.clone());
        let (factories, context) = (factories.clone(), context.clone());
        Box::pin(async move {
            match given {
                Some(model) => Ok(model),
                None => factories.chat_model(config, context).await,
            }
        })
    }))
}
