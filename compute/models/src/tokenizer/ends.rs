//! Which tokens end a generation.
//!
//! Files name one or two; the others of the usual names count as well, as they do in llama.cpp,
//! because models of several stages of training use them side by side.

use std::collections::BTreeSet;

use super::vocabulary::{Kind, Vocabulary};

/// Texts of tokens that end a turn, a message or a text in the families in use.
const NAMES: [&str; 22] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>",
    "[e~[",
];

/// Tokens for filling gaps in code: the first that is there ends a generation as well. The three
/// groups are padding, next repository, and next file.
const FILL_NAMES: [&[&str]; 3] = [
    &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"],
    &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"],
    &["<|file_sep|>"],
];

/// Other tokens for filling gaps: they end nothing, but are control tokens whatever the file says.
const FILL_OTHERS: [&[&str]; 3] = [
    &["<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<PRE>", "\u{2581}<PRE>"],
    &["<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<SUF>", "\u{2581}<SUF>"],
    &["<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<MID>", "\u{2581}<MID>"],
];

/// The tokens that end a generation. Tokens that are found by their names become control tokens.
pub(super) fn find(
    vocabulary: &mut Vocabulary,
    listed: &[Option<u32>],
    fill: [Option<u32>; 3],
) -> BTreeSet<u32> {
    let mut ends: BTreeSet<u32> = listed.iter().copied().flatten().collect();
    let mut controls = Vec::new();
    for name in NAMES {
        if let Some(id) = vocabulary.find(name) {
            ends.insert(id);
            controls.push(id);
        }
    }
    for (names, known) in FILL_NAMES.into_iter().zip(fill) {
        let first = || names.iter().find_map(|name| vocabulary.find(name));
        if let Some(id) = known {
            ends.insert(id);
        } else if let Some(id) = first() {
            ends.insert(id);
            controls.push(id);
        }
    }
    for names in FILL_OTHERS {
        controls.extend(names.iter().find_map(|name| vocabulary.find(name)));
    }
    for id in controls {
        let kind = vocabulary.kind(id);
        vocabulary.set_kind(id, kind.with(Kind::CONTROL));
    }
    ends
}
