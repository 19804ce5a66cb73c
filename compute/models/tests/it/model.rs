//! A whole model: every weight at its place, and every doubt an error.

use openledger_models::{
    Activation, Gguf, GgufWriter, ModelConfig, ModelError, NormSite, Rope, RopeLayout, Site,
    TensorKind, Weight,
};

use crate::support::{
    FEED_FORWARD, HEADS, HIDDEN, KV_HEADS, LAYERS, open, shape, tiny, tokens, vocabulary, weights,
};

fn error(writer: GgufWriter) -> String {
    open(writer.finish()).unwrap_err().to_string()
}

#[test]
fn every_weight_is_found() {
    let model = open(tiny()).unwrap();
    let config = model.config();
    assert_eq!((config.architecture.as_str(), config.name.as_str()), ("llama", "Tiny"));
    assert_eq!((config.layers, config.hidden, config.heads), (LAYERS, HIDDEN, HEADS));
    assert_eq!((config.kv_heads, config.head_dim, config.rope_dim), (KV_HEADS, 8, 8));
    assert_eq!((config.vocab, config.context), (tokens().len(), 64));
    assert_eq!(
        (&config.rope, config.rope_layout),
        (&Rope::plain(10_000.0), RopeLayout::Interleaved)
    );
    assert_eq!((config.window_of(0), config.rope_of(1)), (None, &config.rope));
    assert_eq!((config.activation, config.embedding_scale), (Activation::Silu, 1.0));
    assert_eq!(config.attention_scale, 1.0 / 8f32.sqrt());
    assert!(!config.head_norms && !config.post_norms);
    assert!(model.is_tied() && !config.attention_bias);
    let head = model.tensor(Weight::Head);
    assert_eq!(head, model.tensor(Weight::Embedding));
    assert_eq!((head.kind, head.rows, head.cols), (TensorKind::Q8_0, tokens().len(), HIDDEN));
    for layer in 0..LAYERS {
        for site in Site::ALL {
            let tensor = model.tensor(Weight::Site(layer, site));
            assert_eq!((tensor.rows, tensor.cols), site.shape(config));
            assert_eq!(tensor.bytes.len(), tensor.rows * tensor.cols / 32 * 34);
            assert_eq!(model.tensor(Weight::Bias(layer, site)).rows, 0);
        }
        for site in [NormSite::Attention, NormSite::FeedForward] {
            let norm = model.tensor(Weight::Norm(layer, site));
            assert_eq!((norm.kind, norm.rows, norm.cols), (TensorKind::F32, 1, HIDDEN));
            assert_eq!(norm.bytes[..4], 1.0f32.to_le_bytes());
        }
    }
    assert_eq!(model.tensor(Weight::Site(LAYERS, Site::Down)).bytes, b"");
    assert_eq!(model.tensor(Weight::OutputNorm).cols, HIDDEN);
    assert_eq!(model.tensor(Weight::Site(0, Site::Down)).cols, FEED_FORWARD);
}

#[test]
fn qwen2_has_biases_and_turns_halves() {
    let mut writer = weights(vocabulary(shape(GgufWriter::new(), "qwen2"), "qwen2"));
    for layer in 0..LAYERS {
        for (site, length) in [("attn_q", HIDDEN), ("attn_k", HIDDEN / 2), ("attn_v", HIDDEN / 2)] {
            let name = format!("blk.{layer}.{site}.bias");
            writer = writer.floats(&name, &[length as u64], &vec![0.5; length]);
        }
    }
    let model = open(writer.finish()).unwrap();
    assert!(model.config().attention_bias);
    assert_eq!(model.config().rope_layout, RopeLayout::Halves);
    let bias = model.tensor(Weight::Bias(1, Site::Key));
    assert_eq!((bias.rows, bias.cols, bias.bytes.len()), (1, HIDDEN / 2, HIDDEN * 2));
    assert_eq!(model.tensor(Weight::Bias(1, Site::Output)).rows, 0);
}

#[test]
fn a_head_of_its_own_and_frequencies_are_read() {
    let shape_of_head = [HIDDEN as u64, tokens().len() as u64];
    let factors = [1.0f32, 2.0, 4.0, 8.0];
    let writer = weights(vocabulary(shape(GgufWriter::new(), "llama"), "llama-bpe"))
        .floats("output.weight", &shape_of_head, &vec![0.0; HIDDEN * tokens().len()])
        .floats("rope_freqs.weight", &[4], &factors);
    let model = open(writer.finish()).unwrap();
    assert!(!model.is_tied());
    assert_eq!(model.tensor(Weight::Head).kind, TensorKind::F32);
    assert_eq!(model.config().rope.factors.as_deref(), Some(&factors[..]));
    let writer = weights(vocabulary(shape(GgufWriter::new(), "llama"), "llama-bpe")).floats(
        "rope_freqs.weight",
        &[4],
        &[1.0, 0.0, 1.0, 1.0],
    );
    assert!(error(writer).contains("tensor rope_freqs.weight is 0"));
}

