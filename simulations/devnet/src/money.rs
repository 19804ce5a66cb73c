//! Claiming, and comparing what is on chain with what was promised.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use anyhow::Context as _;
use openledger_contracts::Rewards;
use openledger_wire::{Epoch, Keccak, Open};
use serde::Deserialize;
use tokio::task::JoinSet;

use crate::api::Leaf;
use crate::child::Spawn;
use crate::launch::Network;
use crate::nodes::{Member, json};

/// What is on chain for an honest account, beside what should be.
#[derive(Clone, Debug)]
pub struct Account {
    /// The node's name.
    pub name: String,
    /// OPEN on chain.
    pub on_chain: Open,
    /// What its leaf says.
    pub leaf: Open,
    /// What `openledger earnings` says was earned.
    pub earned: Open,
    /// What `openledger earnings` says was claimed.
    pub claimed: Option<Open>,
}

impl Account {
    /// Whether chain, leaf and earnings are of one mind.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.on_chain == self.leaf && self.earned == self.leaf && self.claimed == Some(self.leaf)
    }
}

/// What was claimed.
#[derive(Clone, Debug)]
pub struct Claims {
    /// From which epoch's root.
    pub epoch: Epoch,
    /// That root, as the contract has it.
    pub root: Keccak,
    /// Every honest account.
    pub accounts: Vec<Account>,
}

/// What `openledger audit` found.
#[derive(Clone, Debug)]
pub struct Audited {
    /// Whether everything that is on chain equals what was computed.
    pub equal: bool,
    /// Computed roots.
    pub roots: BTreeMap<Epoch, Keccak>,
}

#[derive(Deserialize)]
struct AuditAnswer {
    equal: bool,
    epochs: Vec<AuditedEpoch>,
}

#[derive(Deserialize)]
struct AuditedEpoch {
    epoch: Epoch,
    computed_root: Keccak,
}

fn honest(network: &Network) -> impl Iterator<Item = &Member> {
    network.members.iter().filter(|member| member.part.is_honest())
}

/// Claims for all honest accounts once all can claim from the last closed epoch; says what is
/// missing until then.
///
/// # Errors
/// What a claim, the coordinator or the chain says.
pub async fn claim_all(network: &Network) -> anyhow::Result<ControlFlow<Claims, String>> {
    let before = network.api.status().await?;
    let Some(epoch) = before.claimable.filter(|epoch| Some(*epoch) == before.last_closed) else {
        let closed = before.last_closed.unwrap_or_default();
        return Ok(ControlFlow::Continue(format!(
            "epoch {closed}'s root is not good on chain yet"
        )));
    };
    let mut leaves = Vec::new();
    for member in honest(network) {
        match network.api.leaf(member.identity.account).await? {
            Some(leaf) if leaf.epoch == epoch && leaf.cumulative > Open::ZERO => leaves.push(leaf),
            _ => {
                let name = &member.name;
                return Ok(ControlFlow::Continue(format!("no points of {name} have vested yet")));
            }
        }
    }
    // Each claim is paid by another account, so that they need not wait for each other's nonce.
    let mut claims = JoinSet::new();
    for (member, key) in honest(network).zip(network.chain.keys.iter().skip(1)) {
        let (member, programs) = (member.clone(), network.programs.clone());
        let key = hex::encode(key.secret());
        claims.spawn(async move { member.claim(&programs, &key).await });
    }
    while let Some(claim) = claims.join_next().await {
        claim.context("claim")??;
    }
    let mut accounts = Vec::new();
    for (member, leaf) in honest(network).zip(&leaves) {
        accounts.push(account(network, member, leaf).await?);
    }
    if network.api.status().await?.last_closed != Some(epoch) {
        return Ok(ControlFlow::Continue("an epoch was closed while claims were sent".to_owned()));
    }
    let root = root_on_chain(&network.contracts.rewards, epoch).await?;
    Ok(ControlFlow::Break(Claims { epoch, root, accounts }))
}

async fn account(network: &Network, member: &Member, leaf: &Leaf) -> anyhow::Result<Account> {
    let earnings = member.earnings(&network.programs).await?;
    Ok(Account {
        name: member.name.clone(),
        on_chain: network.contracts.rewards.balance_of(leaf.payout).await?,
        leaf: leaf.cumulative,
        earned: earnings.cumulative,
        claimed: earnings.claimed,
    })
}

async fn root_on_chain(rewards: &Rewards, epoch: Epoch) -> anyhow::Result<Keccak> {
    let status = rewards.status().await?;
    // A root whose window has passed is good, even before a transaction says so.
    let roots = status.last_good.into_iter().chain(status.pending);
    let mut roots = roots.filter(|anchor| anchor.epoch == epoch);
    let anchor = roots.next();
    Ok(anchor.with_context(|| format!("read the root of epoch {epoch}: the chain has none"))?.root)
}

/// Lets `openledger audit` recompute everything up to an epoch, in a folder of its own.
///
/// # Errors
/// When it cannot be run.
pub async fn audit(network: &Network, epoch: Epoch) -> anyhow::Result<Audited> {
    let audit = Spawn::new("openledger audit", &network.programs.node)
        .arg("--data-dir")
        .arg(network.folder.join("auditor").as_os_str())
        .args(["--json", "audit", "--network"])
        .arg(network.profile.as_os_str())
        .args(["--epoch", &epoch.to_string()]);
    let answer: AuditAnswer = json(&audit.output().await?)?;
    let roots = answer.epochs.into_iter().map(|one| (one.epoch, one.computed_root));
    Ok(Audited { equal: answer.equal, roots: roots.collect() })
}
