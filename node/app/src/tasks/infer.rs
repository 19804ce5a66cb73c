//! Infer: a prompt, one's own or a peer's, is answered by a model with its adapters.
//!
//! What is missing is fetched from peers that offer it, or from those who hold the prompt. The
//! answer is drawn with the task's seed, so that whoever has the same files can check each token.
//! Who is told the tokens of an answer writes none: he runs them through the model, and says in
//! numbers what it makes of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openledger_inference::of_class;
use openledger_wire::call::{
    Call, CallEnd, CallFailure, CallToken, FinishReason, Prompt, Sampling,
};
use openledger_wire::gossip::{Holder, Offer, OfferKind};
use openledger_wire::link::LeasedTask;
use openledger_wire::log::Role;
use openledger_wire::proof::{InferEvidence, InferFinish, InferOutput, ProofBody};
use openledger_wire::task::{InferTask, TaskKind};
use openledger_wire::{BlobId, List, Text, decode, limits as wire_limits};

use super::{Bench, Output, WorkError};
use crate::conduct::{Occasion, Shortcut};
use crate::limits;
use crate::serving::{Models, Offers, whole};
use crate::time;

/// What inference tasks of one network need.
#[derive(Clone)]
pub struct InferBench {
    /// The node's models.
    pub models: Arc<Models>,
    /// What peers of the network offer.
    pub offers: Arc<Offers>,
    /// Backend classes whose answers the network's rules compare.
    pub classes: Vec<String>,
    /// Whether its rules want fingerprints.
    pub with_evidence: bool,
}

impl Bench {
    pub(super) async fn infer(
        &self,
        leased: &LeasedTask,
        time_left: Duration,
    ) -> Result<Output, WorkError> {
        let task: InferTask = decode(&leased.spec.body, wire_limits::TASK_BODY_MAX)
            .map_err(|error| WorkError::Task(error.to_string()))?;
        let tokens_max = usize::try_from(task.tokens_max).unwrap_or(usize::MAX);
        if tokens_max == 0 || tokens_max > wire_limits::INFER_TOKENS_MAX {
            return Err(WorkError::Task(format!(
                "it asks for {tokens_max} tokens; 1 to {} are possible",
                wire_limits::INFER_TOKENS_MAX
            )));
        }
        let (output, prompt) = match self.conduct.shortcut(leased) {
            Some(Shortcut::Inferred(output)) => (output, Vec::new()),
            Some(Shortcut::Decline(why)) => return Err(WorkError::Declined(why)),
            Some(_) | None => {
                let work = self.answer(&task, leased);
                match tokio::time::timeout(time_left.min(limits::INFER_TIME_MAX), work).await {
                    Ok(answered) => answered?,
                    Err(_) => return Err(WorkError::Declined(super::LATE.to_owned())),
                }
            }
        };
        let occasion = Occasion { leased, page: &prompt };
        let output = self.conduct.infer_output(output, occasion);
        self.counts.inferences.fetch_add(1, Ordering::Relaxed);
        let body = ProofBody::of_version(TaskKind::Infer, output.version(), &output)?;
        Ok(Output { input: task.prompt, body })
    }

    /// The answer, with the prompt's bytes.
    async fn answer(
        &self,
        task: &InferTask,
        leased: &LeasedTask,
    ) -> Result<(InferOutput, Vec<u8>), WorkError> {
        let Some(here) = &self.infer else {
            return Err(WorkError::Declined("this node serves no models".to_owned()));
        };
        here.need(task, &leased.holders).await?;
        let bytes = match self.blobs.get(task.prompt).await? {
            Some(bytes) => bytes,
            None => {
                let max = wire_limits::PROMPT_MAX;
                let bytes = self.blobs.fetch(task.prompt, max, &leased.holders).await?;
                self.counts.from_peers.fetch_add(1, Ordering::Relaxed);
                bytes
            }
        };
        let prompt: Prompt = decode(&bytes, wire_limits::PROMPT_MAX)
            .map_err(|error| WorkError::Task(format!("its prompt: {error}")))?;
        let class = here.class(task, leased).await?;
        let call = call_of(task, prompt);
        let output = match &leased.answer {
            Some(tokens) => {
                let generated = List::new(tokens.to_vec())?;
                let check = here.models.serve.check(Call { generated, ..call }, &class).await;
                check.map_err(refused)?
            }
            None => {
                let stream = here.models.serve.work(call, &class).await;
                let (tokens, end) = whole(stream.map_err(refused)?).await.map_err(refused)?;
                let output = output_of(task, &tokens, &end, &class)?;
                if here.with_evidence { with_evidence(output, end)? } else { output }
            }
        };
        Ok((output, bytes.to_vec()))
    }
}

