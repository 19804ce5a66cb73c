//! The coordinator's log and its bundles, up to the fold that audits run.

use openledger_rules::{Bundle, Judge, RuleSet, Setup, State, audit};
use openledger_wire::eip712::Domain;
use openledger_wire::log::{Entry, Line};
use openledger_wire::profile::BeaconSource;
use openledger_wire::{Envelope, EvmAddress, List, NetworkId, NodeId, ProofId, UnixMs, limits};

use super::messages::canonical;

/// Fingerprints agree if they are the same bytes; the real judge is another target.
struct Same;

impl Judge for Same {
    fn fetch_agrees(&self, a: &[u8], b: &[u8]) -> bool {
        a == b
    }
}

fn setup() -> Setup {
    Setup {
        network: NetworkId([7; 32]),
        rules: RuleSet::devnet_v1([0; 32]),
        genesis: UnixMs(1_767_225_600_000),
        founding: vec![NodeId([1; 32]), NodeId([2; 32])],
        beacon: BeaconSource::Stub,
        chain_id: 31_337,
        domain: Domain { chain_id: 31_337, contract: EvmAddress([0x32; 20]) },
    }
}

pub(super) fn entry(bytes: &[u8]) {
    let Some(entry) = canonical::<Entry>(bytes, limits::LINE_MAX) else { return };
    let _ = State::new(setup()).apply(&entry, &Same, &|_: &ProofId| None::<Envelope>);
}

/// Lines that a lying coordinator might chain: each is applied at the place where it would stand.
pub(super) fn lines(bytes: &[u8]) {
    let Some(lines) = canonical::<List<Line, 16>>(bytes, limits::LINE_MAX) else { return };
    let mut state = State::new(setup());
    let genesis = state.genesis().map(Line::Genesis);
    for line in genesis.into_iter().chain(lines.into_vec()) {
        let entry = Entry {
            height: state.next_height(),
            previous: state.head(),
            at: state.at().plus_ms(1_000).max(UnixMs(1_767_225_600_000)),
            line,
        };
        let before = state.next_height();
        let applied = state.apply(&entry, &Same, &|_: &ProofId| None::<Envelope>).is_ok();
        assert_eq!(applied, state.next_height() > before, "a refused line moved the log");
        if !applied {
            return;
        }
    }
}

pub(super) fn bundle(bytes: &[u8]) {
    let Some(bundle) = canonical::<Bundle>(bytes, limits::LINE_MAX) else { return };
    let _ = audit(setup(), &Same, &[bundle]);
}
