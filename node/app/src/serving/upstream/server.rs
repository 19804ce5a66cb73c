//! One server: what it lists, and calls to it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use openledger_wire::call::{Call, CallFailure, Embed, Embedded, Prompt};
use openledger_wire::gossip::Offer;
use openledger_wire::{Blob, BlobId, List, UnixMs};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::UpstreamView;
use super::ask::{Asked, asked};
use super::config::UpstreamConfig;
use super::events::{Answer, Lines, odd, of_request, said};
use super::list::{Listed, models, numbered};
use crate::data_dir::read_bounded;
use crate::node::lock;
use crate::serving::{CallPiece, CallStream, Wishes, codes, failure};
use crate::{limits, time};

/// A server of the owner.
pub(super) struct Server {
    pub(super) config: UpstreamConfig,
    url: String,
    client: Result<Client, String>,
    known: Mutex<Known>,
    calls: AtomicU64,
    failed: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    listed: Vec<Listed>,
    /// When it last answered.
    heard: Option<UnixMs>,
    problem: Option<String>,
}

impl Server {
    pub(super) fn new(config: UpstreamConfig) -> Self {
        let url = config.base_url();
        Self {
            client: client(&url).map_err(|error| error.to_string()),
            url,
            config,
            known: Mutex::default(),
            calls: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// What it offers, as long as it was heard of lately.
    pub(super) fn offers(&self) -> Vec<Offer> {
        self.listed().iter().map(Listed::offer).collect()
    }

    fn listed(&self) -> Vec<Listed> {
        let known = lock(&self.known);
        let now = time::now();
        let is_fresh = |at: UnixMs| now.0.saturating_sub(at.0) < limits::UPSTREAM_FRESH_MS;
        if known.heard.is_some_and(is_fresh) { known.listed.clone() } else { Vec::new() }
    }

    pub(super) fn has(&self, model: &BlobId) -> bool {
        self.listed().iter().any(|listed| listed.id == *model)
    }

    pub(super) fn view(&self) -> UpstreamView {
        let listed = self.listed();
        let adapters = listed.iter().filter(|one| one.base.is_some()).count();
        let known = lock(&self.known);
        UpstreamView {
            name: self.config.shown_name(),
            url: self.url.clone(),
            class: super::CLASS.to_owned(),
            models: listed
                .iter()
                .filter(|one| one.base.is_none())
                .map(|one| one.name.clone())
                .collect(),
            adapters: adapters as u64,
            heard: known.heard,
            problem: known.problem.clone(),
            calls: self.calls.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            shared: self.config.share,
        }
    }

    /// Asks what it has; says whether that changed.
    pub(super) async fn look(&self) -> bool {
        let found = self.list().await;
        let mut known = lock(&self.known);
        match found {
            Ok(listed) => {
                if known.problem.take().is_some() || known.heard.is_none() {
                    let (name, count) = (self.config.shown_name(), listed.len());
                    tracing::info!(name, models = count, "an upstream server answers");
                }
                known.heard = Some(time::now());
                let changed = known.listed != listed;
                known.listed = listed;
                changed
            }
            Err(problem) => {
                if known.problem.as_ref() != Some(&problem) {
                    let name = self.config.shown_name();
                    tracing::warn!(name, "an upstream server gives no list of models: {problem}");
                }
                known.problem = Some(problem);
                false
            }
        }
    }

    async fn list(&self) -> Result<Vec<Listed>, String> {
        let body = self.get("/v1/models").await?;
        let UpstreamConfig { models: allowed, adapters, .. } = &self.config;
        let mut listed = models(&self.url, &body, allowed, *adapters)?;
        // One base and no adapters as models: it may be llama.cpp's server.
        if let [base] = listed.as_slice()
            && *adapters
            && let Ok(body) = self.get("/lora-adapters").await
        {
            let base = base.id;
            listed.extend(numbered(&self.url, &body, base));
        }
        Ok(listed)
    }

    async fn get(&self, path: &str) -> Result<Vec<u8>, String> {
        let request =
            self.request(Method::GET, path).await.map_err(|error| error.message.to_string())?;
        let sent = request.timeout(limits::UPSTREAM_LIST_TIME_MAX).send().await;
        let answer = sent.map_err(|error| plain(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(refusal(answer).await.message.to_string());
        }
        bounded(answer, limits::UPSTREAM_LIST_BYTES_MAX).await
    }

    async fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, CallFailure> {
        let client =
            self.client.as_ref().map_err(|error| odd(&format!("cannot be used: {error}")))?;
        let request = client.request(method, format!("{}{path}", self.url));
        Ok(match self.key().await? {
            Some(key) => request.bearer_auth(key),
            None => request,
        })
    }

    /// The key; one in a file is read each time, so that it can be changed.
    async fn key(&self) -> Result<Option<String>, CallFailure> {
        let Some(path) = self.config.key_file.clone() else {
            return Ok(Some(self.config.key.clone()).filter(|key| !key.is_empty()));
        };
        let max = limits::UPSTREAM_KEY_LEN_MAX as u64;
        let read = tokio::task::spawn_blocking(move || read_bounded(&path, max)).await;
        let text = match read {
            Ok(Ok(Some(bytes))) => String::from_utf8(bytes).ok(),
            _ => None,
        };
        let key = text
            .map(|text| text.trim().to_owned())
            .filter(|key| !key.is_empty() && key.chars().all(|c| c.is_ascii_graphic()));
        key.map(Some).ok_or_else(|| odd("wants a key, and upstream.key_file holds none that reads"))
    }

    /// Begins a call.
    ///
    /// # Errors
    /// What the server says in place of an answer.
    pub(super) async fn call(
        &self,
        call: &Call,
        wishes: &Wishes,
    ) -> Result<CallStream, CallFailure> {
        let begun = self.begin(call, wishes).await;
        let counter = if begun.is_ok() { &self.calls } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        begun
    }

    async fn begin(&self, call: &Call, wishes: &Wishes) -> Result<CallStream, CallFailure> {
        let listed = self.listed();
        let base = listed.iter().find(|one| one.id == call.model && one.base.is_none());
        let base = base.ok_or_else(|| {
            failure(codes::UNKNOWN_MODEL, "the server behind this node has this model no more", 0)
        })?;
        let Asked { path, body, is_chat } = asked(call, wishes, base, &listed)?;
        let sending = self.request(Method::POST, path).await?.json(&body).send();
        let time_max = match wishes.timeout_ms {
            0 => limits::UPSTREAM_BEGIN_TIME_MAX,
            ms => Duration::from_millis(u64::from(ms)).min(limits::UPSTREAM_BEGIN_TIME_MAX),
        };
        let answer = match tokio::time::timeout(time_max, sending).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(odd(&format!("does not answer: {}", plain(&error)))),
            Err(_) if wishes.timeout_ms > 0 => {
                let message = "the server behind this node did not begin before the deadline";
                return Err(failure(codes::DEADLINE, message, 0));
            }
            Err(_) => return Err(odd("does not begin to answer")),
        };
        if answer.status() != StatusCode::OK {
            return Err(refusal(answer).await);
        }
        let (pieces, stream) = mpsc::channel(limits::CALL_PIECES_MAX);
        tokio::spawn(pump(answer, Answer::new(is_chat, call.tokens_max), call.tokens_max, pieces));
        Ok(stream)
    }

    /// Turns texts into vectors.
    ///
    /// # Errors
    /// What the server says in place of them.
    pub(super) async fn embed(&self, embed: &Embed) -> Result<Embedded, CallFailure> {
        let listed = self.listed();
        let named = match embed.adapters.first() {
            None => listed.iter().find(|one| one.id == embed.model),
            Some((id, 1_000)) if embed.adapters.len() == 1 => {
                listed.iter().find(|one| one.id == *id && one.number.is_none())
            }
            Some(_) => None,
        };
        let named = named.ok_or_else(|| {
            let message = "the server behind this node makes no vectors with these adapters";
            failure(codes::INVALID, message, 0)
        })?;
        let input = |prompt: &Prompt| match prompt {
            Prompt::Text(text) => Ok(json!(&**text)),
            Prompt::Tokens(tokens) => Ok(json!(tokens.to_vec())),
            Prompt::Chat(_) => {
                Err(failure(codes::INVALID, "vectors are made of texts or tokens", 0))
            }
        };
        let input: Vec<Value> = embed.inputs.iter().map(input).collect::<Result<_, _>>()?;
        let body = json!({ "model": named.name, "input": input, "encoding_format": "float" });
        let request = self.request(Method::POST, "/v1/embeddings").await?;
        let sent = request.timeout(limits::EMBED_TIME_MAX).json(&body).send().await;
        let answer = sent.map_err(|error| odd(&format!("does not answer: {}", plain(&error))))?;
        if answer.status() != StatusCode::OK {
            return Err(refusal(answer).await);
        }
        let bytes = bounded(answer, limits::UPSTREAM_ANSWER_BYTES_MAX).await;
        let bytes = bytes.map_err(|reason| odd(&format!("broke off: {reason}")))?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|_| odd("sends no JSON"))?;
        vectors(&value, embed.inputs.len())
    }
}

/// Vectors of length 1, as many as were asked for.
fn vectors(value: &Value, count: usize) -> Result<Embedded, CallFailure> {
    let wrong = || odd("sends vectors that do not read");
    let data = value.get("data").and_then(Value::as_array).filter(|data| data.len() == count);
    let mut vectors = Vec::with_capacity(count);
    for one in data.ok_or_else(wrong)? {
        let numbers = one.get("embedding").and_then(Value::as_array).ok_or_else(wrong)?;
        let numbers: Option<Vec<f64>> = numbers.iter().map(Value::as_f64).collect();
        let numbers = numbers.ok_or_else(wrong)?;
        let length = numbers.iter().map(|number| number * number).sum::<f64>().sqrt();
        let unit = if length > 0.0 { length } else { 1.0 };
        let bytes = numbers.iter().flat_map(|number| ((number / unit) as f32).to_le_bytes());
        vectors.push(Blob::new(bytes.collect::<Vec<u8>>()).map_err(|_| wrong())?);
    }
    let tokens = value.get("usage").and_then(|usage| usage.get("prompt_tokens")?.as_u64());
    let prompt_tokens = u32::try_from(tokens.unwrap_or(0)).unwrap_or(u32::MAX);
    Ok(Embedded { vectors: List::new(vectors).map_err(|_| wrong())?, prompt_tokens })
}

/// Hands an answer on until it ends, or nobody wants it any more; then the connection is closed,
/// by which servers know that they can stop.
async fn pump(answer: Response, reader: Answer, tokens_max: u32, pieces: mpsc::Sender<CallPiece>) {
    let last = tokio::select! {
        ended = read(answer, reader, tokens_max, &pieces) => match ended {
            Ok(last) => last,
            Err(failed) => Some(CallPiece::Failed(failed)),
        },
        () = pieces.closed() => None,
    };
    if let Some(last) = last {
        // Closed by a caller who has gone.
        let _ = pieces.send(last).await;
    }
}

/// Reads an answer; gives its end, or nothing if nobody listens.
async fn read(
    answer: Response,
    mut reader: Answer,
    tokens_max: u32,
    pieces: &mpsc::Sender<CallPiece>,
) -> Result<Option<CallPiece>, CallFailure> {
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let is_stream = !kind.unwrap_or_default().starts_with("application/json");
    let per_token = limits::UPSTREAM_TOKEN_BYTES_MAX;
    let tokens = usize::try_from(tokens_max).unwrap_or(usize::MAX);
    let bytes_max =
        tokens.saturating_mul(per_token).saturating_add(limits::UPSTREAM_LINE_BYTES_MAX);
    let bytes_max = bytes_max.min(limits::UPSTREAM_ANSWER_BYTES_MAX);
    if !is_stream {
        let body = bounded(answer, bytes_max).await;
        let body = body.map_err(|reason| odd(&format!("broke off: {reason}")))?;
        let whole: Value = serde_json::from_slice(&body).map_err(|_| odd("sends no JSON"))?;
        return pass(reader.chunk(&whole)?, pieces)
            .await
            .map_or(Ok(None), |()| reader.end().map(|end| Some(CallPiece::End(end))));
    }
    let (mut lines, mut chunks) = (Lines::default(), answer.bytes_stream());
    while !reader.is_done() {
        // After the end only the usage may follow, which servers without it leave out.
        let patience = if reader.has_ended() {
            limits::UPSTREAM_USAGE_TIME_MAX
        } else {
            limits::UPSTREAM_STALL
        };
        let piece = match tokio::time::timeout(patience, chunks.next()).await {
            Ok(Some(Ok(piece))) => piece,
            Ok(Some(Err(error))) if !reader.has_ended() => {
                return Err(odd(&format!("broke off: {}", plain(&error))));
            }
            Err(_) if !reader.has_ended() => return Err(odd("does not go on with its answer")),
            _ => break,
        };
        for line in lines.push(&piece, bytes_max)? {
            if pass(reader.line(&line)?, pieces).await.is_none() {
                return Ok(None);
            }
        }
    }
    if !reader.is_done() {
        let line = lines.rest();
        if pass(reader.line(&line)?, pieces).await.is_none() {
            return Ok(None);
        }
    }
    Ok(Some(CallPiece::End(reader.end()?)))
}

/// Hands tokens on; nothing if nobody listens.
async fn pass(
    tokens: Vec<openledger_wire::call::CallToken>,
    pieces: &mpsc::Sender<CallPiece>,
) -> Option<()> {
    for token in tokens {
        pieces.send(CallPiece::Token(token)).await.ok()?;
    }
    Some(())
}

/// What a status other than 200 means for a call.
async fn refusal(answer: Response) -> CallFailure {
    let status = answer.status();
    let after = answer.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok());
    let after_s: Option<u32> = after.and_then(|after| after.trim().parse().ok());
    let body = bounded(answer, limits::UPSTREAM_ERROR_BYTES_MAX).await.unwrap_or_default();
    let value: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let message = said(value.get("error").unwrap_or(&value));
    let after_ms =
        after_s.map_or(1_000, |s| s.saturating_mul(1_000)).min(limits::UPSTREAM_AFTER_MS_MAX);
    match status.as_u16() {
        300..=399 => {
            odd(&format!("sends elsewhere ({status}), which is not followed; set upstream.url"))
        }
        400 | 413 | 422 => of_request(&message),
        401 | 403 => {
            let message =
                format!("the server behind this node refuses its key ({status}); see upstream.key");
            failure(codes::UPSTREAM, &message, 0)
        }
        404 => {
            let message = format!("the server behind this node does not know it: {message}");
            failure(codes::UNKNOWN_MODEL, &message, 0)
        }
        429 | 503 => {
            let message = format!("the server behind this node is busy: {message}");
            failure(codes::BUSY, &message, after_ms.max(100))
        }
        _ => odd(&format!("answers {status}: {message}")),
    }
}

