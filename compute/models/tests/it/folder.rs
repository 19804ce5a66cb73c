//! Folders of the transformers library: the same model as from GGUF, and every doubt an error.

use std::collections::BTreeMap;
use std::path::Path;

use openledger_models::safetensors::{FloatKind, Safetensors, StoredTensor};
use openledger_models::{
    Activation, Message, Model, ModelConfig, NormSite, Precision, Rope, RopeLayout, Site,
    SpecialTokens, TensorKind, Weight,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{MERGES, open, tiny, tokens};

const LAYERS: usize = 2;
const HIDDEN: usize = 32;
const FEED_FORWARD: usize = 64;

/// The name, shape and numbers of a tensor.
type Tensor = (String, Vec<u64>, Vec<f32>);

fn counted(length: usize, from: usize) -> Vec<f32> {
    (0..length).map(|n| ((n * 7 + from * 13) % 64) as f32 / 16.0 - 2.0).collect()
}

/// The weights of a tiny model with so many numbers to a head of the queries and of the keys.
fn weights(norms: &[(&str, usize)], query: usize, key: usize, vocab: usize) -> Vec<Tensor> {
    let mut tensors = Vec::new();
    let mut add = |name: String, shape: &[usize]| {
        let numbers = counted(shape.iter().product(), tensors.len());
        tensors.push((name, shape.iter().map(|n| *n as u64).collect(), numbers));
    };
    add("model.embed_tokens.weight".to_owned(), &[vocab, HIDDEN]);
    for layer in 0..LAYERS {
        let name = |module: &str| format!("model.layers.{layer}.{module}.weight");
        for (norm, width) in norms {
            add(name(norm), &[*width]);
        }
        add(name("self_attn.q_proj"), &[query, HIDDEN]);
        add(name("self_attn.k_proj"), &[key, HIDDEN]);
        add(name("self_attn.v_proj"), &[key, HIDDEN]);
        add(name("self_attn.o_proj"), &[HIDDEN, query]);
        add(name("mlp.gate_proj"), &[FEED_FORWARD, HIDDEN]);
        add(name("mlp.up_proj"), &[FEED_FORWARD, HIDDEN]);
        add(name("mlp.down_proj"), &[HIDDEN, FEED_FORWARD]);
    }
    add("model.norm.weight".to_owned(), &[HIDDEN]);
    tensors
}

fn llama_weights() -> Vec<Tensor> {
    let norms = [("input_layernorm", HIDDEN), ("post_attention_layernorm", HIDDEN)];
    weights(&norms, HIDDEN, HIDDEN / 2, tokens().len())
}

/// A file of tensors, all stored alike but for those that `other` says.
fn file(tensors: &[Tensor], kind: FloatKind) -> Vec<u8> {
    let bytes = |numbers: &[f32]| -> Vec<u8> {
        match kind {
            FloatKind::F32 => numbers.iter().flat_map(|n| n.to_le_bytes()).collect(),
            FloatKind::F16 => {
                numbers.iter().flat_map(|n| half::f16::from_f32(*n).to_le_bytes()).collect()
            }
            _ => numbers.iter().flat_map(|n| half::bf16::from_f32(*n).to_le_bytes()).collect(),
        }
    };
    let stored: Vec<Vec<u8>> = tensors.iter().map(|(.., numbers)| bytes(numbers)).collect();
    let tensors = tensors.iter().zip(&stored).map(|((name, shape, _), bytes)| {
        (name.clone(), StoredTensor { kind, shape: shape.clone(), bytes })
    });
    Safetensors { tensors: tensors.collect(), metadata: BTreeMap::new() }.to_bytes()
}

fn llama_config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "num_hidden_layers": LAYERS, "hidden_size": HIDDEN, "intermediate_size": FEED_FORWARD,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": tokens().len(),
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": true, "attention_bias": false, "rope_scaling": null,
        "eos_token_id": [2, 9], "torch_dtype": "bfloat16",
    })
}

