//! The figures of a run, each beside its bar.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openledger_sim::figures::{Figures, Kind};
use openledger_wire::ProofId;

use crate::launch::Network;
use crate::limits;
use crate::money::{Audited, Claims};
use crate::tally::Tally;
use crate::traps;

/// Everything that was found out about a run.
#[derive(Debug)]
pub struct Findings {
    /// Counted from the log.
    pub tally: Tally,
    /// Dishonest proofs that cheaters noted.
    pub noted: BTreeSet<ProofId>,
    /// Blobs that honest nodes fetched from peers and verified.
    pub blobs_from_peers: u64,
    /// Proofs that gossip brought to the coordinator first.
    pub first_by_gossip: u64,
    /// What was claimed, if it came to that.
    pub claims: Option<Claims>,
    /// What the audit found, if it came to that.
    pub audited: Option<Audited>,
    /// From the start to the last claim.
    pub time: Duration,
}

/// The figures.
#[must_use]
pub fn figures(network: &Network, findings: &Findings) -> Figures {
    let mut figures = Figures::new("devnet");
    let honest = network.members.iter().filter(|member| member.part.is_honest()).count() as u64;
    let cheaters = network.members.len() as u64 - honest;
    figures.at_least("honest nodes", honest, limits::BAR_NODES);
    figures.equals("cheaters", cheaters, 3);
    let hosts = network.sites.addresses.len() as u64;
    figures.at_least("hosts on addresses of their own", hosts, limits::HOSTS as u64);
    work(&mut figures, network, findings);
    cheats(&mut figures, findings);
    figures.at_least(
        "pages fetched from peers as blobs and verified",
        findings.blobs_from_peers,
        limits::BAR_BLOBS,
    );
    figures.at_least("proofs first seen by gossip", findings.first_by_gossip, 1);
    money(&mut figures, findings, honest);
    let seconds = (findings.time.as_secs_f64() * 10.0).round() / 10.0;
    figures.show("from the start to the last claim", seconds, "s", Kind::Timed);
    figures
}

fn work(figures: &mut Figures, network: &Network, findings: &Findings) {
    let tally = &findings.tally;
    let (pages, accounts) = tally.pages();
    figures.at_least("distinct URLs refined", tally.urls_refined(), limits::BAR_URLS);
    figures.show("pages fetched and agreed upon", pages, "", Kind::Exact);
    figures.at_least(
        "accounts with an accepted fetch of each page, least",
        accounts,
        limits::BAR_ACCOUNTS,
    );
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let closed = count(&network.sites.counts.closed) + count(&network.traps.counts.closed);
    figures.equals("requests for what robots.txt closes", closed, 0);
    let sprung = count(&network.traps.counts.sprung);
    figures.at_least("requests for endless, packed and redirecting pages", sprung, 3);
    figures.equals("such pages accepted", tally.fetched(&traps::urls()), 0);
    let inside = count(&network.traps.counts.inside);
    figures.equals("requests to a private address behind a redirect", inside, 0);
}

fn cheats(figures: &mut Figures, findings: &Findings) {
    let dishonest = findings.tally.dishonest(&findings.noted);
    let honest = findings.tally.honest(&findings.noted);
    figures.at_least("dishonest proofs", dishonest.proofs, 1);
    figures.equals("dishonest proofs accepted", dishonest.accepted, 0);
    let unreasoned = dishonest.proofs - dishonest.accepted - dishonest.rejected;
    figures.equals("dishonest proofs not rejected with a reason", unreasoned, 0);
    figures.show("honest proofs accepted", honest.accepted, "", Kind::Exact);
    figures.equals("honest proofs rejected", honest.rejected, 0);
    figures.show("honest proofs not counted", honest.inconclusive, "", Kind::Exact);
}

fn money(figures: &mut Figures, findings: &Findings, honest: u64) {
    let (closed, posted) = findings.tally.epochs();
    figures.show("epochs closed", closed, "", Kind::Exact);
    figures.show("epochs posted", posted, "", Kind::Exact);
    let Some(claims) = &findings.claims else {
        figures.equals("honest accounts with OPEN on chain", 0, honest);
        return;
    };
    let hash = |root: Option<openledger_wire::Keccak>| {
        root.map_or_else(|| "none".to_owned(), |root| format!("0x{root}"))
    };
    let audited = findings.audited.as_ref();
    let audit_root = audited.and_then(|audited| audited.roots.get(&claims.epoch).copied());
    figures.show("epoch claimed from", claims.epoch.0, "", Kind::Exact);
    figures.equals("epoch_root == audit_root: on chain", hash(Some(claims.root)), hash(audit_root));
    let logged = findings.tally.root(claims.epoch);
    figures.equals("epoch_root == audit_root: in the log", hash(logged), hash(audit_root));
    let equal = audited.is_some_and(|audited| audited.equal);
    figures.equals("the audit finds every epoch equal", equal, true);
    let paid = claims.accounts.iter().filter(|account| account.on_chain.0 > 0).count() as u64;
    figures.equals("honest accounts with OPEN on chain", paid, honest);
    let equal = claims.accounts.iter().filter(|account| account.is_equal()).count() as u64;
    figures.equals("honest accounts equal to leaf and earnings", equal, honest);
}

/// What people want to know beside the figures.
#[must_use]
pub fn summary(network: &Network, findings: &Findings) -> String {
    let mut text = String::new();
    if let Some(claims) = &findings.claims {
        text.push_str(&format!("\nclaimed from the root of epoch {}:\n", claims.epoch));
        for account in &claims.accounts {
            text.push_str(&format!("  {:<10} {} OPEN\n", account.name, account.on_chain));
        }
    }
    for sentence in findings.tally.wronged(&findings.noted).iter().take(10) {
        text.push_str(&format!("rejected though honest: {sentence}\n"));
    }
    let base = network.api.base();
    text.push_str(&format!("\ncoordinator   {base}/\n"));
    text.push_str(&format!("API           {base}/api/v1/status\n"));
    text.push_str(&format!(
        "chain         {} (chain id {})\n",
        network.chain.url,
        limits::CHAIN_ID
    ));
    text.push_str(&format!("profile       {}\n", network.profile.display()));
    let node = network.members.first().map(|member| member.data.display().to_string());
    let program = network.programs.node.display();
    text.push_str(&format!(
        "a node        {program} --data-dir {} status\n",
        node.unwrap_or_default()
    ));
    text.push_str(&format!("logs          {}\n", network.folder.join("logs").display()));
    text
}
