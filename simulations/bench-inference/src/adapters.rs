//! Adapters from seeds, for us as they are and for llama.cpp as the files that it reads.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use half::f16;
use openledger_models::{Adapter, GgufWriter, ModelConfig, Site, TensorKind, peft};

/// How much an adapter changes, as [`peft::synthesize`] has it: felt, and no noise.
pub const STRENGTH: f32 = 0.1;

/// How wide numbers are in a file. Those of [`adapter`] lose nothing in 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// What llama.cpp computes with most exactly.
    F32,
    /// What it serves with, and takes half of the memory for.
    F16,
}

/// The adapter of a seed.
///
/// # Errors
/// A model that no adapter fits.
pub fn adapter(config: &ModelConfig, seed: u64, rank: usize) -> Result<Adapter> {
    let (json, tensors) = peft::synthesize(config, seed, rank, STRENGTH);
    Ok(Adapter::parse(&json, &tensors, config)?)
}

/// An adapter as ten steps of training leave it: A as PEFT draws it (Kaiming, uniform), B moved
/// from 0 by about the rate of learning in each step, as Adam's first steps do (Kingma and Ba
/// 2015), here in directions of chance: training, which agrees with itself, moves the output more.
///
/// # Errors
/// A model that no adapter fits.
pub fn young(config: &ModelConfig, seed: u64, rank: usize) -> Result<Adapter> {
    /// Steps times rate of learning.
    const MOVED: f32 = 10.0 * 2e-4;
    let mut adapter = adapter(config, seed, rank)?;
    for delta in adapter.deltas.values_mut() {
        // The signs of random numbers are random.
        delta.b.iter_mut().for_each(|b| *b = MOVED.copysign(*b));
    }
    // PEFT's usual alpha is twice the rank.
    adapter.scale = 2.0;
    Ok(adapter)
}

/// Writes an adapter as llama.cpp reads them: its `convert_lora_to_gguf.py` names the keys. The
/// rows of queries and keys are in the file's order already.
///
/// # Errors
/// A folder that cannot be written.
pub fn write(
    adapter: &Adapter,
    config: &ModelConfig,
    folder: &Path,
    name: &str,
    width: Width,
) -> Result<PathBuf> {
    let mut writer = GgufWriter::new()
        .text("general.architecture", &config.architecture)
        .text("general.type", "adapter")
        .text("adapter.type", "lora")
        .f32("adapter.lora.alpha", adapter.scale * adapter.rank as f32);
    for ((layer, site), delta) in &adapter.deltas {
        let (rows, cols) = site.shape(config);
        let weight = format!("blk.{layer}.{}.weight", file_name(*site));
        let (rank, rows, cols) = (delta.rank as u64, rows as u64, cols as u64);
        for (name, shape, values) in
            [("lora_a", [cols, rank], &delta.a), ("lora_b", [rank, rows], &delta.b)]
        {
            let name = format!("{weight}.{name}");
            writer = match width {
                Width::F32 => writer.floats(&name, &shape, values),
                Width::F16 => writer.tensor(&name, &shape, TensorKind::F16, &halves(values)),
            };
        }
    }
    let path = folder.join(name);
    std::fs::write(&path, writer.finish()).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

fn halves(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect()
}

/// A site as GGUF files name it.
const fn file_name(site: Site) -> &'static str {
    match site {
        Site::Query => "attn_q",
        Site::Key => "attn_k",
        Site::Value => "attn_v",
        Site::Output => "attn_output",
        Site::Gate => "ffn_gate",
        Site::Up => "ffn_up",
        Site::Down => "ffn_down",
    }
}
