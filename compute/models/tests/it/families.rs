//! Qwen 3 and Gemma 3, and contexts that were stretched: what sets them apart is read from their
//! files.

use openledger_models::{
    Activation, GgufWriter, ModelConfig, NormSite, Rope, RopeLayout, TensorKind, Weight,
};

use crate::support::{open, tokens, vocabulary};

const LAYERS: usize = 7;
const HIDDEN: usize = 32;
/// Wider than the hidden state over the heads, as in both families.
const HEAD_DIM: usize = 16;

/// The shape of a model, with keys of its own.
fn shape(architecture: &str, more: impl Fn(GgufWriter) -> GgufWriter) -> GgufWriter {
    let key = |name: &str| format!("{architecture}.{name}");
    let writer = GgufWriter::new()
        .text("general.architecture", architecture)
        .u32(&key("block_count"), LAYERS as u32)
        .u32(&key("context_length"), 131_072)
        .u32(&key("embedding_length"), HIDDEN as u32)
        .u32(&key("feed_forward_length"), 64)
        .u32(&key("attention.head_count"), 4)
        .u32(&key("attention.head_count_kv"), 1)
        .u32(&key("attention.key_length"), HEAD_DIM as u32)
        .u32(&key("attention.value_length"), HEAD_DIM as u32)
        .f32(&key("rope.freq_base"), 1_000_000.0)
        .f32(&key("attention.layer_norm_rms_epsilon"), 1e-6);
    more(writer)
}

/// Its weights: zeros, but for the norms.
fn weights(mut writer: GgufWriter, norms: &[(&str, usize)]) -> GgufWriter {
    let matrix = |writer: GgufWriter, name: &str, cols: usize, rows: usize| {
        let bytes = vec![0; 2 * cols * rows];
        writer.tensor(name, &[cols as u64, rows as u64], TensorKind::F16, &bytes)
    };
    writer = matrix(writer, "token_embd.weight", HIDDEN, tokens().len());
    for layer in 0..LAYERS {
        for (norm, width) in norms {
            let name = format!("blk.{layer}.{norm}.weight");
            writer = writer.floats(&name, &[*width as u64], &vec![1.0; *width]);
        }
        for (site, cols, rows) in [
            ("attn_q", HIDDEN, 4 * HEAD_DIM),
            ("attn_k", HIDDEN, HEAD_DIM),
            ("attn_v", HIDDEN, HEAD_DIM),
            ("attn_output", 4 * HEAD_DIM, HIDDEN),
            ("ffn_gate", HIDDEN, 64),
            ("ffn_up", HIDDEN, 64),
            ("ffn_down", 64, HIDDEN),
        ] {
            writer = matrix(writer, &format!("blk.{layer}.{site}.weight"), cols, rows);
        }
    }
    writer.floats("output_norm.weight", &[HIDDEN as u64], &[1.0; HIDDEN])
}

const QWEN3: [(&str, usize); 4] = [
    ("attn_norm", HIDDEN),
    ("ffn_norm", HIDDEN),
    ("attn_q_norm", HEAD_DIM),
    ("attn_k_norm", HEAD_DIM),
];
const GEMMA3: [(&str, usize); 6] = [
    ("attn_norm", HIDDEN),
    ("ffn_norm", HIDDEN),
    ("attn_q_norm", HEAD_DIM),
    ("attn_k_norm", HEAD_DIM),
    ("post_attention_norm", HIDDEN),
    ("post_ffw_norm", HIDDEN),
];

fn qwen3(more: impl Fn(GgufWriter) -> GgufWriter) -> Result<ModelConfig, String> {
    let writer = weights(vocabulary(shape("qwen3", more), "qwen2"), &QWEN3);
    open(writer.finish()).map(|model| model.config().clone()).map_err(|e| e.to_string())
}

fn gemma3(more: impl Fn(GgufWriter) -> GgufWriter) -> Result<ModelConfig, String> {
    let writer = weights(vocabulary(shape("gemma3", more), "default"), &GEMMA3);
    open(writer.finish()).map(|model| model.config().clone()).map_err(|e| e.to_string())
}

#[test]
fn qwen_3_normalises_its_heads() {
    let writer = weights(vocabulary(shape("qwen3", |w| w), "qwen2"), &QWEN3);
    let model = open(writer.finish()).unwrap();
    let config = model.config();
    assert!(config.head_norms && !config.post_norms && !config.attention_bias);
    assert_eq!((config.rope_layout, config.activation), (RopeLayout::Halves, Activation::Silu));
    assert_eq!((config.query_width(), config.kv_width()), (64, 16));
    assert_eq!(config.attention_scale, 0.25);
    assert_eq!(model.tensor(Weight::Norm(6, NormSite::Query)).cols, HEAD_DIM);
    assert_eq!(model.tensor(Weight::Norm(6, NormSite::AttentionOutput)).cols, 0);
    assert!(model.is_tied());
    let plain = weights(vocabulary(shape("qwen3", |w| w), "qwen2"), &QWEN3[..3]);
    let error = open(plain.finish()).unwrap_err().to_string();
    assert!(error.contains("\"blk.0.attn_k_norm.weight\" is missing"), "{error}");
    let more = weights(vocabulary(shape("qwen3", |w| w), "qwen2"), &GEMMA3);
    let error = open(more.finish()).unwrap_err().to_string();
    assert!(error.contains("post_attention_norm.weight\" is not known"), "{error}");
}

