//! Bytes from strangers: sound files, changed in every way that chance finds. Whatever comes of
//! them, it is an error or a value, never a panic.

use openledger_models::tokenizer::JsonOptions;
use openledger_models::{
    Adapter, AdapterBundle, ChatTemplate, Gguf, GgufWriter, Message, ModelConfig, SpecialTokens,
    Tokenizer, peft,
};
use proptest::prelude::*;

use crate::support::{open, shape, tiny, vocabulary};

/// A change of some bytes.
#[derive(Clone, Debug)]
enum Edit {
    Set(prop::sample::Index, u8),
    Number(prop::sample::Index, u64),
    Cut(prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
    Truncate(prop::sample::Index),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let index = any::<prop::sample::Index>;
    let number = prop_oneof![
        any::<u64>(),
        0..300u64,
        Just(u64::MAX),
        Just(u64::MAX / 2),
        Just(1 << 32),
        Just(1 << 40),
    ];
    let edit = prop_oneof![
        (index(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        (index(), number).prop_map(|(at, number)| Edit::Number(at, number)),
        (index(), 1..40usize).prop_map(|(at, length)| Edit::Cut(at, length)),
        (index(), prop::collection::vec(any::<u8>(), 1..20))
            .prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        index().prop_map(Edit::Truncate),
    ];
    prop::collection::vec(edit, 1..6)
}

fn edited(bytes: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for edit in edits {
        let length = bytes.len();
        if length == 0 {
            break;
        }
        match edit {
            Edit::Set(at, byte) => bytes[at.index(length)] = *byte,
            Edit::Number(at, number) => {
                let at = at.index(length);
                for (to, from) in bytes[at..].iter_mut().zip(number.to_le_bytes()) {
                    *to = from;
                }
            }
            Edit::Cut(at, count) => {
                let at = at.index(length);
                bytes.drain(at..length.min(at + count));
            }
            Edit::Insert(at, more) => {
                let at = at.index(length);
                bytes.splice(at..at, more.iter().copied());
            }
            Edit::Truncate(at) => bytes.truncate(at.index(length)),
        }
    }
    bytes
}

fn config() -> ModelConfig {
    open(tiny()).unwrap().config().clone()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn changed_models_are_refused_or_sound(edits in edits()) {
        let bytes = edited(&tiny(), &edits);
        match open(bytes) {
            Ok(model) => {
                let ids = model.tokenizer().encode("hello <|im_start|>\u{e9} 12", SpecialTokens::Parse);
                let _ = model.tokenizer().decode(&ids);
                let _ = model.chat_template().render(&[Message::new("user", "hello")], true);
            }
            Err(error) => prop_assert!(error.to_string().len() < 200_000, "a long message"),
        }
    }

    #[test]
    fn changed_headers_are_refused_or_sound(edits in edits()) {
        // Without weights the changes hit the metadata.
        let writer = vocabulary(shape(GgufWriter::new(), "llama"), "llama-bpe");
        let bytes = edited(&writer.finish(), &edits);
        let Ok(gguf) = Gguf::parse(&bytes) else { return Ok(()) };
        let _ = ModelConfig::from_gguf(&gguf, &bytes);
        if let Ok(tokenizer) = Tokenizer::from_gguf(&gguf) {
            let ids = tokenizer.encode("he<tool>llo w\0", SpecialTokens::AsText);
            prop_assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab_len()));
        }
        let _ = ChatTemplate::from_gguf(&gguf).render(&[Message::new("user", "x")], true);
    }

    #[test]
    fn changed_adapters_are_refused_or_sound(edits in edits(), which in 0..3usize) {
        let config = config();
        let (json, tensors) = peft::synthesize(&config, 3, 1, 0.5);
        let result = match which {
            0 => Adapter::parse(&edited(&json, &edits), &tensors, &config),
            1 => Adapter::parse(&json, &edited(&tensors, &edits), &config),
            _ => {
                let bundle = AdapterBundle::pack(&json, &tensors).unwrap();
                Adapter::from_bundle(&edited(&bundle, &edits), &config)
            }
        };
        if let Ok(adapter) = result {
            prop_assert!(adapter.scale.is_finite());
            prop_assert!(adapter.deltas.values().all(|d| d.a.iter().all(|n| n.is_finite())));
        }
    }

    #[test]
    fn changed_gguf_adapters_are_refused_or_sound(edits in edits()) {
        let zeros = [0.5; 64];
        let file = GgufWriter::new()
            .text("general.type", "adapter")
            .text("adapter.type", "lora")
            .text("general.architecture", "llama")
            .f32("adapter.lora.alpha", 4.0)
            .floats("blk.0.attn_q.weight.lora_a", &[32, 2], &zeros)
            .floats("blk.0.attn_q.weight.lora_b", &[2, 32], &zeros)
            .finish();
        if let Ok(adapter) = Adapter::from_gguf(&edited(&file, &edits), &config()) {
            prop_assert!(adapter.scale.is_finite() && adapter.scale > 0.0);
            prop_assert!(adapter.deltas.values().all(|d| d.b.iter().all(|n| n.is_finite())));
        }
    }

    #[test]
    fn changed_folders_are_refused_or_sound(edits in edits(), which in 0..2usize) {
        let config = "{\"model_type\":\"gemma3_text\",\"num_hidden_layers\":2,\"hidden_size\":32,\
            \"intermediate_size\":64,\"num_attention_heads\":4,\"num_key_value_heads\":1,\
            \"head_dim\":16,\"sliding_window\":8,\"sliding_window_pattern\":2,\
            \"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":8.0,\"beta_fast\":4}}";
        let tokenizer = "{\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"special\":true}],\
            \"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\
            \"content\":\"\u{2581}\"},\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\
            \"vocab\":{\"a\":1,\"b\":2,\"ab\":3,\"<0x0A>\":4},\"merges\":[[\"a\",\"b\"]]}}";
        if which == 0 {
            if let Ok(config) = ModelConfig::from_json(&edited(config.as_bytes(), &edits)) {
                prop_assert!((0..config.layers).all(|layer| config.window_of(layer) != Some(0)));
            }
        } else {
            let json = edited(tokenizer.as_bytes(), &edits);
            if let Ok(tokenizer) = Tokenizer::from_json(&json, &JsonOptions::default()) {
                let ids = tokenizer.encode("ab <s>\n\u{e9}", SpecialTokens::Parse);
                prop_assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab_len()));
                let _ = tokenizer.decode(&ids);
            }
        }
    }

    #[test]
    fn any_bytes_are_refused_or_sound(bytes: Vec<u8>) {
        let _ = open([b"GGUF\x03\0\0\0", bytes.as_slice()].concat());
        let _ = AdapterBundle::unpack(&bytes);
        let _ = Adapter::parse(&bytes, &bytes, &config());
    }

    #[test]
    fn any_template_is_refused_or_ends(source in "([a-z {}%'+~\\[\\]():|.,=-]|\\{\\{|\\}\\}|\\{%|%\\}| set | for | if | in | else | end|endfor|messages|x)*") {
        let _ = ChatTemplate::new(&source, "<s>", "</s>").render(&[Message::new("user", "x")], true);
    }
}
