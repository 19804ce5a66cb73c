//! The settlement chain: anvil behind a guard, with the contracts on it.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use flate2::read::GzDecoder;
use openledger_contracts::{Chain, ChainOptions, EscrowConfig, Rewards, RewardsConfig};
use openledger_wire::profile::ChainContact;
use openledger_wire::{Epoch, EvmAddress, List, Open, SettlementKey, Text};
use serde_json::{Value, json};

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
    http: reqwest::Client,
    /// The newest block when this process began: it cannot take back what came before.
    first_block: u64,
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
        let (child, url, keys) = listen(command(programs, 0, accounts), logs).await?;
        if keys.len() < accounts {
            bail!(
                "start anvil: it shows {} keys, {accounts} were asked for; use anvil 1.7",
                keys.len()
            );
        }
        let http = reqwest::Client::builder().no_proxy().timeout(limits::ANSWER_TIME_MAX);
        let http = http.build().context("set up the HTTP client")?;
        Ok(Self { child, url, keys, http, first_block: 0 })
    }

    /// Writes the whole chain to a file, as [`LocalChain::start_again`] reads it.
    ///
    /// # Errors
    /// When the chain does not answer, or the file cannot be written.
    pub async fn save(&self, to: &Path) -> anyhow::Result<()> {
        let packed = self.ask("anvil_dumpState", json!([])).await?;
        let packed = packed.as_str().unwrap_or_default().trim_start_matches("0x");
        let packed = hex::decode(packed).context("read the chain's state")?;
        let mut state = Vec::new();
        let mut unpacked = GzDecoder::new(packed.as_slice()).take(limits::CHAIN_STATE_BYTES_MAX);
        unpacked.read_to_end(&mut state).context("read the chain's state")?;
        std::fs::write(to, state).with_context(|| format!("write {}", to.display()))
    }

    /// Starts anvil again on its port, with a saved chain, and waits until it listens.
    ///
    /// # Errors
    /// What it says.
    pub async fn start_again(
        &mut self,
        programs: &Programs,
        logs: &Path,
        state: &Path,
    ) -> anyhow::Result<()> {
        let port = self.url.rsplit(':').next().and_then(|port| port.parse().ok());
        let port = port.with_context(|| format!("find the chain's port in {}", self.url))?;
        let command = command(programs, port, self.keys.len());
        let command = command.arg("--load-state").arg(state.as_os_str());
        self.child = listen(command, logs).await?.0;
        self.first_block = self.block().await?;
        Ok(())
    }

    /// Number of the newest block.
    ///
    /// # Errors
    /// When the chain does not answer.
    pub async fn block(&self) -> anyhow::Result<u64> {
        let number = self.ask("eth_blockNumber", json!([])).await?;
        let digits = number.as_str().unwrap_or_default().trim_start_matches("0x");
        u64::from_str_radix(digits, 16).with_context(|| format!("read the block number {number}"))
    }

    /// How many blocks can be taken back now.
    ///
    /// # Errors
    /// When the chain does not answer.
    pub async fn blocks_to_take_back(&self) -> anyhow::Result<u64> {
        Ok(self.block().await?.saturating_sub(self.first_block))
    }

    /// Takes the newest blocks back; empty ones take their places, their transactions are gone.
    ///
    /// # Errors
    /// What the chain says.
    pub async fn reorganise(&self, blocks: u64) -> anyhow::Result<()> {
        self.ask("anvil_reorg", json!([blocks, []])).await.map(|_| ())
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
        let parameters = json!([format!("0x{account}"), balance]);
        self.ask("anvil_setBalance", parameters).await.map(|_| ())
    }

    async fn ask(&self, method: &str, parameters: Value) -> anyhow::Result<Value> {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": parameters });
        let answer = self.http.post(&self.url).json(&request).send().await;
        let answer = answer.with_context(|| format!("ask the chain for {method}"))?;
        let mut answer: Value =
            answer.json().await.with_context(|| format!("ask the chain for {method}"))?;
        match answer.get("error") {
            Some(error) => bail!("ask the chain for {method}: {error}"),
            None => Ok(answer.get_mut("result").map(Value::take).unwrap_or_default()),
        }
    }
}

/// Anvil behind its guard, on a port; 0 for a free one.
fn command(programs: &Programs, port: u16, accounts: usize) -> Spawn {
    Spawn::new("chain", &programs.guard)
        .arg(programs.anvil.as_os_str())
        .args(["--host", "127.0.0.1"])
        .args(["--port".to_owned(), port.to_string()])
        .args(["--chain-id".to_owned(), limits::CHAIN_ID.to_string()])
        .args(["--block-time".to_owned(), limits::BLOCK_TIME.as_secs().to_string()])
        .args(["--accounts".to_owned(), accounts.to_string()])
        .variable("NO_COLOR", "1")
}

/// Starts anvil and waits until it listens; gives its URL and the keys that it shows.
async fn listen(
    command: Spawn,
    logs: &Path,
) -> anyhow::Result<(Child, String, Vec<SettlementKey>)> {
    let mut child = command.start(logs)?;
    let mut keys = Vec::new();
    let url = child
        .wait_for(|line| {
            keys.extend(key_of(line));
            Some(format!("http://{}", line.strip_prefix("Listening on ")?.trim()))
        })
        .await?;
    Ok((child, url, keys))
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
