//! Pages of the kinds that the web is made of.

use openledger_refine::{LicenceEvidence, Outcome, PROFILE_V1, Reason, process, refine};

use crate::{ARTICLE, FORUM, MANUAL, document, page};

#[test]
fn an_article() {
    let document = document(&page("text/html", ARTICLE));
    assert_eq!(document.title.as_deref(), Some("How the Harbour Wall Was Mended"));
    assert_eq!(document.author.as_deref(), Some("Maren Holt"));
    assert_eq!(document.published.as_deref(), Some("2026-03-14"));
    assert_eq!(document.language, "eng");
    assert_eq!(
        document.canonical_url.as_deref(),
        Some("https://www.example.org/2026/harbour-wall?utm_source=feed")
    );
    let licence = document.licence.unwrap();
    assert_eq!(licence.url, "https://creativecommons.org/licenses/by/4.0/");
    assert_eq!(licence.evidence, LicenceEvidence::Link);
    for part in ["gap of 14 metres", "between 800 and 2,400 kilograms", "stays where it is"] {
        assert!(document.text.contains(part), "{part} is missing");
    }
    for part in ["Ferry timetable", "tracker", "Imprint", "color: red", "Weather"] {
        assert!(!document.text.contains(part), "{part} is no part of the text");
    }
}

#[test]
fn addresses_are_hidden() {
    let text = document(&page("text/html", ARTICLE)).text;
    assert!(text.contains("sent to [email] or"));
    assert!(text.contains("served from 203.0.113.7 and mirrored at [address] for"));
}

#[test]
fn a_manual_keeps_code_and_tables() {
    let document = document(&page("text/html", MANUAL));
    assert_eq!(document.title.as_deref(), Some("4.2. The retry table"));
    assert_eq!(document.language, "eng");
    assert!(document.text.contains("    job => 4711,\n    delay => interval '5 minutes'\n"));
    assert!(document.text.contains("Earliest time at which it will be tried again"));
}

#[test]
fn a_forum_without_closing_tags() {
    let document = document(&page("text/html; charset=utf-8", FORUM));
    assert!(document.text.contains("What am I doing wrong?"));
    assert!(document.text.contains("Cold is the answer"));
    assert!(document.text.contains("It was the cold!"));
}

#[test]
fn plain_text() {
    let body = "A README\n\nThis is the text of a file that somebody wrote for people who want to \
        build the program. It says that there are two steps, and that the second of them may be \
        left out on machines which have the library already. Whoever has questions is asked to \
        read the list of known problems first, because most of them have been answered there \
        long ago.\n";
    let document = document(&page("text/plain; charset=us-ascii", body));
    assert_eq!(document.title.as_deref(), Some("A README"));
    assert_eq!(document.text, body.trim_end());
}

#[test]
fn pages_that_are_no_documents() {
    let reason = |page| match refine(&page, &PROFILE_V1).unwrap() {
        Outcome::Document(_) => None,
        Outcome::Rejected(reason) => Some(reason),
    };
    let mut missing = page("text/html", ARTICLE);
    missing.status = 404;
    assert_eq!(reason(missing), Some(Reason::Status));
    assert_eq!(reason(page("image/png", "\u{89}PNG")), Some(Reason::MediaType));
    assert_eq!(reason(page("text/html", "<p>Please enable JavaScript.")), Some(Reason::TooShort));
    assert_eq!(reason(page("text/html", "")), Some(Reason::Empty));
    let again = "<p>Come to the shop of our friends and save more than ever before.</p>".repeat(40);
    assert_eq!(reason(page("text/html", again)), Some(Reason::Repetition));
}

#[test]
fn the_same_bytes_twice_and_in_any_order() {
    let pages: Vec<_> =
        [ARTICLE, MANUAL, FORUM].into_iter().map(|body| page("text/html", body)).collect();
    let bytes = |at: usize| {
        let refined = process(&pages[at], &PROFILE_V1).unwrap();
        let root = refined.outcome.output_root(&PROFILE_V1).unwrap();
        (root, refined.fingerprint.to_bytes().unwrap())
    };
    let forwards: Vec<_> = (0..3).map(bytes).collect();
    let backwards: Vec<_> = (0..3).rev().map(bytes).collect();
    assert!(forwards.iter().eq(backwards.iter().rev()));
    let elsewhere = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|at| scope.spawn(move || at)).collect();
        threads.into_iter().map(|thread| bytes(thread.join().unwrap())).collect::<Vec<_>>()
    });
    assert_eq!(forwards, elsewhere);
}

#[test]
fn refine_and_process_agree() {
    let page = page("text/html", ARTICLE);
    let outcome = process(&page, &PROFILE_V1).unwrap().outcome;
    assert_eq!(refine(&page, &PROFILE_V1).unwrap(), outcome);
}
