//! What a server sends: lines of a stream, and what they say.
//!
//! All of it is bounded before it is read: lines, chunks and bytes.

use openledger_wire::call::{CallEnd, CallFailure, CallToken, FinishReason};
use openledger_wire::{List, Prose};
use serde_json::Value;

use crate::limits;
use crate::serving::{codes, failure};

/// The event after the last one.
const DONE: &str = "[DONE]";

/// A server that says something odd.
pub(super) fn odd(why: &str) -> CallFailure {
    failure(codes::UPSTREAM, &format!("the server behind this node {why}"), 2_000)
}

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    bytes: Vec<u8>,
    all: usize,
}

impl Lines {
    /// Adds bytes; gives the lines that they complete.
    ///
    /// # Errors
    /// A line that is too long, or more bytes than `bytes_max` in all.
    pub(super) fn push(
        &mut self,
        piece: &[u8],
        bytes_max: usize,
    ) -> Result<Vec<String>, CallFailure> {
        self.all = self.all.saturating_add(piece.len());
        if self.all > bytes_max {
            return Err(odd("sends more than such an answer has"));
        }
        let mut lines = Vec::new();
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.bytes.extend_from_slice(part);
            if self.bytes.len() > limits::UPSTREAM_LINE_BYTES_MAX {
                return Err(odd("sends a line that is too long"));
            }
            if part.ends_with(b"\n") {
                let line = String::from_utf8_lossy(&self.bytes).trim().to_owned();
                self.bytes.clear();
                lines.push(line);
            }
        }
        Ok(lines)
    }

    /// What came after the last line's end.
    pub(super) fn rest(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.bytes)).trim().to_owned()
    }
}

/// An answer on its way.
#[derive(Debug)]
pub(super) struct Answer {
    is_chat: bool,
    tokens_max: u32,
    /// Pieces of text so far.
    pieces: u32,
    reason: Option<FinishReason>,
    usage: Option<Usage>,
    is_done: bool,
}

#[derive(Clone, Copy, Debug)]
struct Usage {
    prompt: u32,
    completion: u32,
    cached: u32,
}

impl Answer {
    pub(super) const fn new(is_chat: bool, tokens_max: u32) -> Self {
        Self { is_chat, tokens_max, pieces: 0, reason: None, usage: None, is_done: false }
    }

    /// Whether nothing more is waited for.
    pub(super) const fn is_done(&self) -> bool {
        self.is_done || (self.reason.is_some() && self.usage.is_some())
    }

    /// Whether the answer has ended, and only its usage may follow.
    pub(super) const fn has_ended(&self) -> bool {
        self.reason.is_some()
    }

    /// Reads one line of a stream of events.
    ///
    /// # Errors
    /// An error that the server sends, or what is no event.
    pub(super) fn line(&mut self, line: &str) -> Result<Vec<CallToken>, CallFailure> {
        // llama.cpp's server has lines of this name.
        if let Some(error) = line.strip_prefix("error:") {
            let value = serde_json::from_str(error.trim()).unwrap_or(Value::Null);
            return Err(of_error(&value));
        }
        // Comments, names of events, and the empty line between two of them.
        let Some(data) = line.strip_prefix("data:").map(str::trim) else { return Ok(Vec::new()) };
        if data == DONE {
            self.is_done = true;
            return Ok(Vec::new());
        }
        let chunk: Value =
            serde_json::from_str(data).map_err(|_| odd("sends an event that is no JSON"))?;
        self.chunk(&chunk)
    }

    /// Reads one chunk, or a whole answer.
    ///
    /// # Errors
    /// As [`Answer::line`].
    pub(super) fn chunk(&mut self, chunk: &Value) -> Result<Vec<CallToken>, CallFailure> {
        if let Some(error) = chunk.get("error").filter(|error| !error.is_null()) {
            return Err(of_error(error));
        }
        if let Some(usage) = chunk.get("usage").filter(|usage| usage.is_object()) {
            self.usage = Some(usage_of(usage));
        }
        let Some(choice) = chunk.get("choices").and_then(|choices| choices.get(0)) else {
            return if chunk.is_object() { Ok(Vec::new()) } else { Err(odd("sends no object")) };
        };
        let said = match self.is_chat {
            true => choice
                .get("delta")
                .or_else(|| choice.get("message"))
                .and_then(|part| part.get("content")),
            false => choice.get("text"),
        };
        let text = said.and_then(Value::as_str).unwrap_or_default();
        let tokens = if text.is_empty() { Vec::new() } else { self.tokens(text, choice) };
        self.pieces = self.pieces.saturating_add(u32::try_from(tokens.len()).unwrap_or(u32::MAX));
        // A token has a few bytes, and may come in as many pieces.
        if self.pieces > self.tokens_max.saturating_mul(8).saturating_add(64) {
            return Err(odd("sends more tokens than were asked for"));
        }
        match choice.get("finish_reason").and_then(Value::as_str) {
            Some("length") => self.reason = Some(FinishReason::Length),
            Some(_) => self.reason = Some(FinishReason::Stop),
            None => {}
        }
        Ok(tokens)
    }

