//! Recomputing what the coordinator said, on any machine, without a running node.
//!
//! Bundles come over HTTP and are bounded before they are believed. The rules replay every entry;
//! the chain says what was posted.

use std::sync::Arc;

use openledger_contracts::{ChainError, Rewards};
use openledger_refine::{Agreement, Fingerprint, agree};
use openledger_rules::bundle::{AuditError, AuditedEpoch, BUNDLE_MAX, Bundle, audit};
use openledger_rules::{Judge, Setup};
use openledger_wire::profile::Profile;
use openledger_wire::{DecodeError, Epoch, Keccak};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::chain;
use crate::limits;
use crate::network::Network;

/// Why an audit could not be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FetchBundleError {
    /// The coordinator does not answer.
    #[error(
        "read {url}: {reason}; check the coordinator's URL, or name another one with --coordinator"
    )]
    Http {
        /// What was asked for.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The answer is longer than any bundle.
    #[error("read {url}: it has more than {max} bytes, which no bundle has")]
    TooLong {
        /// What was asked for.
        url: String,
        /// The limit.
        max: usize,
    },
    /// The answer is no bundle.
    #[error("read {url}: {source}")]
    Decode {
        /// What was asked for.
        url: String,
        /// What is wrong.
        source: DecodeError,
    },
    /// Nothing was closed yet.
    #[error("audit: no epoch was closed yet; try again after the first epoch")]
    NothingClosed,
}

/// Compares fetch fingerprints as the rules ask for. What does not decode agrees with nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct FingerprintJudge;

impl Judge for FingerprintJudge {
    fn fetch_agrees(&self, a: &[u8], b: &[u8]) -> bool {
        match (Fingerprint::from_bytes(a), Fingerprint::from_bytes(b)) {
            (Ok(a), Ok(b)) => agree(&a, &b) == Agreement::Agree,
            _ => false,
        }
    }
}

/// What the audit and the chain say of one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// The epoch.
    pub epoch: Epoch,
    /// The root that the audit computed.
    pub computed_root: Keccak,
    /// The root on chain; `None` if it was not posted or not asked for.
    pub chain_root: Option<Keccak>,
    /// The bundle's commitment, as the audit computed it.
    pub computed_data: Keccak,
    /// The commitment on chain.
    pub chain_data: Option<Keccak>,
    /// Sum of the leaves.
    pub total: String,
    /// Entries replayed.
    pub entries: usize,
    /// Proofs verified.
    pub proofs: usize,
    /// Whether everything that the chain says equals what was computed.
    pub equal: bool,
}

/// Where bundles are had.
pub struct Source {
    http: reqwest::Client,
    base: String,
}

#[derive(Deserialize)]
struct StatusAnswer {
    last_closed: Option<Epoch>,
}

impl Source {
    /// The coordinator at a base URL.
    ///
    /// # Errors
    /// When there can be no HTTP client.
    pub fn new(base: &str) -> Result<Self, FetchBundleError> {
        let http = reqwest::Client::builder()
            .timeout(limits::HTTP_TIME_MAX)
            .build()
            .map_err(|error| http_error(base, &error))?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned() })
    }

    /// The last epoch that was closed.
    ///
    /// # Errors
    /// [`FetchBundleError`].
    pub async fn last_closed(&self) -> Result<Epoch, FetchBundleError> {
        let url = format!("{}/api/v1/status", self.base);
        let bytes = self.get(&url, 1 << 20).await?;
        let status: StatusAnswer = serde_json::from_slice(&bytes)
            .map_err(|error| FetchBundleError::Http { url, reason: error.to_string() })?;
        status.last_closed.ok_or(FetchBundleError::NothingClosed)
    }

    /// The bundle of an epoch.
    ///
    /// # Errors
    /// [`FetchBundleError`].
    pub async fn bundle(&self, epoch: Epoch) -> Result<Bundle, FetchBundleError> {
        let url = format!("{}/api/v1/epochs/{epoch}/bundle", self.base);
        let bytes = self.get(&url, BUNDLE_MAX).await?;
        Bundle::from_bytes(&bytes).map_err(|source| FetchBundleError::Decode { url, source })
    }

    async fn get(&self, url: &str, max: usize) -> Result<Vec<u8>, FetchBundleError> {
        let answer = self.http.get(url).send().await.and_then(reqwest::Response::error_for_status);
        let mut answer = answer.map_err(|error| http_error(url, &error))?;
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| http_error(url, &error))? {
            if bytes.len() + chunk.len() > max {
                return Err(FetchBundleError::TooLong { url: url.to_owned(), max });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

fn http_error(url: &str, error: &reqwest::Error) -> FetchBundleError {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        reason = cause.to_string();
        source = cause.source();
    }
    if let Some(status) = error.status() {
        reason = format!("it answers {status}");
    }
    FetchBundleError::Http { url: url.to_owned(), reason }
}

/// Replays bundles from the first epoch on.
///
/// # Errors
/// [`AuditError`] where the coordinator's log breaks a rule or states a wrong sum.
pub fn replay(network: &Network, bundles: &[Bundle]) -> Result<Vec<AuditedEpoch>, AuditError> {
    let setup = Setup::of(&network.profile, network.rules.clone());
    Ok(audit(setup, &FingerprintJudge, bundles)?.epochs)
}

/// Compares what was computed with what was posted. Without `rewards`, the chain is not asked.
///
/// # Errors
/// The chain's.
pub async fn compare(
    audited: &[AuditedEpoch],
    rewards: Option<&Rewards>,
) -> Result<Vec<Compared>, ChainError> {
    let mut compared = Vec::with_capacity(audited.len());
    for one in audited {
        let posted = match rewards {
            Some(rewards) => chain::posted(rewards, one.epoch).await?.map(|log| log.post),
            None => None,
        };
        let equal = posted.as_ref().is_none_or(|post| {
            post.root == one.close.root
                && post.total == one.close.total
                && post.size == one.close.size
                && post.proofs_root == one.close.proofs_root
                && post.unbound == one.close.unbound
                && post.data_commitment == one.data_commitment
                && post.data_size == one.data_bytes
                && post.log_head == one.head
        });
        compared.push(Compared {
            epoch: one.epoch,
            computed_root: one.close.root,
            chain_root: posted.as_ref().map(|post| post.root),
            computed_data: one.data_commitment,
            chain_data: posted.as_ref().map(|post| post.data_commitment),
            total: one.close.total.to_string(),
            entries: one.entries,
            proofs: one.proofs,
            equal,
        });
    }
    Ok(compared)
}

/// The rewards contract of a network, to read from.
///
/// # Errors
/// The chain's.
pub async fn reader(profile: &Arc<Profile>) -> Result<Rewards, ChainError> {
    chain::rewards(profile, None).await
}