/// The tiny vocabulary of the GGUF tests.
fn byte_tokenizer() -> Value {
    let tokens = tokens();
    let vocab: BTreeMap<&str, usize> =
        tokens.iter().enumerate().skip(4).map(|(id, text)| (text.as_str(), id)).collect();
    let added = tokens.iter().take(4).enumerate().map(
        |(id, text)| json!({"id": id, "content": text, "special": id < 3, "normalized": false}),
    );
    json!({
        "version": "1.0", "added_tokens": added.collect::<Vec<Value>>(), "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true},
            {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
        ]},
        "post_processor": null,
        "model": {"type": "BPE", "vocab": vocab, "merges": MERGES},
    })
}

fn told() -> Value {
    json!({
        "bos_token": {"content": "<|im_start|>"}, "eos_token": "<|im_end|>",
        "chat_template": "{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}",
    })
}

/// A folder with these files.
fn folder(files: &[(&str, Vec<u8>)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// A folder with these weights, and everything else of the tiny llama.
fn llama(config: &Value, weights: Vec<u8>) -> TempDir {
    folder(&[
        ("config.json", bytes(config)),
        ("model.safetensors", weights),
        ("tokenizer.json", bytes(&byte_tokenizer())),
        ("tokenizer_config.json", bytes(&told())),
    ])
}

fn error(folder: &Path) -> String {
    Model::open(folder).unwrap_err().to_string()
}

#[test]
fn a_folder_is_the_same_model_as_its_gguf_file() {
    let weights = llama_weights();
    let folder = llama(&llama_config(), file(&weights, FloatKind::F32));
    let model = Model::open_as(folder.path(), Precision::AsStored).unwrap();
    let gguf = open(tiny()).unwrap();
    let config = model.config();
    let expected = ModelConfig {
        name: String::new(),
        rope_layout: RopeLayout::Halves,
        ..gguf.config().clone()
    };
    assert_eq!(config, &expected);
    assert!(model.is_tied());
    for layer in 0..LAYERS {
        for site in Site::ALL {
            let tensor = model.tensor(Weight::Site(layer, site));
            let name = format!("model.layers.{layer}.{}.weight", site.peft_name());
            let (.., numbers) = weights.iter().find(|(known, ..)| *known == name).unwrap();
            let expected: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
            assert_eq!((tensor.kind, tensor.rows, tensor.cols), {
                let (rows, cols) = site.shape(config);
                (TensorKind::F32, rows, cols)
            });
            assert_eq!(tensor.bytes, expected);
        }
        assert_eq!(model.tensor(Weight::Norm(layer, NormSite::FeedForward)).cols, HIDDEN);
    }
    for text in ["hello world 12", "<|im_start|>hell<tool>\u{e9}\n"] {
        for special in [SpecialTokens::Parse, SpecialTokens::AsText] {
            let ids = model.tokenizer().encode(text, special);
            assert_eq!(ids, gguf.tokenizer().encode(text, special));
            assert_eq!(model.tokenizer().decode(&ids), gguf.tokenizer().decode(&ids));
        }
    }
    let tokenizer = model.tokenizer();
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.adds_bos()), (Some(1), Some(2), false));
    assert!(tokenizer.is_end(2) && tokenizer.is_end(9) && !tokenizer.is_end(8));
    let prompt = model.chat_template().render(&[Message::new("user", "a")], true).unwrap();
    assert_eq!(prompt, "a<|im_end|>");
}

#[test]
fn weights_are_packed_as_asked() {
    for kind in [FloatKind::F32, FloatKind::F16, FloatKind::Bf16] {
        let folder = llama(&llama_config(), file(&llama_weights(), kind));
        for (precision, table, matrix) in [
            (Precision::Q8_0, TensorKind::Q8_0, TensorKind::Q8_0),
            (Precision::Q4_1, TensorKind::Q8_0, TensorKind::Q4_1),
        ] {
            let model = Model::open_as(folder.path(), precision).unwrap();
            assert_eq!(model.tensor(Weight::Embedding).kind, table);
            let gate = model.tensor(Weight::Site(1, Site::Gate));
            let length = matrix.bytes_of(&[HIDDEN as u64, FEED_FORWARD as u64]).unwrap();
            assert_eq!((gate.kind, gate.bytes.len()), (matrix, length));
            let norm = model.tensor(Weight::OutputNorm);
            assert_eq!((norm.kind, norm.bytes.len()), (TensorKind::F32, 4 * HIDDEN));
        }
        let kept = Model::open_as(folder.path(), Precision::AsStored).unwrap();
        let expected = match kind {
            FloatKind::F32 => TensorKind::F32,
            FloatKind::F16 => TensorKind::F16,
            _ => TensorKind::Bf16,
        };
        assert_eq!(kept.tensor(Weight::Site(0, Site::Query)).kind, expected);
        assert_eq!(kept.tensor(Weight::OutputNorm).kind, TensorKind::F32);
    }
}

