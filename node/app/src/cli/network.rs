//! `openledger network …`: profiles that this machine knows.

use std::path::Path;

use anyhow::bail;
use openledger_wire::profile::Profile;
use openledger_wire::{NetworkId, NodeId};
use serde::Serialize;
use serde_json::json;

use super::Session;
use super::args::NetworkCommand;
use super::out::table;
use crate::control::{Client, ClientError, PerNetwork};
use crate::network::{Added, Network, NetworkError, News};
use crate::node::{Mode, Status};

/// `openledger network …`.
pub(super) fn network(
    session: &Session,
    command: NetworkCommand,
    runtime: &tokio::runtime::Runtime,
) -> anyhow::Result<()> {
    match command {
        NetworkCommand::List => list(session),
        NetworkCommand::Show { name } => show(session, name.as_deref()),
        NetworkCommand::Add { file } => add(session, &file),
        NetworkCommand::Remove { name } => runtime.block_on(remove(session, &name)),
    }
}

/// One line of the list.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    id: Option<NetworkId>,
    signer: Option<NodeId>,
    coordinator: Option<String>,
    chain_id: Option<u64>,
    /// Why the network cannot be joined, if it cannot.
    problem: Option<String>,
}

impl Line {
    fn of(name: String, found: Result<Network, NetworkError>) -> Self {
        match found {
            Ok(network) => Self {
                id: Some(network.profile.network()),
                signer: Some(network.signer),
                coordinator: Some(network.profile.coordinator.api.to_string()),
                chain_id: Some(network.profile.chain.chain_id),
                problem: None,
                name,
            },
            Err(error) => {
                let problem = Some(format!("failed to {error}"));
                Self { name, id: None, signer: None, coordinator: None, chain_id: None, problem }
            }
        }
    }
}

fn list(session: &Session) -> anyhow::Result<()> {
    let data = &session.data;
    let known = Network::known(data).into_iter();
    let lines: Vec<Line> = known
        .map(|name| {
            let found = Network::find(data, Some(&name));
            Line::of(name, found)
        })
        .collect();
    session.out.show(&lines, |lines| {
        if lines.is_empty() {
            return "no networks yet; `openledger network add FILE` or `openledger up --network FILE`"
                .to_owned();
        }
        let row = |line: &Line| {
            let id = line.id.map(|id| id.short()).unwrap_or_default();
            let where_to = line.coordinator.clone().or_else(|| line.problem.clone());
            vec![line.name.clone(), id, where_to.unwrap_or_default()]
        };
        table(&lines.iter().map(row).collect::<Vec<_>>())
    })
}

/// What `network show` prints for programs.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    name: &'a str,
    id: NetworkId,
    signer: NodeId,
    folder: &'a Path,
    profile: &'a Profile,
    /// Word for word, with its signature: what another machine can be given.
    text: String,
}

fn show(session: &Session, name: Option<&str>) -> anyhow::Result<()> {
    let network = Network::find(&session.data, name)?;
    let shown = Shown {
        name: network.name(),
        id: network.profile.network(),
        signer: network.signer,
        folder: &network.folder,
        profile: &network.profile,
        text: network.text()?,
    };
    // For people the text alone, so that `network show NAME > FILE` gives the profile on.
    session.out.show(&shown, |shown| shown.text.clone())
}

fn add(session: &Session, file: &Path) -> anyhow::Result<()> {
    session.data.make("")?;
    let added = Network::add(&session.data, file)?;
    let changed: &[String] = match &added.news {
        News::Changed(changed) => changed,
        _ => &[],
    };
    let network = &added.network;
    let value = json!({
        "name": network.name(),
        "id": network.profile.network(),
        "signer": network.signer,
        "news": name_of(&added.news),
        "changed": changed,
    });
    session.out.show(&value, |_| told(&added).unwrap_or_else(|| nothing_new(network)))
}

fn name_of(news: &News) -> &'static str {
    match news {
        News::New => "new",
        News::Back => "back",
        News::Same => "same",
        News::Changed(_) => "changed",
    }
}

fn nothing_new(network: &Network) -> String {
    format!("network {} has this very profile already", network.name())
}

/// What the owner should be told of a profile, if anything.
pub(super) fn told(added: &Added) -> Option<String> {
    let name = added.network.name();
    match &added.news {
        News::Same => None,
        News::New => Some(format!(
            "network {name} is known from now on: `openledger up --network {name}` joins it"
        )),
        News::Back => Some(format!(
            "network {name} is back with all that was promised and earned in it: `openledger up --network {name}` joins it"
        )),
        News::Changed(changed) if changed.is_empty() => {
            Some(format!("the profile of network {name} was written anew; it says the same"))
        }
        News::Changed(changed) => Some(format!(
            "the publisher of network {name} changed its profile:\n  {}\na running node takes that over at its next start",
            changed.join("\n  ")
        )),
    }
}

async fn remove(session: &Session, name: &str) -> anyhow::Result<()> {
    let asked = async { Client::of(&session.data)?.get::<PerNetwork<Status>>("status").await };
    match asked.await {
        Ok(all) => {
            let is_in = |status: &Status| status.network == name && status.mode != Mode::Stopping;
            if all.0.iter().any(is_in) {
                bail!(
                    "remove network {name:?}: the node is in it; `openledger finish --network {name}` finishes what it began there and leaves, then try again"
                );
            }
        }
        Err(ClientError::NotRunning(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let aside = Network::remove(&session.data, name)?;
    session.out.show(&json!({ "name": name, "kept": aside }), |_| {
        format!(
            "network {name} is removed; what was promised and earned in it is kept in {} and comes back when it is added again",
            aside.display()
        )
    })
}
