//! Model files and adapters: what a peer serves as a blob, and what users type.

use std::sync::OnceLock;

use openledger_models::tokenizer::JsonOptions;
use openledger_models::{
    Adapter, AdapterBundle, ChatTemplate, Gguf, Mapped, Message, Model, ModelConfig, Site,
    SpecialTokens, Tokenizer, Weight,
};

use crate::seeds::models::{config, vocabulary};

/// A whole model file.
pub(super) fn model(bytes: &[u8]) {
    let Ok(model) = Model::from_mapped(Mapped::from_bytes(bytes.to_vec())) else { return };
    let config = model.config();
    for layer in 0..config.layers {
        for site in Site::ALL {
            let tensor = model.tensor(Weight::Site(layer, site));
            assert_eq!((tensor.rows, tensor.cols), site.shape(config), "another shape");
            assert!(!tensor.bytes.is_empty(), "a weight without bytes");
        }
    }
    let ids = model.tokenizer().encode("ab <|im_end|>\u{e9}7", SpecialTokens::Parse);
    assert!(ids.iter().all(|id| (*id as usize) < config.vocab), "an id past the vocabulary");
    let _ = model.tokenizer().decode(&ids);
    let _ = model.chat_template().render(&[Message::new("user", "ab")], true);
}

/// The configuration in the first line, then the tensors.
pub(super) fn adapter(bytes: &[u8]) {
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (json, rest) = bytes.split_at(at);
    let tensors = rest.get(1..).unwrap_or_default();
    if let Ok(adapter) = Adapter::parse(json, tensors, &config()) {
        check(&adapter);
    }
}

/// An adapter in a GGUF file.
pub(super) fn adapter_gguf(bytes: &[u8]) {
    if let Ok(adapter) = Adapter::from_gguf(bytes, &config()) {
        check(&adapter);
    }
}

/// What must hold of an adapter that was read.
fn check(adapter: &Adapter) {
    assert!(adapter.scale.is_finite() && adapter.scale > 0.0, "a scale of {}", adapter.scale);
    for ((layer, site), delta) in &adapter.deltas {
        let (rows, cols) = site.shape(&config());
        assert!(*layer < config().layers, "a layer past the last");
        assert_eq!(delta.a.len(), delta.rank * cols, "A does not fit");
        assert_eq!(delta.b.len(), delta.rank * rows, "B does not fit");
        assert!(delta.a.iter().chain(&delta.b).all(|n| n.is_finite()), "no number");
    }
}

/// An adapter as one file.
pub(super) fn adapter_bundle(bytes: &[u8]) {
    let Ok((json, tensors)) = AdapterBundle::unpack(bytes) else { return };
    let packed = AdapterBundle::pack(&json, &tensors).unwrap_or_default();
    let again = AdapterBundle::unpack(&packed).ok();
    assert_eq!(again, Some((json, tensors)), "a packed adapter does not unpack");
    let _ = Adapter::from_bundle(bytes, &config());
}

/// The shape of a model as the transformers library writes it.
pub(super) fn model_config(bytes: &[u8]) {
    let Ok(config) = ModelConfig::from_json(bytes) else { return };
    assert!(config.heads % config.kv_heads == 0, "heads that do not fit");
    assert!(config.rope_dim % 2 == 0 && config.rope_dim <= config.head_dim, "half a pair");
    assert!(config.windows.len() <= config.layers, "windows past the last layer");
    for layer in 0..config.layers {
        let rope = config.rope_of(layer);
        assert!(rope.base >= 1.0 && rope.scale > 0.0 && rope.magnitude.is_finite(), "no angles");
        let factors = rope.factors.as_deref().unwrap_or_default();
        assert!(factors.is_empty() || factors.len() == config.rope_dim / 2, "factors missing");
        assert!(factors.iter().all(|factor| *factor > 0.0), "a factor of nothing");
        assert_ne!(config.window_of(layer), Some(0), "a window of nothing");
    }
}

/// A tokenizer as the transformers library writes it, and text under it.
pub(super) fn tokenizer_json(bytes: &[u8]) {
    let options = JsonOptions { bos: Some("<s>".to_owned()), ..JsonOptions::default() };
    let Ok(tokenizer) = Tokenizer::from_json(bytes, &options) else { return };
    for special in [SpecialTokens::Parse, SpecialTokens::AsText] {
        let ids = tokenizer.encode_with_bos("<s>ab  abc \u{e9}\n", special);
        assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab_len()), "no token");
        let _ = tokenizer.decode(&ids);
    }
}

pub(super) fn chat_template(bytes: &[u8]) {
    let source = String::from_utf8_lossy(bytes);
    let template = ChatTemplate::new(&source, "<s>", "</s>");
    let messages = [Message::new("system", "Be brief."), Message::new("user", "Hi {{ x }}")];
    let first = template.render(&messages, true);
    assert_eq!(template.render(&messages, true), first, "two prompts of one conversation");
}

/// Text under every set of rules.
pub(super) fn tokenizer(bytes: &[u8]) {
    static TOKENIZERS: OnceLock<Vec<Tokenizer>> = OnceLock::new();
    let tokenizers = TOKENIZERS.get_or_init(|| {
        let rules = ["smollm", "gpt-2", "llama-bpe", "qwen2", "default"];
        let files = rules.map(|rules| vocabulary(rules).finish());
        let parsed = files.iter().filter_map(|file| Gguf::parse(file).ok());
        parsed.filter_map(|gguf| Tokenizer::from_gguf(&gguf).ok()).collect()
    });
    assert_eq!(tokenizers.len(), 5, "a vocabulary was refused");
    let text = String::from_utf8_lossy(bytes);
    for tokenizer in tokenizers {
        let ids = tokenizer.encode(&text, SpecialTokens::AsText);
        assert_eq!(tokenizer.decode(&ids), text, "another text");
        let ids = tokenizer.encode(&text, SpecialTokens::Parse);
        assert!(ids.iter().all(|id| tokenizer.token_bytes(*id).is_some()), "no token");
    }
}
