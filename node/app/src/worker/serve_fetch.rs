//! The fetch worker: many fetches at a time, because most of a fetch is waiting for one's turn.
//!
//! One process per network, for all its fetches, so that politeness and the memory of robots.txt are
//! not one page's. Between networks the node itself keeps turns (`tasks::turns`).

use std::sync::Arc;
use std::time::Duration;

use openledger_fetch::{FetchConfig, FetchOutcome, FetchRequest, Fetcher, Signals, UserAgent};
use openledger_refine::{PROFILE_V1, Page, process};
use openledger_wire::worker::{FetchSetup, FetchedPage, WorkerRequest, WorkerResponse};
use openledger_wire::{Blob, List, Text};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc};

use super::child::failed;
use super::frame::{FrameError, read_frame, write_frame};
use crate::limits;

/// Response fields that are kept; the rest says nothing about the page.
const HEADERS_KEPT: [&str; 12] = [
    "content-language",
    "content-type",
    "content-usage",
    "date",
    "etag",
    "expires",
    "last-modified",
    "link",
    "server",
    "tdm-policy",
    "tdm-reservation",
    "x-robots-tag",
];

pub(super) async fn serve(socket: UnixStream, time_max: Duration) -> Result<(), FrameError> {
    let (mut reader, mut writer) = socket.into_split();
    let (answers, mut answered) = mpsc::channel::<WorkerResponse>(limits::FETCHES_MAX);
    let writing = tokio::spawn(async move {
        while let Some(answer) = answered.recv().await {
            if write_frame(&mut writer, &answer).await.is_err() {
                return;
            }
        }
    });
    let slots = Arc::new(Semaphore::new(limits::FETCHES_MAX));
    let mut fetcher: Option<Fetcher> = None;
    // An answer that cannot be sent means that the node is gone, which the next reading shows.
    while let Some(request) = read_frame::<WorkerRequest>(&mut reader).await? {
        match request {
            WorkerRequest::Setup(setup) => match Fetcher::new(configuration(&setup, time_max)) {
                Ok(ready) => {
                    fetcher = Some(ready);
                    let _ = answers.send(WorkerResponse::Ready).await;
                }
                Err(error) => {
                    let answer = failed(0, error.code(), &error.to_string(), false);
                    let _ = answers.send(answer).await;
                }
            },
            WorkerRequest::Fetch { id, url } => {
                let Some(fetcher) = fetcher.clone() else {
                    let answer = failed(id, "not-set-up", "the worker was not set up", true);
                    let _ = answers.send(answer).await;
                    continue;
                };
                let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
                let answers = answers.clone();
                tokio::spawn(async move {
                    let answer = fetch(&fetcher, id, &url).await;
                    drop(slot);
                    let _ = answers.send(answer).await;
                });
            }
            WorkerRequest::Refine { id, .. } => {
                let answer = failed(id, "wrong-worker", "this worker fetches; ask another", false);
                let _ = answers.send(answer).await;
            }
        }
    }
    writing.abort();
    Ok(())
}

fn configuration(setup: &FetchSetup, time_max: Duration) -> FetchConfig {
    let texts = |list: &[Text<128>]| list.iter().map(|text| text.to_string()).collect();
    let mut config = FetchConfig::new(UserAgent {
        product: "OpenLedgerBot".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        coordinator: setup.coordinator.to_string(),
        campaign: "any".to_owned(),
        contact: setup.contact.to_string(),
    });
    let time_ms_max = u64::try_from(time_max.as_millis()).unwrap_or(u64::MAX);
    let bounds = &mut config.limits;
    bounds.queue_ms_max = bounds.queue_ms_max.min(time_ms_max);
    bounds.total_ms_max = bounds.total_ms_max.min(time_ms_max);
    config.private_hosts =
        setup.private_hosts.iter().map(|(host, to)| (host.clone(), to.to_vec())).collect();
    config.allow_hosts = texts(&setup.allow);
    config.deny_hosts = texts(&setup.deny);
    config.local_address = setup.bind;
    config
}

async fn fetch(fetcher: &Fetcher, id: u64, url: &str) -> WorkerResponse {
    let outcome = match fetcher.fetch(FetchRequest::new(url)).await {
        Ok(outcome) => outcome,
        Err(error) => return failed(id, error.code(), &error.to_string(), error.retryable()),
    };
    let handed_over = tokio::task::spawn_blocking(move || page_of(outcome)).await;
    match handed_over {
        Ok(Ok(page)) => WorkerResponse::Fetched { id, page: Box::new(page) },
        Ok(Err((code, message))) => failed(id, code, &message, false),
        Err(error) => failed(id, "fingerprint", &error.to_string(), false),
    }
}

type Refused = (&'static str, String);

/// The page as it is handed over, with the fingerprint of its text.
fn page_of(outcome: FetchOutcome) -> Result<FetchedPage, Refused> {
    let content_type = outcome.content_type.clone();
    let page = Page {
        url: outcome.final_url.clone(),
        status: outcome.status,
        content_type: content_type.clone(),
        body: outcome.body,
    };
    let fingerprint = process(&page, &PROFILE_V1)
        .map_err(|error| ("fingerprint", error.to_string()))?
        .fingerprint
        .to_bytes()
        .map_err(|error| ("fingerprint", error.to_string()))?;
    let kept = |name: &str| HEADERS_KEPT.binary_search(&name).is_ok();
    let headers: Vec<_> = outcome
        .headers
        .iter()
        .filter(|(name, _)| kept(name))
        .take(64)
        .map(|(name, value)| (Text::clipped(name), Text::clipped(value)))
        .collect();
    let final_url = Text::new(page.url).map_err(|error| ("bad-url", error.to_string()))?;
    Ok(FetchedPage {
        final_url,
        status: outcome.status,
        content_type: Text::clipped(&content_type.unwrap_or_default()),
        headers: List::new(headers).unwrap_or_default(),
        signals: signal_bits(&outcome.signals),
        address: Text::clipped(&outcome.address.to_string()),
        body: Blob::new(page.body).map_err(|error| ("body-too-large", error.to_string()))?,
        fingerprint: Blob::new(fingerprint).map_err(|error| ("fingerprint", error.to_string()))?,
    })
}

/// The opt-out signals of an answer as bits: 0 any reservation, 1 `noai`, 2 `noindex` or `none`,
/// 3 TDM reservation, 4 a `Content-Usage` that says no, 5 a TDM policy.
fn signal_bits(signals: &Signals) -> u32 {
    let tag = |tag: &str| signals.robots_tags.contains(tag);
    [
        signals.reserved(),
        tag("noai"),
        tag("noindex") || tag("none"),
        signals.tdm_reserved == Some(true),
        signals.content_usage.values().any(|value| value == "n"),
        signals.tdm_policy.is_some(),
    ]
    .into_iter()
    .enumerate()
    .fold(0, |bits, (at, set)| bits | (u32::from(set) << at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_headers_are_sorted_for_the_search() {
        assert!(HEADERS_KEPT.is_sorted());
    }

    #[test]
    fn signals_become_bits() {
        assert_eq!(signal_bits(&Signals::default()), 0);
        let signals = Signals::from_headers("x", [("x-robots-tag", "noai"), ("tdm-policy", "u")]);
        assert_eq!(signal_bits(&signals), 0b10_0011);
    }
}
