//! The model that the devnet serves.

use openledger_models::{
    Adapter, AdapterBundle, Message, Model, Site, SpecialTokens, TensorKind, Weight, peft,
};

use crate::support::model_path;

#[test]
fn the_model_of_the_devnet_opens_and_speaks_its_template() {
    let model = Model::open(&model_path()).unwrap();
    let config = model.config();
    assert_eq!((config.layers, config.hidden, config.feed_forward), (30, 576, 1_536));
    assert_eq!((config.heads, config.kv_heads, config.head_dim), (9, 3, 64));
    assert_eq!((config.vocab, config.context), (49_152, 8_192));
    assert_eq!((config.rope.base, config.rope_dim), (100_000.0, 64));
    assert!(model.is_tied());
    assert_eq!(model.tensor(Weight::Embedding).kind, TensorKind::Q8_0);
    let down = model.tensor(Weight::Site(29, Site::Down));
    assert_eq!((down.kind, down.rows, down.cols), (TensorKind::Q4_1, 576, 1_536));

    let prompt = model.chat_template().render(&[Message::new("user", "Hi!")], true).unwrap();
    assert_eq!(
        prompt,
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging \
         Face<|im_end|>\n<|im_start|>user\nHi!<|im_end|>\n<|im_start|>assistant\n"
    );
    let tokenizer = model.tokenizer();
    let ids = tokenizer.encode_with_bos(&prompt, SpecialTokens::Parse);
    assert_eq!(ids[..4], [1, 9690, 198, 2683]);
    assert_eq!(ids.iter().filter(|id| **id == 1).count(), 3);
    assert!(tokenizer.is_end(2) && tokenizer.is_end(0) && !tokenizer.is_end(1));
    let text = "The capital of France is Paris.\n\u{1f600} 2024";
    let ids = tokenizer.encode(text, SpecialTokens::AsText);
    assert_eq!(tokenizer.decode(&ids), text);
}

#[test]
fn adapters_for_it_are_made_from_seeds() {
    let model = Model::open(&model_path()).unwrap();
    let (config_json, safetensors) = peft::synthesize(model.config(), 7, 4, 0.1);
    let bundle = AdapterBundle::pack(&config_json, &safetensors).unwrap();
    let adapter = Adapter::from_bundle(&bundle, model.config()).unwrap();
    assert_eq!((adapter.rank, adapter.scale, adapter.deltas.len()), (4, 1.0, 210));
    assert!(adapter.bytes() < 6_000_000);
}
