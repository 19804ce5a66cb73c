//! A client that chats with every adapter through several nodes, as any program would that knows
//! OpenAI's API, and what its calls earned: nothing.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail};
use openledger_wire::Points;
use reqwest::Client;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::launch::Network;
use crate::limits;
use crate::models::Models;
use crate::nodes::Member;

/// What every adapter is asked, so that answers can be compared.
const QUESTION: &str = "Tell me about your favourite place.";

/// What came of the calls.
#[derive(Clone, Debug, Default)]
pub struct Chats {
    /// Calls answered.
    pub answered: u64,
    /// Of these, by streaming.
    pub streamed: u64,
    /// Of these, through nodes that started without any model.
    pub through_others: u64,
    /// Every answer of each adapter; more than one where nodes disagree.
    pub answers: BTreeMap<String, BTreeSet<String>>,
    /// All points that were ever given for work when the calls began.
    pub points_before: Points,
}

impl Chats {
    /// Different answers, one of each adapter.
    #[must_use]
    pub fn voices(&self) -> u64 {
        let first = self.answers.values().filter_map(BTreeSet::first);
        first.collect::<BTreeSet<_>>().len() as u64
    }

    /// Adapters whose answer was not the same each time and at each node, though nothing was left
    /// to chance.
    #[must_use]
    pub fn unsteady(&self) -> u64 {
        self.answers.values().filter(|answers| answers.len() != 1).count() as u64
    }
}

#[derive(Deserialize)]
struct Answer {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    message: Words,
    #[serde(default)]
    delta: Words,
}

#[derive(Default, Deserialize)]
struct Words {
    #[serde(default)]
    content: Option<String>,
}

/// Asks every adapter through the first two honest nodes, which hold half of them each, and the
/// last two, which hold nothing; whole answers and streams.
///
/// # Errors
/// A call that is not answered.
pub async fn chat(
    network: &Network,
    models: &Models,
    points_before: Points,
) -> anyhow::Result<Chats> {
    let http = Client::builder().no_proxy().timeout(limits::CALL_TIME_MAX).build();
    let http = http.context("set up the HTTP client")?;
    let honest: Vec<&Member> =
        network.members.iter().filter(|member| member.part.is_honest()).collect();
    let first = honest.iter().take(2).enumerate();
    let last = honest.iter().enumerate().skip(honest.len().saturating_sub(2).max(2));
    let asked: Vec<_> = first.chain(last).collect();
    let mut chats = Chats { points_before, ..Chats::default() };
    for round in 0..limits::CHAT_ROUNDS {
        for (at, member) in &asked {
            for (n, adapter) in models.adapters.iter().enumerate() {
                let is_stream = (round + at + n) % 2 == 0;
                let text = call(&http, member, &adapter.name, is_stream).await;
                let text = text.with_context(|| {
                    format!("chat with {} through {}", adapter.name, member.name)
                })?;
                chats.answered += 1;
                chats.streamed += u64::from(is_stream);
                chats.through_others += u64::from(*at >= limits::MODEL_HOLDERS);
                chats.answers.entry(adapter.name.clone()).or_default().insert(text);
            }
        }
    }
    Ok(chats)
}

async fn call(
    http: &Client,
    member: &Member,
    model: &str,
    is_stream: bool,
) -> anyhow::Result<String> {
    let control = member.control_file().await?;
    let api = control.api.context("find the API: the node has none; see api.enabled")?;
    let body = json!({
        "model": model, "stream": is_stream, "temperature": 0, "seed": 7,
        "max_tokens": limits::CHAT_TOKENS_MAX,
        "messages": [{ "role": "user", "content": QUESTION }],
    });
    let url = format!("{}/chat/completions", api.trim_end_matches('/'));
    let answer = http.post(&url).bearer_auth(&control.token).json(&body).send().await;
    let answer = answer.context("ask the node")?;
    let status = answer.status();
    let text = answer.text().await.context("read the answer")?;
    if !status.is_success() {
        bail!("it answers {status}: {text}");
    }
    let words = if is_stream { streamed(&text)? } else { whole(&text)? };
    if words.trim().is_empty() {
        bail!("the answer is empty: {text}");
    }
    Ok(words)
}

fn whole(text: &str) -> anyhow::Result<String> {
    let answer: Answer = serde_json::from_str(text).context("understand the answer")?;
    let first = answer.choices.into_iter().next().and_then(|choice| choice.message.content);
    first.context("understand the answer: it has no choice")
}

/// The text of a stream, which must end as streams do.
fn streamed(text: &str) -> anyhow::Result<String> {
    let (mut words, mut is_done) = (String::new(), false);
    for event in text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim) {
        if event == "[DONE]" {
            is_done = true;
            continue;
        }
        let value: Value = serde_json::from_str(event).context("understand a stream")?;
        if let Some(error) = value.get("error") {
            bail!("the stream breaks off: {error}");
        }
        let piece: Answer = serde_json::from_value(value).context("understand a stream")?;
        words.extend(piece.choices.into_iter().filter_map(|choice| choice.delta.content));
    }
    if !is_done {
        bail!("the stream has no end: {text}");
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_put_together_and_broken_ones_noticed() {
        let piece = |text: &str| format!("data: {{\"choices\":[{{\"delta\":{text}}}]}}\n\n");
        let start = piece("{\"role\":\"assistant\"}") + &piece("{\"content\":\"a \"}");
        let end = piece("{\"content\":\"b\"}") + "data: {\"choices\":[]}\n\n";
        assert_eq!(streamed(&format!("{start}{end}data: [DONE]\n\n")).unwrap(), "a b");
        assert!(streamed(&format!("{start}{end}")).unwrap_err().to_string().contains("no end"));
        let broken = format!("{start}data: {{\"error\":{{\"code\":\"peer-lost\"}}}}\n\n");
        assert!(streamed(&broken).unwrap_err().to_string().contains("peer-lost"));
        assert_eq!(whole("{\"choices\":[{\"message\":{\"content\":\"c\"}}]}").unwrap(), "c");
    }

    #[test]
    fn voices_are_counted_and_unsteady_ones_noticed() {
        let mut chats = Chats::default();
        for (adapter, answer) in [("a", "x"), ("a", "x"), ("b", "y"), ("c", "y"), ("d", "z")] {
            chats.answers.entry(adapter.to_owned()).or_default().insert(answer.to_owned());
        }
        assert_eq!((chats.voices(), chats.unsteady()), (3, 0), "two of the four say the same");
        chats.answers.entry("d".to_owned()).or_default().insert("zz".to_owned());
        assert_eq!((chats.voices(), chats.unsteady()), (3, 1));
    }
}
