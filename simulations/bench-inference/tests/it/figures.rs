//! Figures of speed, ours real on a tiny model, the peer's made up.

use openledger_sim::Figures;
use openledger_sim::figures::Kind;

use crate::support::{Place, WILLING, tiny};

#[test]
fn each_case_shows_rate_wall_time_and_cpu_time_beside_the_peers() {
    let output = Place::new().peer(WILLING).model(&tiny()).run(&["inference", "--quick", "--json"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let figures: Figures = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(figures.name, "inference");
    assert!(figures.figures.iter().all(|figure| figure.kind == Kind::Timed));
    assert!(figures.figures.iter().all(|figure| figure.ok && figure.bar.is_none()));
    for (case, rate) in [
        ("decode, 1 sequence", 16.0),
        ("decode, 8 sequences", 128.0),
        ("decode, 8 sequences, 8 adapters", 128.0),
        ("prefill, 128 tokens", 256.0),
    ] {
        for (name, unit, peer_value) in [
            (case.to_owned(), "tokens/s", rate),
            (format!("{case}: wall time"), "s", 0.5),
            (format!("{case}: CPU time"), "s", 0.25),
        ] {
            let figure = figures.figures.iter().find(|figure| figure.name == name).unwrap();
            assert_eq!(figure.unit, unit);
            assert!(figure.value.as_f64().is_some_and(|value| value >= 0.0), "{figure:?}");
            assert!(figure.peer.as_ref().unwrap().starts_with("llama-cpp-python 0.0"));
            assert_eq!(figure.peer_value.as_ref().unwrap().as_f64(), Some(peer_value));
            assert!(figure.ratio.is_some(), "{figure:?}");
        }
    }
    for name in [
        "prefill, 128 tokens: the reference",
        "decode, 8 sequences: share left by 8 adapters",
        "requests, 8, one adapter: worst time to first token",
        "requests, 8: worst time to first token, 8 adapters over one",
    ] {
        assert!(figures.figures.iter().any(|figure| figure.name == name), "{name}");
    }
}

#[test]
fn lines_for_people_have_the_peers_value_too() {
    let output = Place::new().peer(WILLING).model(&tiny()).run(&["inference", "--quick"]);
    assert!(output.status.success());
    let lines = String::from_utf8(output.stdout).unwrap();
    assert!(lines.contains("(16.0 tokens/s: llama-cpp-python 0.0)"), "{lines}");
}
