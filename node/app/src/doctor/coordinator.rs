//! The coordinator: its HTTP API and its QUIC link, told apart.

use std::error::Error as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use openledger_swarm::{LinkClient, LinkClientConfig, LinkError, LinkEvent};
use openledger_web::doctor::Finding;
use openledger_wire::gossip::Announcement;
use openledger_wire::link::LinkRequest;
use openledger_wire::profile::Profile;
use openledger_wire::{Envelope, List, NetworkId, NodeId, NodeKey, UnixMs};
use serde::Deserialize;

use super::clock::{Reading, date_ms};
use super::examine::Patient;
use super::outside::Heard;
use super::udp::{self, Echo};
use crate::limits;
use crate::time;

/// What the HTTP API said.
#[derive(Clone, Debug)]
pub(super) struct Api {
    pub(super) answer: Result<ApiAnswer, String>,
}

/// An answer of the HTTP API.
#[derive(Clone, Debug)]
pub(super) struct ApiAnswer {
    status: u16,
    network: Option<NetworkId>,
    pub(super) clock: Option<Reading>,
}

/// What of the status is looked at.
#[derive(Deserialize)]
struct StatusBody {
    network: NetworkId,
    now: Option<u64>,
}

/// What a link address answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Knock {
    /// The coordinator, with the right key.
    Answers,
    /// Somebody with another key.
    OtherKey(NodeId),
    /// Nobody, or not in time.
    Nothing(String),
}

/// A link address and what was found there.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) address: SocketAddr,
    pub(super) knock: Knock,
    pub(super) echo: Echo,
}

/// Asks the HTTP API for its status.
pub(super) async fn ask_api(profile: &Profile) -> Api {
    Api { answer: ask_status(&profile.coordinator.api).await }
}

async fn ask_status(base: &str) -> Result<ApiAnswer, String> {
    let http = reqwest::Client::builder()
        .timeout(limits::DOCTOR_PROBE_TIME_MAX)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| why(&error))?;
    let url = format!("{}/api/v1/status", base.trim_end_matches('/'));
    let before = time::now();
    let mut response = http.get(url).send().await.map_err(|error| why(&error))?;
    let after = time::now();
    let status = response.status().as_u16();
    let date = response.headers().get(reqwest::header::DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(date_ms);
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| why(&error))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > limits::DOCTOR_BODY_BYTES_MAX {
            return Err("its answer is longer than any status".to_owned());
        }
    }
    let body: Option<StatusBody> = serde_json::from_slice(&bytes).ok();
    let exact = body.as_ref().and_then(|body| body.now);
    let exact = exact.map(|now| Reading::new(before, after, now, 0));
    // A date has whole seconds.
    let clock = exact.or_else(|| date.map(|date| Reading::new(before, after, date + 500, 500)));
    Ok(ApiAnswer { status, network: body.map(|body| body.network), clock })
}

/// The innermost cause, which is the one that people can do something about.
fn why(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} ms", limits::DOCTOR_PROBE_TIME_MAX.as_millis());
    }
    let mut inner: &dyn std::error::Error = error;
    let mut source = error.source();
    while let Some(next) = source {
        inner = next;
        source = next.source();
    }
    inner.to_string()
}

/// Tries each link address of the profile, under a key of its own.
pub(super) async fn knock(patient: &Patient, profile: &Profile) -> Vec<Link> {
    let bind = Some(patient.config.network.bind).filter(|bind| !bind.is_unspecified());
    let (server, network) = (profile.coordinator.node, profile.network());
    let tried: Vec<_> = profile
        .coordinator
        .link
        .iter()
        .map(|address| {
            let address = *address;
            tokio::spawn(async move {
                let (knock, echo) = tokio::join!(
                    handshake(address, server, network, bind),
                    udp::echo(address, bind)
                );
                Link { address, knock, echo }
            })
        })
        .collect();
    let mut links = Vec::new();
    for link in tried {
        links.extend(link.await);
    }
    links
}

async fn handshake(
    address: SocketAddr,
    server_key: NodeId,
    network: NetworkId,
    bind: Option<IpAddr>,
) -> Knock {
    let hello = NodeKey::generate().map_err(|error| error.to_string()).and_then(|key| {
        let hello = hello(&key, network).map_err(|error| error.to_string())?;
        Ok((key, hello))
    });
    let (key, hello) = match hello {
        Ok(made) => made,
        Err(reason) => return Knock::Nothing(reason),
    };
    let config = LinkClientConfig {
        key,
        server_key,
        addresses: vec![address],
        bind,
        hello: Arc::new(move || hello.clone()),
    };
    let (link, mut events) = match LinkClient::start(config) {
        Ok(started) => started,
        Err(error) => return Knock::Nothing(error.to_string()),
    };
    let first = tokio::time::timeout(limits::DOCTOR_PROBE_TIME_MAX, events.recv()).await;
    link.stop();
    match first {
        Ok(Some(LinkEvent::Connected(_))) => Knock::Answers,
        Ok(Some(LinkEvent::Disconnected(error))) => match error {
            // The right key refused a stranger, as it should.
            LinkError::HelloRefused { .. } => Knock::Answers,
            LinkError::WrongServerKey { found, .. } => Knock::OtherKey(found),
            LinkError::Unreachable { reason, .. } | LinkError::Closed { reason } => {
                Knock::Nothing(reason)
            }
            error => Knock::Nothing(error.to_string()),
        },
        Ok(_) => Knock::Nothing("the attempt ended".to_owned()),
        Err(_) => Knock::Nothing(format!(
            "no answer within {} ms",
            limits::DOCTOR_PROBE_TIME_MAX.as_millis()
        )),
    }
}

