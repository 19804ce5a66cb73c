//! Calls while things go wrong: streams whose server is killed in the middle, and calls of models
//! that nobody has. Whoever calls sees an answer or an error with a code, and never waits in vain.

use std::collections::BTreeMap;

use anyhow::Context as _;
use openledger_wire::BlobId;
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::limits;
use crate::nodes::Member;

/// What is asked where a long answer is wanted.
const STORY: &str = "Tell me a long story about a lighthouse and the people who kept it.";

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With all of its answer.
    Whole,
    /// With an error that has this code.
    Typed(String),
    /// Without an end, or with something that is no such error.
    Odd(String),
    /// Not at all, within [`limits::STREAM_TIME_MAX`].
    Never,
}

/// What callers saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Streams whose server was killed before they had ended.
    pub cut: u64,
    /// Of these, that came whole nevertheless.
    pub whole: u64,
    /// Of these, that ended with an error with a code, by that code.
    pub typed: BTreeMap<String, u64>,
    /// Of these, that ended otherwise, each with what was seen.
    pub odd: Vec<String>,
    /// Of these, that did not end.
    pub never: u64,
    /// Calls that went on at another server, as the callers' nodes counted.
    pub resumed: u64,
    /// Calls of models and adapters that nobody has.
    pub unknown: u64,
    /// Of these, not answered by the error that says so.
    pub unknown_odd: Vec<String>,
}

impl Calls {
    /// Adds a stream whose server was killed.
    pub fn add(&mut self, end: End) {
        self.cut += 1;
        match end {
            End::Whole => self.whole += 1,
            End::Typed(code) => *self.typed.entry(code).or_default() += 1,
            End::Odd(seen) => self.odd.push(seen),
            End::Never => self.never += 1,
        }
    }
}

/// A stream that is being read.
#[derive(Debug)]
pub struct Stream {
    /// Its first words.
    begun: oneshot::Receiver<()>,
    reading: JoinHandle<End>,
}

impl Stream {
    /// Waits for its first words; says whether they came before its end.
    pub async fn has_begun(&mut self) -> bool {
        timeout(limits::STREAM_TIME_MAX, &mut self.begun).await.is_ok_and(|begun| begun.is_ok())
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.reading.is_finished()
    }

    /// Waits for its end.
    pub async fn end(self) -> End {
        self.reading.await.unwrap_or_else(|error| End::Odd(error.to_string()))
    }
}

/// Asks a node for a long answer, as a stream.
///
/// # Errors
/// When the node has no API.
pub async fn open(http: &Client, member: &Member, model: &str) -> anyhow::Result<Stream> {
    let body = json!({
        "model": model, "stream": true, "temperature": 0.7, "seed": 11,
        "max_tokens": limits::STREAM_TOKENS_MAX,
        "messages": [{ "role": "user", "content": STORY }],
    });
    let request = request(http, member, &body).await?;
    let (sender, begun) = oneshot::channel();
    let reading = tokio::spawn(async move {
        let read = async {
            let answer = request.send().await.map_err(|error| End::Odd(error.to_string()));
            read(answer?, sender).await
        };
        match timeout(limits::STREAM_TIME_MAX, read).await {
            Ok(Ok(end)) | Ok(Err(end)) => end,
            Err(_) => End::Never,
        }
    });
    Ok(Stream { begun, reading })
}

async fn request(
    http: &Client,
    member: &Member,
    body: &Value,
) -> anyhow::Result<reqwest::RequestBuilder> {
    let control = member.control_file().await?;
    let api = control.api.context("find the API: the node has none; see api.enabled")?;
    let url = format!("{}/chat/completions", api.trim_end_matches('/'));
    Ok(http.post(url).bearer_auth(&control.token).json(body))
}

async fn read(mut answer: Response, begun: oneshot::Sender<()>) -> Result<End, End> {
    if !answer.status().is_success() {
        return Ok(refusal(answer).await);
    }
    let (mut text, mut begun) = (Vec::new(), Some(begun));
    while let Some(piece) = answer.chunk().await.map_err(|error| End::Odd(error.to_string()))? {
        text.extend_from_slice(&piece);
        if text.len() > limits::STREAM_BYTES_MAX {
            return Err(End::Odd("the stream is too long".to_owned()));
        }
        let said = String::from_utf8_lossy(&text);
        if has_words(&said)
            && let Some(begun) = begun.take()
        {
            // Nobody may wait for it.
            let _ = begun.send(());
        }
    }
    Ok(end_of(&String::from_utf8_lossy(&text)))
}

