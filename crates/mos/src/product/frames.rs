//! What streams of the product API consist of.

use std::future::Future;

use futures::future;
use futures::stream::{self, BoxStream, StreamExt};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// How many frames may wait for their reader.
const CAPACITY: usize = 16;

/// A frame of a stream. Its JSON is what a server writes behind `data: `, followed by an empty line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Frame {
    /// What it is: `text`, `reasoning`, `status`, `reference`, `error` ...
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    /// What an error that ends the stream says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// Frames as they come. Dropping it ends what makes them.
pub type FrameStream = BoxStream<'static, Frame>;

impl Frame {
    /// Returns a frame with data.
    pub fn new(kind: &'static str, data: impl Into<Value>) -> Self {
        Self { kind, data: Some(data.into()), content: None }
    }

    /// Returns a piece of the answer.
    pub fn text(text: impl Into<String>) -> Self {
        let text: String = text.into();
        Self::new("text", text)
    }

    /// Returns a piece of what the model thinks before its answer.
    pub fn reasoning(text: impl Into<String>) -> Self {
        let text: String = text.into();
        Self::new("reasoning", text)
    }

    /// Returns a word on what happens now.
    pub fn status(word: &str) -> Self {
        Self::new("status", word)
    }

    /// Returns the frame with which a stream that has failed ends.
    pub fn error(message: impl Into<String>) -> Self {
        Self { kind: "error", data: None, content: Some(message.into()) }
    }

    /// Returns the frame with which a stream that has all its frames ends, where streams say so.
    pub fn end() -> Self {
        Self { kind: "end", data: None, content: None }
    }

    /// Returns the frame as a server sends it.
    pub fn to_event(&self) -> String {
        format!("data: {}\n\n", json!(self))
    }
}

/// Where frames are put on their way out.
#[derive(Debug)]
pub(super) struct Out<T>(mpsc::Sender<T>);

impl<T: Send> Out<T> {
    /// Passes a frame on, when there is room for it.
    pub(super) async fn send(&self, frame: T) {
        // The reader goes together with whoever sends: both are one stream.
        let _is_sent = self.0.send(frame).await.is_ok();
    }
}

/// Returns the stream of what a task puts out. The task is a part of the stream: it goes on while the stream is read, and is
/// cancelled when that is dropped.
pub(super) fn frames<T, Making>(make: impl FnOnce(Out<T>) -> Making) -> BoxStream<'static, T>
where
    T: Send + 'static,
    Making: Future<Output = ()> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(CAPACITY);
    let making = stream::once(make(Out(sender))).filter_map(|()| future::ready(None::<T>));
    let made = stream::unfold(receiver, |mut receiver| async move {
        let frame = receiver.recv().await?;
        Some((frame, receiver))
    });
    stream::select(made, making).boxed()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn frames_say_what_they_are_and_errors_their_content() {
        assert_eq!(Frame::text("hi").to_event(), "data: {\"type\":\"text\",\"data\":\"hi\"}\n\n");
        assert_eq!(json!(Frame::status("0")), json!({"type": "status", "data": "0"}));
        assert_eq!(json!(Frame::error("no")), json!({"type": "error", "content": "no"}));
        assert_eq!(json!(Frame::end()), json!({"type": "end"}));
    }

    #[tokio::test]
    async fn a_stream_has_every_frame_in_order_and_ends() {
        let made = frames(|out: Out<usize>| async move {
            for number in 0..100 {
                out.send(number).await;
                tokio::task::yield_now().await;
            }
        });
        let read: Vec<usize> = made.collect().await;
        assert_eq!(read, (0..100).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn dropping_a_stream_cancels_what_makes_it() {
        struct Noticed(Arc<AtomicBool>);
        impl Drop for Noticed {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let is_gone = Arc::new(AtomicBool::new(false));
        let noticed = Noticed(Arc::clone(&is_gone));
        let mut made = frames(|out: Out<usize>| async move {
            let _noticed = noticed;
            out.send(1).await;
            future::pending::<()>().await;
        });
        assert_eq!(made.next().await, Some(1));
        assert!(!is_gone.load(Ordering::SeqCst));
        drop(made);
        assert!(is_gone.load(Ordering::SeqCst));
    }
}
