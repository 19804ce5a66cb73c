//! A server of scripted bytes on a free port of 127.0.0.1, and a fetcher for it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use openledger_fetch::{FetchConfig, FetchError, FetchOutcome, FetchRequest, Fetcher, UserAgent};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One thing that a server does with a connection, in order.
pub(crate) enum Do {
    Send(Vec<u8>),
    /// Sends the bytes again and again until the other side hangs up.
    Forever(Vec<u8>),
    /// Sends one byte of the rest every 40 ms.
    Drip(Vec<u8>),
    /// Keeps the connection open and silent.
    Hang,
}

pub(crate) type Script = Vec<Do>;

/// A server and what it saw.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Server {
    /// Answers each request with what `script` gives for its path.
    pub(crate) async fn start(script: impl Fn(&str) -> Script + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0", script).await
    }

    pub(crate) async fn start_at(
        address: &str,
        script: impl Fn(&str) -> Script + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, script) = (Arc::clone(&seen), Arc::new(script));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&log), Arc::clone(&script)));
            }
        });
        Self { address, seen }
    }

    /// `http://site.test:PORT` + path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://site.test:{}{path}", self.address.port())
    }

    /// Request heads so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|(_, head)| head.clone()).collect()
    }

    /// Paths asked for so far.
    pub(crate) fn paths(&self) -> Vec<String> {
        let path = |head: &String| head.split(' ').nth(1).unwrap_or_default().to_owned();
        self.heads().iter().map(path).collect()
    }

    /// When each request came.
    pub(crate) fn times(&self) -> Vec<Instant> {
        self.seen.lock().unwrap().iter().map(|(time, _)| *time).collect()
    }
}

async fn serve(
    mut stream: TcpStream,
    seen: Arc<Mutex<Vec<(Instant, String)>>>,
    script: Arc<impl Fn(&str) -> Script>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read_exact(&mut byte).await.is_err() {
            break;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    seen.lock().unwrap().push((Instant::now(), head));
    let steps = script(&path);
    for step in steps {
        match step {
            Do::Send(bytes) => {
                let _ = stream.write_all(&bytes).await;
            }
            Do::Forever(bytes) => while stream.write_all(&bytes).await.is_ok() {},
            Do::Drip(bytes) => {
                for byte in bytes {
                    if stream.write_all(&[byte]).await.is_err() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(40)).await;
                }
            }
            Do::Hang => tokio::time::sleep(Duration::from_secs(60)).await,
        }
    }
    let _ = stream.shutdown().await;
}

/// A whole response with a proper length.
pub(crate) fn reply(status: &str, headers: &[&str], body: impl AsRef<[u8]>) -> Script {
    let body = body.as_ref();
    let mut head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", body.len());
    for header in headers {
        head.push_str(&format!("{header}\r\n"));
    }
    head.push_str("\r\n");
    vec![Do::Send([head.as_bytes(), body].concat())]
}

/// 404 for robots.txt, `page` for everything else.
pub(crate) fn without_robots(path: &str, page: Script) -> Script {
    if path == "/robots.txt" { reply("404 Not Found", &[], "") } else { page }
}

/// A configuration that reaches `servers` as `site.test`, without pauses and with
/// small limits.
pub(crate) fn config(servers: &[&Server]) -> FetchConfig {
    let mut config = FetchConfig::new(UserAgent {
        product: "OpenLedgerBot".into(),
        version: "0.1".into(),
        coordinator: "devnet".into(),
        campaign: "manuals".into(),
        contact: "https://openledger.example/abuse".into(),
    });
    config.limits.delay_ms_default = 0;
    config.limits.wire_bytes_max = 256 << 10;
    config.limits.decoded_bytes_max = 1 << 20;
    config.limits.ratio_free_bytes = 16 << 10;
    for server in servers {
        let key = format!("site.test:{}", server.address.port());
        config.private_hosts.insert(key, vec![server.address]);
    }
    config
}

pub(crate) async fn fetch(config: FetchConfig, url: &str) -> Result<FetchOutcome, FetchError> {
    Fetcher::new(config).unwrap().fetch(FetchRequest::new(url)).await
}

/// Fetches from `server` and gives the error.
pub(crate) async fn fails(server: &Server, path: &str) -> FetchError {
    fetch(config(&[server]), &server.url(path)).await.unwrap_err()
}
