//! `openledger audit`.

use std::process::ExitCode;

use anyhow::bail;
use openledger_wire::Epoch;
use serde_json::json;

use super::Session;
use super::args::AuditArgs;
use super::out::table;
use crate::audit::{Compared, Source, compare, reader, replay};
use crate::limits;
use crate::network::Network;

/// `openledger audit`: exit code 1 where a root differs.
pub(super) async fn audit(session: &Session, args: AuditArgs) -> anyhow::Result<ExitCode> {
    let config = session.config()?;
    let configured = config.network.joined();
    let named = match (&args.network, configured.as_slice()) {
        (Some(named), _) => Some(named.as_str()),
        (None, [one]) => Some(one.as_str()),
        (None, _) => None,
    };
    let network = Network::find(&session.data, named)?;
    let base = args.coordinator.unwrap_or_else(|| network.profile.coordinator.api.to_string());
    let source = Source::new(&base)?;
    let last = match args.epoch {
        Some(epoch) => Epoch(epoch),
        None => source.last_closed().await?,
    };
    if last.0 == 0 || last.0 > limits::AUDIT_EPOCHS_MAX {
        bail!(
            "audit epoch {last}: epochs count from 1, and at most {} are checked",
            limits::AUDIT_EPOCHS_MAX
        );
    }
    let mut bundles = Vec::new();
    for epoch in 1..=last.0 {
        bundles.push(source.bundle(Epoch(epoch)).await?);
    }
    let audited = replay(&network, &bundles)?;
    let rewards = if args.offline_chain { None } else { Some(reader(&network.profile).await?) };
    let compared = compare(&audited, rewards.as_ref()).await?;
    let equal = compared.iter().all(|one| one.equal);
    let value = json!({ "network": network.name(), "equal": equal, "epochs": compared });
    session.out.show(&value, |_| text(&compared, equal))?;
    Ok(if equal { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(compared: &[Compared], equal: bool) -> String {
    let mut rows = vec![
        ["epoch", "computed root", "root on chain", "OPEN", "entries", "proofs", ""]
            .map(str::to_owned)
            .to_vec(),
    ];
    for one in compared {
        rows.push(vec![
            one.epoch.to_string(),
            one.computed_root.to_string(),
            one.chain_root.map_or_else(|| "not posted yet".to_owned(), |root| root.to_string()),
            one.total.clone(),
            one.entries.to_string(),
            one.proofs.to_string(),
            if one.equal { String::new() } else { "DIFFERS".to_owned() },
        ]);
    }
    let verdict = if equal {
        "every signature, draw, verdict and sum was recomputed; nothing differs"
    } else {
        "the chain says something else than the coordinator's own log gives; do not trust the posted roots, tell other operators"
    };
    format!("{}{verdict}", table(&rows))
}
