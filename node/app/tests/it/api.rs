//! The API for applications: every documented error, the framing of streams, and a stock OpenAI
//! client's walk through it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use openledger_app::api::{Api, ApiConfig, ApiSetup, Problem};
use openledger_app::routing::{Patience, Router};
use openledger_app::serving::{Serve, Wishes};
use openledger_web::Token;
use openledger_wire::BlobId;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::coordinator::Coordinator;
use crate::fake_serve::{FakeServe, POET, adapter, base};
use crate::process::{NodeProcess, json as output, until};
use crate::serving::{adapter_file, model_path};

pub(crate) const KEY: &str = "a-key-of-the-owner";

/// An API over a server that counts words.
pub(crate) struct Served {
    pub(crate) api: Api,
    token: Token,
    http: reqwest::Client,
}

pub(crate) async fn served(serve: Arc<dyn Serve>) -> Served {
    let router = Router::new(serve, Vec::new(), None, Patience::default());
    let token = Token::generate().unwrap();
    let config = ApiConfig { keys: vec![KEY.to_owned()], ..ApiConfig::default() };
    let problem: Problem = Arc::new(|name| {
        (name == "broken").then(|| "broken.gguf was cut short; get it again".to_owned())
    });
    let setup = ApiSetup { config, base: String::new(), token: token.clone(), router, problem };
    let api = Api::start(setup).await.unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    Served { api, token, http }
}

fn counting() -> Arc<FakeServe> {
    let twin = BlobId([7; 32]);
    let offers = [
        base("base"),
        adapter("poet", POET),
        adapter("twin", twin),
        adapter("twin", BlobId([8; 32])),
    ];
    FakeServe::new(&offers, None)
}

