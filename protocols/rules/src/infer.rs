//! Whether two answers of a model to one task are the same work.
//!
//! The sampler is seeded by the task, so the tokens are a function of the logits, and a sound
//! answer names for each token how likely the model found it. Two machines of one backend class
//! that did the work name the same tokens, with log-probabilities that differ by rounding. Who did
//! other work differs: a prefill forger (a small model wrote, the right one only scored) and
//! another seed in the tokens, another model and an adapter that was left out in the
//! log-probabilities at the latest (THREATS 8). Bytes are never compared.
//!
//! Outputs may part at a *near tie*: both stood at a choice between two tokens that are equally
//! likely within the tolerance, and rounding decided. From there on their texts have nothing in
//! common, and neither is a lie. Whoever forges one gets no points for it, see
//! [`Relation::NearTie`].
//!
//! Most backend classes are the same bits everywhere. Two of them compute other bits, so their
//! outputs are not compared at all: whoever redoes a task is told the class of the output that he
//! checks, and nothing else of it.
//!
//! Other classes depend on the device. Redoing such an answer would part from it sooner or later,
//! at a near tie or where a draw falls on the edge between two tokens, so it is *checked* instead:
//! an auditor is told the tokens, runs prompt and tokens through the model in a class that is the
//! same bits everywhere, and commits to what he finds: how likely each token is, by how much the
//! logits would have to be others for the seeded sampler to draw it (its slack), his own
//! fingerprint, and what the adapters add to it. The answer's log-probabilities and fingerprint
//! stay hidden from him until he has committed, so there is nothing to copy, and nothing in what he
//! says is a yes or a no (THREATS 11): the rules hold the two outputs against each other. An
//! answer that the model would not have written has tokens of large slack, whatever else is right
//! about it (THREATS 8); auditors agree on that among themselves as they do on all else.
//!
//! Deliberately absent: running a model. The rules hold outputs against each other; who is drawn
//! to make a second one is decided in `assign`.

use openledger_wire::proof::{InferFinish, InferOutput};
use openledger_wire::task::{InferTask, TaskKind, TaskSpec};
use openledger_wire::{BlobId, Text, decode, limits};

use crate::fingerprint::Fingerprint;
use crate::params::InferRules;
use crate::tolerance::Tolerance;

/// Log-probabilities below this, in millionths, are not spoken of: e^-100 is no token that any
/// sampler draws.
pub const LOGPROB_MICRO_MIN: i32 = -100_000_000;

/// Slacks above this, in millionths, are not told apart: no rounding gets near them.
pub const SLACK_MICRO_MAX: u32 = 16_000_000;

/// Between a pair's bounds and so many times of them lies what is nobody's proof.
const GREY: u32 = 2;

/// The version of the body of `infer` tasks that is assigned.
const TASK_VERSION: u16 = 1;

/// How two sound outputs of one task stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The same tokens, within the tolerance, with the same end.
    Agree,
    /// They agree up to a position at which both name a token, other ones, whose log-probabilities
    /// differ by at most the tolerance; or one is of a class that is not the same bits everywhere,
    /// and lies beyond the tolerance but within twice of it. With a majority against it such an
    /// output is inconclusive: no points, no loss. Its node is then checked as one that was caught
    /// (THREATS 10), for else an answer that is real up to its first token and invented behind it
    /// would be a cheat without a risk. That costs an honest node nothing.
    NearTie,
    /// Different work.
    Differ,
}

impl InferRules {
    /// Whether outputs of a backend class are compared at all.
    #[must_use]
    pub fn lists(&self, backend: &str) -> bool {
        self.is_exact(backend) || self.checked_in(backend).is_some()
    }

