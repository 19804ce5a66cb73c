//! Servers of the owner behind a node: listed, called, broken off, and never believed more than is
//! bounded. They are real HTTP servers that behave as vLLM's and llama.cpp's do, or worse.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::stream::{self, Stream, StreamExt as _};
use openledger_app::serving::{
    CallPiece, InferenceConfig, Library, LocalServe, ModelsConfig, Serve, UpstreamConfig,
    Upstreams, Wishes, WithUpstreams, codes, whole,
};
use openledger_wire::call::{Call, CallToken, Embed, FinishReason, Prompt};
use openledger_wire::{BlobId, List, Prose};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fake_serve::call;
use crate::process::{command, until};
use crate::workers::program;

const KEY: &str = "sk-the-owners-secret";

/// What the server was asked, and what became of it.
#[derive(Clone, Default)]
struct Seen {
    bodies: Arc<Mutex<Vec<Value>>>,
    dropped: Arc<AtomicBool>,
    elsewhere: Arc<AtomicU64>,
    is_llama: bool,
}

impl Seen {
    fn last(&self) -> Value {
        self.bodies.lock().unwrap().last().cloned().unwrap()
    }
}

async fn listen(seen: Seen) -> SocketAddr {
    let routes = Router::new()
        .route("/v1/models", get(models))
        .route("/lora-adapters", get(adapters))
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(plain))
        .route("/v1/embeddings", post(embeddings))
        .route("/elsewhere", post(elsewhere))
        .with_state(seen);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
}

fn is_keyed(headers: &HeaderMap) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    given == Some(&format!("Bearer {KEY}"))
}

async fn models(State(seen): State<Seen>, headers: HeaderMap) -> Response {
    if !is_keyed(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let data = if seen.is_llama {
        json!([{"id": "llama", "object": "model", "owned_by": "llamacpp"}])
    } else {
        json!([
            {"id": "meta/base", "object": "model", "parent": null, "max_model_len": 4096},
            {"id": "sql-lora", "object": "model", "parent": "meta/base", "root": "/loras/sql"},
            {"id": "hidden", "object": "model", "parent": null},
        ])
    };
    Json(json!({"object": "list", "data": data})).into_response()
}

async fn adapters(State(seen): State<Seen>) -> Response {
    if !seen.is_llama {
        return StatusCode::NOT_FOUND.into_response();
    }
    Json(json!([
        {"id": 0, "path": "/loras/poet.gguf", "scale": 1.0},
        {"id": 1, "path": "/loras/cook.gguf", "scale": 1.0},
    ]))
    .into_response()
}

async fn elsewhere(State(seen): State<Seen>) -> &'static str {
    seen.elsewhere.fetch_add(1, Ordering::Relaxed);
    "never"
}