impl Served {
    async fn send(&self, method: Method, path: &str, key: Option<&str>, body: Vec<u8>) -> Response {
        let url = format!("{}/{path}", self.api.url());
        let mut request = self.http.request(method, url).body(body);
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        request.send().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Response {
        self.send(Method::POST, path, Some(KEY), body.to_string().into_bytes()).await
    }

    pub(crate) async fn chat(&self, more: Value) -> Response {
        let mut body = json!({
            "model": "base", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 3,
        });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.post("chat/completions", &body).await
    }
}

pub(crate) async fn error(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    let error = body["error"].clone();
    for field in ["message", "type", "param", "code"] {
        assert!(error.get(field).is_some(), "{field} is missing: {body}");
    }
    assert!(error["message"].as_str().is_some_and(|text| text.len() > 8), "{body}");
    (status, error)
}

#[tokio::test]
async fn keys_are_needed_and_both_kinds_work() {
    let served = served(counting()).await;
    for (key, status) in [
        (None, 401),
        (Some("wrong"), 401),
        (Some(""), 401),
        (Some(KEY), 200),
        (Some(served.token.reveal()), 200),
    ] {
        let response = served.send(Method::GET, "models", key, Vec::new()).await;
        assert_eq!(response.status().as_u16(), status, "{key:?}");
        assert!(response.headers().contains_key("x-request-id"));
        if status == 401 {
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
            let (_, error) = error(response).await;
            assert_eq!(error["code"], "invalid_api_key");
            assert_eq!(error["type"], "invalid_request_error");
        }
    }
    // Nothing is told to who has no key, not even what there is.
    let (status, _) = error(served.send(Method::GET, "nothing", None, Vec::new()).await).await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn pages_of_other_sites_get_nothing_and_are_told_of_no_permission() {
    let served = served(counting()).await;
    let url = format!("{}/chat/completions", served.api.url());
    let body = json!({"model": "base", "messages": []}).to_string();
    let from = |origin: &'static str| {
        let request = served.http.post(&url).bearer_auth(KEY).header("origin", origin);
        request.body(body.clone()).send()
    };
    assert_eq!(from("https://example.org").await.unwrap().status(), StatusCode::FORBIDDEN);
    let asked = served.http.request(Method::OPTIONS, &url).header("origin", "https://example.org");
    let asked = asked.header("access-control-request-method", "POST").send().await.unwrap();
    assert!(!asked.status().is_success());
    assert!(asked.headers().keys().all(|name| !name.as_str().starts_with("access-control")));
    let rebound = served.http.get(format!("{}/models", served.api.url())).bearer_auth(KEY);
    let rebound = rebound.header("host", "evil.example").send().await.unwrap();
    assert_eq!(rebound.status(), StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn every_wrong_request_has_its_status_code_and_field() {
    let served = served(counting()).await;
    let chat = |more: Value| served.chat(more);
    for (more, status, code, param) in [
        (json!({"model": null}), 400, "invalid_value", "model"),
        (json!({"model": 5}), 400, "invalid_value", "model"),
        (json!({"model": "nobody"}), 404, "model_not_found", "model"),
        (json!({"model": "0707"}), 404, "model_not_found", "model"),
        (json!({"model": "twin"}), 400, "ambiguous_model", "model"),
        (json!({"messages": "hello"}), 400, "invalid_value", "messages"),
        (json!({"messages": [{"role": "user"}]}), 400, "invalid_value", "messages[0].content"),
        (
            json!({"messages": [{"role": "tool", "content": "x"}]}),
            400,
            "invalid_value",
            "messages[0].tool_call_id",
        ),
        (json!({"n": 2}), 400, "unsupported_parameter", "n"),
        (json!({"tools": [{}]}), 400, "unsupported_parameter", "tools[0].type"),
        (json!({"tool_choice": "required"}), 400, "invalid_value", "tool_choice"),
        (json!({"response_format": {"type": "xml"}}), 400, "invalid_value", "response_format.type"),
        (json!({"temperature": "hot"}), 400, "invalid_value", "temperature"),
        (json!({"top_p": -0.1}), 400, "invalid_value", "top_p"),
        (
            json!({"max_completion_tokens": 99_999_999}),
            400,
            "invalid_value",
            "max_completion_tokens",
        ),
        (json!({"stream": "yes"}), 400, "invalid_value", "stream"),
        (json!({"stream_options": {}}), 400, "invalid_value", "stream_options"),
        (json!({"top_logprobs": 2}), 400, "invalid_value", "top_logprobs"),
        (json!({"logprobs": true, "top_logprobs": 21}), 400, "invalid_value", "top_logprobs"),
        (json!({"stop": 5}), 400, "invalid_value", "stop"),
        (json!({"min_p": 2}), 400, "invalid_value", "min_p"),
        (json!({"repetition_penalty": 9}), 400, "invalid_value", "repetition_penalty"),
        (json!({"logit_bias": {"a": 1}}), 400, "invalid_value", "logit_bias"),
        (json!({"priority": "now"}), 400, "invalid_value", "priority"),
    ] {
        let (found, error) = error(chat(more.clone()).await).await;
        assert_eq!((found, &error["code"]), (status, &json!(code)), "{more}");
        assert_eq!(error["param"], param, "{more}");
        assert_eq!(error["type"], "invalid_request_error");
    }
    let (status, broken) = error(chat(json!({"model": "broken"})).await).await;
    assert_eq!((status, &broken["code"]), (500, &json!("bad_file")));
    assert!(broken["message"].as_str().unwrap().contains("get it again"));
    let (_, several) = error(chat(json!({"model": "twin"})).await).await;
    let told = several["message"].as_str().unwrap();
    assert!(
        told.contains(&BlobId([7; 32]).to_string()) && told.contains(&BlobId([8; 32]).to_string())
    );
    assert_eq!(chat(json!({"model": "07070707"})).await.status(), StatusCode::OK);
    for (method, path, body, status, code) in [
        (Method::GET, "nothing", "", 404, "unknown_url"),
        (Method::GET, "chat/completions", "", 405, "method_not_allowed"),
        (Method::POST, "chat/completions", "not json", 400, "invalid_body"),
        (Method::POST, "completions", "[]", 400, "invalid_body"),
        (Method::POST, "completions", "{\"model\":\"base\"}", 400, "invalid_value"),
        (Method::POST, "embeddings", "{\"model\":\"base\",\"input\":{}}", 400, "invalid_value"),
        (
            Method::POST,
            "embeddings",
            "{\"model\":\"base\",\"input\":\"x\",\"encoding_format\":\"png\"}",
            400,
            "invalid_value",
        ),
    ] {
        let response = served.send(method, path, Some(KEY), body.into()).await;
        let (found, error) = error(response).await;
        assert_eq!((found, &error["code"]), (status, &json!(code)), "{path} {body}");
    }
    let huge = served.send(Method::POST, "completions", Some(KEY), vec![b' '; 9 << 20]).await;
    let (status, error) = error(huge).await;
    assert_eq!((status, &error["code"]), (413, &json!("request_too_large")));
}

#[tokio::test]
async fn wishes_reach_the_server_of_both_kinds_of_completions() {
    let fake = counting();
    let served = served(Arc::clone(&fake) as Arc<dyn Serve>).await;
    let wishes = json!({
        "min_p": 0.1, "repetition_penalty": 1.2, "logit_bias": {"7": -100}, "user": "ann",
        "priority": "low",
    });
    assert_eq!(served.chat(wishes.clone()).await.status(), StatusCode::OK);
    let mut body = json!({"model": "base", "prompt": ["a", "b"], "max_tokens": 2});
    body.as_object_mut().unwrap().extend(wishes.as_object().unwrap().clone());
    assert_eq!(served.post("completions", &body).await.status(), StatusCode::OK);
    assert_eq!(served.chat(json!({})).await.status(), StatusCode::OK);
    let all = Wishes {
        min_p_permille: 100,
        repetition_permille: 1_200,
        logit_bias_permille: vec![(7, -100_000)],
        urgency: -1,
        caller: "ann".to_owned(),
        ..Wishes::default()
    };
    let wished = fake.wished.lock().unwrap();
    assert_eq!(*wished, [all.clone(), all.clone(), all, Wishes::default()]);
}

#[tokio::test]
async fn streams_are_framed_as_events_and_end_in_order() {
    let served = served(counting()).await;
    let asked = json!({
        "stream": true, "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": "word a\nb\u{2028}\"c\" "}],
    });
    let response = served.chat(asked).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["cache-control"], "no-cache");
    let text = response.text().await.unwrap();
    let events: Vec<&str> = text.split("\n\n").filter(|event| !event.is_empty()).collect();
    assert!(events.iter().all(|event| event.starts_with("data: ") && !event.contains('\n')));
    assert_eq!(*events.last().unwrap(), "data: [DONE]");
    let chunks: Vec<Value> = events[..events.len() - 1]
        .iter()
        .map(|event| serde_json::from_str(&event["data: ".len()..]).unwrap())
        .collect();
    // The role, three tokens, the end, the usage.
    assert_eq!(chunks.len(), 6, "{text}");
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(chunks[1]["choices"][0]["delta"]["content"], "a");
    assert_eq!(chunks[4]["choices"][0]["finish_reason"], "length");
    assert_eq!(chunks[4]["usage"], Value::Null);
    assert_eq!(chunks[5]["choices"], json!([]));
    let usage = json!({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 0}});
    assert_eq!(chunks[5]["usage"], usage);
    assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"]));

    let broken =
        json!({"messages": [{"role": "user", "content": "break peer-lost 2"}], "stream": true});
    let text = served.chat(broken).await.text().await.unwrap();
    let last = text.trim_end().rsplit("\n\n").next().unwrap();
    let last: Value = serde_json::from_str(&last["data: ".len()..]).unwrap();
    assert_eq!(last["error"]["code"], "peer_lost");
    assert!(!text.contains("[DONE]"), "what broke off is not done");
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_call() {
    let gate = Arc::new(Semaphore::new(2));
    let fake = FakeServe::new(&[base("base")], Some(gate));
    let served = served(Arc::clone(&fake) as Arc<dyn Serve>).await;
    let streamed = served.chat(json!({"stream": true, "max_tokens": 500})).await;
    drop(streamed);
    let cancelled = || fake.cancelled.load(std::sync::atomic::Ordering::Relaxed);
    until("the streamed call is cancelled", || cancelled() == 1).await;
    let whole = served.chat(json!({"max_tokens": 500}));
    assert!(tokio::time::timeout(Duration::from_millis(300), whole).await.is_err());
    until("the whole call is cancelled", || cancelled() == 2).await;
}

