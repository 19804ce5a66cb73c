//! Models and adapters in all the forms that people have: folders, GGUF, and repositories of a hub.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::Path as UrlPath;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use openledger_app::serving::{
    AddOptions, EntryKind, InferenceConfig, Library, LocalServe, ModelsConfig, Serve as _, add,
    whole,
};
use openledger_models::safetensors::{FloatKind, Safetensors, StoredTensor};
use openledger_models::{GgufWriter, ModelConfig, Site, peft};
use openledger_wire::List;
use openledger_wire::call::Call;
use serde_json::{Value, json};

use crate::fake_serve::call;
use crate::process;
use crate::serving::model_path;
use crate::workers::program;

const LAYERS: usize = 2;
const HIDDEN: usize = 64;
const VOCAB: usize = 258;

/// Bytes as byte-level vocabularies spell them.
fn spelled(byte: u8) -> char {
    let is_plain = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if is_plain(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&other| !is_plain(other)).count();
    char::from_u32(256 + u32::try_from(before).unwrap()).unwrap()
}

fn tokenizer() -> Value {
    let mut vocab: BTreeMap<String, usize> =
        (0..=255u8).map(|byte| (spelled(byte).to_string(), usize::from(byte))).collect();
    vocab.insert("<s>".to_owned(), 256);
    vocab.insert("</s>".to_owned(), 257);
    let special = |id: usize, content: &str| json!({"id": id, "content": content, "special": true, "normalized": false});
    json!({
        "version": "1.0", "normalizer": null, "post_processor": null,
        "added_tokens": [special(256, "<s>"), special(257, "</s>")],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    })
}

fn config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "num_hidden_layers": LAYERS, "hidden_size": HIDDEN, "intermediate_size": 2 * HIDDEN,
        "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": VOCAB,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": true, "attention_bias": false, "rope_scaling": null,
        "bos_token_id": 256, "eos_token_id": 257, "torch_dtype": "float32",
    })
}

fn tensors() -> Vec<u8> {
    let mut all: BTreeMap<String, (Vec<u64>, Vec<u8>)> = BTreeMap::new();
    let mut add = |name: &str, shape: &[usize]| {
        let count: usize = shape.iter().product();
        let salt = all.len() + 3;
        let number = |n: usize| ((n * salt * 2_654_435_761) % 1_009) as f32 / 5_000.0 - 0.1;
        let bytes = (0..count).flat_map(|n| number(n).to_le_bytes()).collect();
        let shape = shape.iter().map(|&n| n as u64).collect();
        all.insert(format!("model.{name}.weight"), (shape, bytes));
    };
    add("embed_tokens", &[VOCAB, HIDDEN]);
    add("norm", &[HIDDEN]);
    for layer in 0..LAYERS {
        let mut one = |name: &str, shape: &[usize]| add(&format!("layers.{layer}.{name}"), shape);
        one("input_layernorm", &[HIDDEN]);
        one("post_attention_layernorm", &[HIDDEN]);
        one("self_attn.q_proj", &[HIDDEN, HIDDEN]);
        one("self_attn.k_proj", &[HIDDEN / 2, HIDDEN]);
        one("self_attn.v_proj", &[HIDDEN / 2, HIDDEN]);
        one("self_attn.o_proj", &[HIDDEN, HIDDEN]);
        one("mlp.gate_proj", &[2 * HIDDEN, HIDDEN]);
        one("mlp.up_proj", &[2 * HIDDEN, HIDDEN]);
        one("mlp.down_proj", &[HIDDEN, 2 * HIDDEN]);
    }
    let kind = FloatKind::F32;
    let tensors = all.iter().map(|(name, (shape, bytes))| {
        (name.clone(), StoredTensor { kind, shape: shape.clone(), bytes })
    });
    Safetensors { tensors: tensors.collect(), metadata: BTreeMap::new() }.to_bytes()
}

/// The files of a model in Hugging Face's form.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    let told = json!({"bos_token": "<s>", "eos_token": "</s>", "chat_template":
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"});
    vec![
        ("config.json", config().to_string().into_bytes()),
        ("model.safetensors", tensors()),
        ("tokenizer.json", tokenizer().to_string().into_bytes()),
        ("tokenizer_config.json", told.to_string().into_bytes()),
    ]
}