/// The tiny llama with its first gate in 8-bit floats, and scales of a shape.
fn eight_bits(name: &str, shape: &[u64], scales: &[f32], block: Value) -> Result<Vec<f32>, String> {
    let gate = "model.layers.0.mlp.gate_proj.weight";
    let others: Vec<Tensor> =
        llama_weights().into_iter().filter(|(name, ..)| name != gate).collect();
    let whole = file(&others, FloatKind::Bf16);
    let mut all = Safetensors::parse(&whole).unwrap();
    // 1.0 in the even columns, -1.5 in the odd ones.
    let codes: Vec<u8> = (0..FEED_FORWARD * HIDDEN).map(|n| [0x38, 0xbc][n % 2]).collect();
    let shape_of_gate = vec![FEED_FORWARD as u64, HIDDEN as u64];
    let stored = StoredTensor { kind: FloatKind::F8E4m3, shape: shape_of_gate, bytes: &codes };
    all.tensors.insert(gate.to_owned(), stored);
    let scale_bytes: Vec<u8> = scales.iter().flat_map(|n| n.to_le_bytes()).collect();
    let kind = FloatKind::F32;
    let stored = StoredTensor { kind, shape: shape.to_vec(), bytes: &scale_bytes };
    all.tensors.insert(gate.replace("weight", name), stored);
    let mut config = llama_config();
    config["quantization_config"] = json!({"quant_method": "fp8", "weight_block_size": block});
    let folder = llama(&config, all.to_bytes());
    let model = Model::open_as(folder.path(), Precision::AsStored).map_err(|e| e.to_string())?;
    let tensor = model.tensor(Weight::Site(0, Site::Gate));
    assert_eq!(tensor.kind, TensorKind::Bf16);
    let numbers = tensor.bytes.as_chunks::<2>().0.iter();
    Ok(numbers.map(|half| half::bf16::from_le_bytes(*half).to_f32()).collect())
}

#[test]
fn eight_bit_floats_are_multiplied_with_their_scales() {
    let none = Value::Null;
    let found = eight_bits("weight_scale", &[], &[0.5], none.clone()).unwrap();
    assert_eq!(found[..3], [0.5, -0.75, 0.5]);
    let rows: Vec<f32> = (0..FEED_FORWARD).map(|row| row as f32).collect();
    let found = eight_bits("weight_scale", &[64, 1], &rows, none.clone()).unwrap();
    assert_eq!((found[0], found[32 * 5], found[32 * 5 + 1]), (0.0, 5.0, -7.5));
    let scales = [1.0, 2.0, 4.0, 8.0];
    let found = eight_bits("weight_scale_inv", &[2, 2], &scales, json!([32, 16])).unwrap();
    let at = |row: usize, col: usize| found[row * HIDDEN + col];
    assert_eq!(
        (at(0, 0), at(0, 16), at(31, 17), at(32, 0), at(63, 31)),
        (1.0, 2.0, -3.0, 4.0, -12.0)
    );
    let error = eight_bits("weight_scale_inv", &[3], &[1.0; 3], none.clone()).unwrap_err();
    assert!(error.contains("scales of tensor") && error.contains("[128, 128]"), "{error}");
    let error = eight_bits("weight_scale", &[], &[f32::NAN], none).unwrap_err();
    assert!(error.contains("gate_proj.weight\" has numbers that are not finite"), "{error}");
}

