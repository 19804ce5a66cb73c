//! The settlement chain: anvil behind a guard, with the contracts on it.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use openledger_contracts::{Chain, ChainOptions, EscrowConfig, Rewards, RewardsConfig};
use openledger_wire::profile::ChainContact;
use openledger_wire::{Epoch, EvmAddress, List, Open, SettlementKey, Text};
use serde_json::json;

use crate::child::{Child, Spawn};
use crate::limits;
use crate::programs::Programs;

/// A running chain.
#[derive(Debug)]
pub struct LocalChain {
    /// The guarded process.
    pub child: Child,
    /// Its JSON-RPC URL.
    pub url: String,
    /// Keys of accounts with native currency; everybody knows them.
    pub keys: Vec<SettlementKey>,
}

/// What the contracts need to know of the rules.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// OPEN given away per epoch.
    pub epoch_budget: Open,
    /// Length of an epoch.
    pub epoch: Duration,
    /// Who posts roots.
    pub proposer: EvmAddress,
}

/// The contracts.
#[derive(Debug)]
pub struct Contracts {
    /// As the network profile names them.
    pub contact: ChainContact,
    /// The rewards.
    pub rewards: Rewards,
}

impl LocalChain {
    /// Starts anvil and waits until it listens.
    ///
    /// # Errors
    /// What it says.
    pub async fn start(programs: &Programs, logs: &Path, accounts: usize) -> anyhow::Result<Self> {
        let guarded: Vec<OsString> = [
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--chain-id",
            &limits::CHAIN_ID.to_string(),
            "--block-time",
            &limits::BLOCK_TIME.as_secs().to_string(),
            "--accounts",
            &accounts.to_string(),
        ]
        .map(OsString::from)
        .to_vec();
        let mut child = Spawn::new("chain", &programs.devnet)
            .args(["guard", "--"])
            .arg(programs.anvil.as_os_str())
            .args(guarded)
            .variable("NO_COLOR", "1")
            .start(logs)?;
        let mut keys = Vec::new();
        let url = child
            .wait_for(|line| {
                keys.extend(key_of(line));
                Some(format!("http://{}", line.strip_prefix("Listening on ")?.trim()))
            })
            .await?;
        if keys.len() < accounts {
            bail!(
                "start anvil: it shows {} keys, {accounts} were asked for; use anvil 1.7",
                keys.len()
            );
        }
        Ok(Self { child, url, keys })
    }

    /// A connection that sends with one of the keys.
    ///
    /// # Errors
    /// The chain's.
    pub async fn connect(&self, key: usize) -> anyhow::Result<Chain> {
        let options = ChainOptions {
            rpc: vec![self.url.clone()],
            chain_id: Some(limits::CHAIN_ID),
            key: self.keys.get(key).cloned(),
            receipt_timeout: None,
        };
        Ok(Chain::connect(options).await?)
    }

    /// Deploys the contracts, funds the rewards, and gives the proposer gas.
    ///
    /// # Errors
    /// The chain's.
    pub async fn deploy(&self, terms: Terms) -> anyhow::Result<Contracts> {
        let chain = self.connect(0).await?;
        let deployer = chain.account().context("find the deployer")?;
        let token = chain.deploy_token(deployer).await?;
        let rewards = chain
            .deploy_rewards(&RewardsConfig {
                token: Some(token.address()),
                proposer: terms.proposer,
                bond: Open::ONE,
                window: limits::WINDOW,
                epoch_budget: terms.epoch_budget,
                epoch_length: terms.epoch,
                first_epoch: Epoch(1),
            })
            .await?;
        let escrow = chain
            .deploy_escrow(&EscrowConfig {
                token: Some(token.address()),
                pool: rewards.address(),
                treasury: deployer,
                operator_bps: 7_000,
                protocol_bps: 1_000,
                thaw: limits::THAW,
            })
            .await?;
        let fund = Open(terms.epoch_budget.0.saturating_mul(limits::EPOCHS_FUNDED));
        rewards.fund(fund).await?;
        self.give_gas(terms.proposer).await?;
        let rpc = List::new(vec![Text::new(self.url.as_str())?])?;
        let contact = ChainContact {
            chain_id: limits::CHAIN_ID,
            rpc,
            token: token.address(),
            rewards: rewards.address(),
            escrow: escrow.address(),
        };
        Ok(Contracts { contact, rewards })
    }

    /// Sets an account's native balance to 1,000.
    async fn give_gas(&self, account: EvmAddress) -> anyhow::Result<()> {
        let balance = format!("0x{:x}", 1_000 * Open::ONE.0);
        let request = json!({
            "jsonrpc": "2.0", "id": 1, "method": "anvil_setBalance",
            "params": [format!("0x{account}"), balance],
        });
        let client = reqwest::Client::builder().no_proxy().timeout(limits::ANSWER_TIME_MAX);
        let client = client.build().context("set up the HTTP client")?;
        let answer = client.post(&self.url).json(&request).send().await.context("ask the chain")?;
        let answer: serde_json::Value = answer.json().await.context("ask the chain")?;
        match answer.get("error") {
            Some(error) => bail!("give the coordinator gas: {error}"),
            None => Ok(()),
        }
    }
}

/// The secret key in a line of anvil's banner.
fn key_of(line: &str) -> Option<SettlementKey> {
    let (_, digits) = line.split_once("0x")?;
    let mut secret = [0; 32];
    hex::decode_to_slice(digits.trim(), &mut secret).ok()?;
    SettlementKey::from_secret(&secret).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_the_banner_and_nothing_else_is() {
        let line = "(0) 0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
        let address = key_of(line).unwrap().address().to_string();
        assert_eq!(address, "f39fd6e51aad88f6f4ce6ab8827279cfffb92266");
        for line in ["", "(0) 0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266 (10000 ETH)", "Listening"]
        {
            assert!(key_of(line).is_none(), "{line}");
        }
    }
}
