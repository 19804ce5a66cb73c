//! What our operators know of the step that a graph runs: its rows, in one part per thread.
//!
//! The library calls an operator with numbers alone. Pages, positions and adapters are told here
//! before the graph runs.

use std::sync::{Mutex, MutexGuard, PoisonError};

use openledger_kernels::fused::{RopeTable, lora};
use openledger_kernels::packed::{Activations, Digits};
use openledger_kernels::reference::AttentionShape;
use openledger_kernels::{Pool, ShapeError};
use openledger_models::{ModelConfig, Site};
use ort::operator::ComputeContext;

use crate::backend::BackendError;
use crate::cpu::groups::Groups;
use crate::plan::StepPlan;

/// What the operators of a graph share.
pub(super) struct Shared {
    pub(super) config: ModelConfig,
    pub(super) shape: AttentionShape,
    /// Of one thread: the library's own threads call the kernels.
    pub(super) pool: Pool,
    step: Mutex<Step>,
}

/// The present step.
#[derive(Default)]
pub(super) struct Step {
    pub(super) parts: Vec<Mutex<Part>>,
    /// What an operator found wrong.
    pub(super) fault: Option<String>,
}

/// Consecutive rows of a step, and buffers for them.
pub(super) struct Part {
    pub(super) plan: StepPlan,
    /// The first of them in the step.
    pub(super) first: usize,
    pub(super) turns: RopeTable,
    pub(super) local_turns: Option<RopeTable>,
    /// Whether any row has an adapter.
    adapted: bool,
    /// Rows by adapter.
    order: Vec<u32>,
    inputs: Activations,
    pub(super) q: Vec<f32>,
    pub(super) k: Vec<f32>,
    pub(super) v: Vec<f32>,
    pub(super) scores: Vec<f32>,
    fault: Option<ShapeError>,
}

/// Nothing that a lock of this module guards outlives a step that failed.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(config: ModelConfig, shape: AttentionShape) -> Self {
        Self { config, shape, pool: Pool::new(1), step: Mutex::new(Step::default()) }
    }

    pub(super) fn step(&self) -> MutexGuard<'_, Step> {
        locked(&self.step)
    }

    /// Sets the rows of the next run, in at most so many parts.
    ///
    /// # Errors
    /// A row of a sequence that the plan does not have.
    pub(super) fn begin(
        &self,
        plan: &StepPlan,
        parts: usize,
        turns: &RopeTable,
        local_turns: Option<&RopeTable>,
    ) -> Result<(), BackendError> {
        plan.seen()?;
        let share = plan.rows.len().div_ceil(parts.max(1)).max(1);
        let mut step = self.step();
        let mut kept = core::mem::take(&mut step.parts).into_iter();
        step.fault = None;
        for (number, rows) in plan.rows.chunks(share).enumerate() {
            let mut part = match kept.next() {
                Some(part) => part.into_inner().unwrap_or_else(PoisonError::into_inner),
                None => Part::new(turns.clone(), local_turns.cloned()),
            };
            part.plan = StepPlan { rows: rows.to_vec(), sequences: plan.sequences.clone() };
            part.begin(number * share);
            step.parts.push(Mutex::new(part));
        }
        Ok(())
    }

    /// Lets go of what the step held: adapters above all.
    pub(super) fn end(&self) -> Option<String> {
        let mut step = self.step();
        for part in &step.parts {
            locked(part).plan = StepPlan::default();
        }
        step.fault.take()
    }
}

impl Part {
    fn new(turns: RopeTable, local_turns: Option<RopeTable>) -> Self {
        Self {
            plan: StepPlan::default(),
            first: 0,
            turns,
            local_turns,
            adapted: false,
            order: Vec::new(),
            inputs: Activations::new(),
            q: Vec::new(),
            k: Vec::new(),
            v: Vec::new(),
            scores: Vec::new(),
            fault: None,
        }
    }

    fn begin(&mut self, first: usize) {
        self.first = first;
        self.fault = None;
        let rows = &self.plan.rows;
        let sequence_of = |row: &crate::plan::Row| self.plan.sequences.get(row.sequence);
        self.adapted = rows
            .iter()
            .filter_map(sequence_of)
            .any(|sequence| !sequence.adapters.parts().is_empty());
        self.turns.fill(rows.iter().map(|row| row.position));
        if let Some(local) = &mut self.local_turns {
            local.fill(rows.iter().map(|row| row.position));
        }
    }

    /// The part's own rows of `[rows, width]`.
    pub(super) fn own<'x>(&self, x: &'x [f32], width: usize) -> &'x [f32] {
        let (first, count) = (self.first * width, self.plan.rows.len() * width);
        x.get(first..first + count).unwrap_or_default()
    }

    /// Whether adapters have anything to add.
    pub(super) const fn adapted(&self) -> bool {
        self.adapted
    }

    /// Adds what the rows' adapters make of `x`, `[rows, cols]`, at sites of a layer.
    pub(super) fn adapt<const N: usize>(
        &mut self,
        pool: &Pool,
        layer: usize,
        x: &[f32],
        cols: usize,
        outs: [(Site, &mut [f32]); N],
    ) -> Result<(), ShapeError> {
        if !self.adapted {
            return Ok(());
        }
        self.inputs.quantize(pool, x, cols, Digits::All)?;
        let rows = self.plan.rows.len().max(1);
        let groups = Groups::new(&self.plan, &mut self.order);
        let mut found = Vec::with_capacity(groups.len());
        for (site, out) in outs {
            groups.at(layer, site, &mut found);
            let width = out.len() / rows;
            lora(pool, &found, &self.inputs, out, width)?;
        }
        Ok(())
    }
}

/// Has the library's threads work on the parts of a step, each with its own rows of `out`.
pub(super) fn each_part(
    context: &ComputeContext,
    step: &Step,
    out: &mut [f32],
    width: usize,
    work: impl Fn(&mut Part, &mut [f32]) -> Result<(), ShapeError> + Sync + Send,
) -> ort::Result<()> {
    let mut rest = out;
    let mut shares = Vec::with_capacity(step.parts.len());
    for part in &step.parts {
        let len = locked(part).plan.rows.len() * width;
        let (own, after) = rest.split_at_mut(len.min(rest.len()));
        shares.push(Mutex::new(own));
        rest = after;
    }
    let run = |index: usize| {
        let (Some(part), Some(share)) = (step.parts.get(index), shares.get(index)) else { return };
        let mut part = locked(part);
        part.fault = work(&mut part, &mut locked(share)).err();
    };
    match step.parts.len() {
        1 => run(0),
        count => context.par_for(count, count, run)?,
    }
    let fault = step.parts.iter().find_map(|part| locked(part).fault.clone());
    fault.map_or(Ok(()), |fault| Err(ort::Error::new(fault.to_string())))
}
