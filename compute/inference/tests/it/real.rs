//! A real model: what it says, how it is checked, and its embeddings.

use std::sync::Arc;

use openledger_inference::{
    BackendKind, Engine, EngineOptions, Request, Sampling, Tolerance, Verification,
};
use openledger_models::{Message, SpecialTokens};

use crate::support::{Answer, BACKENDS, adapter, alone, blob, real_model};

fn engine(backend: BackendKind) -> Engine {
    let options = EngineOptions { backend, ..EngineOptions::default() };
    let mut engine = Engine::new(real_model(), options).unwrap();
    for id in 1..=2 {
        let adapter = adapter(engine.model().config(), u64::from(id), 8);
        engine.put_adapter(blob(id), adapter).unwrap();
    }
    engine
}

fn prompt(engine: &Engine, question: &str) -> Vec<u32> {
    let message = Message::new("user", question);
    let model = Arc::clone(engine.model());
    let text = model.chat_template().render(&[message], true).unwrap();
    model.tokenizer().encode(&text, SpecialTokens::Parse)
}

fn request(engine: &Engine, sampling: Sampling, adapters: &[u8]) -> Request {
    let prompt = prompt(engine, "Name three animals that live in the sea.");
    let mut request = Request::greedy(prompt, 14);
    request.sampling = sampling;
    request.adapters = adapters.iter().map(|id| (blob(*id), 1.0)).collect();
    request
}

fn verify(engine: &mut Engine, request: &Request, claimed: &[u32]) -> Verification {
    engine.verify(request, claimed, Tolerance::REFERENCE).unwrap()
}

#[test]
fn it_knows_the_capital_of_france() {
    for backend in BACKENDS {
        let mut engine = engine(backend);
        let tokenizer_of = Arc::clone(engine.model());
        let prompt =
            tokenizer_of.tokenizer().encode("The capital of France is", SpecialTokens::AsText);
        let found = alone(&mut engine, &Request::greedy(prompt, 4));
        assert!(found.text.starts_with(" Paris"), "{}", found.text);
        // What llama.cpp draws greedily from the same file.
        assert_eq!(found.tokens[..2], [7042, 30]);
    }
}

#[test]
fn seeds_repeat_and_differ() {
    for backend in BACKENDS {
        let mut engine = engine(backend);
        let mut answer = |sampling| {
            let request = request(&engine, sampling, &[]);
            alone(&mut engine, &request)
        };
        let seeded = |seed| Sampling::seeded(0.9, [seed; 32]);
        let first = answer(seeded(1));
        assert_eq!(answer(seeded(1)), first);
        assert_ne!(answer(seeded(2)).tokens, first.tokens);
        let cold = answer(Sampling { temperature: 0.0, ..seeded(1) });
        assert_eq!(cold, answer(Sampling::greedy()));
        let coldest = answer(Sampling { top_k: 1, ..seeded(3) });
        assert_eq!(coldest.tokens, cold.tokens);
    }
}

/// Honest answers of many kinds, with their requests.
fn honest(engine: &mut Engine) -> Vec<(Request, Answer)> {
    let seeded = |seed| Sampling::seeded(0.8, [seed; 32]);
    let kinds = [
        (Sampling::greedy(), &[][..]),
        (Sampling::greedy(), &[1]),
        (seeded(1), &[]),
        (seeded(2), &[1]),
        (Sampling { top_p: 0.9, top_k: 40, ..seeded(3) }, &[1, 2]),
        (Sampling { presence_penalty: 0.5, frequency_penalty: 0.3, ..seeded(4) }, &[]),
    ];
    kinds
        .into_iter()
        .map(|(sampling, adapters)| {
            let request = request(engine, sampling, adapters);
            let answer = alone(engine, &request);
            (request, answer)
        })
        .collect()
}

