//! What infer tasks ask and what came of them, as the API and the pages show it: models, counts and
//! verdicts, never the words of a prompt or an answer.

use openledger_ledger::LedgerError;
use openledger_wire::log::Verdict;
use openledger_wire::proof::{InferFinish, InferOutput, Proof};
use openledger_wire::task::InferTask;
use openledger_wire::{BlobId, ProofId};
use serde::Serialize;

use super::{Api, Failed};
use crate::figures::Inference;
use crate::inference::{Named, Names};
use crate::limits;

/// What an infer task asks for.
#[derive(Debug, Clone, Serialize)]
pub(super) struct AskedView {
    pub(super) model: Named,
    pub(super) adapters: Vec<AdapterView>,
    /// The prompt's blob, which those who do the task fetch.
    pub(super) prompt: BlobId,
    pub(super) tokens_max: u32,
    pub(super) temperature_permille: u32,
    /// Answers agree if each token is the same and its natural log-probability differs by at most
    /// this, in millionths; none where the rule set does not judge answers.
    pub(super) tolerance_micro: Option<u32>,
}

/// An adapter with its weight.
#[derive(Debug, Clone, Serialize)]
pub(super) struct AdapterView {
    #[serde(flatten)]
    pub(super) adapter: Named,
    pub(super) weight_permille: u32,
}

/// An accepted answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct AnswerView {
    pub(super) tokens: usize,
    /// `end` if the model ended it, `length` if it reached the task's limit.
    pub(super) finish: &'static str,
    /// Backend class that ran.
    pub(super) backend: String,
}

pub(super) fn asked(api: &Api, task: &InferTask) -> AskedView {
    let adapter = |(id, weight_permille): &(BlobId, u32)| AdapterView {
        adapter: api.names.of(*id),
        weight_permille: *weight_permille,
    };
    AskedView {
        model: api.names.of(task.model),
        adapters: task.adapters.iter().map(adapter).collect(),
        prompt: task.prompt,
        tokens_max: task.tokens_max,
        temperature_permille: task.temperature_permille,
        tolerance_micro: api.rules.infer.as_ref().map(|infer| infer.logprob_tolerance_micro),
    }
}

/// What an accepted proof of an infer task says of its answer; nothing if it is a check of given
/// tokens, which is none. The rules have read it before.
pub(super) async fn answer(api: &Api, proof: ProofId) -> Result<Option<AnswerView>, Failed> {
    let Some(envelope) = api.ledger.proof(proof).await? else { return Ok(None) };
    let Ok(opened) = envelope.open::<Proof>(api.network) else { return Ok(None) };
    let output: InferOutput = opened.value.body.read().map_err(LedgerError::from)?;
    if output.check().is_some() {
        return Ok(None);
    }
    let finish = match output.finish {
        InferFinish::End => "end",
        InferFinish::Length => "length",
    };
    let backend = output.backend.to_string();
    Ok(Some(AnswerView { tokens: output.tokens.len(), finish, backend }))
}

/// Inference work of a campaign.
#[derive(Debug, Clone, Serialize)]
pub(super) struct InferenceView {
    /// Tasks logged.
    pub(super) tasks: u64,
    /// Tasks with an accepted answer.
    pub(super) answered: u64,
    /// Proofs accepted, checks included.
    pub(super) accepted: u64,
    pub(super) rejected: u64,
    pub(super) inconclusive: u64,
    pub(super) models: usize,
    /// The first of them.
    pub(super) models_named: Vec<Named>,
    pub(super) adapters: usize,
    /// The first of them.
    pub(super) adapters_named: Vec<Named>,
}

pub(super) fn inference(of: &Inference, names: &Names) -> InferenceView {
    let count = |verdict| of.verdicts.get(&verdict).copied().unwrap_or(0);
    let named = |ids: &std::collections::BTreeSet<BlobId>| {
        ids.iter().take(limits::MODELS_SHOWN_MAX).map(|id| names.of(*id)).collect()
    };
    InferenceView {
        tasks: of.tasks,
        answered: of.answered,
        accepted: count(Verdict::Accepted),
        rejected: count(Verdict::Rejected),
        inconclusive: count(Verdict::Inconclusive),
        models: of.models.len(),
        models_named: named(&of.models),
        adapters: of.adapters.len(),
        adapters_named: named(&of.adapters),
    }
}
