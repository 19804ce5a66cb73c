//! Tokenizers on vocabularies of a few hundred tokens, whose ids one can work out by hand.

use openledger_models::{Gguf, GgufWriter, SpecialTokens, Tokenizer, Utf8Stream};
use proptest::prelude::*;

use crate::support::{MERGES, byte_characters, tokens, vocabulary};

fn ranked(rules: &str) -> Tokenizer {
    let bytes = vocabulary(GgufWriter::new(), rules).finish();
    Tokenizer::from_gguf(&Gguf::parse(&bytes).unwrap()).unwrap()
}

/// Ids as the texts of their tokens.
fn texts(tokenizer: &Tokenizer, text: &str, special: SpecialTokens) -> Vec<String> {
    let ids = tokenizer.encode(text, special);
    ids.iter().map(|id| tokenizer.token_text(*id).unwrap().to_owned()).collect()
}

#[test]
fn the_lowest_rank_is_merged_first() {
    let tokenizer = ranked("smollm");
    assert_eq!(tokenizer.vocab_len(), tokens().len());
    let found = texts(&tokenizer, "hello world", SpecialTokens::Parse);
    assert_eq!(found, ["hello", "\u{120}wo", "r", "l", "d"]);
    assert_eq!(texts(&tokenizer, "helll", SpecialTokens::Parse), ["hell", "l"]);
    assert_eq!(texts(&tokenizer, "", SpecialTokens::Parse), [""; 0]);
    assert_eq!(texts(&tokenizer, "\u{e9}", SpecialTokens::Parse), ["\u{c3}", "\u{a9}"]);
    assert_eq!(texts(&tokenizer, "\0", SpecialTokens::Parse), ["\u{100}"]);
}

#[test]
fn special_tokens_are_parsed_or_text() {
    let tokenizer = ranked("smollm");
    let text = "<|im_start|>hello<tool>";
    assert_eq!(texts(&tokenizer, text, SpecialTokens::Parse), ["<|im_start|>", "hello", "<tool>"]);
    let as_text = texts(&tokenizer, text, SpecialTokens::AsText);
    assert_eq!(as_text.first().map(String::as_str), Some("<"));
    // What the makers of a model defined is a token wherever it stands.
    assert_eq!(as_text.last().map(String::as_str), Some("<tool>"));
    assert!(!as_text.contains(&"<|im_start|>".to_owned()));
}

#[test]
fn ends_and_starts_are_known() {
    let tokenizer = ranked("smollm");
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(1), Some(2)));
    assert!(tokenizer.is_end(2) && tokenizer.is_end(0) && !tokenizer.is_end(1));
    assert!(tokenizer.is_control(1) && !tokenizer.is_control(3) && !tokenizer.is_control(9));
    assert!(!tokenizer.adds_bos());
    assert!(tokenizer.encode_with_bos("", SpecialTokens::Parse).is_empty());
    let llama = ranked("llama-bpe");
    assert_eq!(llama.encode_with_bos("h", SpecialTokens::Parse).first(), Some(&1));
}

#[test]
fn whole_words_come_first_where_the_rules_say_so() {
    // "hel" is a token that no merge makes.
    let bytes = |rules: &str| {
        let mut listed = byte_characters();
        listed.extend(["he", "hel"].map(str::to_owned));
        GgufWriter::new()
            .text("tokenizer.ggml.model", "gpt2")
            .text("tokenizer.ggml.pre", rules)
            .texts("tokenizer.ggml.tokens", listed.iter().map(String::as_str))
            .texts("tokenizer.ggml.merges", ["h e"])
            .finish()
    };
    let tokenizer = |rules| Tokenizer::from_gguf(&Gguf::parse(&bytes(rules)).unwrap()).unwrap();
    assert_eq!(texts(&tokenizer("llama-bpe"), "hel", SpecialTokens::AsText), ["hel"]);
    assert_eq!(texts(&tokenizer("smollm"), "hel", SpecialTokens::AsText), ["he", "l"]);
}

#[test]
fn merges_may_pass_through_what_is_no_token() {
    // "ab" is merged but no token; its bytes stand in for it. "z" is nothing at all.
    let bytes = GgufWriter::new()
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", "gpt-2")
        .texts("tokenizer.ggml.tokens", ["a", "b", "c", "abc"])
        .texts("tokenizer.ggml.merges", ["a b", "ab c", "a b", "nonsense"])
        .finish();
    let tokenizer = Tokenizer::from_gguf(&Gguf::parse(&bytes).unwrap()).unwrap();
    assert_eq!(texts(&tokenizer, "abcabz", SpecialTokens::AsText), ["abc", "a", "b"]);
}

fn scored() -> Tokenizer {
    let mut listed: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
    listed.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    let pieces =
        ["\u{2581}", "h", "e", "l", "o", "he", "ll", "\u{2581}he", "hell", "\u{2581}hello"];
    listed.extend(pieces.map(str::to_owned));
    let mut kinds = vec![6; listed.len()];
    kinds[..3].copy_from_slice(&[2, 3, 3]);
    kinds[259..].fill(1);
    let mut scores = vec![0.0; listed.len()];
    for (index, score) in scores[259..].iter_mut().enumerate() {
        *score = -(index as f32);
    }
    let bytes = GgufWriter::new()
        .text("tokenizer.ggml.model", "llama")
        .texts("tokenizer.ggml.tokens", listed.iter().map(String::as_str))
        .i32s("tokenizer.ggml.token_type", &kinds)
        .f32s("tokenizer.ggml.scores", &scores)
        .finish();
    Tokenizer::from_gguf(&Gguf::parse(&bytes).unwrap()).unwrap()
}

