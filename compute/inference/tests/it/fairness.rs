//! Whoever asks how much, everybody gets their part; who cannot be served is told at once, and when
//! to come again.

use std::collections::BTreeMap;

use openledger_inference::{
    CallerId, Engine, EngineOptions, Event, Priority, Request, SequenceId, SubmitError,
};

use proptest::prelude::*;

use crate::echo;
use crate::support::{adapter, blob, finish, note};

fn engine(sequences_max: usize) -> Engine {
    let options = EngineOptions {
        threads: 1,
        page_tokens: 4,
        pages_max: 512,
        sequences_max,
        chunk_tokens_max: 32,
        ..EngineOptions::default()
    };
    echo::engine(options).0
}

/// A request that begins like no other, if its number is its own.
fn request(number: u32, prompt: usize, tokens_max: usize, caller: Option<u8>) -> Request {
    // The number itself comes first, in two digits.
    let tokens = (0..prompt as u32).map(|i| match i {
        0 => number % 256,
        1 => number / 256 % 256,
        _ => (number * 7 + i * 3) % 256,
    });
    let mut request = Request::greedy(tokens.collect(), tokens_max);
    request.ignore_end = true;
    request.caller = caller.map(|caller| CallerId::of(&[caller]));
    request
}

/// The step in which each of these has its first token, from 1.
fn first_tokens(engine: &mut Engine, ids: &[SequenceId]) -> Vec<usize> {
    let mut firsts = BTreeMap::new();
    for step in 1..10_000 {
        for event in engine.step().unwrap() {
            if matches!(event, Event::Token { .. }) {
                firsts.entry(event.sequence()).or_insert(step);
            }
        }
        if ids.iter().all(|id| firsts.contains_key(id)) {
            return ids.iter().map(|id| firsts[id]).collect();
        }
    }
    panic!("some never start");
}

#[test]
fn a_callers_flood_delays_no_other() {
    let mut engine = engine(4);
    for number in 0..60 {
        engine.submit(request(number, 16, 100, Some(1))).unwrap();
    }
    for _ in 0..10 {
        engine.step().unwrap();
    }
    let late: Vec<SequenceId> = (2..5)
        .map(|who| engine.submit(request(100 + u32::from(who), 16, 20, Some(who))).unwrap())
        .collect();
    let firsts = first_tokens(&mut engine, &late);
    // Two prompts of 16 tokens go into each step.
    assert!(firsts.iter().all(|step| *step <= 2), "{firsts:?}");
    assert!(engine.running() == 4);
    finish(&mut engine);
}

#[test]
fn an_adapters_flood_delays_no_other() {
    let mut engine = engine(4);
    let config = engine.model().config().clone();
    for id in 1..=2 {
        engine.put_adapter(blob(id), adapter(&config, u64::from(id), 2)).unwrap();
    }
    for number in 0..60 {
        let mut asked = request(number, 16, 100, None);
        asked.adapters = vec![(blob(1), 1.0)];
        engine.submit(asked).unwrap();
    }
    for _ in 0..10 {
        engine.step().unwrap();
    }
    let mut other = request(100, 16, 20, None);
    other.adapters = vec![(blob(2), 1.0)];
    let ids = [engine.submit(other).unwrap(), engine.submit(request(101, 16, 20, None)).unwrap()];
    let firsts = first_tokens(&mut engine, &ids);
    assert!(firsts.iter().all(|step| *step <= 2), "{firsts:?}");
    finish(&mut engine);
}

/// Runs callers who always have more requests waiting than there are places, each with prompts and
/// answers of its own length. Returns the tokens of each, and those that the engine ran.
fn insatiable(places: usize, sizes: &[(usize, usize)], steps: usize) -> (Vec<usize>, u64) {
    let mut engine = engine(places);
    let mut owner = BTreeMap::new();
    let mut tokens = vec![0; sizes.len()];
    let mut open = vec![0; sizes.len()];
    for _ in 0..steps {
        for (who, (&(prompt, answer), open)) in sizes.iter().zip(&mut open).enumerate() {
            while *open <= places {
                let asked = request(owner.len() as u32, prompt, answer, Some(who as u8));
                owner.insert(engine.submit(asked).unwrap(), (who, prompt));
                *open += 1;
            }
        }
        for event in engine.step().unwrap() {
            let (who, prompt) = owner.get_mut(&event.sequence()).unwrap();
            match event {
                // What was run for it: the prompt for the first token, one for each other.
                Event::Token { .. } => tokens[*who] += core::mem::take(prompt).max(1),
                Event::Finished { .. } => open[*who] -= 1,
                Event::Failed { error, .. } => panic!("{error}"),
            }
        }
    }
    (tokens, engine.figures().tokens_run)
}