#[test]
fn gemma_3_looks_through_windows() {
    let config = gemma3(|w| w.u32("gemma3.attention.sliding_window", 512)).unwrap();
    assert!(config.head_norms && config.post_norms);
    assert_eq!((config.activation, config.embedding_scale), (Activation::GeluTanh, 32f32.sqrt()));
    assert_eq!(config.context, 131_072);
    let windows: Vec<Option<usize>> = (0..8).map(|layer| config.window_of(layer)).collect();
    let near = Some(512);
    assert_eq!(windows, [near, near, near, near, near, None, near, None]);
    assert_eq!(config.rope_of(0), &Rope::plain(10_000.0));
    assert_eq!(config.rope_of(5), &Rope::plain(1_000_000.0));
    assert_eq!(config.attention_scale, 0.25);

    // As newer files say it, and as larger models stretch it.
    let config = gemma3(|w| {
        w.u32("gemma3.attention.sliding_window", 8)
            .u32("gemma3.attention.sliding_window_pattern", 2)
            .f32("gemma3.rope.freq_base_swa", 5_000.0)
            .text("gemma3.rope.scaling.type", "linear")
            .f32("gemma3.rope.scaling.factor", 8.0)
    })
    .unwrap();
    assert_eq!((config.window_of(0), config.window_of(1)), (Some(8), None));
    assert_eq!(config.rope_of(0), &Rope::plain(5_000.0));
    assert_eq!((config.rope_of(1).base, config.rope_of(1).scale), (1_000_000.0, 0.125));
    let flags = [1u8, 0, 1, 1, 1, 1, 1];
    let list = [&7u32.to_le_bytes()[..], &7u64.to_le_bytes(), &flags].concat();
    let by_flags = |list: &[u8]| {
        gemma3(|w| {
            w.u32("gemma3.attention.sliding_window", 8).raw(
                "gemma3.attention.sliding_window_pattern",
                9,
                list,
            )
        })
    };
    let config = by_flags(&list).unwrap();
    assert_eq!((config.window_of(0), config.window_of(1)), (Some(8), None));
    let short = [&7u32.to_le_bytes()[..], &6u64.to_le_bytes(), &flags[..6]].concat();
    assert!(by_flags(&short).unwrap_err().contains("7 flags is needed"));

    let plain = gemma3(|w| w).unwrap();
    assert_eq!((plain.window_of(0), plain.local_rope), (None, None));
    let bent = gemma3(|w| w.f32("gemma3.final_logit_softcapping", 30.0)).unwrap_err();
    assert!(bent.contains("final_logit_softcapping is 30, which is not supported"), "{bent}");
}

#[test]
fn mistrals_windows_are_those_of_all_layers() {
    let config = qwen3(|w| w.u32("qwen3.attention.sliding_window", 64)).unwrap();
    assert_eq!((config.window_of(0), config.window_of(6)), (Some(64), Some(64)));
    assert_eq!(config.local_rope, None);
}

#[test]
fn contexts_stretched_by_yarn_are_read() {
    let yarn = |writer: GgufWriter| {
        writer
            .text("qwen3.rope.scaling.type", "yarn")
            .f32("qwen3.rope.scaling.factor", 4.0)
            .u32("qwen3.rope.scaling.original_context_length", 32_768)
    };
    let rope = qwen3(yarn).unwrap().rope;
    let factors = rope.factors.unwrap();
    assert_eq!((factors.len(), factors[0], factors[7]), (HEAD_DIM / 2, 1.0, 4.0));
    assert!((rope.magnitude - 1.138_629_4).abs() < 1e-6, "{}", rope.magnitude);
    let more = |name: &'static str, value: f32| {
        qwen3(move |w| yarn(w).f32(&format!("qwen3.rope.scaling.{name}"), value))
    };
    let sharper = more("attn_factor", 2.0).unwrap().rope.magnitude;
    assert!((sharper - 2.0 * 1.138_629_4).abs() < 1e-5, "{sharper}");
    let flat = more("yarn_ext_factor", 0.0).unwrap().rope;
    assert_eq!((flat.factors, flat.magnitude), (Some(vec![4.0; HEAD_DIM / 2]), 1.0));
    assert_ne!(more("yarn_beta_slow", 8.0).unwrap().rope.factors, Some(factors));
    for (name, value) in [("attn_factor", 0.0), ("yarn_beta_fast", -1.0), ("yarn_ext_factor", 3.0)]
    {
        assert!(more(name, value).unwrap_err().contains("is needed"), "{name}");
    }
    assert!(more("yarn_log_multiplier", 0.1).unwrap_err().contains("not supported"));
}
