//! Fetching public randomness for a sealed round.
//!
//! Relays are only carriers: the rules verify what they say, so a lying relay costs a retry. The
//! devnet's stand-in is computed at once.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use openledger_rules::Setup;
use openledger_rules::beacon::{drand_round_after, stub_value, verify};
use openledger_wire::log::{Beacon, BeaconProof};
use openledger_wire::profile::BeaconSource;
use openledger_wire::{BeaconValue, Blob, Keccak, Round, UnixMs};
use serde::Deserialize;
use tokio::time::sleep;

use crate::clock;
use crate::limits;

/// A block of the settlement chain, as far as randomness goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RandomBlock {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: Keccak,
    /// Its prevrandao.
    pub prevrandao: BeaconValue,
}

/// Reads blocks for prevrandao.
#[async_trait]
pub trait Blocks: Send + Sync {
    /// The first block with a time after `sealed_at`, or `None` while there is none.
    async fn first_after(&self, sealed_at: UnixMs) -> Result<Option<RandomBlock>, String>;
}

/// Fetches beacons from the network profile's source.
#[derive(Clone)]
pub struct BeaconClient {
    setup: Arc<Setup>,
    http: reqwest::Client,
    blocks: Option<Arc<dyn Blocks>>,
}

#[derive(Deserialize)]
struct DrandAnswer {
    round: u64,
    signature: String,
    randomness: String,
}

impl BeaconClient {
    /// A client for a network. `blocks` is needed for prevrandao only.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(setup: Arc<Setup>, blocks: Option<Arc<dyn Blocks>>) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(limits::BEACON_TIME_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("openledger-coordinator/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { setup, http, blocks })
    }

    /// The beacon of a round; tries until it has one that verifies.
    pub async fn fetch(&self, round: Round, sealed_at: UnixMs) -> Beacon {
        loop {
            match self.attempt(round, sealed_at).await {
                Ok(beacon) => return beacon,
                Err(reason) => tracing::warn!(%round, "failed to fetch the beacon: {reason}"),
            }
            sleep(limits::BEACON_RETRY).await;
        }
    }

    async fn attempt(&self, round: Round, sealed_at: UnixMs) -> Result<Beacon, String> {
        let beacon = match &self.setup.beacon {
            BeaconSource::Stub => {
                let value = stub_value(self.setup.network, round);
                Beacon { round, value, proof: BeaconProof::Stub }
            }
            BeaconSource::Drand { relays, .. } => {
                let drand_round = drand_round_after(&self.setup.beacon, sealed_at);
                self.wait_until_due(drand_round).await;
                self.ask_relays(round, drand_round, relays).await?
            }
            BeaconSource::Prevrandao => self.ask_chain(round, sealed_at).await?,
        };
        let (chain_id, network) = (self.setup.chain_id, self.setup.network);
        verify(&self.setup.beacon, chain_id, network, &beacon, sealed_at)
            .map_err(|error| error.to_string())?;
        Ok(beacon)
    }

    async fn wait_until_due(&self, drand_round: u64) {
        let BeaconSource::Drand { genesis_s, period_s, .. } = &self.setup.beacon else { return };
        let due_s = genesis_s.saturating_add(drand_round.saturating_sub(1) * period_s);
        let wait_ms = due_s.saturating_mul(1_000).saturating_sub(clock::now().0);
        sleep(Duration::from_millis(wait_ms)).await;
    }

    async fn ask_relays(
        &self,
        round: Round,
        drand_round: u64,
        relays: &[openledger_wire::Text<{ openledger_wire::limits::URL_MAX }>],
    ) -> Result<Beacon, String> {
        let mut reasons = Vec::new();
        for relay in relays {
            let url = format!("{}/public/{drand_round}", relay.trim_end_matches('/'));
            match self.ask_relay(&url).await.and_then(|answer| read(round, drand_round, &answer)) {
                Ok(beacon) => return Ok(beacon),
                Err(reason) => reasons.push(format!("{url}: {reason}")),
            }
        }
        Err(format!("no relay gave drand round {drand_round} ({})", reasons.join("; ")))
    }

    async fn ask_relay(&self, url: &str) -> Result<Vec<u8>, String> {
        let request = self.http.get(url).send();
        let mut response = request.await.map_err(|error| error.without_url().to_string())?;
        if !response.status().is_success() {
            return Err(format!("status {}", response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|e| e.without_url().to_string())? {
            if body.len().saturating_add(piece.len()) > limits::BEACON_BYTES_MAX {
                return Err(format!("more than {} bytes", limits::BEACON_BYTES_MAX));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    async fn ask_chain(&self, round: Round, sealed_at: UnixMs) -> Result<Beacon, String> {
        let blocks = self.blocks.as_ref();
        let blocks = blocks.ok_or("no chain is configured; set [settlement] enabled = true")?;
        let block = blocks.first_after(sealed_at).await?;
        let block = block.ok_or("no block was made since the round was sealed")?;
        let proof = BeaconProof::Prevrandao { number: block.number, hash: block.hash };
        Ok(Beacon { round, value: block.prevrandao, proof })
    }
}

/// Reads a relay's answer; the rules verify it.
fn read(round: Round, drand_round: u64, body: &[u8]) -> Result<Beacon, String> {
    let answer: DrandAnswer =
        serde_json::from_slice(body).map_err(|error| format!("not a beacon: {error}"))?;
    if answer.round != drand_round {
        return Err(format!("it gave round {} instead", answer.round));
    }
    let signature = hex::decode(&answer.signature).map_err(|error| error.to_string())?;
    let signature = Blob::new(signature).map_err(|error| error.to_string())?;
    let value: BeaconValue = answer.randomness.parse().map_err(|_| "odd randomness".to_owned())?;
    Ok(Beacon { round, value, proof: BeaconProof::Drand { round: drand_round, signature } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_relays_are_bounded_and_checked_for_shape() {
        let good = format!(
            r#"{{"round":7,"signature":"{}","randomness":"{}"}}"#,
            "ab".repeat(48),
            "cd".repeat(32)
        );
        assert!(read(Round(1), 7, good.as_bytes()).is_ok());
        assert!(read(Round(1), 8, good.as_bytes()).unwrap_err().contains("round 7"));
        for bad in ["", "{}", r#"{"round":7,"signature":"zz","randomness":""}"#] {
            assert!(read(Round(1), 7, bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
