//! What the engine makes of given answers: a backend that says what it is told to.

use openledger_inference::{
    Backend, BackendError, Engine, EngineOptions, FinishReason, Request, RowOutput, StepPlan,
    SubmitError, Usage, Wants,
};

use crate::support::{Answer, alone, finish};
use crate::tiny::{self, END, VOCAB};

/// Always continues a prompt of one token with this answer; fails the steps that are listed.
struct Script {
    answer: Vec<u32>,
    fails: Vec<usize>,
    broken: bool,
    steps: usize,
}

impl Backend for Script {
    fn name(&self) -> &'static str {
        "script"
    }

    fn run(&mut self, plan: &StepPlan) -> Result<Vec<RowOutput>, BackendError> {
        self.steps += 1;
        if self.fails.contains(&self.steps) {
            return Err(BackendError::Device { what: "a cable was pulled".to_owned() });
        }
        let output = |position: usize, wants: Wants| {
            let mut values = vec![if self.broken { f32::NAN } else { 0.0 }; VOCAB];
            let token = self.answer.get(position).copied().unwrap_or(END);
            values[token as usize] = 20.0;
            match wants {
                Wants::Nothing => RowOutput::Nothing,
                Wants::Logits => RowOutput::Logits { logits: values, hidden: vec![0.0] },
                Wants::Hidden => RowOutput::Hidden(values),
            }
        };
        Ok(plan.rows.iter().map(|row| output(row.position, row.wants)).collect())
    }
}

fn engine(answer: &[u32], fails: &[usize]) -> Engine {
    let (answer, fails) = (answer.to_vec(), fails.to_vec());
    let script = Script { answer, fails, broken: false, steps: 0 };
    let options = EngineOptions::default();
    Engine::with_backend(tiny::model(), options, Box::new(script)).unwrap()
}

fn request(tokens_max: usize, stop: &[&str]) -> Request {
    let mut request = Request::greedy(vec![1], tokens_max);
    request.stop = stop.iter().map(|stop| (*stop).to_owned()).collect();
    request
}

fn answer(text: &str, tokens_max: usize, stop: &[&str]) -> Answer {
    alone(&mut engine(&tiny::bytes(text), &[]), &request(tokens_max, stop))
}

fn ended(answer: &Answer) -> (FinishReason, usize) {
    let (reason, Usage { completion_tokens, prompt_tokens, .. }) = answer.end.unwrap();
    assert_eq!((prompt_tokens, completion_tokens), (1, answer.tokens.len()));
    (reason, completion_tokens)
}

#[test]
fn an_end_token_ends_the_answer_and_is_no_text() {
    let found = answer("hello", 20, &[]);
    assert_eq!(found.text, "hello");
    assert_eq!(ended(&found), (FinishReason::Stop, 6));
    assert_eq!(found.tokens.last(), Some(&END));
    let mut ignoring = request(9, &[]);
    ignoring.ignore_end = true;
    let found = alone(&mut engine(&tiny::bytes("hello"), &[]), &ignoring);
    assert_eq!((found.text.as_str(), ended(&found)), ("hello", (FinishReason::Length, 9)));
}

#[test]
fn the_limit_ends_the_answer() {
    let found = answer("hello world", 5, &[]);
    assert_eq!((found.text.as_str(), ended(&found)), ("hello", (FinishReason::Length, 5)));
}

#[test]
fn stop_strings_end_the_answer_and_never_leak() {
    let found = answer("one\nUser: two", 30, &["\nUser:"]);
    assert_eq!((found.text.as_str(), ended(&found)), ("one", (FinishReason::Stop, 9)));
    let found = answer("one\nUs", 30, &["\nUser:"]);
    assert_eq!((found.text.as_str(), ended(&found)), ("one\nUs", (FinishReason::Stop, 7)));
    let found = answer("one\nUsual", 6, &["\nUser:"]);
    assert_eq!((found.text.as_str(), ended(&found)), ("one\nUs", (FinishReason::Length, 6)));
}

#[test]
fn characters_that_span_tokens_come_whole() {
    let text = "gr\u{fc}\u{df} \u{4f60}\u{597d} \u{1f600}";
    let mut engine = engine(&tiny::bytes(text), &[]);
    engine.submit(request(40, &[])).unwrap();
    let mut pieces = Vec::new();
    while !engine.is_idle() {
        for event in engine.step().unwrap() {
            if let openledger_inference::Event::Token { text, .. } = event {
                pieces.push(text);
            }
        }
    }
    assert_eq!(pieces.concat(), text);
    assert!(pieces.iter().all(|piece| piece.chars().count() <= 1 && !piece.contains('\u{fffd}')));
    // Broken off in the middle of a character.
    let cut = answer(text, 3, &[]);
    assert_eq!(cut.text, "gr\u{fffd}");
}

