//! Every scenario holds for a seed, and a seed is a history.

use openledger_sim::scenario::SCENARIOS;

#[test]
fn every_scenario_holds() {
    for scenario in SCENARIOS {
        let report = scenario.run(11).unwrap_or_else(|e| panic!("{}: {e:#}", scenario.name));
        let cheats = !matches!(
            scenario.name,
            "honest" | "silent" | "infer" | "infer-near-ties" | "infer-classes"
        );
        assert_eq!(report.dishonest > 0, cheats, "{}", scenario.name);
    }
}

#[test]
fn one_seed_is_one_history_and_another_is_another() {
    let scenario = &SCENARIOS[0];
    let (a, b, c) = (scenario.run(1).unwrap(), scenario.run(1).unwrap(), scenario.run(2).unwrap());
    assert_eq!(a.history, b.history);
    assert_ne!(a.history, c.history);
}
