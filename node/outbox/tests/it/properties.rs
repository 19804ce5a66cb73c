//! Whatever happens, in whatever order: the rules of the machine hold.

use openledger_outbox::{Action, Outbox};
use openledger_outbox::{Effect, Event, Stage, Work};
use openledger_tables::Store;
use openledger_wire::Epoch;
use openledger_wire::link::LinkPush;
use openledger_wire::log::Verdict;
use proptest::prelude::*;

use crate::fixture::*;

/// One thing that happens, as a number: the strategy stays shrinkable.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Leased,
    Started,
    Crashed,
    Retry,
    Declined,
    Finished(u8),
    CommitHeld,
    CommitRefused,
    ClosedRight,
    ClosedWrong,
    ClosedAbsent,
    ProofHeld,
    ProofRefused,
    Receipt,
    Verdict(bool, u64),
    Epoch(bool),
    Claimed,
    Tick(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    prop_oneof![
        Just(Leased),
        Just(Started),
        Just(Crashed),
        Just(Retry),
        Just(Declined),
        (1u8..5).prop_map(Finished),
        Just(CommitHeld),
        Just(CommitRefused),
        Just(ClosedRight),
        Just(ClosedWrong),
        Just(ClosedAbsent),
        Just(ProofHeld),
        Just(ProofRefused),
        Just(Receipt),
        (any::<bool>(), 1u64..4).prop_map(|(good, number)| Verdict(good, number)),
        any::<bool>().prop_map(Epoch),
        Just(Claimed),
        (0u64..90_000).prop_map(Tick),
    ]
}

/// Lets it happen; gives the actions.
fn happen(outbox: &Outbox, what: Happening) -> Vec<Action> {
    let key = key_of(&leased(1));
    let work = outbox.get(key).unwrap().map(|entry| entry.work);
    let promise = work.and_then(|work| work.promise);
    let own = promise.as_ref().map(|promise| promise.commitment);
    let proof = promise.as_ref().map(|promise| promise.proof).unwrap_or_default();
    let event = |event| outbox.events(NOW, &[(key, event)]);
    let push = |push: LinkPush| outbox.push(NOW, &push);
    let handled = match what {
        Happening::Leased => push(push_leases([1])),
        Happening::Started => event(Event::Started),
        Happening::Crashed => event(Event::Crashed),
        Happening::Retry => event(Event::Retry),
        Happening::Declined => event(Event::Declined("no".into())),
        Happening::Finished(nonce) => outbox.finish(NOW, &finished(key, "a page", nonce)),
        Happening::CommitHeld => event(Event::CommitHeld),
        Happening::CommitRefused => event(Event::CommitRefused("no".into())),
        Happening::ClosedRight => push(sets(closed(key, vec![], own))),
        Happening::ClosedWrong => {
            push(sets(closed(key, vec![], Some(openledger_wire::Commitment([1; 32])))))
        }
        Happening::ClosedAbsent => push(sets(closed(key, vec![], None))),
        Happening::ProofHeld => event(Event::ProofHeld),
        Happening::ProofRefused => event(Event::ProofRefused("no".into())),
        Happening::Receipt => push(receipts(receipt(proof))),
        Happening::Verdict(good, number) => {
            let (given, points) =
                if good { (Verdict::Accepted, 5) } else { (Verdict::Rejected, 0) };
            push(verdicts(verdict(proof, key.task, given, points, (1, number))))
        }
        Happening::Epoch(vested) => event(Event::EpochClosed { epoch: Epoch(1), vested }),
        Happening::Claimed => event(Event::Claimed),
        Happening::Tick(ms) => outbox.tick(NOW.plus_ms(ms)),
    };
    handled.unwrap().actions
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn one_promise_per_lease_and_no_proof_without_its_own_commitment_in_a_closed_set(
        story in proptest::collection::vec(happening(), 1..40),
    ) {
        let store = Store::in_memory(Outbox::options()).unwrap();
        let outbox = Outbox::on(store, setup()).unwrap();
        let key = key_of(&leased(1));
        let mut promise = None;
        let mut closed_right = false;
        for what in story {
            let known = promise.is_some();
            closed_right |= known && matches!(what, Happening::ClosedRight);
            for action in happen(&outbox, what).into_iter().chain(outbox.resume(NOW).unwrap()) {
                match action {
                    Action::SendProof { .. } | Action::GossipProof { .. } => {
                        prop_assert!(closed_right, "revealed without a closed set: {what:?}");
                    }
                    Action::SendCommit { envelope, .. } => {
                        let now = outbox.get(key).unwrap().unwrap().work.promise.unwrap();
                        prop_assert_eq!(now.commit, envelope);
                    }
                    Action::Work(_) | Action::Decline(_) => {}
                }
            }
            let Some(entry) = outbox.get(key).unwrap() else { continue };
            let work: Work = entry.work;
            let now = work.promise.as_ref().map(|p| (p.commitment, p.proof, p.seq));
            if promise.is_some() {
                prop_assert_eq!(&now, &promise, "a promise never changes");
            }
            promise = now;
            prop_assert!(work.stage != Stage::Paid || work.is_accepted());
            let live = outbox.live().unwrap();
            prop_assert_eq!(live.len() == 1, work.is_live());
            let totals = outbox.totals().unwrap();
            prop_assert_eq!(totals.live, live.len() as u64);
            prop_assert_eq!(totals.points, work.points());
            prop_assert_eq!(totals.committed, u64::from(work.promise.is_some()));
        }
    }

    #[test]
    fn a_repeated_event_changes_nothing_more(
        story in proptest::collection::vec(happening(), 1..20),
    ) {
        use Happening::{Crashed, Retry, Started};
        let outbox = Outbox::on(Store::in_memory(Outbox::options()).unwrap(), setup()).unwrap();
        let key = key_of(&leased(1));
        happen(&outbox, Happening::Leased);
        for what in story {
            happen(&outbox, what);
            let once = outbox.get(key).unwrap();
            // Beginning and dying are counted; all that the coordinator says is not.
            if !matches!(what, Started | Crashed | Retry) {
                happen(&outbox, what);
                prop_assert_eq!(outbox.get(key).unwrap(), once, "{:?}", what);
            }
        }
    }
}

#[test]
fn effects_of_a_fresh_lease_are_the_work_itself() {
    assert_eq!(Work::new(&leased(1), NOW).resume(NOW), vec![Effect::Work]);
}
