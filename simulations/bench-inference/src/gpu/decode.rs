//! Tokens a second of sequences that each have an adapter of their own, and what a change of an
//! adapter takes.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use openledger_inference::{Engine, Event, PreparedAdapter, Request, SequenceId};
use openledger_models::ModelConfig;
use openledger_wire::ids::BlobId;

use crate::adapters;
use crate::limits::{PROMPT_TOKENS, TIMED_ADAPTER_RANK};
use crate::speed::median;

/// Seconds of steps in which every sequence got a token.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Steps(Vec<f64>);

impl Steps {
    /// The middle one.
    pub(super) fn median(&self) -> f64 {
        median(self.0.clone())
    }

    /// All but one in a hundred are no longer.
    pub(super) fn p99(&self) -> f64 {
        let mut all = self.0.clone();
        all.sort_by(f64::total_cmp);
        let index = (all.len() as f64 * 0.99).ceil() as usize;
        all.get(index.saturating_sub(1)).copied().unwrap_or_default()
    }
}

/// Puts so many adapters into an engine; the bytes of all.
pub(super) fn put_adapters(engine: &mut Engine, count: usize) -> Result<usize> {
    let config = engine.model().config().clone();
    for number in 0..count {
        let adapter = adapters::adapter(&config, number as u64, TIMED_ADAPTER_RANK)?;
        engine.put_adapter(id(number), adapter)?;
    }
    Ok(engine.adapters().into_iter().map(|(_, _, bytes)| bytes).sum())
}

/// Times so many steps of a batch, each sequence with another adapter of those that were put.
pub(super) fn decode(engine: &mut Engine, batch: usize, steps: usize) -> Result<Steps> {
    let vocab = engine.model().config().vocab.max(1) as u32;
    let mut waiting = BTreeSet::new();
    for number in 0..batch {
        let token = |at: usize| (at * 31 + number * 977) as u32 % vocab;
        // Those that are through their prompt first draw while the others are not.
        let mut request = Request::greedy((0..PROMPT_TOKENS).map(token).collect(), 1);
        request.tokens_max = 2 * (steps + batch);
        request.ignore_end = true;
        request.adapters = vec![(id(number), 1.0)];
        waiting.insert(engine.submit(request)?);
    }
    let all: Vec<SequenceId> = waiting.iter().copied().collect();
    while !waiting.is_empty() {
        for sequence in step(engine)? {
            waiting.remove(&sequence);
        }
    }
    let mut took = Vec::with_capacity(steps);
    for _ in 0..steps {
        let begun = Instant::now();
        let tokens = step(engine)?.len();
        took.push(begun.elapsed().as_secs_f64());
        ensure!(tokens == batch, "time decoding: {tokens} tokens came where {batch} should");
    }
    for sequence in all {
        engine.cancel(sequence);
    }
    step(engine)?;
    Ok(Steps(took))
}

/// Seconds from an adapter that lies ready in memory to the first token that it had a part in, and
/// of the same request with an adapter that was in use before.
pub(super) fn switch(engine: &mut Engine, rounds: usize) -> Result<[f64; 2]> {
    let config: ModelConfig = engine.model().config().clone();
    let (mut fresh, mut known) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let adapter = adapters::adapter(&config, 1_000 + round as u64, TIMED_ADAPTER_RANK)?;
        let ready = PreparedAdapter::new(&config, adapter, engine.adapter_storage())?;
        let begun = Instant::now();
        engine.put_prepared(id(0), ready)?;
        first_token(engine)?;
        fresh.push(begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        first_token(engine)?;
        known.push(begun.elapsed().as_secs_f64());
    }
    Ok([median(fresh), median(known)])
}

fn first_token(engine: &mut Engine) -> Result<()> {
    let mut request = Request::greedy(vec![1], 1);
    request.adapters = vec![(id(0), 1.0)];
    request.ignore_end = true;
    engine.submit(request)?;
    let mut tokens = 0;
    while !engine.is_idle() {
        tokens += step(engine)?.len();
    }
    (tokens == 1).then_some(()).context("time a change of adapters: no token came")
}

/// One step: who got a token.
fn step(engine: &mut Engine) -> Result<Vec<SequenceId>> {
    let mut drawn = Vec::new();
    for event in engine.step()? {
        match event {
            Event::Token { sequence, .. } => drawn.push(sequence),
            Event::Failed { sequence, error } => bail!("run {sequence}: {error}"),
            Event::Finished { .. } => {}
        }
    }
    Ok(drawn)
}

fn id(number: usize) -> BlobId {
    BlobId([number as u8; 32])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_of_a_hundred_is_beyond_the_last_percentile() {
        let steps = Steps((1..=200).map(f64::from).collect());
        assert_eq!((steps.median(), steps.p99()), (100.0, 198.0));
        assert_eq!((Steps::default().median(), Steps::default().p99()), (0.0, 0.0));
    }
}
