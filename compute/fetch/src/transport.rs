//! One hop: a request to a judged address, its head, its bounded body.
//!
//! `reqwest` does the HTTP and TLS; everything that it would do on its own is
//! switched off: redirects, cookies, referer, proxies of the environment,
//! decompression, connection reuse, retries. Its resolver knows nothing but the
//! address pinned for the request at hand, so it cannot go anywhere else.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response};
use tokio::time::Instant;

use crate::config::FetchConfig;
use crate::decode::{BodyDecoder, ContentEncoding, DecodeLimits, Decoded};
use crate::error::{FetchError, TimeoutPhase, shortened};
use crate::limits::FetchLimits;
use crate::page_url::PageUrl;

/// The addresses that requests under way may connect to, by host name.
#[derive(Debug, Default)]
struct Pins(Mutex<BTreeMap<String, SocketAddr>>);

impl Resolve for Pins {
    fn resolve(&self, name: Name) -> Resolving {
        let pinned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = match pinned.get(name.as_str()) {
            Some(address) => Ok(Box::new(std::iter::once(*address)) as Addrs),
            None => Err(io::Error::other("the host was not judged").into()),
        };
        Box::pin(std::future::ready(answer))
    }
}

/// A pin for the time of one request. Politeness lets only one request at a time
/// reach a host, so no other request can need the same name elsewhere.
struct Pin<'a> {
    pins: &'a Pins,
    host: &'a str,
}

impl<'a> Pin<'a> {
    fn new(pins: &'a Pins, host: &'a str, address: SocketAddr) -> Self {
        let mut pinned = pins.0.lock().unwrap_or_else(PoisonError::into_inner);
        pinned.insert(host.to_owned(), address);
        Self { pins, host }
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        self.pins.0.lock().unwrap_or_else(PoisonError::into_inner).remove(self.host);
    }
}

/// What a hop answered, body still on the wire.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) reason: &'static str,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) address: SocketAddr,
    response: Response,
}

impl Answer {
    /// The first value of a field.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// The HTTP client behind a fetcher.
pub(crate) struct Transport {
    client: Client,
    pins: Arc<Pins>,
}

impl Transport {
    pub(crate) fn new(config: &FetchConfig) -> Result<Self, FetchError> {
        let pins = Arc::new(Pins::default());
        let builder = || {
            Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .no_proxy()
                .no_gzip()
                .no_brotli()
                .no_zstd()
                .no_deflate()
                .http1_only()
                .http1_max_headers(config.limits.header_count_max)
                .pool_max_idle_per_host(0)
                .connect_timeout(Duration::from_millis(config.limits.connect_ms_max))
                .local_address(config.local_address)
                .dns_resolver(Arc::clone(&pins))
        };
        // A bare machine has no root certificates; plain http still works there,
        // and https then fails with a message about trust.
        let client = builder().build().or_else(|error| {
            tracing::warn!(%error, "no root certificates, https pages cannot be fetched");
            builder().tls_certs_only([]).build()
        });
        let client = client.map_err(|e| FetchError::Config(causes(&e)))?;
        Ok(Self { client, pins })
    }

