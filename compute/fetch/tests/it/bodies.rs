//! Bodies: whole, coded, endless, trickling, lying.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use openledger_fetch::{
    ContentEncoding, FetchConfig, FetchError, FetchOutcome, FetchRequest, Fetcher, RobotsVerdict,
};

use crate::server::{Do, Script, Server, config, fails, fetch, reply, without_robots};

async fn serving(page: impl Fn() -> Script + Send + Sync + 'static) -> Server {
    Server::start(move |path| without_robots(path, page())).await
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn brotli(data: &[u8]) -> Vec<u8> {
    let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4_096, 9, 22);
    encoder.write_all(data).unwrap();
    encoder.into_inner()
}

#[tokio::test]
async fn a_page_comes_home_whole() {
    let headers = [
        "content-type: text/html; charset=utf-8",
        "x-robots-tag: noai",
        "set-cookie: id=1234",
        "etag: \"v1\"",
    ];
    let server = serving(move || reply("200 OK", &headers, "<p>hello</p>")).await;
    let url = server.url("/Page?a=b#frag").replace("site.test", "Site.TEST");
    let page = fetch(config(&[&server]), &url).await.unwrap();
    assert_eq!(page.requested_url, url);
    assert_eq!(page.final_url, server.url("/Page?a=b"));
    assert_eq!((page.status, page.reason.as_str()), (200, "OK"));
    assert_eq!(page.body, b"<p>hello</p>");
    assert_eq!((page.wire_bytes, page.encoding), (12, ContentEncoding::Identity));
    assert_eq!(page.content_type.as_deref(), Some("text/html; charset=utf-8"));
    assert_eq!(page.header("etag"), Some("\"v1\""));
    assert_eq!(page.header("set-cookie"), None);
    assert_eq!(page.address, server.address);
    assert_eq!(page.robots, RobotsVerdict::AllowedWithoutFile);
    assert!(page.signals.reserved());
    assert!(page.fetched_at_ms > 1_700_000_000_000);
    // Workers hand outcomes and errors over as canonical CBOR.
    let bytes = serde_cbor::to_vec(&page).unwrap();
    assert_eq!(serde_cbor::from_slice::<FetchOutcome>(&bytes).unwrap(), page);
    let error = fetch(config(&[]), "http://[::ffff:10.0.0.1]/").await.unwrap_err();
    let bytes = serde_cbor::to_vec(&error).unwrap();
    assert_eq!(serde_cbor::from_slice::<FetchError>(&bytes).unwrap(), error);
    // What was sent is what the archive will say, and names who is responsible.
    let sent = &server.heads()[1];
    for line in page.request_head.lines() {
        assert!(sent.to_lowercase().contains(&line.to_lowercase()), "{line:?} in {sent}");
    }
    assert!(
        sent.contains("OpenLedgerBot/0.1 (+https://openledger.example/abuse; coordinator devnet")
    );
    for absent in ["cookie", "referer", "authorization"] {
        assert!(!sent.to_lowercase().contains(absent));
    }
}

#[tokio::test]
async fn other_statuses_are_outcomes() {
    for (status, number) in
        [("404 Not Found", 404), ("503 Service Unavailable", 503), ("402 Payment Required", 402)]
    {
        let server = serving(move || reply(status, &[], "sorry")).await;
        let page = fetch(config(&[&server]), &server.url("/x")).await.unwrap();
        assert_eq!((page.status, page.body.as_slice()), (number, &b"sorry"[..]));
    }
}

#[tokio::test]
async fn a_conditional_request_may_be_answered_without_a_body() {
    let server =
        serving(|| vec![Do::Send(b"HTTP/1.1 304 Not Modified\r\netag: \"v1\"\r\n\r\n".to_vec())])
            .await;
    let fetcher = Fetcher::new(config(&[&server])).unwrap();
    let request = FetchRequest {
        if_none_match: Some("\"v1\"".into()),
        campaign: Some("news".into()),
        ..FetchRequest::new(server.url("/x"))
    };
    let page = fetcher.fetch(request).await.unwrap();
    assert_eq!((page.status, page.body.len()), (304, 0));
    let sent = &server.heads()[1];
    assert!(sent.contains("if-none-match: \"v1\"") && sent.contains("campaign news"), "{sent}");
}

