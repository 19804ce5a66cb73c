//! Answers of classes that are not the same bits everywhere, and what checks of them find.
//!
//! A model is played by random numbers here: sketches of 4 numbers a token, to which noise, the
//! effect of an adapter or another model's numbers are added.

use openledger_rules::fingerprint::Fingerprint;
use openledger_rules::infer::{Relation, SLACK_MICRO_MAX};
use openledger_rules::{InferRules, Tolerance};
use openledger_wire::proof::{InferCheck, InferEvidence, InferFinish, InferOutput};
use openledger_wire::task::InferTask;
use openledger_wire::{Blob, BlobId, List, Text};
use proptest::prelude::*;

/// A repeatable number from -1 to 1.
fn random(salt: u64, at: u64) -> f64 {
    let mixed = (salt << 32 ^ at ^ 0x5DEE_CE66).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

fn numbers(tokens: usize, salt: u64, size: f64) -> Vec<f64> {
    (0..tokens as u64 * 4).map(|at| random(salt, at) * size).collect()
}

fn plus(a: &[f64], b: &[f64], weight: f64) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b * weight).collect()
}

/// As the engine writes them.
fn bytes(numbers: &[f64]) -> Vec<u8> {
    let chunk = |chunk: &[f64]| {
        let largest = chunk.iter().fold(0.0f64, |top, value| top.max(value.abs())) as f32;
        let scale = largest / 32_767.0;
        let code =
            |value: &f64| if scale > 0.0 { (*value as f32 / scale).round() as i16 } else { 0 };
        let codes = chunk.iter().flat_map(move |value| code(value).to_le_bytes());
        scale.to_le_bytes().into_iter().chain(codes).collect::<Vec<u8>>()
    };
    numbers.chunks(128).flat_map(chunk).collect()
}

fn read(numbers: &[f64]) -> Fingerprint {
    Fingerprint::read(&bytes(numbers), numbers.len() / 4).unwrap()
}

const TOKENS: usize = 100;
/// What honest classes were measured to lie apart, as a share.
const NOISE: f64 = 0.0025;

/// What the model computes, and what its adapter adds to it.
fn model() -> (Vec<f64>, Vec<f64>) {
    (numbers(TOKENS, 1, 1.0), numbers(TOKENS, 2, 0.1))
}

fn task() -> InferTask {
    InferTask {
        model: BlobId([1; 32]),
        adapters: List::new([(BlobId([2; 32]), 1_000)]).unwrap(),
        prompt: BlobId([3; 32]),
        tokens_max: TOKENS as u32,
        seed: [4; 32],
        temperature_permille: 700,
    }
}

fn output(backend: &str, numbers: &[f64], check: Option<InferCheck>) -> InferOutput {
    let fingerprint = Blob::new(bytes(numbers)).unwrap();
    let tokens: Vec<u32> = (0..numbers.len() as u32 / 4).collect();
    InferOutput {
        logprobs_micro: List::new(vec![-500_000; tokens.len()]).unwrap(),
        tokens: List::new(tokens).unwrap(),
        finish: InferFinish::Length,
        fingerprint: BlobId::of(&fingerprint),
        backend: Text::clipped(backend),
        evidence: Some(InferEvidence { fingerprint, check }),
    }
}

/// A graphics processor's answer: the model with so much of its adapter, and noise.
fn answer(share: f64, noise: f64, salt: u64) -> InferOutput {
    let (base, effect) = model();
    let noise = numbers(TOKENS, 100 + salt, noise);
    output("wgpu-1", &plus(&plus(&base, &effect, share), &noise, 1.0), None)
}

/// An honest auditor's check of it.
fn check(slacks: &[(usize, u32)]) -> InferOutput {
    let (base, effect) = model();
    let mut slacks_micro = vec![0; TOKENS];
    for (at, slack) in slacks {
        slacks_micro[*at] = *slack;
    }
    let found = InferCheck {
        slacks_micro: List::new(slacks_micro).unwrap(),
        effect: Blob::new(bytes(&effect)).unwrap(),
    };
    output("cpu-int12-1", &plus(&base, &effect, 1.0), Some(found))
}

#[test]
fn honest_answers_agree_with_their_checks_in_another_class() {
    let rules = InferRules::v3();
    for salt in 0..200 {
        let answer = answer(1.0, NOISE, salt);
        assert!(rules.is_sound(&task(), &answer));
        // A draw that fell on the edge between two tokens.
        let check = check(&[(7, 20_000), (60, 3_000)]);
        assert!(rules.is_sound(&task(), &check));
        assert_eq!(rules.relation(&answer, &check), Relation::Agree, "{salt}");
        assert_eq!(rules.relation(&check, &answer), Relation::Agree, "{salt}");
    }
}

