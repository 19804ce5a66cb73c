//! A stand-in for a model: answers that are a function of the task, as a seeded sampler's are, and
//! what honest and dishonest nodes make of them.
//!
//! Its texts mean nothing. What is simulated is how outputs differ: by rounding, at near ties, and
//! by work that was not done.

use anyhow::Result;
use openledger_wire::proof::{InferCheck, InferEvidence, InferFinish, InferOutput};
use openledger_wire::task::InferTask;
use openledger_wire::{Blob, BlobId, List, NodeId, Text, encode};

use super::Conduct;

/// The token that ends an answer; all others are above it.
const END: u32 = 2;
/// Honest machines differ by less than this at each token, in millionths: two of them by less
/// than the tolerance of 20,000.
const ROUNDING_MICRO: i32 = 8_000;
/// What adapters take off each log-probability at least: more than the tolerance and the rounding
/// of two machines, so that leaving them out shows.
const ADAPTER_MICRO: i32 = 60_000;
/// The class whose answers the model's are; others differ from it by more than the tolerance.
const FIRST_CLASS: &str = "cpu-reference-1";
/// By how much at least.
const CLASS_MICRO: i32 = 60_000;

/// The class whose bits the classes of devices come near.
const NEAR_CLASS: &str = "cpu-int12-1";
/// What devices' states lie off, as a share: as measured between two real classes.
const NOISE: f64 = 0.0025;
/// What adapters add to a state, as a share.
const EFFECT: f64 = 0.1;
/// By how much logits would have to differ for a token that the model would not draw, at least.
const SLACK_MICRO: u32 = 400_000;

/// A node as it answers.
pub(super) struct Answerer<'a> {
    /// Whose rounding.
    pub node: &'a NodeId,
    /// The lie, if this answer is one.
    pub lie: Option<Conduct>,
    /// What an invented answer is made of.
    pub salt: &'a [u8; 32],
    /// Prompts with a near tie, in thousandths.
    pub tie_permille: u32,
    /// What it was drawn for.
    pub part: &'a Part,
}

/// How a node answers.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// The class of its backend.
    pub class: Text<32>,
    /// Whether that class is the same bits everywhere.
    pub is_exact: bool,
    /// Whether the rules want evidence.
    pub with_evidence: bool,
    /// The tokens that it is to check, if it is not to write an answer.
    pub checks: Option<Vec<u32>>,
}

/// What the model makes of a position.
struct Step {
    token: u32,
    logprob: i32,
    slack: u32,
    state: [f64; 4],
    effect: [f64; 4],
}