    /// Sends a GET to the pinned address and reads the response head.
    pub(crate) async fn send(
        &self,
        url: &PageUrl,
        address: SocketAddr,
        fields: &[(&'static str, String)],
        limits: &FetchLimits,
        deadline: Instant,
    ) -> Result<Answer, FetchError> {
        let headers = header_map(fields)?;
        let _pin = Pin::new(&self.pins, url.host(), address);
        let request = self.client.get(url.as_url().clone()).headers(headers).send();
        let head_ms_max = limits.connect_ms_max.saturating_add(limits.first_byte_ms_max);
        let head_deadline = Instant::now() + Duration::from_millis(head_ms_max);
        let sent = tokio::time::timeout_at(deadline.min(head_deadline), Box::pin(request)).await;
        let response = match sent {
            Ok(Ok(response)) => response,
            Ok(Err(e)) => return Err(send_error(&e, url, address, limits)),
            Err(_) if deadline < head_deadline => return Err(total_timeout(url, limits)),
            Err(_) => {
                let (host, phase) = (url.host().to_owned(), TimeoutPhase::FirstByte);
                let limit_ms = limits.first_byte_ms_max;
                return Err(FetchError::Timeout { host, phase, limit_ms });
            }
        };
        answer(response, url, address, limits)
    }

    /// Reads a whole body within all bounds.
    pub(crate) async fn body(
        &self,
        answer: Answer,
        url: &PageUrl,
        encoding: ContentEncoding,
        limits: &FetchLimits,
        deadline: Instant,
    ) -> Result<Decoded, FetchError> {
        let bad = |e| FetchError::from_decode(e, url.as_str(), encoding);
        let mut decoder = BodyDecoder::new(encoding, decode_limits(limits)).map_err(bad)?;
        if answer.response.content_length().is_some_and(|length| length > limits.wire_bytes_max) {
            let limit_bytes = limits.wire_bytes_max;
            return Err(FetchError::BodyTooLarge { url: url.to_string(), limit_bytes });
        }
        let mut reader = BodyReader::new(answer.response, url, limits, deadline);
        while let Some(piece) = reader.next().await? {
            decoder.push(&piece).map_err(bad)?;
        }
        decoder.finish().map_err(bad)
    }

    /// Reads the first `bytes_max` decoded bytes of a body and leaves the rest.
    pub(crate) async fn beginning(
        &self,
        answer: Answer,
        url: &PageUrl,
        encoding: ContentEncoding,
        limits: &FetchLimits,
        deadline: Instant,
    ) -> Result<Vec<u8>, FetchError> {
        let bad = |e| FetchError::from_decode(e, url.as_str(), encoding);
        let bytes_max = usize::try_from(limits.robots_bytes_max).unwrap_or(usize::MAX);
        let mut decoder = BodyDecoder::new(encoding, decode_limits(limits)).map_err(bad)?;
        let mut reader = BodyReader::new(answer.response, url, limits, deadline);
        while let Some(piece) = reader.next().await? {
            decoder.push(&piece).map_err(bad)?;
            if decoder.decoded_bytes() >= bytes_max {
                let mut body = decoder.abandon();
                body.truncate(bytes_max);
                return Ok(body);
            }
        }
        decoder.finish().map(|decoded| decoded.body).map_err(bad)
    }
}

/// Pulls pieces of a body, watching the clock.
struct BodyReader<'a> {
    response: Response,
    url: &'a PageUrl,
    limits: &'a FetchLimits,
    started: Instant,
    deadline: Instant,
    received: u64,
}

impl<'a> BodyReader<'a> {
    fn new(
        response: Response,
        url: &'a PageUrl,
        limits: &'a FetchLimits,
        deadline: Instant,
    ) -> Self {
        Self { response, url, limits, started: Instant::now(), deadline, received: 0 }
    }

    async fn next(&mut self) -> Result<Option<bytes::Bytes>, FetchError> {
        // At the required rate, this many bytes have paid for the time until here.
        let paid_ms = self.received.saturating_mul(1_000) / self.limits.throughput_min.max(1);
        let patience_ms = self.limits.throughput_grace_ms.saturating_add(paid_ms);
        let slow_at = self.started.checked_add(Duration::from_millis(patience_ms));
        let slow_at = slow_at.unwrap_or(self.deadline);
        match tokio::time::timeout_at(self.deadline.min(slow_at), self.response.chunk()).await {
            Ok(Ok(Some(piece))) => {
                self.received += piece.len() as u64;
                Ok(Some(piece))
            }
            Ok(Ok(None)) => Ok(None),
            Ok(Err(e)) => {
                let detail = shortened(&causes(&e));
                Err(FetchError::Incomplete { url: self.url.to_string(), detail })
            }
            Err(_) if self.deadline <= slow_at => Err(total_timeout(self.url, self.limits)),
            Err(_) => Err(FetchError::TooSlow {
                host: self.url.host().to_owned(),
                bytes_per_second: self.limits.throughput_min,
            }),
        }
    }
}

/// The coding of an answer, if it is one that is understood.
pub(crate) fn encoding_of(answer: &Answer, url: &PageUrl) -> Result<ContentEncoding, FetchError> {
    let codings: Vec<&str> = answer
        .headers
        .iter()
        .filter(|(name, _)| name == CONTENT_ENCODING.as_str())
        .map(|(_, value)| value.as_str())
        .collect();
    let value = codings.join(",");
    ContentEncoding::from_header(&value).ok_or_else(|| FetchError::UnsupportedEncoding {
        url: url.to_string(),
        encoding: shortened(&value),
    })
}

/// Checks the head and takes it out of the response.
fn answer(
    response: Response,
    url: &PageUrl,
    address: SocketAddr,
    limits: &FetchLimits,
) -> Result<Answer, FetchError> {
    let fields = response.headers();
    let bytes: usize = fields.iter().map(|(n, v)| n.as_str().len() + v.len() + 4).sum();
    if bytes > limits.header_bytes_max {
        return Err(headers_too_large(url, limits));
    }
    // The pin leaves no other way; still, what goes into a proof is what was seen.
    if let Some(seen) = response.remote_addr().filter(|seen| *seen != address) {
        let detail = format!("the connection went to {seen} instead");
        let host = url.host().to_owned();
        return Err(FetchError::Connect { host, address: address.ip(), detail });
    }
    let headers = fields
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "set-cookie" | "set-cookie2"))
        .map(|(name, value)| {
            let text = value.as_bytes().iter().map(|b| char::from(*b)).collect();
            (name.as_str().to_owned(), text)
        })
        .collect();
    let status = response.status();
    let reason = status.canonical_reason().unwrap_or("Unknown");
    Ok(Answer { status: status.as_u16(), reason, headers, address, response })
}