#[test]
fn honest_answers_are_accepted_and_every_kind_of_cheating_is_not() {
    for backend in BACKENDS {
        let mut engine = engine(backend);
        for (request, answer) in honest(&mut engine) {
            let note = format!("{:?} {:?}", request.sampling, request.adapters);
            let claimed = &answer.tokens;
            let found = verify(&mut engine, &request, claimed);
            assert!(found.accepted && found.first_mismatch.is_none(), "{note}: {found:?}");
            assert!(found.worst_margin >= 0.0, "{note}: {found:?}");
            // One token changed.
            for at in [0, claimed.len() / 2, claimed.len() - 1] {
                let mut changed = claimed.clone();
                changed[at] = if changed[at] == 451 { 452 } else { 451 };
                let found = verify(&mut engine, &request, &changed);
                assert!(!found.accepted && found.first_mismatch.is_some(), "{note}: {found:?}");
                assert!(found.first_mismatch <= Some(at + 1), "{note}: {found:?}");
            }
            // Cut off, drawn out, empty.
            let found = verify(&mut engine, &request, &claimed[..claimed.len() - 1]);
            assert_eq!(found.first_mismatch, Some(claimed.len() - 1), "{note}");
            let longer = [claimed.as_slice(), &[451]].concat();
            let found = verify(&mut engine, &request, &longer);
            assert_eq!(found.first_mismatch, Some(claimed.len()), "{note}");
            assert_eq!(verify(&mut engine, &request, &[]).first_mismatch, Some(0), "{note}");
            let unknown = [&claimed[..2], &[u32::MAX]].concat();
            assert_eq!(verify(&mut engine, &request, &unknown).first_mismatch, Some(2), "{note}");
            // The adapter left out, another one, or one too many.
            let mut other = request.clone();
            other.adapters = match request.adapters.as_slice() {
                [] => vec![(blob(1), 1.0)],
                [_] => Vec::new(),
                _ => vec![(blob(2), 1.0)],
            };
            let cheat = alone(&mut engine, &other);
            let found = verify(&mut engine, &request, &cheat.tokens);
            assert!(!found.accepted, "{note}: {found:?}");
            other.adapters = vec![(blob(2), 1.0)];
            let cheat = alone(&mut engine, &other);
            assert!(!verify(&mut engine, &request, &cheat.tokens).accepted, "{note}");
        }
    }
}

#[test]
fn text_from_elsewhere_and_other_seeds_are_rejected() {
    for backend in BACKENDS {
        let mut engine = engine(backend);
        let tokenizer_of = Arc::clone(engine.model());
        let text =
            "Three animals that live in the sea are the whale, the octopus and the seahorse.";
        let mut written = tokenizer_of.tokenizer().encode(text, SpecialTokens::AsText);
        written.extend(tokenizer_of.tokenizer().eos());
        for sampling in [Sampling::greedy(), Sampling::seeded(1.0, [5; 32])] {
            let request = request(&engine, sampling, &[]);
            let found = verify(&mut engine, &request, &written);
            assert!(!found.accepted, "another writer's text: {found:?}");
        }
        let request = request(&engine, Sampling::seeded(1.0, [6; 32]), &[]);
        let answer = alone(&mut engine, &request);
        let mut reseeded = request;
        reseeded.sampling.seed = [7; 32];
        assert!(!verify(&mut engine, &reseeded, &answer.tokens).accepted);
        let error = engine.verify(
            &reseeded,
            &answer.tokens,
            Tolerance { logit: f32::NAN, ..Tolerance::REFERENCE },
        );
        assert!(error.unwrap_err().to_string().contains("tolerance NaN"));
    }
}

#[test]
fn embeddings_have_length_one_and_bring_like_texts_together() {
    for backend in BACKENDS {
        let mut engine = engine(backend);
        let tokenizer_of = Arc::clone(engine.model());
        let mut embed = |text: &str| {
            let tokens = tokenizer_of.tokenizer().encode(text, SpecialTokens::AsText);
            engine.embed(&tokens, &[]).unwrap()
        };
        let vectors = [
            "The cat sleeps on the warm sofa.",
            "A kitten is napping on the couch.",
            "Interest rates rose after the central bank's meeting.",
            "The bank raised its rates again this month.",
        ]
        .map(&mut embed);
        for vector in &vectors {
            let length: f64 = vector.iter().map(|x| f64::from(*x).powi(2)).sum();
            assert_eq!(vector.len(), 576);
            assert!((length - 1.0).abs() < 1e-5);
        }
        let likeness = |a: usize, b: usize| -> f64 {
            vectors[a].iter().zip(&vectors[b]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let (cats, banks) = (likeness(0, 1), likeness(2, 3));
        for (a, b) in [(0, 2), (0, 3), (1, 2), (1, 3)] {
            assert!(likeness(a, b) < cats.min(banks), "{} {cats} {banks}", likeness(a, b));
        }
        let adapted = engine.embed(&[1, 2, 3], &[(blob(1), 1.0)]).unwrap();
        assert_ne!(adapted, engine.embed(&[1, 2, 3], &[]).unwrap());
    }
}