#[test]
fn callers_who_always_want_more_get_as_many_tokens() {
    // Long prompts and short answers, the other way round, and a bit of both.
    let (tokens, ran) = insatiable(3, &[(60, 4), (3, 40), (20, 20)], 1_500);
    let (least, most) = (tokens.iter().min().unwrap(), tokens.iter().max().unwrap());
    assert!(*most * 10 <= *least * 11, "{tokens:?}");
    let needed: usize = tokens.iter().sum();
    assert!(ran * 20 <= needed as u64 * 21, "giving way cost too much: {ran} for {needed}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_two_callers_are_ever_further_apart_than_what_has_a_place(
        places in 1usize..5,
        sizes in proptest::collection::vec((1usize..24, 1usize..24), 2..5),
    ) {
        let (tokens, _) = insatiable(places, &sizes, 600);
        let (least, most) = (tokens.iter().min().unwrap(), tokens.iter().max().unwrap());
        let largest = sizes.iter().map(|(prompt, answer)| prompt + answer).max().unwrap();
        prop_assert!(most - least <= 2 * places.max(2) * largest, "{:?}", tokens);
    }
}

#[test]
fn thirty_two_adapters_start_as_soon_as_one_that_all_share() {
    let worst = |adapters: u8| {
        let mut engine = engine(16);
        let config = engine.model().config().clone();
        for id in 1..=adapters {
            engine.put_adapter(blob(id), adapter(&config, u64::from(id), 1)).unwrap();
        }
        let submit = |number: u32| {
            let mut asked = request(number, 20 + number as usize % 5, 12, None);
            asked.adapters = vec![(blob(1 + (number % u32::from(adapters)) as u8), 1.0)];
            engine.submit(asked).unwrap()
        };
        let ids: Vec<SequenceId> = (0..32).map(submit).collect();
        first_tokens(&mut engine, &ids).into_iter().max().unwrap()
    };
    let (shared, different) = (worst(1), worst(32));
    assert!(different * 5 <= shared * 6, "{different} steps for 32 adapters, {shared} for one");
}

#[test]
fn low_priority_lets_all_pass_and_high_only_ones_own() {
    let mut engine = engine(1);
    let mut submit = |number: u32, caller: u8, priority: Priority| {
        let mut asked = request(number, 8, 2, Some(caller));
        asked.priority = priority;
        engine.submit(asked).unwrap()
    };
    let ids = [
        submit(1, 1, Priority::Low),
        submit(2, 1, Priority::Normal),
        submit(3, 1, Priority::High),
        submit(4, 2, Priority::Normal),
        submit(5, 2, Priority::High),
    ];
    let firsts = first_tokens(&mut engine, &ids);
    let mut order: Vec<usize> = (0..5).collect();
    order.sort_by_key(|index| firsts[*index]);
    assert_eq!(order, [2, 4, 1, 3, 0]);
}

#[test]
fn what_cannot_start_in_time_says_so_and_what_started_goes_on() {
    let mut engine = engine(1);
    engine.set_now(1_000);
    let mut asked = request(1, 8, 30, None);
    asked.deadline_ms = Some(1_050);
    let first = engine.submit(asked.clone()).unwrap();
    let second = engine.submit(asked).unwrap();
    let mut answers = BTreeMap::new();
    for step in 0..10 {
        engine.set_now(1_000 + 10 * step);
        note(&mut answers, engine.step().unwrap());
    }
    assert_eq!(engine.queued(), 0);
    let failure = answers[&second].failure.as_deref().unwrap();
    assert!(failure.contains("its deadline 1050 ms had come by 1050 ms"), "{failure}");
    assert!(answers[&first].tokens.len() == 10 && answers[&first].failure.is_none());
    assert_eq!(engine.figures().expired, 1);
    let rest = finish(&mut engine);
    assert_eq!(rest[&first].tokens.len(), 20);
}

#[test]
fn a_full_queue_says_when_to_come_again() {
    let mut engine = engine(4);
    let mut number = 0;
    let mut fill = |engine: &mut Engine, caller: Option<u8>| loop {
        number += 1;
        match engine.submit(request(number, 10, 30, caller)) {
            Ok(_) => (),
            Err(error) => return error,
        }
    };
    let error = fill(&mut engine, Some(9));
    assert_eq!(error, SubmitError::CallerFull { queued: 64, retry_after_ms: 1_000 });
    assert!(error.to_string().contains("64 of this caller are waiting"), "{error}");
    let error = fill(&mut engine, None);
    assert_eq!(error, SubmitError::QueueFull { queued: 256, retry_after_ms: 1_000 });
    // At 100 ms a step of about four tokens, a request of 40 tokens takes a second.
    for step in 0..40 {
        engine.set_now(5_000 + 100 * step);
        engine.step().unwrap();
    }
    let wait = fill(&mut engine, None).retry_after_ms().unwrap();
    assert!((250..=1_100).contains(&wait), "{wait} ms");
    let own = fill(&mut engine, Some(9)).retry_after_ms().unwrap();
    assert!(own >= wait, "{own} ms, {wait} ms");
    assert_eq!(SubmitError::NoTokens.retry_after_ms(), None);
    assert!(fill(&mut engine, None).to_string().contains(&format!("again in {wait} ms")));
}
