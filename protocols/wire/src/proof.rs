//! Commitments, proofs and the bodies of proofs of all six kinds.
//!
//! A node first sends a signed [`Commit`], whose commitment hides its output behind a secret
//! nonce. Only against a closed set that holds its own commitment does it send the [`Proof`],
//! which opens the commitment. See THREATS 9 in the design: a node id is no secret salt.

use serde::{Deserialize, Serialize};

use crate::bounded::{Blob, List, Text};
use crate::codec::{self, DecodeError, EncodeError};
use crate::envelope::{Envelope, Signable, Verified};
use crate::ids::{
    BlobId, Commitment, NodeId, OutputRoot, ProofId, Round, SecretNonce, TaskId, UnixMs,
    tagged_hash,
};
use crate::limits;
use crate::task::TaskKind;

impl Commitment {
    /// `blake3(domain || task || node || secret nonce || output root)`.
    #[must_use]
    pub fn new(task: &TaskId, node: &NodeId, nonce: &SecretNonce, output: &OutputRoot) -> Self {
        let parts: [&[u8]; 4] = [&task.0, &node.0, &nonce.0, &output.0];
        Self(tagged_hash("openledger commitment v1", &parts))
    }
}

/// A node's promise of an output for a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commit {
    /// The task.
    pub task: TaskId,
    /// The wave of leases that this answers.
    pub wave: u8,
    /// Hides the output.
    pub commitment: Commitment,
}

impl Signable for Commit {
    const DOMAIN: &'static str = "commit";
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = 256;
}

/// The kind-specific part of a proof; opaque to what carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofBody {
    /// Kind of work.
    pub kind: TaskKind,
    /// Version of the encoding of `bytes`.
    pub version: u16,
    /// Canonical bytes of the kind's output.
    pub bytes: Blob<{ limits::PROOF_BODY_MAX }>,
}

impl ProofBody {
    /// Encodes a kind's output as a body of version 1.
    pub fn of<T: Serialize>(kind: TaskKind, output: &T) -> Result<Self, EncodeError> {
        Self::of_version(kind, 1, output)
    }

    /// Encodes a kind's output as a body of that version.
    pub fn of_version<T: Serialize>(
        kind: TaskKind,
        version: u16,
        output: &T,
    ) -> Result<Self, EncodeError> {
        let bytes = Blob::new(codec::encode(output)?)
            .map_err(|e| EncodeError::Unencodable { what: "ProofBody", reason: e.to_string() })?;
        Ok(Self { kind, version, bytes })
    }

    /// Decodes the kind's output.
    pub fn read<T: Serialize + serde::de::DeserializeOwned>(&self) -> Result<T, DecodeError> {
        codec::decode(&self.bytes, limits::PROOF_BODY_MAX)
    }

    /// What the commitment binds: kind, version and bytes.
    #[must_use]
    pub fn output_root(&self) -> OutputRoot {
        let parts: [&[u8]; 3] = [&[self.kind.code()], &self.version.to_be_bytes(), &self.bytes];
        OutputRoot(tagged_hash("openledger output v1", &parts))
    }
}

/// A signed work proof: what a node claims to have done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// The task.
    pub task: TaskId,
    /// The node, again inside the signed bytes.
    pub node: NodeId,
    /// The wave of leases that this answers.
    pub wave: u8,
    /// The round in which the lease was drawn.
    pub round: Round,
    /// The node's running number of proofs.
    pub seq: u64,
    /// What went in: the page's id, the prompt's; zero for a fetch.
    pub input: BlobId,
    /// What came out, as committed.
    pub output: OutputRoot,
    /// The commitment that this opens.
    pub commitment: Commitment,
    /// The secret that opens it.
    pub nonce: SecretNonce,
    /// The output.
    pub body: ProofBody,
}

impl Signable for Proof {
    const DOMAIN: &'static str = "proof";
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = limits::PROOF_BODY_MAX + 1_024;
}

impl Proof {
    /// Whether nonce and body open the commitment.
    #[must_use]
    pub fn opens(&self) -> bool {
        self.output == self.body.output_root()
            && self.commitment == Commitment::new(&self.task, &self.node, &self.nonce, &self.output)
    }
}

/// The id of a proof in an envelope: BLAKE3 of the signed bytes.
#[must_use]
pub fn proof_id(envelope: &Envelope) -> ProofId {
    ProofId(envelope.id())
}

impl Verified<Proof> {
    /// The id of the proof.
    #[must_use]
    pub fn proof_id(&self) -> ProofId {
        ProofId(self.id)
    }
}