fn written(folder: &Path) -> PathBuf {
    let path = folder.join("tiny-llama");
    std::fs::create_dir_all(&path).unwrap();
    for (name, bytes) in files() {
        std::fs::write(path.join(name), bytes).unwrap();
    }
    std::fs::write(path.join("README.md"), "nothing that is read").unwrap();
    path
}

fn shape() -> ModelConfig {
    ModelConfig::from_json(config().to_string().as_bytes()).unwrap()
}

/// An adapter of the tiny model's feed-forward layers, as llama.cpp's converter writes it.
fn gguf_adapter(folder: &Path) -> PathBuf {
    let (rank, shape) = (4usize, shape());
    let (rows, cols) = Site::Down.shape(&shape);
    let numbers = |count: usize| -> Vec<f32> {
        (0..count).map(|n| ((n * 37) % 41) as f32 / 10.0 - 2.0).collect()
    };
    let mut writer = GgufWriter::default()
        .text("general.type", "adapter")
        .text("adapter.type", "lora")
        .text("general.architecture", "llama")
        .f32("adapter.lora.alpha", 32.0);
    for layer in 0..LAYERS {
        let name = format!("blk.{layer}.ffn_down.weight");
        let (a, b) = ([cols as u64, rank as u64], [rank as u64, rows as u64]);
        writer = writer.floats(&format!("{name}.lora_a"), &a, &numbers(rank * cols));
        writer = writer.floats(&format!("{name}.lora_b"), &b, &numbers(rank * rows));
    }
    let path = folder.join("voice.gguf");
    std::fs::write(&path, writer.finish()).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_hugging_face_and_an_adapter_in_gguf_are_taken_over_and_answer() {
    let folder = tempfile::tempdir().unwrap();
    let library = Arc::new(Library::open(folder.path().join("models")));
    let from = written(folder.path());
    let base = add(&library, &from, &AddOptions::default()).unwrap();
    assert_eq!((base.name.as_str(), base.kind), ("tiny-llama", EntryKind::Base));
    assert!(
        base.path.is_dir() && base.path.starts_with(library.folder()) && base.problem.is_none()
    );
    assert!(!base.path.join("README.md").exists());
    let again = add(&library, &from, &AddOptions::default()).unwrap();
    assert_eq!((again.blob, library.entries().len()), (base.blob, 1));
    let voice = add(&library, &gguf_adapter(folder.path()), &AddOptions::default()).unwrap();
    assert_eq!(
        (voice.kind, voice.base, voice.name.as_str()),
        (EntryKind::Adapter, Some(base.blob), "voice")
    );

    let (config, inference) =
        (ModelsConfig { threads: 1, ..ModelsConfig::default() }, InferenceConfig::default());
    let serve = LocalServe::new(Arc::clone(&library), program(), config, inference);
    let ask = |adapters: Vec<_>| Call {
        model: base.blob,
        adapters: List::new(adapters).unwrap(),
        ..call("hello", 8)
    };
    let mut answers = Vec::new();
    for adapters in [vec![], vec![(voice.blob, 1_000)]] {
        let stream = serve.call(ask(adapters)).await.unwrap();
        let (tokens, end) = whole(stream).await.unwrap();
        assert!(end.prompt_tokens > 4);
        answers.push(tokens.iter().map(|token| token.token).collect::<Vec<u32>>());
    }
    assert_ne!(answers[0], answers[1], "the adapter makes no difference");

    // Cut short, it is named; removed, nothing is left of it.
    std::fs::remove_file(base.path.join("tokenizer.json")).unwrap();
    library.refresh();
    assert!(library.get(&base.blob).unwrap().problem.unwrap().contains("remove tiny-llama"));
    library.remove("tiny-llama").unwrap();
    assert!(!base.path.exists() && from.join("tokenizer.json").exists());
}

/// A hub with an adapter, a model and a repository of neither, at one commit.
async fn hub(real: Vec<(&'static str, Vec<u8>)>) -> String {
    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
    let listed = |names: &[&str]| {
        let siblings: Vec<Value> = names.iter().map(|name| json!({"rfilename": name})).collect();
        json!({"sha": COMMIT, "siblings": siblings}).to_string()
    };
    let adapter = real.clone();
    let names: Vec<&'static str> = adapter.iter().map(|(name, _)| *name).collect();
    let listing = move |UrlPath(rest): UrlPath<String>| {
        let said = match rest.as_str() {
            "some/voice/revision/main" => listed(&names),
            "some/tiny/revision/main" => {
                listed(&files().iter().map(|(name, _)| *name).collect::<Vec<_>>())
            }
            "some/quants/revision/main" => listed(&["a.Q4.gguf", "b.gguf"]),
            _ => String::new(),
        };
        async move {
            if said.is_empty() {
                StatusCode::NOT_FOUND.into_response()
            } else {
                said.into_response()
            }
        }
    };
    let file = move |UrlPath(rest): UrlPath<String>| {
        let at = |repo: &str| format!("some/{repo}/resolve/{COMMIT}/");
        let content = |repo: &str, all: &[(&str, Vec<u8>)]| {
            let name = rest.strip_prefix(&at(repo))?;
            all.iter().find(|(own, _)| *own == name).map(|(_, bytes)| bytes.clone())
        };
        let found = content("voice", &real).or_else(|| content("tiny", &files()));
        async move {
            let answer: Response = match found {
                Some(bytes) => bytes.into_response(),
                None => StatusCode::NOT_FOUND.into_response(),
            };
            answer
        }
    };
    let routes =
        Router::new().route("/api/models/{*rest}", get(listing)).route("/{*rest}", get(file));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_are_pinned_to_a_commit_and_taken_over_whole() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (described, tensors) = {
        let mapped = openledger_models::Mapped::open(&model_path()).unwrap();
        let gguf = openledger_models::Gguf::parse(&mapped).unwrap();
        peft::synthesize(&ModelConfig::from_gguf(&gguf, &mapped).unwrap(), 3, 4, 0.1)
    };
    let files = vec![("adapter_config.json", described), ("adapter_model.safetensors", tensors)];
    let url = hub(files).await;
    let download = |source: &str, more: &[&str]| {
        std::process::Command::new(env!("CARGO_BIN_EXE_openledger"))
            .args(["--json", "model", "download", source])
            .args(more)
            .env_clear()
            .env("OPENLEDGER_DATA", &data)
            .env("HF_ENDPOINT", &url)
            .output()
            .unwrap()
    };
    process::json(&data, &["model", "add", model_path().to_str().unwrap(), "--name", "smol"]);
    let wrong = download("hf:some/voice", &["--sha256", &"0".repeat(64)]);
    assert!(process::text(&wrong).contains("was removed"), "{}", process::text(&wrong));
    let got = download("hf:some/voice", &[]);
    assert!(got.status.success(), "{}", process::text(&got));
    let value: Value = serde_json::from_slice(&got.stdout).unwrap();
    assert_eq!(
        (&value["model"]["name"], &value["model"]["kind"]),
        (&json!("voice"), &json!("adapter"))
    );
    let source = value["model"]["source"].as_str().unwrap();
    assert_eq!(source, "hf:some/voice@0123456789abcdef0123456789abcdef01234567");
    assert_eq!(value["sha256"].as_str().unwrap().len(), 64);

    let got = download("hf:some/tiny", &[]);
    assert!(got.status.success(), "{}", process::text(&got));
    let listed = process::text(&process::command(&data, &["model", "list"]));
    assert!(
        listed.contains("base (folder)") && listed.contains("for smol, from hf:some/voice@0123"),
        "{listed}"
    );
    let left = std::fs::read_dir(data.join("models/downloads")).unwrap().count();
    assert_eq!(left, 0, "nothing is left behind");

    let quants = download("hf:some/quants", &[]);
    assert!(process::text(&quants).contains("a.Q4.gguf, b.gguf"), "{}", process::text(&quants));
    let none = download("hf:some/nothing", &[]);
    assert!(process::text(&none).contains("404"), "{}", process::text(&none));
}
