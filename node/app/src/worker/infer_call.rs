//! Between the wire's words for a call and the engine's.

use openledger_inference::{
    AdapterSetError, AdapterStoreError, FinishReason, PrepareError, Request, Sampling, ScoreError,
    SequenceError, SubmitError, Usage,
};
use openledger_models::{AdapterError, Model, SpecialTokens, TemplateError, Tokenizer};
use openledger_wire::call::{self, Call, CallEnd, CallFailure, CallToken, Prompt};
use openledger_wire::{BlobId, List, Prose};
use serde_json::Value;

use super::infer_tools::messages_of;
use crate::serving::{Wishes, codes, failure};

/// Milliseconds after which a caller that was turned away may ask again.
const AGAIN_MS: u32 = 1_000;

/// The tokens of a prompt.
///
/// # Errors
/// The template's.
pub(super) fn tokens_of(
    model: &Model,
    prompt: &Prompt,
    tools: &[Value],
) -> Result<Vec<u32>, CallFailure> {
    let tokenizer = model.tokenizer();
    match prompt {
        // What people write ends no turn, whatever it looks like.
        Prompt::Text(text) => Ok(tokenizer.encode_with_bos(text, SpecialTokens::AsText)),
        Prompt::Tokens(tokens) => Ok(tokens.to_vec()),
        Prompt::Chat(messages) => {
            let messages = messages_of(messages);
            let text = model.chat_template().render_with(&messages, tools, true);
            let text = text.map_err(|error| of_template(&error))?;
            Ok(chat_tokens(tokenizer, &text))
        }
    }
}

/// Templates of some models write the token that begins a text, others leave it to the tokenizer.
fn chat_tokens(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let plain = tokenizer.encode(text, SpecialTokens::Parse);
    let marked = tokenizer.encode_with_bos(text, SpecialTokens::Parse);
    let is_twice = marked.len() > plain.len() && marked.first() == plain.first();
    if is_twice { plain } else { marked }
}

/// Adapters with their weights, as the engine takes them.
pub(super) fn weights(adapters: &[(BlobId, u32)]) -> Vec<(BlobId, f32)> {
    adapters.iter().map(|(id, permille)| (*id, permille_of(f64::from(*permille)))).collect()
}

/// The engine's request for a call whose prompt has these tokens. Its answer is cut to what the
/// context and the engine's memory leave.
///
/// # Errors
/// A prompt that leaves nothing.
pub(super) fn request_of(
    call: &Call,
    prompt: Vec<u32>,
    context: usize,
    held: usize,
) -> Result<Request, CallFailure> {
    let (tokens, limit) = (prompt.len(), context.min(held));
    let room = limit.saturating_sub(tokens);
    if room == 0 && tokens >= context {
        let message = format!(
            "the prompt has {tokens} tokens, the model's context {context}; shorten the prompt"
        );
        return Err(failure(codes::CONTEXT, &message, 0));
    }
    if room == 0 {
        let message = format!(
            "the prompt has {tokens} tokens, this node holds {held}; shorten the prompt, or raise models.tokens_max on the node"
        );
        return Err(failure(codes::MEMORY, &message, 0));
    }
    let asked = usize::try_from(call.tokens_max).unwrap_or(usize::MAX);
    Ok(Request {
        prompt,
        adapters: weights(&call.adapters),
        tokens_max: asked.min(room),
        sampling: sampling_of(&call.sampling),
        stop: call.stop.iter().map(|text| text.to_owned().into_string()).collect(),
        logprobs: Some(call.top_logprobs).filter(|count| *count > 0),
        ..Request::greedy(Vec::new(), 0)
    })
}

/// Adds to a request what its caller wishes beyond the call, at a time of the engine's clock.
pub(super) fn grant(wishes: &Wishes, request: &mut Request, now_ms: u64) {
    request.sampling.min_p = permille_of(f64::from(wishes.min_p_permille));
    request.sampling.repetition_penalty = permille_of(f64::from(wishes.repetition_permille));
    let bias = |(token, permille): &(u32, i32)| (*token, permille_of(f64::from(*permille)));
    request.sampling.logit_bias = wishes.logit_bias_permille.iter().map(bias).collect();
    request.priority = wishes.priority();
    request.caller = wishes.caller_id();
    if let Some(merge) = &wishes.merge {
        request.merge = merge.of_engine();
    }
    let timeout_ms = u64::from(wishes.timeout_ms);
    request.deadline_ms = (timeout_ms > 0).then(|| now_ms.saturating_add(timeout_ms));
}

