//! Whole requests, from their prompts to their last tokens, all there at once: how many tokens a
//! second, and how long the one waits that waits longest for its first.
//!
//! The peer is llama.cpp under the rule by which its server schedules (no build of the server is
//! in the package): requests with one adapter step together, those with another wait until these
//! have ended. Without the server's own cost of connections and texts, which makes it look better.

use std::time::Instant;

use anyhow::{Result, ensure};
use openledger_inference::{Engine, Request as Ask};
use openledger_sim::figures::{Figures, Kind};

use super::{Bench, adapter_id, bar, median, prompts, rounded, seconds, step, timed};
use crate::limits::{FIRST_TOKEN_RATIO_MAX, SERVED_PROMPT_TOKENS, SERVER_RATIO_MIN, Sizes};
use crate::peer::{Request, Served};

/// What was served, round by round.
#[derive(Debug, Default)]
pub(super) struct Meals {
    /// Each request with an adapter of its own.
    own: Pair,
    /// One adapter for all.
    shared: Pair,
}

#[derive(Debug, Default)]
struct Pair {
    ours: Vec<Served>,
    theirs: Vec<Served>,
}

impl Pair {
    fn worst(served: &[Served]) -> f64 {
        median(served.iter().map(Served::worst).collect())
    }

    fn seconds(served: &[Served]) -> f64 {
        let took: Vec<_> = served.iter().map(|served| served.took).collect();
        seconds(&took)
    }
}

impl Meals {
    /// Both cases by each engine, one after the other.
    pub(super) fn round(&mut self, bench: &mut Bench) -> Result<()> {
        let Sizes { sequences, steps, .. } = bench.sizes;
        let prompts = prompts(&bench.text, sequences, SERVED_PROMPT_TOKENS);
        let one = bench.files.get(..1).unwrap_or_default().to_vec();
        for (pair, adapters, own) in
            [(&mut self.own, &bench.files, true), (&mut self.shared, &one, false)]
        {
            pair.ours.push(serve(&mut bench.engine, &prompts, steps, own)?);
            let request = Request::Serve { prompts: &prompts, steps, adapters };
            pair.theirs.push(bench.peer.ask(&request)?);
        }
        Ok(())
    }

    /// Throughput and waits of both.
    pub(super) fn show(&self, figures: &mut Figures, sizes: &Sizes, name: &str) {
        let many = sizes.sequences;
        let peer = format!("{name}, as its server schedules");
        for (pair, own, what) in [
            (&self.own, true, format!("requests, {many}, {many} adapters")),
            (&self.shared, false, format!("requests, {many}, one adapter")),
        ] {
            let [ours, theirs] = [&pair.ours, &pair.theirs].map(|served| Pair::seconds(served));
            let rate = |seconds: f64| rounded((many * sizes.steps) as f64 / seconds.max(1e-9));
            figures.beside(&what, rate(ours), "tokens/s", Kind::Timed, &peer, rate(theirs));
            if own {
                let words = format!(">= {SERVER_RATIO_MIN} of the peer's");
                bar(figures, sizes, words, theirs >= SERVER_RATIO_MIN * ours);
            }
            let [ours, theirs] = [&pair.ours, &pair.theirs].map(|served| Pair::worst(served));
            let worst = format!("{what}: worst time to first token");
            figures.beside(&worst, rounded(ours), "s", Kind::Timed, &peer, rounded(theirs));
        }
        let (own, shared) = (Pair::worst(&self.own.ours), Pair::worst(&self.shared.ours));
        let ratio = own / shared.max(1e-9);
        let what = format!("requests, {many}: worst time to first token, {many} adapters over one");
        figures.show(&what, rounded(ratio), "", Kind::Timed);
        let words = format!("<= {FIRST_TOKEN_RATIO_MAX}");
        bar(figures, sizes, words, ratio <= FIRST_TOKEN_RATIO_MAX);
    }
}

/// Requests that come together, each with its own adapter or all with one.
fn serve(engine: &mut Engine, prompts: &[Vec<u32>], tokens: usize, own: bool) -> Result<Served> {
    let mut first = std::collections::BTreeMap::new();
    let begun = Instant::now();
    let took = timed(|| {
        for (number, prompt) in prompts.iter().enumerate() {
            let mut ask = Ask::greedy(prompt.clone(), tokens);
            ask.ignore_end = true;
            ask.adapters = vec![(adapter_id(if own { number } else { 0 }), 1.0)];
            engine.submit(ask)?;
        }
        while !engine.is_idle() {
            for sequence in step(engine)? {
                first.entry(sequence).or_insert_with(|| begun.elapsed().as_secs_f64());
            }
        }
        Ok(())
    })?;
    let count = prompts.len();
    ensure!(first.len() == count, "serve {count} requests: {} were answered", first.len());
    Ok(Served { first: first.into_values().collect(), took })
}