#[tokio::test]
async fn more_requests_than_are_taken_are_told_when_to_come_back() {
    let gate = Arc::new(Semaphore::new(0));
    let fake = FakeServe::new(&[base("base")], Some(Arc::clone(&gate)));
    let served = Arc::new(served(Arc::clone(&fake) as Arc<dyn Serve>).await);
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let served = Arc::clone(&served);
        // Each holds sixteen places of the sixty-four.
        let prompts: Vec<String> = (0..16).map(|n| format!("prompt {n}")).collect();
        waiting.spawn(async move {
            let body = json!({"model": "base", "prompt": prompts, "max_tokens": 1});
            served.post("completions", &body).await.status()
        });
    }
    let begun = || fake.begun.load(std::sync::atomic::Ordering::Relaxed);
    until("all places are taken", || begun() == 64).await;
    let response = served.chat(json!({})).await;
    assert_eq!(response.headers()["retry-after"], "1");
    let (status, error) = error(response).await;
    assert_eq!((status, &error["type"]), (429, &json!("rate_limit_error")));
    gate.add_permits(1_000);
    while let Some(status) = waiting.join_next().await {
        assert_eq!(status.unwrap(), StatusCode::OK);
    }
    assert_eq!(served.chat(json!({})).await.status(), StatusCode::OK);
}

