//! Adapters from seeds, for us as they are and for llama.cpp as the files that it reads.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use openledger_models::{Adapter, GgufWriter, LlamaConfig, Site, peft};

/// How much an adapter changes, as [`peft::synthesize`] has it: felt, and no noise.
const STRENGTH: f32 = 0.1;

/// The adapter of a seed.
///
/// # Errors
/// A model that no adapter fits.
pub fn adapter(config: &LlamaConfig, seed: u64, rank: usize) -> Result<Adapter> {
    let (json, tensors) = peft::synthesize(config, seed, rank, STRENGTH);
    Ok(Adapter::parse(&json, &tensors, config)?)
}

/// Writes an adapter as llama.cpp reads them: its `convert_lora_to_gguf.py` names the keys. The
/// rows of queries and keys are in the file's order already.
///
/// # Errors
/// A folder that cannot be written.
pub fn write(
    adapter: &Adapter,
    config: &LlamaConfig,
    folder: &Path,
    name: &str,
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
        writer = writer.floats(&format!("{weight}.lora_a"), &[cols, rank], &delta.a).floats(
            &format!("{weight}.lora_b"),
            &[rank, rows],
            &delta.b,
        );
    }
    let path = folder.join(name);
    std::fs::write(&path, writer.finish()).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
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
