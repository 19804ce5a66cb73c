//! What the tests share: the real model's path, and a model of a few kilobytes.

use std::path::PathBuf;

use openledger_models::{GgufWriter, Mapped, Model, TensorKind};

/// The real model file.
pub(crate) fn model_path() -> PathBuf {
    let path = std::env::var_os("OPENLEDGER_MODEL");
    path.map(PathBuf::from).expect("set OPENLEDGER_MODEL or run ./installers/test.sh")
}

/// The characters that stand for bytes in vocabularies like GPT-2's, by byte.
pub(crate) fn byte_characters() -> Vec<String> {
    let is_printable = |byte: u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut others = 0x100..;
    let mut character = |byte: u8| match is_printable(byte) {
        true => char::from(byte),
        false => char::from_u32(others.next().unwrap()).unwrap(),
    };
    (0..=255).map(|byte| character(byte).to_string()).collect()
}

/// Merges of the tiny vocabulary, `\u{120}` being a space.
pub(crate) const MERGES: [&str; 6] = ["h e", "l l", "he ll", "hell o", "\u{120} w", "\u{120}w o"];

/// Tokens of the tiny vocabulary: three control tokens, one that its makers defined, the bytes,
/// and what the merges make.
pub(crate) fn tokens() -> Vec<String> {
    let mut tokens: Vec<String> =
        ["<|end|>", "<|im_start|>", "<|im_end|>", "<tool>"].map(str::to_owned).to_vec();
    tokens.extend(byte_characters());
    tokens.extend(MERGES.iter().map(|merge| merge.replace(' ', "")));
    tokens
}

/// The tiny vocabulary's keys.
pub(crate) fn vocabulary(writer: GgufWriter, rules: &str) -> GgufWriter {
    let tokens = tokens();
    let mut kinds = vec![1; tokens.len()];
    kinds[..4].copy_from_slice(&[3, 3, 3, 4]);
    writer
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", rules)
        .texts("tokenizer.ggml.tokens", tokens.iter().map(String::as_str))
        .i32s("tokenizer.ggml.token_type", &kinds)
        .texts("tokenizer.ggml.merges", MERGES)
        .u32("tokenizer.ggml.bos_token_id", 1)
        .u32("tokenizer.ggml.eos_token_id", 2)
        .text(
            "tokenizer.chat_template",
            "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + \
             message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}\
             {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
        )
}

pub(crate) const LAYERS: usize = 2;
pub(crate) const HIDDEN: usize = 32;
pub(crate) const HEADS: usize = 4;
pub(crate) const KV_HEADS: usize = 2;
pub(crate) const FEED_FORWARD: usize = 64;

/// The shape of the tiny model.
pub(crate) fn shape(writer: GgufWriter, architecture: &str) -> GgufWriter {
    let key = |name: &str| format!("{architecture}.{name}");
    writer
        .text("general.architecture", architecture)
        .text("general.name", "Tiny")
        .u32(&key("block_count"), LAYERS as u32)
        .u32(&key("context_length"), 64)
        .u32(&key("embedding_length"), HIDDEN as u32)
        .u32(&key("feed_forward_length"), FEED_FORWARD as u32)
        .u32(&key("attention.head_count"), HEADS as u32)
        .u32(&key("attention.head_count_kv"), KV_HEADS as u32)
        .f32(&key("attention.layer_norm_rms_epsilon"), 1e-5)
}

/// The tiny model's weights: zeros, but for `Q8_0` and `F32` each at its place.
pub(crate) fn weights(mut writer: GgufWriter) -> GgufWriter {
    let matrix = |writer: GgufWriter, name: &str, cols: usize, rows: usize| {
        let shape = [cols as u64, rows as u64];
        let bytes = vec![0; TensorKind::Q8_0.bytes_of(&shape).unwrap()];
        writer.tensor(name, &shape, TensorKind::Q8_0, &bytes)
    };
    let kv = KV_HEADS * (HIDDEN / HEADS);
    writer = matrix(writer, "token_embd.weight", HIDDEN, tokens().len());
    for layer in 0..LAYERS {
        for norm in ["attn_norm", "ffn_norm"] {
            let name = format!("blk.{layer}.{norm}.weight");
            writer = writer.floats(&name, &[HIDDEN as u64], &[1.0; HIDDEN]);
        }
        for (site, cols, rows) in [
            ("attn_q", HIDDEN, HIDDEN),
            ("attn_k", HIDDEN, kv),
            ("attn_v", HIDDEN, kv),
            ("attn_output", HIDDEN, HIDDEN),
            ("ffn_gate", HIDDEN, FEED_FORWARD),
            ("ffn_up", HIDDEN, FEED_FORWARD),
            ("ffn_down", FEED_FORWARD, HIDDEN),
        ] {
            writer = matrix(writer, &format!("blk.{layer}.{site}.weight"), cols, rows);
        }
    }
    writer.floats("output_norm.weight", &[HIDDEN as u64], &[1.0; HIDDEN])
}

/// A whole tiny model.
pub(crate) fn tiny() -> Vec<u8> {
    weights(vocabulary(shape(GgufWriter::new(), "llama"), "smollm")).finish()
}

/// Opens bytes as a model.
pub(crate) fn open(bytes: Vec<u8>) -> Result<Model, openledger_models::ModelError> {
    Model::from_mapped(Mapped::from_bytes(bytes))
}
