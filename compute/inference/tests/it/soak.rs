//! Random arrivals, adapters, cancellations, failures and replacements, on a backend that notices any
//! page of somebody else's: nothing leaks, everything ends once, every answer is its own.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use openledger_inference::{
    CallerId, Engine, EngineOptions, FinishReason, Priority, Request, SequenceId, SubmitError,
};
use proptest::prelude::*;

use crate::echo;
use crate::support::{Answer, adapter, blob, finish, note};

#[derive(Clone, Debug)]
struct Arrival {
    caller: u8,
    adapter: u8,
    /// How much of a common text it begins with.
    common: usize,
    own: usize,
    tokens_max: usize,
    priority: u8,
    patience_ms: Option<u64>,
}

#[derive(Clone, Debug)]
enum Deed {
    Submit(Arrival),
    Steps(usize),
    Cancel(usize),
    Score(usize),
    Replace(u8),
    Fail,
}

fn arrivals() -> impl Strategy<Value = Arrival> {
    let shape = (0usize..40, 1usize..25, 1usize..25);
    (0u8..4, 0u8..4, shape, 0u8..3, prop::option::of(0u64..200)).prop_map(
        |(caller, adapter, (common, own, tokens_max), priority, patience_ms)| Arrival {
            caller,
            adapter,
            common,
            own,
            tokens_max,
            priority,
            patience_ms,
        },
    )
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        8 => arrivals().prop_map(Deed::Submit),
        6 => (1usize..6).prop_map(Deed::Steps),
        2 => (0usize..60).prop_map(Deed::Cancel),
        1 => (1usize..96).prop_map(Deed::Score),
        1 => (1u8..4).prop_map(Deed::Replace),
        1 => Just(Deed::Fail),
    ];
    proptest::collection::vec(deed, 1..120)
}

/// What was asked, to know what has to come.
struct Asked {
    id: SequenceId,
    prompt: Vec<u32>,
    tokens_max: usize,
    tag: u64,
}

fn submit(engine: &mut Engine, arrival: &Arrival, now_ms: u64, number: u32) -> Option<Asked> {
    let common = (0..arrival.common as u32).map(|i| (i * 5 + 1) % 256);
    let own = (0..arrival.own as u32).map(|i| (i * 3 + number) % 256);
    let prompt: Vec<u32> = common.chain(own).collect();
    let mut request = Request::greedy(prompt.clone(), arrival.tokens_max);
    request.ignore_end = true;
    request.caller = (arrival.caller > 0).then(|| CallerId::of(&[arrival.caller]));
    request.priority =
        [Priority::Low, Priority::Normal, Priority::High][usize::from(arrival.priority)];
    request.deadline_ms = arrival.patience_ms.map(|patience| now_ms + patience);
    let mut tag = echo::tag([].into_iter());
    if arrival.adapter > 0 {
        let id = blob(arrival.adapter);
        request.adapters = vec![(id, 0.5)];
        let generation = engine.adapters().iter().find(|known| known.0 == id).unwrap().1;
        tag = echo::tag([(generation.0, 0.5)].into_iter());
    }
    match engine.submit(request) {
        Ok(id) => Some(Asked { id, prompt, tokens_max: arrival.tokens_max, tag }),
        Err(SubmitError::QueueFull { .. } | SubmitError::CallerFull { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

fn check(asked: &Asked, answer: &Answer) {
    let whole = echo::answer(&asked.prompt, asked.tokens_max, asked.tag);
    assert_eq!(answer.tokens, whole[..answer.tokens.len()], "another's pages");
    match (&answer.end, &answer.failure) {
        (Some((FinishReason::Length, usage)), None) => {
            assert_eq!(answer.tokens.len(), asked.tokens_max);
            assert_eq!(usage.completion_tokens, asked.tokens_max);
            assert!(answer.cached_tokens.0 < asked.prompt.len());
        }
        (Some((FinishReason::Cancelled, _)), None) => (),
        (None, Some(failure)) => {
            let known = failure.contains("deadline") || failure.contains("times in a row");
            assert!(known, "{failure}");
            assert!(answer.tokens.is_empty() || !failure.contains("deadline"));
        }
        other => panic!("ended as {other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn nothing_leaks_everything_ends_and_answers_are_their_own(
        deeds in deeds(),
        pages_max in 24usize..60,
        sequences_max in 1usize..6,
        chunk_tokens_max in 1usize..40,
    ) {
        let options = EngineOptions {
            threads: 1,
            page_tokens: 4,
            pages_max,
            sequences_max,
            chunk_tokens_max,
            ..EngineOptions::default()
        };
        let (mut engine, fails) = echo::engine(options);
        let config = engine.model().config().clone();
        for id in 1..4 {
            engine.put_adapter(blob(id), adapter(&config, u64::from(id), 1)).unwrap();
        }
        let (mut asked, mut now_ms) = (Vec::new(), 0);
        let mut answers = BTreeMap::<SequenceId, Answer>::new();
        for deed in deeds {
            match deed {
                Deed::Submit(arrival) => {
                    let number = asked.len() as u32 % 7;
                    asked.extend(submit(&mut engine, &arrival, now_ms, number));
                }
                Deed::Steps(count) => for _ in 0..count {
                    now_ms += 10;
                    engine.set_now(now_ms);
                    if let Ok(events) = engine.step() {
                        note(&mut answers, events);
                    }
                },
                Deed::Cancel(index) => if let Some(one) = asked.get(index) {
                    let free = engine.pages_free();
                    engine.cancel(one.id);
                    prop_assert!(engine.pages_free() >= free);
                },
                Deed::Score(tokens) => { let _ = engine.logits_of(&vec![7; tokens], &[]); }
                Deed::Replace(id) => {
                    engine.put_adapter(blob(id), adapter(&config, u64::from(id), 1)).unwrap();
                }
                Deed::Fail => fails.store(true, Ordering::Relaxed),
            }
        }
        fails.store(false, Ordering::Relaxed);
        for (id, rest) in finish(&mut engine) {
            let answer = answers.entry(id).or_default();
            answer.tokens.extend(rest.tokens);
            answer.end = rest.end.or(answer.end.take());
            answer.failure = rest.failure.or(answer.failure.take());
            answer.cached_tokens = rest.cached_tokens;
        }
        prop_assert_eq!(answers.len(), asked.len());
        for asked in &asked {
            check(asked, &answers[&asked.id]);
        }
        prop_assert_eq!(engine.pages_free(), pages_max);
    }
}
