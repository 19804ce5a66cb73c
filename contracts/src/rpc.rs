//! JSON-RPC over several endpoints: each tried in turn, every request with a deadline.
//!
//! Only requests that may be repeated go through here. A signed transaction is one of them,
//! because its bytes can take effect once at most.

use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use alloy::providers::{Provider, RootProvider};
use alloy::rpc::client::RpcClient;
use alloy::transports::http::{Http, reqwest};
use alloy::transports::{RpcError, TransportError, TransportErrorKind, TransportResult};
use alloy_primitives::Bytes;
use openledger_wire::EvmAddress;
use url::Url;

use crate::error::{ChainError, Refusal};
use crate::limits::{
    ATTEMPTS, BACKOFF, CONNECT_TIMEOUT, ENDPOINTS_MAX, MESSAGE_SHOWN, REQUEST_TIMEOUT,
};

#[derive(Debug)]
struct Endpoint {
    /// Scheme, host and port: paths and user names often carry keys.
    shown: String,
    provider: RootProvider,
    /// Whether it was asked for its chain id.
    checked: AtomicBool,
}

/// The endpoints of one chain.
#[derive(Debug)]
pub(crate) struct Rpc {
    endpoints: Vec<Endpoint>,
    /// The one that answered last.
    preferred: AtomicUsize,
    chain_id: OnceLock<u64>,
}

/// One failed request.
enum Failure {
    /// Worth another try, here or elsewhere.
    Transient(TransportError),
    /// Trying again would give the same.
    Final(ChainError),
}

impl Rpc {
    /// Prepares the endpoints; nothing is sent yet.
    pub(crate) fn new(urls: &[String], chain_id: Option<u64>) -> Result<Self, ChainError> {
        if urls.is_empty() || urls.len() > ENDPOINTS_MAX {
            return Err(ChainError::Endpoints { given: urls.len(), max: ENDPOINTS_MAX });
        }
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| ChainError::Client { reason: error.to_string() })?;
        let endpoints =
            urls.iter().map(|url| Endpoint::new(url, client.clone())).collect::<Result<_, _>>()?;
        let known = OnceLock::new();
        if let Some(id) = chain_id {
            known.get_or_init(|| id);
        }
        Ok(Self { endpoints, preferred: AtomicUsize::new(0), chain_id: known })
    }

    /// The id that every endpoint must have; `None` before the first answer if none was configured.
    pub(crate) fn chain_id(&self) -> Option<u64> {
        self.chain_id.get().copied()
    }

    /// Asks the endpoints in turn until one answers. `ask` must be safe to repeat.
    pub(crate) async fn run<T, F, Fut>(
        &self,
        what: &'static str,
        sender: Option<EvmAddress>,
        ask: F,
    ) -> Result<T, ChainError>
    where
        F: Fn(RootProvider) -> Fut + Sync,
        Fut: Future<Output = TransportResult<T>> + Send,
        T: Send,
    {
        let mut last = None;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(BACKOFF * 2u32.pow(attempt - 1)).await;
            }
            for offset in 0..self.endpoints.len() {
                let first = self.preferred.load(Ordering::Relaxed);
                let number = (first + offset) % self.endpoints.len();
                let Some(endpoint) = self.endpoints.get(number) else { continue };
                match self.ask_one(endpoint, what, sender, &ask).await {
                    Ok(value) => {
                        self.preferred.store(number, Ordering::Relaxed);
                        return Ok(value);
                    }
                    Err(Failure::Final(error)) => return Err(error),
                    Err(Failure::Transient(source)) => {
                        tracing::debug!(endpoint = endpoint.shown, what, %source, "rpc failed");
                        last = Some((endpoint.shown.clone(), source));
                    }
                }
            }
        }
        Err(match last {
            Some((endpoint, source)) => {
                ChainError::Unreachable { what, endpoint, attempts: ATTEMPTS, source }
            }
            None => ChainError::Endpoints { given: 0, max: ENDPOINTS_MAX },
        })
    }

    async fn ask_one<T, F, Fut>(
        &self,
        endpoint: &Endpoint,
        what: &'static str,
        sender: Option<EvmAddress>,
        ask: &F,
    ) -> Result<T, Failure>
    where
        F: Fn(RootProvider) -> Fut + Sync,
        Fut: Future<Output = TransportResult<T>> + Send,
        T: Send,
    {
        if !endpoint.checked.load(Ordering::Relaxed) {
            let provider = endpoint.provider.clone();
            let found = timed(async move { provider.get_chain_id().await })
                .await
                .map_err(|error| judge(what, sender, error))?;
            let expected = *self.chain_id.get_or_init(|| found);
            if found != expected {
                return Err(Failure::Final(ChainError::WrongChain {
                    endpoint: endpoint.shown.clone(),
                    found,
                    expected,
                }));
            }
            endpoint.checked.store(true, Ordering::Relaxed);
        }
        timed(ask(endpoint.provider.clone())).await.map_err(|error| judge(what, sender, error))
    }
}

