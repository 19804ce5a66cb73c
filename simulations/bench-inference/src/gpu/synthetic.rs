//! A model of the shapes of Llama 3 8B with weights of chance in 4 bits: for what it takes of a
//! device's memory and bandwidth. What it says means nothing.

use std::path::Path;

use anyhow::{Context as _, Result};
use half::f16;
use openledger_models::{GgufWriter, TensorKind};

/// Numbers of a row of hidden states.
const HIDDEN: usize = 4_096;

/// Layers.
const LAYERS: usize = 32;

/// Query heads.
const HEADS: usize = 32;

/// Key and value heads.
const KV_HEADS: usize = 8;

/// Numbers of the feed-forward layer.
const FEED_FORWARD: usize = 14_336;

/// Tokens.
const VOCAB: usize = 128_256;

/// Weights of a block of Q4_0, and its bytes.
const BLOCK: (usize, usize) = (32, 18);

/// So small that hidden states keep their size: a code is about 4.6 from the middle.
const SCALE: f32 = 0.003;

/// Bytes that are needed in memory while it is written: the tensors, and the file made of them.
pub(super) const WRITING_BYTES: u64 = 10 << 30;

/// Writes it; what its weights take.
///
/// # Errors
/// A folder without room for five gigabytes.
pub(super) fn write(path: &Path) -> Result<()> {
    let mut writer = vocabulary(
        GgufWriter::new()
            .text("general.architecture", "llama")
            .text("general.name", "synthetic-8b")
            .u32("llama.block_count", LAYERS as u32)
            .u32("llama.embedding_length", HIDDEN as u32)
            .u32("llama.attention.head_count", HEADS as u32)
            .u32("llama.attention.head_count_kv", KV_HEADS as u32)
            .u32("llama.feed_forward_length", FEED_FORWARD as u32)
            .u32("llama.context_length", 8_192)
            .f32("llama.rope.freq_base", 500_000.0)
            .f32("llama.attention.layer_norm_rms_epsilon", 1e-5),
    );
    let mut numbers = Numbers(8);
    let kv_width = KV_HEADS * (HIDDEN / HEADS);
    for (name, cols, rows) in [("token_embd", HIDDEN, VOCAB), ("output", HIDDEN, VOCAB)] {
        writer = matrix(writer, &format!("{name}.weight"), cols, rows, &mut numbers);
    }
    let ones = [1.0; HIDDEN];
    writer = writer.floats("output_norm.weight", &[HIDDEN as u64], &ones);
    for layer in 0..LAYERS {
        for (site, cols, rows) in [
            ("attn_q", HIDDEN, HIDDEN),
            ("attn_k", HIDDEN, kv_width),
            ("attn_v", HIDDEN, kv_width),
            ("attn_output", HIDDEN, HIDDEN),
            ("ffn_gate", HIDDEN, FEED_FORWARD),
            ("ffn_up", HIDDEN, FEED_FORWARD),
            ("ffn_down", FEED_FORWARD, HIDDEN),
        ] {
            let name = format!("blk.{layer}.{site}.weight");
            writer = matrix(writer, &name, cols, rows, &mut numbers);
        }
        for norm in ["attn_norm", "ffn_norm"] {
            let name = format!("blk.{layer}.{norm}.weight");
            writer = writer.floats(&name, &[HIDDEN as u64], &ones);
        }
    }
    std::fs::write(path, writer.finish()).with_context(|| format!("write {}", path.display()))
}

/// A vocabulary of bytes, and of words that nothing is made of.
fn vocabulary(writer: GgufWriter) -> GgufWriter {
    let named = ["<unk>", "<s>", "</s>"].map(str::to_owned).into_iter();
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let words = (259..VOCAB).map(|number| format!("word{number}"));
    let tokens: Vec<String> = named.chain(bytes).chain(words).collect();
    let kind = |id: usize| match id {
        0 => 2,
        1 | 2 => 3,
        3..259 => 6,
        _ => 1,
    };
    let kinds: Vec<i32> = (0..VOCAB).map(kind).collect();
    writer
        .text("tokenizer.ggml.model", "llama")
        .texts("tokenizer.ggml.tokens", tokens.iter().map(String::as_str))
        .f32s("tokenizer.ggml.scores", &vec![0.0; VOCAB])
        .i32s("tokenizer.ggml.token_type", &kinds)
        .u32("tokenizer.ggml.bos_token_id", 1)
        .u32("tokenizer.ggml.eos_token_id", 2)
}

fn matrix(
    writer: GgufWriter,
    name: &str,
    cols: usize,
    rows: usize,
    numbers: &mut Numbers,
) -> GgufWriter {
    let shape = [cols as u64, rows as u64];
    writer.tensor(name, &shape, TensorKind::Q4_0, &numbers.blocks(rows * cols / BLOCK.0))
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// So many blocks of Q4_0: a scale, and 32 codes of 4 bits.
    fn blocks(&mut self, count: usize) -> Vec<u8> {
        let scale = f16::from_f32(SCALE).to_le_bytes();
        let mut bytes = Vec::with_capacity(count * BLOCK.1);
        for _ in 0..count {
            bytes.extend(scale);
            bytes.extend(self.next().to_le_bytes());
            bytes.extend(self.next().to_le_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_of_the_formats_size_and_differ() {
        let blocks = Numbers(1).blocks(2);
        assert_eq!(Some(blocks.len()), TensorKind::Q4_0.bytes_of(&[64]));
        assert_ne!(blocks[..18], blocks[18..]);
        assert_eq!(blocks[..2], blocks[18..20]);
    }
}
