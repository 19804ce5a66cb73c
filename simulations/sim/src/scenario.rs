//! Named scenarios, and what must hold in each of them whatever the seed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use openledger_rules::state::is_asked_again;
use openledger_rules::{RuleSet, audit};
use openledger_wire::log::{Entry, Line, ReasonCode, Verdict};
use openledger_wire::task::{TaskKind, TaskSpec};
use openledger_wire::{NodeId, Open, ProofId, TaskId};

use crate::world::{Conduct, ExactJudge, World, WorldConfig};

/// A scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows, and which attack it plays.
    pub about: &'static str,
    config: fn(u64) -> WorldConfig,
}

/// All scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "honest",
        about: "six honest nodes on a lossy network: everything is accepted and paid",
        config: |seed| base(seed, Vec::new()),
    },
    Scenario {
        name: "copier",
        about: "a node reveals what its neighbour revealed (THREATS 9)",
        config: |seed| base(seed, vec![Conduct::Copier]),
    },
    Scenario {
        name: "fabricator",
        about: "a node invents pages and documents (THREATS 4)",
        config: |seed| base(seed, vec![Conduct::Fabricator]),
    },
    Scenario {
        name: "three-cheaters",
        about: "a copier, a fabricator and one that cheats on a third of its tasks (THREATS 4, 9)",
        config: |seed| base(seed, vec![Conduct::Copier, Conduct::Fabricator, Conduct::Sometimes]),
    },
    Scenario {
        name: "silent",
        about: "a node commits and never reveals (THREATS 10)",
        config: |seed| base(seed, vec![Conduct::Silent]),
    },
    Scenario {
        name: "crashes",
        about: "the coordinator dies again and again: nothing acknowledged is lost",
        config: |seed| WorldConfig {
            crash_permille: 60,
            ..base(seed, vec![Conduct::Fabricator, Conduct::Sometimes])
        },
    },
    Scenario {
        name: "infer",
        about: "six honest nodes answer prompts, each with its own rounding: no two outputs are \
                equal, and all are accepted",
        config: |seed| answering(seed, Vec::new()),
    },
    Scenario {
        name: "infer-near-ties",
        about: "honest nodes decide near ties differently: never a rejection",
        config: |seed| WorldConfig { tie_permille: 400, ..answering(seed, Vec::new()) },
    },
    Scenario {
        name: "infer-cheats",
        about: "one node scores with another model, one leaves the adapter out, one takes a seed \
                of its own (THREATS 8)",
        config: |seed| {
            let others = vec![Conduct::Prefiller, Conduct::AdapterSkipper, Conduct::OtherSeed];
            WorldConfig { tie_permille: 100, ..answering(seed, others) }
        },
    },
    Scenario {
        name: "infer-tie-forger",
        about: "a node computes one token, calls it a near tie and invents the rest (THREATS 8, 10)",
        config: |seed| answering(seed, vec![Conduct::TieForger]),
    },
    Scenario {
        name: "infer-crashes",
        about: "a copier and a fabricator answer prompts while the coordinator dies again and again",
        config: |seed| WorldConfig {
            crash_permille: 60,
            tie_permille: 100,
            ..answering(seed, vec![Conduct::Copier, Conduct::Fabricator])
        },
    },
    Scenario {
        name: "infer-classes",
        about: "nodes of five backend classes, two of which are not the same bits everywhere, \
                answer prompts with near ties and check each other: all is accepted",
        config: |seed| WorldConfig { tie_permille: 400, ..judging(seed, Vec::new()) },
    },
    Scenario {
        name: "infer-fingerprints",
        about: "another model writes and the right one reads, one token is edited, an adapter is \
                scaled or left out, another model scores (THREATS 8)",
        config: |seed| {
            let forgers = [Conduct::Forger, Conduct::Editor, Conduct::Scaler];
            let others = [Conduct::AdapterSkipper, Conduct::Prefiller];
            judging(seed, forgers.into_iter().chain(others).collect())
        },
    },
];

