//! The fast backend: how it is loaded, and what it says of itself.

use openledger_inference::{
    BackendKind, Engine, EngineOptions, cpu_tier, cpu_tiers_failed, of_class,
};

use crate::support::real_model;
use crate::tiny;

#[test]
fn loading_tells_how_far_it_is() {
    let model = real_model();
    let total = model.file_bytes();
    let mut told = Vec::new();
    let mut progress = |done: usize, of: usize| {
        assert_eq!(of, total);
        told.push(done);
    };
    Engine::load(model, EngineOptions::default(), &mut progress).unwrap();
    assert!(told.is_sorted() && told.len() > 30, "{told:?}");
    assert_eq!((told.first(), told.last()), (Some(&0), Some(&total)));
}

#[test]
fn an_engine_names_its_backend_class_and_kernels() {
    let of = |backend| {
        let options = EngineOptions { backend, threads: 2, ..EngineOptions::default() };
        let engine = Engine::new(tiny::model(), options).unwrap();
        (engine.backend_name(), engine.options().class(), engine.device())
    };
    let (name, class, device) = of(BackendKind::Int12);
    assert_eq!((name, class), ("cpu-int12", "cpu-int12-2"));
    assert_eq!(device, format!("{}, 2 threads", cpu_tier()));
    let (name, class, _) = of(BackendKind::Int12Whole);
    assert_eq!((name, class), ("cpu-int12", "cpu-int12-1"));
    let (name, class, _) = of(BackendKind::Reference);
    assert_eq!((name, class), ("cpu-reference", "cpu-reference-1"));
    assert_eq!(cpu_tiers_failed(), Vec::<String>::new());
}

#[test]
fn a_context_of_the_models_whole_length_runs() {
    let model = tiny::model();
    let options =
        EngineOptions { page_tokens: 16, chunk_tokens_max: 40, ..EngineOptions::default() };
    let mut engine = Engine::new(model, options).unwrap();
    let tokens: Vec<u32> = (0..tiny::CONTEXT as u32).map(|i| i * 7 % 264).collect();
    let whole = engine.logits_of(&tokens, &[]).unwrap();
    assert!(whole.iter().flatten().all(|logit| logit.is_finite()));
    let again = engine.logits_of(&tokens[..100], &[]).unwrap();
    assert_eq!(whole[..100], again, "what follows changes nothing before it");
}

/// What verification by re-execution rests on: a class may be added, the bits of one may not change.
/// (Those of all products are held to theirs by the kernels' own tests.)
#[test]
fn the_bits_of_the_first_class_are_those_they_always_were() {
    let tokens: Vec<u32> = (0..40u32).map(|i| i * i * 31 % 264).collect();
    let hash_of = |class: &str| {
        let (backend, kv, adapters) = of_class(class).unwrap();
        let options = EngineOptions { backend, kv, adapters, ..EngineOptions::default() };
        assert_eq!(options.class(), class);
        let logits = Engine::new(tiny::model(), options).unwrap().logits_of(&tokens, &[]).unwrap();
        let bytes = logits.iter().flatten().flat_map(|logit| logit.to_bits().to_le_bytes());
        bytes.fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
        })
    };
    assert_eq!(hash_of("cpu-int12-1"), 0xFF12_F93D_AB37_20B7);
    assert_ne!(hash_of("cpu-int12-2"), hash_of("cpu-int12-1"));
}
