//! A tiny random model, written as a GGUF file: two layers, 64 wide, 264 tokens of which 256 are
//! bytes.

use std::sync::Arc;

use openledger_models::{GgufWriter, Mapped, Model, TensorKind};

pub(crate) const LAYERS: usize = 2;
pub(crate) const HIDDEN: usize = 64;
pub(crate) const HEADS: usize = 4;
pub(crate) const KV_HEADS: usize = 2;
pub(crate) const HEAD_DIM: usize = 16;
pub(crate) const FEED_FORWARD: usize = 96;
pub(crate) const VOCAB: usize = 264;
pub(crate) const CONTEXT: usize = 192;
pub(crate) const EPSILON: f32 = 1e-5;
/// The end token.
pub(crate) const END: u32 = 2;

/// The token of a byte.
pub(crate) fn byte(byte: u8) -> u32 {
    3 + u32::from(byte)
}

/// The tokens of a text.
pub(crate) fn bytes(text: &str) -> Vec<u32> {
    text.bytes().map(byte).collect()
}

/// A matrix or vector of the model: rows, columns, numbers.
#[derive(Clone)]
pub(crate) struct Weights {
    pub(crate) cols: usize,
    pub(crate) values: Vec<f64>,
}

/// The numbers of one layer.
pub(crate) struct Layer {
    pub(crate) norms: [Weights; 2],
    /// In the order of `Site::ALL`.
    pub(crate) sites: Vec<Weights>,
    pub(crate) biases: Vec<Weights>,
}

/// All numbers of the model, as a reader of the file should find them.
pub(crate) struct Tiny {
    pub(crate) embedding: Weights,
    pub(crate) layers: Vec<Layer>,
    pub(crate) output_norm: Weights,
    pub(crate) head: Option<Weights>,
    pub(crate) factors: Option<Vec<f64>>,
    pub(crate) halves: bool,
    pub(crate) file: Vec<u8>,
}

struct Numbers(u64);

impl Numbers {
    /// Between -1 and 1.
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

/// Packs numbers: returns the bytes, and the numbers that they stand for.
fn pack(kind: TensorKind, values: &[f64]) -> (Vec<u8>, Vec<f64>) {
    let mut packed = Vec::new();
    let mut exact = Vec::new();
    match kind {
        TensorKind::F32 => {
            for &value in values {
                packed.extend((value as f32).to_le_bytes());
                exact.push(f64::from(value as f32));
            }
        }
        // Scales and minima are powers of two, so their half-precision bits are an exponent.
        TensorKind::Q8_0 => {
            for block in values.chunks(32) {
                packed.extend([0x00, 0x20]); // 2^-7
                for value in block {
                    let quant = (value * 128.0).round().clamp(-127.0, 127.0);
                    packed.push((quant as i8).cast_unsigned());
                    exact.push(quant / 128.0);
                }
            }
        }
        TensorKind::Q4_1 => {
            for block in values.chunks(32) {
                packed.extend([0x00, 0x28, 0x00, 0xB4]); // 2^-5, -2^-2
                let quants: Vec<f64> = block
                    .iter()
                    .map(|value| ((value + 0.25) * 32.0).round().clamp(0.0, 15.0))
                    .collect();
                packed.extend((0..16).map(|j| quants[j] as u8 | (quants[j + 16] as u8) << 4));
                exact.extend(quants.iter().map(|quant| quant / 32.0 - 0.25));
            }
        }
        other => panic!("no packing for {}", other.name()),
    }
    (packed, exact)
}

/// Which relative of the family.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Interleaved pairs, tied head.
    Llama,
    /// The same with factors on the frequencies and a head of its own.
    Factors,
    /// Halves, biases.
    Qwen2,
}

