//! Points between their award and their leaf.
//!
//! Points wait for a number of epochs *and* for a number of later accepted tasks of their account
//! before they turn into OPEN; until then a proven cheat forfeits all of them (THREATS 7). That
//! makes past work the deposit of a swarm that asks for none.

use std::collections::BTreeMap;

use openledger_wire::{Epoch, Points};

/// An award that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The epoch in which it was awarded.
    pub epoch: Epoch,
    /// How many points.
    pub points: Points,
    /// The account's accepted tasks when it was awarded.
    pub accepted_at: u64,
}

/// The waiting points of one account.
///
/// Whatever goes in comes out once: as vested, as forfeited, or as still pending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VestingQueue {
    waiting: BTreeMap<(Epoch, u64), Points>,
    total: Points,
}

impl VestingQueue {
    /// Takes in an award; `accepted_at` is the account's count of accepted tasks at that moment,
    /// this one included. Awards of the same epoch and count are kept as one.
    ///
    /// The sum of what waits ends at 64 bits, which no epoch's budget reaches: an award beyond is
    /// cut to what fits, so that what comes out stays what went in.
    pub fn award(&mut self, epoch: Epoch, points: Points, accepted_at: u64) {
        let room = u64::MAX.saturating_sub(self.total.0);
        let points = points.0.min(room);
        if points == 0 {
            return;
        }
        // Within the room, so neither sum meets its bound.
        self.total = Points(self.total.0.saturating_add(points));
        let slot = self.waiting.entry((epoch, accepted_at)).or_default();
        *slot = Points(slot.0.saturating_add(points));
    }

    /// Removes and sums the awards that are at least `v_epochs` old when `epoch_closed` closes and
    /// that at least `w_accepted` accepted tasks followed.
    #[must_use]
    pub fn vest(
        &mut self,
        epoch_closed: Epoch,
        accepted_now: u64,
        v_epochs: u64,
        w_accepted: u64,
    ) -> Points {
        let due = |epoch: Epoch, accepted_at: u64| {
            let epochs = epoch_closed.0.checked_sub(epoch.0);
            let followed = accepted_now.checked_sub(accepted_at);
            epochs.is_some_and(|n| n >= v_epochs) && followed.is_some_and(|n| n >= w_accepted)
        };
        let mut vested = Points::ZERO;
        self.waiting.retain(|(epoch, accepted_at), points| {
            let due = due(*epoch, *accepted_at);
            if due {
                vested = Points(vested.0.saturating_add(points.0));
            }
            !due
        });
        // `total` is the sum of all that waited, so neither operation meets its bound.
        self.total = Points(self.total.0.saturating_sub(vested.0));
        vested
    }

    /// Removes everything; gives what was lost.
    #[must_use]
    pub fn forfeit(&mut self) -> Points {
        self.waiting.clear();
        std::mem::take(&mut self.total)
    }

    /// The sum of all that waits.
    #[must_use]
    pub fn pending(&self) -> Points {
        self.total
    }

    /// What waits, by epoch and count.
    pub fn iter(&self) -> impl Iterator<Item = Pending> {
        self.waiting.iter().map(|((epoch, accepted_at), points)| Pending {
            epoch: *epoch,
            points: *points,
            accepted_at: *accepted_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_conditions_must_hold() {
        let mut queue = VestingQueue::default();
        queue.award(Epoch(3), Points(10), 1);
        assert_eq!(queue.vest(Epoch(4), 1_000, 2, 90), Points(0), "too young");
        assert_eq!(queue.vest(Epoch(9), 90, 2, 90), Points(0), "too little followed");
        assert_eq!(queue.pending(), Points(10));
        assert_eq!(queue.vest(Epoch(5), 91, 2, 90), Points(10));
        assert_eq!(queue.vest(Epoch(5), 91, 2, 90), Points(0), "once");
        assert_eq!(queue, VestingQueue::default());
    }

    #[test]
    fn an_early_award_without_work_behind_it_waits_while_others_vest() {
        let mut queue = VestingQueue::default();
        queue.award(Epoch(0), Points(1), 50);
        queue.award(Epoch(1), Points(2), 10);
        assert_eq!(queue.vest(Epoch(9), 55, 1, 40), Points(2));
        let left = Pending { epoch: Epoch(0), points: Points(1), accepted_at: 50 };
        assert_eq!(queue.iter().collect::<Vec<_>>(), [left]);
    }

    #[test]
    fn forfeit_takes_all_and_sums_end_at_64_bits() {
        let mut queue = VestingQueue::default();
        queue.award(Epoch(0), Points(u64::MAX - 1), 1);
        queue.award(Epoch(1), Points(5), 2);
        queue.award(Epoch(1), Points(5), 3);
        assert_eq!(queue.pending(), Points(u64::MAX));
        assert_eq!(queue.forfeit(), Points(u64::MAX));
        assert_eq!(queue.forfeit(), Points(0));
        assert_eq!(queue.vest(Epoch(u64::MAX), u64::MAX, 0, 0), Points(0));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Award(u64, u64, u64),
        Vest(u64, u64),
        Forfeit,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0..20u64, 0..1_000u64, 0..200u64).prop_map(|(e, p, a)| Step::Award(e, p, a)),
            3 => (0..30u64, 0..300u64).prop_map(|(e, a)| Step::Vest(e, a)),
            1 => Just(Step::Forfeit),
        ];
        prop::collection::vec(step, 0..80)
    }

    proptest! {
        #[test]
        fn what_goes_in_is_what_comes_out(steps in steps(), v in 0..5u64, w in 0..100u64) {
            let mut queue = VestingQueue::default();
            let (mut put, mut got) = (0u64, 0u64);
            for step in steps {
                match step {
                    Step::Award(epoch, points, at) => {
                        queue.award(Epoch(epoch), Points(points), at);
                        put += points;
                    }
                    Step::Vest(epoch, now) => got += queue.vest(Epoch(epoch), now, v, w).0,
                    Step::Forfeit => got += queue.forfeit().0,
                }
                prop_assert_eq!(put, got + queue.pending().0);
                prop_assert_eq!(queue.pending().0, queue.iter().map(|p| p.points.0).sum::<u64>());
            }
        }

        #[test]
        fn nothing_vests_early(epoch in 0..50u64, at in 0..50u64, close in 0..60u64, now in 0..120u64, v in 0..5u64, w in 0..50u64) {
            let mut queue = VestingQueue::default();
            queue.award(Epoch(epoch), Points(7), at);
            let vested = queue.vest(Epoch(close), now, v, w);
            prop_assert_eq!(vested == Points(7), close >= epoch + v && now >= at + w);
        }
    }
}