#[tokio::test]
async fn every_coding_is_undone() {
    let text = "a page of some length, ".repeat(300);
    type Pack = fn(&[u8]) -> Vec<u8>;
    let codings: [(&str, Pack, ContentEncoding); 3] = [
        ("content-encoding: gzip", gzip, ContentEncoding::Gzip),
        ("content-encoding: br", brotli, ContentEncoding::Brotli),
        ("content-encoding: zstd", |d| zstd::encode_all(d, 3).unwrap(), ContentEncoding::Zstd),
    ];
    for (header, pack, encoding) in codings {
        let packed = pack(text.as_bytes());
        let length = packed.len() as u64;
        let server = serving(move || reply("200 OK", &[header], &packed)).await;
        let page = fetch(config(&[&server]), &server.url("/x")).await.unwrap();
        assert_eq!(page.body, text.as_bytes());
        assert_eq!((page.wire_bytes, page.encoding), (length, encoding));
    }
}

#[tokio::test]
async fn bombs_are_cut_while_they_stream() {
    let zeros = vec![0; 20 << 20];
    for (header, bomb) in [
        ("content-encoding: gzip", gzip(&zeros)),
        ("content-encoding: br", brotli(&zeros)),
        ("content-encoding: zstd", zstd::encode_all(&zeros[..], 3).unwrap()),
    ] {
        let server = serving(move || reply("200 OK", &[header], &bomb)).await;
        let error = fails(&server, "/x").await;
        assert_eq!(error.code(), "decompression-ratio", "{header}: {error}");
        assert!(!error.retryable());
    }
}

#[tokio::test]
async fn endless_and_oversized_bodies_are_cut() {
    let endless = || {
        let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n".to_vec();
        vec![Do::Send(head), Do::Forever(b"<p>more</p>".repeat(500))]
    };
    let server = serving(endless).await;
    assert_eq!(fails(&server, "/x").await.code(), "body-too-large");
    // A declared length is believed as a reason to refuse at once.
    let server = serving(|| {
        vec![Do::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n".to_vec()), Do::Hang]
    })
    .await;
    assert_eq!(fails(&server, "/x").await.code(), "body-too-large");
    // Within the wire limit, but too large once decoded, at an honest ratio.
    let mut noise = 1_u32;
    let letter = |_| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b'a' + (noise >> 28) as u8
    };
    let text: Vec<u8> = (0..2_000_000).map(letter).collect();
    let packed = gzip(&text);
    let server = serving(move || reply("200 OK", &["content-encoding: gzip"], &packed)).await;
    let mut config = config(&[&server]);
    config.limits.wire_bytes_max = 4 << 20;
    let error = fetch(config, &server.url("/x")).await.unwrap_err();
    assert_eq!(error.code(), "decoded-too-large", "{error}");
}

#[tokio::test]
async fn a_wrong_length_is_noticed_or_harmless() {
    let server =
        serving(|| vec![Do::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nshort".to_vec())])
            .await;
    let error = fails(&server, "/x").await;
    assert_eq!(error.code(), "incomplete", "{error}");
    assert!(error.retryable());
    let server = serving(|| {
        vec![Do::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nright and some more".to_vec())]
    })
    .await;
    let page = fetch(config(&[&server]), &server.url("/x")).await.unwrap();
    assert_eq!(page.body, b"right");
    let server = serving(|| {
        vec![Do::Send(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nright\r\nzz\r\n".to_vec(),
        )]
    })
    .await;
    assert_eq!(fails(&server, "/x").await.code(), "incomplete");
}

#[tokio::test]
async fn undecodable_bodies_are_told_apart() {
    let server = serving(|| reply("200 OK", &["content-encoding: gzip"], "plain text")).await;
    assert_eq!(fails(&server, "/x").await.code(), "bad-encoding");
    let server = serving(|| reply("200 OK", &["content-encoding: gzip, gzip"], "x")).await;
    assert_eq!(fails(&server, "/x").await.code(), "unsupported-encoding");
}

#[tokio::test]
async fn a_body_that_trickles_is_given_up() {
    let drip = || {
        let head = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        vec![Do::Send(head), Do::Drip(vec![b'x'; 1_000])]
    };
    let slow = |adjust: fn(&mut FetchConfig)| async move {
        let server = serving(drip).await;
        let mut config = config(&[&server]);
        adjust(&mut config);
        fetch(config, &server.url("/x")).await.unwrap_err()
    };
    let error = slow(|config| config.limits.throughput_grace_ms = 100).await;
    assert_eq!(error.code(), "too-slow", "{error}");
    let error = slow(|config| config.limits.total_ms_max = 600).await;
    assert_eq!(error.code(), "timeout-total", "{error}");
}

#[tokio::test]
async fn unwanted_types_are_left_on_the_wire() {
    let server = serving(|| reply("200 OK", &["content-type: video/mp4"], "....")).await;
    let mut config = config(&[&server]);
    config.content_types = vec!["text/*".into()];
    let error = fetch(config, &server.url("/x")).await.unwrap_err();
    assert_eq!(error.code(), "content-type");
    assert!(error.to_string().contains("video/mp4"));
}
