//! A second family from a real file, where there is one: `OPENLEDGER_GEMMA` names it
//! (`openledger-sim setup peers gemma3-270m` brings it; its licence forbids to ship it).

use std::path::PathBuf;

use openledger_models::{
    Activation, Model, Rope, RopeLayout, Site, SpecialTokens, TensorKind, Weight,
};

/// The file, unless nobody has brought it.
fn path() -> Option<PathBuf> {
    std::env::var_os("OPENLEDGER_GEMMA").filter(|path| !path.is_empty()).map(PathBuf::from)
}

#[test]
fn gemma_3_opens() {
    let Some(path) = path() else { return };
    let model = Model::open(&path).unwrap();
    let config = model.config();
    assert_eq!((config.layers, config.hidden, config.feed_forward), (18, 640, 2_048));
    assert_eq!((config.heads, config.kv_heads, config.head_dim), (4, 1, 256));
    assert_eq!((config.vocab, config.context), (262_144, 32_768));
    assert_eq!((config.rope_layout, config.rope_dim), (RopeLayout::Halves, 256));
    assert_eq!(config.rope_of(0), &Rope::plain(10_000.0));
    assert_eq!(config.rope_of(5), &Rope::plain(1_000_000.0));
    assert_eq!((config.window_of(4), config.window_of(5)), (Some(512), None));
    assert_eq!((config.activation, config.attention_scale), (Activation::GeluTanh, 0.0625));
    assert!(config.head_norms && config.post_norms && !config.attention_bias);
    assert!(model.is_tied());
    let kinds = [TensorKind::Q4K, TensorKind::Q6K, TensorKind::Q5_0, TensorKind::Q8_0];
    for layer in 0..config.layers {
        for site in Site::ALL {
            assert!(kinds.contains(&model.tensor(Weight::Site(layer, site)).kind));
        }
    }
    let tokenizer = model.tokenizer();
    let text = "Hello  world,\n\n\tna\u{ef}ve \u{1f600}<b>";
    let ids = tokenizer.encode_with_bos(text, SpecialTokens::AsText);
    assert_eq!((ids.first(), tokenizer.bos()), (Some(&2), Some(2)));
    assert_eq!(tokenizer.decode(&ids), text);
    assert!(tokenizer.is_end(1) && tokenizer.is_end(106) && !tokenizer.is_end(105));
}
