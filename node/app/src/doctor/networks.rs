//! Which networks this folder is in, and whether their profiles read.

use std::path::Path;
use std::sync::Arc;

use openledger_refine::PROFILE_V1;
use openledger_rules::RuleSet;
use openledger_web::doctor::Finding;
use openledger_wire::limits as wire_limits;
use openledger_wire::profile::Profile;

use super::machine::quoted;
use crate::data_dir::{DataDir, read_bounded};
use crate::limits;
use crate::network::{Network, NetworkError};

const CODE: &str = "network";

/// The networks to look at, and what is wrong with those that cannot be looked at.
pub(super) fn joined(data: &DataDir, named: Option<&str>) -> (Vec<Network>, Vec<Finding>) {
    let names = match named {
        // As `up` understands it: a network of that name first, else the file.
        Some(file)
            if !Network::known(data).iter().any(|name| name == file)
                && Path::new(file).is_file() =>
        {
            return match of_file(data, Path::new(file)) {
                Ok(network) => {
                    let finding = fine(&network);
                    (vec![network], vec![finding])
                }
                Err(finding) => (Vec::new(), vec![*finding]),
            };
        }
        Some(name) => vec![name.to_owned()],
        None => Network::known(data),
    };
    if names.is_empty() {
        let cause = "`openledger up` was not used with a network profile yet";
        let mend =
            "get the profile of a network from its publisher, then `openledger up --network FILE`";
        let none = Finding::error(CODE, "no network was joined", cause, mend);
        return (Vec::new(), vec![none]);
    }
    let mut networks = Vec::new();
    let mut findings = Vec::new();
    for name in names.iter().take(limits::DOCTOR_NETWORKS_MAX) {
        match Network::find(data, Some(name)) {
            Ok(network) if network.name() == name => {
                findings.push(fine(&network));
                networks.push(network);
            }
            Ok(network) => findings.push(misplaced(data, name, &network)),
            Err(error) => findings.push(refused(data, name, &error)),
        }
    }
    if let Some(more) = names.len().checked_sub(limits::DOCTOR_NETWORKS_MAX).filter(|n| *n > 0) {
        let found = format!("{more} more networks; look at them with `doctor --network NAME`");
        findings.push(Finding::skipped(CODE, found));
    }
    (networks, findings)
}

fn fine(network: &Network) -> Finding {
    let profile = &network.profile;
    let found = format!(
        "{} (chain {}, rule set {}, signed by {})",
        network.name(),
        profile.chain.chain_id,
        &*profile.rule_set_name,
        network.signer.short()
    );
    Finding::fine(CODE, found).of_network(network.name())
}

fn misplaced(data: &DataDir, name: &str, network: &Network) -> Finding {
    let at = data.network(name).join("profile.toml");
    let found = format!("{} is the profile of another network, {}", at.display(), network.name());
    let cause = "the file was copied or edited by hand";
    let mend = format!(
        "`rm {}`, then `openledger up --network FILE` with the profile of {name}",
        quoted(&at)
    );
    Finding::error(CODE, found, cause, mend).of_network(name)
}

fn refused(data: &DataDir, name: &str, error: &NetworkError) -> Finding {
    let mend = match error {
        NetworkError::Unknown(_) => format!(
            "name one of those joined ({}), or a profile file",
            Network::known(data).join(", ")
        ),
        NetworkError::UnknownRules { .. } => "update openledger".to_owned(),
        _ => format!(
            "fetch the profile again from its publisher, `rm {}`, then `openledger up --network FILE`",
            quoted(&data.network(name).join("profile.toml"))
        ),
    };
    let found = format!("the profile of network {name:?} cannot be used");
    Finding::error(CODE, found, format!("failed to {error}"), mend).of_network(name)
}

/// The network of a profile file. Unlike `up`, this keeps no copy of it.
fn of_file(data: &DataDir, file: &Path) -> Result<Network, Box<Finding>> {
    let refused = |reason: String| {
        let found = format!("{} cannot be used as a network profile", file.display());
        let mend = "fetch the file again from its publisher";
        Box::new(Finding::error(CODE, found, reason, mend))
    };
    let text = read_bounded(file, wire_limits::PROFILE_MAX as u64)
        .map_err(|error| refused(format!("failed to {error}")))?;
    let text = String::from_utf8(text.unwrap_or_default())
        .map_err(|_| refused("it is no text".to_owned()))?;
    let (profile, signer) =
        Profile::open(&text).map_err(|error| refused(format!("failed to {error}")))?;
    let refine = PROFILE_V1.profile_id();
    let known = RuleSet::released(refine);
    let rules = known.into_iter().find(|rules| rules.id().is_ok_and(|id| id == profile.rule_set));
    let Some(rules) = rules else {
        let found = format!("{} runs under rules that are not known here", &*profile.name);
        let cause = format!("rule set {:?} is newer than this program", &*profile.rule_set_name);
        return Err(Box::new(Finding::error(CODE, found, cause, "update openledger")));
    };
    let folder = data.network(&profile.name);
    if Network::known(data).iter().any(|name| *name == *profile.name)
        && let Ok(kept) = Network::find(data, Some(&profile.name))
        && kept.signer != signer
    {
        let found = format!("{} is signed by {}", file.display(), signer.short());
        let cause = format!("the profile joined before was signed by {}", kept.signer.short());
        let mend = format!(
            "if its publisher confirms the change: `rm {}`, then `openledger up --network {}`",
            quoted(&folder.join("profile.toml")),
            quoted(file)
        );
        return Err(Box::new(Finding::error(CODE, found, cause, mend)));
    }
    Ok(Network { profile: Arc::new(profile), signer, rules, folder })
}
