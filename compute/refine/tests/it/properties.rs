//! What holds for every input.

use openledger_refine::{
    Agreement, DuplicateIndex, Fingerprint, Outcome, PROFILE_V1, Page, Signature, agree, band_keys,
    numeral_agreement_permille, process, similarity_permille,
};
use openledger_refine::{Document, redact::redact};
use proptest::prelude::*;

fn any_page() -> impl Strategy<Value = Page> {
    let markup = prop::collection::vec(
        prop_oneof![
            Just("<p>"),
            Just("</p>"),
            Just("<div id='a'"),
            Just(">"),
            Just("<table><tr>"),
            Just("<b>"),
            Just("</b>"),
            Just("<a href=x>"),
            Just("&amp;"),
            Just("&#0;"),
            Just("<script>"),
            Just("</script>"),
            Just("<svg>"),
            Just("<title>"),
            Just("</title>"),
            Just("<br>"),
            Just("<template>"),
            Just("<!--"),
            Just("-->"),
            Just("<meta charset=utf-16>"),
            Just("some words, and "),
            Just("\u{e9}\u{65e5}"),
            Just("<article><h1>"),
            Just("<select><option>"),
            Just("</table>"),
            Just("<math><mi>"),
            Just("\0"),
        ],
        0..120,
    )
    .prop_map(|parts| parts.concat().into_bytes());
    let body = prop_oneof![markup, prop::collection::vec(any::<u8>(), 0..600)];
    let content_type = prop_oneof![
        Just(None),
        Just(Some("text/html".to_owned())),
        Just(Some("text/plain; charset=utf-16".to_owned())),
        "[ -~]{0,40}".prop_map(|tail| Some(format!("text/html; {tail}"))),
    ];
    (body, content_type, any::<u16>()).prop_map(|(body, content_type, status)| Page {
        url: "http://a.example/".into(),
        status,
        content_type,
        body,
    })
}

fn fingerprint(page: &Page) -> Fingerprint {
    process(page, &PROFILE_V1).unwrap().fingerprint
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_have_one_outcome(page in any_page()) {
        let first = process(&page, &PROFILE_V1).unwrap();
        prop_assert_eq!(&first, &process(&page, &PROFILE_V1).unwrap());
        first.outcome.output_root(&PROFILE_V1).unwrap();
        if let Outcome::Document(document) = first.outcome {
            let bytes = document.to_bytes().unwrap();
            prop_assert_eq!(Document::from_bytes(&bytes).unwrap(), *document);
        }
    }

    #[test]
    fn fingerprints_round_trip_and_agree_with_themselves(page in any_page()) {
        let fingerprint = fingerprint(&page);
        let bytes = fingerprint.to_bytes().unwrap();
        prop_assert_eq!(&Fingerprint::from_bytes(&bytes).unwrap(), &fingerprint);
        prop_assert_eq!(agree(&fingerprint, &fingerprint), Agreement::Agree);
    }

    #[test]
    fn comparison_is_symmetric(a in "[ab 0-3]{0,80}", b in "[ab 0-3]{0,80}") {
        let of = |text: &str| fingerprint(&Page {
            url: "http://a.example/".into(),
            status: 200,
            content_type: Some("text/plain".into()),
            body: text.as_bytes().to_vec(),
        });
        let (a, b) = (of(&a), of(&b));
        prop_assert_eq!(similarity_permille(&a, &b), similarity_permille(&b, &a));
        prop_assert_eq!(numeral_agreement_permille(&a, &b), numeral_agreement_permille(&b, &a));
        prop_assert_eq!(similarity_permille(&a, &a), 1_000);
        prop_assert_eq!(numeral_agreement_permille(&a, &a), 1_000);
        prop_assert_eq!(agree(&a, &b) == Agreement::Agree, agree(&b, &a) == Agreement::Agree);
    }

    #[test]
    fn any_bytes_may_claim_to_be_a_fingerprint(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Fingerprint::from_bytes(&bytes).is_err());
        prop_assert!(Document::from_bytes(&bytes).is_err());
    }

    #[test]
    fn flipped_bits_are_other_fingerprints_or_none(at in 0_usize..560, bit in 0_u8..8) {
        let original = fingerprint(&Page {
            url: "http://a.example/".into(),
            status: 200,
            content_type: Some("text/plain".into()),
            body: b"Chapter 7, page 12: nothing".to_vec(),
        });
        let mut bytes = original.to_bytes().unwrap();
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << bit;
            if let Ok(other) = Fingerprint::from_bytes(&bytes) {
                prop_assert_ne!(&other, &original);
                prop_assert_eq!(other.to_bytes().unwrap(), bytes);
            }
        }
    }

    #[test]
    fn redaction_is_idempotent(text in "([a-c@. 1-9\\[\\]'<>-]|8\\.8\\.8\\.8|a@b\\.cd|\\PC){0,60}") {
        let once = redact(&text);
        prop_assert_eq!(redact(&once), once);
    }

    #[test]
    fn the_index_finds_what_it_holds(texts in prop::collection::vec("[a-f ]{0,60}", 1..20)) {
        let mut index = DuplicateIndex::new();
        for (id, text) in (0_u8..).zip(&texts) {
            index.insert([id; 32], &band_keys(&Signature::of_text(text)));
        }
        for (id, text) in (0_u8..).zip(&texts) {
            let found = index.candidates(&band_keys(&Signature::of_text(text)));
            prop_assert!(found.contains(&[id; 32]));
            prop_assert!(found.is_sorted());
        }
    }
}
