//! Answers with fingerprints of how they were computed, on the real model.

use openledger_inference::{
    BackendKind, Claim, ClaimCheck, Engine, EngineOptions, Event, Fingerprint, Request, Sampling,
    Tolerance, of_class,
};
use openledger_models::SpecialTokens;

use crate::support::{adapter, blob, real_model};

const INT12: &str = "cpu-int12-1";
const NARROW: &str = "cpu-int12-1/kv-q8";
const FASTEST: &str = "cpu-int12-2";
const REFERENCE: &str = "cpu-reference-1";

/// An engine of a class with one adapter.
fn engine(class: &str) -> Engine {
    let (backend, kv, adapters) = of_class(class).unwrap();
    let options = EngineOptions { backend, kv, adapters, ..EngineOptions::default() };
    let mut engine = Engine::new(real_model(), options).unwrap();
    let one = adapter(engine.model().config(), 1, 8);
    engine.put_adapter(blob(1), one).unwrap();
    engine
}

fn request(weight: f32) -> Request {
    let text = "The harbour was quiet that morning, and the first boat to come in";
    let prompt = real_model().tokenizer().encode(text, SpecialTokens::AsText);
    let mut request = Request::greedy(prompt, 40);
    request.sampling = Sampling::seeded(0.8, [3; 32]);
    request.ignore_end = true;
    request.adapters = if weight == 0.0 { Vec::new() } else { vec![(blob(1), weight)] };
    request
}

/// What an engine writes after a beginning, with its fingerprint.
fn write(engine: &mut Engine, request: &Request, beginning: &[u32]) -> (Vec<u32>, Fingerprint) {
    engine.resume(request.clone(), beginning).unwrap();
    let (mut tokens, mut found) = (beginning.to_vec(), None);
    while !engine.is_idle() {
        for event in engine.step().unwrap() {
            match event {
                Event::Token { token, .. } => tokens.push(token),
                Event::Finished { fingerprint, .. } => found = Some(fingerprint),
                Event::Failed { error, .. } => panic!("{error}"),
            }
        }
    }
    (tokens, found.unwrap())
}

/// What an engine of class `checks` says of a claim to `request` from class `writes`.
fn check(
    request: &Request,
    tokens: &[u32],
    fingerprint: &Fingerprint,
    [writes, checks]: [&str; 2],
) -> ClaimCheck {
    let tolerance = Tolerance::between(writes, checks).unwrap();
    let claim = Claim { tokens, fingerprint };
    engine(checks).verify_claim(request, &claim, tolerance).unwrap()
}

#[test]
fn honest_answers_pass_in_their_own_class_and_in_others() {
    for writes in [INT12, NARROW, REFERENCE, FASTEST] {
        let request = request(1.0);
        let mut writer = engine(writes);
        let (tokens, fingerprint) = write(&mut writer, &request, &[]);
        assert_eq!((tokens.len(), fingerprint.tokens()), (40, 40));
        assert_eq!(writer.fingerprint_of(&request, &tokens).unwrap(), fingerprint, "{writes}");
        let bytes = fingerprint.to_bytes();
        assert_eq!(Fingerprint::from_bytes(&bytes, 40), Ok(fingerprint.clone()));
        for checks in [writes, INT12, REFERENCE] {
            let found = check(&request, &tokens, &fingerprint, [writes, checks]);
            assert!(found.accepted, "{writes} by {checks}: {found:?}");
        }
    }
}

#[test]
fn an_adapter_left_out_or_scaled_is_found_though_its_tokens_might_pass() {
    let claimed = request(1.0);
    for weight in [0.0, 0.9, 1.1] {
        let (tokens, _) = write(&mut engine(INT12), &claimed, &[]);
        // Even where the tokens are those of an honest answer.
        let computed = engine(INT12).fingerprint_of(&request(weight), &tokens).unwrap();
        for checks in [INT12, REFERENCE] {
            let found = check(&claimed, &tokens, &computed, [INT12, checks]);
            assert!(found.tokens.accepted && !found.accepted, "{weight} by {checks}: {found:?}");
            let share = found.fingerprint.unwrap().shares[0].share;
            // Far from 1 a strong adapter's effect is no straight line any more.
            let near = if weight == 0.0 { 0.25 } else { 0.05 };
            assert!((share - f64::from(weight)).abs() < near, "{share} of {weight}");
        }
    }
}

#[test]
fn a_resumed_answer_is_vouched_for_from_where_it_was_resumed() {
    let request = request(1.0);
    let (whole, fingerprint) = write(&mut engine(INT12), &request, &[]);
    let (tokens, rest) = write(&mut engine(INT12), &request, &whole[..15]);
    assert_eq!((&tokens, rest.tokens()), (&whole, 25));
    assert!(check(&request, &tokens, &rest, [INT12, INT12]).accepted);
    // More tokens than the answer has, and those of another place.
    let short = check(&request, &whole[..30], &fingerprint, [INT12, INT12]);
    assert!(!short.accepted && short.fingerprint.is_none());
    let bytes = fingerprint.to_bytes();
    let first = Fingerprint::from_bytes(&bytes[..Fingerprint::bytes_of(32)], 32).unwrap();
    assert!(!check(&request, &whole, &first, [INT12, INT12]).accepted);
}

#[test]
fn who_rounds_keys_and_values_judges_its_own_class_alone() {
    assert_eq!(Tolerance::between(NARROW, NARROW), Some(Tolerance::REFERENCE));
    assert_eq!(Tolerance::between(INT12, NARROW), None);
    assert_eq!(Tolerance::between(NARROW, INT12), Some(Tolerance::NARROW_KV));
    assert_eq!(Tolerance::between(REFERENCE, INT12), Some(Tolerance::ROUNDED));
    assert_eq!(Tolerance::between("gpu-1", INT12), None);
    assert_eq!(Tolerance::between("wgpu-1", "wgpu-1"), Some(Tolerance::ROUNDED));
    assert_eq!(of_class(INT12).unwrap().0, BackendKind::Int12Whole);
    assert_eq!(of_class(FASTEST).unwrap().0, BackendKind::Int12);
    assert_eq!(Tolerance::between(FASTEST, FASTEST), Some(Tolerance::REFERENCE));
    assert_eq!(Tolerance::between(FASTEST, REFERENCE), Some(Tolerance::NARROW_KV));
    assert_eq!(Tolerance::between(REFERENCE, FASTEST), None);
}
