//! Who waits for adapters, and what there is room for.
//!
//! Memory is promised to requests in the order in which they came. The first whose adapters do not
//! fit beside what is in use holds up all that need memory too, but not those whose adapters are in
//! use anyway; those go on until it has waited for [`ADAPTER_PATIENCE_STEPS`], and then wait with it,
//! so that what is in use ends some time.

use std::collections::BTreeSet;
use std::sync::Arc;

use openledger_wire::ids::BlobId;

use super::ask::{Ask, Part, Recipe};
use super::errors::AdapterSetError;
use super::loaded::{AdapterSet, LoadedAdapter};
use super::memory::Key;
use super::product::bytes_of_product;
use super::store::AdapterStore;
use crate::limits::ADAPTER_PATIENCE_STEPS;
use crate::request::SequenceId;

/// A request that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) ask: Ask,
    /// Steps for which it was the first without room.
    pub(super) blocked_steps: u32,
}

/// What came of those that waited.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// They can run.
    pub(crate) ready: Vec<(SequenceId, AdapterSet)>,
    /// They never will.
    pub(crate) failed: Vec<(SequenceId, AdapterSetError)>,
}

/// What is to be done for those that wait.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Promised: not to be put out.
    pub(super) keep: BTreeSet<Key>,
    /// To be fetched, in the order in which they were asked for.
    pub(super) wanted: Vec<BlobId>,
    /// To be merged.
    pub(super) merges: Vec<Arc<Recipe>>,
    /// All that these need is in memory.
    ready: Vec<SequenceId>,
    failed: Vec<(SequenceId, AdapterSetError)>,
    /// The first without room.
    blocked: Option<SequenceId>,
}

/// What one request needs.
#[derive(Debug, Default)]
struct Needs {
    /// In memory, with their bytes.
    held: Vec<(Key, usize)>,
    /// Not in memory, with their bytes if known.
    missing: Vec<(BlobId, Option<usize>)>,
    /// Products to be made, with their bytes and whether all that goes into them is there.
    products: Vec<(Arc<Recipe>, usize, bool)>,
    /// Cannot be fetched again once it is put out.
    unregistered: bool,
}

impl Plan {
    /// Whether somebody gets what it waits for, or never will.
    pub(super) const fn does_something(&self) -> bool {
        !self.ready.is_empty() || !self.failed.is_empty()
    }
}

impl AdapterStore {
    /// Says what those that wait need, as far as there is room.
    pub(super) fn plan(&self) -> Plan {
        let mut plan = Plan::default();
        if self.waiting.is_empty() {
            return plan;
        }
        let mut left = self.memory.bytes_max().saturating_sub(self.memory.active().1);
        let mut promised = BTreeSet::new();
        for (&id, waiting) in &self.waiting {
            let needs = match self.needs(&waiting.ask) {
                Ok(needs) => needs,
                Err(error) => {
                    plan.failed.push((id, error));
                    continue;
                }
            };
            let complete = needs.missing.is_empty() && needs.products.is_empty();
            let bytes = self.bytes_needed(&needs, &plan, &promised);
            // What cannot be fetched again has no time to wait.
            let at_once = complete && needs.unregistered;
            if !at_once && plan.blocked.is_some() && bytes > 0 {
                continue;
            }
            if !at_once && bytes > left {
                if waiting.blocked_steps >= ADAPTER_PATIENCE_STEPS {
                    plan.blocked = Some(id);
                    break;
                }
                plan.blocked = Some(id);
                continue;
            }
            left = left.saturating_sub(bytes);
            plan.keep.extend(needs.held.into_iter().map(|(key, _)| key));
            for (missing, _) in needs.missing {
                if promised.insert(missing) {
                    plan.wanted.push(missing);
                }
            }
            for (recipe, _, mergeable) in needs.products {
                if promised.insert(recipe.id()) && mergeable {
                    plan.merges.push(recipe);
                }
            }
            if complete {
                plan.ready.push(id);
            }
        }
        plan
    }

    /// Bytes that a request needs beyond what is in use or promised already.
    fn bytes_needed(&self, needs: &Needs, plan: &Plan, promised: &BTreeSet<BlobId>) -> usize {
        let fresh = |key: &Key| !plan.keep.contains(key) && !self.memory.is_pinned(key);
        let held = needs.held.iter().filter(|(key, _)| fresh(key)).map(|(_, bytes)| *bytes);
        let missing = needs.missing.iter().filter(|(id, _)| !promised.contains(id));
        // Of unknown size: as large as any that came so far.
        let missing = missing.map(|(_, bytes)| bytes.unwrap_or(self.largest));
        let products = needs.products.iter().filter(|(one, ..)| !promised.contains(&one.id()));
        held.chain(missing).chain(products.map(|(_, bytes, _)| *bytes)).sum()
    }

