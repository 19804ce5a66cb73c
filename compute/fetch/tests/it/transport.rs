//! Heads, TLS and silence.

use openledger_fetch::FetchRequest;
use openledger_fetch::Fetcher;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::server::{Do, Server, config, fails, fetch, reply, without_robots};

#[tokio::test]
async fn heads_are_bounded_in_bytes_and_fields() {
    let server = Server::start(|path| {
        let big = format!("x-big: {}", "x".repeat(60 << 10));
        let second = format!("x-more: {}", "y".repeat(8 << 10));
        without_robots(path, reply("200 OK", &[&big, &second], ""))
    })
    .await;
    assert_eq!(fails(&server, "/x").await.code(), "headers-too-large");
    let server = Server::start(|path| {
        let fields: Vec<String> = (0..400).map(|i| format!("x-{i}: y")).collect();
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        without_robots(path, reply("200 OK", &fields, ""))
    })
    .await;
    assert_eq!(fails(&server, "/x").await.code(), "headers-too-large");
    let server = Server::start(|path| {
        let start = b"HTTP/1.1 200 OK\r\nx-endless: ".to_vec();
        without_robots(path, vec![Do::Send(start), Do::Forever(vec![b'x'; 4_096])])
    })
    .await;
    assert_eq!(fails(&server, "/x").await.code(), "headers-too-large");
}

#[tokio::test]
async fn silence_and_dripped_heads_are_given_up() {
    for hang in [true, false] {
        let server = Server::start(move |path| {
            let head = b"HTTP/1.1 200 OK\r\nx-slow: and so on and on and on and on\r\n".to_vec();
            without_robots(path, vec![if hang { Do::Hang } else { Do::Drip(head) }])
        })
        .await;
        let mut config = config(&[&server]);
        config.limits.connect_ms_max = 500;
        config.limits.first_byte_ms_max = 300;
        let error = fetch(config.clone(), &server.url("/x")).await.unwrap_err();
        assert_eq!(error.code(), "timeout-first-byte", "{error}");
        assert!(error.retryable());
        config.limits.total_ms_max = 500;
        let error = fetch(config, &server.url("/x")).await.unwrap_err();
        assert_eq!(error.code(), "timeout-total", "{error}");
    }
}

#[tokio::test]
async fn what_is_no_http_is_named_so() {
    let server =
        Server::start(|path| without_robots(path, vec![Do::Send(b"SSH-2.0-x\r\n".to_vec())])).await;
    assert_eq!(fails(&server, "/x").await.code(), "bad-response");
    let server = Server::start(|path| without_robots(path, vec![])).await;
    assert_eq!(fails(&server, "/x").await.code(), "bad-response");
}

#[tokio::test]
async fn nobody_there() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let mut config = config(&[]);
    let key = format!("gone.test:{}", address.port());
    config.private_hosts.insert(key.clone(), vec![address]);
    let error = fetch(config, &format!("http://{key}/")).await.unwrap_err();
    assert_eq!(error.code(), "connect", "{error}");
    assert!(error.to_string().contains("127.0.0.1"));
}

#[tokio::test]
async fn tls_keeps_the_name_and_demands_trust() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let hello = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut hello = vec![0; 4_096];
        let read = stream.read(&mut hello).await.unwrap();
        stream.write_all(b"this is no TLS\r\n\r\n").await.unwrap();
        hello.truncate(read);
        hello
    });
    let mut config = config(&[]);
    let key = format!("secure.test:{}", address.port());
    config.private_hosts.insert(key.clone(), vec![address]);
    let error = fetch(config, &format!("https://{key}/")).await.unwrap_err();
    assert_eq!(error.code(), "tls", "{error}");
    let hello = hello.await.unwrap();
    assert!(hello.windows(11).any(|w| w == b"secure.test"), "the name is in the client hello");
}

#[tokio::test]
async fn a_dropped_fetch_gives_its_turn_back() {
    let server = Server::start(|path| match path {
        "/hang" => vec![Do::Hang],
        _ => without_robots(path, reply("200 OK", &[], "x")),
    })
    .await;
    let fetcher = Fetcher::new(config(&[&server])).unwrap();
    let hanging = fetcher.fetch(FetchRequest::new(server.url("/hang")));
    let limit = std::time::Duration::from_millis(150);
    assert!(tokio::time::timeout(limit, hanging).await.is_err());
    assert!(fetcher.fetch(FetchRequest::new(server.url("/x"))).await.is_ok());
}
