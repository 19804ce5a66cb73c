//! From what is asked for to tasks: checked and bounded before anything is kept or logged.
//!
//! A task's id and seed follow from the campaign and from what is asked, not from its place in a
//! request: the same request again, after a crash half-way, adds only what is missing.

use std::collections::BTreeMap;

use bytes::Bytes;
use openledger_rules::InferRules;
use openledger_wire::bounded::TextError;
use openledger_wire::call::{ChatMessage, Prompt};
use openledger_wire::ids::ParseIdError;
use openledger_wire::task::{InferTask, TaskKind, TaskSpec};
use openledger_wire::{
    Blob, BlobId, CampaignId, EncodeError, List, NetworkId, Prose, TaskId, Text, encode,
    limits as wire, tagged_hash,
};
use thiserror::Error;

use super::request::{AdapterRequest, InferRequest, MessageRequest, PromptRequest};
use crate::limits;

/// Who may speak in a chat: what the templates of models know.
const ROLES: [&str; 3] = ["system", "user", "assistant"];

/// Why inference work is not taken. Messages begin with the place in the request.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PlanError {
    /// Too many of something.
    #[error("{at}: {found} given, {max} {what} fit one request; split them into several")]
    TooMany {
        /// Place.
        at: String,
        /// How many.
        found: u64,
        /// How many fit.
        max: u64,
        /// Of what.
        what: &'static str,
    },
    /// A number that does not fit.
    #[error("{at}: {found} is not from {least} to {most}, {why}; correct it")]
    Range {
        /// Place.
        at: String,
        /// As given.
        found: u64,
        /// At least.
        least: u64,
        /// At most.
        most: u64,
        /// Where the bounds come from.
        why: &'static str,
    },
    /// No blob id.
    #[error(
        "{at}: failed to {source}; a model or adapter is named by its blob id, see openledger \
             model list"
    )]
    Id {
        /// Place.
        at: String,
        /// What is wrong.
        source: ParseIdError,
    },
    /// An odd name.
    #[error("{at}: {source}; shorten or correct it")]
    Name {
        /// Place.
        at: String,
        /// What is wrong.
        source: TextError,
    },
    /// Nothing to answer.
    #[error("{at}: none given; add a text, or a table {{ messages = [...] }}, for each task")]
    NoPrompts {
        /// Place.
        at: String,
    },
    /// An empty prompt.
    #[error("{at}: it is empty; write something or remove it")]
    Empty {
        /// Place.
        at: String,
    },
    /// A long prompt.
    #[error("{at}: {found} bytes are more than the limit of {max}; shorten it")]
    TooLong {
        /// Place.
        at: String,
        /// Its length in bytes.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// Somebody speaks whom models do not know.
    #[error("{at}: {role:?} is not system, user or assistant; correct it")]
    Role {
        /// Place.
        at: String,
        /// As given, cut to 32 bytes.
        role: Text<32>,
    },
    /// The same twice.
    #[error(
        "{at}: it is the same as {first}; remove it, or ask for several answers with repeat = 2 \
             or more"
    )]
    Twice {
        /// Place.
        at: String,
        /// The first place.
        first: String,
    },
    /// It cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Checked work.
#[derive(Debug, Default)]
pub struct Plan {
    /// One task for each prompt and repetition, in the order of the request.
    pub tasks: Vec<TaskSpec>,
    /// The prompts of these tasks, encoded.
    pub prompts: BTreeMap<BlobId, Bytes>,
    /// What pages call models and adapters.
    pub names: BTreeMap<BlobId, Text<{ limits::MODEL_NAME_MAX }>>,
}

/// Checks what is asked for and makes tasks of it.
///
/// # Errors
/// The first thing that cannot be done, with its place and what to do.
pub fn plan(
    asked: &[InferRequest],
    campaign: CampaignId,
    network: NetworkId,
    rules: &InferRules,
) -> Result<Plan, PlanError> {
    let at_most = |found: u64, max: u64, what| {
        let at = "infer".to_owned();
        if found > max { Err(PlanError::TooMany { at, found, max, what }) } else { Ok(()) }
    };
    at_most(asked.len() as u64, limits::INFER_SECTIONS_MAX, "sections")?;
    let prompts = asked.iter().map(|of| of.prompts.len() as u64).fold(0, u64::saturating_add);
    at_most(prompts, limits::INFER_PROMPTS_MAX, "prompts")?;
    let tasks = asked.iter().map(|of| {
        let prompts = of.prompts.len() as u64;
        prompts.saturating_mul(u64::from(of.repeat))
    });
    at_most(tasks.fold(0, u64::saturating_add), limits::INFER_TASKS_MAX, "tasks")?;
    let (plan, places) = (Plan::default(), BTreeMap::new());
    let mut planner = Planner { campaign, network, rules, plan, places };
    for (at, asked) in asked.iter().enumerate() {
        planner.section(&format!("infer[{at}]"), asked)?;
    }
    Ok(planner.plan)
}