    /// The backend classes whose outputs are compared, those that are the same bits everywhere
    /// first.
    pub fn classes(&self) -> impl Iterator<Item = String> + '_ {
        let judged = self.judged.iter().flatten().map(|judged| &judged.class);
        self.backends.iter().chain(judged).map(|class| class.to_string())
    }

    /// Whether outputs of one task could be of classes that are never compared.
    #[must_use]
    pub fn lists_several(&self) -> bool {
        self.backends.len() > 1
    }

    /// The class in which a task is redone of which no sound output is known.
    #[must_use]
    pub fn first_class(&self) -> Option<Text<32>> {
        self.backends.first().cloned()
    }

    /// The class in which answers of a class are run again by who checks them; `None` for one
    /// whose answers are redone instead.
    #[must_use]
    pub fn checked_in(&self, backend: &str) -> Option<Text<32>> {
        let mut judged = self.judged.iter().flatten();
        judged.find(|judged| *judged.class == *backend).map(|judged| judged.checked_in.clone())
    }

    /// Whether outputs bring their fingerprints.
    #[must_use]
    pub fn wants_evidence(&self) -> bool {
        self.judged.is_some()
    }

    fn is_exact(&self, backend: &str) -> bool {
        self.backends.iter().any(|class| **class == *backend)
    }

    /// What an `infer` task asks for; `None` if it is not one that these rules can judge.
    #[must_use]
    pub fn asked(&self, spec: &TaskSpec) -> Option<InferTask> {
        if spec.kind != TaskKind::Infer || spec.version != TASK_VERSION {
            return None;
        }
        let task: InferTask = decode(&spec.body, limits::TASK_BODY_MAX).ok()?;
        (1..=self.tokens_max).contains(&task.tokens_max).then_some(task)
    }

    /// Whether an output is complete and within bounds, whatever it says.
    #[must_use]
    pub fn is_sound(&self, task: &InferTask, output: &InferOutput) -> bool {
        let tokens = output.tokens.len();
        let tokens_max = task.tokens_max.min(self.tokens_max);
        let likely = |micro: &i32| (LOGPROB_MICRO_MIN..=0).contains(micro);
        tokens > 0
            && u32::try_from(tokens).is_ok_and(|tokens| tokens <= tokens_max)
            && output.logprobs_micro.len() == tokens
            && output.logprobs_micro.iter().all(likely)
            && self.lists(&output.backend)
            && self.has_sound_evidence(task, output)
    }

    fn has_sound_evidence(&self, task: &InferTask, output: &InferOutput) -> bool {
        let Some(evidence) = &output.evidence else {
            return !self.wants_evidence() && output.fingerprint == BlobId::ZERO;
        };
        let tokens = output.tokens.len();
        let own = Fingerprint::read(&evidence.fingerprint, tokens);
        if !self.wants_evidence()
            || own.is_none_or(|own| own.has_blanks())
            || output.fingerprint != BlobId::of(&evidence.fingerprint)
        {
            return false;
        }
        match &evidence.check {
            // An answer that stops where nothing ends it is no whole answer.
            None => {
                output.finish == InferFinish::End
                    || u32::try_from(tokens).is_ok_and(|tokens| tokens == task.tokens_max)
            }
            Some(check) => {
                let effect = Fingerprint::read(&check.effect, tokens);
                check.slacks_micro.len() == tokens
                    && check.slacks_micro.iter().all(|slack| *slack <= SLACK_MICRO_MAX)
                    && if task.adapters.is_empty() {
                        check.effect.is_empty()
                    } else {
                        effect.is_some()
                    }
            }
        }
    }

    /// How two sound outputs stand to each other. Symmetric; a sound output agrees with itself; a
    /// wider tolerance never parts what a narrower one joins.
    #[must_use]
    pub fn relation(&self, a: &InferOutput, b: &InferOutput) -> Relation {
        let paired = |output: &InferOutput| output.tokens.len() == output.logprobs_micro.len();
        if !paired(a) || !paired(b) {
            return Relation::Differ;
        }
        let exact = Tolerance::exact(self.logprob_tolerance_micro);
        if a.backend == b.backend && self.is_exact(&a.backend) {
            return match (a.check(), b.check()) {
                (None, None) => redone(a, b, &exact),
                _ if is_within(a, b, &exact) => Relation::Agree,
                _ => Relation::Differ,
            };
        }
        match self.tolerance(a, b) {
            Some(tolerance) if is_within(a, b, &tolerance) => Relation::Agree,
            Some(tolerance) if is_within(a, b, &tolerance.times(GREY)) => Relation::NearTie,
            _ => Relation::Differ,
        }
    }

    /// What outputs stay within of which one is of a judged class, and the other of the same or of
    /// that in which it is checked.
    fn tolerance(&self, a: &InferOutput, b: &InferOutput) -> Option<Tolerance> {
        let of = |a: &InferOutput, b: &InferOutput| {
            let mut judged = self.judged.iter().flatten();
            let is_it =
                |class: &Text<32>, other: &Text<32>| *class == a.backend && *other == b.backend;
            judged
                .find(|one| is_it(&one.class, &one.checked_in) || is_it(&one.class, &one.class))
                .map(|judged| judged.tolerance)
        };
        of(a, b).or_else(|| of(b, a))
    }
}

