//! Beginnings that were run before are found, change no bit, and never serve other adapters.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use openledger_inference::{Engine, EngineOptions, FinishReason, Request, Sampling};
use openledger_models::Model;

use crate::support::{Answer, adapter, alone, blob, finish, note, real_model, together, watched};
use crate::tiny;

fn options() -> EngineOptions {
    EngineOptions { threads: 1, page_tokens: 4, pages_max: 256, ..EngineOptions::default() }
}

fn load(engine: &mut Engine) {
    for number in 1..3 {
        let adapter = adapter(engine.model().config(), u64::from(number), 4);
        engine.put_adapter(blob(number), adapter).unwrap();
    }
}

/// Requests that begin alike in places, with adapters and without, greedy and drawn.
fn requests(vocab: u32) -> Vec<Request> {
    let request = |number: u32| {
        let shared = (0..[40, 17, 0, 40][number as usize % 4]).map(|i| (i * 37 + 5) % vocab);
        let own = (0..3 + number % 5).map(|i| (i * 11 + number * 13) % vocab);
        let mut request = Request::greedy(shared.chain(own).collect(), 10);
        if number % 3 == 1 {
            request.sampling = Sampling::seeded(0.9, [number as u8; 32]);
            request.sampling.repetition_penalty = 1.2;
        }
        match number % 4 {
            1 => request.adapters = vec![(blob(1), 1.0)],
            2 => request.adapters = vec![(blob(2), 0.5), (blob(1), -0.25)],
            _ => (),
        }
        request.logprobs = Some(20);
        request.ignore_end = true;
        request
    };
    (0..12).map(request).collect()
}

fn same_with_and_without(model: &Arc<Model>, vocab: u32, options: EngineOptions) {
    let requests = requests(vocab);
    let bare = EngineOptions { prefix_cache: false, ..options };
    let mut without = Engine::new(Arc::clone(model), bare).unwrap();
    load(&mut without);
    let expected: Vec<Answer> = requests.iter().map(|asked| alone(&mut without, asked)).collect();
    assert!(expected.iter().all(|answer| answer.cached_tokens.0 == 0));
    assert_eq!(without.figures().tokens_reused, 0);
    let mut with = Engine::new(Arc::clone(model), options).unwrap();
    load(&mut with);
    // One after another, all at once, and all once more when everything has been run before.
    let one_by_one: Vec<Answer> = requests.iter().map(|asked| alone(&mut with, asked)).collect();
    assert_eq!(one_by_one, expected);
    let found: usize = one_by_one.iter().map(|answer| answer.cached_tokens.0).sum();
    assert!(found > 0 && with.figures().tokens_reused == found as u64);
    let again = together(&mut with, &requests);
    assert_eq!(again, expected);
    for (answer, asked) in again.iter().zip(&requests) {
        let whole = (asked.prompt.len() - 1) / options.page_tokens * options.page_tokens;
        assert_eq!(answer.cached_tokens.0, whole, "all whole pages but the last token's");
    }
}

#[test]
fn answers_are_the_same_with_and_without() {
    same_with_and_without(&tiny::model(), tiny::VOCAB as u32, options());
}

#[test]
fn answers_of_a_real_model_are_the_same_with_and_without() {
    let options = EngineOptions { threads: 2, chunk_tokens_max: 9, ..options() };
    same_with_and_without(&real_model(), 49_152, options);
}

#[test]
fn other_adapters_weights_and_generations_find_nothing() {
    let (mut engine, watch) = watched(&tiny::model(), options());
    load(&mut engine);
    let prompt: Vec<u32> = (0..41).collect();
    let ran = |engine: &mut Engine, adapters: &[(u8, f32)]| {
        let mut asked = Request::greedy(prompt.clone(), 1);
        asked.adapters = adapters.iter().map(|(id, weight)| (blob(*id), *weight)).collect();
        let before = watch.rows.load(Ordering::Relaxed);
        let answer = alone(engine, &asked);
        let rows = watch.rows.load(Ordering::Relaxed) - before;
        assert_eq!(rows + answer.cached_tokens.0, 41);
        rows
    };
    let sets: [&[(u8, f32)]; 6] =
        [&[], &[(1, 1.0)], &[(2, 1.0)], &[(1, 0.5)], &[(1, 0.5), (2, 0.5)], &[(1, 0.5), (2, 0.25)]];
    for set in sets {
        assert_eq!(ran(&mut engine, set), 41, "{set:?} is new");
    }
    for set in sets {
        assert_eq!(ran(&mut engine, set), 1, "{set:?} is known");
    }
    assert_eq!(ran(&mut engine, &[(2, 0.5), (1, 0.5)]), 1, "the order does not matter");
    let config = engine.model().config().clone();
    engine.put_adapter(blob(1), adapter(&config, 77, 4)).unwrap();
    assert_eq!(ran(&mut engine, &[(1, 1.0)]), 41, "another generation");
    assert_eq!(ran(&mut engine, &[]), 1);
}

