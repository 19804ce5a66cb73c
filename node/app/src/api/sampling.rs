//! The fields that chat and completions share: how tokens are chosen, and when to stop.

use openledger_inference::limits::LOGIT_BIASES_MAX;
use openledger_wire::call::Sampling;
use openledger_wire::{BlobId, List, Prose, limits as wire_limits};
use serde_json::Value;

use super::ApiFailure;
use super::fields::Fields;
use crate::limits;
use crate::serving::{Wishes, codes, failure};

/// Characters of a caller's name; OpenAI's longest is 64.
const USER_CHARS_MAX: usize = 256;

/// Texts that end an answer.
pub(super) type Stops = List<Prose<64>, 4>;

/// Whether an answer is streamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Streaming {
    /// Whether it is.
    pub(super) wanted: bool,
    /// Whether the last event tells the usage.
    pub(super) usage: bool,
}

/// How tokens are chosen. Without a seed every call draws anew.
///
/// # Errors
/// Numbers out of range; no randomness.
pub(super) fn sampling(fields: &Fields) -> Result<Sampling, ApiFailure> {
    let at_least_0 = |permille: i32| u32::try_from(permille).unwrap_or(0);
    let top_p = fields.permille("top_p", 0..=1_000, 1_000)?.max(1);
    let top_k = fields.whole("top_k", 0..=u64::from(u32::MAX))?.unwrap_or(0);
    Ok(Sampling {
        temperature_permille: at_least_0(fields.permille("temperature", 0..=2_000, 1_000)?),
        top_p_permille: u16::try_from(top_p).unwrap_or(1_000),
        top_k: u32::try_from(top_k).unwrap_or(0),
        presence_permille: fields.permille("presence_penalty", -2_000..=2_000, 0)?,
        frequency_permille: fields.permille("frequency_penalty", -2_000..=2_000, 0)?,
        seed: seed(fields)?,
    })
}

fn seed(fields: &Fields) -> Result<[u8; 32], ApiFailure> {
    let Some(value) = fields.get("seed") else {
        let mut seed = [0; 32];
        return match getrandom::fill(&mut seed) {
            Ok(()) => Ok(seed),
            Err(_) => {
                let message = "the system gave no randomness; send a seed, or try again";
                Err(ApiFailure::of_call(&failure(codes::ENGINE, message, 1_000), "seed"))
            }
        };
    };
    let number = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
    let number =
        number.ok_or_else(|| ApiFailure::invalid("seed", "seed must be a whole number"))?;
    Ok(BlobId::of(format!("openledger api seed {number}").as_bytes()).0)
}

/// Tokens of the answer at most, by the first of these fields that is there.
///
/// # Errors
/// A number out of range.
pub(super) fn tokens_max(fields: &Fields, names: &[&str], absent: u32) -> Result<u32, ApiFailure> {
    for name in names {
        let max = wire_limits::CALL_TOKENS_MAX as u64;
        if let Some(tokens) = fields.whole(name, 1..=max)? {
            return Ok(u32::try_from(tokens).unwrap_or(absent));
        }
    }
    Ok(absent)
}

/// Texts that end the answer: one, or up to four.
///
/// # Errors
/// Too many, too long, or no texts.
pub(super) fn stops(fields: &Fields) -> Result<Stops, ApiFailure> {
    let wrong = || {
        let message = "stop must be a text of 1 to 64 bytes, or a list of up to four of them";
        ApiFailure::invalid("stop", message)
    };
    let one = |value: &Value| {
        let text = value.as_str().filter(|text| !text.is_empty())?;
        Prose::new(text).ok()
    };
    let texts: Option<Vec<_>> = match fields.get("stop") {
        None => Some(Vec::new()),
        Some(Value::Array(texts)) => texts.iter().map(one).collect(),
        Some(text) => one(text).map(|text| vec![text]),
    };
    List::new(texts.ok_or_else(wrong)?).map_err(|_| wrong())
}

/// Whether and how the answer is streamed.
///
/// # Errors
/// `stream_options` without `stream`.
pub(super) fn streaming(fields: &Fields) -> Result<Streaming, ApiFailure> {
    let wanted = fields.flag("stream")?;
    let usage = match fields.get("stream_options") {
        None => false,
        Some(_) if !wanted => {
            let message = "stream_options is only allowed with stream: true";
            return Err(ApiFailure::invalid("stream_options", message));
        }
        Some(options) => options.get("include_usage").and_then(Value::as_bool).unwrap_or(false),
    };
    Ok(Streaming { wanted, usage })
}

