//! Frozen outputs. A change here is a new profile: outputs of the old one must stay
//! verifiable, so a release that changes them keeps both.

use openledger_refine::{PROFILE_V1, process};

use crate::{ARTICLE, FORUM, MANUAL, page};

/// Page, output root, BLAKE3 of the fingerprint's encoding.
const GOLDEN: [(&[u8], &str, &str); 3] = [
    (
        ARTICLE,
        "f489b4d22c5f77500419aeb2fae315445b65a7fd510cbfbd7167e34e5495d5d7",
        "461aaeea4f4c3addb045556634e8d74f537131e6636a6d80166df1dd2d664895",
    ),
    (
        MANUAL,
        "eb238497464786dfb48fb7aee447f6fa9317b17df00fc15d1b523f4eed96721e",
        "6c8ee74932569feb1e7586657939a05bac255c55b0e20696202f59e53bca95cc",
    ),
    (
        FORUM,
        "8c444eee91e5a3785683a638ad8523df285cc44a4aa4e601ecb70991a108d4cd",
        "1ed88afee8d062cbe7f26f35ed687dd75e10a9f09a072fcba6d5cfe2d1820126",
    ),
];

#[test]
fn profile_id() {
    assert_eq!(
        hex::encode(PROFILE_V1.profile_id()),
        "ebc72a2ce4d4534773397488732a7a78e44ea3e8ad5a4e4533b728408dc454cf"
    );
}

#[test]
fn outputs() {
    let outputs = GOLDEN.map(|(body, _, _)| {
        let refined = process(&page("text/html; charset=utf-8", body), &PROFILE_V1).unwrap();
        let root = refined.outcome.output_root(&PROFILE_V1).unwrap();
        let fingerprint = blake3::hash(&refined.fingerprint.to_bytes().unwrap());
        (hex::encode(root), fingerprint.to_hex().to_string())
    });
    let expected = GOLDEN.map(|(_, root, fingerprint)| (root.to_owned(), fingerprint.to_owned()));
    assert_eq!(outputs, expected);
}
