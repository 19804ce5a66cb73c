//! Tasks: units of work with a content-derived id, and the bodies of all six kinds.
//!
//! A body is opaque to envelope, outbox, ingest and ledger. A kind that this build does not know
//! decodes as [`TaskKind::Other`] and ends inconclusive; it never breaks what carries it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bounded::{Blob, List, Text};
use crate::codec::{self, EncodeError};
use crate::ids::{BlobId, CampaignId, NetworkId, TaskId, tagged_hash};
use crate::limits;

/// What kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskKind {
    /// Fetch a page (1).
    Fetch,
    /// Turn a page into a document (2).
    Refine,
    /// Answer a prompt (3).
    Infer,
    /// Judge a record, by a person (4).
    Validate,
    /// Train an adapter (5).
    Train,
    /// Keep a blob available (6).
    Serve,
    /// A kind of a later version.
    Other(u8),
}

impl TaskKind {
    /// The kinds that this version knows.
    pub const ALL: [Self; 6] =
        [Self::Fetch, Self::Refine, Self::Infer, Self::Validate, Self::Train, Self::Serve];

    /// The code on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Fetch => 1,
            Self::Refine => 2,
            Self::Infer => 3,
            Self::Validate => 4,
            Self::Train => 5,
            Self::Serve => 6,
            Self::Other(code) => code,
        }
    }

    /// The kind of a code.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Fetch,
            2 => Self::Refine,
            3 => Self::Infer,
            4 => Self::Validate,
            5 => Self::Train,
            6 => Self::Serve,
            other => Self::Other(other),
        }
    }

    /// The kind's name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Refine => "refine",
            Self::Infer => "infer",
            Self::Validate => "validate",
            Self::Train => "train",
            Self::Serve => "serve",
            Self::Other(_) => "unknown",
        }
    }
}

impl Serialize for TaskKind {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u8(self.code())
    }
}

impl<'de> Deserialize<'de> for TaskKind {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        u8::deserialize(d).map(Self::from_code)
    }
}

/// A task as the coordinator logs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskSpec {
    /// The campaign that pays.
    pub campaign: CampaignId,
    /// Kind of work.
    pub kind: TaskKind,
    /// Version of the body's encoding.
    pub version: u16,
    /// Tells apart repeated tasks with one body.
    pub nonce: u64,
    /// Value relative to the kind's base points, in thousandths.
    pub value_permille: u32,
    /// Canonical bytes of the kind's body.
    pub body: Blob<{ limits::TASK_BODY_MAX }>,
}

impl TaskSpec {
    /// The content-derived id.
    pub fn id(&self, network: NetworkId) -> Result<TaskId, EncodeError> {
        let bytes = codec::encode(self)?;
        Ok(TaskId(tagged_hash("openledger task v1", &[&network.0, &bytes])))
    }
}

/// A campaign: who wants what, on which terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Campaign {
    /// Its name.
    pub name: Text<{ limits::NAME_MAX }>,
    /// Where a site's owner can complain: an e-mail address or URL.
    pub contact: Text<{ limits::NAME_MAX }>,
    /// Terms under which the documents are used.
    pub terms: Text<{ limits::NOTE_MAX }>,
    /// Points that the campaign may give away.
    pub budget: crate::amount::Points,
    /// Replicas that fetch each page.
    pub replicas: u8,
}

impl Campaign {
    /// The content-derived id.
    pub fn id(&self, network: NetworkId) -> Result<CampaignId, EncodeError> {
        let bytes = codec::encode(self)?;
        Ok(CampaignId(tagged_hash("openledger campaign v1", &[&network.0, &bytes])))
    }
}

/// Body of a `fetch` task, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchTask {
    /// What to fetch.
    pub url: Text<{ limits::URL_MAX }>,
}

/// Body of a `refine` task, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefineTask {
    /// Where the page came from, after redirects.
    pub url: Text<{ limits::URL_MAX }>,
    /// HTTP status of the page.
    pub status: u16,
    /// `Content-Type` as the server gave it; empty if it gave none.
    pub content_type: Text<{ limits::NAME_MAX }>,
    /// The page's bytes, content-decoded.
    pub page: BlobId,
    /// Their length.
    pub page_bytes: u64,
    /// The processing profile to use.
    #[serde(with = "crate::ids::bytes")]
    pub profile: [u8; 32],
}

/// Body of an `infer` task, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InferTask {
    /// The base model's file.
    pub model: BlobId,
    /// Adapters with their weights in thousandths.
    pub adapters: List<(BlobId, u32), 8>,
    /// The prompt: a [`crate::call::Prompt`] in canonical bytes.
    pub prompt: BlobId,
    /// Tokens to produce at most.
    pub tokens_max: u32,
    /// Seed of the sampler.
    #[serde(with = "crate::ids::bytes")]
    pub seed: [u8; 32],
    /// Sampling temperature in thousandths; 0 is greedy.
    pub temperature_permille: u32,
}

/// Body of a `validate` task, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidateTask {
    /// The record to judge.
    pub record: BlobId,
    /// The Datanet's guideline that applies.
    pub guideline: BlobId,
    /// Number of answers to choose from.
    pub choices: u16,
}

/// Body of a `train` task, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainTask {
    /// Configuration and hyperparameters.
    pub configuration: BlobId,
    /// The base model's file.
    pub base: BlobId,
    /// Manifest of the Datanet versions.
    pub data: BlobId,
    /// State to start from; all zero for a fresh start.
    pub start: BlobId,
    /// First optimiser step.
    pub step_from: u64,
    /// One past the last.
    pub step_to: u64,
}

/// Body of a `serve` task, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServeTask {
    /// The blob to keep.
    pub blob: BlobId,
    /// Its length.
    pub blob_bytes: u64,
    /// How many chunks of 1,024 bytes a challenge asks for.
    pub chunks: u16,
}