fn base(seed: u64, others: Vec<Conduct>) -> WorldConfig {
    WorldConfig {
        seed,
        honest: 6,
        others,
        pages: 60,
        prompts: 0,
        tie_permille: 0,
        epochs: 3,
        loss_permille: 20,
        crash_permille: 0,
        rules: RuleSet::devnet_v1([0; 32]),
    }
}

fn answering(seed: u64, others: Vec<Conduct>) -> WorldConfig {
    let rules = RuleSet::devnet_v2([0; 32]);
    WorldConfig { pages: 10, prompts: 100, rules, ..base(seed, others) }
}

fn judging(seed: u64, others: Vec<Conduct>) -> WorldConfig {
    WorldConfig { rules: RuleSet::devnet_v4([0; 32]), honest: 8, ..answering(seed, others) }
}

/// What a run showed.
#[derive(Clone, Debug)]
pub struct Report {
    /// Hash of everything that happened.
    pub history: String,
    /// Accepted proofs.
    pub accepted: u64,
    /// Honest proofs that were rejected.
    pub honest_rejected: u64,
    /// Dishonest proofs that were judged.
    pub dishonest: u64,
    /// Dishonest proofs that were accepted although somebody else did the work too.
    pub dishonest_accepted: u64,
    /// Dishonest proofs that were accepted because their node had earned rarer checks and none was
    /// drawn: what the forfeiture of pending points is there for.
    pub dishonest_unchecked: u64,
    /// Prompts with an accepted answer.
    pub answered: u64,
    /// Honest answers that ended inconclusive because they parted from others at a near tie.
    pub ties: u64,
    /// Acknowledged proofs without a receipt.
    pub lost: u64,
    /// Proofs with more than one verdict.
    pub doubled: u64,
    /// Coordinator crashes.
    pub crashes: u64,
    /// OPEN earned by honest accounts.
    pub earned: Open,
    /// Whether the recomputed root of every epoch equals the logged one.
    pub audited: bool,
}

impl Scenario {
    /// The scenario of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        SCENARIOS.iter().find(|scenario| scenario.name == name)
    }

    /// Runs one seed and checks what must hold.
    pub fn run(&self, seed: u64) -> Result<Report> {
        let config = (self.config)(seed);
        let prompts = config.prompts as u64;
        let mut world = World::new(config)?;
        world.run()?;
        let report = examine(&world)?;
        ensure!(
            report.honest_rejected == 0,
            "{} honest proofs were rejected",
            report.honest_rejected
        );
        ensure!(
            report.dishonest_accepted == 0,
            "{} dishonest proofs were accepted",
            report.dishonest_accepted
        );
        ensure!(report.lost == 0, "{} acknowledged proofs were lost", report.lost);
        ensure!(report.doubled == 0, "{} proofs were judged twice", report.doubled);
        ensure!(report.audited, "the audit came to other roots");
        ensure!(report.accepted >= 120, "only {} proofs were accepted", report.accepted);
        ensure!(report.earned > Open::ZERO, "nobody earned anything");
        let enough = prompts - prompts / 10;
        ensure!(report.answered >= enough, "only {} prompts were answered", report.answered);
        Ok(report)
    }
}