impl Answerer<'_> {
    /// The answer to a task, or what a check of one finds.
    pub(super) fn answer(&self, task: &InferTask) -> Result<InferOutput> {
        let mut steps = self.steps(task)?;
        if self.lie == Some(Conduct::Prefiller) {
            for step in &mut steps {
                step.logprob -= ADAPTER_MICRO + below(&digest(&[self.salt]), 900_000);
                step.state = numbers(&[self.salt, &step.token.to_be_bytes()]);
            }
        }
        let share = match self.lie {
            Some(Conduct::Scaler) => 0.9,
            _ => 1.0,
        };
        for step in &mut steps {
            for (state, effect) in step.state.iter_mut().zip(step.effect) {
                *state += effect * share;
            }
        }
        let ended = steps.last().is_some_and(|step| step.token == END);
        let evidence = self.part.with_evidence.then(|| self.evidence(task, &steps)).transpose()?;
        let hash = evidence.as_ref().map(|evidence| BlobId::of(&evidence.fingerprint));
        Ok(InferOutput {
            tokens: List::new(steps.iter().map(|step| step.token).collect::<Vec<_>>())?,
            logprobs_micro: List::new(steps.iter().map(|step| step.logprob).collect::<Vec<_>>())?,
            finish: if ended { InferFinish::End } else { InferFinish::Length },
            fingerprint: hash.unwrap_or(BlobId::ZERO),
            backend: self.part.class.clone(),
            evidence,
        })
    }

    /// What it runs: honestly, or so that the lie comes out.
    fn steps(&self, task: &InferTask) -> Result<Vec<Step>> {
        let own_seed = InferTask { seed: *self.salt, ..task.clone() };
        let bare = InferTask { adapters: List::default(), ..task.clone() };
        if let Some(tokens) = &self.part.checks {
            let task = match self.lie {
                None | Some(Conduct::Prefiller | Conduct::OddVersion | Conduct::OtherClass) => task,
                Some(Conduct::AdapterSkipper) => &bare,
                // Nothing is run: the numbers are some others.
                Some(_) => &own_seed,
            };
            return self.run(task, Some(tokens));
        }
        match self.lie {
            None
            | Some(
                Conduct::Prefiller | Conduct::OddVersion | Conduct::OtherClass | Conduct::Scaler,
            ) => self.run(task, None),
            Some(Conduct::AdapterSkipper) => self.run(&bare, None),
            Some(Conduct::TieForger) => {
                let (real, mut rest) = (self.run(task, None)?, self.run(&own_seed, None)?);
                if let (Some(forged), Some(real)) = (rest.first_mut(), real.first()) {
                    (forged.token, forged.logprob) = (real.token + 1, real.logprob);
                }
                Ok(rest)
            }
            // Somebody else writes; the right model reads it, which is cheaper.
            Some(Conduct::Forger) => {
                let forged: Vec<u32> =
                    self.run(&own_seed, None)?.iter().map(|step| step.token).collect();
                self.run(task, Some(&forged))
            }
            Some(Conduct::Editor) => {
                let real = self.run(task, None)?;
                let mut edited: Vec<u32> = real.iter().map(|step| step.token).collect();
                if let Some(token) = edited.first_mut() {
                    *token += 1_000;
                }
                self.run(task, Some(&edited))
            }
            // A seed that suits it, or words of its own: both are another text.
            Some(_) => self.run(&own_seed, None),
        }
    }

    /// Tokens and log-probabilities: each depends on all tokens before it. Writes them, or reads
    /// those that are given.
    fn run(&self, task: &InferTask, given: Option<&[u32]>) -> Result<Vec<Step>> {
        let start = digest(&[&task.model.0, &task.prompt.0, &task.seed]);
        let adapters = digest(&[&encode(&task.adapters)?]);
        // Some answers end by themselves, some at the limit.
        let length = 3 + below(&digest(&[&start, b"length"]), 2 * task.tokens_max);
        let tie = digest(&[&start, b"tie"]);
        let span = task.tokens_max.min(u32::try_from(length)?);
        let has_tie = below(&tie, 1_000) < i32::try_from(self.tie_permille)?;
        let tie_at = has_tie.then(|| below(&digest(&[&tie]), span));
        // Devices differ by noise alone from what they come near.
        let class = if self.part.is_exact { &*self.part.class } else { NEAR_CLASS };
        let mut context = start;
        let mut steps = Vec::new();
        for position in 0..i32::try_from(task.tokens_max)? {
            let step = digest(&[&context, &position.to_be_bytes()]);
            let mut token = 3 + u32::try_from(below(&step, 49_000))?;
            let mut logprob = -20_000 - below(&digest(&[&step]), 4_000_000);
            if !task.adapters.is_empty() {
                let change = digest(&[&step, &adapters]);
                logprob -= ADAPTER_MICRO + below(&change, 400_000);
                token += u32::from(change[31] < 32);
            }
            if *class != *FIRST_CLASS {
                // Rounds otherwise: by more than what is allowed for within a class.
                let change = digest(&[&step, class.as_bytes()]);
                logprob -= CLASS_MICRO + below(&change, 100_000);
                token += u32::from(change[31] < 16);
            }
            let rounding = below(&digest(&[&step, &self.node.0]), 16_000) - ROUNDING_MICRO;
            let tied = tie_at == Some(position);
            if tied && rounding > ROUNDING_MICRO / 2 {
                (token, logprob) = (token + 1, logprob - 1_500);
            }
            if position + 1 == length {
                token = END;
            }
            let mut slack = 0;
            if let Some(given) = given {
                let Some(&read) = given.get(steps.len()) else { break };
                if read != token {
                    let unlikely = below(&digest(&[&step, &read.to_be_bytes()]), 4_000_000);
                    let is_close = tied && read.abs_diff(token) == 1;
                    slack = if is_close { 2_000 } else { SLACK_MICRO + unlikely.unsigned_abs() };
                    logprob -= if is_close { 1_500 } else { unlikely };
                }
                token = read;
            }
            let (state, effect) = self.state(task, &step, &adapters);
            steps.push(Step { token, logprob: logprob + rounding, slack, state, effect });
            if token == END && given.is_none() {
                break;
            }
            context = digest(&[&step, &token.to_be_bytes()]);
        }
        Ok(steps)
    }

    /// The numbers of a position's fingerprint without adapters, and what they add.
    fn state(
        &self,
        task: &InferTask,
        step: &[u8; 32],
        adapters: &[u8; 32],
    ) -> ([f64; 4], [f64; 4]) {
        let noise = if self.part.is_exact { 0.0 } else { NOISE };
        let noises = numbers(&[step, &self.node.0, b"noise"]);
        let mut state = numbers(&[step, b"state"]);
        for (state, off) in state.iter_mut().zip(noises) {
            *state += off * noise;
        }
        let added = if task.adapters.is_empty() { 0.0 } else { EFFECT };
        (state, numbers(&[step, adapters, b"effect"]).map(|number| number * added))
    }

    fn evidence(&self, task: &InferTask, steps: &[Step]) -> Result<InferEvidence> {
        let bytes = |of: fn(&Step) -> [f64; 4]| {
            let numbers: Vec<f64> = steps.iter().flat_map(of).collect();
            Blob::new(numbers.chunks(128).flat_map(chunk).collect::<Vec<u8>>())
        };
        let effect =
            if task.adapters.is_empty() { Blob::default() } else { bytes(|step| step.effect)? };
        let slacks = List::new(steps.iter().map(|step| step.slack).collect::<Vec<_>>())?;
        let check =
            self.part.checks.is_some().then_some(InferCheck { slacks_micro: slacks, effect });
        Ok(InferEvidence { fingerprint: bytes(|step| step.state)?, check })
    }
}