impl Endpoint {
    fn new(text: &str, client: reqwest::Client) -> Result<Self, ChainError> {
        let bad = |reason: String| ChainError::BadUrl { url: text.to_owned(), reason };
        let url: Url = text.parse().map_err(|error: url::ParseError| bad(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad(format!("its scheme is {:?}", url.scheme())));
        }
        let host = url.host_str().unwrap_or_default();
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let shown = format!("{}://{host}{port}", url.scheme());
        let provider = RootProvider::new(RpcClient::new(Http::with_client(client, url), false));
        Ok(Self { shown, provider, checked: AtomicBool::new(false) })
    }
}

/// The request's own deadline, beside that of the HTTP client: a server may send slowly for ever.
async fn timed<T>(request: impl Future<Output = TransportResult<T>>) -> TransportResult<T> {
    tokio::time::timeout(REQUEST_TIMEOUT, request)
        .await
        .unwrap_or_else(|_| Err(TransportErrorKind::custom_str("no answer in time")))
}

fn judge(what: &'static str, sender: Option<EvmAddress>, error: TransportError) -> Failure {
    match error {
        RpcError::ErrorResp(payload) if !payload.is_retry_err() => {
            let reason = payload.as_revert_data();
            Failure::Final(refused(what, sender, reason, payload.code, &payload.message))
        }
        RpcError::NullResp => {
            Failure::Final(ChainError::BadAnswer { what, found: "nothing".to_owned() })
        }
        RpcError::DeserError { err, .. } => {
            Failure::Final(ChainError::BadAnswer { what, found: cut(&err.to_string()) })
        }
        RpcError::SerError(_) | RpcError::LocalUsageError(_) | RpcError::UnsupportedFeature(_) => {
            Failure::Final(ChainError::Signing { what, reason: cut(&error.to_string()) })
        }
        other => Failure::Transient(other),
    }
}

/// What a node's error means: a refusal by the contract, too little money, or its own refusal.
fn refused(
    what: &'static str,
    sender: Option<EvmAddress>,
    reason: Option<Bytes>,
    code: i64,
    message: &str,
) -> ChainError {
    if let Some(data) = reason {
        return ChainError::Refused { what, refusal: Refusal::decode(&data) };
    }
    let message = cut(message);
    let lower = message.to_lowercase();
    let is_poor = lower.contains("insufficient funds") || lower.contains("insufficient balance");
    if let Some(account) = sender.filter(|_| is_poor) {
        return ChainError::InsufficientFunds { what, account, message };
    }
    if lower.contains("revert") {
        return ChainError::Refused { what, refusal: Refusal::Other(message) };
    }
    ChainError::Node { what, code, message }
}

/// A remote message, short enough to be shown.
fn cut(message: &str) -> String {
    message.chars().filter(|c| !c.is_control()).take(MESSAGE_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_urls_are_taken_and_secrets_are_not_shown() {
        let urls = |list: &[&str]| list.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>();
        assert!(matches!(Rpc::new(&[], None), Err(ChainError::Endpoints { given: 0, .. })));
        let many = vec!["http://localhost".to_owned(); ENDPOINTS_MAX + 1];
        assert!(matches!(Rpc::new(&many, None), Err(ChainError::Endpoints { .. })));
        for bad in ["localhost:8545", "ws://localhost", "ipc:/tmp/x", ""] {
            assert!(
                matches!(Rpc::new(&urls(&[bad]), None), Err(ChainError::BadUrl { .. })),
                "{bad}"
            );
        }
        let rpc = Rpc::new(&urls(&["https://user:pass@rpc.example:444/v2/key"]), Some(5)).unwrap();
        assert_eq!(rpc.endpoints[0].shown, "https://rpc.example:444");
        assert_eq!(rpc.chain_id(), Some(5));
    }

    #[test]
    fn messages_of_nodes_are_cut() {
        assert_eq!(cut("a\nb\u{1b}[31m"), "ab[31m");
        assert_eq!(cut(&"x".repeat(5000)).len(), MESSAGE_SHOWN);
    }
}
