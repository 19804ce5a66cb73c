//! Answers of models and what is said of them: held against each other by the rules.

use openledger_rules::InferRules;
use openledger_rules::fingerprint::Fingerprint;
use openledger_rules::infer::Relation;
use openledger_wire::proof::InferOutput;
use openledger_wire::task::InferTask;
use openledger_wire::{BlobId, List, limits};

use super::messages::canonical;

/// Two outputs of one task.
pub(super) fn relation(bytes: &[u8]) {
    let max = 2 * limits::PROOF_BODY_MAX;
    let Some((a, b)) = canonical::<(InferOutput, InferOutput)>(bytes, max) else { return };
    for rules in [InferRules::v1(), InferRules::v2(), InferRules::v3()] {
        let relation = rules.relation(&a, &b);
        assert_eq!(relation, rules.relation(&b, &a), "who is asked first decides");
        for output in [&a, &b] {
            let sound = [0, 1].map(|adapters| rules.is_sound(&task(adapters), output));
            let agrees = rules.relation(output, output) == Relation::Agree;
            assert!(agrees || !sound.contains(&true), "a sound output differs from itself");
        }
    }
}

fn task(adapters: usize) -> InferTask {
    let one = (BlobId([2; 32]), 1_000);
    InferTask {
        model: BlobId([1; 32]),
        adapters: List::new(vec![one; adapters]).unwrap_or_default(),
        prompt: BlobId([3; 32]),
        tokens_max: 1_024,
        seed: [4; 32],
        temperature_permille: 700,
    }
}

/// Two fingerprints and an effect of as many tokens, one behind the other.
pub(super) fn fingerprints(bytes: &[u8]) {
    let part = bytes.len() / 3;
    // Eight bytes a token, four a chunk of 32.
    let tokens = part.saturating_sub(part.div_ceil(260) * 4) / 8;
    let mut parts = bytes.chunks_exact(part.max(1));
    let mut next = || Fingerprint::read(parts.next()?, tokens);
    let (Some(a), Some(b), Some(effect)) = (next(), next(), next()) else { return };
    for micro in [0, 1_000, 8_000, u32::MAX] {
        assert_eq!(a.is_near(&b, tokens, micro), b.is_near(&a, tokens, micro));
        let _ = a.is_whole(&b, &effect, tokens, micro);
    }
    assert!(a.is_near(&a, tokens, 0) && a.is_whole(&a, &effect, tokens, 0));
    assert!(!a.is_near(&b, tokens, 8_000) || a.is_near(&b, tokens, 16_000));
}
