//! Inference work as it is asked for, in a campaign file or over the API. Nothing is checked here
//! but the shape.

use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Prompts for one model with the same adapters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InferRequest {
    /// Blob id of the base model's file, as hex.
    pub model: String,
    /// What pages call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_name: Option<String>,
    /// Adapters to put on it.
    #[serde(default)]
    pub adapters: Vec<AdapterRequest>,
    /// What to answer: one task each.
    #[serde(default)]
    pub prompts: Vec<PromptRequest>,
    /// Tokens of an answer at most.
    pub tokens_max: u32,
    /// Sampling temperature in thousandths; 0 is greedy.
    #[serde(default)]
    pub temperature_permille: u32,
    /// Tasks per prompt, each with a seed of its own.
    #[serde(default = "one")]
    pub repeat: u32,
    /// Value of each task relative to the base points, in thousandths.
    #[serde(default = "thousand")]
    pub value_permille: u32,
}

/// An adapter on the base model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterRequest {
    /// Blob id of its file, as hex.
    pub id: String,
    /// Its weight in thousandths.
    #[serde(default = "thousand")]
    pub weight_permille: u32,
    /// What pages call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// One prompt: a text, or `{ messages = [...] }` for the model's chat template.
#[derive(Clone, PartialEq, Eq)]
pub enum PromptRequest {
    /// Plain text that the model goes on with.
    Text(String),
    /// A chat.
    Chat(Vec<MessageRequest>),
}

/// One message of a chat.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessageRequest {
    /// Who speaks: `system`, `user` or `assistant`.
    pub role: String,
    /// What they say.
    pub content: String,
}

const fn one() -> u32 {
    1
}

const fn thousand() -> u32 {
    1_000
}

// Words of prompts must not reach a log by way of a debug print.
impl fmt::Debug for PromptRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{} bytes of text", text.len()),
            Self::Chat(messages) => f.debug_list().entries(messages).finish(),
        }
    }
}

impl fmt::Debug for MessageRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of text", self.content.len())
    }
}

impl Serialize for PromptRequest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => s.serialize_str(text),
            Self::Chat(messages) => {
                let mut prompt = s.serialize_struct("prompt", 1)?;
                prompt.serialize_field("messages", messages)?;
                prompt.end()
            }
        }
    }
}

/// The table form of a prompt.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Chat {
    messages: Vec<MessageRequest>,
}

// By hand, because an untagged enum would say of every mistake only that nothing fits.
impl<'de> Deserialize<'de> for PromptRequest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = PromptRequest;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or { messages = [...] }")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<PromptRequest, E> {
                Ok(PromptRequest::Text(text.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PromptRequest, A::Error> {
                let chat = Chat::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(PromptRequest::Chat(chat.messages))
            }
        }
        d.deserialize_any(V)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        model = "aa"
        model_name = "small"
        adapters = [{ id = "bb" }, { id = "cc", weight_permille = 500, name = "pirate" }]
        prompts = [
            "What is a harbour?",
            { messages = [{ role = "user", content = "secret words" }] },
        ]
        tokens_max = 16
    "#;

    #[test]
    fn files_may_leave_out_what_is_usual() {
        let asked: InferRequest = toml::from_str(FILE).unwrap();
        assert_eq!((asked.temperature_permille, asked.repeat, asked.value_permille), (0, 1, 1_000));
        let weights: Vec<u32> = asked.adapters.iter().map(|a| a.weight_permille).collect();
        assert_eq!(weights, [1_000, 500]);
        let PromptRequest::Chat(messages) = &asked.prompts[1] else { panic!("{asked:?}") };
        assert_eq!(messages[0].role, "user");
    }

    #[test]
    fn what_is_sent_is_what_was_read() {
        let asked: InferRequest = toml::from_str(FILE).unwrap();
        let json = serde_json::to_string(&asked).unwrap();
        assert_eq!(serde_json::from_str::<InferRequest>(&json).unwrap(), asked);
    }

    #[test]
    fn mistakes_are_named_and_prompts_stay_out_of_debug_prints() {
        let prompt = |json: &str| serde_json::from_str::<PromptRequest>(json).unwrap_err();
        assert!(prompt("7").to_string().contains("messages = [...]"));
        assert!(prompt(r#"{"message":[]}"#).to_string().contains("`messages`"));
        let odd = r#"{"messages":[{"role":"user","content":"x","name":"y"}]}"#;
        assert!(prompt(odd).to_string().contains("`name`"));
        let asked: InferRequest = toml::from_str(FILE).unwrap();
        let shown = format!("{asked:?}");
        assert!(!shown.contains("harbour") && !shown.contains("secret"), "{shown}");
    }
}
