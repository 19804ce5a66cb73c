//! How much of the engine each caller and each of its adapter sets had: who had least is next.
//!
//! Tokens are counted as they are run, prompts when they are let in: the virtual token counter of
//! Sheng et al. 2024 ("Fairness in Serving Large Language Models"), nested. It is deficit round robin
//! with a quantum of one token that needs no answer's length beforehand. Who had nothing to run
//! begins again at the least of those who have: idleness earns no credit, and a flood earns debt
//! only while somebody else waits.

use std::collections::{BTreeMap, BTreeSet};

use openledger_wire::ids::BlobId;

use crate::limits::CALLERS_REMEMBERED_MAX;
use crate::request::CallerId;

/// Domain of the names of adapter sets.
const SET_DOMAIN: &str = "openledger adapters of a request v1";

/// Names the adapters that requests ask for with their weights, loaded or not.
pub(crate) type SetKey = [u8; 32];

/// What a request belongs to: its caller, and among that caller's its adapters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flow {
    /// Nobody in particular is a caller, too.
    pub(crate) caller: Option<CallerId>,
    pub(crate) set: SetKey,
}

impl Flow {
    /// Of a request from this caller for these adapters with their weights.
    pub(crate) fn of(caller: Option<CallerId>, adapters: &[(BlobId, f32)]) -> Self {
        let mut sorted: Vec<_> =
            adapters.iter().map(|(id, weight)| (id.0, weight.to_bits())).collect();
        sorted.sort_unstable();
        let mut hasher = blake3::Hasher::new_derive_key(SET_DOMAIN);
        for (id, weight) in sorted {
            hasher.update(&id).update(&weight.to_le_bytes());
        }
        Self { caller, set: *hasher.finalize().as_bytes() }
    }
}

#[derive(Debug, Default)]
struct Account {
    tokens: u64,
    sets: BTreeMap<SetKey, u64>,
}

/// Where a newcomer begins: who was here does not come before it once more.
fn just_below(least: Option<u64>) -> u64 {
    least.unwrap_or(0).saturating_sub(1)
}

/// The tokens of all that matter for who is next.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    callers: BTreeMap<Option<CallerId>, Account>,
}

impl Shares {
    /// Tokens of a caller, and of a set among its own.
    pub(crate) fn of(&self, flow: &Flow) -> (u64, u64) {
        self.callers.get(&flow.caller).map_or((0, 0), |account| {
            (account.tokens, account.sets.get(&flow.set).copied().unwrap_or(0))
        })
    }

    /// Somebody has something to run; `busy` are those who had before.
    pub(crate) fn enter(&mut self, flow: Flow, busy: &BTreeSet<Flow>) {
        let callers: BTreeSet<_> = busy.iter().map(|other| other.caller).collect();
        if !callers.contains(&flow.caller) {
            let tokens = |caller| self.callers.get(caller).map(|account| account.tokens);
            let least = callers.iter().filter_map(tokens).min();
            let keep =
                |caller: &_, tokens| callers.contains(caller) || least.is_some_and(|l| tokens > l);
            self.callers.retain(|caller, account| keep(caller, account.tokens));
            let account = self.callers.entry(flow.caller).or_default();
            account.tokens = account.tokens.max(just_below(least));
            self.limit(&callers, flow.caller);
        }
        let account = self.callers.entry(flow.caller).or_default();
        let sets: BTreeSet<_> = busy
            .iter()
            .filter(|other| other.caller == flow.caller)
            .map(|other| other.set)
            .collect();
        if !sets.contains(&flow.set) {
            let least = sets.iter().filter_map(|set| account.sets.get(set)).min().copied();
            let keep = |set: &_, tokens| sets.contains(set) || least.is_some_and(|l| tokens > l);
            account.sets.retain(|set, tokens| keep(set, *tokens));
            let tokens = account.sets.entry(flow.set).or_default();
            *tokens = (*tokens).max(just_below(least));
        }
    }

    /// Forgets those who owe least of those who have nothing to run, if too many are remembered.
    fn limit(&mut self, busy: &BTreeSet<Option<CallerId>>, own: Option<CallerId>) {
        while self.callers.len() > CALLERS_REMEMBERED_MAX {
            let away = self.callers.iter().filter(|(c, _)| !busy.contains(c) && **c != own);
            let least = away.min_by_key(|(_, account)| account.tokens).map(|(caller, _)| *caller);
            let Some(least) = least else { return };
            self.callers.remove(&least);
        }
    }

    /// Counts tokens.
    pub(crate) fn charge(&mut self, flow: &Flow, tokens: usize) {
        let tokens = tokens as u64;
        let account = self.callers.entry(flow.caller).or_default();
        account.tokens = account.tokens.saturating_add(tokens);
        let set = account.sets.entry(flow.set).or_default();
        *set = set.saturating_add(tokens);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(caller: u8, set: u8) -> Flow {
        Flow { caller: Some(CallerId::of(&[caller])), set: [set; 32] }
    }

    #[test]
    fn who_comes_back_begins_at_the_least_of_the_busy_and_keeps_a_debt() {
        let mut shares = Shares::default();
        shares.enter(flow(1, 0), &BTreeSet::new());
        shares.charge(&flow(1, 0), 500);
        let busy = BTreeSet::from([flow(1, 0)]);
        shares.enter(flow(2, 0), &busy);
        assert_eq!(shares.of(&flow(2, 0)), (499, 0), "no credit for having been away");
        shares.charge(&flow(2, 0), 300);
        // The second goes and comes back while the first is still at it.
        shares.enter(flow(2, 0), &busy);
        assert_eq!(shares.of(&flow(2, 0)).0, 799, "a debt stays");
        // Nobody is there any more: nothing is owed to anybody.
        shares.enter(flow(2, 0), &BTreeSet::new());
        assert_eq!(shares.of(&flow(2, 0)), (0, 0));
        assert_eq!(shares.of(&flow(1, 0)), (0, 0));
    }

    #[test]
    fn sets_of_a_caller_are_counted_within_it() {
        let mut shares = Shares::default();
        shares.enter(flow(1, 1), &BTreeSet::new());
        shares.charge(&flow(1, 1), 70);
        shares.enter(flow(1, 2), &BTreeSet::from([flow(1, 1)]));
        assert_eq!(shares.of(&flow(1, 2)), (70, 69));
        shares.charge(&flow(1, 2), 5);
        assert_eq!((shares.of(&flow(1, 1)), shares.of(&flow(1, 2))), ((75, 70), (75, 74)));
    }

    #[test]
    fn few_are_remembered_of_many_who_came_once() {
        let mut shares = Shares::default();
        let steady = flow(255, 0);
        shares.enter(steady, &BTreeSet::new());
        let busy = BTreeSet::from([steady]);
        for number in 0..2 * CALLERS_REMEMBERED_MAX as u64 {
            let caller = Some(CallerId::of(&number.to_le_bytes()));
            let once = Flow { caller, set: [0; 32] };
            shares.enter(once, &busy);
            shares.charge(&once, 10);
        }
        assert!(shares.callers.len() <= CALLERS_REMEMBERED_MAX);
        assert!(shares.callers.contains_key(&steady.caller));
    }
}