#[test]
fn sentence_pieces_merge_by_score_and_fall_back_to_bytes() {
    let tokenizer = scored();
    let found = |text| texts(&tokenizer, text, SpecialTokens::Parse);
    // "he" first, then "ll", then what they make together.
    assert_eq!(found("hello"), ["\u{2581}he", "ll", "o"]);
    assert_eq!(found("hell hello"), ["\u{2581}he", "ll", "\u{2581}he", "ll", "o"]);
    assert_eq!(found("x"), ["\u{2581}", "<0x78>"]);
    assert_eq!(found("</s>hell"), ["</s>", "\u{2581}he", "ll"]);
    assert_eq!(found("\u{20ac}"), ["\u{2581}", "<0xE2>", "<0x82>", "<0xAC>"]);
    let ids = tokenizer.encode_with_bos("hello x\u{20ac}", SpecialTokens::Parse);
    assert_eq!((ids[0], tokenizer.bos(), tokenizer.eos()), (1, Some(1), Some(2)));
    assert_eq!(tokenizer.decode(&ids), "hello x\u{20ac}");
    assert!(tokenizer.is_end(2));
}

#[test]
fn text_comes_in_whole_characters() {
    let tokenizer = ranked("smollm");
    let ids = tokenizer.encode("a\u{20ac}", SpecialTokens::Parse);
    let mut stream = Utf8Stream::new();
    let parts: Vec<String> = ids.iter().map(|id| stream.push(&tokenizer, *id)).collect();
    assert_eq!(parts, ["a", "", "", "\u{20ac}"]);
    assert_eq!(stream.push(&tokenizer, 2), "");
    assert_eq!(stream.push(&tokenizer, u32::MAX), "");
    assert_eq!(tokenizer.token_bytes(1), Some(&b""[..]));
    assert_eq!(tokenizer.token_bytes(3), Some(&b"<tool>"[..]));
    assert_eq!(tokenizer.token_bytes(tokens().len() as u32), None);
}

#[test]
fn what_is_wrong_with_a_vocabulary_is_named() {
    let error = |writer: GgufWriter| {
        let bytes = writer.finish();
        Tokenizer::from_gguf(&Gguf::parse(&bytes).unwrap()).unwrap_err().to_string()
    };
    let new = GgufWriter::new;
    assert!(error(new()).contains("\"tokenizer.ggml.model\" is missing"));
    assert!(error(new().text("tokenizer.ggml.model", "bert")).contains("\"bert\""));
    let gpt2 = || new().text("tokenizer.ggml.model", "gpt2");
    let with = |tokens: &[&str]| gpt2().texts("tokenizer.ggml.tokens", tokens.iter().copied());
    assert!(error(with(&[])).contains("0 tokens"));
    assert!(error(with(&["a", "b", "a"])).contains("tokens 0 and 2 have the same text"));
    let long = "x".repeat(5_000);
    assert!(error(with(&[&long])).contains("token 0 has 5000 bytes"));
    assert!(error(with(&["a"])).contains("\"tokenizer.ggml.merges\" is missing"));
    let rules = with(&["a"]).text("tokenizer.ggml.pre", "kimi-k2");
    assert!(error(rules).contains("\"kimi-k2\""));
    let kinds = with(&["a", "b"]).i32s("tokenizer.ggml.token_type", &[1]);
    assert!(error(kinds).contains("token_type has 1 items for 2 tokens"));
    let scores = with(&["a"]).f32s("tokenizer.ggml.scores", &[f32::NAN]);
    assert!(error(scores).contains("score of token 0"));
    let names: Vec<String> = (0..20_000).map(|n| format!("<{n}>")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let special = with(&names)
        .texts("tokenizer.ggml.merges", [""; 0])
        .i32s("tokenizer.ggml.token_type", &vec![3; 20_000]);
    assert!(error(special).contains("20000 of its tokens are special"));
}

proptest! {
    #[test]
    fn text_comes_back(text in "\\PC*|[ \n\t\r']*|(hello| w|<tool>|\u{e9}|7)*") {
        for rules in ["smollm", "gpt-2", "llama-bpe", "qwen2", "default"] {
            let tokenizer = ranked(rules);
            for special in [SpecialTokens::Parse, SpecialTokens::AsText] {
                let ids = tokenizer.encode(&text, special);
                prop_assert_eq!(&tokenizer.decode(&ids), &text);
            }
        }
    }

    /// The heap against the plain rule: of all pairs the one of the lowest rank, from the left.
    #[test]
    fn merging_is_the_plain_rule(text in "[helow]{0,24}") {
        let mut parts: Vec<String> = text.chars().map(String::from).collect();
        loop {
            let rank = |pair: &[String]| {
                let joined = format!("{} {}", pair[0], pair[1]);
                MERGES.iter().position(|merge| *merge == joined)
            };
            let best = parts.windows(2).enumerate().filter_map(|(i, p)| Some((rank(p)?, i))).min();
            let Some((_, at)) = best else { break };
            let right = parts.remove(at + 1);
            parts[at] += &right;
        }
        prop_assert_eq!(texts(&ranked("smollm"), &text, SpecialTokens::AsText), parts);
    }
}
