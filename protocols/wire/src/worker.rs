//! What the node and its worker processes say to each other over a socket pair.
//!
//! Frames are `length (u32 BE) || canonical CBOR`. A worker handles hostile input and may die; the
//! node treats its answers as it would a stranger's: bounded, then checked.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::bounded::{Blob, List, Text};
use crate::call::{Call, CallEnd, CallFailure, CallToken, Embed, Embedded};
use crate::ids::BlobId;
use crate::limits;
use crate::proof::{InferOutput, RefineOutput};

/// How a fetch worker shall behave; sent once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchSetup {
    /// Named in the User-Agent: coordinator and abuse contact.
    pub coordinator: Text<{ limits::NAME_MAX }>,
    /// Abuse contact of the campaign.
    pub contact: Text<{ limits::NAME_MAX }>,
    /// Private hosts that the network profile opens.
    pub private_hosts: BTreeMap<String, List<SocketAddr, 4>>,
    /// Host patterns that the owner allows; empty allows all.
    pub allow: List<Text<{ limits::NAME_MAX }>, 256>,
    /// Host patterns that the owner forbids.
    pub deny: List<Text<{ limits::NAME_MAX }>, 256>,
    /// Source address of connections.
    pub bind: Option<IpAddr>,
}

/// What the node asks of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum WorkerRequest {
    /// Set a fetch worker up.
    Setup(FetchSetup),
    /// Fetch a page and fingerprint its text.
    Fetch {
        /// Correlates the answer.
        id: u64,
        /// What.
        url: Text<{ limits::URL_MAX }>,
    },
    /// Refine a page.
    Refine {
        /// Correlates the answer.
        id: u64,
        /// URL after redirects.
        url: Text<{ limits::URL_MAX }>,
        /// HTTP status.
        status: u16,
        /// `Content-Type`, empty if absent.
        content_type: Text<{ limits::NAME_MAX }>,
        /// The page's bytes.
        page: Blob<{ limits::PAGE_MAX }>,
    },
}

/// What a worker answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum WorkerResponse {
    /// Ready for work.
    Ready,
    /// A page.
    Fetched {
        /// Of which request.
        id: u64,
        /// The page.
        page: Box<FetchedPage>,
    },
    /// A document or why there is none.
    Refined {
        /// Of which request.
        id: u64,
        /// For the proof.
        output: RefineOutput,
        /// The document's canonical bytes; empty if there is none.
        document: Blob<{ limits::DOCUMENT_MAX }>,
    },
    /// It did not work.
    Failed {
        /// Of which request.
        id: u64,
        /// Stable code.
        code: Text<64>,
        /// What was wrong and what to do.
        message: Text<{ limits::NOTE_MAX }>,
        /// Whether trying again later may help.
        retryable: bool,
    },
}

/// A page as a fetch worker hands it over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchedPage {
    /// URL after redirects.
    pub final_url: Text<{ limits::URL_MAX }>,
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`, empty if absent.
    pub content_type: Text<{ limits::NAME_MAX }>,
    /// Selected response headers.
    pub headers: List<(Text<64>, Text<{ limits::NOTE_MAX }>), 64>,
    /// Opt-out signals as bits.
    pub signals: u32,
    /// Address that answered.
    pub address: Text<64>,
    /// The page's bytes, content-decoded.
    pub body: Blob<{ limits::PAGE_MAX }>,
    /// Fingerprint of the extracted text.
    pub fingerprint: Blob<{ 36 * 1024 }>,
}

/// How an infer worker shall behave; sent once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InferSetup {
    /// The base model.
    pub model: BlobId,
    /// Its file, which is only read.
    pub path: Text<4096>,
    /// Threads to compute with.
    pub threads: u16,
    /// Sequences that step together.
    pub sequences_max: u16,
    /// Tokens that all sequences together may hold.
    pub tokens_max: u32,
    /// Memory for adapters, in bytes.
    pub adapter_bytes_max: u64,
    /// Backend class to compute in; the worker's default where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<Text<32>>,
    /// Adapters that nobody used for so many seconds leave the memory; 0 keeps them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub adapter_idle_s: u32,
    /// What a backend on a device may use of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceSetup>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Which device a backend computes on, and what it may take of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum DeviceSetup {
    /// A graphics processor.
    Gpu {
        /// Its name or a part of it, or its number; empty for the best.
        device: Text<128>,
        /// Memory of the device that may be used, in bytes; 0 for what there is.
        memory_bytes_max: u64,
        /// Whether a device that is a program on the processor may be used, too.
        allow_software: bool,
        /// Folder for what was compiled for the device; empty for none.
        cache: Text<4096>,
    },
    /// ONNX Runtime.
    Onnx {
        /// Its library.
        library: Text<4096>,
        /// What it shall compute on.
        provider: Text<32>,
    },
}

/// A look for what a backend would compute on; nothing is loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InferProbe {
    /// The backend class.
    pub backend: Text<32>,
    /// What it may use.
    pub device: Option<DeviceSetup>,
}

/// What the node asks of an infer worker. Requests run side by side; answers name theirs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum InferRequest {
    /// Load the model.
    Setup(InferSetup),
    /// Say what a backend would compute on; asked in place of [`InferRequest::Setup`].
    Probe(InferProbe),
    /// Load an adapter from a file.
    Adapter {
        /// Correlates the answer.
        id: u64,
        /// The adapter.
        adapter: BlobId,
        /// Its file.
        path: Text<4096>,
    },
    /// Answer a call.
    Call {
        /// Correlates the answers.
        id: u64,
        /// The call.
        call: Box<Call>,
    },
    /// Stop answering.
    Cancel {
        /// Which call.
        id: u64,
    },
    /// Turn texts into vectors.
    Embed {
        /// Correlates the answer.
        id: u64,
        /// The texts.
        embed: Embed,
    },
    /// Run an answer through the model, and say what it makes of it.
    Check {
        /// Correlates the answer.
        id: u64,
        /// The call; what it has generated already is the answer.
        call: Box<Call>,
    },
}

/// What an infer worker answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum InferResponse {
    /// The model is being loaded; [`InferResponse::Ready`] follows.
    Loading {
        /// Bytes that are loaded.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// What the backend would compute on, in words.
    Probed {
        /// The device.
        device: Text<128>,
    },
    /// The model is loaded.
    Ready {
        /// Its name, as the file says.
        name: Text<64>,
        /// Its architecture.
        architecture: Text<32>,
        /// Tokens of context.
        context: u32,
        /// Backend class of this worker.
        backend: Text<32>,
        /// What it computes on, in words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<Text<64>>,
    },
    /// An adapter is loaded.
    Loaded {
        /// Of which request.
        id: u64,
        /// Memory that it takes, in bytes.
        bytes: u64,
    },
    /// A token of an answer.
    Token {
        /// Of which call.
        id: u64,
        /// The token.
        token: CallToken,
    },
    /// The end of an answer.
    End {
        /// Of which call.
        id: u64,
        /// How it ended.
        end: CallEnd,
    },
    /// Vectors.
    Embedded {
        /// Of which request.
        id: u64,
        /// The vectors.
        embedded: Embedded,
    },
    /// It did not work. Id 0 is the setup.
    Failed {
        /// Of which request.
        id: u64,
        /// What was wrong and what to do.
        failure: CallFailure,
    },
    /// What a check found.
    Checked {
        /// Of which request.
        id: u64,
        /// In the words of a proof.
        output: Box<InferOutput>,
    },
}