/// Refuses what neither chat nor completions do here and what would change the answer.
///
/// # Errors
/// The field's name.
pub(super) fn refuse_unsupported(fields: &Fields) -> Result<(), ApiFailure> {
    let is_one = |value: &Value| value.as_u64() == Some(1);
    fields.refuse("n", is_one, "one answer per request; ask again for another")?;
    fields.refuse("best_of", is_one, "one answer per request; ask again for another")
}

/// What only this machine's engine does, and who asks how urgently: `min_p` and
/// `repetition_penalty` as vLLM has them, `logit_bias` and `user` as OpenAI has them, `priority` as a
/// word, or as vLLM's number, the lower the sooner.
///
/// # Errors
/// Numbers out of range; anything else.
pub(super) fn wishes(fields: &Fields) -> Result<Wishes, ApiFailure> {
    let min_p = fields.permille("min_p", 0..=1_000, 0)?;
    let repetition = fields.permille("repetition_penalty", 250..=4_000, 1_000)?;
    Ok(Wishes {
        min_p_permille: u16::try_from(min_p).unwrap_or(0),
        repetition_permille: u32::try_from(repetition).unwrap_or(1_000),
        logit_bias_permille: logit_bias(fields)?,
        urgency: urgency(fields)?,
        caller: fields.text("user")?.unwrap_or_default().chars().take(USER_CHARS_MAX).collect(),
        timeout_ms: timeout_ms(fields)?,
        merge: None,
        fingerprint: false,
    })
}

/// The seconds after which a call that has not begun is of no use.
fn timeout_ms(fields: &Fields) -> Result<u32, ApiFailure> {
    let most_s = 3_600;
    let ms = fields.permille("timeout", 0..=most_s * 1_000, 0)?;
    Ok(u32::try_from(ms).unwrap_or(0))
}

fn logit_bias(fields: &Fields) -> Result<Vec<(u32, i32)>, ApiFailure> {
    let wrong = || {
        let message = format!(
            "logit_bias must map up to {LOGIT_BIASES_MAX} token ids to numbers from -100 to 100"
        );
        ApiFailure::invalid("logit_bias", message)
    };
    let biases = match fields.get("logit_bias") {
        None => return Ok(Vec::new()),
        Some(Value::Object(biases)) if biases.len() <= LOGIT_BIASES_MAX => biases,
        Some(_) => return Err(wrong()),
    };
    let one = |(token, bias): (&String, &Value)| {
        let token = token.parse::<u32>().ok()?;
        let bias = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias))?;
        // Within the range, so it fits.
        Some((token, (bias * 1e3).round() as i32))
    };
    biases.iter().map(one).collect::<Option<Vec<_>>>().ok_or_else(wrong)
}

fn urgency(fields: &Fields) -> Result<i8, ApiFailure> {
    let wrong = || {
        let message = "priority must be low, normal or high, or a whole number, the lower the sooner, 0 as usual";
        ApiFailure::invalid("priority", message)
    };
    match fields.get("priority") {
        None => Ok(0),
        Some(Value::String(word)) => match word.as_str() {
            "low" => Ok(-1),
            "normal" => Ok(0),
            "high" => Ok(1),
            _ => Err(wrong()),
        },
        Some(number) => match number.as_i64() {
            Some(number) => Ok(if number > 0 { -1 } else { i8::from(number < 0) }),
            None => Err(wrong()),
        },
    }
}