#[test]
fn log_probabilities_come_as_asked() {
    let mut engine = engine(&tiny::bytes("a"), &[]);
    let mut asks = request(1, &[]);
    asks.logprobs = Some(3);
    engine.submit(asks).unwrap();
    let events = engine.step().unwrap();
    let openledger_inference::Event::Token { logprob, top, .. } = &events[0] else {
        panic!("no token: {events:?}");
    };
    let expected = -((VOCAB as f64 - 1.0) * (-20f64).exp()).ln_1p();
    assert!((f64::from(*logprob) - expected).abs() < 1e-6);
    assert_eq!(top.iter().map(|top| top.0).collect::<Vec<_>>(), [tiny::byte(b'a'), 0, 1]);
    assert!((f64::from(top[1].1) + 20.0).abs() < 1e-5);
}

#[test]
fn a_backend_that_fails_once_costs_nothing_and_thrice_the_sequence() {
    let mut engine = engine(&tiny::bytes("hello"), &[2, 4]);
    let id = engine.submit(request(20, &[])).unwrap();
    let mut answers = std::collections::BTreeMap::new();
    let mut failures = 0;
    while !engine.is_idle() {
        match engine.step() {
            Ok(events) => crate::support::note(&mut answers, events),
            Err(error) => {
                failures += 1;
                assert!(error.to_string().contains("a cable was pulled"), "{error}");
            }
        }
    }
    assert_eq!((failures, answers[&id].text.as_str()), (2, "hello"));
    let mut engine = self::engine(&tiny::bytes("hello"), &[2, 3, 4]);
    let id = engine.submit(request(20, &[])).unwrap();
    assert!(engine.step().is_ok());
    for _ in 0..3 {
        assert!(engine.step().is_err());
    }
    let answers = finish(&mut engine);
    let failure = answers[&id].failure.as_ref().unwrap();
    assert!(failure.contains("failed 3 times in a row"), "{failure}");
}

#[test]
fn logits_that_are_no_numbers_fail_the_sequence() {
    let script = Script { answer: vec![5], fails: vec![], broken: true, steps: 0 };
    let options = EngineOptions::default();
    let mut engine = Engine::with_backend(tiny::model(), options, Box::new(script)).unwrap();
    let found = alone(&mut engine, &request(4, &[]));
    assert!(found.failure.unwrap().contains("not finite; check the model file"));
}

#[test]
fn requests_that_cannot_be_served_are_refused_with_the_numbers() {
    let mut engine = engine(&[], &[]);
    let base = || request(8, &[]);
    let long = |prompt: usize, tokens_max| Request::greedy(vec![1; prompt], tokens_max);
    let stops = |stop: &[&str]| request(8, stop);
    for (request, says) in [
        (Request { prompt: Vec::new(), ..base() }, "prompt is empty"),
        (request(0, &[]), "allows 0 tokens"),
        (long(180, 13), "180 prompt tokens and 13 to draw exceed the model's context of 192"),
        (long(1, usize::MAX), "exceed the model's context"),
        (Request { prompt: vec![264], ..base() }, "token 264"),
        (stops(&[""]), "stop string 0 has 0 bytes"),
        (stops(&[&"x".repeat(257)]), "257 bytes"),
        (stops(&["x"; 17]), "stop string 16"),
        (Request { logprobs: Some(21), ..base() }, "21 log-probabilities"),
    ] {
        let error = engine.submit(request).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    let small = EngineOptions { pages_max: 4, page_tokens: 4, ..EngineOptions::default() };
    let mut small = Engine::new(tiny::model(), small).unwrap();
    let error = small.submit(long(10, 7)).unwrap_err();
    assert_eq!(error, SubmitError::Memory { prompt: 10, tokens_max: 7, held: 16 });
    for _ in 0..256 {
        small.submit(long(2, 2)).unwrap();
    }
    let error = small.submit(long(2, 2)).unwrap_err().to_string();
    assert!(error.contains("256 are waiting"), "{error}");
    let none = EngineOptions { threads: 0, ..EngineOptions::default() };
    let error = Engine::new(tiny::model(), none).unwrap_err().to_string();
    assert!(error.contains("threads is 0"), "{error}");
}
