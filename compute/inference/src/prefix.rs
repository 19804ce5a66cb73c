//! Names of full pages, by which what was computed once is found again.
//!
//! A page's keys and values depend on all tokens up to its end and on the adapters that were added,
//! so its key is a hash over its tokens keyed by the key of the page before, and the first page's
//! is keyed by the adapters' generations and weights: no two adapter sets have a key in common. The
//! hash is BLAKE3 at its full length, so nobody can write a prompt that finds another's page.

use crate::adapters::AdapterSet;

/// Domain of the keys.
const PAGE_DOMAIN: &str = "openledger kv page v1";

/// Names a full page by all that its numbers depend on.
pub(crate) type PageKey = [u8; 32];

/// What keys the first page of a sequence with these adapters.
pub(crate) fn root(adapters: &AdapterSet) -> PageKey {
    let mut hasher = blake3::Hasher::new_derive_key(PAGE_DOMAIN);
    for (adapter, weight) in adapters.parts() {
        hasher.update(&adapter.generation().0.to_le_bytes());
        hasher.update(&weight.to_bits().to_le_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// The key of the page with these tokens after the page of `parent`.
pub(crate) fn next(parent: &PageKey, tokens: &[u32]) -> PageKey {
    let mut hasher = blake3::Hasher::new_keyed(parent);
    for token in tokens {
        hasher.update(&token.to_le_bytes());
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_tokens_and_what_came_before_apart() {
        let base = root(&AdapterSet::default());
        let first = next(&base, &[1, 2, 3, 4]);
        assert_eq!(first, next(&base, &[1, 2, 3, 4]));
        assert_ne!(first, next(&base, &[1, 2, 3, 5]));
        assert_ne!(next(&first, &[5, 6]), next(&next(&base, &[1, 2, 3, 5]), &[5, 6]));
        assert_ne!(first, base);
    }
}