#[test]
fn weights_may_lie_in_several_files() {
    let weights = llama_weights();
    let (first, second) = weights.split_at(7);
    let parts = [("model-1.safetensors", first), ("model-2.safetensors", second)];
    let index = |other: &str| {
        let map: BTreeMap<&str, &str> = parts
            .iter()
            .flat_map(|(file, part)| part.iter().map(move |(name, ..)| (name.as_str(), *file)))
            .chain([("other", other)])
            .collect();
        bytes(&json!({"metadata": {"total_size": 1}, "weight_map": map}))
    };
    let whole = llama(&llama_config(), Vec::new());
    let path = whole.path();
    let write = |name: &str, bytes: &[u8]| std::fs::write(path.join(name), bytes).unwrap();
    for (name, part) in parts {
        write(name, &file(part, FloatKind::F16));
    }
    let index_name = "model.safetensors.index.json";
    write(index_name, &index(parts[0].0));
    assert!(Model::open(path).is_ok());
    write(index_name, &index("../elsewhere.safetensors"));
    assert!(error(path).contains("\"../elsewhere.safetensors\", plain names"));
    write(index_name, &index("absent.safetensors"));
    assert!(error(path).contains("absent.safetensors cannot be opened"));
    write(index_name, b"{\"weight_map\": {}}");
    assert!(error(path).contains("\"0 files\""));
    write(index_name, b"{}");
    assert!(error(path).contains("model.safetensors.index.json cannot be read"));
    write("model-2.safetensors", &file(&weights, FloatKind::F16));
    write(index_name, &index(parts[0].0));
    assert!(error(path).contains("is in two files"));
}

#[test]
fn what_is_wrong_with_a_folder_is_named() {
    let weights = llama_weights();
    let sound = || llama(&llama_config(), file(&weights, FloatKind::F16));
    let without = |name: &str| {
        let folder = sound();
        std::fs::remove_file(folder.path().join(name)).unwrap();
        error(folder.path())
    };
    assert!(without("config.json").contains("config.json cannot be opened"));
    assert!(without("tokenizer.json").contains("tokenizer.json cannot be opened"));
    assert!(without("model.safetensors").contains("model.safetensors cannot be opened"));
    let folder = sound();
    let path = folder.path();
    std::fs::remove_file(path.join("model.safetensors")).unwrap();
    std::fs::write(path.join("pytorch_model.bin"), b"pickle").unwrap();
    assert!(error(path).contains("in pytorch_model.bin, a pickle, which can run anything"));

    let with = |change: &dyn Fn(&mut Vec<Tensor>)| {
        let mut tensors = weights.clone();
        change(&mut tensors);
        error(llama(&llama_config(), file(&tensors, FloatKind::F16)).path())
    };
    assert!(with(&|all| drop(all.pop())).contains("\"model.norm.weight\" is missing"));
    let extra =
        with(&|all| all.push(("model.layers.0.mlp.router.weight".into(), vec![1], vec![0.0])));
    assert!(extra.contains("mlp.router.weight\" is not known"), "{extra}");
    let wide = with(&|all| all[0].1 = vec![HIDDEN as u64, tokens().len() as u64]);
    assert!(wide.contains("embed_tokens.weight\" is [32,"), "{wide}");
    let nan = with(&|all| all[3].2[5] = f32::NAN);
    assert!(nan.contains("q_proj.weight\" has numbers that are not finite"), "{nan}");
    let mut short = file(&weights, FloatKind::F16);
    short.truncate(short.len() - 10);
    let short = error(llama(&llama_config(), short).path());
    assert!(short.contains("model.safetensors: read the safetensors file"), "{short}");
    let mut untied = llama_config();
    untied["tie_word_embeddings"] = json!(false);
    let untied = error(llama(&untied, file(&weights, FloatKind::F16)).path());
    assert!(untied.contains("\"lm_head.weight\" is missing"), "{untied}");
    // What follows from the configuration is passed over.
    let mut tensors = weights.clone();
    tensors.push(("model.layers.0.self_attn.rotary_emb.inv_freq".into(), vec![4], vec![1.0; 4]));
    assert!(Model::open(llama(&llama_config(), file(&tensors, FloatKind::F32)).path()).is_ok());
}

