//! `openledger earnings` and `openledger claim`.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use openledger_outbox::Stage;
use openledger_wire::{AccountId, Epoch, EvmAddress, Open, Points, SettlementKey};
use serde::Serialize;

use super::Session;
use super::args::{ClaimArgs, Which};
use super::out::table;
use crate::chain;
use crate::control::{Client, ClientError, PerNetwork, TaskView};
use crate::data_dir::read_bounded;
use crate::network::Network;
use crate::node::{Earnings, Status};
use crate::time;

/// Why something is not paid yet, with how many tasks and points that holds for.
#[derive(Debug, Serialize)]
struct Unpaid {
    reason: String,
    tasks: u64,
    points: Points,
}

/// What `earnings` shows of one network.
#[derive(Debug, Serialize)]
struct View {
    network: String,
    account: AccountId,
    payout: Option<EvmAddress>,
    pending: Points,
    vested: Points,
    cumulative: Open,
    epoch: Epoch,
    claimed: Option<Open>,
    to_claim: Option<Open>,
    heard_at: String,
    unpaid: Vec<Unpaid>,
}

/// `openledger earnings`.
pub(super) async fn earnings(session: &Session, which: &Which) -> anyhow::Result<()> {
    let mut views = Vec::new();
    for (earnings, network) in latest(session, which.network.as_deref()).await? {
        views.push(view(session, &earnings, &network).await?);
    }
    session.out.show(&PerNetwork(views), |views| {
        let several = views.0.len() > 1;
        let one = |view: &View| {
            let heading =
                if several { format!("network {}\n", view.network) } else { String::new() };
            heading + &text(view)
        };
        views.0.iter().map(one).collect::<Vec<_>>().join("\n")
    })
}

async fn view(session: &Session, earnings: &Earnings, network: &Network) -> anyhow::Result<View> {
    let tasks = super::receipts::tasks(session, Some(network.name()), None, 10_000).await?;
    let account = &earnings.account;
    // The chain is asked again, because somebody else may have claimed meanwhile.
    let claimed = match account.payout {
        Some(payout) => {
            let time_max = std::time::Duration::from_secs(5);
            chain::claimed(&network.profile, payout, time_max).await.or(earnings.claimed)
        }
        None => earnings.claimed,
    };
    Ok(View {
        network: network.name().to_owned(),
        account: account.account,
        payout: account.payout,
        pending: account.pending,
        vested: account.vested,
        cumulative: account.cumulative,
        epoch: account.epoch,
        claimed,
        to_claim: claimed
            .map(|claimed| account.cumulative.checked_sub(claimed).unwrap_or(Open::ZERO)),
        heard_at: time::utc(earnings.at),
        unpaid: unpaid(&tasks, account.payout, network),
    })
}

/// The account in one network or in all, from the running node or as it was last heard.
async fn latest(
    session: &Session,
    named: Option<&str>,
) -> anyhow::Result<Vec<(Earnings, Network)>> {
    let asked = async {
        let client = Client::of(&session.data)?;
        client.get_of::<PerNetwork<Status>>("earnings", named).await
    };
    let mut found = Vec::new();
    match asked.await {
        Ok(all) => {
            for status in all.0 {
                let Some(heard) = status.earnings else { continue };
                found.push((heard, Network::find(&session.data, Some(&status.network))?));
            }
            if found.is_empty() {
                bail!(
                    "see the earnings: the coordinator has not told this node about its account yet; try again in a moment"
                );
            }
        }
        Err(ClientError::NotRunning(folder)) => {
            let names =
                named.map_or_else(|| Network::known(&session.data), |name| vec![name.into()]);
            for name in names {
                let network = Network::find(&session.data, Some(&name))?;
                let kept = read_bounded(&network.folder.join("account.json"), 1 << 20)?;
                let Some(kept) = kept else { continue };
                found.push((serde_json::from_slice(&kept).context("read account.json")?, network));
            }
            if found.is_empty() {
                return Err(ClientError::NotRunning(folder).into());
            }
        }
        Err(error) => return Err(error.into()),
    }
    Ok(found)
}

/// Groups what is not paid by its reason.
fn unpaid(tasks: &[TaskView], payout: Option<EvmAddress>, network: &Network) -> Vec<Unpaid> {
    let rules = &network.rules;
    let mut groups: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for task in tasks {
        let accepted = task.verdict.as_deref() == Some("accepted");
        let reason = match task.stage {
            Stage::Paid | Stage::Leased | Stage::Working => continue,
            Stage::Vested if payout.is_none() => {
                "vested; bind a payout address to be paid (openledger identity bind-payout)".into()
            }
            Stage::Vested => "vested; waits to be claimed (openledger claim)".into(),
            Stage::Counted if accepted => format!(
                "accepted; points vest {} epochs and {} accepted tasks later",
                rules.vest_epochs, rules.vest_accepted
            ),
            Stage::Judged if accepted => "accepted; counts when its epoch closes".into(),
            Stage::Declined => format!("given back: {}", task.sentence),
            _ => task.sentence.clone(),
        };
        let group = groups.entry(reason).or_default();
        group.0 += 1;
        group.1 += task.points.0;
    }
    let mut unpaid: Vec<Unpaid> = groups
        .into_iter()
        .map(|(reason, (tasks, points))| Unpaid { reason, tasks, points: Points(points) })
        .collect();
    unpaid.sort_by_key(|group| std::cmp::Reverse((group.points, group.tasks)));
    unpaid
}