#[test]
fn an_answer_is_found_by_the_next_turn_of_its_conversation() {
    let mut engine = Engine::new(tiny::model(), options()).unwrap();
    let mut asked = Request::greedy(tiny::bytes("How far is the moon?"), 14);
    asked.ignore_end = true;
    let first = alone(&mut engine, &asked);
    asked.prompt.extend(&first.tokens);
    asked.prompt.extend(tiny::bytes(" And the sun?"));
    let second = alone(&mut engine, &asked);
    // The last token that was drawn was never run.
    assert_eq!(second.cached_tokens.0, (20 + 14 - 1) / 4 * 4);
}

#[test]
fn a_cancelled_requests_pages_are_free_at_once_and_still_found() {
    let mut engine = Engine::new(tiny::model(), options()).unwrap();
    let mut asked = Request::greedy((0..50).collect(), 30);
    asked.ignore_end = true;
    let (one, two) = (engine.submit(asked.clone()).unwrap(), engine.submit(asked.clone()).unwrap());
    let mut answers = std::collections::BTreeMap::new();
    for _ in 0..5 {
        note(&mut answers, engine.step().unwrap());
    }
    let free = engine.pages_free();
    assert!(engine.cancel(one));
    assert!(engine.pages_free() > free, "its own pages");
    assert!(engine.pages_free() < 256 - 12, "but not those that the other shares");
    assert!(engine.cancel(two));
    assert_eq!(engine.pages_free(), 256);
    let after = alone(&mut engine, &asked);
    assert_eq!(after.cached_tokens.0, 48);
    note(&mut answers, engine.step().unwrap());
    assert_eq!(answers.len(), 2);
}

#[test]
fn what_a_failing_device_lost_is_not_found() {
    let (mut engine, fails) = crate::echo::engine(options());
    let mut asked = Request::greedy((0..50).collect(), 12);
    asked.ignore_end = true;
    let expected = alone(&mut engine, &asked);
    assert_eq!(
        expected.tokens,
        crate::echo::answer(&asked.prompt, 12, crate::echo::tag([].into_iter()))
    );
    let (one, two) = (engine.submit(asked.clone()).unwrap(), engine.submit(asked.clone()).unwrap());
    engine.step().unwrap();
    fails.store(true, Ordering::Relaxed);
    assert!(engine.step().is_err());
    assert_eq!(engine.figures().pages_findable, 0);
    let answers = finish(&mut engine);
    for id in [one, two] {
        // The first token came in the step before the failure.
        assert_eq!(answers[&id].tokens, expected.tokens[1..]);
        assert_eq!(answers[&id].end.unwrap().0, FinishReason::Length);
    }
}

#[test]
fn a_preempted_sequence_finds_its_own_pages_again() {
    let options = EngineOptions { pages_max: 24, sequences_max: 3, ..options() };
    let (mut engine, _) = crate::echo::engine(options);
    let mut asked = Request::greedy((0..40).collect(), 8);
    asked.ignore_end = true;
    let id = engine.submit(asked.clone()).unwrap();
    for _ in 0..3 {
        engine.step().unwrap();
    }
    let before = engine.figures();
    // 14 pages are needed for this, 13 are free: the sequence gives way, and loses its last page.
    engine.logits_of(&[9; 53], &[]).unwrap();
    assert_eq!(engine.figures().preempted, 1);
    let answer = finish(&mut engine).remove(&id).unwrap();
    let ran = engine.figures().tokens_run - before.tokens_run;
    assert!(ran <= 5 + 2 * 4, "{ran} tokens, most were found");
    assert_eq!(answer.cached_tokens.0, 0, "its own work is not called found");
}