#[test]
fn what_is_missing_or_too_much_is_named() {
    let whole = || weights(vocabulary(shape(GgufWriter::new(), "llama"), "smollm"));
    let extra = whole().floats("blk.0.attn_q_norm.weight", &[8], &[1.0; 8]);
    assert!(error(extra).contains("\"blk.0.attn_q_norm.weight\" is not known"));
    let extra = whole().floats("blk.2.attn_norm.weight", &[8], &[1.0; 8]);
    assert!(error(extra).contains("\"blk.2.attn_norm.weight\" is not known"));
    let bare = vocabulary(shape(GgufWriter::new(), "llama"), "smollm");
    assert!(error(bare.clone()).contains("token_embd.weight\" is missing"));
    let embedding = [HIDDEN as u64, tokens().len() as u64];
    let zeros = vec![0.0; HIDDEN * tokens().len()];
    let bare = bare.floats("token_embd.weight", &embedding, &zeros);
    assert!(error(bare.clone()).contains("\"blk.0.attn_norm.weight\" is missing"));
    let narrow = bare.floats("blk.0.attn_norm.weight", &[8], &[1.0; 8]);
    assert!(error(narrow).contains("is [8] where [32] is needed"));
    let fewer = weights(shape(GgufWriter::new(), "llama"))
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", "smollm")
        .texts("tokenizer.ggml.tokens", ["a", "b"])
        .texts("tokenizer.ggml.merges", [""; 0]);
    assert!(error(fewer).contains("rows of embeddings and 2 tokens"));
}

#[test]
fn shapes_that_cannot_be_are_refused() {
    let config = |writer: GgufWriter| {
        let bytes = writer.floats("token_embd.weight", &[2, 3], &[0.0; 6]).finish();
        ModelConfig::from_gguf(&Gguf::parse(&bytes).unwrap(), &bytes).map_err(|e| e.to_string())
    };
    // Keys in a map: the later call must name another key, so each fault has its own file.
    let base = |skip: &str| {
        let mut writer = GgufWriter::new().text("general.architecture", "llama");
        for (key, value) in [
            ("block_count", 2),
            ("context_length", 64),
            ("embedding_length", 32),
            ("feed_forward_length", 64),
            ("attention.head_count", 4),
        ] {
            if key != skip {
                writer = writer.u32(&format!("llama.{key}"), value);
            }
        }
        if skip != "epsilon" {
            writer = writer.f32("llama.attention.layer_norm_rms_epsilon", 1e-5);
        }
        writer
    };
    assert_eq!(config(base("")).unwrap().kv_heads, 4);
    let with = |name: &str, value: u32| {
        config(base(name).u32(&format!("llama.{name}"), value)).unwrap_err()
    };
    for (name, value) in [
        ("block_count", 0),
        ("block_count", 1_000_000),
        ("context_length", 0),
        ("embedding_length", u32::MAX),
        ("feed_forward_length", 0),
        ("attention.head_count", 0),
        ("attention.head_count", 5),
        ("attention.head_count_kv", 3),
        ("rope.dimension_count", 7),
        ("rope.dimension_count", 64),
        ("attention.value_length", 4),
        ("attention.key_length", 0),
    ] {
        let says = with(name, value);
        assert!(says.contains(name) && says.contains(&value.to_string()), "{says}");
    }
    assert!(with("expert_count", 8).contains("expert_count is 8, which is not supported"));
    assert!(config(base("block_count")).unwrap_err().contains("\"llama.block_count\" is missing"));
    let float = |name: &str, value: f32| {
        config(base("epsilon").f32("llama.attention.layer_norm_rms_epsilon", 1e-5).f32(name, value))
    };
    for (name, value) in [
        ("llama.rope.freq_base", f32::NAN),
        ("llama.rope.freq_base", 0.0),
        ("llama.rope.scaling.factor", -4.0),
        ("llama.attention.clamp_kqv", 8.0),
    ] {
        let says = float(name, value).unwrap_err();
        assert!(says.contains(name), "{says}");
    }
    assert_eq!(float("llama.rope.scaling.factor", 4.0).unwrap().rope.scale, 0.25);
    let longrope = config(base("").text("llama.rope.scaling.type", "longrope")).unwrap_err();
    assert!(longrope.contains("longrope, which is not supported"), "{longrope}");
    let epsilon = base("epsilon").f32("llama.attention.layer_norm_rms_epsilon", f32::NAN);
    assert!(config(epsilon).unwrap_err().contains("NaN"));
    let other = config(GgufWriter::new().text("general.architecture", "gemma2")).unwrap_err();
    assert!(other.contains("\"gemma2\" is not supported"), "{other}");
}

#[test]
fn a_truncated_model_says_how_much_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let whole = tiny();
    std::fs::write(&path, &whole[..whole.len() - 1_000]).unwrap();
    let error = openledger_models::Model::open(&path).unwrap_err();
    assert!(matches!(error, ModelError::Gguf(_)));
    let says = error.to_string();
    assert!(says.contains("1000 bytes are missing; download it again"), "{says}");
    std::fs::write(&path, whole).unwrap();
    assert!(openledger_models::Model::open(&path).is_ok());
}
