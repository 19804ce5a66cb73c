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

    /// Runs a plan: one output per row, in order.
    ///
    /// # Errors
    /// A plan that does not fit, or a device that failed.
    fn run(&mut self, plan: &StepPlan) -> Result<Vec<RowOutput>, BackendError>;
}