fn sampling_of(said: &call::Sampling) -> Sampling {
    Sampling {
        temperature: permille_of(f64::from(said.temperature_permille)),
        top_p: permille_of(f64::from(said.top_p_permille)),
        top_k: usize::try_from(said.top_k).unwrap_or(usize::MAX),
        seed: said.seed,
        presence_penalty: permille_of(f64::from(said.presence_permille)),
        frequency_penalty: permille_of(f64::from(said.frequency_permille)),
        ..Sampling::greedy()
    }
}

fn permille_of(thousandths: f64) -> f32 {
    (thousandths / 1_000.0) as f32
}

/// A probability's logarithm in millionths.
pub(super) fn micro(logprob: f32) -> i32 {
    (f64::from(logprob) * 1e6).round() as i32
}

/// The text of an answer on its way: what does not fit into one message goes with the next.
#[derive(Debug, Default)]
pub(super) struct Outgoing(String);

impl Outgoing {
    /// Adds text and takes what one message carries, whole characters only.
    pub(super) fn next(&mut self, text: &str) -> Prose<1024> {
        self.0.push_str(text);
        let taken = Prose::clipped(&self.0);
        self.0.drain(..taken.len());
        taken
    }
}

/// A token as the wire has it.
pub(super) fn token_of(
    tokenizer: &Tokenizer,
    token: u32,
    text: Prose<1024>,
    logprob: f32,
    top: &[(u32, f32)],
) -> CallToken {
    let named = |&(token, logprob): &(u32, f32)| {
        let bytes = tokenizer.token_bytes(token).unwrap_or_default();
        (token, Prose::clipped(&String::from_utf8_lossy(bytes)), micro(logprob))
    };
    let top: Vec<_> = top.iter().take(20).map(named).collect();
    CallToken {
        token,
        text,
        logprob_micro: micro(logprob),
        top: List::new(top).unwrap_or_default(),
    }
}

/// The end of an answer; none for one that the caller cancelled.
pub(super) fn end_of(reason: FinishReason, usage: Usage, text: Prose<1024>) -> Option<CallEnd> {
    let count = |tokens: usize| u32::try_from(tokens).unwrap_or(u32::MAX);
    let reason = match reason {
        FinishReason::Stop => call::FinishReason::Stop,
        FinishReason::Length => call::FinishReason::Length,
        FinishReason::Cancelled => return None,
    };
    Some(CallEnd {
        reason,
        text,
        prompt_tokens: count(usage.prompt_tokens),
        completion_tokens: count(usage.completion_tokens),
        cached_tokens: count(usage.cached_tokens),
        fingerprint: None,
    })
}

/// A vector as little-endian floats.
pub(super) fn bytes_of(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn of_template(error: &TemplateError) -> CallFailure {
    let code = match error {
        TemplateError::TooLong { .. } => codes::CONTEXT,
        _ => codes::TEMPLATE,
    };
    failure(code, &format!("failed to {error}"), 0)
}

fn of_adapters(error: &AdapterSetError) -> &'static str {
    match error {
        AdapterSetError::Unknown { .. }
        | AdapterSetError::Absent { .. }
        | AdapterSetError::Unavailable { .. } => codes::UNKNOWN_ADAPTER,
        AdapterSetError::TooLarge { .. } => codes::MEMORY,
        _ => codes::INVALID,
    }
}

pub(super) fn of_submit(error: &SubmitError) -> CallFailure {
    let (code, again) = match error {
        SubmitError::Context { .. } => (codes::CONTEXT, 0),
        SubmitError::Memory { .. } => (codes::MEMORY, 0),
        SubmitError::QueueFull { retry_after_ms, .. }
        | SubmitError::CallerFull { retry_after_ms, .. } => {
            (codes::BUSY, u32::try_from(*retry_after_ms).unwrap_or(u32::MAX))
        }
        SubmitError::Adapters(error) => (of_adapters(error), 0),
        SubmitError::Constraint(_) => (codes::CONSTRAINT, 0),
        _ => (codes::INVALID, 0),
    };
    failure(code, &format!("failed to {error}"), again)
}

