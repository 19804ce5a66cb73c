//! Server-sent events: what changed, told to every open page.
//!
//! Events are hints. A reader that was too slow gets one named `lagged` and loads the page anew.

use std::convert::Infallible;

use axum::response::sse::{Event, KeepAlive, KeepAliveStream, Sse};
use futures::stream::{Stream, unfold};
use serde::Serialize;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::limits;

/// Where events are published. Clones publish to the same readers.
#[derive(Debug, Clone)]
pub struct Live(broadcast::Sender<(&'static str, String)>);

/// The answer of a route that streams events.
pub type LiveEvents = Sse<KeepAliveStream<EventStream>>;

/// A boxed stream of events.
pub type EventStream =
    std::pin::Pin<Box<dyn Stream<Item = Result<Event, Infallible>> + Send + 'static>>;

impl Default for Live {
    fn default() -> Self {
        Self(broadcast::channel(limits::LIVE_QUEUE).0)
    }
}

impl Live {
    /// Tells all open pages. An event that cannot be written as JSON is dropped.
    pub fn publish<T: Serialize>(&self, name: &'static str, data: &T) {
        if let Ok(json) = serde_json::to_string(data) {
            // No reader is no error.
            let _ = self.0.send((name, json));
        }
    }

    /// The events from now on, as an answer.
    pub fn subscribe(&self) -> LiveEvents {
        let stream = unfold(self.0.subscribe(), |mut receiver| async move {
            let event = match receiver.recv().await {
                Ok((name, json)) => Event::default().event(name).data(json),
                Err(RecvError::Lagged(missed)) => {
                    Event::default().event("lagged").data(missed.to_string())
                }
                Err(RecvError::Closed) => return None,
            };
            Some((Ok(event), receiver))
        });
        let stream: EventStream = Box::pin(stream);
        Sse::new(stream).keep_alive(KeepAlive::new().interval(limits::KEEP_ALIVE))
    }
}
