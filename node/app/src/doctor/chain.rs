//! Each RPC URL of the settlement chain: whether it answers, and for the right chain.

use openledger_contracts::{Chain, ChainError, ChainOptions};
use openledger_web::doctor::Finding;
use openledger_wire::profile::Profile;

use super::coordinator::shown;
use crate::limits;
use crate::time;

const CODE: &str = "chain";

/// An RPC URL and what came of asking it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    url: String,
    answer: Result<u64, Fault>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Fault {
    Silent(String),
    OtherChain(u64),
    NoContract,
    Odd(String),
}

impl Endpoint {
    /// Time of its newest block in seconds.
    pub(super) fn block_s(&self) -> Option<u64> {
        self.answer.as_ref().ok().copied()
    }

    /// In words, for a list.
    fn text(&self) -> String {
        let url = &self.url;
        match &self.answer {
            Ok(_) => format!("{url} answers"),
            Err(Fault::Silent(reason)) => format!("{url} does not answer ({reason})"),
            Err(Fault::OtherChain(id)) => format!("{url} serves chain {id}"),
            Err(Fault::NoContract) => format!("{url} knows no contract at the rewards address"),
            Err(Fault::Odd(reason)) => format!("{url} answers oddly ({reason})"),
        }
    }
}

/// Asks every URL for chain id, contract and newest block.
pub(super) async fn ask(profile: &Profile) -> Vec<Endpoint> {
    let (chain_id, rewards) = (profile.chain.chain_id, profile.chain.rewards);
    let asked: Vec<_> = profile
        .chain
        .rpc
        .iter()
        .map(|url| {
            let url = url.to_string();
            tokio::spawn(async move {
                let one = ask_one(url.clone(), chain_id, rewards);
                let answer = tokio::time::timeout(limits::DOCTOR_PROBE_TIME_MAX, one).await;
                let late =
                    format!("nothing within {} ms", limits::DOCTOR_PROBE_TIME_MAX.as_millis());
                let answer = answer.unwrap_or(Err(Fault::Silent(late)));
                Endpoint { url: shown(&url), answer }
            })
        })
        .collect();
    let mut endpoints = Vec::new();
    for endpoint in asked {
        endpoints.extend(endpoint.await);
    }
    endpoints
}

async fn ask_one(
    url: String,
    chain_id: u64,
    rewards: openledger_wire::EvmAddress,
) -> Result<u64, Fault> {
    let options =
        ChainOptions { rpc: vec![url], chain_id: Some(chain_id), ..ChainOptions::default() };
    let chain = Chain::connect(options).await.map_err(fault)?;
    let (code, block) = tokio::join!(chain.has_code(rewards), chain.latest_block());
    if !code.map_err(fault)? {
        return Err(Fault::NoContract);
    }
    Ok(block.map_err(fault)?.time_s)
}

fn fault(error: ChainError) -> Fault {
    match error {
        ChainError::WrongChain { found, .. } => Fault::OtherChain(found),
        ChainError::Unreachable { source, .. } => Fault::Silent(source.to_string()),
        ChainError::BadUrl { reason, .. } => Fault::Silent(format!("no URL of an RPC: {reason}")),
        error => Fault::Odd(error.to_string()),
    }
}

/// Judges all of them together. The node works without a chain; only claims and audits wait.
pub(super) fn judge(profile: &Profile, endpoints: &[Endpoint]) -> Finding {
    let expected = profile.chain.chain_id;
    let good = endpoints.iter().filter(|one| one.answer.is_ok()).count();
    let all = endpoints.len();
    if good == 0 {
        return none(expected, endpoints);
    }
    let block_s = endpoints.iter().filter_map(Endpoint::block_s).max().unwrap_or_default();
    let age_ms = time::now().0.saturating_sub(block_s.saturating_mul(1_000));
    if age_ms > limits::BLOCK_AGE_MS_MAX && !profile.is_local() {
        let found = format!("the newest block of chain {expected} is {} old", time::span(age_ms));
        let cause = "the chain or these RPCs stand still, or this machine's clock is ahead";
        let mend = "see `clock`; if that is fine, wait, since earnings are safe meanwhile, and claim later";
        return Finding::warning(CODE, found, cause, mend);
    }
    if good < all {
        let bad: Vec<String> =
            endpoints.iter().filter(|one| one.answer.is_err()).map(Endpoint::text).collect();
        let found = format!("{good} of {all} RPCs of chain {expected} can be used");
        let mend = "nothing now, since one is enough; a newer profile may name better ones";
        return Finding::warning(CODE, found, bad.join("; "), mend);
    }
    Finding::fine(CODE, format!("chain {expected} answers at {all} of {all} RPCs"))
}

fn none(expected: u64, endpoints: &[Endpoint]) -> Finding {
    if endpoints.is_empty() {
        let mend = "get a complete profile from the network's publisher";
        return Finding::warning(CODE, "no RPC is known", "the profile names none", mend);
    }
    let tried: Vec<String> = endpoints.iter().map(Endpoint::text).collect();
    let found = format!("no RPC of chain {expected} can be used: {}", tried.join("; "));
    let is = |wanted: fn(&Fault) -> bool| {
        endpoints.iter().any(|one| one.answer.as_ref().is_err_and(wanted))
    };
    let newer =
        "get a newer profile from the network's publisher, then `openledger up --network FILE`";
    let (cause, mend) = if is(|fault| matches!(fault, Fault::OtherChain(_))) {
        (format!("the URL leads to another chain than {expected}"), newer.to_owned())
    } else if is(|fault| matches!(fault, Fault::NoContract)) {
        ("the chain was started anew, or the contracts have moved".to_owned(), newer.to_owned())
    } else if is(|fault| matches!(fault, Fault::Odd(_))) {
        (
            "something else than an RPC of a chain answers there, or it refuses requests from here"
                .to_owned(),
            newer.to_owned(),
        )
    } else {
        (
            "the RPC is down, this machine is offline, or a firewall stops TCP to it".to_owned(),
            format!(
                "see whether it answers: `curl {}`; start it if it is yours, else wait: work and earnings go on, only claims and audits need the chain; if it lasts, {newer}",
                endpoints.first().map(|one| one.url.as_str()).unwrap_or_default()
            ),
        )
    };
    Finding::warning(CODE, found, cause, mend)
}
