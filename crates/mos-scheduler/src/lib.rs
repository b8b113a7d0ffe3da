//! Work in the background: messages that become durable jobs, handlers that do them, and who watches over both.
//!
//! [`Scheduler`] takes [`ScheduleMessage`]s, keeps them in a [`JobQueue`](mos_core::JobQueue) and calls the
//! [`Handler`] of their label with the cube of their message. The queue is the truth: a message that was accepted is done,
//! or given up with a reason, whatever happens to the process.
//!
//! Not here: where jobs and documents are kept (the stores), how cubes are put together (the facade).

mod batch;
mod cube;
mod dispatcher;
pub mod event;
mod handler;
pub mod handlers;
pub mod label;
pub mod message;
mod metrics;
pub mod monitor;
mod options;
pub mod promote;
mod recent;
mod registry;
mod retriever;
mod scheduler;
mod status;
mod submit;

pub use cube::{CubeActivation, CubeWork, Cubes, OpenError, Organized, SchedulerCube, StoredReading};
pub use dispatcher::Stopped;
pub use event::{Event, EventLog, EventSink, RecordedEvent};
pub use handler::{Handler, HandlerContext, HandlerError, Registration};
pub use handlers::api_mix_search::{MixOptions, StoredHit, StoredMix, prepare_once, stored_mix};
pub use handlers::mem_dream::{DiaryEntry, DreamOptions, diary};
pub use handlers::mem_feedback::{
    FeedbackChange, FeedbackMemory, FeedbackOptions, FeedbackParts, FeedbackReport, FeedbackRequest, feedback,
};
pub use handlers::mem_read::ReadOptions;
pub use handlers::mem_update::{Trigger, Turn, TurnMemory, TurnOptions, TurnParts, turn, working_memory};
pub use handlers::refining::{WorkOptions, register_work};
pub use handlers::register_turn;
pub use label::Priority;
pub use message::{ScheduleMessage, UserContext};
pub use metrics::LabelMetrics;
pub use options::SchedulerOptions;
pub use promote::{Promoted, PromotionOptions, PromotionTarget};
pub use recent::RecentMessage;
pub use retriever::{Retriever, SearchArgs, SearchMethod};
pub use scheduler::{Scheduler, SchedulerParts};
pub use status::{ItemState, ItemStatus, RunningTask, TaskStatus};
pub use submit::Submitted;
