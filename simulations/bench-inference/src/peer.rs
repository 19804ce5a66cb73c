//! llama.cpp as a process that answers requests, one JSON object a line each way.
//!
//! The program is `peer.py`, which this crate brings; the Python that runs it has the package. The
//! process ends when its input does, so none is left behind whatever happens here.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::limits::ANSWER_BYTES_MAX;

const PROGRAM: &str = include_str!("peer.py");

/// Why the peer gave no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PeerError {
    /// It did not start.
    #[error("start {python}: {source}; run `openledger-sim setup peers` again")]
    Start {
        /// The Python.
        python: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// It ended, or closed its output.
    #[error(
        "ask llama.cpp: it ended without an answer ({how}); run `openledger-sim setup peers` again if it never runs"
    )]
    Ended {
        /// Its exit status.
        how: String,
    },
    /// It says what went wrong.
    #[error("ask llama.cpp: it says {0:?}")]
    Said(String),
    /// No answer to what was asked.
    #[error("ask llama.cpp: its answer to {request:?} makes no sense: {why}")]
    Odd {
        /// What was asked.
        request: &'static str,
        /// What is wrong with the answer.
        why: String,
    },
}

/// How llama.cpp computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arithmetic {
    /// As its package does by itself: activations rounded to 8 bits before products with packed
    /// weights, keys and values to 16.
    Shipped,
    /// The same with keys and values of 32 bits.
    ShippedWideCache,
    /// The file's weights unpacked by llama.cpp; activations, keys and values of 32 bits.
    Exact,
}

/// What is asked.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request<'a> {
    /// Its version.
    About,
    /// The ids of texts, without a token of beginning.
    Tokenize {
        /// The texts; special tokens are parsed in those of odd number.
        texts: &'a [String],
    },
    /// The likeliest next token at each position, from an empty cache.
    Predict {
        /// How to compute.
        arithmetic: Arithmetic,
        /// Token ids.
        sequences: &'a [Vec<u32>],
    },
    /// The logits at every position, as 32-bit numbers in a file.
    Logits {
        /// Token ids.
        tokens: &'a [u32],
        /// An adapter.
        adapter: Option<&'a Path>,
        /// The file.
        path: &'a Path,
    },
    /// The logits from a position on, likewise, after a prompt of any length.
    LateLogits {
        /// Token ids.
        tokens: &'a [u32],
        /// The position.
        first: usize,
        /// The file.
        path: &'a Path,
    },
    /// What a context of so many sequences takes, with adapters loaded: bytes after each part.
    Memory {
        /// Adapter files.
        adapters: &'a [std::path::PathBuf],
        /// Sequences.
        sequences: usize,
        /// Tokens of each.
        tokens: usize,
    },
    /// Times steps of greedy decoding.
    Decode {
        /// What each sequence begins with.
        prompts: &'a [Vec<u32>],
        /// Steps.
        steps: usize,
        /// An adapter file for each sequence; none, and all step together on the base.
        adapters: &'a [std::path::PathBuf],
    },
    /// Times steps in one context whose adapter is changed for each sequence in turn.
    Turns {
        /// What each sequence begins with.
        prompts: &'a [Vec<u32>],
        /// Steps.
        steps: usize,
        /// An adapter file for each.
        adapters: &'a [std::path::PathBuf],
    },
    /// Times requests from their prompts to their last tokens, as llama.cpp's server schedules.
    Serve {
        /// What each begins with.
        prompts: &'a [Vec<u32>],
        /// Tokens of each answer.
        steps: usize,
        /// An adapter file for each, or one for all.
        adapters: &'a [std::path::PathBuf],
    },
    /// Times the way of a prompt to its first token.
    Prefill {
        /// The prompt.
        prompt: &'a [u32],
    },
}

impl Request<'_> {
    const fn name(&self) -> &'static str {
        match self {
            Self::About => "about",
            Self::Tokenize { .. } => "tokenize",
            Self::Predict { .. } => "predict",
            Self::Logits { .. } => "logits",
            Self::LateLogits { .. } => "late-logits",
            Self::Memory { .. } => "memory",
            Self::Decode { .. } => "decode",
            Self::Turns { .. } => "turns",
            Self::Serve { .. } => "serve",
            Self::Prefill { .. } => "prefill",
        }
    }
}

/// The likeliest tokens.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Predictions {
    /// Per sequence, at each position.
    pub best: Vec<Vec<u32>>,
    /// How far its logit lies above the second.
    pub gaps: Vec<Vec<f64>>,
}

/// What a timed piece of work took.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Took {
    /// Seconds on the wall.
    pub seconds: f64,
    /// Seconds on processors, of all threads together.
    pub cpu_seconds: f64,
}

/// What requests took that were served together.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Served {
    /// Of each request, seconds until its first token.
    pub first: Vec<f64>,
    /// All of them.
    #[serde(flatten)]
    pub took: Took,
}

impl Served {
    /// Seconds until the last of the first tokens.
    #[must_use]
    pub fn worst(&self) -> f64 {
        self.first.iter().copied().fold(0.0, f64::max)
    }
}

/// The process.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    version: String,
}

impl Peer {
    /// Starts it for a model file.
    ///
    /// # Errors
    /// A Python that does not start, or has no llama.cpp.
    pub fn start(python: &Path, model: &Path, threads: usize) -> Result<Self, PeerError> {
        let failed = |source| PeerError::Start { python: python.display().to_string(), source };
        let mut child = Command::new(python)
            .args(["-I", "-B", "-c", PROGRAM])
            .arg(model)
            .arg(threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let requests = child.stdin.take();
        let Some(answers) = child.stdout.take() else {
            return Err(failed(std::io::ErrorKind::BrokenPipe.into()));
        };
        let answers = BufReader::new(answers);
        let mut peer = Self { child, requests, answers, version: String::new() };
        #[derive(Deserialize)]
        struct About {
            version: String,
        }
        peer.version = peer.ask::<About>(&Request::About)?.version;
        Ok(peer)
    }

    /// Its name and version, as figures show it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("llama-cpp-python {}", self.version)
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// [`PeerError`].
    pub fn ask<A: DeserializeOwned>(&mut self, request: &Request<'_>) -> Result<A, PeerError> {
        let odd = |why: String| PeerError::Odd { request: request.name(), why };
        let line = serde_json::to_string(request).map_err(|error| odd(error.to_string()))?;
        let sent = self.requests.as_mut().map(|requests| writeln!(requests, "{line}"));
        let mut answer = String::new();
        let mut limited = (&mut self.answers).take(ANSWER_BYTES_MAX);
        let read = limited.read_line(&mut answer);
        if !matches!(sent, Some(Ok(()))) || !answer.ends_with('\n') {
            return Err(match read {
                Ok(bytes) if bytes as u64 >= ANSWER_BYTES_MAX => {
                    odd(format!("it is longer than {ANSWER_BYTES_MAX} bytes"))
                }
                Err(error) => odd(error.to_string()),
                Ok(_) => self.ended(),
            });
        }
        let value: Value = serde_json::from_str(&answer).map_err(|error| odd(error.to_string()))?;
        if let Some(said) = value.get("error") {
            return Err(PeerError::Said(said.as_str().unwrap_or("nothing").to_owned()));
        }
        serde_json::from_value(value).map_err(|error| odd(error.to_string()))
    }

    fn ended(&mut self) -> PeerError {
        drop(self.requests.take());
        let how = match self.child.wait() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        PeerError::Ended { how }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.requests.take());
        // Its input has ended, but it may be in the middle of an answer. It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
