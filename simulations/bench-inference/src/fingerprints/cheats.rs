//! What a dishonest node would hand in, computed as it would compute it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use openledger_inference::{Engine, Event, Request};
use openledger_sim::random::Random;
use openledger_wire::ids::BlobId;

use super::bench::{Answer, Bench, OTHERS, write};
use super::prompts::{ADAPTERS, YOUNG, adapter_id};
use super::spoil::Spoil;
use crate::subject::Class;

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

/// Cheats of a kind, in answer to requests of these numbers.
pub(super) fn write_cheats(
    bench: &mut Bench<'_>,
    class: Class,
    cheat: Cheat,
    numbers: impl Iterator<Item = u64>,
) -> Result<Vec<Answer>> {
    let requests: Vec<(u64, Request)> = numbers
        .map(|number| {
            let at = FIRST + number;
            let request = match cheat {
                Cheat::Adapter | Cheat::LeftOut | Cheat::Scaled => {
                    bench.prompts.with_adapter(at, at % ADAPTERS)
                }
                Cheat::YoungLeftOut => bench.prompts.with_adapter(at, YOUNG),
                Cheat::Model | Cheat::Quantisation | Cheat::Edited | Cheat::Forged => {
                    bench.prompts.request(at)
                }
            };
            (number, request)
        })
        .collect();
    match cheat {
        Cheat::Model => write(bench.engine(class, Some(Spoil::Layers))?, requests),
        Cheat::Quantisation => write(bench.engine(class, Some(Spoil::Bits))?, requests),
        Cheat::Edited => edited(bench.engine(class, None)?, requests),
        Cheat::Forged => {
            let answers = write(bench.engine(class, Some(Spoil::Layers))?, requests)?;
            let right = bench.engine(class, None)?;
            answers.into_iter().map(|answer| prefilled(right, answer)).collect()
        }
        Cheat::Adapter => pretend(bench.engine_with_others(class)?, requests, &|(id, _)| {
            *id = adapter_id(u64::from(id.0[0]) + OTHERS);
        }),
        Cheat::LeftOut | Cheat::YoungLeftOut => {
            // Weight 0 is the bare base.
            pretend(bench.engine(class, None)?, requests, &|(_, weight)| *weight = 0.0)
        }
        Cheat::Scaled => {
            pretend(bench.engine(class, None)?, requests, &|(_, weight)| *weight *= 0.9)
        }
    }
}

/// Computes other adapters than are claimed.
fn pretend(
    engine: &mut Engine,
    requests: Vec<(u64, Request)>,
    change: &dyn Fn(&mut (BlobId, f32)),
) -> Result<Vec<Answer>> {
    let mut claimed = BTreeMap::new();
    let mut changed = requests;
    for (number, request) in &mut changed {
        claimed.insert(*number, request.adapters.clone());
        request.adapters.iter_mut().for_each(change);
        request.adapters.retain(|(_, weight)| *weight != 0.0);
    }
    let mut answers = write(engine, changed)?;
    for answer in &mut answers {
        let adapters = claimed.remove(&answer.number).context("claim: no such request")?;
        answer.request.adapters = adapters;
    }
    Ok(answers)
}

/// Honest answers with one token exchanged, and the rest written anew from there.
fn edited(engine: &mut Engine, mut requests: Vec<(u64, Request)>) -> Result<Vec<Answer>> {
    for (_, request) in &mut requests {
        request.sampling.temperature = 0.8;
    }
    let mut answers = write(engine, requests)?;
    for answer in &mut answers {
        let mut random = Random::new(answer.number, "edits");
        let at = random.below(answer.tokens.len().max(1) as u64) as usize;
        let beginning = answer.tokens.get(..at).unwrap_or_default().to_vec();
        let drawn = answer.tokens.get(at).copied();
        let likely = likely(engine, answer, at)?;
        let others: Vec<u32> = likely.into_iter().filter(|token| Some(*token) != drawn).collect();
        let other = others.get(random.below(others.len().max(1) as u64) as usize);
        answer.tokens = beginning;
        answer.tokens.extend(other);
    }
    rewrite(engine, &mut answers)?;
    for answer in &mut answers {
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
            if let Event::Token { top, .. } = event {
                found = top.into_iter().map(|(token, _)| token).collect();
            }
        }
    }
    Ok(found)
}

/// Has the engine write answers on from their beginnings, all together.
fn rewrite(engine: &mut Engine, answers: &mut [Answer]) -> Result<()> {
    let mut open = BTreeMap::new();
    for (index, answer) in answers.iter().enumerate() {
        open.insert(engine.resume(answer.request.clone(), &answer.tokens)?, index);
    }
    while !engine.is_idle() {
        for event in engine.step()? {
            if let Event::Token { sequence, token, .. } = event
                && let Some(answer) = open.get(&sequence).and_then(|index| answers.get_mut(*index))
            {
                answer.tokens.push(token);
            }
        }
    }
    Ok(())
}

/// The fingerprint that the right model gives for a text that another wrote.
fn prefilled(right: &mut Engine, mut answer: Answer) -> Result<Answer> {
    answer.fingerprint = right.fingerprint_of(&answer.request, &answer.tokens)?;
    Ok(answer)
}