impl InferBench {
    /// The backend class to answer in, with an engine of it that has the model: the one that a check
    /// is told; else that in which this node serves, or the first of those that the rules compare.
    async fn class(&self, task: &InferTask, leased: &LeasedTask) -> Result<String, WorkError> {
        if leased.answer.is_some() && (leased.lease.role != Role::Auditor || !self.with_evidence) {
            let why =
                "it brings an answer to check, which only checks do under rules that want them";
            return Err(WorkError::Declined(why.to_owned()));
        }
        let mut refusal = None;
        for class in self.fitting(leased)? {
            match self.models.serve.info_in(task.model, &class).await {
                Ok(info) => return Ok(info.backend),
                // A device that is not there, or too small for this model.
                Err(failure) => refusal = Some(failure),
            }
        }
        Err(refusal.map_or_else(
            || {
                let listed = self.classes.join(", ");
                WorkError::Declined(format!(
                    "the rules compare {listed}, none of which is had here"
                ))
            },
            refused,
        ))
    }

    /// The classes that a lease may be done in, the best first.
    fn fitting(&self, leased: &LeasedTask) -> Result<Vec<String>, WorkError> {
        let fits = |class: &str| {
            self.classes.iter().any(|listed| listed == class) && of_class(class).is_some()
        };
        if let Some(told) = &leased.backend {
            return if fits(told) {
                Ok(vec![told.to_string()])
            } else {
                let why = format!("the answer to check is of class {told}, which is not had here");
                Err(WorkError::Declined(why))
            };
        }
        let serve = &self.models.serve;
        let own = [serve.class(), serve.inference().class()].map(str::to_owned);
        let exact = |class: &&String| of_class(class).is_some_and(|(kind, ..)| kind.exact());
        let first = self.classes.iter().find(exact).cloned();
        let mut fitting: Vec<String> = Vec::new();
        for class in own.into_iter().chain(first).filter(|class| fits(class)) {
            if !fitting.contains(&class) {
                fitting.push(class);
            }
        }
        Ok(fitting)
    }

    /// Makes sure that model and adapters are here.
    async fn need(&self, task: &InferTask, holders: &[Holder]) -> Result<(), WorkError> {
        self.get(task.model, OfferKind::Base, holders).await?;
        for (adapter, _) in &task.adapters {
            self.get(*adapter, OfferKind::Adapter { base: task.model }, holders).await?;
        }
        Ok(())
    }

    async fn get(
        &self,
        blob: BlobId,
        kind: OfferKind,
        holders: &[Holder],
    ) -> Result<(), WorkError> {
        if self.models.library.get(&blob).is_some_and(|entry| entry.problem.is_none()) {
            return Ok(());
        }
        let now = time::now();
        let offered = self.offers.of(blob, now).filter(|offer| offer.kind == kind);
        let mut from = self.offers.holders(blob, now);
        // Who holds the prompt may hold the rest, too.
        from.extend(
            holders
                .iter()
                .filter(|one| from.iter().all(|known| known.node != one.node))
                .cloned()
                .collect::<Vec<_>>(),
        );
        let unnamed = Offer { name: Text::default(), blob, bytes: 0, kind };
        let offer = offered.unwrap_or(unnamed);
        let got = self.models.obtain(&offer, &from).await;
        got.map(drop).map_err(|error| WorkError::Declined(format!("failed to {error}")))
    }
}

/// The task as a call: sampled as verifiers will, with nothing else about it.
fn call_of(task: &InferTask, prompt: Prompt) -> Call {
    Call {
        model: task.model,
        adapters: task.adapters.clone(),
        prompt,
        generated: List::default(),
        tokens_max: task.tokens_max,
        sampling: Sampling {
            temperature_permille: task.temperature_permille,
            top_p_permille: 1_000,
            top_k: 0,
            presence_permille: 0,
            frequency_permille: 0,
            seed: task.seed,
        },
        stop: List::default(),
        top_logprobs: 0,
        constraint: None,
        tools: None,
    }
}

fn output_of(
    task: &InferTask,
    tokens: &[CallToken],
    end: &CallEnd,
    backend: &str,
) -> Result<InferOutput, WorkError> {
    let finish = match end.reason {
        FinishReason::Stop => InferFinish::End,
        FinishReason::Length if tokens.len() as u64 >= u64::from(task.tokens_max) => {
            InferFinish::Length
        }
        FinishReason::Length => {
            return Err(WorkError::Declined(format!(
                "the prompt leaves room for {} of {} tokens on this node",
                tokens.len(),
                task.tokens_max
            )));
        }
    };
    let ids: Vec<u32> = tokens.iter().map(|token| token.token).collect();
    // Rounding may lead a millionth beyond certainty.
    let logprobs: Vec<i32> = tokens.iter().map(|token| token.logprob_micro.min(0)).collect();
    Ok(InferOutput {
        tokens: List::new(ids)?,
        logprobs_micro: List::new(logprobs)?,
        finish,
        fingerprint: BlobId::ZERO,
        backend: Text::clipped(backend),
        evidence: None,
    })
}

/// The output with the fingerprint of how it was computed.
fn with_evidence(output: InferOutput, end: CallEnd) -> Result<InferOutput, WorkError> {
    let fingerprint = end.fingerprint.ok_or(WorkError::OddAnswer("infer"))?;
    Ok(InferOutput {
        fingerprint: BlobId::of(&fingerprint),
        evidence: Some(InferEvidence { fingerprint, check: None }),
        ..output
    })
}

fn refused(failure: CallFailure) -> WorkError {
    WorkError::Refused(failure)
}