/// Writes a model.
pub(crate) fn write(kind: Kind, seed: u64) -> Tiny {
    let mut numbers = Numbers(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let architecture = if kind == Kind::Qwen2 { "qwen2" } else { "llama" };
    let mut writer = metadata(architecture);
    let mut tensor = |name: &str, rows: usize, cols: usize, kind, size: f64, around: f64| {
        let values: Vec<f64> = (0..rows * cols).map(|_| around + size * numbers.next()).collect();
        let (packed, values) = pack(kind, &values);
        let shape = [cols as u64, rows as u64];
        let shape = if name.ends_with("norm.weight") || name.ends_with("bias") {
            &shape[..1]
        } else {
            &shape[..]
        };
        let old = std::mem::take(&mut writer);
        writer = old.tensor(name, shape, kind, &packed);
        Weights { cols, values }
    };
    let embedding = tensor("token_embd.weight", VOCAB, HIDDEN, TensorKind::Q8_0, 0.9, 0.0);
    let mut layers = Vec::new();
    for layer in 0..LAYERS {
        let norm = |name: &str| format!("blk.{layer}.{name}_norm.weight");
        let norms = ["attn", "ffn"].map(|n| tensor(&norm(n), 1, HIDDEN, TensorKind::F32, 0.2, 1.0));
        let (wide, narrow) = (HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM);
        let sites = [
            ("attn_q", wide, HIDDEN, TensorKind::Q8_0),
            ("attn_k", narrow, HIDDEN, TensorKind::F32),
            ("attn_v", narrow, HIDDEN, TensorKind::Q8_0),
            ("attn_output", HIDDEN, wide, TensorKind::Q4_1),
            ("ffn_gate", FEED_FORWARD, HIDDEN, TensorKind::Q4_1),
            ("ffn_up", FEED_FORWARD, HIDDEN, TensorKind::Q4_1),
            ("ffn_down", HIDDEN, FEED_FORWARD, TensorKind::F32),
        ];
        let sites = sites.map(|(name, rows, cols, kind)| {
            tensor(&format!("blk.{layer}.{name}.weight"), rows, cols, kind, 0.25, 0.0)
        });
        let mut biases = Vec::new();
        if kind == Kind::Qwen2 {
            for (name, rows) in [("attn_q", wide), ("attn_k", narrow), ("attn_v", narrow)] {
                let name = format!("blk.{layer}.{name}.bias");
                biases.push(tensor(&name, 1, rows, TensorKind::F32, 0.5, 0.0));
            }
        }
        layers.push(Layer { norms, sites: sites.into(), biases });
    }
    let output_norm = tensor("output_norm.weight", 1, HIDDEN, TensorKind::F32, 0.2, 1.0);
    let head = (kind == Kind::Factors)
        .then(|| tensor("output.weight", VOCAB, HIDDEN, TensorKind::Q8_0, 0.9, 0.0));
    let factors =
        (kind == Kind::Factors).then(|| (0..HEAD_DIM / 2).map(|i| 1.0 + i as f64).collect());
    let factors: Option<Vec<f64>> = factors;
    if let Some(factors) = &factors {
        let values: Vec<f32> = factors.iter().map(|factor| *factor as f32).collect();
        let old = std::mem::take(&mut writer);
        writer = old.floats("rope_freqs.weight", &[HEAD_DIM as u64 / 2], &values);
    }
    let halves = kind == Kind::Qwen2;
    Tiny { embedding, layers, output_norm, head, factors, halves, file: writer.finish() }
}

fn metadata(architecture: &str) -> GgufWriter {
    let key = |name: &str| format!("{architecture}.{name}");
    let mut tokens = vec!["<unk>".to_owned(), "<s>".to_owned(), "</s>".to_owned()];
    tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(["the", "and", "of", "to", "in"].map(str::to_owned));
    let kinds: Vec<i32> = (0..VOCAB as i32)
        .map(|id| match id {
            0 => 2,
            1 | 2 => 3,
            3..259 => 6,
            _ => 1,
        })
        .collect();
    GgufWriter::new()
        .text("general.architecture", architecture)
        .text("general.name", "tiny")
        .u32(&key("block_count"), LAYERS as u32)
        .u32(&key("embedding_length"), HIDDEN as u32)
        .u32(&key("attention.head_count"), HEADS as u32)
        .u32(&key("attention.head_count_kv"), KV_HEADS as u32)
        .u32(&key("feed_forward_length"), FEED_FORWARD as u32)
        .u32(&key("context_length"), CONTEXT as u32)
        .u32(&key("rope.dimension_count"), HEAD_DIM as u32)
        .f32(&key("rope.freq_base"), 10_000.0)
        .f32(&key("attention.layer_norm_rms_epsilon"), EPSILON)
        .text("tokenizer.ggml.model", "llama")
        .texts("tokenizer.ggml.tokens", tokens.iter().map(String::as_str))
        .f32s("tokenizer.ggml.scores", &vec![0.0; VOCAB])
        .i32s("tokenizer.ggml.token_type", &kinds)
        .u32("tokenizer.ggml.bos_token_id", 1)
        .u32("tokenizer.ggml.eos_token_id", END)
}

/// The model of a file.
pub(crate) fn open(tiny: &Tiny) -> Arc<Model> {
    Arc::new(Model::from_mapped(Mapped::from_bytes(tiny.file.clone())).unwrap())
}

/// The tiny Llama that most tests use; with a head of its own it does not just repeat itself.
pub(crate) fn model() -> Arc<Model> {
    open(&write(Kind::Factors, 1))
}
