//! Roots that the log says are posted and that the chain has lost to a reorganisation.
//!
//! Totals are cumulative, so a later root covers a lost one; but there may be none for a long time,
//! and what was posted is what everybody counts on. The log keeps the transaction of the first post:
//! whoever looks for the root asks the chain by epoch.

use openledger_wire::Epoch;

use super::{SettleError, Settlement, Settler, Standing};
use crate::limits;

/// The lowest epoch that is logged as posted above the chain's highest root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    epoch: Epoch,
    /// How often in a row it was missed.
    looks: u32,
    /// The chain did post it, and the root died there: nothing is lost.
    has_died: bool,
}

impl Missing {
    /// What follows from missing this epoch once more.
    fn again(known: Option<Self>, epoch: Epoch) -> Self {
        match known.filter(|known| known.epoch == epoch) {
            Some(known) => Self { looks: known.looks.saturating_add(1), ..known },
            None => Self { epoch, looks: 1, has_died: false },
        }
    }
}

impl Settler {
    /// Posts the oldest root again that the chain lost; says whether later ones have to wait for
    /// that.
    pub(super) async fn post_again(
        &mut self,
        chain: &dyn Settlement,
        closed: Epoch,
        standing: Standing,
    ) -> Result<bool, SettleError> {
        let highest = standing.claimable.max(standing.pending).unwrap_or_default();
        let lost = self.core.look(move |state, _| {
            let mut above = (highest.0.saturating_add(1)..=closed.0).map(Epoch);
            above.find(|epoch| state.is_posted(*epoch))
        });
        let missing = lost.await?.map(|epoch| Missing::again(self.missing, epoch));
        self.missing = missing;
        let Some(missing) = missing.filter(|missing| !missing.has_died) else { return Ok(false) };
        if missing.looks < limits::REPOST_LOOKS || standing.pending.is_some() {
            return Ok(true);
        }
        let epoch = missing.epoch;
        let post = self.post_of(&self.bundles.publish(epoch).await?);
        if chain.find(&post).await?.is_some() {
            self.missing = Some(Missing { has_died: true, ..missing });
            return Ok(false);
        }
        let transaction = chain.post(&post).await?;
        self.missing = None;
        tracing::warn!(
            %epoch, transaction = %transaction, total = %post.total,
            "the chain had lost a root by a reorganisation; it is posted again"
        );
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_count_in_a_row_and_for_one_epoch() {
        let once = Missing::again(None, Epoch(3));
        let twice = Missing::again(Some(once), Epoch(3));
        assert_eq!((once.looks, twice.looks), (1, 2));
        assert_eq!(Missing::again(Some(twice), Epoch(4)).looks, 1, "another one is missing");
        let died = Missing { has_died: true, ..twice };
        assert!(Missing::again(Some(died), Epoch(3)).has_died);
        assert!(!Missing::again(Some(died), Epoch(4)).has_died);
    }
}
