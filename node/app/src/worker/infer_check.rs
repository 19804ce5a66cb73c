//! What a check of an answer found, in the words of a proof.

use openledger_inference::{Findings, VerifyError};
use openledger_rules::infer::{LOGPROB_MICRO_MIN, SLACK_MICRO_MAX};
use openledger_wire::bounded::TooLong;
use openledger_wire::call::CallFailure;
use openledger_wire::proof::{InferCheck, InferEvidence, InferFinish, InferOutput};
use openledger_wire::{Blob, BlobId, List, Text};

use super::infer_call::{micro, of_score, of_submit};
use crate::serving::{codes, failure};

/// What an engine of a class found of these tokens.
///
/// # Errors
/// More tokens than a proof holds.
pub(super) fn checked(
    tokens: &[u32],
    found: &Findings,
    class: &str,
) -> Result<InferOutput, CallFailure> {
    output(tokens, found, class).map_err(|error| {
        let message = format!("the answer to check is too long for a proof: {error}");
        failure(codes::INVALID, &message, 0)
    })
}

fn output(tokens: &[u32], found: &Findings, class: &str) -> Result<InferOutput, TooLong> {
    let fingerprint = Blob::new(found.fingerprint.to_bytes())?;
    let effect = found.effect.as_ref().map(openledger_inference::Fingerprint::to_bytes);
    let slacks: Vec<u32> = found.slacks.iter().map(|slack| slack_micro(*slack)).collect();
    let check = InferCheck {
        slacks_micro: List::new(slacks)?,
        effect: Blob::new(effect.unwrap_or_default())?,
    };
    let logprobs: Vec<i32> = found.logprobs.iter().map(|logprob| sound_micro(*logprob)).collect();
    Ok(InferOutput {
        tokens: List::new(tokens)?,
        logprobs_micro: List::new(logprobs)?,
        finish: if found.ends { InferFinish::End } else { InferFinish::Length },
        fingerprint: BlobId::of(&fingerprint),
        backend: Text::clipped(class),
        evidence: Some(InferEvidence { fingerprint, check: Some(check) }),
    })
}

/// Within what the rules speak of: what is impossible is very unlikely.
fn sound_micro(logprob: f32) -> i32 {
    micro(logprob).clamp(LOGPROB_MICRO_MIN, 0)
}

fn slack_micro(slack: f64) -> u32 {
    let micro = (slack * 1e6).clamp(0.0, f64::from(SLACK_MICRO_MAX));
    micro.ceil() as u32
}

/// Why nothing is known of the answer.
pub(super) fn of_verify(error: &VerifyError) -> CallFailure {
    match error {
        VerifyError::Request(error) => of_submit(error),
        VerifyError::Score(error) => of_score(error),
        _ => failure(codes::ENGINE, &format!("failed to {error}"), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_inference::Fingerprint;

    #[test]
    fn what_was_found_is_within_the_bounds_of_the_rules() {
        let found = Findings {
            logprobs: vec![f32::NEG_INFINITY, 1e-6, -0.5],
            slacks: vec![16.0, 0.000_000_1, 0.0],
            ends: true,
            fingerprint: Fingerprint::default(),
            effect: None,
        };
        let output = checked(&[5, 6, 2], &found, "cpu-int12-1").unwrap();
        assert_eq!(output.logprobs_micro[..], [LOGPROB_MICRO_MIN, 0, -500_000]);
        let check = output.check().unwrap();
        assert_eq!(check.slacks_micro[..], [SLACK_MICRO_MAX, 1, 0]);
        assert!(check.effect.is_empty() && output.finish == InferFinish::End);
        assert!(checked(&[0; 1_025], &found, "cpu-int12-1").is_err());
    }
}
