//! Getting files that calls need, by the node's own means.

use std::sync::Arc;

use async_trait::async_trait;
use openledger_wire::call::CallFailure;
use openledger_wire::gossip::{Holder, Offer};

use super::Obtain;
use crate::serving::{Models, ObtainError, codes, failure};

/// Milliseconds after which a fetch that failed may be tried again.
const AGAIN_MS: u32 = 10_000;

#[async_trait]
impl Obtain for Arc<Models> {
    async fn obtain(&self, offer: &Offer, holders: &[Holder]) -> Result<(), CallFailure> {
        match Models::obtain(self, offer, holders).await {
            Ok(_) => Ok(()),
            Err(error) => {
                let code = match error {
                    ObtainError::Unusable(_) => codes::BAD_FILE,
                    _ => super::codes::NOT_FETCHED,
                };
                Err(failure(code, &format!("failed to {error}"), AGAIN_MS))
            }
        }
    }
}