    /// Text as tokens of the wire: the server's own ids are not known.
    fn tokens(&self, text: &str, choice: &Value) -> Vec<CallToken> {
        let (logprob_micro, mut top) = match self.is_chat {
            true => of_chat(choice),
            false => of_completion(choice),
        };
        let mut rest = text;
        let mut tokens = Vec::new();
        while !rest.is_empty() {
            let text: Prose<1024> = Prose::clipped(rest);
            // A character never has more bytes than a piece holds.
            rest = rest.get(text.len().max(1)..).unwrap_or_default();
            let top = List::new(std::mem::take(&mut top)).unwrap_or_default();
            tokens.push(CallToken { token: 0, text, logprob_micro, top });
        }
        tokens
    }

    /// The end, once the server has said all.
    ///
    /// # Errors
    /// The answer broke off.
    pub(super) fn end(&self) -> Result<CallEnd, CallFailure> {
        let reason = match (self.reason, self.is_done) {
            (Some(reason), _) => reason,
            (None, true) => FinishReason::Stop,
            (None, false) => return Err(odd("broke its answer off; ask again")),
        };
        let counted = Usage { prompt: 0, completion: self.pieces, cached: 0 };
        let Usage { prompt, completion, cached } = self.usage.unwrap_or(counted);
        Ok(CallEnd {
            reason,
            text: Prose::clipped(""),
            prompt_tokens: prompt,
            completion_tokens: completion,
            cached_tokens: cached.min(prompt),
            fingerprint: None,
        })
    }
}

fn usage_of(usage: &Value) -> Usage {
    let count = |value: Option<&Value>| {
        let count = value.and_then(Value::as_u64).unwrap_or(0);
        u32::try_from(count).unwrap_or(u32::MAX)
    };
    let details = usage.get("prompt_tokens_details");
    Usage {
        prompt: count(usage.get("prompt_tokens")),
        completion: count(usage.get("completion_tokens")),
        cached: count(details.and_then(|details| details.get("cached_tokens"))),
    }
}

type Top = Vec<(u32, Prose<1024>, i32)>;

fn micro(logprob: Option<&Value>) -> i32 {
    // A float to an integer saturates.
    (logprob.and_then(Value::as_f64).unwrap_or(0.0) * 1e6).round() as i32
}

fn of_chat(choice: &Value) -> (i32, Top) {
    let first = choice.get("logprobs").and_then(|all| all.get("content")?.get(0));
    let Some(first) = first else { return (0, Vec::new()) };
    let one = |value: &Value| {
        let text = value.get("token").and_then(Value::as_str).unwrap_or_default();
        (0, Prose::clipped(text), micro(value.get("logprob")))
    };
    let top = first.get("top_logprobs").and_then(Value::as_array);
    let top = top.map(|top| top.iter().take(20).map(one).collect()).unwrap_or_default();
    (micro(first.get("logprob")), top)
}

fn of_completion(choice: &Value) -> (i32, Top) {
    let Some(all) = choice.get("logprobs").filter(|all| all.is_object()) else {
        return (0, Vec::new());
    };
    let first = |name: &str| all.get(name).and_then(|list| list.get(0));
    let one = |(text, logprob): (&String, &Value)| (0, Prose::clipped(text), micro(Some(logprob)));
    let top = first("top_logprobs").and_then(Value::as_object);
    let mut top: Top = top.map(|top| top.iter().take(20).map(one).collect()).unwrap_or_default();
    top.sort_by_key(|(_, _, logprob)| std::cmp::Reverse(*logprob));
    (micro(first("token_logprobs")), top)
}

/// What a server says in place of an answer.
pub(super) fn of_error(error: &Value) -> CallFailure {
    let message = said(error);
    let code = error.get("code").and_then(Value::as_u64).unwrap_or(0);
    match code {
        400 => of_request(&message),
        429 | 503 => {
            failure(codes::BUSY, &format!("the server behind this node: {message}"), 1_000)
        }
        _ => odd(&format!("failed: {message}")),
    }
}

