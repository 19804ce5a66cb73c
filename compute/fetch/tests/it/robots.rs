//! robots.txt and turns, against real servers.

use std::time::Duration;

use openledger_fetch::{FetchRequest, Fetcher, RobotsVerdict};

use crate::server::{Do, Script, Server, config, fails, fetch, reply};

async fn with_robots(robots: impl Fn() -> Script + Send + Sync + 'static) -> Server {
    Server::start(move |path| match path {
        "/robots.txt" => robots(),
        _ => reply("200 OK", &["content-type: text/html"], "page"),
    })
    .await
}

#[tokio::test]
async fn rules_are_obeyed_and_remembered() {
    let server = with_robots(|| {
        let rules = "User-agent: *\nDisallow: /\n\nUser-agent: OpenLedgerBot\nDisallow: /no\n";
        reply("200 OK", &["content-type: text/plain"], rules)
    })
    .await;
    let fetcher = Fetcher::new(config(&[&server])).unwrap();
    let page = fetcher.fetch(FetchRequest::new(server.url("/yes"))).await.unwrap();
    assert_eq!(page.robots, RobotsVerdict::AllowedByRules);
    let error = fetcher.fetch(FetchRequest::new(server.url("/no/x"))).await.unwrap_err();
    assert_eq!(error.code(), "robots-disallow");
    assert!(error.to_string().contains("/no/x") && !error.retryable());
    assert_eq!(server.paths(), ["/robots.txt", "/yes"]);
}

#[tokio::test]
async fn trouble_with_the_file_closes_the_host() {
    for status in ["500 Internal Server Error", "429 Too Many Requests", "301 Moved Permanently"] {
        let server = with_robots(move || reply(status, &[], "User-agent: *\nAllow: /")).await;
        let error = fails(&server, "/x").await;
        assert_eq!(error.code(), "robots-unavailable", "{status}: {error}");
        assert!(error.retryable());
        assert_eq!(server.paths(), ["/robots.txt"]);
    }
    let server = with_robots(|| vec![Do::Send(b"garbage".to_vec())]).await;
    assert_eq!(fails(&server, "/x").await.code(), "robots-unavailable");
}

#[tokio::test]
async fn redirects_of_the_file_are_judged_like_any_other() {
    let server = Server::start(|path| match path {
        "/robots.txt" => reply("301 Moved Permanently", &["location: /r2"], ""),
        "/r2" => reply("302 Found", &["location: /r3"], ""),
        "/r3" => reply("200 OK", &[], "User-agent: *\nDisallow: /no"),
        _ => reply("200 OK", &[], "page"),
    })
    .await;
    assert!(fetch(config(&[&server]), &server.url("/yes")).await.is_ok());
    assert_eq!(fails(&server, "/no").await.code(), "robots-disallow");
    for location in
        ["location: http://169.254.169.254/", "location: /robots.txt", "location: file:///x"]
    {
        let server = with_robots(move || reply("302 Found", &[location], "")).await;
        assert_eq!(fails(&server, "/x").await.code(), "robots-unavailable", "{location}");
        assert!(server.paths().iter().all(|path| path == "/robots.txt"));
        assert!(server.paths().len() <= 6);
    }
}

#[tokio::test]
async fn only_the_beginning_of_a_huge_file_is_read() {
    let server = with_robots(|| {
        let head = b"HTTP/1.1 200 OK\r\n\r\nUser-agent: *\nDisallow: /no\n".to_vec();
        vec![Do::Send(head), Do::Forever(b"Disallow: /other\n".repeat(100))]
    })
    .await;
    let mut config = config(&[&server]);
    config.limits.robots_bytes_max = 50_000;
    assert!(fetch(config.clone(), &server.url("/yes")).await.is_ok());
    assert_eq!(fetch(config, &server.url("/no")).await.unwrap_err().code(), "robots-disallow");
}

#[tokio::test]
async fn crawl_delay_and_single_file_hold_on_the_wire() {
    let server = with_robots(|| reply("200 OK", &[], "User-agent: *\nCrawl-delay: 0.3\n")).await;
    let fetcher = Fetcher::new(config(&[&server])).unwrap();
    let pages = ["/a", "/b", "/c"].map(|path| fetcher.fetch(FetchRequest::new(server.url(path))));
    let [a, b, c] = pages;
    let (a, b, c) = tokio::join!(a, b, c);
    for page in [a, b, c] {
        assert_eq!(page.unwrap().body, b"page");
    }
    assert_eq!(server.paths().iter().filter(|path| *path == "/robots.txt").count(), 1);
    let times = server.times();
    for pair in times.windows(2).skip(1) {
        assert!(pair[1] - pair[0] >= Duration::from_millis(299), "{times:?}");
    }
}

#[tokio::test]
async fn a_host_without_a_turn_sends_the_task_back() {
    let server = with_robots(|| reply("200 OK", &[], "User-agent: *\nCrawl-delay: 50\n")).await;
    let mut config = config(&[&server]);
    config.limits.queue_ms_max = 100;
    let fetcher = Fetcher::new(config).unwrap();
    assert!(fetcher.fetch(FetchRequest::new(server.url("/a"))).await.is_ok());
    let error = fetcher.fetch(FetchRequest::new(server.url("/b"))).await.unwrap_err();
    assert_eq!(error.code(), "host-busy", "{error}");
    assert!(error.retryable());
}

#[tokio::test]
async fn an_overloaded_host_is_left_alone() {
    let server = Server::start(|path| match path {
        "/robots.txt" => reply("404 Not Found", &[], ""),
        _ => reply("503 Service Unavailable", &["retry-after: 30"], ""),
    })
    .await;
    let mut config = config(&[&server]);
    config.limits.queue_ms_max = 50;
    let fetcher = Fetcher::new(config).unwrap();
    assert_eq!(fetcher.fetch(FetchRequest::new(server.url("/a"))).await.unwrap().status, 503);
    let error = fetcher.fetch(FetchRequest::new(server.url("/b"))).await.unwrap_err();
    assert_eq!(error.code(), "host-busy", "{error}");
}