/// How two answers of one class stand to each other that were written independently.
fn redone(a: &InferOutput, b: &InferOutput, tolerance: &Tolerance) -> Relation {
    for (at, ((token_a, logprob_a), (token_b, logprob_b))) in (1..).zip(steps(a).zip(steps(b))) {
        if logprob_a.abs_diff(*logprob_b) > tolerance.logprob_micro {
            return Relation::Differ;
        }
        if token_a != token_b {
            // What a token was drawn from was computed before it.
            let same = is_evidence_near(a, b, at, tolerance);
            return if same { Relation::NearTie } else { Relation::Differ };
        }
    }
    let same = a.finish == b.finish && a.tokens.len() == b.tokens.len();
    if same && is_evidence_near(a, b, a.tokens.len(), tolerance) {
        Relation::Agree
    } else {
        Relation::Differ
    }
}

/// Whether two outputs about the same tokens say the same of them.
fn is_within(a: &InferOutput, b: &InferOutput, tolerance: &Tolerance) -> bool {
    let near = |(a, b): (&i32, &i32)| a.abs_diff(*b) <= tolerance.logprob_micro;
    a.tokens == b.tokens
        && a.finish == b.finish
        && a.logprobs_micro.iter().zip(b.logprobs_micro.iter()).all(near)
        && slacks(a).zip(slacks(b)).all(|(a, b)| a.abs_diff(b) <= tolerance.slack_micro)
        && is_evidence_near(a, b, a.tokens.len(), tolerance)
}

/// Whether the fingerprints of the first `tokens` tokens lie near each other, if there are any, and
/// nothing that adapters add is missing from either.
fn is_evidence_near(
    a: &InferOutput,
    b: &InferOutput,
    tokens: usize,
    tolerance: &Tolerance,
) -> bool {
    let (one, other) = match (&a.evidence, &b.evidence) {
        (None, None) => return true,
        (Some(one), Some(other)) => (one, other),
        _ => return false,
    };
    let read = |output: &InferOutput, bytes: &[u8]| Fingerprint::read(bytes, output.tokens.len());
    let (Some(own), Some(others)) = (read(a, &one.fingerprint), read(b, &other.fingerprint)) else {
        return false;
    };
    let is_whole = |output: &InferOutput, own: &Fingerprint, others: &Fingerprint| {
        let effect = output.check().filter(|check| !check.effect.is_empty());
        effect.is_none_or(|check| {
            let effect = read(output, &check.effect);
            let limit = tolerance.effect_micro;
            effect.is_some_and(|effect| own.is_whole(others, &effect, tokens, limit))
        })
    };
    own.is_near(&others, tokens, tolerance.distance_micro)
        && is_whole(a, &own, &others)
        && is_whole(b, &others, &own)
}

