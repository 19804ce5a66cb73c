//! The figures of a run, each beside its bar.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openledger_sim::figures::{Figures, Kind};
use openledger_wire::task::TaskKind;
use openledger_wire::{ProofId, UnixMs};

use crate::api::Documents;
use crate::chaos::{Injected, Kept};
use crate::chats::Chats;
use crate::launch::Network;
use crate::limits;
use crate::models::Models;
use crate::money::{Audited, Claims};
use crate::nodes::Member;
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
    /// Model files at honest nodes, those included that they started with.
    pub models_here: u64,
    /// Calls that honest nodes sent on to a peer.
    pub forwarded: u64,
    /// What the chatting client saw, if it came to that.
    pub chats: Option<Chats>,
    /// What became of the documents, as the coordinator says.
    pub documents: Documents,
    /// Proofs that gossip brought to the coordinator first.
    pub first_by_gossip: u64,
    /// What was claimed, if it came to that.
    pub claims: Option<Claims>,
    /// What the audit found, if it came to that.
    pub audited: Option<Audited>,
    /// From the start to the last claim.
    pub time: Duration,
    /// What was done to the network, and how promises were kept.
    pub chaos: Option<(Injected, Kept)>,
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
    documents(&mut figures, findings);
    figures.at_least("proofs first seen by gossip", findings.first_by_gossip, 1);
    money(&mut figures, findings, honest);
    if let Some(models) = &network.models {
        inference(&mut figures, findings, models);
    }
    if let Some((injected, kept)) = &findings.chaos {
        faults(&mut figures, injected);
        if network.models.is_some() {
            served_faults(&mut figures, injected);
        }
        promises(&mut figures, network, findings, injected, kept);
    }
    let seconds = (findings.time.as_secs_f64() * 10.0).round() / 10.0;
    figures.show("from the start to the last claim", seconds, "s", Kind::Timed);
    figures
}

fn inference(figures: &mut Figures, findings: &Findings, models: &Models) {
    figures.show("nodes that started without a model", models.without, "", Kind::Exact);
    let fetched = findings.models_here.saturating_sub(models.planted);
    let name = "models and adapters fetched from peers and verified";
    figures.at_least(name, fetched, limits::BAR_MODELS_FETCHED);
    let accepted = findings.tally.accepted_of(TaskKind::Infer);
    figures.at_least("infer proofs accepted", accepted, limits::BAR_INFER);
    let none = Chats::default();
    let chats = findings.chats.as_ref().unwrap_or(&none);
    figures.at_least("calls answered", chats.answered, limits::BAR_CALLS);
    figures.show("of these, streamed", chats.streamed, "", Kind::Exact);
    let others = chats.through_others;
    figures.show("of these, through nodes that started without a model", others, "", Kind::Exact);
    figures.show("calls forwarded to peers", findings.forwarded, "", Kind::Exact);
    figures.at_least("adapters called", chats.answers.len() as u64, limits::BAR_ADAPTERS);
    figures.equals("different answers to one question", chats.voices(), models.adapters.len());
    figures.equals("adapters that answer otherwise elsewhere", chats.unsteady(), 0);
    let earned = findings.tally.points().0.saturating_sub(chats.points_before.0);
    if findings.chats.is_some() {
        figures.equals("points earned by calls", earned, 0);
    }
}

fn faults(figures: &mut Figures, injected: &Injected) {
    figures.show("seed of the faults", injected.seed, "", Kind::Exact);
    figures.at_least("processes ended by kill -9", injected.total(), limits::BAR_KILLS);
    for (kind, count) in &injected.kills {
        figures.show(&format!("of these, {kind}"), *count, "", Kind::Exact);
    }
    let away_s = injected.away.as_secs();
    figures.show("coordinator away, longest", away_s, "s", Kind::Exact);
    figures.show("reorganisations of the chain", injected.reorganisations, "", Kind::Exact);
    figures.show("posted roots that it took back", injected.roots_taken_back, "", Kind::Exact);
    figures.show("times that the chain fell silent", injected.silences, "", Kind::Exact);
    let full = injected.full_disks;
    figures.show("times that a node's disk was full", full, "", Kind::Exact);
    for (name, count) in [
        ("nodes that did not name it", injected.full_disks_silent),
        ("nodes that ended by it", injected.full_disks_ended),
        ("nodes that took it for full when it was not any more", injected.full_disks_lasting),
    ] {
        figures.equals(name, count, 0);
    }
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    for (what, name) in [("coordinator", "coordinator"), ("chain", "chain"), ("any", "")] {
        let Some(slowest) = injected.slowest(name) else { continue };
        let bar = limits::BAR_RESTART;
        figures.hold(
            &format!("restart until it answers, longest: {what}"),
            millis(slowest),
            "ms",
            Kind::Timed,
            format!("<= {}", millis(bar)),
            slowest <= bar,
        );
    }
}