/// What a server says of a request that it refuses.
pub(super) fn of_request(message: &str) -> CallFailure {
    let small = message.to_lowercase();
    let is_context = ["context", "too long", "maximum model length"];
    let code = if is_context.iter().any(|word| small.contains(word)) {
        codes::CONTEXT
    } else {
        codes::INVALID
    };
    failure(code, &format!("the server behind this node refuses it: {message}"), 0)
}

/// The words in an error of any of the known forms.
pub(super) fn said(error: &Value) -> String {
    let message = error.get("message").or_else(|| error.get("detail")).unwrap_or(error);
    let text = match message.as_str() {
        Some(text) => text.to_owned(),
        None if message.is_null() => "it says nothing more".to_owned(),
        None => message.to_string(),
    };
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(value: &Value) -> String {
        format!("data: {value}")
    }

    #[test]
    fn a_stream_becomes_tokens_and_an_end() {
        let mut answer = Answer::new(true, 10);
        let chunk = |text: &str| event(&json!({"choices": [{"delta": {"content": text}}]}));
        assert!(answer.line(": ping").unwrap().is_empty());
        assert!(
            answer
                .line(&event(&json!({"choices": [{"delta": {"role": "assistant"}}]})))
                .unwrap()
                .is_empty()
        );
        assert_eq!(&*answer.line(&chunk("Hel")).unwrap()[0].text, "Hel");
        let long = "\u{e4}".repeat(1_500);
        let pieces = answer.line(&chunk(&long)).unwrap();
        assert_eq!(pieces.iter().map(|piece| &*piece.text).collect::<String>(), long);
        assert!(answer.end().is_err(), "it broke off");
        answer
            .line(&event(&json!({"choices": [{"delta": {}, "finish_reason": "length"}]})))
            .unwrap();
        assert!(answer.has_ended() && !answer.is_done());
        let usage = json!({"choices": [], "usage": {
            "prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 5},
        }});
        answer.line(&event(&usage)).unwrap();
        assert!(answer.is_done());
        let end = answer.end().unwrap();
        assert_eq!((end.reason, end.prompt_tokens), (FinishReason::Length, 9));
        assert_eq!((end.completion_tokens, end.cached_tokens), (4, 5));
    }

    #[test]
    fn probabilities_are_read_in_both_forms() {
        let mut chat = Answer::new(true, 4);
        let top = json!([{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1.5}]);
        let logprobs = json!({"content": [{"token": "a", "logprob": -0.5, "top_logprobs": top}]});
        let choice = json!({"delta": {"content": "a"}, "logprobs": logprobs});
        let token = &chat.chunk(&json!({ "choices": [choice] })).unwrap()[0];
        assert_eq!((token.logprob_micro, token.top.len()), (-500_000, 2));
        let mut plain = Answer::new(false, 4);
        let logprobs =
            json!({"token_logprobs": [-0.25], "top_logprobs": [{"b": -2.0, "a": -0.25}]});
        let choice = json!({"text": "a", "logprobs": logprobs});
        let token = &plain.chunk(&json!({ "choices": [choice] })).unwrap()[0];
        assert_eq!((token.logprob_micro, &*token.top[0].1), (-250_000, "a"));
    }

    #[test]
    fn what_is_odd_or_too_much_is_an_error() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(b"a\nb", 10).unwrap(), ["a"]);
        assert_eq!(lines.rest(), "b");
        assert!(lines.push(b"0123456789", 10).is_err());
        let long = vec![b'x'; limits::UPSTREAM_LINE_BYTES_MAX + 1];
        assert!(Lines::default().push(&long, usize::MAX).is_err());
        let mut answer = Answer::new(true, 1);
        assert!(answer.line("data: {").is_err());
        assert!(answer.line("data: [1]").is_err());
        let said = answer.line(r#"data: {"error": {"message": "no memory", "code": 500}}"#);
        assert!(said.unwrap_err().message.contains("no memory"));
        let busy = answer.line(r#"error: {"code": 503, "message": "loading"}"#).unwrap_err();
        assert_eq!(&*busy.code, codes::BUSY);
        assert_eq!(&*of_request("maximum context length is 5").code, codes::CONTEXT);
        let chunk = json!({"choices": [{"delta": {"content": "x"}}]});
        let all = (0..1_000).find_map(|_| answer.chunk(&chunk).err());
        assert!(all.unwrap().message.contains("more tokens"));
    }
}
