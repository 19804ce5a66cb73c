//! Two fetches of one page: what may differ, and what may not.

use openledger_refine::{Agreement, Difference, PROFILE_V1, agree, process};

use crate::{ARTICLE, page};

fn compare(change: impl Fn(&str) -> String) -> Agreement {
    let original = std::str::from_utf8(ARTICLE).unwrap();
    let changed = change(original);
    assert_ne!(changed, original, "the change found nothing to change");
    let of = |body: &str| process(&page("text/html", body), &PROFILE_V1).unwrap().fingerprint;
    agree(&of(original), &of(&changed))
}

#[test]
fn noise_around_the_text() {
    let agrees = |from: &str, to: &str| {
        assert_eq!(compare(|page| page.replace(from, to)), Agreement::Agree, "{to}");
    };
    agrees("var tracker =", "var nonce = 8437123; var tracker =");
    agrees("Ferry timetable changes again", "Breaking news of 17:42");
    agrees("<article>", "<article data-session=\"f3a9c1\">");
    agrees("8.8.4.4", "9.9.9.10");
    agrees("harbour.office@", "harbour.office.2@");
}

#[test]
fn facts_inside_the_text() {
    let difference = |from: &str, to: &str| match compare(|page| page.replace(from, to)) {
        Agreement::Agree => None,
        Agreement::Differ(difference) => Some(difference),
    };
    // 12 numerals: one that changed leaves 11 of 13.
    assert!(matches!(
        difference("gap of 14 metres", "gap of 41 metres"),
        Some(Difference::Numerals(_) | Difference::Text(_))
    ));
    assert_eq!(
        difference("How the Harbour Wall Was Mended", "How It Broke"),
        Some(Difference::Title)
    );
}

#[test]
fn another_page_altogether() {
    let other = process(&page("text/html", crate::MANUAL), &PROFILE_V1).unwrap().fingerprint;
    let ours = process(&page("text/html", ARTICLE), &PROFILE_V1).unwrap().fingerprint;
    assert_ne!(agree(&ours, &other), Agreement::Agree);
}