#[test]
fn an_adapter_left_out_or_scaled_does_not_pass() {
    let rules = InferRules::v3();
    for salt in 0..200 {
        for share in [0.0, 0.5, 0.9, 1.1, 1.5] {
            let answer = answer(share, NOISE, salt);
            let relation = rules.relation(&answer, &check(&[]));
            let grey = (share - 1.0).abs() < 0.2;
            let wanted = if grey { Relation::NearTie } else { Relation::Differ };
            assert!(relation == wanted || relation == Relation::Differ, "{share}: {relation:?}");
        }
    }
}

/// The left-out part is below the noise of every chunk, and shows in all of them together.
#[test]
fn a_weak_adapter_shows_below_the_noise_of_its_chunks() {
    let (base, effect) = (numbers(1_000, 1, 1.0), numbers(1_000, 2, 0.004));
    let with = plus(&base, &effect, 1.0);
    let mut caught = 0;
    for salt in 0..100 {
        let noise = numbers(1_000, 100 + salt, NOISE);
        let (honest, without) = (plus(&with, &noise, 1.0), plus(&base, &noise, 1.0));
        let (own, effect) = (read(&with), read(&effect));
        let is_whole = |claimed: &[f64]| {
            let claimed = read(claimed);
            let near = Tolerance::ROUNDED.distance_micro;
            assert!(own.is_near(&claimed, 1_000, near), "chunk by chunk nothing shows");
            own.is_whole(&claimed, &effect, 1_000, Tolerance::ROUNDED.effect_micro)
        };
        assert!(is_whole(&honest), "{salt}");
        caught += usize::from(!is_whole(&without));
    }
    assert!(caught >= 99, "{caught}");
}

#[test]
fn another_model_or_text_differs() {
    let rules = InferRules::v3();
    let (base, effect) = model();
    let honest = plus(&base, &effect, 1.0);
    // Another model in one chunk, or one token's state of another.
    let mut other = honest.clone();
    other[40 * 4..72 * 4].copy_from_slice(&numbers(32, 9, 1.0));
    assert_eq!(rules.relation(&output("wgpu-1", &other, None), &check(&[])), Relation::Differ);
    let mut edited = honest.clone();
    edited[40 * 4..41 * 4].copy_from_slice(&numbers(1, 9, 1.0));
    assert_eq!(rules.relation(&output("wgpu-1", &edited, None), &check(&[])), Relation::Differ);
    // Everything was computed by the right model, but it would not have written this token.
    let forged = answer(1.0, NOISE, 1);
    assert_eq!(rules.relation(&forged, &check(&[(50, 2_000_000)])), Relation::Differ);
    assert_eq!(rules.relation(&forged, &check(&[(50, 200_000)])), Relation::NearTie);
    // Other tokens than those that were checked, an early end, other log-probabilities.
    let honest = answer(1.0, NOISE, 1);
    let tokens = List::new((1..=TOKENS as u32).collect::<Vec<_>>()).unwrap();
    let other = InferOutput { tokens, ..honest.clone() };
    assert_eq!(rules.relation(&other, &check(&[])), Relation::Differ);
    let other = InferOutput { finish: InferFinish::End, ..honest.clone() };
    assert_eq!(rules.relation(&other, &check(&[])), Relation::Differ);
    let logprobs_micro = List::new(vec![-1_200_001; TOKENS]).unwrap();
    let other = InferOutput { logprobs_micro, ..honest };
    assert_eq!(rules.relation(&other, &check(&[])), Relation::Differ);
}

#[test]
fn checks_agree_among_themselves_on_what_is_wrong() {
    let rules = InferRules::v3();
    let of = |slack| check(&[(50, slack)]);
    assert_eq!(rules.relation(&of(2_000_000), &of(2_000_000)), Relation::Agree);
    assert_eq!(rules.relation(&of(2_000_000), &of(0)), Relation::Differ);
}

#[test]
fn classes_are_compared_only_as_the_rules_say() {
    let rules = InferRules::v3();
    let honest = answer(1.0, 0.0, 1);
    let check = check(&[]);
    let in_class = |output: &InferOutput, class| InferOutput {
        backend: Text::clipped(class),
        ..output.clone()
    };
    for (a, b) in [
        ("onnx-1", "cpu-int12-2"),
        ("wgpu-1", "cpu-reference-1"),
        ("wgpu-1", "onnx-1"),
        ("cpu-int12-2", "cpu-int12-1"),
        ("wgpu-1/kv-q8", "cpu-int12-1"),
    ] {
        let relation = rules.relation(&in_class(&honest, a), &in_class(&check, b));
        assert_eq!(relation, Relation::Differ, "{a} by {b}");
    }
    assert_eq!(rules.relation(&in_class(&honest, "onnx-1"), &check), Relation::Agree);
    // Where bits are the same everywhere, rounding is no excuse.
    let redone = in_class(&honest, "cpu-int12-1");
    let off = in_class(&answer(1.0, NOISE, 1), "cpu-int12-1");
    assert_eq!(rules.relation(&redone, &redone), Relation::Agree);
    assert_eq!(rules.relation(&redone, &off), Relation::Differ);
}

