//! The account: asked of the coordinator, compared with the chain, remembered on disk.

use std::sync::Arc;
use std::time::Duration;

use openledger_wire::link::{LinkRequest, LinkResponse};

use super::Enrolment;
use super::state::Earnings;
use crate::chain;
use crate::data_dir::write_private;
use crate::time;

/// The chain is asked for no longer than this; an RPC outage must not hold anything up.
const CHAIN_TIME_MAX: Duration = Duration::from_secs(5);

impl Enrolment {
    /// Asks for the account, in the background.
    pub(crate) fn refresh_account(self: &Arc<Self>) {
        let own = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(reason) = own.ask_account().await {
                tracing::debug!("the account was not heard of: {reason}");
            }
        });
    }

    /// Asks for the account now.
    pub(crate) async fn ask_account(self: &Arc<Self>) -> Result<Earnings, String> {
        let account = match self.ask(&LinkRequest::Account).await {
            Ok(LinkResponse::Account(account)) => account,
            Ok(LinkResponse::Refused { code, message, .. }) => {
                return Err(format!("{message} ({code})"));
            }
            Ok(_) => return Err("the coordinator answered with something else".to_owned()),
            Err(error) => return Err(error.to_string()),
        };
        let claimed = match account.payout {
            Some(payout) => chain::claimed(&self.network.profile, payout, CHAIN_TIME_MAX).await,
            None => None,
        };
        let known = account.clone();
        let handled = self.outbox(move |outbox| outbox.account(time::now(), &known, claimed)).await;
        self.handle(handled);
        let earnings = Earnings { at: time::now(), account, claimed };
        self.shared().earnings = Some(earnings.clone());
        if let Ok(bytes) = serde_json::to_vec_pretty(&earnings)
            && let Err(error) = write_private(&self.network.folder.join("account.json"), &bytes)
        {
            tracing::warn!("failed to {error}");
        }
        Ok(earnings)
    }
}
