//! Streamed answers: server-sent events, each a JSON object, and `[DONE]` at the end.
//!
//! A stream that breaks off ends with an event that holds an error, and without `[DONE]`.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use futures::stream::unfold;
use openledger_web::limits::KEEP_ALIVE;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use super::answer::{Pieces, Reply, Shape, Usage};
use super::calls::CallReader;
use super::{ApiFailure, chat, completions};
use crate::limits;
use crate::serving::CallPiece;

/// The event after the last one, by OpenAI's reference.
const DONE: &str = "[DONE]";

/// Begins a stream once the first piece is there, so that what fails at once has its status.
///
/// # Errors
/// What failed at once.
pub(super) async fn answer(
    reply: Reply,
    mut pieces: Pieces,
    count: usize,
    wants_usage: bool,
    room: OwnedSemaphorePermit,
) -> Result<Response, ApiFailure> {
    let first = tokio::time::timeout(limits::API_FIRST_WAIT, pieces.next()).await;
    let first = match first {
        Ok(Some((_, CallPiece::Failed(failed)))) => {
            return Err(reply.failure(&failed));
        }
        Ok(first) => first,
        // A model is being loaded or fetched: signs of life follow until its first token.
        Err(_) => None,
    };
    let mut talk = Talk {
        offsets: vec![0; count],
        readers: (0..count).map(|_| reply.reader()).collect(),
        reply,
        pieces,
        wants_usage,
        usage: Usage::default(),
        queue: VecDeque::new(),
        is_over: false,
        _room: room,
    };
    for index in 0..count {
        talk.open(index);
    }
    if let Some((index, piece)) = first {
        talk.hear(index, piece);
    }
    let events = unfold(talk, |mut talk| async move {
        let data = talk.next().await?;
        Some((Ok::<_, Infallible>(Event::default().data(data)), talk))
    });
    let alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(events).keep_alive(alive).into_response())
}

/// One streamed answer.
struct Talk {
    reply: Reply,
    pieces: Pieces,
    wants_usage: bool,
    usage: Usage,
    /// Characters of each answer so far.
    offsets: Vec<usize>,
    /// What looks for calls of tools in each answer.
    readers: Vec<Option<CallReader>>,
    /// Data of events that are to be sent.
    queue: VecDeque<String>,
    is_over: bool,
    _room: OwnedSemaphorePermit,
}

impl Talk {
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(data) = self.queue.pop_front() {
                return Some(data);
            }
            if self.is_over {
                return None;
            }
            match self.pieces.next().await {
                Some((index, piece)) => self.hear(index, piece),
                None => self.finish(),
            }
        }
    }

    fn object(&self) -> &'static str {
        match self.reply.shape {
            Shape::Chat => "chat.completion.chunk",
            Shape::Completion => "text_completion",
        }
    }

    fn say(&mut self, choice: Value) {
        // Where the usage is wanted, chunks without it say so.
        let usage = self.wants_usage.then_some(Value::Null);
        let frame = self.reply.frame(self.object(), vec![choice], usage);
        self.queue.push_back(frame.to_string());
    }

    fn open(&mut self, index: usize) {
        if self.reply.shape == Shape::Chat {
            self.say(chat::opening(index));
        }
    }

    fn hear(&mut self, index: usize, piece: CallPiece) {
        match piece {
            CallPiece::Token(token) => {
                let offset = self.offsets.get(index).copied().unwrap_or_default();
                if let Some(after) = self.offsets.get_mut(index) {
                    *after += token.text.chars().count();
                }
                if let Some(Some(reader)) = self.readers.get_mut(index) {
                    let said = reader.push(&token.text);
                    for choice in chat::said(&self.reply, index, said, Some(&token)) {
                        self.say(choice);
                    }
                    return;
                }
                // Nothing to show yet, as within a character.
                if token.text.is_empty() && self.reply.logprobs.is_none() {
                    return;
                }
                let choice = match self.reply.shape {
                    Shape::Chat => chat::delta(&self.reply, index, &token),
                    Shape::Completion => completions::delta(&self.reply, index, &token, offset),
                };
                self.say(choice);
            }
            CallPiece::End(end) => {
                self.usage.add(&end);
                if let Some(Some(mut reader)) = self.readers.get_mut(index).map(Option::take) {
                    let mut said = reader.push(&end.text);
                    said.extend(reader.finish());
                    let mut choices = chat::said(&self.reply, index, said, None);
                    choices.push(chat::last(index, &end, reader.calls() > 0));
                    choices.into_iter().for_each(|choice| self.say(choice));
                    return;
                }
                for choice in match self.reply.shape {
                    Shape::Chat => chat::ending(index, &end),
                    Shape::Completion => completions::ending(index, &end),
                } {
                    self.say(choice);
                }
            }
            CallPiece::Failed(failed) => {
                let failed = self.reply.failure(&failed);
                self.queue.push_back(failed.to_json().to_string());
                self.is_over = true;
                // The other answers of the request are given up with this one.
                self.pieces.clear();
            }
        }
    }

    fn finish(&mut self) {
        if self.wants_usage {
            let usage = Some(self.usage.to_json());
            let frame = self.reply.frame(self.object(), Vec::new(), usage);
            self.queue.push_back(frame.to_string());
        }
        self.queue.push_back(DONE.to_owned());
        self.is_over = true;
    }
}
