//! Seeds of model files and adapters: the smallest that are whole.

use openledger_models::{
    Activation, AdapterBundle, GgufWriter, ModelConfig, Rope, RopeLayout, TensorKind, peft,
};

use super::Seeds;

const HIDDEN: usize = 4;
/// Tokens of the small vocabulary: two control tokens, and one per byte.
const TOKENS: usize = 2 + 256 + 2;

/// The shape that adapters are tried against.
#[must_use]
pub fn config() -> ModelConfig {
    ModelConfig {
        architecture: "llama".to_owned(),
        name: "Small".to_owned(),
        layers: 1,
        hidden: HIDDEN,
        heads: 1,
        kv_heads: 1,
        head_dim: HIDDEN,
        feed_forward: HIDDEN,
        vocab: TOKENS,
        context: 16,
        windows: Vec::new(),
        rope_dim: HIDDEN,
        rope_layout: RopeLayout::Interleaved,
        rope: Rope::plain(10_000.0),
        local_rope: None,
        rms_epsilon: 1e-5,
        attention_scale: 0.5,
        embedding_scale: 1.0,
        activation: Activation::Silu,
        attention_bias: false,
        head_norms: false,
        post_norms: false,
    }
}

/// The characters that stand for bytes in vocabularies like GPT-2's.
fn byte_characters() -> impl Iterator<Item = String> {
    let is_printable = |byte: u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut others = 0x100u32..;
    (0..=255u8).filter_map(move |byte| {
        let code = if is_printable(byte) { u32::from(byte) } else { others.next()? };
        char::from_u32(code).map(String::from)
    })
}

/// A file with a small vocabulary, and nothing else.
#[must_use]
pub fn vocabulary(rules: &str) -> GgufWriter {
    let mut tokens = vec!["<|im_start|>".to_owned(), "<|im_end|>".to_owned()];
    tokens.extend(byte_characters());
    tokens.extend(["ab".to_owned(), "\u{120}ab".to_owned()]);
    let mut kinds = vec![1; tokens.len()];
    for kind in kinds.iter_mut().take(2) {
        *kind = 3;
    }
    GgufWriter::new()
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", rules)
        .texts("tokenizer.ggml.tokens", tokens.iter().map(String::as_str))
        .i32s("tokenizer.ggml.token_type", &kinds)
        .texts("tokenizer.ggml.merges", ["a b", "\u{120} ab"])
        .u32("tokenizer.ggml.bos_token_id", 0)
        .u32("tokenizer.ggml.eos_token_id", 1)
}

fn shape(writer: GgufWriter) -> GgufWriter {
    writer
        .text("general.architecture", "llama")
        .u32("llama.block_count", 1)
        .u32("llama.context_length", 16)
        .u32("llama.embedding_length", HIDDEN as u32)
        .u32("llama.feed_forward_length", HIDDEN as u32)
        .u32("llama.attention.head_count", 1)
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-5)
}

/// All weights; `tokens` rows of embeddings.
fn weights(mut writer: GgufWriter, tokens: usize) -> GgufWriter {
    let width = HIDDEN as u64;
    let bytes = vec![0; tokens * HIDDEN * 2];
    writer = writer.tensor("token_embd.weight", &[width, tokens as u64], TensorKind::F16, &bytes);
    for norm in ["attn_norm", "ffn_norm"] {
        writer = writer.floats(&format!("blk.0.{norm}.weight"), &[width], &[1.0; HIDDEN]);
    }
    for site in ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"] {
        let name = format!("blk.0.{site}.weight");
        writer = writer.tensor(&name, &[width, width], TensorKind::F16, &[0; HIDDEN * HIDDEN * 2]);
    }
    writer.floats("output_norm.weight", &[width], &[1.0; HIDDEN])
}

/// A whole model with a vocabulary of five tokens.
fn smallest(kind: &str) -> Vec<u8> {
    let tokens = ["<s>", "a", "b", "ab", "<0x61>"];
    let writer = shape(GgufWriter::new())
        .text("tokenizer.ggml.model", kind)
        .text("tokenizer.ggml.pre", "smollm")
        .texts("tokenizer.ggml.tokens", tokens)
        .i32s("tokenizer.ggml.token_type", &[3, 1, 1, 1, 6])
        .f32s("tokenizer.ggml.scores", &[0.0, -1.0, -2.0, -3.0, 0.0])
        .texts("tokenizer.ggml.merges", ["a b"])
        .text("tokenizer.chat_template", TEMPLATES[0]);
    weights(writer, tokens.len()).finish()
}

