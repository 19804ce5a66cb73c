//! Pages come back, whatever ends a sequence.

use std::sync::Arc;

use openledger_inference::{Engine, EngineOptions, FinishReason, Request, ScoreError, SequenceId};
use openledger_models::Model;
use proptest::prelude::*;

use crate::support::{blob, finish, note};
use crate::tiny;

fn engine(model: &Arc<Model>) -> Engine {
    let options = EngineOptions {
        threads: 1,
        page_tokens: 4,
        pages_max: 24,
        sequences_max: 3,
        chunk_tokens_max: 8,
        ..EngineOptions::default()
    };
    Engine::new(Arc::clone(model), options).unwrap()
}

fn request(prompt: usize, tokens_max: usize) -> Request {
    let mut request = Request::greedy((0..prompt as u32).collect(), tokens_max);
    request.ignore_end = true;
    request
}

#[test]
fn cancelling_frees_pages_at_once_wherever_a_sequence_stands() {
    let mut engine = engine(&tiny::model());
    let ids: Vec<SequenceId> = (0..5).map(|_| engine.submit(request(20, 8)).unwrap()).collect();
    engine.step().unwrap();
    let free = engine.pages_free();
    assert!(free < 24);
    assert!(engine.cancel(ids[0]), "in its prompt");
    assert!(engine.pages_free() > free);
    assert!(engine.cancel(ids[4]), "in the queue");
    assert!(!engine.cancel(ids[0]) && !engine.cancel(SequenceId(99)));
    let answers = finish(&mut engine);
    for (index, id) in ids.iter().enumerate() {
        let (reason, usage) = answers[id].end.unwrap();
        let cancelled = index == 0 || index == 4;
        assert_eq!(reason == FinishReason::Cancelled, cancelled);
        assert_eq!(usage.prompt_tokens, 20);
        assert_eq!(usage.completion_tokens, if cancelled { 0 } else { 8 });
    }
}

#[test]
fn an_answer_that_was_begun_elsewhere_goes_on_as_it_would_have_there() {
    let mut engine = engine(&tiny::model());
    let mut asked = request(10, 12);
    asked.sampling = openledger_inference::Sampling::seeded(1.0, [4; 32]);
    asked.sampling.frequency_penalty = 0.5;
    let whole = engine.submit(asked.clone()).unwrap();
    let whole = finish(&mut engine).remove(&whole).unwrap();
    for begun in [1, 5, 11] {
        let rest = engine.resume(asked.clone(), &whole.tokens[..begun]).unwrap();
        let rest = finish(&mut engine).remove(&rest).unwrap();
        assert_eq!(rest.tokens, whole.tokens[begun..], "after {begun}");
        assert_eq!(rest.bits, whole.bits[begun..], "after {begun}");
        assert_eq!(rest.end, whole.end);
    }
    // Nothing was missing but the word that it had ended.
    let done = engine.resume(asked.clone(), &whole.tokens).unwrap();
    let done = finish(&mut engine).remove(&done).unwrap();
    assert!(done.tokens.is_empty());
    assert_eq!(done.end, whole.end);
    let error = engine.resume(asked, &[9_999]).unwrap_err().to_string();
    assert!(error.contains("token 9999"), "{error}");
    assert_eq!(engine.pages_free(), 24);
}

#[test]
fn tokens_that_cannot_be_scored_are_refused() {
    let mut engine = engine(&tiny::model());
    assert_eq!(engine.logits_of(&[], &[]), Err(ScoreError::Empty));
    let error = engine.logits_of(&[1; 97], &[]).unwrap_err().to_string();
    assert!(error.contains("97 tokens exceed the 96"), "{error}");
    let error = engine.embed(&[1, 300], &[]).unwrap_err().to_string();
    assert!(error.contains("token 300"), "{error}");
    let error = engine.embed(&[1], &[(blob(1), 1.0)]).unwrap_err().to_string();
    assert!(error.contains("is not loaded"), "{error}");
    assert_eq!(engine.logits_of(&[1; 96], &[]).unwrap().len(), 96);
    assert_eq!(engine.pages_free(), 24);
}

/// What a caller may do.
#[derive(Clone, Debug)]
enum Deed {
    Submit(usize, usize),
    Step,
    Cancel(usize),
    Score(usize),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        3 => (1usize..60, 1usize..30).prop_map(|(prompt, most)| Deed::Submit(prompt, most)),
        6 => Just(Deed::Step),
        1 => (0usize..12).prop_map(Deed::Cancel),
        1 => (1usize..96).prop_map(Deed::Score),
    ];
    proptest::collection::vec(deed, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_page_is_lost_and_every_sequence_ends(deeds in deeds()) {
        let mut engine = engine(&tiny::model());
        let mut submitted = Vec::new();
        let mut answers = std::collections::BTreeMap::new();
        for deed in deeds {
            match deed {
                Deed::Submit(prompt, most) => {
                    submitted.push((engine.submit(request(prompt, most)).unwrap(), most));
                }
                Deed::Step => note(&mut answers, engine.step().unwrap()),
                Deed::Cancel(index) => {
                    if let Some((id, _)) = submitted.get(index) {
                        engine.cancel(*id);
                    }
                }
                Deed::Score(tokens) => {
                    engine.logits_of(&vec![7; tokens], &[]).unwrap();
                }
            }
        }
        for (id, answer) in finish(&mut engine) {
            let known = answers.entry(id).or_default();
            known.tokens.extend(answer.tokens);
            known.end = answer.end;
        }
        for (id, most) in submitted {
            let answer = &answers[&id];
            let (reason, usage) = answer.end.unwrap();
            prop_assert_eq!(usage.completion_tokens, answer.tokens.len());
            prop_assert!(reason == FinishReason::Cancelled || answer.tokens.len() == most);
        }
    }
}