fn header_map(fields: &[(&'static str, String)]) -> Result<HeaderMap, FetchError> {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let value = HeaderValue::from_str(value).map_err(|_| {
            FetchError::Config(format!("request field {name} cannot hold \"{}\"", shortened(value)))
        })?;
        map.insert(HeaderName::from_static(name), value);
    }
    Ok(map)
}

fn decode_limits(limits: &FetchLimits) -> DecodeLimits {
    DecodeLimits {
        wire_bytes_max: limits.wire_bytes_max,
        decoded_bytes_max: limits.decoded_bytes_max,
        ratio_max: limits.ratio_max,
        ratio_free_bytes: limits.ratio_free_bytes,
    }
}

fn total_timeout(url: &PageUrl, limits: &FetchLimits) -> FetchError {
    let (host, phase) = (url.host().to_owned(), TimeoutPhase::Total);
    FetchError::Timeout { host, phase, limit_ms: limits.total_ms_max }
}

fn headers_too_large(url: &PageUrl, limits: &FetchLimits) -> FetchError {
    FetchError::HeadersTooLarge {
        host: url.host().to_owned(),
        limit_bytes: limits.header_bytes_max,
        limit_count: limits.header_count_max,
    }
}

/// Sorts the failure of a request into ours.
fn send_error(
    error: &reqwest::Error,
    url: &PageUrl,
    address: SocketAddr,
    limits: &FetchLimits,
) -> FetchError {
    let host = url.host().to_owned();
    let detail = shortened(&causes(error));
    if caused_by_tls(error) {
        return FetchError::Tls { host, detail };
    }
    if error.is_connect() && error.is_timeout() {
        let phase = TimeoutPhase::Connect;
        return FetchError::Timeout { host, phase, limit_ms: limits.connect_ms_max };
    }
    if error.is_connect() {
        return FetchError::Connect { host, address: address.ip(), detail };
    }
    // The HTTP library keeps the kind to itself and gives this sentence for both
    // too many bytes and too many fields.
    if detail.contains("message head is too large") {
        return headers_too_large(url, limits);
    }
    FetchError::BadResponse { host, detail }
}

/// Whether a TLS error is among the causes; I/O errors hide theirs from `source`.
fn caused_by_tls(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<rustls::Error>() {
            return true;
        }
        let hidden = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if hidden.is_some_and(|hidden| caused_by_tls(hidden)) {
            return true;
        }
        next = error.source();
    }
    false
}

/// The innermost reasons of an error in one line, without its URL.
fn causes(error: &reqwest::Error) -> String {
    let mut parts = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !parts.contains(&text) {
            parts.push(text);
        }
        next = cause.source();
    }
    if parts.is_empty() { "no further reason".to_owned() } else { parts.join(": ") }
}
