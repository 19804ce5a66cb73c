//! The shell as clients meet it: over a socket, with good and bad requests.

use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use openledger_web::{ApiError, JsonBody, Live, Token, WebConfig, WebServer, require_token};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    count: u32,
}

async fn start(token: &Token, live: &Live) -> WebServer {
    let live = live.clone();
    let open = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/bad", get(|| async { ApiError::later("the ledger is busy; ask again", 2) }))
        .route("/slow", get(|| async { tokio::time::sleep(Duration::from_secs(600)).await }))
        .route("/events", get(move || async move { live.subscribe() }));
    let wish = post(|JsonBody(wish): JsonBody<Wish>| async move { format!("{}", wish.count) });
    let closed = require_token(Router::new().route("/wish", wish), token.clone());
    let mut config = WebConfig::on("127.0.0.1:0".parse().unwrap());
    config.body_bytes_max = 1_000;
    config.request_time_max = Duration::from_millis(300);
    WebServer::start(config, open.merge(closed)).await.unwrap()
}

/// Sends one request as written and reads to the end of the connection.
async fn send(server: &WebServer, request: &str) -> String {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let request = request.replace("HOST", &server.address().to_string());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A server that refuses a body early may reset the connection behind its answer.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn get_request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n")
}

fn wish(headers: &str, body: &str) -> String {
    format!(
        "POST /wish HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn every_answer_has_the_headers_and_every_error_a_code() {
    let (token, live) = (Token::generate().unwrap(), Live::default());
    let server = start(&token, &live).await;
    let cases = [
        (get_request("/"), "200 OK", "hello"),
        (get_request("/bad"), "503", "\"code\":\"later\""),
        (get_request("/nothing"), "404", "\"code\":\"not-found\""),
        (get_request("/slow"), "408", "\"code\":\"timeout\""),
        (get_request("/").replace("HOST", "evil.example"), "421", "\"code\":\"wrong-host\""),
        (get_request("/").replace("Host: HOST\r\n", ""), "421", "wrong-host"),
        (get_request("/wish"), "401", "\"code\":\"unauthorized\""),
        (get_request("/").replace("GET", "DELETE"), "405", "\"code\":\"method-not-allowed\""),
        (wish("", "{}"), "401", "\"code\":\"unauthorized\""),
        (wish("Authorization: Bearer wrong-token-of-somebody\r\n", "{}"), "401", "not the right"),
        (wish("Origin: http://evil.example\r\n", "{}"), "403", "\"code\":\"wrong-origin\""),
    ];
    for (request, status, words) in cases {
        let answer = send(&server, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}\n{answer}");
        assert!(answer.contains(words), "{request}\n{answer}");
        for header in [
            "content-security-policy: default-src 'none'",
            "x-content-type-options: \
             nosniff",
            "x-frame-options: DENY",
            "referrer-policy: no-referrer",
        ] {
            assert!(answer.contains(header), "{header} missing in {answer}");
        }
    }
    server.shutdown().await;
}

#[tokio::test]
async fn bodies_are_bounded_and_explained() {
    let (token, live) = (Token::generate().unwrap(), Live::default());
    let server = start(&token, &live).await;
    let bearer = format!("Authorization: Bearer {}\r\n", token.reveal());
    let good = send(&server, &wish(&bearer, "{\"count\":7}")).await;
    assert!(good.starts_with("HTTP/1.1 200") && good.ends_with('7'), "{good}");
    let wrong = send(&server, &wish(&bearer, "{\"amount\":7}")).await;
    assert!(wrong.starts_with("HTTP/1.1 422") && wrong.contains("amount"), "{wrong}");
    let garbage = send(&server, &wish(&bearer, "{\"count\"")).await;
    assert!(garbage.starts_with("HTTP/1.1 400") && garbage.contains("bad-request"), "{garbage}");
    let large = send(&server, &wish(&bearer, &"x".repeat(5_000))).await;
    assert!(large.starts_with("HTTP/1.1 413") && large.contains("body-too-large"), "{large}");
    server.shutdown().await;
}

#[tokio::test]
async fn events_reach_an_open_page_and_a_shutdown_ends_it() {
    let (token, live) = (Token::generate().unwrap(), Live::default());
    let server = start(&token, &live).await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let request = get_request("/events").replace("HOST", &server.address().to_string());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = String::new();
    let mut piece = [0; 4_096];
    while !seen.contains("event: epoch") {
        live.publish("epoch", &7);
        let read = tokio::time::timeout(Duration::from_millis(50), stream.read(&mut piece)).await;
        let Ok(count) = read else { continue };
        seen.push_str(&String::from_utf8_lossy(&piece[..count.unwrap()]));
    }
    assert!(seen.contains("text/event-stream") && seen.contains("data: 7"), "{seen}");
    server.shutdown().await;
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the stream outlived its server");
}

#[tokio::test]
async fn a_taken_address_is_named_with_the_remedy() {
    let (token, live) = (Token::generate().unwrap(), Live::default());
    let server = start(&token, &live).await;
    let again = WebServer::start(WebConfig::on(server.address()), Router::new()).await;
    let error = again.unwrap_err().to_string();
    assert!(error.contains(&server.address().to_string()) && error.contains("choose another"));
}