/// A body up to a bound.
async fn bounded(answer: Response, bytes_max: usize) -> Result<Vec<u8>, String> {
    let (mut bytes, mut chunks) = (Vec::new(), answer.bytes_stream());
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk.map_err(|error| plain(&error))?);
        if bytes.len() > bytes_max {
            return Err(format!("its answer has more than {bytes_max} bytes"));
        }
    }
    Ok(bytes)
}

fn client(url: &str) -> reqwest::Result<Client> {
    let builder = Client::builder()
        .redirect(Policy::none())
        .connect_timeout(limits::UPSTREAM_CONNECT_TIME_MAX)
        .user_agent(concat!("openledger/", env!("CARGO_PKG_VERSION")));
    // What is on this machine or named by its number needs nobody in between.
    let parsed = Url::parse(url).ok();
    let host = parsed.as_ref().and_then(Url::host_str).unwrap_or_default();
    let is_near =
        host == "localhost" || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    if is_near { builder.no_proxy().build() } else { builder.build() }
}

/// An error in words, with its cause and without addresses.
fn plain(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() {
        "it takes too long".to_owned()
    } else if error.is_connect() {
        "nobody listens there".to_owned()
    } else {
        "the connection broke".to_owned()
    };
    let mut cause = std::error::Error::source(error);
    while let Some(one) = cause {
        if one.source().is_none() {
            text += &format!(" ({one})");
        }
        cause = one.source();
    }
    text
}
