//! A sequence gets the same bits alone, in company, in chunks, after preemption, on any threads.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use openledger_inference::{
    BackendKind, Engine, EngineOptions, KvFormat, LoraFormat, Request, Sampling,
};
use openledger_models::Model;

use crate::support::{Answer, BACKENDS, adapter, alone, blob, real_model, together, watched};
use crate::tiny;

fn options(backend: BackendKind) -> EngineOptions {
    let default = EngineOptions::default();
    EngineOptions { backend, threads: 1, page_tokens: 4, pages_max: 256, ..default }
}

/// Requests of all kinds: long and short prompts, greedy and sampled, with adapters and without.
fn requests(vocab: u32) -> Vec<Request> {
    let request = |number: u32| {
        let length = [3, 40, 17, 1, 65, 22][number as usize % 6];
        let prompt = (0..length).map(|i| (i * 37 + number * 101 + 5) % vocab).collect();
        let mut request = Request::greedy(prompt, 24);
        if number % 2 == 1 {
            request.sampling = Sampling::seeded(0.9, [number as u8; 32]);
            request.sampling.top_p = 0.95;
        }
        if number % 3 == 2 {
            request.adapters = vec![(blob(1), 1.0)];
        }
        if number % 6 == 4 {
            request.adapters = vec![(blob(2), 0.5), (blob(1), -0.25)];
        }
        request.logprobs = Some(20);
        request.ignore_end = true;
        request
    };
    (0..6).map(request).collect()
}

fn engine(model: &Arc<Model>, options: EngineOptions) -> Engine {
    let mut engine = Engine::new(Arc::clone(model), options).unwrap();
    load(&mut engine);
    engine
}

fn load(engine: &mut Engine) {
    for number in 1..3 {
        let adapter = adapter(engine.model().config(), u64::from(number), 4);
        engine.put_adapter(blob(number), adapter).unwrap();
    }
}

/// Each request without company.
fn each_alone(model: &Arc<Model>, requests: &[Request], options: EngineOptions) -> Vec<Answer> {
    let mut engine = engine(model, options);
    requests.iter().map(|request| alone(&mut engine, request)).collect()
}

/// Every setting that must leave no trace.
fn settings_change_no_bit(model: &Arc<Model>, options: EngineOptions) {
    let requests = requests(tiny::VOCAB as u32);
    let expected = each_alone(model, &requests, options);
    assert!(expected.iter().all(|answer| answer.tokens.len() == 24));
    for (threads, chunk_tokens_max, sequences_max) in
        [(1, 128, 16), (2, 128, 16), (1, 1, 16), (2, 3, 4), (3, 7, 2), (1, 64, 3)]
    {
        let options = EngineOptions { threads, chunk_tokens_max, sequences_max, ..options };
        let found = together(&mut engine(model, options), &requests);
        assert_eq!(found, expected, "{options:?}");
    }
    let options = EngineOptions { page_tokens: 16, ..options };
    assert_eq!(together(&mut engine(model, options), &requests), expected, "{options:?}");
}

#[test]
fn company_chunks_and_threads_change_no_bit() {
    let model = tiny::model();
    for backend in BACKENDS {
        settings_change_no_bit(&model, options(backend));
    }
}

#[test]
fn nor_do_they_in_any_format_of_keys_values_and_adapters() {
    let model = tiny::model();
    for kv in [KvFormat::F32, KvFormat::Q8] {
        for adapters in [LoraFormat::F32, LoraFormat::F16] {
            let default = options(BackendKind::Int12);
            settings_change_no_bit(&model, EngineOptions { kv, adapters, ..default });
        }
    }
}

#[test]
fn preemption_and_recompute_change_no_bit() {
    let model = tiny::model();
    let requests = requests(tiny::VOCAB as u32);
    let all: usize = requests.iter().map(|request| request.prompt.len() + 24 - 1).sum();
    for backend in BACKENDS {
        let options = options(backend);
        let expected = each_alone(&model, &requests, options);
        // The longest request needs 23 pages; all together need 74.
        for pages_max in [23, 30, 45] {
            let (mut engine, watch) = watched(&model, EngineOptions { pages_max, ..options });
            load(&mut engine);
            assert_eq!(together(&mut engine, &requests), expected);
            let rows = watch.rows.load(Ordering::Relaxed);
            assert!(rows >= all && (rows > all || pages_max != 30), "{rows} of at least {all}");
        }
    }
}

#[test]
fn scoring_between_steps_disturbs_no_sequence() {
    let model = tiny::model();
    let requests = requests(tiny::VOCAB as u32);
    for backend in BACKENDS {
        let options = options(backend);
        let expected = each_alone(&model, &requests, options);
        let mut engine = engine(&model, EngineOptions { pages_max: 40, ..options });
        let ids: Vec<_> = requests.iter().map(|r| engine.submit(r.clone()).unwrap()).collect();
        let mut answers = std::collections::BTreeMap::new();
        let tokens: Vec<u32> = (0..100).collect();
        let scored = engine.logits_of(&tokens, &[]).unwrap();
        while !engine.is_idle() {
            crate::support::note(&mut answers, engine.step().unwrap());
            assert_eq!(engine.logits_of(&tokens, &[]).unwrap(), scored);
        }
        for (id, expected) in ids.iter().zip(expected) {
            assert_eq!(answers[id], expected);
        }
    }
}

#[test]
fn a_real_model_gives_the_same_bits_in_company_and_in_chunks() {
    let model = real_model();
    let mut requests = requests(49_152);
    for request in &mut requests {
        request.tokens_max = 6;
    }
    for backend in BACKENDS {
        let options = options(backend);
        let expected = each_alone(&model, &requests, options);
        let options = EngineOptions { threads: 2, chunk_tokens_max: 9, ..options };
        assert_eq!(together(&mut engine(&model, options), &requests), expected);
    }
}
