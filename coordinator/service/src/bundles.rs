//! Building, publishing and handing out the bundle of a closed epoch.
//!
//! A bundle follows from the log and the proofs, so a lost one is built again, byte for byte.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use openledger_ledger::{Batch, BundleMeta, Ledger, LedgerError};
use openledger_rules::Bundle;
use openledger_rules::bundle::named_proofs;
use openledger_swarm::{Blobs, StoreError};
use openledger_wire::log::{Entry, EpochClose, Line};
use openledger_wire::merkle::data_commitment;
use openledger_wire::{Blob, BlobId, DecodeError, EncodeError, Epoch, Height, LogHead, ProofId};
use thiserror::Error;

/// Why there is no bundle.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The ledger refused or failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A stored entry is unreadable.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The blob store failed.
    #[error(transparent)]
    Blobs(#[from] StoreError),
    /// A receipted proof is gone.
    #[error(
        "build the bundle of epoch {epoch}: proof {proof} was receipted and is not in the \
             ledger; restore the ledger's latest backup"
    )]
    Lost {
        /// The epoch.
        epoch: Epoch,
        /// The proof.
        proof: ProofId,
    },
    /// An entry longer than any entry may be, or an epoch without its close.
    #[error(
        "build the bundle of epoch {0}: its entries are not those of a closed epoch; restore \
             the ledger's latest backup"
    )]
    Odd(Epoch),
}

/// A bundle as it is published.
#[derive(Debug, Clone)]
pub struct Published {
    /// What is known of it.
    pub meta: BundleMeta,
    /// Its last line.
    pub close: EpochClose,
    /// Its canonical bytes.
    pub bytes: Bytes,
}

/// Builds and finds bundles.
#[derive(Clone)]
pub struct Bundles {
    ledger: Arc<dyn Ledger>,
    blobs: Option<Arc<dyn Blobs>>,
}

impl Bundles {
    /// Bundles of this ledger's epochs, published in this blob store if there is one.
    #[must_use]
    pub fn new(ledger: Arc<dyn Ledger>, blobs: Option<Arc<dyn Blobs>>) -> Self {
        Self { ledger, blobs }
    }

    /// Builds the bundle of a closed epoch, puts it into the blob store, and records where it is.
    ///
    /// # Errors
    /// When the epoch is not closed, or a store fails.
    pub async fn publish(&self, epoch: Epoch) -> Result<Published, BundleError> {
        let published = self.build(epoch).await?;
        if let Some(blobs) = &self.blobs {
            blobs.put(published.bytes.clone()).await?;
        }
        if self.ledger.bundle(epoch).await? != Some(published.meta) {
            let batch = Batch { bundles: vec![published.meta], ..Batch::default() };
            self.ledger.commit(batch).await?;
            let (bytes, blob) = (published.meta.bytes, published.meta.blob);
            tracing::info!(%epoch, bytes, %blob, "published the bundle of an epoch");
        }
        Ok(published)
    }

    /// What is known of an epoch's bundle.
    ///
    /// # Errors
    /// The ledger's.
    pub async fn meta(&self, epoch: Epoch) -> Result<Option<BundleMeta>, BundleError> {
        Ok(self.ledger.bundle(epoch).await?)
    }

    /// The bytes of a closed epoch's bundle, from the blob store, or built again where it has none or
    /// gives none.
    ///
    /// # Errors
    /// When the epoch is not closed, or a store fails.
    pub async fn bytes(&self, epoch: Epoch) -> Result<Bytes, BundleError> {
        if let (Some(blobs), Some(meta)) = (&self.blobs, self.meta(epoch).await?)
            && let Ok(Some(bytes)) = blobs.get(meta.blob).await
        {
            return Ok(bytes);
        }
        Ok(self.build(epoch).await?.bytes)
    }

    async fn build(&self, epoch: Epoch) -> Result<Published, BundleError> {
        let mut stream = self.ledger.epoch(epoch).await?;
        let (mut entries, mut bytes) = (Vec::new(), Vec::new());
        let (mut height, mut head) = (Height(0), LogHead::ZERO);
        while let Some(line) = stream.next().await {
            let line = line?;
            (height, head) = (line.height, line.head);
            entries.push(Entry::from_bytes(&line.bytes)?);
            bytes.push(Blob::new(line.bytes).map_err(|_| BundleError::Odd(epoch))?);
        }
        let close = match entries.last().map(|entry| &entry.line) {
            Some(Line::Epoch(close)) if close.epoch == epoch => close.clone(),
            _ => return Err(BundleError::Odd(epoch)),
        };
        let mut proofs = Vec::new();
        for id in named_proofs(&entries) {
            let proof = self.ledger.proof(id).await?;
            proofs.push(proof.ok_or(BundleError::Lost { epoch, proof: id })?);
        }
        let bundle = Bundle { epoch, entries: bytes, proofs };
        let bytes = Bytes::from(bundle.to_bytes()?);
        let meta = BundleMeta {
            epoch,
            blob: BlobId::of(&bytes),
            bytes: bytes.len() as u64,
            data_commitment: data_commitment(&bytes),
            height,
            head,
        };
        Ok(Published { meta, close, bytes })
    }
}
