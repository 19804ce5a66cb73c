//! Probabilities of tokens in the shapes of chat and of completions.

use openledger_wire::call::CallToken;
use serde_json::{Map, Value, json};

/// The token's own text: the likeliest tokens tell theirs, else what it added to the answer.
fn text_of(token: &CallToken) -> &str {
    let own = token.top.iter().find(|(id, _, _)| *id == token.token);
    own.map_or(&token.text, |(_, text, _)| text)
}

fn natural(micro: i32) -> f64 {
    f64::from(micro) / 1e6
}

/// One token of a chat's answer with so many alternatives.
pub(super) fn of_chat(token: &CallToken, top: usize) -> Value {
    let one = |text: &str, micro: i32| json!({ "token": text, "logprob": natural(micro), "bytes": text.as_bytes() });
    let alternatives: Vec<Value> =
        token.top.iter().take(top).map(|(_, text, micro)| one(text, *micro)).collect();
    let mut value = one(text_of(token), token.logprob_micro);
    value["top_logprobs"] = Value::Array(alternatives);
    value
}

/// Tokens of a completion with so many alternatives; `offset` is the number of characters before.
pub(super) fn of_completion(tokens: &[CallToken], top: usize, offset: usize) -> Value {
    let mut offset = offset;
    let mut offsets = Vec::new();
    let mut texts = Vec::new();
    let mut probabilities = Vec::new();
    let mut alternatives = Vec::new();
    for token in tokens {
        texts.push(text_of(token));
        probabilities.push(natural(token.logprob_micro));
        offsets.push(offset);
        offset += token.text.chars().count();
        let named = token.top.iter().take(top);
        let named: Map<String, Value> =
            named.map(|(_, text, micro)| (text.to_string(), json!(natural(*micro)))).collect();
        alternatives.push(Value::Object(named));
    }
    json!({
        "tokens": texts, "token_logprobs": probabilities, "top_logprobs": alternatives,
        "text_offset": offsets,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_wire::{List, Prose};

    #[test]
    fn a_token_inside_a_character_has_its_own_text_and_numbers_are_natural() {
        let top =
            vec![(8, Prose::clipped(" yes"), -250_000), (9, Prose::clipped(" no"), -1_500_000)];
        let token = CallToken {
            token: 9,
            text: Prose::clipped(""),
            logprob_micro: -1_500_000,
            top: List::new(top).unwrap(),
        };
        let chat = of_chat(&token, 1);
        assert_eq!(chat["token"], " no");
        assert_eq!(chat["logprob"], -1.5);
        assert_eq!(chat["bytes"], json!([32, 110, 111]));
        assert_eq!(chat["top_logprobs"].as_array().unwrap().len(), 1);
        assert_eq!(chat["top_logprobs"][0]["token"], " yes");
        let plain = CallToken { text: Prose::clipped("ab"), top: List::default(), ..token.clone() };
        let completion = of_completion(&[plain, token], 2, 10);
        assert_eq!(completion["tokens"], json!(["ab", " no"]));
        assert_eq!(completion["text_offset"], json!([10, 12]));
        assert_eq!(completion["top_logprobs"][1][" yes"], -0.25);
    }
}