fn text(view: &View) -> String {
    let row = |name: &str, value: String, note: &str| vec![name.to_owned(), value, note.to_owned()];
    let payout = match view.payout {
        Some(payout) => format!("0x{payout}"),
        None => "none; openledger identity bind-payout".to_owned(),
    };
    let unknown = || "unknown (the chain does not answer)".to_owned();
    let claimed = view.claimed.map_or_else(unknown, |open| open.to_string());
    let to_claim = view.to_claim.map_or_else(unknown, |open| open.to_string());
    let mut text = table(&[
        row("account", view.account.short(), ""),
        row("payout", payout, ""),
        row("pending", view.pending.to_string(), "points that wait to vest"),
        row("vested", view.vested.to_string(), "points so far"),
        row("OPEN", view.cumulative.to_string(), &format!("earned by epoch {}", view.epoch)),
        row("on chain", claimed, "claimed"),
        row("to claim", to_claim, "once its root is good: openledger claim"),
    ]);
    if !view.unpaid.is_empty() {
        text.push_str("\nwhy not paid:\n");
        let rows: Vec<Vec<String>> = view
            .unpaid
            .iter()
            .map(|group| {
                let points = format!("{} points", group.points);
                vec![format!("  {} tasks", group.tasks), points, group.reason.clone()]
            })
            .collect();
        text.push_str(&table(&rows));
    }
    text
}

/// What `claim` did.
#[derive(Debug, Serialize)]
struct Claimed {
    transaction: Option<String>,
    payout: EvmAddress,
    paid: Open,
    cumulative: Open,
    note: String,
}

/// `openledger claim`.
pub(super) async fn claim(session: &Session, args: ClaimArgs) -> anyhow::Result<()> {
    let all = latest(session, args.network.as_deref()).await?;
    let [(earnings, network)] = all.as_slice() else {
        let names: Vec<&str> = all.iter().map(|(_, network)| network.name()).collect();
        bail!(
            "claim: this node earns in several networks ({}); name one with --network NAME",
            names.join(", ")
        );
    };
    let account = &earnings.account;
    let Some(leaf) = account.claim.as_ref() else {
        bail!(
            "claim: there is nothing to claim yet; the first root with this account's OPEN has to be posted and its window to pass (earned so far: {} OPEN)",
            account.cumulative
        );
    };
    let rewards = chain::rewards(&network.profile, None).await?;
    let before = rewards.claimed(leaf.payout).await?;
    let mut done = Claimed {
        transaction: None,
        payout: leaf.payout,
        paid: Open::ZERO,
        cumulative: leaf.cumulative,
        note: String::new(),
    };
    if before >= leaf.cumulative {
        done.note = format!("all {} OPEN of epoch {} are claimed", leaf.cumulative, leaf.epoch);
        return session.out.show(&done, |done| done.note.clone());
    }
    let Some(key) = gas_key(&args)? else {
        let api = &network.profile.coordinator.api;
        done.note = format!(
            "{} OPEN can be claimed. Anybody may send the claim, the OPEN goes to 0x{} all the same:\n  - with an address that has gas: openledger claim --key-env VARIABLE\n  - or hand this leaf to somebody: {api}/api/v1/accounts/{}/claim",
            leaf.cumulative.checked_sub(before).unwrap_or(Open::ZERO),
            leaf.payout,
            account.account
        );
        return session.out.show(&done, |done| done.note.clone());
    };
    let outcome = chain::claim(&network.profile, key, leaf).await?;
    done.transaction = Some(format!("0x{}", outcome.receipt.transaction));
    done.paid = outcome.paid.first().map_or(Open::ZERO, |paid| paid.amount);
    done.note = match outcome.refused.first() {
        Some((earner, amount)) => {
            format!(
                "0x{earner} did not accept {amount} OPEN; they stay its own, bind another payout address"
            )
        }
        None => format!("{} OPEN were paid to 0x{}", done.paid, leaf.payout),
    };
    session.out.show(&done, |done| done.note.clone())
}

/// The key that pays the gas, if one was named.
fn gas_key(args: &ClaimArgs) -> anyhow::Result<Option<SettlementKey>> {
    let text = match (&args.key_env, &args.key_file) {
        (Some(name), _) => std::env::var(name)
            .with_context(|| format!("read the gas key: the variable {name} is not set"))?,
        (None, Some(path)) => {
            let bytes = read_bounded(path, 4_096)?.with_context(|| {
                format!("read the gas key: there is no file {}", path.display())
            })?;
            String::from_utf8(bytes).context("read the gas key")?
        }
        (None, None) => return Ok(None),
    };
    secret_key(&text).map(Some)
}

/// A secret key as 64 hexadecimal digits.
pub(super) fn secret_key(text: &str) -> anyhow::Result<SettlementKey> {
    let digits = text.trim();
    let digits = digits.strip_prefix("0x").unwrap_or(digits);
    let mut secret = [0u8; 32];
    // The key itself never enters a message.
    if hex::decode_to_slice(digits, &mut secret).is_err() {
        bail!("read the secret key: it must be 64 hexadecimal digits");
    }
    Ok(SettlementKey::from_secret(&secret)?)
}
