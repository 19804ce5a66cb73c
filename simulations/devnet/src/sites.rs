//! The web sites that nodes fetch from: real pages behind robots.txt, each host on its own address.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::corpus::Slice;

/// Paths that robots.txt closes, as it does on real sites; `traps` has one that is asked for.
const CLOSED: &str = "/closed/";

/// What the sites were asked for.
#[derive(Debug, Default)]
pub struct Counts {
    /// Pages.
    pub pages: AtomicU64,
    /// robots.txt files.
    pub robots: AtomicU64,
    /// Paths that robots.txt closes: there should be none.
    pub closed: AtomicU64,
    /// Paths that do not exist.
    pub missing: AtomicU64,
}

/// All sites; they end when this is dropped.
#[derive(Debug)]
pub struct Sites {
    /// `host:80` and the address that serves it.
    pub addresses: BTreeMap<String, SocketAddr>,
    /// What was asked for.
    pub counts: Arc<Counts>,
    _tasks: JoinSet<()>,
}

#[derive(Clone)]
struct Site {
    host: Arc<str>,
    robots: Arc<str>,
    pages: Arc<BTreeMap<String, PathBuf>>,
    counts: Arc<Counts>,
}

impl Sites {
    /// Serves every slice on a loopback address of its own.
    ///
    /// # Errors
    /// When an address cannot be listened on.
    pub async fn start(slices: &[Slice]) -> anyhow::Result<Self> {
        let counts = Arc::new(Counts::default());
        let (mut addresses, mut tasks) = (BTreeMap::new(), JoinSet::new());
        for (slice, n) in slices.iter().zip(1u8..) {
            let ip = Ipv4Addr::new(127, 100, n, 1);
            let listener = TcpListener::bind((ip, 0))
                .await
                .with_context(|| format!("serve {} on {ip}", slice.host))?;
            let address = listener.local_addr().context("read a site's address")?;
            addresses.insert(format!("{}:80", slice.host), address);
            let site = Site {
                host: slice.host.as_str().into(),
                robots: slice.robots.clone().unwrap_or_else(|| robots(n)).into(),
                pages: Arc::new(slice.pages.iter().cloned().collect()),
                counts: Arc::clone(&counts),
            };
            let routes = Router::new().fallback(answer).with_state(site);
            tasks.spawn(async move {
                // It ends with the devnet.
                let _ = axum::serve(listener, routes).await;
            });
        }
        Ok(Self { addresses, counts, _tasks: tasks })
    }
}

/// Each site asks for another pause, from 0.2 to 1 s, and closes something.
fn robots(n: u8) -> String {
    let tenths = 2 + u32::from(n) % 9;
    format!(
        "User-agent: *\nCrawl-delay: {}.{}\nDisallow: {CLOSED}\nDisallow: /*?print=\n\nUser-agent: BadBot\nDisallow: /\n",
        tenths / 10,
        tenths % 10
    )
}

async fn answer(State(site): State<Site>, uri: Uri) -> Response {
    let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
    let path = uri.path();
    if path == "/robots.txt" {
        count(&site.counts.robots);
        return ([(header::CONTENT_TYPE, "text/plain")], site.robots.to_string()).into_response();
    }
    if path.starts_with(CLOSED) || uri.query().is_some_and(|query| query.starts_with("print=")) {
        count(&site.counts.closed);
        return StatusCode::FORBIDDEN.into_response();
    }
    let Some(file) = site.pages.get(path) else {
        count(&site.counts.missing);
        return (StatusCode::NOT_FOUND, format!("{} has no page {path}\n", site.host))
            .into_response();
    };
    match tokio::fs::read(file).await {
        Ok(page) => {
            count(&site.counts.pages);
            ([(header::CONTENT_TYPE, "text/html")], Body::from(page)).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hosts_have_addresses_of_their_own_and_close_what_robots_txt_closes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.html");
        std::fs::write(&file, "<p>real</p>").unwrap();
        let slice = |n: u8| Slice {
            host: format!("docs{n:02}.devnet"),
            pages: vec![("/0/a.html".to_owned(), file.clone())],
            robots: None,
        };
        let sites = Sites::start(&[slice(1), slice(2)]).await.unwrap();
        let (first, second) =
            (sites.addresses["docs01.devnet:80"], sites.addresses["docs02.devnet:80"]);
        assert_ne!(first.ip(), second.ip());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let get = async |path: &str| {
            let answer = client.get(format!("http://{first}{path}")).send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        };
        assert_eq!(get("/0/a.html").await, (200, "<p>real</p>".to_owned()));
        assert!(get("/robots.txt").await.1.contains("Crawl-delay: 0.3"));
        assert_eq!(get("/closed/x").await.0, 403);
        assert_eq!(get("/b.html").await.0, 404);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &sites.counts;
        let all = [&counts.pages, &counts.robots, &counts.closed, &counts.missing];
        assert_eq!(all.map(count), [1, 1, 1, 1]);
    }
}