    /// What a request needs.
    fn needs(&self, ask: &Ask) -> Result<Needs, AdapterSetError> {
        let mut needs = Needs::default();
        for (part, _) in &ask.parts {
            match part {
                Part::Adapter(id) => self.need(*id, &mut needs)?,
                Part::Product(recipe) => match self.product_key(recipe) {
                    Some(key) if self.memory.get(&key).is_some() => {
                        let bytes = self.memory.get(&key).map_or(0, |product| product.bytes());
                        needs.held.push((key, bytes));
                    }
                    _ => {
                        for (id, _) in &recipe.parts {
                            self.need(*id, &mut needs)?;
                        }
                        let sources = self.sources(recipe);
                        let bytes = match &sources {
                            Some(sources) => bytes_of_product(sources),
                            None => self.largest,
                        };
                        needs.products.push((Arc::clone(recipe), bytes, sources.is_some()));
                    }
                },
            }
        }
        let known = needs.missing.iter().all(|(_, bytes)| bytes.is_some());
        let (bytes, bytes_max) = (needs.bytes(), self.memory.bytes_max());
        match known && bytes > bytes_max {
            true => Err(AdapterSetError::TooLarge { bytes, bytes_max }),
            false => Ok(needs),
        }
    }

    /// Adds an adapter to what is needed, once.
    fn need(&self, id: BlobId, needs: &mut Needs) -> Result<(), AdapterSetError> {
        let key = Key::Adapter(id);
        let registered = self.registered.get(&id);
        if let Some(adapter) = self.memory.get(&key) {
            needs.unregistered |= registered.is_none();
            if !needs.held.iter().any(|(own, _)| *own == key) {
                needs.held.push((key, adapter.bytes()));
            }
            return Ok(());
        }
        let Some(known) = registered else { return Err(AdapterSetError::Unknown { id }) };
        if !needs.missing.iter().any(|(own, _)| *own == id) {
            needs.missing.push((id, known.bytes));
        }
        Ok(())
    }

    /// All that goes into a product, if it is in memory.
    pub(super) fn sources(&self, recipe: &Recipe) -> Option<Vec<Arc<LoadedAdapter>>> {
        let source = |(id, _): &(BlobId, f32)| self.memory.get(&Key::Adapter(*id)).cloned();
        recipe.parts.iter().map(source).collect()
    }

    /// Gives those that wait their adapters, as far as they are there. `stepped` counts a step for
    /// who has no room.
    pub(crate) fn settle(&mut self, stepped: bool) -> Settled {
        let mut settled = Settled { ready: Vec::new(), failed: core::mem::take(&mut self.failed) };
        if self.waiting.is_empty() {
            return settled;
        }
        self.memory.forget();
        let Plan { ready, failed, blocked, .. } = self.plan();
        for (id, error) in failed {
            self.waiting.remove(&id);
            settled.failed.push((id, error));
        }
        for id in ready {
            let Some(waiting) = self.waiting.remove(&id) else { continue };
            match self.pin(&waiting.ask) {
                Some(set) => settled.ready.push((id, set)),
                None => {
                    self.waiting.insert(id, waiting);
                }
            }
        }
        if let Some(waiting) = blocked.filter(|_| stepped).and_then(|id| self.waiting.get_mut(&id))
        {
            waiting.blocked_steps = waiting.blocked_steps.saturating_add(1);
        }
        settled
    }

    /// Gives out all that a request names, if it is in memory.
    pub(super) fn pin(&mut self, ask: &Ask) -> Option<AdapterSet> {
        let mut parts = Vec::with_capacity(ask.parts.len());
        for (part, weight) in &ask.parts {
            let key = match part {
                Part::Adapter(id) => Key::Adapter(*id),
                Part::Product(recipe) => self.product_key(recipe)?,
            };
            parts.push((self.memory.take(&key)?, *weight));
        }
        parts.sort_unstable_by_key(|(adapter, _)| adapter.id());
        Some(AdapterSet::new(parts))
    }
}