fn examine(world: &World) -> Result<Report> {
    let entries = world.entries()?;
    let (prompts, again) = prompts(world, &entries)?;
    let mut answered: BTreeSet<TaskId> = BTreeSet::new();
    let mut receipted: BTreeSet<ProofId> = BTreeSet::new();
    let mut verdicts: BTreeMap<ProofId, Vec<(Verdict, NodeId, ReasonCode)>> = BTreeMap::new();
    for entry in &entries {
        match &entry.line {
            Line::Receipts(receipts) => receipted.extend(receipts.rows.iter().map(|row| row.proof)),
            Line::Verdicts(lines) => {
                for row in &lines.rows {
                    if row.verdict == Verdict::Accepted && prompts.contains(&row.task) {
                        answered.insert(row.task);
                    }
                    let about = (row.verdict, row.node, row.reason);
                    verdicts.entry(row.proof).or_default().push(about);
                }
            }
            _ => {}
        }
    }
    let count = |want: &dyn Fn(&ProofId, Verdict, ReasonCode) -> bool| {
        let hits = verdicts.iter().filter(|(proof, rows)| {
            rows.iter().any(|(verdict, _, reason)| want(proof, *verdict, *reason))
        });
        hits.count() as u64
    };
    let dishonest = |proof: &ProofId| world.dishonest.contains_key(proof);
    let state = world.machine().state();
    check_sums(world)?;
    let bundles = world.bundles()?;
    let report = audit(world.setup().clone(), &ExactJudge, &bundles)?;
    let audited = state.last_close().is_some_and(|close| {
        report.epochs.last().is_some_and(|epoch| epoch.close.root == close.root)
    });
    let earned =
        state.nodes().filter(|(id, _)| world.is_honest(id)).fold(0u128, |sum, (_, node)| {
            sum + state.account(&node.member.account).map_or(0, |account| account.cumulative.0)
        });
    let lost = world.acknowledged.iter().filter(|proof| !receipted.contains(proof)).count() as u64;
    Ok(Report {
        history: world.history(),
        accepted: count(&|_, verdict, _| verdict == Verdict::Accepted),
        honest_rejected: count(&|proof, verdict, _| {
            verdict == Verdict::Rejected && !dishonest(proof)
        }),
        dishonest: count(&|proof, _, _| dishonest(proof)),
        dishonest_accepted: count(&|proof, verdict, reason| {
            let checked = reason != ReasonCode::TrustedUnchecked;
            verdict == Verdict::Accepted && checked && dishonest(proof)
        }),
        dishonest_unchecked: count(&|proof, verdict, reason| {
            let unchecked = reason == ReasonCode::TrustedUnchecked;
            verdict == Verdict::Accepted && unchecked && dishonest(proof)
        }),
        // Where a prompt was asked again, what was accepted before was no answer.
        answered: (answered.len() - again) as u64,
        ties: count(&|proof, verdict, reason| {
            let tie = reason == ReasonCode::Volatile;
            verdict == Verdict::Inconclusive && tie && !dishonest(proof)
        }),
        lost,
        doubled: verdicts.values().filter(|rows| rows.len() > 1).count() as u64,
        crashes: world.crashes,
        earned: Open(earned),
        audited,
    })
}

/// The tasks that ask for an answer, and how many of them ask again.
fn prompts(world: &World, entries: &[Entry]) -> Result<(BTreeSet<TaskId>, usize)> {
    let specs = entries.iter().flat_map(|entry| match &entry.line {
        Line::Tasks(batch) => batch.tasks.to_vec(),
        _ => Vec::new(),
    });
    let prompts: Vec<TaskSpec> = specs.filter(|spec| spec.kind == TaskKind::Infer).collect();
    let again = prompts.iter().filter(|spec| is_asked_again(spec)).count();
    let ids = prompts.iter().map(|spec| spec.id(world.setup().network));
    Ok((ids.collect::<Result<_, _>>()?, again))
}

/// Everything given away is in somebody's account, and the rest of each budget lapsed.
fn check_sums(world: &World) -> Result<()> {
    let state = world.machine().state();
    let Some(close) = state.last_close() else { return Ok(()) };
    let given: u128 = close.accounts.iter().map(|row| row.cumulative.0).sum();
    let budget = world.setup().rules.epoch_budget.0 * u128::from(close.epoch.0);
    let lapsed: u128 = world
        .entries()?
        .iter()
        .map(|entry| match &entry.line {
            Line::Epoch(close) => close.lapsed.0,
            _ => 0,
        })
        .sum();
    ensure!(
        given + lapsed == budget,
        "given {given} and lapsed {lapsed} are not the budget {budget}"
    );
    ensure!(close.total.0 + close.unbound.0 == given, "leaves and unbound are not what was given");
    Ok(())
}