/// Numbers as a fingerprint has them.
fn chunk(numbers: &[f64]) -> Vec<u8> {
    let largest = numbers.iter().fold(0.0f64, |top, number| top.max(number.abs())) as f32;
    let scale = largest / 32_767.0;
    let code = |number: &f64| if scale > 0.0 { (*number as f32 / scale).round() as i16 } else { 0 };
    let codes = numbers.iter().flat_map(|number| code(number).to_le_bytes());
    scale.to_le_bytes().into_iter().chain(codes).collect()
}

/// Four numbers from -1 to 1.
fn numbers(parts: &[&[u8]]) -> [f64; 4] {
    let digest = digest(parts);
    let mut all = digest.chunks_exact(8).map(|eight| {
        let number = eight.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
        (number >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    });
    core::array::from_fn(|_| all.next().unwrap_or(0.0))
}

fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("openledger simulated model v1");
    for part in parts {
        hasher.update(&(part.len() as u64).to_be_bytes()).update(part);
    }
    *hasher.finalize().as_bytes()
}

/// A number from 0 to below `bound`, near enough uniform; bounds are small.
fn below(digest: &[u8; 32], bound: u32) -> i32 {
    let [a, b, c, d, ..] = *digest;
    let number = u32::from_be_bytes([a, b, c, d]) % bound.max(1);
    i32::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_rules::InferRules;
    use openledger_rules::infer::Relation;

    fn task(number: u8) -> InferTask {
        InferTask {
            model: BlobId([1; 32]),
            adapters: List::new([(BlobId([2; 32]), 1_000)]).unwrap(),
            prompt: BlobId([number; 32]),
            tokens_max: 24,
            seed: [3; 32],
            temperature_permille: 700,
        }
    }

    fn answer(number: u8, node: u8, lie: Option<Conduct>, tie_permille: u32) -> InferOutput {
        let (node, salt) = (NodeId([node; 32]), [node; 32]);
        let part = Part {
            class: Text::clipped(FIRST_CLASS),
            is_exact: true,
            with_evidence: false,
            checks: None,
        };
        let answerer = Answerer { node: &node, lie, salt: &salt, tie_permille, part: &part };
        answerer.answer(&task(number)).unwrap()
    }

    #[test]
    fn honest_answers_agree_and_are_never_the_same_bytes() {
        let rules = InferRules::v1();
        let mut ends = std::collections::BTreeSet::new();
        for number in 0..100 {
            let (a, b) = (answer(number, 1, None, 0), answer(number, 2, None, 0));
            assert!(rules.is_sound(&task(number), &a));
            assert_eq!(rules.relation(&a, &b), Relation::Agree);
            assert_ne!(a, b);
            ends.insert(a.finish == InferFinish::End);
        }
        assert_eq!(ends.len(), 2, "both ways to end");
    }

    #[test]
    fn near_ties_part_honest_answers_and_nothing_else_does() {
        let rules = InferRules::v1();
        let relations = |number| {
            let outputs: Vec<_> = (0..8).map(|node| answer(number, node, None, 1_000)).collect();
            let all = outputs.iter().flat_map(|a| outputs.iter().map(move |b| (a, b)));
            all.map(|(a, b)| rules.relation(a, b)).collect::<Vec<_>>()
        };
        let all: Vec<Relation> = (0..50).flat_map(relations).collect();
        assert!(all.contains(&Relation::NearTie));
        assert!(!all.contains(&Relation::Differ));
    }

    #[test]
    fn lies_differ_from_honest_answers() {
        let rules = InferRules::v1();
        for number in 0..100 {
            let honest = answer(number, 1, None, 0);
            for lie in [Conduct::Prefiller, Conduct::AdapterSkipper] {
                let lied = answer(number, 2, Some(lie), 0);
                assert_eq!(rules.relation(&honest, &lied), Relation::Differ, "{lie:?}");
            }
            let other = answer(number, 2, Some(Conduct::OtherSeed), 0);
            assert_ne!(rules.relation(&honest, &other), Relation::Agree);
            let forged = answer(number, 2, Some(Conduct::TieForger), 0);
            assert_eq!(rules.relation(&honest, &forged), Relation::NearTie);
        }
    }
}
