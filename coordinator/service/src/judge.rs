//! Whether two nodes fetched the same page: the rules' question, answered by `openledger-refine`.

use openledger_refine::{Agreement, Fingerprint, agree};
use openledger_rules::Judge;

/// Compares fetch fingerprints. What does not decode agrees with nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct FingerprintJudge;

impl Judge for FingerprintJudge {
    fn fetch_agrees(&self, a: &[u8], b: &[u8]) -> bool {
        match (Fingerprint::from_bytes(a), Fingerprint::from_bytes(b)) {
            (Ok(a), Ok(b)) => agree(&a, &b) == Agreement::Agree,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_refine::Page;

    #[test]
    fn what_is_no_fingerprint_agrees_with_nothing_not_even_itself() {
        assert!(!FingerprintJudge.fetch_agrees(b"no fingerprint", b"no fingerprint"));
    }

    #[test]
    fn equal_pages_agree() {
        let page = Page {
            url: "https://example.org/".to_owned(),
            status: 200,
            content_type: Some("text/html".to_owned()),
            body: b"<p>one page</p>".to_vec(),
        };
        let bytes = Fingerprint::new(&page, None, 1 << 20).to_bytes().unwrap();
        assert!(FingerprintJudge.fetch_agrees(&bytes, &bytes));
    }
}