/// Faults of what nodes serve.
fn served_faults(figures: &mut Figures, injected: &Injected) {
    let infer = injected.kills.get("infer workers").copied().unwrap_or_default();
    figures.at_least("infer workers ended by kill -9", infer, 1);
    let calls = &injected.calls;
    let bar = limits::STREAMS_CUT as u64;
    figures.at_least("streams whose server was killed in the middle", calls.cut, bar);
    figures.show("of these, whole in the end", calls.whole, "", Kind::Exact);
    let typed: u64 = calls.typed.values().sum();
    figures.show("of these, ended by an error with a code", typed, "", Kind::Exact);
    figures.equals("of these, that hung", calls.never, 0);
    figures.equals("of these, ended otherwise", calls.odd.len() as u64, 0);
    figures.show("calls taken up by another server", calls.resumed, "", Kind::Exact);
    figures.at_least("calls of unknown models and adapters", calls.unknown, 1);
    let odd = calls.unknown_odd.len() as u64;
    figures.equals("of these, not answered by an error that says so", odd, 0);
    figures.at_least("model files cut short", injected.files_cut, 2);
    figures.equals("of these, not named by their nodes", injected.files_unnamed, 0);
    let lost = injected.files_mended.iter().filter(|mended| mended.is_none()).count() as u64;
    figures.equals("of these, not got again from peers", lost, 0);
    if let Some(slowest) = injected.files_mended.iter().copied().flatten().max() {
        let ms = u64::try_from(slowest.as_millis()).unwrap_or(u64::MAX);
        figures.show("until they were whole again, longest", ms, "ms", Kind::Timed);
    }
}

fn promises(
    figures: &mut Figures,
    network: &Network,
    findings: &Findings,
    injected: &Injected,
    kept: &Kept,
) {
    figures.at_least("acknowledged proofs", kept.acknowledged, 1);
    figures.equals("acknowledged proofs lost", kept.lost, 0);
    figures.equals("acknowledged proofs without a verdict", kept.unjudged, 0);
    figures.equals("proofs counted twice", findings.tally.doubled(), 0);
    figures.equals("receipts that name another log", kept.forked, 0);
    figures.equals("receipts that their nodes lost", kept.forgotten, 0);
    let honest = network.members.iter().filter(|member| member.part.is_honest());
    let restarted: Vec<_> =
        honest.filter_map(|member| Some((member, injected.up_since.get(&member.name)?))).collect();
    let works_on = |(member, since): &&(&Member, &UnixMs)| {
        kept.latest.get(&member.name).is_some_and(|latest| latest > since)
    };
    let working = restarted.iter().filter(works_on).count();
    figures.equals("restarted honest nodes that worked on", working, restarted.len());
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

fn documents(figures: &mut Figures, findings: &Findings) {
    let documents = &findings.documents;
    let name = "documents fetched from peers as blobs and verified";
    figures.at_least(name, documents.collected, limits::BAR_DOCUMENTS);
    figures.show("near-duplicates among them", documents.duplicates, "", Kind::Exact);
    let missing: u64 = documents.reasons.values().sum();
    figures.show("documents not delivered or refused", missing, "", Kind::Exact);
    let pages = findings.blobs_from_peers;
    figures.show("pages fetched from peers as blobs and verified", pages, "", Kind::Exact);
}

fn cheats(figures: &mut Figures, findings: &Findings) {
    let dishonest = findings.tally.dishonest(&findings.noted);
    let honest = findings.tally.honest(&findings.noted);
    figures.at_least("dishonest proofs", dishonest.proofs, 1);
    figures.equals("dishonest proofs accepted", dishonest.accepted, 0);
    let unreasoned = dishonest.proofs - dishonest.accepted - dishonest.rejected;
    let name = "dishonest proofs not rejected with a reason";
    if findings.chaos.is_none() {
        figures.equals(name, unreasoned, 0);
    } else {
        // Who was to check them was killed or cut off: they count nothing, and prove nothing.
        figures.show(name, unreasoned, "", Kind::Exact);
    }
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
    if let Some((injected, _)) = &findings.chaos {
        let calls = &injected.calls;
        for (code, count) in &calls.typed {
            text.push_str(&format!("streams ended by the error {code}: {count}\n"));
        }
        for seen in calls.odd.iter().chain(&calls.unknown_odd) {
            text.push_str(&format!("a call ended oddly: {seen}\n"));
        }
    }
    for sentence in findings.tally.wronged(&findings.noted).iter().take(10) {
        text.push_str(&format!("rejected though honest: {sentence}\n"));
    }
    for (adapter, answers) in findings.chats.iter().flat_map(|chats| &chats.answers) {
        let answers: Vec<String> = answers.iter().map(|answer| format!("{answer:?}")).collect();
        text.push_str(&format!("{adapter} says {}\n", answers.join(", and elsewhere ")));
    }
    let base = network.api.base();
    for (reason, count) in findings.tally.undecided(&findings.noted) {
        text.push_str(&format!("dishonest, neither accepted nor rejected: {count} ({reason})\n"));
    }
    for (reason, count) in &findings.documents.reasons {
        text.push_str(&format!("documents not collected: {count} ({reason})\n"));
    }
    text.push_str(&format!("\ncoordinator   {base}/\n"));
    text.push_str(&format!("API           {base}/api/v1/status\n"));
    text.push_str(&format!("documents     {base}/api/v1/documents\n"));
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
