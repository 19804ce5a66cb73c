//! What runs a step: the seam between scheduling and devices.

use thiserror::Error;

use crate::plan::StepPlan;

/// What came out of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum RowOutput {
    /// Nothing was wanted.
    Nothing,
    /// What draws the next token.
    Logits {
        /// Its logits, `[vocab]`.
        logits: Vec<f32>,
        /// The hidden state after the last norm that they were made from, `[hidden]`: what a
        /// fingerprint is taken of.
        hidden: Vec<f32>,
    },
    /// What draws the next token where only the likeliest can be drawn.
    Likeliest {
        /// The likeliest tokens with their logits, likeliest first and among equals the lowest id
        /// first; none if the logits were not all numbers.
        tokens: Vec<(u32, f32)>,
        /// The logarithm of the sum of the exponentials of all logits.
        log_sum_exp: f32,
        /// As of [`RowOutput::Logits`].
        hidden: Vec<f32>,
    },
    /// Hidden state after the last norm, `[hidden]`.
    Hidden(Vec<f32>),
}

/// Why a backend could not run a step.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendError {
    /// The plan contradicts the model or the backend's memory: a fault of this program.
    #[error("run a step: {what}; this is a fault of the program, please report it")]
    Plan {
        /// What does not fit.
        what: String,
    },
    /// The device cannot be used at all: it is not there, or the model does not fit.
    #[error("load the model onto a device: {what}")]
    Load {
        /// What is wrong, and what would help.
        what: String,
    },
    /// The device failed; keys and values are lost.
    #[error("run a step: the device failed: {what}")]
    Device {
        /// What it said.
        what: String,
    },
}

/// Runs steps of one model, and holds the keys and values of its pages.
///
/// A row's result must not depend on the other rows of the plan, except earlier rows of its own
/// sequence. After an error nothing is expected of the pages' contents.
pub trait Backend: Send {
    /// What `status` calls it.
    fn name(&self) -> &'static str;

    /// What it runs on, in words: a tier of kernels and threads, or a device.
    fn device(&self) -> String {
        String::new()
    }

    /// Whether it will never run a step again, as after a device was lost too often: whoever holds
    /// the engine makes another, on the processor.
    fn is_gone(&self) -> bool {
        false
    }

    /// Whether it runs adapters. An engine on one that does not refuses requests that name any.
    fn takes_adapters(&self) -> bool {
        true
    }

    /// Runs a plan: one output per row, in order.
    ///
    /// # Errors
    /// A plan that does not fit, or a device that failed.
    fn run(&mut self, plan: &StepPlan) -> Result<Vec<RowOutput>, BackendError>;

    /// How many of a row's likeliest tokens it can give instead of all logits; 0 if it cannot, as
    /// where the logits are at hand anyway.
    fn likeliest_max(&self) -> usize {
        0
    }

    /// Runs a plan some of whose rows are drawn from by their likeliest tokens: `counts` has how
    /// many of each row, at most [`Backend::likeliest_max`]; 0 where all logits are wanted. More
    /// than asked for may come back, or all logits.
    ///
    /// # Errors
    /// As [`Backend::run`].
    fn run_likeliest(
        &mut self,
        plan: &StepPlan,
        counts: &[usize],
    ) -> Result<Vec<RowOutput>, BackendError> {
        let _ = counts;
        self.run(plan)
    }
}
