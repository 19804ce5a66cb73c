//! Pages that nobody should get: what a node's limits and manners are for.
//!
//! They have a host and a campaign of their own, so that what is counted of real pages stays what
//! it is. Every node that is asked for one gives it back, until nobody is left to ask.

use std::convert::Infallible;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::limits;

/// The host of the traps.
pub const HOST: &str = "traps.devnet";
/// Closed by robots.txt.
const CLOSED: &str = "/closed/page.html";
/// Never ends.
const ENDLESS: &str = "/endless.html";
/// Some kilobytes that unpack to many megabytes.
const BOMB: &str = "/bomb.html";
/// Leads to an address inside.
const INSIDE: &str = "/inside.html";

/// What the traps were asked for.
#[derive(Debug, Default)]
pub struct Counts {
    /// What robots.txt closes: there should be none.
    pub closed: AtomicU64,
    /// The other traps.
    pub sprung: AtomicU64,
    /// What the redirect leads to: there should be none.
    pub inside: AtomicU64,
}

/// The site of the traps; it ends with its handle.
#[derive(Debug)]
pub struct Traps {
    /// Where it listens.
    pub address: SocketAddr,
    /// What was asked for.
    pub counts: Arc<Counts>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Clone)]
struct Site {
    counts: Arc<Counts>,
    bomb: Bytes,
    inside: SocketAddr,
}

/// URLs of all traps.
#[must_use]
pub fn urls() -> Vec<String> {
    [CLOSED, ENDLESS, BOMB, INSIDE].map(|path| format!("http://{HOST}{path}")).to_vec()
}

impl Traps {
    /// Serves the traps, and beside them a server that no profile names.
    ///
    /// # Errors
    /// When an address cannot be listened on.
    pub async fn start() -> anyhow::Result<Self> {
        let listen = async |ip: Ipv4Addr| {
            TcpListener::bind((ip, 0)).await.with_context(|| format!("serve traps on {ip}"))
        };
        let counts = Arc::new(Counts::default());
        let secret = listen(Ipv4Addr::new(127, 101, 1, 1)).await?;
        let site = Site {
            counts: Arc::clone(&counts),
            bomb: bomb()?,
            inside: secret.local_addr().context("read a site's address")?,
        };
        let listener = listen(Ipv4Addr::new(127, 100, 200, 1)).await?;
        let address = listener.local_addr().context("read a site's address")?;
        let found = Arc::clone(&counts);
        let inside = Router::new().fallback(async move || {
            found.inside.fetch_add(1, Ordering::Relaxed);
            "a page from inside"
        });
        let serve = |listener, routes: Router| {
            tokio::spawn(async move {
                // It ends with the devnet.
                let _ = axum::serve(listener, routes).await;
            })
        };
        let routes = Router::new().fallback(answer).with_state(site);
        let tasks = [serve(listener, routes), serve(secret, inside)];
        Ok(Self { address, counts, tasks })
    }
}

impl Drop for Traps {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn answer(State(site): State<Site>, uri: Uri) -> Response {
    let html = (header::CONTENT_TYPE, "text/html");
    let sprung = || site.counts.sprung.fetch_add(1, Ordering::Relaxed);
    match uri.path() {
        "/robots.txt" => {
            let text = "User-agent: *\nDisallow: /closed/\n";
            ([(header::CONTENT_TYPE, "text/plain")], text).into_response()
        }
        CLOSED => {
            site.counts.closed.fetch_add(1, Ordering::Relaxed);
            StatusCode::FORBIDDEN.into_response()
        }
        ENDLESS => {
            sprung();
            let piece = Bytes::from_static(&[b'x'; 16 * 1024]);
            let pieces = stream::repeat_with(move || Ok::<_, Infallible>(piece.clone()));
            ([html], Body::from_stream(pieces)).into_response()
        }
        BOMB => {
            sprung();
            ([html, (header::CONTENT_ENCODING, "gzip")], Body::from(site.bomb)).into_response()
        }
        INSIDE => {
            sprung();
            let to = format!("http://{}/", site.inside);
            (StatusCode::FOUND, [(header::LOCATION, to)]).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn bomb() -> anyhow::Result<Bytes> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    let piece = vec![b' '; 1 << 20];
    for _ in 0..limits::BOMB_MIB {
        packed.write_all(&piece).context("pack a bomb")?;
    }
    Ok(packed.finish().context("pack a bomb")?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_trap_is_what_it_says() {
        let traps = Traps::start().await.unwrap();
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        let base = format!("http://{}", traps.address);
        let get = |path: &str| client.get(format!("{base}{path}")).send();
        assert!(get("/robots.txt").await.unwrap().text().await.unwrap().contains("/closed/"));
        assert_eq!(get(CLOSED).await.unwrap().status(), 403);
        let bomb = get(BOMB).await.unwrap().bytes().await.unwrap();
        assert!(bomb.len() as u64 * 200 < limits::BOMB_MIB << 20, "{}", bomb.len());
        let mut endless = get(ENDLESS).await.unwrap();
        let mut bytes = 0;
        while bytes < 4 << 20 {
            bytes += endless.chunk().await.unwrap().unwrap().len();
        }
        let to = get(INSIDE).await.unwrap().headers()["location"].to_str().unwrap().to_owned();
        assert_eq!(client.get(to).send().await.unwrap().status(), 200);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &traps.counts;
        assert_eq!([&counts.closed, &counts.sprung, &counts.inside].map(count), [1, 3, 1]);
        assert_eq!(urls().len(), 4);
    }
}