/// What a node says it fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchOutput {
    /// URL after redirects.
    pub final_url: Text<{ limits::URL_MAX }>,
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`, cut to the limit; empty if absent.
    pub content_type: Text<{ limits::NAME_MAX }>,
    /// The page's bytes, content-decoded.
    pub page: BlobId,
    /// Their length.
    pub page_bytes: u64,
    /// When the answer was complete.
    pub fetched_at: UnixMs,
    /// Opt-out signals that the answer carried, as bits (README of `compute/fetch`).
    pub signals: u32,
    /// The WARC record kept by the node.
    pub warc: BlobId,
    /// Fingerprint of the extracted text, as `openledger-refine` encodes it: replicas are compared
    /// by it, not by their bytes.
    pub fingerprint: Blob<{ 36 * 1024 }>,
}

/// What refining a page gave. Holds nothing that differs between machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum RefineOutput {
    /// A document.
    Document {
        /// Its canonical bytes.
        document: BlobId,
        /// Their length.
        document_bytes: u64,
        /// Near-duplicate band keys.
        bands: List<u64, 32>,
    },
    /// The page was filtered out.
    Rejected {
        /// Reason code of the profile.
        reason: Text<64>,
    },
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum InferFinish {
    /// The model ended it.
    End,
    /// It reached the task's `tokens_max`.
    Length,
}

/// A fingerprint of what a model computed for the tokens of an answer: for each 32 of them a scale
/// (`f32`) and four codes (`i16`) a token, all little-endian.
pub type FingerprintBytes = Blob<{ limits::INFER_FINGERPRINT_MAX }>;

/// What a model answered, or what a check of an answer found. Version 1 named the tokens as a blob
/// and was never assigned; here they are inside, with how likely each was, so that outputs can be
/// compared by anyone who holds the proofs: never byte for byte, but within the tolerance of the
/// rule set. Version 2 has no evidence, version 3 always has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InferOutput {
    /// The produced token ids, with the one that ended the answer.
    pub tokens: List<u32, { limits::INFER_TOKENS_MAX }>,
    /// For each token its natural log-probability under the model's softmax (temperature 1), in
    /// millionths.
    pub logprobs_micro: List<i32, { limits::INFER_TOKENS_MAX }>,
    /// Why it ended.
    pub finish: InferFinish,
    /// BLAKE3 of the evidence's fingerprint; all zero where there is none.
    pub fingerprint: BlobId,
    /// Backend class that ran.
    pub backend: Text<32>,
    /// What was computed on the way; from version 3 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<InferEvidence>,
}

/// What shows how an answer was computed, so that one of another backend class can be held against
/// it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InferEvidence {
    /// Of all tokens.
    pub fingerprint: FingerprintBytes,
    /// What only a check of given tokens says; none where the tokens are the node's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<InferCheck>,
}

/// What running given tokens through the model says of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InferCheck {
    /// For each token by how much the logits would have to be others for the task's sampler to draw
    /// it, in millionths; 0 for the token that it draws.
    pub slacks_micro: List<u32, { limits::INFER_TOKENS_MAX }>,
    /// What the task's adapters together add to the numbers of the fingerprint, written as one;
    /// empty where there are none.
    pub effect: FingerprintBytes,
}

impl InferOutput {
    /// Version of a body that holds this with evidence.
    pub const VERSION: u16 = 3;

    /// Version of a body that holds this without evidence.
    pub const VERSION_PLAIN: u16 = 2;

    /// The version of the body that holds this.
    #[must_use]
    pub const fn version(&self) -> u16 {
        if self.evidence.is_some() { Self::VERSION } else { Self::VERSION_PLAIN }
    }

    /// What it says as the check of given tokens, if it is one.
    #[must_use]
    pub fn check(&self) -> Option<&InferCheck> {
        self.evidence.as_ref()?.check.as_ref()
    }
}

/// What a person answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidateOutput {
    /// Index of the choice.
    pub choice: u16,
    /// Why, if they said.
    pub note: Text<{ limits::NOTE_MAX }>,
}

/// What training produced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainOutput {
    /// The adapter, or the state after the stretch.
    pub adapter: BlobId,
    /// The training log.
    pub log: BlobId,
    /// Steps done.
    pub steps: u64,
}

/// The chunks that a challenge asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServeOutput {
    /// BLAKE3 over the challenged chunks in order, keyed with the challenge.
    #[serde(with = "crate::ids::bytes")]
    pub answer: [u8; 32],
}