struct Planner<'a> {
    campaign: CampaignId,
    network: NetworkId,
    rules: &'a InferRules,
    plan: Plan,
    /// Where each task was asked for.
    places: BTreeMap<TaskId, String>,
}

impl Planner<'_> {
    fn section(&mut self, at: &str, asked: &InferRequest) -> Result<(), PlanError> {
        let place = |field: &str| format!("{at}.{field}");
        let within = |field: &str, found: u32, range: (u32, u32), why| {
            within(place(field), found, range, why)
        };
        within("tokens_max", asked.tokens_max, (1, self.rules.tokens_max), "by the rule set")?;
        let (found, most) = (asked.temperature_permille, limits::TEMPERATURE_PERMILLE_MAX);
        within("temperature_permille", found, (0, most), "0 for the likeliest token")?;
        within("repeat", asked.repeat, (1, limits::REPEAT_MAX), "tasks per prompt")?;
        let (found, most) = (asked.value_permille, limits::VALUE_PERMILLE_MAX);
        within("value_permille", found, (1, most), "1000 for the base points")?;
        let model = self.file(&place("model"), &asked.model, asked.model_name.as_deref())?;
        let adapters = self.adapters(&place("adapters"), &asked.adapters)?;
        if asked.prompts.is_empty() {
            return Err(PlanError::NoPrompts { at: place("prompts") });
        }
        for (number, prompt) in asked.prompts.iter().enumerate() {
            let at = format!("{at}.prompts[{number}]");
            let bytes = encoded(&at, prompt)?;
            let prompt = BlobId::of(&bytes);
            self.plan.prompts.insert(prompt, Bytes::from(bytes));
            for nonce in 0..u64::from(asked.repeat) {
                let task = InferTask {
                    model,
                    adapters: adapters.clone(),
                    prompt,
                    tokens_max: asked.tokens_max,
                    seed: seed(self.campaign, prompt, nonce),
                    temperature_permille: asked.temperature_permille,
                };
                self.add(&at, nonce, asked.value_permille, &task)?;
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        at: &str,
        nonce: u64,
        value_permille: u32,
        task: &InferTask,
    ) -> Result<(), PlanError> {
        let body = Blob::new(encode(task)?).map_err(|error| EncodeError::Unencodable {
            what: "InferTask",
            reason: error.to_string(),
        })?;
        let (campaign, kind, version) = (self.campaign, TaskKind::Infer, 1);
        let spec = TaskSpec { campaign, kind, version, nonce, value_permille, body };
        let id = spec.id(self.network)?;
        let at = at.to_owned();
        if let Some(first) = self.places.get(&id).cloned() {
            return Err(PlanError::Twice { at, first });
        }
        self.places.insert(id, at);
        self.plan.tasks.push(spec);
        Ok(())
    }

    /// A model's or adapter's file, with its name if it has one.
    fn file(&mut self, at: &str, id: &str, name: Option<&str>) -> Result<BlobId, PlanError> {
        let id: BlobId =
            id.trim().parse().map_err(|source| PlanError::Id { at: at.to_owned(), source })?;
        if let Some(name) = name.map(str::trim).filter(|name| !name.is_empty()) {
            let named =
                Text::new(name).map_err(|source| PlanError::Name { at: at.to_owned(), source });
            self.plan.names.insert(id, named?);
        }
        Ok(id)
    }

    fn adapters(
        &mut self,
        at: &str,
        asked: &[AdapterRequest],
    ) -> Result<List<(BlobId, u32), { wire::CALL_ADAPTERS_MAX }>, PlanError> {
        let (mut adapters, mut seen) = (Vec::new(), BTreeMap::new());
        for (number, asked) in asked.iter().enumerate() {
            let at = format!("{at}[{number}]");
            let id = self.file(&at, &asked.id, asked.name.as_deref())?;
            let most = limits::ADAPTER_WEIGHT_PERMILLE_MAX;
            let why = "1000 for the adapter as it was trained";
            within(format!("{at}.weight_permille"), asked.weight_permille, (1, most), why)?;
            if let Some(first) = seen.insert(id, at.clone()) {
                return Err(PlanError::Twice { at, first });
            }
            adapters.push((id, asked.weight_permille));
        }
        let (found, max) = (asked.len() as u64, wire::CALL_ADAPTERS_MAX as u64);
        List::new(adapters).map_err(|_| PlanError::TooMany {
            at: at.to_owned(),
            found,
            max,
            what: "adapters on one model",
        })
    }
}

/// The sampler's seed: known to all from the start, so that the answer is a function of the task.
fn seed(campaign: CampaignId, prompt: BlobId, nonce: u64) -> [u8; 32] {
    let parts: [&[u8]; 3] = [&campaign.0, &prompt.0, &nonce.to_be_bytes()];
    tagged_hash("openledger infer seed v1", &parts)
}

fn within(
    at: String,
    found: u32,
    (least, most): (u32, u32),
    why: &'static str,
) -> Result<(), PlanError> {
    if (least..=most).contains(&found) {
        return Ok(());
    }
    let (found, least, most) = (u64::from(found), u64::from(least), u64::from(most));
    Err(PlanError::Range { at, found, least, most, why })
}

/// A prompt in canonical bytes.
fn encoded(at: &str, prompt: &PromptRequest) -> Result<Vec<u8>, PlanError> {
    let prompt = match prompt {
        PromptRequest::Text(text) => Prompt::Text(prose(at.to_owned(), text)?),
        PromptRequest::Chat(messages) => Prompt::Chat(chat(at, messages)?),
    };
    let bytes = encode(&prompt)?;
    let (found, max) = (bytes.len(), wire::PROMPT_MAX);
    if found > max {
        return Err(PlanError::TooLong { at: at.to_owned(), found, max });
    }
    Ok(bytes)
}

fn chat(
    at: &str,
    messages: &[MessageRequest],
) -> Result<List<ChatMessage, { wire::PROMPT_MESSAGES_MAX }>, PlanError> {
    if messages.is_empty() {
        return Err(PlanError::Empty { at: format!("{at}.messages") });
    }
    let (found, max) = (messages.len() as u64, wire::PROMPT_MESSAGES_MAX as u64);
    if found > max {
        let at = format!("{at}.messages");
        return Err(PlanError::TooMany { at, found, max, what: "messages of a chat" });
    }
    let mut chat = Vec::with_capacity(messages.len());
    for (number, message) in messages.iter().enumerate() {
        let at = format!("{at}.messages[{number}]");
        let role = Text::clipped(&message.role);
        if !ROLES.contains(&message.role.as_str()) {
            return Err(PlanError::Role { at: format!("{at}.role"), role });
        }
        chat.push(ChatMessage::plain(role, prose(format!("{at}.content"), &message.content)?));
    }
    let at = format!("{at}.messages");
    List::new(chat).map_err(|long| PlanError::TooLong { at, found: long.len, max: long.max })
}

fn prose<const MAX: usize>(at: String, text: &str) -> Result<Prose<MAX>, PlanError> {
    if text.is_empty() {
        return Err(PlanError::Empty { at });
    }
    let (found, max) = (text.len(), MAX);
    Prose::new(text).map_err(|_| PlanError::TooLong { at, found, max })
}

#[cfg(test)]
mod tests {
    use openledger_wire::decode;

    use super::*;

    const NETWORK: NetworkId = NetworkId([1; 32]);
    const CAMPAIGN: CampaignId = CampaignId([2; 32]);

    fn text(text: &str) -> PromptRequest {
        PromptRequest::Text(text.to_owned())
    }

    fn adapter(digit: &str, weight_permille: u32) -> AdapterRequest {
        AdapterRequest { id: digit.repeat(64), weight_permille, name: None }
    }

    fn asked(prompts: Vec<PromptRequest>) -> InferRequest {
        InferRequest {
            model: "a".repeat(64),
            model_name: Some("small".to_owned()),
            adapters: vec![adapter("b", 1_000), adapter("c", 500)],
            prompts,
            tokens_max: 16,
            temperature_permille: 700,
            repeat: 1,
            value_permille: 1_000,
        }
    }

    fn made(asked: &[InferRequest]) -> Result<Plan, PlanError> {
        plan(asked, CAMPAIGN, NETWORK, &InferRules::v1())
    }

    fn body(spec: &TaskSpec) -> InferTask {
        decode(&spec.body, wire::TASK_BODY_MAX).unwrap()
    }

    #[test]
    fn each_prompt_and_repetition_is_a_task_with_a_seed_of_its_own() {
        let message = MessageRequest { role: "user".to_owned(), content: "Hi\n".to_owned() };
        let chat = PromptRequest::Chat(vec![message]);
        let two = InferRequest { repeat: 2, ..asked(vec![text("one"), chat]) };
        let plan = made(std::slice::from_ref(&two)).unwrap();
        assert_eq!((plan.tasks.len(), plan.prompts.len(), plan.names.len()), (4, 2, 1));
        let seeds: std::collections::BTreeSet<_> =
            plan.tasks.iter().map(|spec| body(spec).seed).collect();
        assert_eq!(seeds.len(), 4);
        let first = body(&plan.tasks[0]);
        assert_eq!(
            first.adapters.to_vec(),
            [(BlobId([0xbb; 32]), 1_000), (BlobId([0xcc; 32]), 500)]
        );
        assert_eq!((first.tokens_max, first.temperature_permille), (16, 700));
        for spec in &plan.tasks {
            assert_eq!(InferRules::v1().asked(spec), Some(body(spec)), "the rules take it");
            let bytes = &plan.prompts[&body(spec).prompt];
            decode::<Prompt>(bytes, wire::PROMPT_MAX).unwrap();
        }
        // What is asked in another order, or a second time, is the same work.
        let turned = InferRequest { prompts: two.prompts.iter().rev().cloned().collect(), ..two };
        let ids = |plan: &Plan| -> std::collections::BTreeSet<TaskId> {
            plan.tasks.iter().map(|spec| spec.id(NETWORK).unwrap()).collect()
        };
        assert_eq!(ids(&made(&[turned]).unwrap()), ids(&plan));
    }

    #[test]
    fn mistakes_are_named_with_their_place_and_what_to_do() {
        let good = || asked(vec![text("one")]);
        let long = || text(&"x".repeat(wire::PROMPT_TEXT_MAX + 1));
        let said = |role: &str, content: &str| {
            let (role, content) = (role.to_owned(), content.to_owned());
            PromptRequest::Chat(vec![MessageRequest { role, content }])
        };
        let cases = [
            (InferRequest { model: "xyz".to_owned(), ..good() }, "infer[0].model", "64 hexa"),
            (InferRequest { tokens_max: 0, ..good() }, "infer[0].tokens_max", "rule set"),
            (InferRequest { tokens_max: 1_025, ..good() }, "infer[0].tokens_max", "1 to 1024"),
            (InferRequest { repeat: 0, ..good() }, "infer[0].repeat", "correct it"),
            (InferRequest { value_permille: 0, ..good() }, "infer[0].value_permille", "correct"),
            (InferRequest { temperature_permille: 9_000, ..good() }, "temperature", "correct"),
            (asked(Vec::new()), "infer[0].prompts", "none given"),
            (asked(vec![text("one"), text("")]), "infer[0].prompts[1]", "empty"),
            (asked(vec![long()]), "infer[0].prompts[0]", "shorten"),
            (asked(vec![text("one"), text("one")]), "infer[0].prompts[1]", "repeat = 2"),
            (asked(vec![PromptRequest::Chat(Vec::new())]), "prompts[0].messages", "empty"),
            (asked(vec![said("bot", "x")]), "prompts[0].messages[0].role", "bot"),
            (asked(vec![said("user", "")]), "messages[0].content", "empty"),
            (InferRequest { adapters: vec![adapter("b", 0)], ..good() }, "adapters[0]", "correct"),
            (
                InferRequest { adapters: vec![adapter("b", 1), adapter("b", 1)], ..good() },
                "infer[0].adapters[1]",
                "infer[0].adapters[0]",
            ),
            (
                InferRequest { model_name: Some("a\u{7}b".to_owned()), ..good() },
                "infer[0].model",
                "control character",
            ),
        ];
        for (asked, place, words) in cases {
            let error = made(&[asked]).unwrap_err().to_string();
            assert!(error.contains(place) && error.contains(words), "{place}: {error}");
        }
    }

    #[test]
    fn requests_are_bounded() {
        let too_many = |asked: &[InferRequest], what: &str| {
            let error = made(asked).unwrap_err().to_string();
            assert!(error.contains(what) && error.contains("split"), "{error}");
        };
        let nine = (1..=9).map(|n| adapter(&n.to_string(), 1)).collect();
        too_many(&[InferRequest { adapters: nine, ..asked(vec![text("one")]) }], "8 adapters");
        let sections = usize::try_from(limits::INFER_SECTIONS_MAX).unwrap() + 1;
        too_many(&vec![asked(vec![text("one")]); sections], "sections");
        let prompts = usize::try_from(limits::INFER_PROMPTS_MAX).unwrap() + 1;
        too_many(&[asked(vec![text("one"); prompts])], "prompts");
        let many = InferRequest { repeat: limits::REPEAT_MAX, ..asked(vec![text("one"); 100]) };
        too_many(&[many], "tasks");
        let message = MessageRequest { role: "user".to_owned(), content: "x".to_owned() };
        let chat = PromptRequest::Chat(vec![message; wire::PROMPT_MESSAGES_MAX + 1]);
        too_many(&[asked(vec![chat])], "messages");
    }
}