/// Notes that the connection of an answer was closed.
struct Guard(Arc<AtomicBool>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn events(lines: impl Stream<Item = String> + Send + 'static, seen: &Seen) -> Response {
    let guard = Guard(Arc::clone(&seen.dropped));
    let body = lines.map(move |line| {
        let _kept = &guard;
        Ok::<_, Infallible>(Bytes::from(line))
    });
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    (kind, Body::from_stream(body)).into_response()
}

fn chunk(text: &str) -> String {
    let choice = json!({"index": 0, "delta": {"content": text}, "finish_reason": null});
    format!("data: {}\n\n", json!({"object": "chat.completion.chunk", "choices": [choice]}))
}

fn ending() -> Vec<String> {
    let last = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    let usage = json!({"choices": [], "usage": {
        "prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 8},
    }});
    vec![format!("data: {last}\n\n"), format!("data: {usage}\n\n"), "data: [DONE]\n\n".to_owned()]
}

async fn chat(State(seen): State<Seen>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    if !is_keyed(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    seen.bodies.lock().unwrap().push(body.clone());
    let asked = body["messages"][0]["content"].as_str().unwrap_or_default().to_owned();
    let refused = |status: StatusCode, message: &str| {
        (status, Json(json!({"error": {"message": message, "code": status.as_u16()}})))
            .into_response()
    };
    match asked.as_str() {
        "busy" => {
            let after = [(header::RETRY_AFTER, "7")];
            (after, refused(StatusCode::TOO_MANY_REQUESTS, "slow down")).into_response()
        }
        "long" => refused(StatusCode::BAD_REQUEST, "This model's maximum context length is 10"),
        "odd" => refused(StatusCode::BAD_REQUEST, "temperature must be finite"),
        "broken" => refused(StatusCode::INTERNAL_SERVER_ERROR, "out of memory"),
        "redirect" => Redirect::temporary("/elsewhere").into_response(),
        "garbage" => events(stream::iter(["data: {oops\n\n".to_owned()]), &seen),
        "late error" => {
            let error = r#"data: {"error": {"message": "the engine died", "code": 500}}"#;
            events(stream::iter([chunk("a"), format!("{error}\n\n")]), &seen)
        }
        "cut" => events(stream::iter([chunk("a"), chunk("b")]), &seen),
        "huge" => events(stream::repeat("x".repeat(65_536)), &seen),
        "endless" => {
            let slow = stream::unfold((), |()| async {
                tokio::time::sleep(Duration::from_millis(2)).await;
                Some((chunk("on "), ()))
            });
            events(slow, &seen)
        }
        "whole" => {
            let choice = json!({"message": {"content": "all at once"}, "finish_reason": "length"});
            Json(
                json!({"choices": [choice], "usage": {"prompt_tokens": 2, "completion_tokens": 3}}),
            )
            .into_response()
        }
        _ => {
            let mut lines = vec![": hello\n\n".to_owned()];
            lines.extend(["Roses ", "are ", "red"].map(chunk));
            lines.extend(ending());
            // Cut anywhere, as networks do.
            let all = lines.concat();
            let pieces: Vec<String> = all
                .as_bytes()
                .chunks(7)
                .map(|part| String::from_utf8_lossy(part).into_owned())
                .collect();
            events(stream::iter(pieces), &seen)
        }
    }
}

async fn plain(State(seen): State<Seen>, Json(body): Json<Value>) -> Response {
    seen.bodies.lock().unwrap().push(body);
    let one = json!({"choices": [{"text": "four", "finish_reason": "length"}]});
    events(stream::iter([format!("data: {one}\n\ndata: [DONE]\n\n")]), &seen)
}

async fn embeddings(State(seen): State<Seen>, Json(body): Json<Value>) -> Response {
    let count = body["input"].as_array().unwrap().len();
    seen.bodies.lock().unwrap().push(body);
    let one = json!({"embedding": [3.0, 4.0]});
    Json(json!({"data": vec![one; count], "usage": {"prompt_tokens": 5}})).into_response()
}

/// A node's answers with one server behind them.
struct Behind {
    serve: WithUpstreams,
    upstreams: Arc<Upstreams>,
    seen: Seen,
    _folder: TempDir,
}

async fn behind(is_llama: bool, more: impl FnOnce(&mut UpstreamConfig)) -> Behind {
    let seen = Seen { is_llama, ..Seen::default() };
    let address = listen(seen.clone()).await;
    let mut config = UpstreamConfig {
        name: "cluster".to_owned(),
        url: format!("http://{address}/v1"),
        key: KEY.to_owned(),
        ..UpstreamConfig::default()
    };
    more(&mut config);
    let folder = tempfile::tempdir().unwrap();
    let library = Arc::new(Library::open(folder.path()));
    let (models, inference) = (ModelsConfig::default(), InferenceConfig::default());
    let local = Arc::new(LocalServe::new(library, program(), models, inference));
    let upstreams = Arc::new(Upstreams::new(vec![config]));
    upstreams.look().await;
    let serve = WithUpstreams::own(local, Arc::clone(&upstreams));
    Behind { serve, upstreams, seen, _folder: folder }
}

impl Behind {
    fn id(&self, name: &str) -> BlobId {
        let offers = self.serve.offers();
        offers
            .iter()
            .find(|offer| *offer.name == *name)
            .unwrap_or_else(|| panic!("{name}: {offers:?}"))
            .blob
    }

    fn call(&self, asked: &str, model: &str, adapters: &[(&str, u32)]) -> Call {
        let adapters: Vec<_> =
            adapters.iter().map(|(name, weight)| (self.id(name), *weight)).collect();
        Call { model: self.id(model), adapters: List::new(adapters).unwrap(), ..call(asked, 16) }
    }

    async fn failure(&self, asked: &str, model: &str) -> openledger_wire::call::CallFailure {
        match self.serve.call(self.call(asked, model, &[])).await {
            Err(failure) => failure,
            Ok(stream) => whole(stream).await.unwrap_err(),
        }
    }
}

fn text(tokens: &[CallToken]) -> String {
    tokens.iter().map(|token| &*token.text).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn models_and_adapters_of_vllm_are_listed_called_and_streamed_with_usage() {
    let behind = behind(false, |config| config.models = vec!["meta/base".to_owned()]).await;
    let names: Vec<String> =
        behind.serve.offers().iter().map(|offer| offer.name.to_string()).collect();
    assert_eq!(names, ["meta/base", "sql-lora"], "what is not allowed is not offered");
    let stream = behind.serve.call(behind.call("hello", "meta/base", &[])).await.unwrap();
    let (tokens, end) = whole(stream).await.unwrap();
    assert_eq!((text(&tokens).as_str(), end.reason), ("Roses are red", FinishReason::Stop));
    assert_eq!((end.prompt_tokens, end.completion_tokens, end.cached_tokens), (11, 3, 8));
    let body = behind.seen.last();
    assert_eq!((&body["model"], &body["stream"]), (&json!("meta/base"), &json!(true)));
    assert!(body.get("lora").is_none() && body.get("user").is_none());

    let with = behind.call("hello", "meta/base", &[("sql-lora", 1_000)]);
    whole(behind.serve.call(with).await.unwrap()).await.unwrap();
    assert_eq!(behind.seen.last()["model"], "sql-lora");
    let half = behind.call("hello", "meta/base", &[("sql-lora", 500)]);
    let refused = behind.serve.call(half).await.unwrap_err();
    assert_eq!(&*refused.code, codes::INVALID, "{refused:?}");

    let base = behind.id("meta/base");
    assert_eq!(behind.serve.class_of(&base).as_deref(), Some("upstream"));
    let view = &behind.upstreams.views()[0];
    assert_eq!((view.class.as_str(), view.adapters, view.calls), ("upstream", 1, 2));
    assert!(behind.upstreams.shared_offers().is_empty(), "peers are told of nothing by default");
}

#[tokio::test(flavor = "multi_thread")]
async fn adapters_of_llama_cpp_are_scaled_and_a_bare_base_has_none() {
    let behind = behind(true, |_| ()).await;
    let stream = behind.serve.call(behind.call("hello", "llama", &[])).await.unwrap();
    whole(stream).await.unwrap();
    let off = json!([{"id": 0, "scale": 0.0}, {"id": 1, "scale": 0.0}]);
    assert_eq!(behind.seen.last()["lora"], off);
    let mixed = behind.call("hello", "llama", &[("poet", 250), ("cook", 1_000)]);
    whole(behind.serve.call(mixed).await.unwrap()).await.unwrap();
    let both = json!([{"id": 0, "scale": 0.25}, {"id": 1, "scale": 1.0}]);
    assert_eq!(behind.seen.last()["lora"], both);

    let tokens = Prompt::Tokens(List::new(vec![1, 2, 3]).unwrap());
    let plain = Call { prompt: tokens, ..behind.call("", "llama", &[]) };
    let (tokens, end) = whole(behind.serve.call(plain).await.unwrap()).await.unwrap();
    assert_eq!((text(&tokens).as_str(), end.reason), ("four", FinishReason::Length));
    assert_eq!(behind.seen.last()["prompt"], json!([1, 2, 3]));
    let wishes =
        Wishes { min_p_permille: 50, logit_bias_permille: vec![(7, -1_500)], ..Wishes::default() };
    let call = behind.call("hello", "llama", &[]);
    whole(behind.serve.call_with(call, wishes).await.unwrap()).await.unwrap();
    let body = behind.seen.last();
    assert_eq!((&body["min_p"], &body["logit_bias"]), (&json!(0.05), &json!({"7": -1.5})));

    let inputs = [Prompt::Text(Prose::clipped("a")), Prompt::Text(Prose::clipped("b"))];
    let embed = Embed {
        model: behind.id("llama"),
        adapters: List::default(),
        inputs: List::new(inputs.to_vec()).unwrap(),
    };
    let embedded = behind.serve.embed(embed).await.unwrap();
    assert_eq!((embedded.vectors.len(), embedded.prompt_tokens), (2, 5));
    let first: Vec<f32> = embedded.vectors[0]
        .chunks_exact(4)
        .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
        .collect();
    assert_eq!(first, [0.6, 0.8]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_there_has_a_code_and_is_bounded() {
    let behind = behind(false, |_| ()).await;
    for (asked, code, part) in [
        ("busy", codes::BUSY, "slow down"),
        ("long", codes::CONTEXT, "maximum context length"),
        ("odd", codes::INVALID, "temperature"),
        ("broken", codes::UPSTREAM, "out of memory"),
        ("redirect", codes::UPSTREAM, "not followed"),
        ("garbage", codes::UPSTREAM, "no JSON"),
        ("late error", codes::UPSTREAM, "the engine died"),
        ("cut", codes::UPSTREAM, "broke its answer off"),
        ("huge", codes::UPSTREAM, "too long"),
        ("endless", codes::UPSTREAM, "more tokens"),
    ] {
        let failure = behind.failure(asked, "meta/base").await;
        assert_eq!(&*failure.code, code, "{asked}: {failure:?}");
        assert!(failure.message.contains(part), "{asked}: {failure:?}");
        let retry_ms = if asked == "busy" { 7_000 } else { failure.retry_after_ms };
        assert_eq!(failure.retry_after_ms, retry_ms);
    }
    assert_eq!(behind.seen.elsewhere.load(Ordering::Relaxed), 0);
    let stream = behind.serve.call(behind.call("whole", "meta/base", &[])).await.unwrap();
    let (tokens, end) = whole(stream).await.unwrap();
    assert_eq!((text(&tokens).as_str(), end.prompt_tokens), ("all at once", 2));
    let resumed =
        Call { generated: List::new(vec![5]).unwrap(), ..behind.call("hello", "meta/base", &[]) };
    let refused = behind.serve.call(resumed).await.unwrap_err();
    assert!(refused.message.contains("cannot go on"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_wants_any_more_is_broken_off_at_the_server() {
    let behind = behind(false, |_| ()).await;
    let call = Call { tokens_max: 10_000, ..behind.call("endless", "meta/base", &[]) };
    let mut stream = behind.serve.call(call).await.unwrap();
    assert!(matches!(stream.recv().await, Some(CallPiece::Token(_))));
    assert!(!behind.seen.dropped.load(Ordering::Relaxed));
    drop(stream);
    until("the connection is closed", || behind.seen.dropped.load(Ordering::Relaxed)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_needed_read_from_a_file_and_shown_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, format!("{KEY}\n")).unwrap();
    let keyed = behind(false, |config| {
        config.key.clear();
        config.key_file = Some(file.clone());
    })
    .await;
    assert!(!keyed.serve.offers().is_empty());
    std::fs::write(&file, "another").unwrap();
    let refused = keyed.failure("hello", "meta/base").await;
    assert_eq!(&*refused.code, codes::UPSTREAM);
    assert!(refused.message.contains("upstream.key"), "{refused:?}");
    let wrong = behind(false, |config| config.key = "wrong".to_owned()).await;
    assert!(wrong.serve.offers().is_empty());
    let problem = wrong.upstreams.views()[0].problem.clone().unwrap();
    assert!(problem.contains("key") && !problem.contains("wrong"), "{problem}");

    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let config = format!("[[upstream]]\nurl = \"http://127.0.0.1:1\"\nkey = \"{KEY}\"\n");
    std::fs::write(data.join("config.toml"), config).unwrap();
    let shown = command(&data, &["config", "show"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("(hidden") && !shown.contains(KEY), "{shown}");
    // A mistake beside it does not repeat it either.
    let wrong = format!("[[upstream]]\nurl = \"http://127.0.0.1:1\"\nkey = [\"{KEY}\"]\n");
    std::fs::write(data.join("config.toml"), wrong).unwrap();
    let said = command(&data, &["config", "show"]);
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.contains("upstream") && !said.contains(KEY), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_named_and_harms_nobody() {
    let gone = behind(false, |config| config.url = "http://127.0.0.1:9".to_owned()).await;
    assert!(gone.serve.offers().is_empty());
    let view = &gone.upstreams.views()[0];
    assert!(view.problem.as_deref().is_some_and(|why| why.contains("nobody listens")), "{view:?}");
}
