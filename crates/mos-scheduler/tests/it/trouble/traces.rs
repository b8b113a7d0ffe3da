//! What a request set going can be followed by its trace id.

use std::fmt;

use mos_scheduler::{HandlerContext, HandlerError, Registration, ScheduleMessage};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::{Seen, in_memory, message, options, scheduler, settle, submit};

/// The trace that is followed: spans of other tests are not noted.
const TRACE: &str = "a-trace-that-is-followed";

/// Notes the trace ids of the spans that are opened.
struct Spans(Seen);

impl Subscriber for Spans {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut TraceIds(&self.0));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct TraceIds<'a>(&'a Seen);

impl Visit for TraceIds<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "trace_id" && format!("{value:?}") == TRACE {
            self.0.note(TRACE);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_trace_id_of_a_message_goes_to_its_handler_to_what_follows_and_to_the_log() {
    let logged = Seen::default();
    // For all tests of this program: what others open first, without a subscriber, would keep spans from telling this one.
    tracing::subscriber::set_global_default(Spans(logged.clone())).unwrap();
    let stores = in_memory();
    let (scheduler, seen) = (scheduler(&stores, options()), Seen::default());
    let relay = |context: HandlerContext, messages: Vec<ScheduleMessage>| {
        let following: Vec<ScheduleMessage> = messages.iter().map(|message| message.with_label("read")).collect();
        async move { context.submit(following).await.map(drop) }
    };
    let noted = seen.clone();
    let last = move |_: HandlerContext, messages: Vec<ScheduleMessage>| {
        messages.iter().for_each(|message| noted.note(&message.trace_id));
        async { Ok::<(), HandlerError>(()) }
    };
    scheduler.register_handlers([("add", Registration::new(relay)), ("read", Registration::new(last))]).unwrap();
    let mut first = message("add", "x");
    TRACE.clone_into(&mut first.trace_id);
    submit(&scheduler, [&first]).await;
    scheduler.start();
    settle(&scheduler).await;
    scheduler.stop().await;
    assert_eq!(seen.all(), std::slice::from_ref(&first.trace_id), "what follows has it too");
    assert_eq!(logged.count(&first.trace_id), 2, "one span for each batch");
}
