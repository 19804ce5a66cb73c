//! The targets by name.
//!
//! A target never looks at what a decoder refused; where one accepts, it checks what must then hold
//! (one encoding, bounds kept, the same answer twice).

mod content;
mod infer;
mod log;
mod messages;
mod models;

/// A target: any bytes in, no panic.
pub type Target = fn(&[u8]);

/// Every target with its name.
pub const TARGETS: &[(&str, Target)] = &[
    ("activation-fingerprints", infer::fingerprints),
    ("adapter", models::adapter),
    ("adapter-bundle", models::adapter_bundle),
    ("adapter-gguf", models::adapter_gguf),
    ("amount", messages::amount),
    ("announcement", messages::announcement),
    ("binding", messages::binding),
    ("bundle", log::bundle),
    ("call", messages::call),
    ("chat-template", models::chat_template),
    ("commit", messages::commit),
    ("content-coding", content::content_coding),
    ("document", content::document),
    ("envelope", messages::envelope),
    ("fingerprint", content::fingerprint),
    ("gossiped-head", messages::gossiped_head),
    ("gossiped-proof", messages::gossiped_proof),
    ("infer-relation", infer::relation),
    ("infer-worker", messages::infer_worker),
    ("link-push", messages::link_push),
    ("link-request", messages::link_request),
    ("link-response", messages::link_response),
    ("log-entry", log::entry),
    ("log-lines", log::lines),
    ("merkle-path", messages::merkle_path),
    ("model", models::model),
    ("model-config", models::model_config),
    ("page", content::page),
    ("page-url", content::page_url),
    ("phrase", messages::phrase),
    ("profile", messages::profile),
    ("proof", messages::proof),
    ("proof-body", messages::proof_body),
    ("registration", messages::registration),
    ("robots", content::robots),
    ("signals", content::signals),
    ("task", messages::task),
    ("tokenizer", models::tokenizer),
    ("tokenizer-json", models::tokenizer_json),
    ("warc", content::warc),
    ("worker-request", messages::worker_request),
    ("worker-response", messages::worker_response),
];

/// The target of a name.
#[must_use]
pub fn named(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}