/// SentencePiece's vocabulary in the library's form.
fn marked_tokenizer() -> Value {
    let mut texts: Vec<String> =
        ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "\n\n"].map(str::to_owned).to_vec();
    texts.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    let pieces = [
        "\u{2581}",
        "h",
        "e",
        "l",
        "o",
        "he",
        "ll",
        "\u{2581}he",
        "llo",
        "\u{2581}hello",
        "\u{2581}\u{2581}",
    ];
    texts.extend(pieces.map(str::to_owned));
    let vocab: BTreeMap<&str, usize> =
        texts.iter().enumerate().map(|(id, text)| (text.as_str(), id)).collect();
    let added =
        |id: usize, special: bool| json!({"id": id, "content": texts[id], "special": special});
    let mut list: Vec<Value> = (0..5).map(|id| added(id, true)).collect();
    list.push(added(5, false));
    list.push(added(texts.len() - 1, false));
    json!({
        "added_tokens": list,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"},
        "pre_tokenizer": {
            "type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious",
            "invert": false,
        },
        "post_processor": {"type": "TemplateProcessing", "single": [
            {"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
        ]},
        "model": {
            "type": "BPE", "byte_fallback": true, "unk_token": "<unk>", "vocab": vocab,
            "merges": [["h", "e"], ["l", "l"], ["\u{2581}", "he"], ["ll", "o"], ["\u{2581}he", "llo"]],
        },
    })
}

fn gemma_config() -> Value {
    json!({
        "model_type": "gemma3", "text_config": {
            "model_type": "gemma3_text", "num_hidden_layers": LAYERS, "hidden_size": HIDDEN,
            "intermediate_size": FEED_FORWARD, "num_attention_heads": 4, "num_key_value_heads": 1,
            "head_dim": 16, "sliding_window": 512, "query_pre_attn_scalar": 64, "vocab_size": 280,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
            "layer_types": ["sliding_attention", "full_attention"],
        },
    })
}

const GEMMA_NORMS: [(&str, usize); 6] = [
    ("input_layernorm", HIDDEN),
    ("self_attn.q_norm", 16),
    ("self_attn.k_norm", 16),
    ("post_attention_layernorm", HIDDEN),
    ("pre_feedforward_layernorm", HIDDEN),
    ("post_feedforward_layernorm", HIDDEN),
];

#[test]
fn gemma_3_is_read_with_its_windows_norms_and_pieces() {
    let mut tensors = weights(&GEMMA_NORMS, 64, 16, 280);
    for (name, ..) in &mut tensors {
        *name = format!("language_model.{name}");
    }
    tensors.push(("vision_tower.patch.weight".to_owned(), vec![2], vec![1.0; 2]));
    let folder = folder(&[
        ("config.json", bytes(&gemma_config())),
        ("model.safetensors", file(&tensors, FloatKind::Bf16)),
        ("tokenizer.json", bytes(&marked_tokenizer())),
        (
            "tokenizer_config.json",
            bytes(&json!({"bos_token": "<bos>", "eos_token": "<eos>", "add_bos_token": true})),
        ),
        ("generation_config.json", bytes(&json!({"eos_token_id": [1, 4]}))),
        ("chat_template.jinja", b"{{ bos_token }}x".to_vec()),
    ]);
    let model = Model::open(folder.path()).unwrap();
    let config = model.config();
    assert_eq!((config.architecture.as_str(), config.head_dim), ("gemma3", 16));
    assert_eq!((config.window_of(0), config.window_of(1)), (Some(512), None));
    assert_eq!(config.rope_of(0), &Rope::plain(10_000.0));
    assert_eq!((config.rope_of(1).base, config.rope_of(1).scale), (1_000_000.0, 0.125));
    assert_eq!((config.attention_scale, config.activation), (0.125, Activation::GeluTanh));
    assert!(model.is_tied() && config.head_norms && config.post_norms);
    let norm = model.tensor(Weight::Norm(1, NormSite::FeedForward));
    let name = "language_model.model.layers.1.pre_feedforward_layernorm.weight";
    let (.., numbers) = tensors.iter().find(|(known, ..)| known == name).unwrap();
    let expected: Vec<u8> = numbers.iter().flat_map(|n| (n + 1.0).to_le_bytes()).collect();
    assert_eq!(norm.bytes, expected);

    let tokenizer = model.tokenizer();
    let texts = |text: &str| -> Vec<String> {
        let ids = tokenizer.encode(text, SpecialTokens::Parse);
        assert_eq!(tokenizer.decode(&ids), text.replace("<start_of_turn>", ""), "{ids:?}");
        ids.iter().map(|id| tokenizer.token_text(*id).unwrap().to_owned()).collect()
    };
    assert_eq!(texts("hello hello"), ["he", "llo", "\u{2581}hello"]);
    assert_eq!(
        texts("<start_of_turn>h  \u{20ac}\n\n"),
        ["<start_of_turn>", "h", "  ", "<0xE2>", "<0x82>", "<0xAC>", "\n\n"]
    );
    assert_eq!(tokenizer.encode_with_bos("h", SpecialTokens::Parse)[0], 2);
    assert!(tokenizer.is_end(1) && tokenizer.is_end(4) && tokenizer.vocab_len() == 280);
    assert_eq!(tokenizer.token_text(279), Some("[PAD279]"));
    assert_eq!(model.chat_template().render(&[], true).unwrap(), "<bos>x");
}