#[test]
fn evidence_must_be_whole() {
    let rules = InferRules::v3();
    let honest = answer(1.0, NOISE, 1);
    let sound = |output: &InferOutput| rules.is_sound(&task(), output);
    let with = |numbers: &[f64]| output_with(&honest, bytes(numbers));
    assert!(sound(&honest));
    assert!(!sound(&InferOutput { evidence: None, ..honest.clone() }));
    assert!(!sound(&InferOutput { fingerprint: BlobId::ZERO, ..honest.clone() }));
    assert!(!sound(&with(&numbers(TOKENS, 1, 0.0))), "all zero");
    let mut blank = numbers(TOKENS, 1, 1.0);
    blank[..128].fill(0.0);
    assert!(!sound(&with(&blank)), "a chunk of zeros");
    assert!(!sound(&with(&numbers(TOKENS - 1, 1, 1.0))), "of fewer tokens");
    let mut nan = bytes(&numbers(TOKENS, 1, 1.0));
    nan[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(!sound(&output_with(&honest, nan)));
    // Cut off: it is shorter than asked for, and says that this was the limit.
    let longer = InferTask { tokens_max: TOKENS as u32 + 1, ..task() };
    assert!(!rules.is_sound(&longer, &honest));
    let ended = InferOutput { finish: InferFinish::End, ..honest.clone() };
    assert!(rules.is_sound(&longer, &ended));
    // Older sets know nothing of it.
    let older = InferOutput { backend: Text::clipped("cpu-int12-1"), ..honest.clone() };
    assert!(!InferRules::v2().is_sound(&task(), &older));
    let plain = InferOutput { evidence: None, fingerprint: BlobId::ZERO, ..older };
    assert!(InferRules::v2().is_sound(&task(), &plain) && !sound(&plain));
}

fn output_with(output: &InferOutput, bytes: Vec<u8>) -> InferOutput {
    let fingerprint = Blob::new(bytes).unwrap();
    let evidence = InferEvidence { fingerprint, check: None };
    let fingerprint = BlobId::of(&evidence.fingerprint);
    InferOutput { fingerprint, evidence: Some(evidence), ..output.clone() }
}

#[test]
fn checks_must_be_whole() {
    let rules = InferRules::v3();
    let of = |slacks: Vec<u32>, effect: Vec<u8>| {
        let slacks_micro = List::new(slacks).unwrap();
        let found = InferCheck { slacks_micro, effect: Blob::new(effect).unwrap() };
        output("cpu-int12-1", &model().0, Some(found))
    };
    let effect = bytes(&model().1);
    let sound = |output: &InferOutput| rules.is_sound(&task(), output);
    assert!(sound(&of(vec![SLACK_MICRO_MAX; TOKENS], effect.clone())));
    assert!(!sound(&of(vec![SLACK_MICRO_MAX + 1; TOKENS], effect.clone())));
    assert!(!sound(&of(vec![0; TOKENS - 1], effect.clone())));
    assert!(!sound(&of(vec![0; TOKENS], Vec::new())), "its task names an adapter");
    let bare = InferTask { adapters: List::default(), ..task() };
    assert!(rules.is_sound(&bare, &of(vec![0; TOKENS], Vec::new())));
    assert!(!rules.is_sound(&bare, &of(vec![0; TOKENS], effect)));
}

/// A scale of any size does not lead out of 128 bits.
#[test]
fn scales_far_apart_are_compared_without_overflow() {
    let codes: Vec<u8> = (0..128u16).flat_map(|_| i16::MIN.to_le_bytes()).collect();
    let with =
        |scale: f32| [&scale.to_le_bytes()[..], &codes, &scale.to_le_bytes(), &codes].concat();
    let of = |scale| Fingerprint::read(&with(scale), 64).unwrap();
    let (huge, tiny, least) = (of(f32::MAX), of(f32::MIN_POSITIVE), of(f32::from_bits(16)));
    for (a, b) in [(&huge, &tiny), (&tiny, &huge), (&huge, &least), (&least, &tiny)] {
        assert!(!a.is_near(b, 64, 999_999));
        assert!(a.is_near(a, 64, 0) && a.is_whole(a, b, 64, 0));
        let _ = a.is_whole(b, a, 64, u32::MAX);
    }
    assert!(Fingerprint::read(&with(-1.0), 64).is_none());
    assert!(Fingerprint::read(&with(f32::INFINITY), 64).is_none());
    assert!(Fingerprint::read(&with(1.0)[1..], 64).is_none());
    assert_eq!(Fingerprint::read(&[], 0), Some(Fingerprint::default()));
}

prop_compose! {
    /// Checks and answers of two classes and few tokens that are often near each other.
    fn outputs()(
        class in prop::sample::select(vec!["wgpu-1", "onnx-1", "cpu-int12-1"]),
        tokens in 1..70usize,
        salt in 0..3u64,
        noise in prop::sample::select(vec![0.0, 0.005, 0.01, 0.02, 1.0]),
        slack in prop::sample::select(vec![None, Some(0), Some(100_000), Some(250_000)]),
        share in prop::sample::select(vec![0.0, 0.9, 1.0]),
    ) -> InferOutput {
        let (base, effect) = (numbers(tokens, 1, 1.0), numbers(tokens, 2, 0.1));
        let noise = numbers(tokens, 100 + salt, noise);
        let found = plus(&plus(&base, &effect, share), &noise, 1.0);
        let check = slack.map(|slack| InferCheck {
            slacks_micro: List::new(vec![slack; tokens]).unwrap(),
            effect: Blob::new(bytes(&effect)).unwrap(),
        });
        output(class, &found, check)
    }
}

/// Two of them with the same tokens more often than not.
fn pairs() -> impl Strategy<Value = (InferOutput, InferOutput)> {
    (outputs(), outputs(), 0..4u8).prop_map(|(a, b, apart)| {
        if apart == 0 || a.tokens.len() > b.tokens.len() {
            return (a, b);
        }
        let tokens = a.tokens.len();
        let cut = |bytes: &[u8]| {
            let whole = tokens * 8 + tokens.div_ceil(32) * 4;
            Blob::new(bytes[..whole].to_vec()).unwrap()
        };
        let evidence = b.evidence.unwrap();
        let check = evidence.check.map(|check| InferCheck {
            slacks_micro: List::new(check.slacks_micro[..tokens].to_vec()).unwrap(),
            effect: cut(&check.effect),
        });
        let fingerprint = cut(&evidence.fingerprint);
        let b = InferOutput {
            tokens: a.tokens.clone(),
            logprobs_micro: a.logprobs_micro.clone(),
            fingerprint: BlobId::of(&fingerprint),
            evidence: Some(InferEvidence { fingerprint, check }),
            ..b
        };
        (a, b)
    })
}

/// Rules with bounds so many percent as wide.
fn widened(percent: u32) -> InferRules {
    let mut rules = InferRules::v3();
    let judged = rules.judged.take().unwrap().into_vec().into_iter().map(|mut one| {
        let of = |micro: &mut u32| *micro = *micro * percent / 100;
        let Tolerance { logprob_micro, slack_micro, distance_micro, effect_micro } =
            &mut one.tolerance;
        for micro in [logprob_micro, slack_micro, distance_micro, effect_micro] {
            of(micro);
        }
        one
    });
    rules.judged = List::new(judged.collect::<Vec<_>>()).ok();
    rules
}

fn rank(relation: Relation) -> u8 {
    match relation {
        Relation::Differ => 0,
        Relation::NearTie => 1,
        Relation::Agree => 2,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_relation_is_symmetric((a, b) in pairs()) {
        let rules = InferRules::v3();
        prop_assert_eq!(rules.relation(&a, &b), rules.relation(&b, &a));
    }

    #[test]
    fn an_output_agrees_with_itself(a in outputs()) {
        prop_assert_eq!(InferRules::v3().relation(&a, &a), Relation::Agree);
    }

    #[test]
    fn a_wider_tolerance_parts_nothing((a, b) in pairs(), percent in 10..200u32, more in 0..200u32) {
        let (narrow, wide) = (widened(percent), widened(percent + more));
        prop_assert!(rank(narrow.relation(&a, &b)) <= rank(wide.relation(&a, &b)));
    }

    #[test]
    fn arbitrary_bytes_are_no_danger(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        other in prop::collection::vec(any::<u8>(), 0..300),
        tokens in 0..40usize,
        micro in any::<u32>(),
    ) {
        let (a, b) = (Fingerprint::read(&bytes, tokens), Fingerprint::read(&other, tokens));
        if let (Some(a), Some(b)) = (a, b) {
            prop_assert_eq!(a.is_near(&b, tokens, micro), b.is_near(&a, tokens, micro));
            let _ = a.is_whole(&b, &a, tokens, micro);
        }
    }
}