/// The Python with the stock client, and the walk.
fn walk(url: &str, key: &str, model: &str, more: &[&str]) -> Value {
    let python = std::env::var_os("OPENLEDGER_PYTHON");
    let python = python.expect("set OPENLEDGER_PYTHON or run ./installers/test.sh");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/openai_walk.py");
    let walk = Command::new(python)
        .arg("-B")
        .arg(script)
        .args([url, key, model])
        .args(more)
        .env("NO_PROXY", "127.0.0.1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(walk.status.success(), "{}", String::from_utf8_lossy(&walk.stderr));
    serde_json::from_slice(&walk.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_client_walks_and_meets_every_documented_error() {
    let served = served(counting()).await;
    let url = served.api.url();
    let walk = move || walk(&url, KEY, "base", &["--adapter", "poet", "--faults"]);
    let walked = tokio::task::spawn_blocking(walk).await.unwrap();
    assert_eq!(walked["chat"], "w0 w1 w2 w3 w4 w5 w6 w7 w8 w9 w10 w11 ");
    assert_eq!(walked["models"], 5);
    assert!(walked["errors"].as_u64().unwrap() >= 35, "{walked}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_client_walks_through_a_node_with_a_real_model() {
    let coordinator = Coordinator::start("walk", 71, Default::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let profile = folder.path().join("walk.toml");
    coordinator.publish(&profile);
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let files = [model_path(), adapter_file(&folder, 1, 8), adapter_file(&folder, 2, 16)];
    let config = format!("[models]\nfiles = {files:?}\n\n[api]\nkeys = [{KEY:?}]\n");
    std::fs::write(data.join("config.toml"), config).unwrap();
    let node = NodeProcess::up(&data, &["--network", profile.to_str().unwrap()]);
    let url = node.ready["api"].as_str().unwrap().to_owned();

    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let listed = http.get(format!("{url}/models")).bearer_auth(KEY).send().await.unwrap();
    let listed: Value = serde_json::from_slice(&listed.bytes().await.unwrap()).unwrap();
    let of_kind = |kind: &str| -> Vec<String> {
        let rows = listed["data"].as_array().unwrap().iter();
        let of = rows.filter(|row| row["openledger"]["kind"] == kind && row["id"] != "auto");
        of.map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    };
    let (bases, adapters) = (of_kind("base"), of_kind("adapter"));
    assert_eq!((bases.len(), adapters.len()), (1, 2), "{listed}");
    let walk = move || {
        let more = ["--adapter", &adapters[0], "--adapter", &adapters[1]];
        walk(&url, KEY, &bases[0], &more)
    };
    let walked = tokio::task::spawn_blocking(walk).await.unwrap();
    assert_eq!(walked["dimensions"], 576, "{walked}");
    assert!(walked["chat"].as_str().unwrap().contains("Paris"), "{walked}");
    let said: Vec<&Value> = walked["adapters"].as_object().unwrap().values().collect();
    assert_ne!(said[0], said[1], "adapters change what is said");
    // Nothing of what was said is in the node's files.
    let log = std::fs::read_to_string(data.join("logs/node.log")).unwrap();
    assert!(!log.contains("capital of France") && !log.contains("Paris"), "{log}");
}

/// A node in a network, with a model or without, that knows these peers.
fn node(folder: &Path, name: &str, profile: &Path, with_model: bool, peers: &[String]) -> Member {
    let data = folder.join(name);
    std::fs::create_dir(&data).unwrap();
    let files = if with_model { vec![model_path()] } else { Vec::new() };
    let config = format!(
        "[models]\nfiles = {files:?}\nthreads = 1\n\n[api]\nkeys = [{KEY:?}]\nfetch = false\n\n[network]\npeers = {peers:?}\n"
    );
    std::fs::write(data.join("config.toml"), config).unwrap();
    let network = ["--network", profile.to_str().unwrap(), "--no-link"];
    let process = NodeProcess::up(&data, &network);
    let url = process.ready["api"].as_str().unwrap().to_owned();
    Member { data, process: Some(process), url }
}

struct Member {
    data: PathBuf,
    process: Option<NodeProcess>,
    url: String,
}

impl Member {
    fn status(&self) -> Value {
        output(&self.data, &["status"])
    }

    fn calls(&self, what: &str) -> u64 {
        self.status()["calls"][what].as_u64().unwrap()
    }

    /// Calls of peers, asked for without the detour of a command.
    async fn calls_now(&self, http: &reqwest::Client) -> u64 {
        let control: Value =
            serde_json::from_slice(&std::fs::read(self.data.join("control.json")).unwrap())
                .unwrap();
        let text = |key: &str| control[key].as_str().unwrap().to_owned();
        let request = http.get(format!("{}/v1/status", text("url"))).bearer_auth(text("token"));
        let answer = request.send().await.unwrap().bytes().await.unwrap();
        let status: Value = serde_json::from_slice(&answer).unwrap();
        status["calls"]["for_peers"].as_u64().unwrap()
    }

    fn addresses(&self) -> Vec<String> {
        let status = self.status();
        let all = status["peer_addresses"].as_array().unwrap().iter();
        all.map(|one| one.as_str().unwrap().to_owned()).collect()
    }

    async fn stream(&self, http: &reqwest::Client) -> Response {
        let body = json!({
            "model": "auto", "stream": true, "temperature": 0, "max_tokens": 160,
            "messages": [{"role": "user", "content": "Tell a long story of a river."}],
        });
        let request = http.post(format!("{}/chat/completions", self.url)).bearer_auth(KEY);
        request.body(body.to_string()).send().await.unwrap()
    }
}

/// Reads a stream until its text has so many events, or to its end.
async fn read(response: &mut Response, events: usize) -> String {
    let mut text = String::new();
    while text.matches("\n\n").count() < events {
        let chunk = tokio::time::timeout(Duration::from_secs(60), response.chunk()).await;
        match chunk.expect("the stream hangs").unwrap() {
            Some(chunk) => text += std::str::from_utf8(&chunk).unwrap(),
            None => break,
        }
    }
    text
}

fn said(text: &str) -> String {
    let events = text.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
    let values = events.filter_map(|data| serde_json::from_str::<Value>(data).ok());
    values.filter_map(|v| v["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_model_asks_peers_and_outlives_them() {
    let coordinator = Coordinator::start("calls", 72, Default::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let profile = folder.path().join("calls.toml");
    coordinator.publish(&profile);
    let one = node(folder.path(), "one", &profile, true, &[]);
    let two = node(folder.path(), "two", &profile, true, &one.addresses());
    let peers = [one.addresses(), two.addresses()].concat();
    let lacks = node(folder.path(), "lacks", &profile, false, &peers);
    let at_both = || {
        let listed = output(&lacks.data, &["model", "list"]);
        listed["offered"][0]["nodes"].as_array().is_some_and(|nodes| nodes.len() == 2)
    };
    until("both offer the model", at_both).await;

    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut whole = lacks.stream(&http).await;
    assert_eq!(whole.status(), StatusCode::OK);
    let whole = read(&mut whole, usize::MAX).await;
    assert!(whole.ends_with("data: [DONE]\n\n"), "{whole}");
    assert_eq!((lacks.calls("forwarded"), lacks.calls("here")), (1, 0));

    // Whoever serves is killed in the middle: somebody else goes on, word for word.
    let mut members = [one, two];
    let before = members[0].calls_now(&http).await;
    let mut stream = lacks.stream(&http).await;
    let mut text = read(&mut stream, 6).await;
    let serving = usize::from(members[0].calls_now(&http).await == before);
    members[serving].process.take().unwrap().kill();
    text += &read(&mut stream, usize::MAX).await;
    assert_eq!(said(&text), said(&whole));
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert_eq!(lacks.calls("resumed"), 1);

    // The last one, too: one error, and the stream is closed.
    let mut stream = lacks.stream(&http).await;
    let mut text = read(&mut stream, 6).await;
    members[1 - serving].process.take().unwrap().kill();
    text += &read(&mut stream, usize::MAX).await;
    assert!(text.contains("\"code\":\"peer_lost\""), "{text}");
    assert!(!text.contains("[DONE]"));
    assert_eq!(lacks.calls("lost"), 1);
    assert_eq!(lacks.status()["totals"]["points"], 0, "calls earn nothing");
}
