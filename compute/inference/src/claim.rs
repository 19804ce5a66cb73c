//! Whether an answer was computed as its fingerprint claims: tokens and fingerprint together.

use core::ops::ControlFlow;

use openledger_wire::ids::BlobId;

use crate::backend::RowOutput;
use crate::engine::Engine;
use crate::fingerprint::compare::Comparison;
use crate::fingerprint::{Fingerprint, Sketch, sketch};
use crate::limits::ADAPTER_WEIGHT_MAX;
use crate::plan::Wants;
use crate::request::Request;
use crate::score::ScoreError;
use crate::verify::{Tolerance, Verification, VerifyError};

/// An answer as somebody claims to have computed it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Claim<'a> {
    /// All its tokens, an end token included.
    pub tokens: &'a [u32],
    /// Of its last tokens; of all if it was not resumed.
    pub fingerprint: &'a Fingerprint,
}

/// What a check of a claim found.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimCheck {
    /// Tokens and fingerprint are such as an honest node could have made.
    pub accepted: bool,
    /// Of the tokens.
    pub tokens: Verification,
    /// Of the fingerprint; nothing if the tokens were rejected already, or if it is of more tokens
    /// than the answer has.
    pub fingerprint: Option<Comparison>,
}

impl Engine {
    /// Checks an answer with the fingerprint of how it was computed: one prefill, and two more for
    /// each adapter of the request, to know what that adapter does to the answer.
    ///
    /// # Errors
    /// As [`Engine::verify`].
    pub fn verify_claim(
        &mut self,
        request: &Request,
        claim: &Claim<'_>,
        tolerance: Tolerance,
    ) -> Result<ClaimCheck, VerifyError> {
        let mut own = Vec::with_capacity(claim.tokens.len());
        let mut take = |index: usize, hidden: &[f32]| own.push(sketch(hidden, index as u64));
        let tokens = self.verify_tokens(request, claim.tokens, tolerance, &mut take)?;
        let before = claim.tokens.len().checked_sub(claim.fingerprint.tokens());
        let (Some(before), true) = (before, tokens.accepted) else {
            return Ok(ClaimCheck { accepted: false, tokens, fingerprint: None });
        };
        let mut effects = Vec::with_capacity(request.adapters.len());
        for index in 0..request.adapters.len() {
            let Some((id, effect)) = self.effect(request, claim.tokens, index)? else { continue };
            effects.push((id, effect.get(before..).unwrap_or_default().to_vec()));
        }
        let own = own.get(before..).unwrap_or_default();
        let comparison = Comparison::new(claim.fingerprint, own, &effects);
        let accepted = comparison.within(&tolerance.fingerprint);
        Ok(ClaimCheck { accepted, tokens, fingerprint: Some(comparison) })
    }

    /// What an adapter of a request adds to an answer's sketches; nothing if it has no weight.
    fn effect(
        &mut self,
        request: &Request,
        answer: &[u32],
        index: usize,
    ) -> Result<Option<(BlobId, Vec<Sketch>)>, ScoreError> {
        let mut adapters = request.adapters.clone();
        let Some(part) = adapters.get_mut(index).filter(|part| part.1 != 0.0) else {
            return Ok(None);
        };
        let (id, weight) = *part;
        // Another weight than the request's, and one that requests may have.
        let factor = if weight.abs() * 2.0 <= ADAPTER_WEIGHT_MAX { 2.0 } else { 0.5 };
        part.1 = weight * factor;
        let with = self.sketches(request, answer, &adapters)?;
        adapters.remove(index);
        let without = self.sketches(request, answer, &adapters)?;
        let added = |(with, without): (&Sketch, &Sketch)| {
            core::array::from_fn(|i| match (with.get(i), without.get(i)) {
                (Some(with), Some(without)) => (with - without) / factor,
                _ => 0.0,
            })
        };
        Ok(Some((id, with.iter().zip(&without).map(added).collect())))
    }

    /// The fingerprint that one's own run of an answer gives: what an honest node of the same class
    /// would have claimed.
    ///
    /// # Errors
    /// Tokens that cannot be run.
    pub fn fingerprint_of(
        &mut self,
        request: &Request,
        answer: &[u32],
    ) -> Result<Fingerprint, ScoreError> {
        Ok(Fingerprint::new(&self.sketches(request, answer, &request.adapters)?))
    }

    /// The sketches that these adapters give for an answer's tokens.
    pub(crate) fn sketches(
        &mut self,
        request: &Request,
        answer: &[u32],
        adapters: &[(BlobId, f32)],
    ) -> Result<Vec<Sketch>, ScoreError> {
        let Some((_, fed)) = answer.split_last() else { return Ok(Vec::new()) };
        let tokens: Vec<u32> = request.prompt.iter().chain(fed).copied().collect();
        let first = request.prompt.len() - 1;
        let mut sketches = Vec::with_capacity(answer.len());
        let merge = request.merge;
        self.each_output(
            &tokens,
            adapters,
            merge,
            first,
            Wants::Hidden,
            &mut |position, output| {
                if let RowOutput::Hidden(hidden) = output {
                    sketches.push(sketch(&hidden, position as u64 + 1));
                }
                ControlFlow::Continue(())
            },
        )?;
        Ok(sketches)
    }
}
