//! From pieces of answers to JSON, whole or in chunks: what chat and completions share.

use std::collections::BTreeSet;

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use futures::stream::{BoxStream, SelectAll, unfold};
use openledger_wire::call::{Call, CallEnd, CallFailure, CallToken, FinishReason};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::calls::CallReader;
use super::fields::Fields;
use super::sampling::Streaming;
use super::server::{Context, read_body};
use super::{ApiFailure, chat, completions, stream};
use crate::limits;
use crate::serving::{CallPiece, CallStream, Serve as _, Wishes, codes, failure};
use crate::time;

/// Which of the two shapes an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completion,
}

impl Shape {
    /// The field that the prompt comes from.
    pub(super) const fn prompt(self) -> &'static str {
        match self {
            Self::Chat => "messages",
            Self::Completion => "prompt",
        }
    }
}

/// What is to be answered.
pub(super) struct Job {
    pub(super) shape: Shape,
    /// The model by the name that the client used.
    pub(super) model: String,
    /// One call for each prompt.
    pub(super) calls: Vec<Call>,
    /// What is wished of all of them.
    pub(super) wishes: Wishes,
    pub(super) streaming: Streaming,
    /// Alternatives for each token, where probabilities are wanted.
    pub(super) logprobs: Option<usize>,
    /// The tools whose calls are looked for in the answer.
    pub(super) tools: Option<BTreeSet<String>>,
    /// The field that says what the answer must look like.
    pub(super) format: &'static str,
}

/// What every chunk of an answer repeats.
pub(super) struct Reply {
    pub(super) shape: Shape,
    id: String,
    created_s: u64,
    model: String,
    /// The backend class that answers, if it is one of this node.
    class: Option<String>,
    pub(super) logprobs: Option<usize>,
    tools: Option<BTreeSet<String>>,
    format: &'static str,
}

/// Pieces of several answers with their numbers.
pub(super) type Pieces = SelectAll<BoxStream<'static, (usize, CallPiece)>>;

/// Reads from a request's fields what it asks for.
pub(super) type ReadJob = fn(&Context, &Fields) -> Result<Job, ApiFailure>;

/// Answers a request of either shape.
///
/// # Errors
/// Whatever failed before the answer began.
pub(super) async fn respond(
    context: Context,
    body: Body,
    job: ReadJob,
) -> Result<Response, ApiFailure> {
    let fields = Fields::parse(&read_body(body).await?)?;
    let job = job(&context, &fields)?;
    let room = places(&context, job.calls.len())?;
    answer(&context, job, room).await
}

async fn answer(
    context: &Context,
    job: Job,
    room: OwnedSemaphorePermit,
) -> Result<Response, ApiFailure> {
    let Job { shape, model, calls, wishes, streaming, logprobs, tools, format } = job;
    let count = calls.len();
    let mut reply = Reply::new(shape, model, logprobs, tools, format);
    reply.class = calls.first().and_then(|call| context.router().class_of(&call.model));
    let of_call = |failed| reply.failure(&failed);
    let mut pieces = Pieces::new();
    for (index, call) in calls.into_iter().enumerate() {
        let stream = context.router().call_with(call, wishes.clone()).await.map_err(of_call)?;
        pieces.push(numbered(index, stream).boxed());
    }
    if streaming.wanted {
        return stream::answer(reply, pieces, count, streaming.usage, room).await;
    }
    let (choices, usage) = whole(&reply, pieces, count).await?;
    let object = match shape {
        Shape::Chat => "chat.completion",
        Shape::Completion => "text_completion",
    };
    Ok(Json(reply.frame(object, choices, Some(usage))).into_response())
}

fn numbered(
    index: usize,
    stream: CallStream,
) -> impl futures::Stream<Item = (usize, CallPiece)> + Send + 'static {
    unfold(Some(stream), move |stream| async move {
        let mut stream = stream?;
        match stream.recv().await {
            Some(CallPiece::Token(token)) => Some(((index, CallPiece::Token(token)), Some(stream))),
            Some(last) => Some(((index, last), None)),
            None => {
                let message = "the server of this call is gone; ask again";
                let failed = failure(codes::DIED, message, 1_000);
                Some(((index, CallPiece::Failed(failed)), None))
            }
        }
    })
}

