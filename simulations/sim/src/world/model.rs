//! A stand-in for a model: answers that are a function of the task, as a seeded sampler's are, and
//! what honest and dishonest nodes make of them.
//!
//! Its texts mean nothing. What is simulated is how outputs differ: by rounding, at near ties, and
//! by work that was not done.

use anyhow::Result;
use openledger_wire::proof::{InferFinish, InferOutput};
use openledger_wire::task::InferTask;
use openledger_wire::{BlobId, List, NodeId, Text, encode};

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
    /// The class of its backend.
    pub class: &'a Text<32>,
}

impl Answerer<'_> {
    /// The answer to a task.
    pub(super) fn answer(&self, task: &InferTask) -> Result<InferOutput> {
        let mut steps = match self.lie {
            None
            | Some(
                Conduct::Prefiller | Conduct::TieForger | Conduct::OddVersion | Conduct::OtherClass,
            ) => self.text(task)?,
            Some(Conduct::AdapterSkipper) => {
                self.text(&InferTask { adapters: List::default(), ..task.clone() })?
            }
            // A seed that suits it, or words of its own: both are another text.
            Some(_) => self.text(&InferTask { seed: *self.salt, ..task.clone() })?,
        };
        if self.lie == Some(Conduct::Prefiller) {
            for (_, logprob) in &mut steps {
                *logprob -= ADAPTER_MICRO + below(&digest(&[self.salt]), 900_000);
            }
        }
        if self.lie == Some(Conduct::TieForger) {
            let mut rest = self.text(&InferTask { seed: *self.salt, ..task.clone() })?;
            if let (Some(forged), Some(real)) = (rest.first_mut(), steps.first()) {
                *forged = (real.0 + 1, real.1);
            }
            steps = rest;
        }
        let ended = steps.last().is_some_and(|(token, _)| *token == END);
        let (tokens, logprobs): (Vec<u32>, Vec<i32>) = steps.into_iter().unzip();
        Ok(InferOutput {
            tokens: List::new(tokens)?,
            logprobs_micro: List::new(logprobs)?,
            finish: if ended { InferFinish::End } else { InferFinish::Length },
            fingerprint: BlobId::ZERO,
            backend: self.class.clone(),
        })
    }

    /// Tokens and log-probabilities: each depends on all tokens before it.
    fn text(&self, task: &InferTask) -> Result<Vec<(u32, i32)>> {
        let start = digest(&[&task.model.0, &task.prompt.0, &task.seed]);
        let adapters = digest(&[&encode(&task.adapters)?]);
        // Some answers end by themselves, some at the limit.
        let length = 3 + below(&digest(&[&start, b"length"]), 2 * task.tokens_max);
        let tie = digest(&[&start, b"tie"]);
        let span = task.tokens_max.min(u32::try_from(length)?);
        let has_tie = below(&tie, 1_000) < i32::try_from(self.tie_permille)?;
        let tie_at = has_tie.then(|| below(&digest(&[&tie]), span));
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
            if **self.class != *FIRST_CLASS {
                // Rounds otherwise: by more than what is allowed for within a class.
                let change = digest(&[&step, self.class.as_bytes()]);
                logprob -= CLASS_MICRO + below(&change, 100_000);
                token += u32::from(change[31] < 16);
            }
            let rounding = below(&digest(&[&step, &self.node.0]), 16_000) - ROUNDING_MICRO;
            if tie_at == Some(position) && rounding > ROUNDING_MICRO / 2 {
                (token, logprob) = (token + 1, logprob - 1_500);
            }
            if position + 1 == length {
                token = END;
            }
            steps.push((token, logprob + rounding));
            if token == END {
                break;
            }
            context = digest(&[&step, &token.to_be_bytes()]);
        }
        Ok(steps)
    }
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
        let class = Text::clipped(FIRST_CLASS);
        let answerer = Answerer { node: &node, lie, salt: &salt, tie_permille, class: &class };
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
