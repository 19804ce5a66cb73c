//! A backend whose answers tell what its pages hold: the next token is a hash of all tokens that the
//! pages say came before, and of the adapters that wrote them. Whoever gets a page of somebody else's
//! gets another answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use openledger_inference::{
    AdapterSet, Backend, BackendError, Engine, EngineOptions, RowOutput, StepPlan, Wants,
};

use crate::tiny::{self, VOCAB};

/// What a position of a page holds: a token, and the adapters under which it was run.
type Cell = Option<(u32, u64)>;

pub(crate) struct Echo {
    /// `[pages, page_tokens]`.
    cells: Vec<Cell>,
    page_tokens: usize,
    fails: Arc<AtomicBool>,
}

fn mix(hash: u64, value: u64) -> u64 {
    let mixed = (hash ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 29)
}

/// What stands for adapters with their weights.
pub(crate) fn tag(parts: impl Iterator<Item = (u64, f32)>) -> u64 {
    parts
        .fold(7, |tag, (generation, weight)| mix(mix(tag, generation), u64::from(weight.to_bits())))
}

fn tag_of(adapters: &AdapterSet) -> u64 {
    tag(adapters.parts().iter().map(|(adapter, weight)| (adapter.generation().0, *weight)))
}

/// The token that follows these.
pub(crate) fn next(tokens: impl Iterator<Item = u32>, tag: u64) -> u32 {
    let hash = tokens.fold(tag, |hash, token| mix(hash, u64::from(token)));
    (mix(hash, 1) % VOCAB as u64) as u32
}

/// The whole answer to a prompt.
pub(crate) fn answer(prompt: &[u32], tokens_max: usize, tag: u64) -> Vec<u32> {
    let mut tokens = prompt.to_vec();
    for _ in 0..tokens_max {
        tokens.push(next(tokens.iter().copied(), tag));
    }
    tokens.split_off(prompt.len())
}

impl Backend for Echo {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn run(&mut self, plan: &StepPlan) -> Result<Vec<RowOutput>, BackendError> {
        if self.fails.swap(false, Ordering::Relaxed) {
            // What the pages hold is lost, too.
            self.cells.fill(None);
            return Err(BackendError::Device { what: "a cable was pulled".to_owned() });
        }
        let mut outputs = Vec::new();
        for row in &plan.rows {
            let sequence = &plan.sequences[row.sequence];
            let tag = tag_of(&sequence.adapters);
            let cell = |position: usize| {
                sequence.pages[position / self.page_tokens] as usize * self.page_tokens
                    + position % self.page_tokens
            };
            let own = cell(row.position);
            self.cells[own] = Some((row.token, tag));
            let read = |position| {
                // Nothing there is a page that was never run.
                let (token, by) = self.cells[cell(position)].unwrap();
                assert_eq!(by, tag, "run under other adapters");
                token
            };
            let token = next((0..=row.position).map(read), tag);
            outputs.push(match row.wants {
                Wants::Nothing => RowOutput::Nothing,
                Wants::Logits => {
                    let mut logits = vec![0.0; VOCAB];
                    logits[token as usize] = 20.0;
                    RowOutput::Logits { logits, hidden: vec![0.0] }
                }
                Wants::Hidden => RowOutput::Hidden(vec![1.0]),
            });
        }
        Ok(outputs)
    }
}

/// An engine on such a backend, and what makes its next step fail.
pub(crate) fn engine(options: EngineOptions) -> (Engine, Arc<AtomicBool>) {
    let fails = Arc::new(AtomicBool::new(false));
    let cells = vec![None; options.pages_max * options.page_tokens];
    let page_tokens = options.page_tokens;
    let backend = Box::new(Echo { cells, page_tokens, fails: Arc::clone(&fails) });
    (Engine::with_backend(tiny::model(), options, backend).unwrap(), fails)
}
