//! What is different between two profiles of one network, in words.

use std::fmt::Debug;

use openledger_wire::profile::Profile;

/// Every difference, one line each. Name, genesis, chain id, rewards contract and coordinator key
/// make the network's id and are the same in both.
pub(super) fn changes(old: &Profile, new: &Profile) -> Vec<String> {
    let mut found = Vec::new();
    let mut differ = |what: &str, before: String, after: String| {
        if before != after {
            found.push(format!("{what}: {before} -> {after}"));
        }
    };
    let rules = |profile: &Profile| format!("{} ({})", profile.rule_set_name, profile.rule_set);
    differ("rule set", rules(old), rules(new));
    let address = |profile: &Profile| format!("0x{}", profile.coordinator.settlement);
    differ("address that signs receipts and verdicts", address(old), address(new));
    let (was, is) = (&old.coordinator, &new.coordinator);
    differ("coordinator's link", listed(&was.link), listed(&is.link));
    differ("coordinator's API", was.api.to_string(), is.api.to_string());
    differ("chain RPC", listed(&old.chain.rpc), listed(&new.chain.rpc));
    differ("OPEN token", format!("0x{}", old.chain.token), format!("0x{}", new.chain.token));
    differ("escrow", format!("0x{}", old.chain.escrow), format!("0x{}", new.chain.escrow));
    differ("beacon", debug(&old.beacon), debug(&new.beacon));
    differ("bootstrap peers", listed(&old.bootstrap), listed(&new.bootstrap));
    differ("founding nodes", listed(&old.founding), listed(&new.founding));
    let hosts = |profile: &Profile| {
        let host = |(host, to): (&String, &_)| format!("{host} at {}", debug(to));
        listed(&profile.private_hosts.iter().map(host).collect::<Vec<_>>())
    };
    differ("private hosts that may be fetched", hosts(old), hosts(new));
    found
}

fn listed<T: ToString>(list: &[T]) -> String {
    let texts: Vec<String> = list.iter().map(ToString::to_string).collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}

/// Beacons and addresses have no words of their own; their fields are plain enough.
fn debug(value: &impl Debug) -> String {
    format!("{value:?}")
}
