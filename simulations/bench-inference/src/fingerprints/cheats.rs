//! What a dishonest node would hand in, computed as it would compute it.

use anyhow::{Context as _, Result};
use openledger_inference::{Engine, Request};
use openledger_sim::random::Random;

use super::spoil::{Spoil, spoiled};
use super::{ADAPTERS, Answer, Prompts, YOUNG, engine, load, write};
use crate::subject::{Class, Subject};

/// A way to cheat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cheat {
    /// A third of the layers skipped.
    Model,
    /// Weights of another quantisation.
    Quantisation,
    /// Another adapter.
    Adapter,
    /// The adapter left out.
    LeftOut,
    /// An adapter that was trained for ten steps only, left out.
    YoungLeftOut,
    /// The adapter at nine tenths.
    Scaled,
    /// One token exchanged for another likely one, the rest written honestly.
    Edited,
    /// Written by a smaller model, then read by the right one for its fingerprint.
    Forged,
}

impl Cheat {
    pub(super) const ALL: [Self; 8] = [
        Self::Model,
        Self::Quantisation,
        Self::Adapter,
        Self::LeftOut,
        Self::YoungLeftOut,
        Self::Scaled,
        Self::Edited,
        Self::Forged,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Model => "another model",
            Self::Quantisation => "another quantisation",
            Self::Adapter => "another adapter",
            Self::LeftOut => "adapter left out",
            Self::YoungLeftOut => "adapter of ten steps left out",
            Self::Scaled => "adapter scaled by 0.9",
            Self::Edited => "edited token",
            Self::Forged => "another model's text prefilled",
        }
    }
}

/// Requests start here, so that no cheat answers one that was answered honestly.
const FIRST: u64 = 1 << 20;

/// So many cheats of a kind.
pub(super) fn write_cheats(
    subject: &Subject,
    class: Class,
    cheat: Cheat,
    prompts: &Prompts,
    count: u64,
) -> Result<Vec<Answer>> {
    let plain = || prompts.requests(FIRST, count);
    let named = || prompts.with_adapter(FIRST, count, |number| number % ADAPTERS);
    match cheat {
        Cheat::Model => write(&mut spoiled_engine(subject, class, Spoil::Layers)?, plain()),
        Cheat::Quantisation => write(&mut spoiled_engine(subject, class, Spoil::Bits)?, plain()),
        Cheat::Adapter => {
            let mut cheater = subject.engine_of(class, subject.cores)?;
            load(subject, &mut cheater, |seed| seed + 1_000)?;
            write(&mut cheater, named())
        }
        Cheat::LeftOut => pretend(subject, class, named(), Vec::clear),
        Cheat::YoungLeftOut => {
            let young = prompts.with_adapter(FIRST, count, |_| YOUNG);
            pretend(subject, class, young, Vec::clear)
        }
        Cheat::Scaled => pretend(subject, class, named(), |adapters| {
            for (_, weight) in adapters {
                *weight *= 0.9;
            }
        }),
        Cheat::Edited => edited(subject, class, plain()),
        Cheat::Forged => {
            let answers = write(&mut spoiled_engine(subject, class, Spoil::Layers)?, plain())?;
            let mut right = engine(subject, class)?;
            answers.into_iter().map(|answer| prefilled(&mut right, answer)).collect()
        }
    }
}

/// An engine over a spoiled copy of the model, with the right adapters.
fn spoiled_engine(subject: &Subject, class: Class, spoil: Spoil) -> Result<Engine> {
    let other = spoiled(subject, spoil)?;
    let mut engine = other.engine_of(class, other.cores)?;
    load(&other, &mut engine, |seed| seed)?;
    Ok(engine)
}

/// Computes other adapters than are claimed.
fn pretend(
    subject: &Subject,
    class: Class,
    requests: Vec<Request>,
    change: impl Fn(&mut Vec<(openledger_wire::ids::BlobId, f32)>),
) -> Result<Vec<Answer>> {
    let mut changed = requests.clone();
    for request in &mut changed {
        change(&mut request.adapters);
    }
    let claimed: std::collections::BTreeMap<_, _> =
        requests.iter().map(|request| (key(request), request.adapters.clone())).collect();
    let mut answers = write(&mut engine(subject, class)?, changed)?;
    for answer in &mut answers {
        let adapters = claimed.get(&key(&answer.request)).context("claim: no such request")?;
        answer.request.adapters.clone_from(adapters);
    }
    Ok(answers)
}

/// What tells requests apart.
fn key(request: &Request) -> (Vec<u32>, [u8; 32]) {
    (request.prompt.clone(), request.sampling.seed)
}

/// Honest answers with one token exchanged, and the rest written anew from there.
fn edited(subject: &Subject, class: Class, mut requests: Vec<Request>) -> Result<Vec<Answer>> {
    let mut engine = engine(subject, class)?;
    for request in &mut requests {
        request.sampling.temperature = 0.8;
    }
    let mut answers = write(&mut engine, requests)?;
    for (number, answer) in answers.iter_mut().enumerate() {
        let mut random = Random::new(number as u64, "edits");
        let at = random.below(answer.tokens.len().max(1) as u64) as usize;
        let beginning = answer.tokens.get(..at).unwrap_or_default().to_vec();
        let drawn = answer.tokens.get(at).copied();
        let likely = likely(&mut engine, answer, at)?;
        let others: Vec<u32> = likely.into_iter().filter(|token| Some(*token) != drawn).collect();
        let other = others.get(random.below(others.len().max(1) as u64) as usize);
        answer.tokens = beginning;
        answer.tokens.extend(other);
        let rest = rest(&mut engine, &answer.request, &answer.tokens)?;
        answer.tokens.extend(rest);
        answer.fingerprint = engine.fingerprint_of(&answer.request, &answer.tokens)?;
    }
    Ok(answers)
}

/// The twenty likeliest tokens at a place of an answer.
fn likely(engine: &mut Engine, answer: &Answer, at: usize) -> Result<Vec<u32>> {
    let mut request = answer.request.clone();
    request.prompt.extend(answer.tokens.iter().take(at));
    request.tokens_max = 1;
    request.logprobs = Some(20);
    engine.submit(request)?;
    let mut found = Vec::new();
    while !engine.is_idle() {
        for event in engine.step()? {
            if let openledger_inference::Event::Token { top, .. } = event {
                found = top.into_iter().map(|(token, _)| token).collect();
            }
        }
    }
    Ok(found)
}

/// What an engine writes after a beginning.
fn rest(engine: &mut Engine, request: &Request, beginning: &[u32]) -> Result<Vec<u32>> {
    engine.resume(request.clone(), beginning)?;
    let mut tokens = Vec::new();
    while !engine.is_idle() {
        for event in engine.step()? {
            if let openledger_inference::Event::Token { token, .. } = event {
                tokens.push(token);
            }
        }
    }
    Ok(tokens)
}

/// The fingerprint that the right model gives for a text that another wrote.
fn prefilled(right: &mut Engine, mut answer: Answer) -> Result<Answer> {
    answer.fingerprint = right.fingerprint_of(&answer.request, &answer.tokens)?;
    Ok(answer)
}