/// A greeting of a version that no coordinator speaks: it is refused before anything is looked at,
/// so that nobody is registered by being looked for.
fn hello(key: &NodeKey, network: NetworkId) -> Result<LinkRequest, openledger_wire::EncodeError> {
    let nothing = Announcement {
        at: UnixMs(0),
        blob_addresses: List::default(),
        kinds: List::default(),
        blobs: List::default(),
        offers: List::default(),
    };
    Ok(LinkRequest::Hello { version: 0, registration: Envelope::seal(&nothing, network, key)? })
}

/// Judges the link.
pub(super) fn judge_link(patient: &Patient, profile: &Profile, heard: &Heard) -> Finding {
    const CODE: &str = "coordinator-link";
    let running = patient.running.as_ref();
    if running.is_some_and(|running| running.is_linked(&profile.name)) {
        return Finding::fine(CODE, "the running node is connected");
    }
    if let Some(link) = heard.links.iter().find(|link| link.knock == Knock::Answers) {
        let found = format!("{} answers with the coordinator's key", link.address);
        let problem = running.and_then(|running| running.link_problem(&profile.name));
        let Some(problem) = problem else { return Finding::fine(CODE, found) };
        let mend = "wait a minute: the node connects again by itself; if it stays so, do what the cause says";
        let found = format!("{found}, but the running node is not connected");
        return Finding::error(CODE, found, format!("failed to {problem}"), mend);
    }
    let other = heard.links.iter().find_map(|link| match &link.knock {
        Knock::OtherKey(key) => Some((link.address, *key)),
        _ => None,
    });
    if let Some((address, key)) = other {
        let expected = profile.coordinator.node;
        let found = format!("{address} answers with key {key}, the profile names {expected}");
        let cause = "the coordinator has a new key, another server listens there, or somebody is in between";
        let mend = "get the profile anew from its publisher by a way that you trust, then `openledger up --network FILE`; do not go on if the publisher knows nothing of a change";
        return Finding::error(CODE, found, cause, mend);
    }
    if heard.links.is_empty() {
        let mend = "get a complete profile from the network's publisher";
        return Finding::error(CODE, "no address is known", "the profile names none", mend);
    }
    let tried: Vec<String> = heard
        .links
        .iter()
        .map(|link| match &link.knock {
            Knock::Nothing(reason) => format!("{} ({reason})", link.address),
            _ => link.address.to_string(),
        })
        .collect();
    let found = format!("no answer from {}", tried.join(", "));
    if heard.api.answer.is_ok() {
        let cause =
            "the coordinator runs, since its HTTP API answers; only its QUIC link (UDP) does not";
        return Finding::error(CODE, found, cause, "see `udp` below");
    }
    let cause = "neither HTTP nor QUIC answers: the coordinator is down, this machine is offline, or the profile's addresses are old";
    let host = heard.links.first().map(|link| link.address.ip().to_string()).unwrap_or_default();
    let mend = format!(
        "see whether this machine is online (`ping -c 3 {host}`); if it is, wait: the node keeps its work and connects again by itself; if it lasts, get a newer profile from the network's publisher"
    );
    Finding::error(CODE, found, cause, mend)
}

/// Judges the HTTP API.
pub(super) fn judge_api(profile: &Profile, heard: &Heard) -> Finding {
    const CODE: &str = "coordinator-api";
    let url = shown(&profile.coordinator.api);
    let answer = match &heard.api.answer {
        Ok(answer) => answer,
        Err(reason) => {
            let found = format!("{url} does not answer: {reason}");
            let linked = heard.links.iter().any(|link| link.knock == Knock::Answers);
            let (cause, mend) = if linked {
                (
                    "the link works, so the coordinator runs; its HTTP address is wrong, or a firewall or proxy stops TCP to it",
                    "allow outgoing TCP to that address; until then `audit` and `doctor`'s view of the clock do without it, work does not need it",
                )
            } else {
                (
                    "the coordinator is down, this machine is offline, or the profile's address is old",
                    "see `coordinator-link`",
                )
            };
            return Finding::warning(CODE, found, cause, mend);
        }
    };
    match answer.network {
        Some(network) if network == profile.network() => {
            Finding::fine(CODE, format!("{url} answers"))
        }
        Some(network) => {
            let found = format!("{url} serves another network ({})", network.short());
            let cause = format!(
                "the profile describes network {}; it is old, or its address is another coordinator's",
                profile.network().short()
            );
            let mend = "get a newer profile from the network's publisher, then `openledger up --network FILE`";
            Finding::error(CODE, found, cause, mend)
        }
        None => {
            let found = format!(
                "{url} answers with status {} and no status of a coordinator",
                answer.status
            );
            let cause = "another server or a proxy answers there, or the coordinator has trouble of its own";
            let mend = "try again in a minute; if it stays so, tell the coordinator's operator, or get a newer profile";
            Finding::warning(CODE, found, cause, mend)
        }
    }
}

/// A URL without what may be secret in it: scheme, host and port.
pub(super) fn shown(url: &str) -> String {
    match url.parse::<reqwest::Url>() {
        Ok(url) => url.origin().ascii_serialization(),
        Err(_) => "a text that is no URL".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_shown_without_their_secrets() {
        assert_eq!(shown("https://user:pass@rpc.example:444/v2/key"), "https://rpc.example:444");
        assert_eq!(shown("no url"), "a text that is no URL");
    }
}
