//! Many adapters over one base, at the same time.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use openledger_inference::{
    AdapterSetError, AdapterStoreError, Engine, EngineOptions, PreparedAdapter, Request,
    SubmitError,
};
use openledger_models::Model;

use crate::support::{adapter, alone, blob, finish, real_model, together, watched};
use crate::tiny;

fn with(adapters: &[(u8, f32)]) -> Request {
    let adapters = adapters.iter().map(|(id, weight)| (blob(*id), *weight)).collect();
    let mut request = Request::greedy(tiny::bytes("Tell me a story"), 12);
    request.adapters = adapters;
    request.logprobs = Some(3);
    request.ignore_end = true;
    request
}

fn engine(model: &Arc<Model>) -> Engine {
    let mut engine = Engine::new(Arc::clone(model), EngineOptions::default()).unwrap();
    load(&mut engine);
    engine
}

fn load(engine: &mut Engine) {
    for id in 1..=4 {
        let adapter = adapter(engine.model().config(), u64::from(id), 4 * usize::from(id));
        engine.put_adapter(blob(id), adapter).unwrap();
    }
}

/// Four adapters and the base in one step, each as alone and each different.
fn four_at_once(model: &Arc<Model>, mut requests: Vec<Request>) {
    for (request, id) in requests.iter_mut().zip(1..=4) {
        request.adapters = vec![(blob(id), 1.0)];
    }
    let (mut engine, watch) = watched(model, EngineOptions::default());
    load(&mut engine);
    let found = together(&mut engine, &requests);
    assert_eq!(watch.adapters.load(Ordering::Relaxed), 4, "in one step");
    let mut single = engine;
    for (request, found) in requests.iter().zip(&found) {
        assert_eq!(&alone(&mut single, request), found);
    }
    for (index, answer) in found.iter().enumerate() {
        assert!(found.iter().skip(index + 1).all(|other| other.tokens != answer.tokens));
    }
    let mut bare = Engine::new(Arc::clone(model), EngineOptions::default()).unwrap();
    assert_eq!(&alone(&mut bare, &requests[4]), &found[4], "the bare base in their company");
}

#[test]
fn four_adapters_in_one_step_give_what_each_gives_alone() {
    four_at_once(&tiny::model(), vec![with(&[]); 5]);
}

#[test]
fn four_adapters_in_one_step_of_a_real_model() {
    let model = real_model();
    let special = openledger_models::SpecialTokens::AsText;
    let prompt = model.tokenizer().encode("The best way to learn a language is", special);
    let mut request = Request::greedy(prompt, 24);
    request.ignore_end = true;
    four_at_once(&model, vec![request; 5]);
}

#[test]
fn mixtures_weigh_their_adapters_whatever_their_order() {
    let mut engine = engine(&tiny::model());
    let mixed = alone(&mut engine, &with(&[(1, 0.7), (2, 0.4)]));
    assert_eq!(mixed, alone(&mut engine, &with(&[(2, 0.4), (1, 0.7)])));
    assert_ne!(mixed.bits, alone(&mut engine, &with(&[(1, 0.7)])).bits);
    assert_ne!(mixed.bits, alone(&mut engine, &with(&[(1, 0.4), (2, 0.7)])).bits);
    let base = alone(&mut engine, &with(&[]));
    assert_eq!(base.tokens, alone(&mut engine, &with(&[(1, 0.0)])).tokens, "weight 0 is absent");
    assert_ne!(base.bits, alone(&mut engine, &with(&[(1, 0.1)])).bits);
}

#[test]
fn replacing_and_dropping_leave_running_sequences_their_generation() {
    let mut engine = engine(&tiny::model());
    let expected = alone(&mut engine, &with(&[(1, 1.0)]));
    let id = engine.submit(with(&[(1, 1.0)])).unwrap();
    let mut answers = std::collections::BTreeMap::new();
    for _ in 0..4 {
        crate::support::note(&mut answers, engine.step().unwrap());
    }
    let before = engine.adapters()[0].1;
    let config = engine.model().config().clone();
    let generation = engine.put_adapter(blob(1), adapter(&config, 77, 4)).unwrap();
    assert!(generation > before);
    let newer = engine.submit(with(&[(1, 1.0)])).unwrap();
    crate::support::note(&mut answers, engine.step().unwrap());
    assert!(engine.drop_adapter(&blob(1)));
    assert!(!engine.drop_adapter(&blob(1)) && !engine.has_adapter(&blob(1)));
    while !engine.is_idle() {
        crate::support::note(&mut answers, engine.step().unwrap());
    }
    assert_eq!(answers[&id], expected);
    assert_ne!(answers[&newer].tokens, expected.tokens);
    let refused = engine.submit(with(&[(1, 1.0)])).unwrap_err();
    assert_eq!(refused, SubmitError::Adapters(AdapterSetError::Unknown { id: blob(1) }));
    assert!(refused.to_string().contains("is not loaded; fetch it"), "{refused}");
}

#[test]
fn room_is_made_from_what_is_unused_longest_and_never_from_what_runs() {
    let model = tiny::model();
    let one = adapter(model.config(), 1, 4);
    let storage = engine(&model).adapter_storage();
    let bytes = PreparedAdapter::new(model.config(), one.clone(), storage).unwrap().bytes();
    let options = EngineOptions { adapters_bytes_max: 3 * bytes, ..EngineOptions::default() };
    let mut engine = Engine::new(Arc::clone(&model), options).unwrap();
    let held = |engine: &Engine| engine.adapters().iter().map(|a| a.0.0[0]).collect::<Vec<_>>();
    for id in 1..=3 {
        engine.put_adapter(blob(id), one.clone()).unwrap();
    }
    alone(&mut engine, &with(&[(1, 1.0)]));
    engine.put_adapter(blob(4), one.clone()).unwrap();
    assert_eq!(held(&engine), [1, 3, 4], "2 was unused longest");
    for id in [1, 3, 4] {
        engine.submit(with(&[(id, 1.0)])).unwrap();
    }
    let error = engine.put_adapter(blob(5), one.clone()).unwrap_err();
    assert!(matches!(error, AdapterStoreError::Full { .. }), "{error}");
    assert!(engine.drop_adapter(&blob(3)));
    assert!(engine.put_adapter(blob(5), one.clone()).is_err(), "dropped, but still used");
    finish(&mut engine);
    engine.put_adapter(blob(5), one.clone()).unwrap();
    assert_eq!(held(&engine), [1, 4, 5]);
    let large = adapter(model.config(), 1, 64);
    let error = engine.put_adapter(blob(6), large).unwrap_err();
    assert!(matches!(error, AdapterStoreError::TooLarge { .. }), "{error}");
    assert_eq!(held(&engine), [1, 4, 5], "a refusal puts nothing out");
}

#[test]
fn adapters_of_another_model_and_senseless_mixtures_are_refused() {
    let mut engine = engine(&tiny::model());
    let mut wrong = adapter(engine.model().config(), 1, 4);
    wrong.deltas.values_mut().for_each(|delta| delta.a.truncate(4));
    let error = engine.put_adapter(blob(9), wrong).unwrap_err().to_string();
    assert!(error.contains("does not fit this model"), "{error}");
    for (adapters, says) in [
        (vec![(1, 1.0), (1, 0.5)], "named twice"),
        (vec![(1, f32::NAN)], "weight NaN"),
        (vec![(1, 1e6)], "weight 1000000"),
        ((0..9).map(|id| (id, 1.0)).collect(), "9 adapters"),
    ] {
        let error = engine.submit(with(&adapters)).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