impl Needs {
    /// Of everything, as far as it is known.
    fn bytes(&self) -> usize {
        let held = self.held.iter().map(|(_, bytes)| *bytes);
        let missing = self.missing.iter().filter_map(|(_, bytes)| *bytes);
        let products = self.products.iter().filter(|(.., mergeable)| *mergeable);
        held.chain(missing).chain(products.map(|(_, bytes, _)| *bytes)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::merge::{MajoritySign, Merge, MergeStrategy};
    use super::super::numbers::AdapterStorage;
    use super::super::prepare::tests::{SHAPE, prepared};
    use super::*;

    const TIES: Merge = Merge {
        strategy: MergeStrategy::Ties,
        density: 0.5,
        majority_sign_method: MajoritySign::Total,
    };

    fn id(number: u8) -> BlobId {
        BlobId([number; 32])
    }

    /// A store for so many adapters of rank 1, with twelve registered.
    fn store(count: usize) -> AdapterStore {
        let bytes = prepared(1, 0.0).bytes();
        let mut store = AdapterStore::with_shape(SHAPE, AdapterStorage::Rows, count * bytes);
        (1..=12).for_each(|number| assert!(store.register(id(number))));
        store
    }

    fn ask(store: &mut AdapterStore, sequence: u64, ids: &[u8], merge: Merge) {
        let adapters: Vec<_> = ids.iter().map(|number| (id(*number), 1.0)).collect();
        let ask = store.ask(&adapters, &merge).unwrap();
        store.wait(SequenceId(sequence), ask);
    }

    fn deliver(store: &mut AdapterStore, number: u8) -> bool {
        store.put(id(number), prepared(1, f32::from(number)), true).is_ok()
    }

    fn ready(store: &mut AdapterStore, stepped: bool) -> Vec<(u64, AdapterSet)> {
        let settled = store.settle(stepped);
        assert!(settled.failed.is_empty(), "{:?}", settled.failed);
        settled.ready.into_iter().map(|(id, set)| (id.0, set)).collect()
    }

    #[test]
    fn memory_is_promised_in_order_and_held_back_from_nobody_who_needs_none() {
        let mut store = store(2);
        deliver(&mut store, 1);
        ask(&mut store, 1, &[1], Merge::LINEAR);
        let first = ready(&mut store, true);
        assert_eq!(first.len(), 1);
        ask(&mut store, 2, &[2, 3], Merge::LINEAR);
        ask(&mut store, 3, &[4], Merge::LINEAR);
        ask(&mut store, 4, &[1], Merge::LINEAR);
        // 2 and 3 do not fit beside 1; 4 waits behind them, another user of 1 does not.
        assert_eq!(store.wanted(), []);
        let another = ready(&mut store, true);
        assert_eq!(another.iter().map(|one| one.0).collect::<Vec<_>>(), [4]);
        for _ in 0..ADAPTER_PATIENCE_STEPS {
            assert!(ready(&mut store, true).is_empty());
        }
        ask(&mut store, 5, &[1], Merge::LINEAR);
        assert!(ready(&mut store, true).is_empty(), "patience has an end");
        drop((first, another));
        assert_eq!(store.wanted(), [id(2), id(3)]);
        assert!(deliver(&mut store, 2) && deliver(&mut store, 4), "there is room until 3 comes");
        assert_eq!(store.wanted(), [id(3)]);
        assert!(deliver(&mut store, 3) && !store.has(&id(4)), "2 is promised");
        assert!(!deliver(&mut store, 4));
        let second = ready(&mut store, true);
        assert_eq!(second.iter().map(|one| one.0).collect::<Vec<_>>(), [2]);
        drop(second);
        assert_eq!(store.wanted(), [id(4), id(1)]);
    }

    /// SplitMix64.
    struct Draws(u64);

    impl Draws {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) % bound
        }
    }

    /// Whatever comes, everybody is served, nobody gets a part of what it asked for, and the
    /// budget holds.
    #[test]
    fn everybody_is_served_whatever_comes() {
        for seed in 0..20 {
            let mut draws = Draws(seed);
            let mut store = store(3 + draws.below(4) as usize);
            let bytes_max = store.memory.bytes_max();
            let (mut active, mut served) = (Vec::new(), 0);
            for step in 0..2_000u64 {
                if step < 600 && draws.below(3) == 0 {
                    let count = 1 + draws.below(2);
                    let ids: BTreeSet<u8> = (0..count).map(|_| 1 + draws.below(12) as u8).collect();
                    let ids: Vec<u8> = ids.into_iter().collect();
                    let merge = if draws.below(4) == 0 { TIES } else { Merge::LINEAR };
                    ask(&mut store, step, &ids, merge);
                    served -= 1;
                }
                for wanted in store.wanted() {
                    if draws.below(3) == 0 {
                        deliver(&mut store, wanted.0[0]);
                    }
                }
                if draws.below(8) == 0 {
                    store.evict_idle(step, 20);
                }
                for (_, set) in ready(&mut store, true) {
                    assert!(!set.parts().is_empty());
                    served += 1;
                    active.push((step + 1 + draws.below(30), set));
                }
                if let Some(job) = store.take_merge().filter(|_| draws.below(2) == 0) {
                    store.put_merged(job.run());
                }
                active.retain(|(end, _)| *end > step);
                assert!(store.report().bytes <= bytes_max);
            }
            assert_eq!((served, store.report().waiting), (0, 0), "seed {seed}");
            assert!(active.is_empty() && store.memory.active() == (0, 0));
        }
    }
}
