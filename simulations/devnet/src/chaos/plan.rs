//! What is done to whom, and after which pause: a pure function of the seed.

use std::time::Duration;

use openledger_sim::random::Random;

use crate::limits;

/// How much chaos.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chaos {
    /// What everything is drawn from.
    pub seed: u64,
    /// Processes to kill.
    pub kills: usize,
    /// Whether the node with the small disk has it filled.
    pub fills_disk: bool,
    /// Whether nodes serve models.
    pub serves: bool,
}

/// Whose process is killed; nodes are numbered as they stand in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The coordinator.
    Coordinator,
    /// The chain.
    Chain,
    /// A node.
    Node(usize),
    /// A worker of a node, or of the next one that has a worker.
    Worker(usize),
    /// The same, but one that computes answers, where there is one.
    InferWorker(usize),
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A process is killed and started again after this time.
    Kill(Target, Duration),
    /// The chain does not answer for this time.
    Silence(Duration),
    /// The chain takes back so many blocks.
    Reorganisation(u64),
    /// The chain takes back a root that was just posted.
    RootTakenBack,
    /// The small disk is full for this time.
    FullDisk(Duration),
    /// Who serves a call is killed in the middle of its answer.
    StreamCut,
    /// A base model at a node is cut short.
    BaseCut,
    /// An adapter at a node is cut short.
    AdapterCut,
    /// Models are called that nobody has.
    UnknownModels,
}

/// A fault after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// How long nothing is done before.
    pub pause: Duration,
    /// What is done then.
    pub fault: Fault,
}

/// Of ten kills three are of the coordinator, three of nodes, three of workers (one of them an infer
/// worker where models are served), one of the chain. In the middle the coordinator is away for
/// long; the chain falls silent once and takes blocks back. At the end servers of calls are killed,
/// model files cut short and unknown models called, the chain takes a root back, and a disk is full.
#[must_use]
pub fn plan(chaos: Chaos, nodes: usize) -> Vec<Step> {
    let mut random = Random::new(chaos.seed, "devnet chaos");
    let mut targets: Vec<Target> =
        (0..chaos.kills).map(|n| target(n, nodes.max(1), chaos.serves)).collect();
    shuffle(&mut targets, &mut random);
    let mut steps: Vec<Step> = targets
        .into_iter()
        .map(|target| {
            let away_ms = match target {
                Target::Coordinator if random.chance(250) => random.below(limits::AWAY_MS_MAX),
                _ => 0,
            };
            let fault = Fault::Kill(target, Duration::from_millis(away_ms));
            Step { pause: pause(&mut random), fault }
        })
        .collect();
    let middle = steps.iter().skip(chaos.kills / 2);
    let long = middle.take_while(|step| !is_coordinator(step)).count() + chaos.kills / 2;
    if let Some(Step { fault: Fault::Kill(Target::Coordinator, away), .. }) = steps.get_mut(long) {
        *away = limits::AWAY_LONG;
        // Nodes are let work on alone for most of the time, with one fault in it.
        for (at, quarters) in [(long + 1, 3), (long + 2, 1)] {
            if let Some(next) = steps.get_mut(at) {
                next.pause = limits::AWAY_LONG * quarters / 4;
            }
        }
    }
    let blocks = 1 + random.below(limits::REORG_BLOCKS_MAX);
    let (cut, last) = ([Fault::StreamCut; limits::STREAMS_CUT], [Fault::UnknownModels]);
    let served = cut.into_iter().chain([Fault::BaseCut, Fault::AdapterCut]).chain(last);
    for fault in served.filter(|_| chaos.serves) {
        steps.push(Step { pause: pause(&mut random), fault });
    }
    let taken_back = Step { pause: pause(&mut random), fault: Fault::RootTakenBack };
    steps.push(taken_back);
    let full_disk = Fault::FullDisk(limits::DISK_FULL);
    if chaos.fills_disk {
        steps.push(Step { pause: pause(&mut random), fault: full_disk });
    }
    for (at, fault) in [
        (chaos.kills / 3, Fault::Silence(limits::CHAIN_SILENT)),
        (chaos.kills / 4, Fault::Reorganisation(blocks)),
    ] {
        steps.insert(at, Step { pause: pause(&mut random), fault });
    }
    steps
}

fn target(n: usize, nodes: usize, serves: bool) -> Target {
    // Each kind goes round the nodes by a count of its own.
    let nth = |first: usize| (n / 10 * 3 + n % 10 - first) % nodes;
    match n % 10 {
        0..=2 => Target::Coordinator,
        3..=5 => Target::Node(nth(3)),
        8 if serves => Target::InferWorker(nth(6)),
        6..=8 => Target::Worker(nth(6)),
        _ => Target::Chain,
    }
}

fn pause(random: &mut Random) -> Duration {
    Duration::from_millis(random.below(limits::FAULT_PAUSE_MS_MAX))
}

fn is_coordinator(step: &Step) -> bool {
    matches!(step.fault, Fault::Kill(Target::Coordinator, _))
}

fn shuffle(targets: &mut [Target], random: &mut Random) {
    for last in (1..targets.len()).rev() {
        let other = random.below(last as u64 + 1);
        targets.swap(last, usize::try_from(other).unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_repeats_and_everybody_gets_a_share() {
        let chaos = Chaos { seed: 7, kills: 50, fills_disk: false, serves: true };
        let steps = plan(chaos, 9);
        assert_eq!(steps, plan(chaos, 9));
        assert_ne!(steps, plan(Chaos { seed: 8, ..chaos }, 9));
        let killed: Vec<Target> = steps
            .iter()
            .filter_map(|step| match step.fault {
                Fault::Kill(target, _) => Some(target),
                _ => None,
            })
            .collect();
        let count = |wanted: fn(&Target) -> bool| killed.iter().filter(|t| wanted(t)).count();
        assert_eq!(killed.len(), 50);
        assert_eq!(count(|target| *target == Target::Coordinator), 15);
        assert_eq!(count(|target| *target == Target::Chain), 5);
        assert_eq!(count(|target| matches!(target, Target::Worker(_))), 10);
        assert_eq!(count(|target| matches!(target, Target::InferWorker(_))), 5);
        let without = plan(Chaos { serves: false, ..chaos }, 9);
        assert_eq!(without.len() + limits::STREAMS_CUT + 3, steps.len());
        let nodes: BTreeSet<Target> =
            killed.iter().filter(|target| matches!(target, Target::Node(_))).copied().collect();
        assert_eq!(nodes.len(), 9, "every node is killed");
        let long =
            |step: &Step| matches!(step.fault, Fault::Kill(_, away) if away == limits::AWAY_LONG);
        assert_eq!(steps.iter().filter(|step| long(step)).count(), 1);
    }

    #[test]
    fn the_smallest_plan_has_all_faults_of_the_chain() {
        let chaos = Chaos { seed: 1, kills: 1, fills_disk: true, serves: false };
        let steps = plan(chaos, 1);
        assert_eq!(steps.len(), 5);
    }
}
