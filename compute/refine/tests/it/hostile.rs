//! Pages made to hurt: each must end with an outcome, soon, on a small stack.

use openledger_refine::{Outcome, PROFILE_V1, Reason, process};

use crate::page;

/// Runs a page on the 2 MiB stack of a worker thread.
fn outcome(body: impl Into<Vec<u8>>) -> Outcome {
    let page = page("text/html", body);
    let worker = move || process(&page, &PROFILE_V1).unwrap().outcome;
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(worker).unwrap();
    thread.join().unwrap()
}

fn reason(body: impl Into<Vec<u8>>) -> Reason {
    match outcome(body) {
        Outcome::Rejected(reason) => reason,
        Outcome::Document(document) => panic!("a document: {:?}", document.title),
    }
}

#[test]
fn deep_nesting() {
    assert_eq!(reason("<div>".repeat(200_000)), Reason::TooDeep);
    let reopened = reason("<b><p>".repeat(200_000));
    assert!(matches!(reopened, Reason::TooDeep | Reason::TooManyNodes));
    assert_eq!(reason("<template>".repeat(200_000)), Reason::TooDeep);
    assert_eq!(reason("<svg><g>".repeat(200_000)), Reason::TooDeep);
}

#[test]
fn nesting_just_within_the_limit() {
    for tag in ["div", "a", "ins", "span", "blockquote", "ul><li"] {
        let depth = 500 / tag.split('>').count();
        outcome(format!("{}text", format!("<{tag}>").repeat(depth)));
    }
}

#[test]
fn a_million_siblings() {
    assert_eq!(reason("<p>x".repeat(1_000_000)), Reason::TooManyNodes);
    assert_eq!(reason("<i></i>".repeat(1_000_000)), Reason::TooManyNodes);
}

#[test]
fn as_many_siblings_as_are_allowed() {
    for unit in [
        "<p>some words, here",
        "<br>",
        "<br>x",
        "<a href=x>l</a>",
        "<li>a",
        "<tr><td>a",
        "<div>a</div>",
    ] {
        let nodes = unit.matches('<').count() - unit.matches("</").count() + 1;
        outcome(unit.repeat(190_000 / nodes));
    }
}

#[test]
fn many_shallow_towers() {
    let tower = format!("{}word, word, word{}", "<div>".repeat(450), "</div>".repeat(450));
    assert_eq!(reason(tower.repeat(400)), Reason::TooDeep);
    outcome(tower.repeat(150));
    let tower = format!("{}x{}", "<ins>".repeat(450), "</ins>".repeat(450));
    outcome(format!("<div>{}</div>", tower.repeat(400)));
}

#[test]
fn attributes() {
    outcome(format!("<p title='{}'>text", "x ".repeat(4_000_000)));
    let many: String = (0..1_000_000).map(|i| format!(" a{i}")).collect();
    assert_eq!(reason(format!("<p{many}>text")), Reason::TooManyAttributes);
    let allowed: String = (0..1_000).map(|i| format!(" a{i}")).collect();
    outcome(format!("<p{allowed}>text").repeat(1_000));
}

#[test]
fn rubbish() {
    outcome("<".repeat(10_000_000));
    outcome("\0".repeat(10_000_000));
    outcome("&".repeat(9_000_000));
    outcome("\u{a9}".repeat(4_000_000));
    outcome(format!("<p title='{}'>text", "&".repeat(4_000_000)));
    outcome(format!("<p title='{}'>text", "&\" ".repeat(3_000)).repeat(600));
    outcome("&lt".repeat(3_000_000));
    outcome("<!--".repeat(2_000_000));
    outcome("<![CDATA[".repeat(1_000_000));
    outcome("<script>".repeat(1_000_000));
    outcome("</p>".repeat(190_000));
    outcome("a@b.".repeat(2_000_000));
    outcome("1.".repeat(5_000_000));
    outcome(vec![0xff; 10_000_000]);
    assert_eq!(reason(vec![b'a'; 20_000_000]), Reason::TooLarge);
}

#[test]
fn endless_text() {
    let words: String = (0..1_200_000).map(|i| format!("word{i} ")).take(1_000_000).collect();
    let cut = words.get(..10_000_000).unwrap_or(&words);
    assert_eq!(reason(format!("<p>{}", cut.get(..9_000_000).unwrap_or(cut))), Reason::TooLong);
}

#[test]
fn json_bombs() {
    let script = |json: &str| format!("<script type=application/ld+json>{json}</script><p>text");
    outcome(script(&"[".repeat(200_000)));
    outcome(script(&"{\"@graph\":".repeat(20_000)));
    outcome(script("{\"author\":{\"name\":1e999}}").repeat(5_000));
}