/// The data of whole events.
fn events(text: &str) -> impl Iterator<Item = &str> {
    let whole = text.rfind('\n').and_then(|end| text.get(..end)).unwrap_or_default();
    whole.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim)
}

fn has_words(text: &str) -> bool {
    let content = |event: &str| {
        let value: Value = serde_json::from_str(event).ok()?;
        let content = value.pointer("/choices/0/delta/content")?.as_str()?;
        (!content.is_empty()).then_some(())
    };
    events(text).any(|event| content(event).is_some())
}

fn end_of(text: &str) -> End {
    let Some(last) = events(text).last() else { return End::Odd("an empty stream".to_owned()) };
    if last == "[DONE]" {
        return End::Whole;
    }
    match serde_json::from_str(last).ok().as_ref().and_then(code_of) {
        Some(code) => End::Typed(code),
        None => End::Odd(format!("the stream ends after {last}")),
    }
}

fn code_of(value: &Value) -> Option<String> {
    value.pointer("/error/code")?.as_str().map(str::to_owned)
}

/// What an answer says that is no success.
async fn refusal(answer: Response) -> End {
    let status = answer.status();
    let text = answer.text().await.unwrap_or_default();
    match serde_json::from_str(&text).ok().as_ref().and_then(code_of) {
        Some(code) => End::Typed(code),
        None => End::Odd(format!("{status}: {text}")),
    }
}

/// Calls what nobody has: a name, an id, and an adapter, whole and as a stream.
///
/// # Errors
/// When the node has no API.
pub async fn call_unknown(http: &Client, member: &Member, calls: &mut Calls) -> anyhow::Result<()> {
    let id = BlobId([0xAB; 32]).to_string();
    for model in ["nobody-has-this", &id, "adapter99"] {
        for is_stream in [false, true] {
            let body = json!({
                "model": model, "stream": is_stream,
                "messages": [{ "role": "user", "content": "Who are you?" }],
            });
            let request = request(http, member, &body).await?;
            let end = match timeout(limits::STREAM_TIME_MAX, request.send()).await {
                Err(_) => End::Never,
                Ok(Err(error)) => End::Odd(error.to_string()),
                Ok(Ok(answer)) if answer.status() == 404 => refusal(answer).await,
                Ok(Ok(answer)) => End::Odd(format!("it answers {}", answer.status())),
            };
            calls.unknown += 1;
            if end != End::Typed("model_not_found".to_owned()) {
                calls.unknown_odd.push(format!("{model} through {}: {end:?}", member.name));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_stream_is_whole_typed_or_odd() {
        let start = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n";
        let words = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
        assert!(!has_words(start) && has_words(&format!("{start}: alive\n\n{words}")));
        assert!(!has_words(words.trim_end()), "half an event is none yet");
        assert_eq!(end_of(&format!("{start}{words}data: [DONE]\n\n")), End::Whole);
        let error = "data: {\"error\":{\"code\":\"peer_lost\",\"message\":\"gone\"}}\n\n";
        assert_eq!(end_of(&format!("{words}{error}")), End::Typed("peer_lost".to_owned()));
        for broken in ["", words, start, ": alive\n\n"] {
            assert!(matches!(end_of(broken), End::Odd(_)), "{broken:?}");
        }
    }

    #[test]
    fn ends_are_counted_apart() {
        let mut calls = Calls::default();
        for end in [
            End::Whole,
            End::Typed("peer_lost".to_owned()),
            End::Typed("peer_lost".to_owned()),
            End::Odd("half".to_owned()),
            End::Never,
        ] {
            calls.add(end);
        }
        assert_eq!((calls.cut, calls.whole, calls.never), (5, 1, 1));
        assert_eq!((calls.typed["peer_lost"], calls.odd.len()), (2, 1));
    }
}