/// How many likeliest tokens to name with each; one at least, since it tells the token's own text.
pub(super) fn named(top: u64) -> u8 {
    let top = top.clamp(1, limits::API_TOP_LOGPROBS_MAX);
    u8::try_from(top).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(value: &Value) -> Fields {
        Fields::parse(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn defaults_are_those_of_openai_and_seeds_repeat() {
        let plain = sampling(&fields(&json!({}))).unwrap();
        assert_eq!(
            (plain.temperature_permille, plain.top_p_permille, plain.top_k),
            (1_000, 1_000, 0)
        );
        assert_ne!(plain.seed, sampling(&fields(&json!({}))).unwrap().seed);
        let seeded = |seed: Value| sampling(&fields(&json!({ "seed": seed }))).unwrap().seed;
        assert_eq!(seeded(json!(-5)), seeded(json!(-5)));
        assert_ne!(seeded(json!(5)), seeded(json!(-5)));
        seeded(json!(u64::MAX));
        assert!(sampling(&fields(&json!({"seed": 0.5}))).is_err());
        let set = fields(&json!({"temperature": 0.7, "top_p": 0, "presence_penalty": -1.5}));
        let set = sampling(&set).unwrap();
        assert_eq!((set.temperature_permille, set.top_p_permille), (700, 1));
        assert_eq!(set.presence_permille, -1_500);
    }

    #[test]
    fn wishes_are_read_in_the_words_of_those_who_have_them() {
        assert_eq!(wishes(&fields(&json!({}))).unwrap(), Wishes::default());
        let asked = wishes(&fields(&json!({
            "min_p": 0.05, "repetition_penalty": 1.1, "logit_bias": {"50256": -100, "7": 1.5},
            "user": "ann", "priority": "high",
        })));
        let asked = asked.unwrap();
        assert_eq!((asked.min_p_permille, asked.repetition_permille), (50, 1_100));
        let mut biases = asked.logit_bias_permille;
        biases.sort_unstable();
        assert_eq!(biases, [(7, 1_500), (50_256, -100_000)]);
        assert_eq!((asked.caller.as_str(), asked.urgency), ("ann", 1));
        for (priority, urgency) in [
            (json!("low"), -1),
            (json!("normal"), 0),
            (json!(3), -1),
            (json!(-1), 1),
            (json!(0), 0),
        ] {
            let asked = wishes(&fields(&json!({ "priority": priority }))).unwrap();
            assert_eq!(asked.urgency, urgency, "{priority}");
        }
        let many: serde_json::Map<_, _> = (0..301).map(|t| (t.to_string(), json!(1))).collect();
        for (name, value) in [
            ("min_p", json!(1.5)),
            ("repetition_penalty", json!(0)),
            ("logit_bias", json!({"the": 1})),
            ("logit_bias", json!({"5": 101})),
            ("logit_bias", json!([5])),
            ("logit_bias", json!(many)),
            ("priority", json!("urgent")),
            ("priority", json!(1.5)),
            ("user", json!(5)),
        ] {
            let error = wishes(&fields(&json!({ name: value }))).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(name));
        }
    }

    #[test]
    fn stops_and_lengths_are_bounded() {
        assert_eq!(stops(&fields(&json!({"stop": "\n"}))).unwrap().len(), 1);
        assert_eq!(stops(&fields(&json!({"stop": ["a", "b"]}))).unwrap().len(), 2);
        for wrong in [
            json!(""),
            json!(["a", "b", "c", "d", "e"]),
            json!(5),
            json!(["a", 5]),
            json!("x".repeat(65)),
        ] {
            let error = stops(&fields(&json!({ "stop": wrong }))).unwrap_err();
            assert_eq!(error.param.as_deref(), Some("stop"));
        }
        let both = fields(&json!({"max_tokens": 5, "max_completion_tokens": 7}));
        let names = ["max_completion_tokens", "max_tokens"];
        assert_eq!(tokens_max(&both, &names, 9).unwrap(), 7);
        assert_eq!(tokens_max(&fields(&json!({})), &names, 9).unwrap(), 9);
        let none = fields(&json!({"max_tokens": 0}));
        assert_eq!(tokens_max(&none, &names, 9).unwrap_err().param.as_deref(), Some("max_tokens"));
    }

    #[test]
    fn what_would_change_the_answer_is_refused_by_name() {
        for (name, value) in [("n", json!(2)), ("best_of", json!(3))] {
            let error = refuse_unsupported(&fields(&json!({ name: value }))).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(name));
            assert_eq!(error.code, "unsupported_parameter");
        }
        refuse_unsupported(&fields(&json!({"n": 1, "user": "x", "novelty": [1]}))).unwrap();
        let wrong = fields(&json!({"stream_options": {"include_usage": true}}));
        assert_eq!(streaming(&wrong).unwrap_err().param.as_deref(), Some("stream_options"));
    }
}