pub(super) fn of_score(error: &ScoreError) -> CallFailure {
    let code = match error {
        ScoreError::TooMany { .. } => codes::CONTEXT,
        ScoreError::Adapters(error) => of_adapters(error),
        ScoreError::Empty | ScoreError::UnknownToken { .. } => codes::INVALID,
        _ => codes::ENGINE,
    };
    failure(code, &format!("failed to {error}"), 0)
}

pub(super) fn of_sequence(error: &SequenceError) -> CallFailure {
    let code = match error {
        SequenceError::Adapters(error) => of_adapters(error),
        SequenceError::Constraint { .. } => codes::CONSTRAINT,
        SequenceError::Deadline { .. } => codes::DEADLINE,
        _ => codes::ENGINE,
    };
    failure(code, &format!("failed to {error}"), 0)
}

pub(super) fn of_prepare(error: &PrepareError) -> CallFailure {
    let code = match error {
        PrepareError::OtherModel { .. } => codes::WRONG_BASE,
        PrepareError::Read(error) => return of_adapter(error),
        _ => codes::BAD_FILE,
    };
    failure(code, &format!("failed to {error}"), 0)
}

pub(super) fn of_store(error: &AdapterStoreError) -> CallFailure {
    let (code, again) = match error {
        AdapterStoreError::OtherModel { .. } => (codes::WRONG_BASE, 0),
        AdapterStoreError::Full { .. } => (codes::BUSY, AGAIN_MS),
        _ => (codes::MEMORY, 0),
    };
    failure(code, &format!("failed to {error}"), again)
}

pub(super) fn of_adapter(error: &AdapterError) -> CallFailure {
    let code = match error {
        AdapterError::Layer { .. } | AdapterError::Shape { .. } => codes::WRONG_BASE,
        _ => codes::BAD_FILE,
    };
    failure(code, &format!("failed to {error}"), 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::wishes::MergeWish;

    #[test]
    fn text_that_does_not_fit_goes_with_the_next_token() {
        let mut outgoing = Outgoing::default();
        let long = "\u{e4}".repeat(700);
        let first = outgoing.next(&long);
        assert_eq!(first.len(), 1_024);
        let rest = outgoing.next("x");
        assert_eq!(format!("{}{}", &*first, &*rest), format!("{long}x"));
        assert_eq!(&*outgoing.next(""), "");
    }

    #[test]
    fn wishes_reach_the_engine_in_its_own_numbers() {
        let mut request = Request::greedy(vec![1], 4);
        let plain = request.clone();
        grant(&Wishes::default(), &mut request, 5);
        assert_eq!(request, plain, "no wishes change nothing");
        let wishes = Wishes {
            min_p_permille: 50,
            repetition_permille: 1_150,
            logit_bias_permille: vec![(7, -100_000), (9, 2_500)],
            urgency: -1,
            caller: "ann".to_owned(),
            timeout_ms: 1_500,
            merge: Some(MergeWish { strategy: "ties".to_owned(), ..MergeWish::default() }),
            ..Wishes::default()
        };
        grant(&wishes, &mut request, 5);
        assert_eq!(request.deadline_ms, Some(1_505));
        assert_eq!(request.merge.strategy, openledger_inference::MergeStrategy::Ties);
        let sampling = &request.sampling;
        assert_eq!((sampling.min_p, sampling.repetition_penalty), (0.05, 1.15));
        assert_eq!(sampling.logit_bias, [(7, -100.0), (9, 2.5)].into());
        assert_eq!(request.priority, openledger_inference::Priority::Low);
        assert_eq!(request.caller, wishes.caller_id());
    }

    #[test]
    fn who_is_turned_away_is_told_when_to_come_again() {
        let failed = of_submit(&SubmitError::QueueFull { queued: 256, retry_after_ms: 2_345 });
        assert_eq!((&*failed.code, failed.retry_after_ms), (codes::BUSY, 2_345));
        let failed = of_submit(&SubmitError::CallerFull { queued: 64, retry_after_ms: u64::MAX });
        assert_eq!((&*failed.code, failed.retry_after_ms), (codes::BUSY, u32::MAX));
    }

    #[test]
    fn logarithms_that_are_infinite_are_the_least() {
        assert_eq!(micro(-0.5), -500_000);
        assert_eq!(micro(f32::NEG_INFINITY), i32::MIN);
    }
}