/// Collects whole answers and what they used.
async fn whole(
    reply: &Reply,
    mut pieces: Pieces,
    count: usize,
) -> Result<(Vec<Value>, Value), ApiFailure> {
    let mut answers: Vec<(String, Vec<CallToken>, Option<Value>)> =
        vec![(String::new(), Vec::new(), None); count];
    let mut usage = Usage::default();
    while let Some((index, piece)) = pieces.next().await {
        let Some((text, tokens, choice)) = answers.get_mut(index) else { continue };
        match piece {
            CallPiece::Token(token) => {
                text.push_str(&token.text);
                if reply.logprobs.is_some() {
                    tokens.push(token);
                }
            }
            CallPiece::End(end) => {
                text.push_str(&end.text);
                usage.add(&end);
                let (text, tokens) = (std::mem::take(text), std::mem::take(tokens));
                *choice = Some(match reply.shape {
                    Shape::Chat => chat::choice(reply, index, &text, &tokens, &end),
                    Shape::Completion => completions::choice(reply, index, &text, &tokens, &end),
                });
            }
            CallPiece::Failed(failed) => {
                return Err(reply.failure(&failed));
            }
        }
    }
    let choices = answers.into_iter().filter_map(|(_, _, choice)| choice).collect();
    Ok((choices, usage.to_json()))
}

/// Tokens of all answers of a request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    prompt: u64,
    completion: u64,
    cached: u64,
}

impl Usage {
    pub(super) fn add(&mut self, end: &CallEnd) {
        self.prompt = self.prompt.saturating_add(u64::from(end.prompt_tokens));
        self.completion = self.completion.saturating_add(u64::from(end.completion_tokens));
        self.cached = self.cached.saturating_add(u64::from(end.cached_tokens));
    }

    pub(super) fn to_json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt, "completion_tokens": self.completion,
            "total_tokens": self.prompt.saturating_add(self.completion),
            "prompt_tokens_details": { "cached_tokens": self.cached },
        })
    }
}

impl Reply {
    fn new(
        shape: Shape,
        model: String,
        logprobs: Option<usize>,
        tools: Option<BTreeSet<String>>,
        format: &'static str,
    ) -> Self {
        let prefix = match shape {
            Shape::Chat => "chatcmpl-",
            Shape::Completion => "cmpl-",
        };
        let id = format!("{prefix}{}", random_name());
        let class = None;
        Self { shape, id, created_s: time::now_s(), model, class, logprobs, tools, format }
    }

    /// What looks for calls of tools in an answer, where there may be some.
    pub(super) fn reader(&self) -> Option<CallReader> {
        self.tools.clone().map(CallReader::new)
    }

    /// What a call's failure means for this request.
    pub(super) fn failure(&self, failed: &CallFailure) -> ApiFailure {
        let failure = ApiFailure::of_call(failed, self.shape.prompt());
        if &*failed.code == codes::CONSTRAINT { failure.of(self.format) } else { failure }
    }

    /// The frame around choices, or around the usage alone.
    pub(super) fn frame(&self, object: &str, choices: Vec<Value>, usage: Option<Value>) -> Value {
        let mut frame = json!({
            "id": self.id, "object": object, "created": self.created_s, "model": self.model,
            "system_fingerprint": self.class, "choices": choices,
        });
        if let Some(usage) = usage {
            frame["usage"] = usage;
        }
        frame
    }
}

/// Why an answer ended, in OpenAI's words.
pub(super) const fn reason(end: &CallEnd) -> &'static str {
    match end.reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    }
}

/// Names an answer or a request: 24 hexadecimal digits.
pub(super) fn random_name() -> String {
    let mut bytes = [0; 12];
    // A name only: without randomness it is all zeros.
    let _ = getrandom::fill(&mut bytes);
    hex::encode(bytes)
}

/// Places for calls at the same time: one for each prompt.
///
/// # Errors
/// When there are none left.
pub(super) fn places(context: &Context, count: usize) -> Result<OwnedSemaphorePermit, ApiFailure> {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    context.room().try_acquire_many_owned(count).map_err(|_| {
        let most = limits::API_CALLS_MAX;
        ApiFailure::busy(format!(
            "this node takes {most} requests at a time and has that many; ask again"
        ))
    })
}