/// For each token by how much the logits would have to be others; nothing for one's own.
fn slacks(output: &InferOutput) -> impl Iterator<Item = u32> + '_ {
    let said = output.check().map_or(&[][..], |check| &check.slacks_micro[..]);
    said.iter().copied().chain(core::iter::repeat(0)).take(output.tokens.len())
}

/// Each token with its log-probability.
fn steps(output: &InferOutput) -> impl Iterator<Item = (&u32, &i32)> {
    output.tokens.iter().zip(output.logprobs_micro.iter())
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_wire::{Blob, CampaignId, List, Text, encode};
    use proptest::prelude::*;

    fn rules(logprob_tolerance_micro: u32) -> InferRules {
        InferRules { logprob_tolerance_micro, ..InferRules::v1() }
    }

    fn output(steps: &[(u32, i32)]) -> InferOutput {
        InferOutput {
            tokens: List::new(steps.iter().map(|(token, _)| *token).collect::<Vec<_>>()).unwrap(),
            logprobs_micro: List::new(steps.iter().map(|(_, p)| *p).collect::<Vec<_>>()).unwrap(),
            finish: InferFinish::End,
            fingerprint: BlobId::ZERO,
            backend: Text::clipped("cpu-reference-1"),
            evidence: None,
        }
    }

    fn task(tokens_max: u32) -> InferTask {
        InferTask {
            model: BlobId([1; 32]),
            adapters: List::default(),
            prompt: BlobId([2; 32]),
            tokens_max,
            seed: [3; 32],
            temperature_permille: 0,
        }
    }

    #[test]
    fn the_same_work_agrees_whatever_its_rounding() {
        let rules = rules(20_000);
        let whole = output(&[(5, -100_000), (6, -2_000_000), (2, -30)]);
        let relation = |other: &InferOutput| rules.relation(&whole, other);
        let rounded = output(&[(5, -80_000), (6, -2_020_000), (2, 0)]);
        assert_eq!(relation(&rounded), Relation::Agree);
        let elsewhere = InferOutput { backend: Text::clipped("gpu-9"), ..whole.clone() };
        assert_eq!(relation(&elsewhere), Relation::Differ);
        assert_eq!(rules.relation(&elsewhere, &elsewhere), Relation::Differ);
        let full = InferOutput { finish: InferFinish::Length, ..whole.clone() };
        assert_eq!(relation(&full), Relation::Differ);
        let cut = output(&[(5, -100_000), (6, -2_000_000)]);
        assert_eq!(relation(&cut), Relation::Differ);
        let empty = output(&[]);
        assert_eq!(relation(&empty), Relation::Differ);
    }

    #[test]
    fn cheats_differ_and_near_ties_are_told_apart() {
        let rules = rules(20_000);
        let whole = output(&[(5, -100_000), (6, -2_000_000), (2, -30)]);
        let relation = |steps: &[(u32, i32)]| rules.relation(&whole, &output(steps));
        // Another model scored the same words, or an adapter was left out.
        let scored = [(5, -100_000), (6, -2_020_001), (2, -30)];
        assert_eq!(relation(&scored), Relation::Differ);
        // Another seed drew another word.
        let drawn = [(5, -100_000), (7, -900_000), (2, -30)];
        assert_eq!(relation(&drawn), Relation::Differ);
        // Rounding decided; what follows, even the length, is free.
        let tie = [(5, -110_000), (7, -2_019_000), (9, -1), (9, -1), (2, -5)];
        assert_eq!(relation(&tie), Relation::NearTie);
        // Behind a deviation, nothing is a near tie any more.
        let late = [(5, -130_000), (7, -2_000_000)];
        assert_eq!(relation(&late), Relation::Differ);
    }

    #[test]
    fn soundness_is_about_bounds() {
        let rules = rules(20_000);
        let whole = output(&[(5, -100_000), (2, 0)]);
        let sound = |output: &InferOutput| rules.is_sound(&task(2), output);
        assert!(sound(&whole));
        assert!(!rules.is_sound(&task(1), &whole), "more than was asked for");
        let narrow = InferRules { tokens_max: 1, ..rules.clone() };
        assert!(!narrow.is_sound(&task(2), &whole), "more than the rules allow");
        assert!(!sound(&output(&[])));
        assert!(!sound(&output(&[(5, 1)])), "a probability above one");
        assert!(!sound(&output(&[(5, LOGPROB_MICRO_MIN - 1)])));
        assert!(sound(&output(&[(5, LOGPROB_MICRO_MIN)])));
        let odd = InferOutput { logprobs_micro: List::new([0]).unwrap(), ..whole.clone() };
        assert!(!sound(&odd), "a token without its log-probability");
        let other = InferOutput { backend: Text::clipped("mine"), ..whole.clone() };
        assert!(!sound(&other), "the rule set names the classes, not the node");
        assert!(!sound(&InferOutput { fingerprint: BlobId([1; 32]), ..whole }));
    }

    #[test]
    fn tasks_that_nobody_could_answer_are_not_asked() {
        let spec = |tokens_max, version| TaskSpec {
            campaign: CampaignId([4; 32]),
            kind: TaskKind::Infer,
            version,
            nonce: 0,
            value_permille: 1_000,
            body: Blob::new(encode(&task(tokens_max)).unwrap()).unwrap(),
        };
        let rules = InferRules::v1();
        assert_eq!(rules.asked(&spec(1_024, 1)), Some(task(1_024)));
        assert_eq!(rules.asked(&spec(1, 1)), Some(task(1)));
        assert_eq!(rules.asked(&spec(0, 1)), None);
        assert_eq!(rules.asked(&spec(1_025, 1)), None);
        assert_eq!(rules.asked(&spec(8, 2)), None);
        assert_eq!(rules.asked(&TaskSpec { kind: TaskKind::Refine, ..spec(8, 1) }), None);
        assert_eq!(rules.asked(&TaskSpec { body: Blob::default(), ..spec(8, 1) }), None);
    }

    /// Few tokens and small distances, so that all three relations are common.
    fn outputs() -> impl Strategy<Value = InferOutput> {
        let step = (0..2u32, prop_oneof![Just(-40i32), -45..=-35i32]);
        (prop::collection::vec(step, 1..4), any::<bool>(), any::<bool>()).prop_map(
            |(steps, length, listed)| {
                let finish = if length { InferFinish::Length } else { InferFinish::End };
                let backend = if listed || length { "cpu-reference-1" } else { "other" };
                InferOutput { finish, backend: Text::clipped(backend), ..output(&steps) }
            },
        )
    }

    proptest! {
        #[test]
        fn the_relation_is_symmetric(a in outputs(), b in outputs(), tolerance in 0..8u32) {
            let rules = rules(tolerance);
            prop_assert_eq!(rules.relation(&a, &b), rules.relation(&b, &a));
        }

        #[test]
        fn a_sound_output_agrees_with_itself(a in outputs(), tolerance in 0..8u32) {
            let rules = rules(tolerance);
            prop_assume!(rules.is_sound(&task(4), &a));
            prop_assert_eq!(rules.relation(&a, &a), Relation::Agree);
        }

        #[test]
        fn a_wider_tolerance_parts_nothing(
            a in outputs(), b in outputs(), tolerance in 0..8u32, more in 0..8u32,
        ) {
            let (narrow, wide) = (rules(tolerance), rules(tolerance + more));
            let before = narrow.relation(&a, &b);
            prop_assert!(before == Relation::Differ || wide.relation(&a, &b) == before);
        }

        #[test]
        fn tokens_that_differ_never_agree(a in outputs(), b in outputs(), tolerance in 0..8u32) {
            let agree = rules(tolerance).relation(&a, &b) == Relation::Agree;
            prop_assert!(!agree || (&a.tokens, a.finish) == (&b.tokens, b.finish));
        }
    }
}
