//! What taking fingerprints costs of an engine's throughput.
//!
//! A fingerprint needs the hidden state that each token was drawn from, and signed sums of it. So
//! the same answers are written twice, in turn: by the engine as it is, and by one whose backend
//! keeps the states to itself, so that there is nothing to sum. Two runs differ by more than is
//! looked for; so the sums are timed alone as well, by an engine whose backend computes nothing and
//! gives states of many times the length, and their cost is shown as a share of a token's.

use anyhow::{Result, ensure};
use openledger_inference::{
    Backend, BackendError, CpuBackend, Engine, EngineOptions, RowOutput, StepPlan, Wants,
};
use openledger_sim::figures::{Figures, Kind};

use super::prompts::Prompts;
use crate::limits::{FINGERPRINT_COST_PERCENT_MAX, FingerprintSizes};
use crate::speed::{decode, median};
use crate::subject::{Class, Subject};

/// States of so many times the length are summed where the sums are timed alone.
const LENGTHS: usize = 64;

/// The CPU's backend without the states.
struct Stateless(CpuBackend);

impl Backend for Stateless {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn run(&mut self, plan: &StepPlan) -> Result<Vec<RowOutput>, BackendError> {
        let mut outputs = self.0.run(plan)?;
        for output in &mut outputs {
            if let RowOutput::Logits { hidden, .. } = output {
                hidden.clear();
            }
        }
        Ok(outputs)
    }
}

/// Gives the same logits and a state of a length, for nothing.
struct Idle {
    vocab: usize,
    state: Vec<f32>,
}

impl Backend for Idle {
    fn name(&self) -> &'static str {
        "idle"
    }

    fn run(&mut self, plan: &StepPlan) -> Result<Vec<RowOutput>, BackendError> {
        let output = |wants: Wants| match wants {
            Wants::Nothing => RowOutput::Nothing,
            Wants::Hidden => RowOutput::Hidden(self.state.clone()),
            Wants::Logits => {
                RowOutput::Logits { logits: vec![0.0; self.vocab], hidden: self.state.clone() }
            }
        };
        Ok(plan.rows.iter().map(|row| output(row.wants)).collect())
    }
}

/// Measures it, and shows it.
///
/// # Errors
/// An engine that fails.
pub(super) fn show(
    subject: &Subject,
    sizes: &FingerprintSizes,
    figures: &mut Figures,
) -> Result<()> {
    let options = EngineOptions {
        threads: 1,
        sequences_max: sizes.cost_sequences,
        prefix_cache: false,
        ..Class::CPU.options()
    };
    let made =
        |backend: Box<dyn Backend>| Engine::with_backend(subject.model.clone(), options, backend);
    let cpu = || CpuBackend::new(subject.model.clone(), &options, &mut |_, _| ());
    let idle = |length: usize| -> Box<dyn Backend> {
        let config = subject.model.config();
        Box::new(Idle { vocab: config.vocab, state: vec![0.5; config.hidden * length] })
    };
    let mut engines = [
        made(Box::new(cpu()?))?,
        made(Box::new(Stateless(cpu()?)))?,
        made(idle(LENGTHS))?,
        made(idle(0))?,
    ];
    let prompts = Prompts::new(subject, sizes.answer_chunks)?;
    let mut found = [const { Vec::new() }; 4];
    for _ in 0..sizes.cost_rounds {
        for (engine, found) in engines.iter_mut().zip(&mut found) {
            found.push(seconds_per_token(engine, &prompts, sizes)?);
        }
    }
    let [with, without, long, none] = found.map(median);
    ensure!(with > 0.0 && without > 0.0, "time fingerprints: this system counts no CPU time");
    let rounded = |value: f64| (value * 1e3).round() / 1e3;
    figures.show("a token with its fingerprint", rounded(with * 1e6), "us", Kind::Timed);
    figures.show("a token without", rounded(without * 1e6), "us", Kind::Timed);
    let sums = ((long - none) / LENGTHS as f64).max(0.0);
    figures.show("the sums alone", rounded(sums * 1e6), "us", Kind::Timed);
    let run = (with / without - 1.0) * 100.0;
    figures.show("throughput lost, of both runs", rounded(run), "%", Kind::Timed);
    let share = sums / without * 100.0;
    let wanted = format!("<= {FINGERPRINT_COST_PERCENT_MAX}");
    let fine = share <= FINGERPRINT_COST_PERCENT_MAX;
    let what = "throughput lost, of the sums alone";
    figures.hold(what, rounded(share), "%", Kind::Timed, wanted, fine);
    Ok(())
}

/// CPU seconds of a token, the prompts behind it.
fn seconds_per_token(
    engine: &mut Engine,
    prompts: &Prompts,
    sizes: &FingerprintSizes,
) -> Result<f64> {
    let sequences = sizes.cost_sequences;
    let prompts: Vec<_> =
        (0..sequences as u64).map(|number| prompts.request(number).prompt).collect();
    let took = decode(engine, &prompts, false, sizes.cost_steps)?;
    Ok(took.cpu_seconds / (sizes.cost_steps * sequences) as f64)
}