const TEMPLATES: [&str; 4] = [
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + \
     '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "{{ bos_token }}{%- if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}\
     {% else %}{% set loop_messages = messages %}{% endif %}{% for m in loop_messages %}\
     {% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('no') }}{% endif %}\
     {{- '[INST] ' ~ m.content.strip() ~ ' [/INST]' -}}{% endfor %}",
    "{% set ns = namespace(x='a') %}{% for i in range(9) %}{% set ns.x = ns.x + ns.x %}{% endfor %}\
     {% macro f(a, b=1) %}{{ a | upper }}{{ [a, b] | tojson }}{% endmacro %}{{ f(ns.x) }}",
    "{# note #}{% set x %}{{ messages | map(attribute='content') | join(', ') }}{% endset %}{{ x[:5] }}",
];

/// Shapes in the words of the transformers library.
const CONFIGS: [&str; 3] = [
    r#"{"model_type":"llama","num_hidden_layers":1,"hidden_size":4,"intermediate_size":4,"num_attention_heads":1,"vocab_size":5,"max_position_embeddings":16,"rms_norm_eps":1e-5,"hidden_act":"silu","rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8}}"#,
    r#"{"model_type":"gemma3","text_config":{"model_type":"gemma3_text","num_hidden_layers":2,"hidden_size":4,"intermediate_size":4,"num_attention_heads":2,"num_key_value_heads":1,"head_dim":4,"sliding_window":8,"layer_types":["sliding_attention","full_attention"],"query_pre_attn_scalar":4,"rope_scaling":{"rope_type":"linear","factor":8.0}}}"#,
    r#"{"model_type":"qwen3","num_hidden_layers":1,"hidden_size":4,"intermediate_size":4,"num_attention_heads":2,"num_key_value_heads":1,"head_dim":4,"vocab_size":5,"max_position_embeddings":64,"use_sliding_window":true,"sliding_window":4,"max_window_layers":0,"rope_parameters":{"rope_theta":1e6,"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":16},"quantization_config":{"quant_method":"fp8","weight_block_size":[128,128]}}"#,
];

/// Tokenizers in the words of the transformers library.
const TOKENIZERS: [&str; 2] = [
    r#"{"added_tokens":[{"id":0,"content":"<s>","special":true}],"normalizer":{"type":"NFC"},"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true},{"type":"ByteLevel","add_prefix_space":false}]},"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>"}},{"Sequence":{"id":"A"}}]},"model":{"type":"BPE","ignore_merges":true,"vocab":{"a":1,"b":2,"ab":3},"merges":["a b"]}}"#,
    r#"{"added_tokens":[{"id":0,"content":"<s>","special":true},{"id":6,"content":"  ","special":false}],"normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]},"model":{"type":"BPE","byte_fallback":true,"unk_token":"a","vocab":{"a":1,"b":2,"ab":3,"<0x0A>":4,"▁":5},"merges":[["a","b"]]}}"#,
];

/// An adapter of rank 2 for one matrix, in a GGUF file.
fn gguf_adapter() -> Vec<u8> {
    let numbers = [0.5f32; 2 * HIDDEN];
    GgufWriter::new()
        .text("general.type", "adapter")
        .text("adapter.type", "lora")
        .text("general.architecture", "llama")
        .f32("adapter.lora.alpha", 4.0)
        .floats("blk.0.attn_q.weight.lora_a", &[HIDDEN as u64, 2], &numbers)
        .floats("blk.0.attn_q.weight.lora_b", &[2, HIDDEN as u64], &numbers)
        .finish()
}

const TEXTS: [&str; 4] = [
    "ab ab<|im_start|>user\nab's 1234 I'LL<|im_end|>\n\n  x",
    "\u{e9}\u{301}\u{200d}\u{1f468}\u{200d}\u{1f469} \u{663}\u{bd}\u{ff11} \u{4e2d}\u{6587}\u{3000}\u{85}",
    " \t\r\n  ab\0\u{fffd}\u{e000}\u{10ffff}",
    "a+b==$5.00!! '''s 't",
];

/// The seeds of all targets for models.
pub(super) fn all() -> anyhow::Result<Seeds> {
    let mut seeds = Seeds::new();
    for file in [smallest("gpt2"), smallest("llama"), vocabulary("default").finish()] {
        seeds.push(("model", file));
    }
    for (seed, rank) in [(1, 1), (2, 3)] {
        let (json, tensors) = peft::synthesize(&config(), seed, rank, 0.5);
        seeds.push(("adapter-bundle", AdapterBundle::pack(&json, &tensors)?));
        seeds.push(("adapter", [json.as_slice(), b"\n", &tensors].concat()));
    }
    seeds.extend(TEMPLATES.map(|source| ("chat-template", source.as_bytes().to_vec())));
    let texts = |target: &'static str, texts: &[&str]| -> Vec<(&'static str, Vec<u8>)> {
        texts.iter().map(|text| (target, text.as_bytes().to_vec())).collect()
    };
    seeds.extend(texts("model-config", &CONFIGS));
    seeds.extend(texts("tokenizer-json", &TOKENIZERS));
    seeds.push(("adapter-gguf", gguf_adapter()));
    seeds.extend(TEXTS.map(|text| ("tokenizer", text.as_bytes().to_vec())));
    Ok(seeds)
}