#[test]
fn configurations_are_read_or_refused_by_name() {
    let with = |more: Value| {
        let mut config = llama_config();
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        ModelConfig::from_json(&bytes(&config)).map_err(|e| e.to_string())
    };
    let llama3 = json!({"rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    }});
    let factors = with(llama3).unwrap().rope.factors.unwrap();
    assert_eq!((factors.len(), factors[3]), (4, 8.0));
    let yarn = json!({"rope_scaling": {
        "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32,
    }});
    let rope = with(yarn).unwrap().rope;
    assert!((rope.magnitude - 1.138_629_4).abs() < 1e-6 && rope.factors.is_some());
    let newer =
        json!({"rope_theta": null, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}});
    assert_eq!(with(newer).unwrap().rope, Rope::plain(500_000.0));
    let mistral =
        with(json!({"model_type": "mistral", "sliding_window": 16, "head_dim": 16})).unwrap();
    assert_eq!((mistral.architecture.as_str(), mistral.window_of(1)), ("llama", Some(16)));
    assert_eq!((mistral.head_dim, mistral.query_width()), (16, 64));
    let qwen2 = with(json!({
        "model_type": "qwen2", "use_sliding_window": true, "sliding_window": 16,
        "max_window_layers": 1,
    }));
    let qwen2 = qwen2.unwrap();
    assert!(qwen2.attention_bias && !qwen2.head_norms);
    assert_eq!((qwen2.window_of(0), qwen2.window_of(1)), (None, Some(16)));
    let qwen3 = with(json!({"model_type": "qwen3", "sliding_window": 16})).unwrap();
    assert_eq!((qwen3.window_of(0), qwen3.head_dim, qwen3.head_norms), (None, 128, true));

    for (more, says) in [
        (json!({"model_type": "mamba"}), "\"mamba\" is not supported"),
        (json!({"attention_bias": true}), "attention_bias is true, which is not supported"),
        (json!({"mlp_bias": true}), "mlp_bias is true"),
        (json!({"hidden_act": "gelu"}), "hidden_act is gelu"),
        (json!({"num_hidden_layers": 0}), "num_hidden_layers is 0, 1 to 512"),
        (json!({"hidden_size": null}), "hidden_size is missing"),
        (json!({"hidden_size": "x"}), "hidden_size is missing or no whole number"),
        (json!({"num_key_value_heads": 3}), "a divisor of the 4 query heads"),
        (json!({"num_attention_heads": 5, "num_key_value_heads": 5}), "head_dim is missing"),
        (json!({"head_dim": 7}), "head_dim is 7, an even number"),
        (json!({"rms_norm_eps": -1.0}), "rms_norm_eps is -1"),
        (json!({"rope_theta": 0.5}), "rope_theta is 0.5"),
        (json!({"rope_scaling": {"rope_type": "longrope"}}), "rope_type is longrope"),
        (json!({"rope_scaling": {"rope_type": "linear", "factor": 0.5}}), "factor is 0.5"),
        (json!({"rope_scaling": {"rope_type": "yarn", "factor": 4, "mscale": 1}}), "mscale is 1"),
        (json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor is 0.5"),
        (json!({"quantization_config": {"quant_method": "gptq"}}), "quant_method is gptq"),
        (
            json!({"quantization_config": {"quant_method": "compressed-tensors", "format": "pack-quantized"}}),
            "format is pack-quantized",
        ),
    ] {
        let error = with(more).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
    assert!(ModelConfig::from_json(b"[]").unwrap_err().to_string().contains("config.json cannot"));
    let gemma = ModelConfig::from_json(&bytes(&gemma_config())).unwrap();
    assert_eq!((gemma.context, gemma.rms_epsilon), (131_072, 1e-6));
}
