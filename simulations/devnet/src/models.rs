//! Models for the nodes: who starts with the base model and which adapters, and inference work
//! about them.
//!
//! The adapters are made from seeds: valid and felt, though nobody trained them. Two nodes start
//! with the base and half of the adapters each; two start without any and are told to serve the
//! base, which they fetch from the others; what a task needs beyond that is fetched, too. Further
//! nodes have nothing and forward calls.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use openledger_models::{AdapterBundle, Gguf, Mapped, ModelConfig, peft};
use openledger_wire::BlobId;
use serde::Deserialize;
use serde_json::json;

use crate::api::{Infer, InferAdapter};
use crate::child::Spawn;
use crate::limits;
use crate::nodes::{Member, json};
use crate::programs::Programs;

/// What the base model is called.
pub const BASE: &str = "smollm2";
/// What tasks and callers ask.
const PROMPTS: [&str; 3] = [
    "Name three colours of the sky.",
    "What does a carpenter do all day?",
    "Write one sentence about the sea.",
];

/// A model file that a node holds, as `openledger model add` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Planted {
    /// Its name.
    pub name: String,
    /// Its id.
    pub blob: BlobId,
}

/// The models of a network.
#[derive(Clone, Debug)]
pub struct Models {
    /// The base model.
    pub base: Planted,
    /// The adapters.
    pub adapters: Vec<Planted>,
    /// Files that nodes started with, over all nodes.
    pub planted: u64,
    /// Nodes that started without any.
    pub without: u64,
}

/// Makes adapters for a model and gives nodes what they start with.
///
/// # Errors
/// A file that is no model, or what a node says of it.
pub async fn plant(
    programs: &Programs,
    folder: &Path,
    model: &Path,
    members: &mut [Member],
) -> anyhow::Result<Models> {
    let adapters = make(model, &folder.join("adapters"))?;
    let mut honest: Vec<&mut Member> =
        members.iter_mut().filter(|member| member.part.is_honest()).collect();
    let mut models = Models {
        base: Planted { name: BASE.to_owned(), blob: BlobId::ZERO },
        adapters: Vec::new(),
        planted: 0,
        without: 0,
    };
    for (n, member) in honest.iter().enumerate() {
        if n >= limits::MODEL_HOLDERS {
            models.without += 1;
            continue;
        }
        models.base = add(programs, member, model, BASE).await?;
        models.planted += 1;
        // Where there is one holder only, it gets all.
        let holders = limits::MODEL_HOLDERS.min(honest.len());
        for (name, file) in adapters.iter().skip(n).step_by(holders) {
            models.adapters.push(add(programs, member, file, name).await?);
            models.planted += 1;
        }
    }
    models.adapters.sort_by(|one, other| one.name.cmp(&other.name));
    for (n, member) in honest.iter_mut().enumerate() {
        // One core each at most: the devnet has several engines on one machine.
        member.settings.push(("OPENLEDGER_NODE_MODELS__THREADS", "1".to_owned()));
        if (limits::MODEL_HOLDERS..limits::MODEL_SERVERS).contains(&n) {
            member.settings.push(("OPENLEDGER_NODE_MODELS__BASE", models.base.blob.to_string()));
        }
    }
    Ok(models)
}

/// Adapters of growing ranks, each in a file of its own.
fn make(model: &Path, folder: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let shape = || {
        let file = Mapped::open(model)?;
        Ok::<_, anyhow::Error>(ModelConfig::from_gguf(&Gguf::parse(&file)?, &file)?)
    };
    let shape = shape().with_context(|| format!("read the model {}", model.display()))?;
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let mut files = Vec::new();
    for (seed, rank) in (1u64..).zip(limits::ADAPTER_RANKS) {
        let (config, tensors) = peft::synthesize(&shape, seed, rank, limits::ADAPTER_STRENGTH);
        let bytes = AdapterBundle::pack(&config, &tensors).context("pack an adapter")?;
        let name = format!("adapter{seed:02}");
        let file = folder.join(format!("{name}.safetensors"));
        std::fs::write(&file, bytes).with_context(|| format!("write {}", file.display()))?;
        files.push((name, file));
    }
    Ok(files)
}

async fn add(
    programs: &Programs,
    member: &Member,
    file: &Path,
    name: &str,
) -> anyhow::Result<Planted> {
    let add = Spawn::new(format!("openledger model add of {}", member.name), &programs.node)
        .arg("--data-dir")
        .arg(member.data.as_os_str())
        .args(["--json", "model", "add"])
        .arg(file.as_os_str())
        .args(["--name", name]);
    json(&add.output().await?)
}

impl Models {
    /// Inference work: every prompt with every adapter, once greedy and once drawn.
    #[must_use]
    pub fn work(&self) -> Vec<Infer> {
        let of = |temperature_permille: u32| {
            self.adapters.iter().map(move |adapter| Infer {
                model: self.base.blob.to_string(),
                model_name: self.base.name.clone(),
                adapters: vec![InferAdapter {
                    id: adapter.blob.to_string(),
                    name: adapter.name.clone(),
                }],
                prompts: PROMPTS.map(chat).to_vec(),
                tokens_max: limits::INFER_TOKENS_MAX,
                temperature_permille,
            })
        };
        of(0).chain(of(limits::TEMPERATURE_PERMILLE)).collect()
    }

    /// Further work, other for each number: one prompt with every adapter.
    #[must_use]
    pub fn more_work(&self, number: u32) -> Vec<Infer> {
        let mut work = self.work();
        work.truncate(self.adapters.len());
        for one in &mut work {
            one.prompts = vec![chat(&format!("Name a word that begins with letter {number}."))];
        }
        work
    }
}

fn chat(prompt: &str) -> serde_json::Value {
    json!({ "messages": [{ "role": "user", "content": prompt }] })
}
